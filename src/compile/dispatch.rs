//! Running through the stages that are needed: each instruction changes the state and the image of
//! its stage.

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::Arc;

use super::error::{CompileError, Fault};
use super::image::Histories;
use super::instruction;
use super::stage::{BuildArgs, Command, Stage};
use super::target::{Stop, Target};
use super::{Input, Mode, os_path};
use crate::dockerfile::ast::{Files, Kind, Origin};
use crate::dockerfile::expand::{Expander, Names};
use crate::dockerfile::lint::{Scope, rules};
use crate::dockerfile::{Lines, suggest};
use crate::ignorefile::{IgnoreFile, IgnoreFileError, Matcher};
use crate::llb::{DEFAULT_PATH, Env, ProxyEnv, State};

/// What instructions of one compilation have in common.
pub(super) struct Shared<'t> {
    pub(super) input: &'t Input,
    pub(super) build_args: &'t std::collections::BTreeMap<String, String>,
    pub(super) global_args: &'t Env,
    pub(super) proxy: Option<&'t ProxyEnv>,
    pub(super) epoch: Option<i64>,
    pub(super) expander: Expander,
    pub(super) context: &'t State,
    pub(super) matcher: Option<&'t Matcher>,
    /// Bytes that the words of all instructions have come to so far.
    pub(super) written: &'t Cell<usize>,
}

/// What all words of a file may come to with their variables filled in, in bytes: some lines that each
/// double the one before would else fill any memory.
pub(super) const MAX_WRITTEN: usize = 32 << 20;

/// A stage that an instruction uses.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) state: State,
    pub(super) dispatched: bool,
    paths_root: usize,
}

/// An instruction at work.
pub(super) struct Step<'s, 'a> {
    pub(super) shared: &'s Shared<'s>,
    pub(super) stage: &'s mut Stage<'a>,
    pub(super) histories: &'s mut Histories,
    pub(super) scope: Scope<'s>,
    pub(super) origin: &'s Origin,
    pub(super) sources: &'s [Source],
    /// Paths of stages that turned out to be used.
    used: Vec<(usize, String)>,
    own_root: usize,
}

impl Target<'_> {
    /// Reads the ignore file of the main context.
    pub(super) fn read_ignore_file(&mut self) -> Result<(), Stop> {
        let Some(file) = &self.input.request.ignore_file else { return Ok(()) };
        if self.input.context.remote.is_some() {
            return Ok(());
        }
        let wrong = |error: IgnoreFileError| Fault::IgnoreFile {
            name: file.name.clone(),
            error: error.to_string(),
        };
        let patterns = IgnoreFile::parse(&file.data).map_err(wrong)?.patterns();
        if !patterns.is_empty() {
            let matcher =
                Matcher::new(&patterns).map_err(|error| Fault::IgnorePattern(error.to_string()))?;
            self.matcher = Some(matcher);
        }
        self.exclude = patterns;
        Ok(())
    }

    /// Runs through the stages, in the order of the file.
    pub(super) fn dispatch_stages(
        &mut self,
        reachable: &HashSet<usize>,
        target: usize,
    ) -> Result<(), Stop> {
        let all = self.mode == Mode::Check && self.all_stages();
        let is_needed =
            |at: usize, stage: &Stage<'_>| all || (!stage.dispatched && reachable.contains(&at));
        // How many stages have yet to start from each.
        let mut heirs = vec![0_usize; self.stages.len()];
        for (at, stage) in self.stages.iter().enumerate() {
            if is_needed(at, stage)
                && let Some(count) = stage.base.and_then(|base| heirs.get_mut(base))
            {
                *count += 1;
            }
        }
        for at in 0..self.stages.len() {
            let Some(stage) = self.stages.get(at).filter(|stage| is_needed(at, stage)) else {
                continue;
            };
            let base = stage.base;
            if let Some(count) = base.and_then(|base| heirs.get_mut(base)) {
                *count = count.saturating_sub(1);
                self.inherit(at, *count == 0 && base != Some(target));
            }
            self.dispatch_stage(at)?;
        }
        if let Some(stage) = self.stages.get_mut(target) {
            let root = stage.paths_root;
            if let Some(stage) = self.stages.get_mut(root) {
                stage.paths.insert("/".into());
            }
        }
        Ok(())
    }

    /// Takes over what the base has come to. With `is_last` the base itself keeps only what others
    /// may copy from it: what is not shared can be changed without a copy of it all, and so a long
    /// chain of stages takes no longer than one long stage.
    fn inherit(&mut self, at: usize, is_last: bool) {
        let Some(base) = self.stages.get(at).and_then(|stage| stage.base) else { return };
        let Some(base) = self.stages.get_mut(base) else { return };
        let (state, platform) = (base.state.clone(), base.platform.clone());
        let (root, workdir_set) = (base.paths_root, base.workdir_set);
        let base_config = base.base_config.clone();
        let (image, build_args) = if is_last {
            base.state = std::mem::take(&mut base.state).without_env();
            (std::mem::take(&mut base.image), std::mem::take(&mut base.build_args))
        } else {
            (base.image.clone(), Arc::clone(&base.build_args))
        };
        let (env_in_order, env_known) = (base.env_in_order, base.env_known);
        let Some(stage) = self.stages.get_mut(at) else { return };
        stage.state = state;
        stage.platform = platform;
        stage.image = image;
        if !stage.image.config().config.on_build.is_empty() {
            stage.image.config_mut().config.on_build.clear();
        }
        stage.base_config = base_config;
        stage.paths_root = root;
        stage.workdir_set = workdir_set;
        stage.build_args = build_args;
        (stage.env_in_order, stage.env_known) = (env_in_order, env_known);
    }

    fn dispatch_stage(&mut self, at: usize) -> Result<(), Stop> {
        let Some(stage) = self.stages.get_mut(at) else { return Ok(()) };
        stage.dispatched = true;
        let platform = stage.platform.get_or_insert_default().clone();
        if !stage.image.has_env("PATH") && platform.os != "windows" {
            stage.image.set_env("PATH", DEFAULT_PATH);
            (stage.env_in_order, stage.env_known) = (false, false);
        }
        let options = &self.input.options;
        let mut state = std::mem::take(&mut stage.state);
        if !stage.env_in_order {
            if stage.env_known {
                state = state.env_again(|name| stage.image.env_entry(name));
            } else {
                for entry in stage.image.env() {
                    let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
                    state = state.env(name, value);
                }
            }
            stage.env_in_order = true;
        }
        stage.env_known = !stage.image.repeats_env();
        if !options.hostname.is_empty() {
            state = state.hostname(&options.hostname);
        }
        let dir = stage.image.config().config.working_dir.clone();
        if !dir.is_empty() {
            let lines = stage.lines;
            let dir = os_path::workdir(&dir, &dir, &platform.os)
                .map_err(|error| CompileError::new(Fault::Workdir(error)).at(lines))?;
            state = state.dir(&os_path::to_slash(&dir, &platform.os));
            if stage.image.config().config.working_dir != dir {
                stage.image.config_mut().config.working_dir = dir;
            }
        }
        let user = &stage.image.config().config.user;
        if !user.is_empty() {
            state = state.user(user);
        }
        stage.state = state.network(options.network);
        let commands = std::mem::take(&mut stage.commands);
        let result = commands.iter().try_for_each(|command| self.dispatch(at, command));
        if let Some(stage) = self.stages.get_mut(at) {
            stage.commands = commands;
        }
        Ok(result?)
    }

    fn dispatch(&mut self, at: usize, command: &Command<'_>) -> Result<(), CompileError> {
        let sources: Vec<Source> = command
            .sources
            .iter()
            .filter_map(|source| self.stages.get(*source))
            .map(|stage| Source {
                state: stage.state.clone(),
                dispatched: stage.dispatched,
                paths_root: stage.paths_root,
            })
            .collect();
        let own_root = self.paths_root(at);
        let shared = Shared {
            input: self.input,
            build_args: &self.build_args,
            global_args: &self.global_args,
            proxy: self.proxy.as_ref(),
            epoch: self.epoch,
            expander: self.expander,
            context: &self.context_state,
            matcher: self.matcher.as_ref(),
            written: &self.written,
        };
        let Some(stage) = self.stages.get_mut(at) else { return Ok(()) };
        let origin = &command.instruction.origin;
        stage.steps.on_build = command.on_build;
        let mut step = Step {
            shared: &shared,
            stage,
            histories: &mut self.histories,
            scope: self.linter.scope(&origin.comments),
            origin,
            sources: &sources,
            used: Vec::new(),
            own_root,
        };
        step.apply(&command.instruction.kind).map_err(|error| error.at(Some(origin.lines)))?;
        let used = step.used;
        for (root, path) in used {
            if let Some(stage) = self.stages.get_mut(root) {
                stage.paths.insert(path);
            }
        }
        Ok(())
    }
}

impl Step<'_, '_> {
    fn apply(&mut self, kind: &Kind) -> Result<(), CompileError> {
        let mut kind = kind.clone();
        kind.expand(&mut |word| self.expand(word))?;
        match kind {
            Kind::Add(mut add) => {
                self.expand_inline(&mut add.files)?;
                instruction::add::apply(self, add)?;
            }
            Kind::Arg(arg) => instruction::arg::apply(self, arg)?,
            Kind::Cmd(command) => instruction::cmd::apply(self, &command),
            Kind::Copy(mut copy) => {
                self.expand_inline(&mut copy.files)?;
                instruction::copy::apply(self, copy)?;
            }
            Kind::Entrypoint(command) => instruction::entrypoint::apply(self, &command),
            Kind::Env(pairs) => instruction::env::apply(self, &pairs),
            Kind::Expose(ports) => instruction::expose::apply(self, &ports)?,
            Kind::Healthcheck(check) => instruction::healthcheck::apply(self, check),
            Kind::Label(pairs) => instruction::label::apply(self, pairs),
            Kind::Maintainer(author) => instruction::maintainer::apply(self, author),
            Kind::Onbuild(trigger) => instruction::onbuild::apply(self, trigger),
            Kind::Run(run) => instruction::run::apply(self, &run)?,
            Kind::Shell(words) => instruction::shell::apply(self, words),
            Kind::StopSignal(signal) => instruction::stopsignal::apply(self, signal)?,
            Kind::User(user) => instruction::user::apply(self, user),
            Kind::Volume(paths) => instruction::volume::apply(self, paths)?,
            Kind::Workdir(dir) => instruction::workdir::apply(self, &dir)?,
        }
        Ok(())
    }

    /// A word with the stage's variables filled in; warns of those that do not exist.
    pub(super) fn expand(&mut self, word: &str) -> Result<String, CompileError> {
        self.expand_by(self.shared.expander, word)
    }

    fn expand_inline(&mut self, files: &mut Files) -> Result<(), CompileError> {
        files.expand_inline(&mut |text| self.expand_by(Expander::for_inline_files(), text))
    }

    fn expand_by(&mut self, expander: Expander, word: &str) -> Result<String, CompileError> {
        match expander.word(word, self.stage.state.environment()) {
            Ok(expansion) => {
                self.report_unknown(&expansion.names);
                self.write(expansion.text.len())?;
                Ok(expansion.text)
            }
            Err(error) => {
                self.report_unknown(&error.names);
                Err(Fault::from(error).into())
            }
        }
    }

    /// Counts what an instruction comes to with its variables filled in.
    ///
    /// # Errors
    /// With all others it is more than any build can want.
    pub(super) fn write(&self, bytes: usize) -> Result<(), CompileError> {
        let written = self.shared.written.get().saturating_add(bytes);
        self.shared.written.set(written);
        if written > MAX_WRITTEN {
            Err(Fault::Swollen { limit: MAX_WRITTEN }.into())
        } else {
            Ok(())
        }
    }

    fn report_unknown(&mut self, names: &Names) {
        for name in &names.unmatched {
            if self.stage.build_args.contains(name) || is_for_scanners(name) {
                continue;
            }
            let options = self.stage.state.environment().names();
            let rule = &rules::UNDEFINED_VAR;
            let message = (rule.message)(name, suggest(name, options));
            self.scope.report(rule, self.origin.lines, message);
        }
    }

    pub(super) fn lines(&self) -> Lines {
        self.origin.lines
    }

    pub(super) fn os(&self) -> &str {
        self.stage.platform.as_ref().map_or("", |platform| &platform.os)
    }

    /// Replaces the state by what is made of it.
    pub(super) fn change(&mut self, change: impl FnOnce(State) -> State) {
        self.stage.state = change(std::mem::take(&mut self.stage.state));
    }

    /// Writes an instruction that makes no layer into the history.
    pub(super) fn commit(&mut self, text: String) {
        self.stage.image.commit(self.histories, text, false, self.shared.epoch);
    }

    /// Writes an instruction that makes a layer into the history.
    pub(super) fn commit_layer(&mut self, text: String) {
        self.stage.image.commit(self.histories, text, true, self.shared.epoch);
    }

    /// The name of this step as users read it, with variables filled in.
    pub(super) fn step_name(&mut self, text: &str) -> String {
        let platform = self.stage.platform.clone();
        let env = self.stage.state.environment();
        self.stage.steps.next(text, platform.as_ref(), env)
    }

    /// Notes that a path of the main context is used.
    pub(super) fn use_context(&mut self, path: &str) {
        self.stage.context_paths.insert(crate::llb::path::join(["/", path]));
    }

    /// Notes that a path of another stage is used.
    pub(super) fn use_source(&mut self, source: &Source, path: &str) {
        self.used.push((source.paths_root, crate::llb::path::join(["/", path])));
    }

    /// Notes that anything of the own file system may be used.
    pub(super) fn use_everything(&mut self) {
        self.used.push((self.own_root, "/".into()));
    }

    pub(super) fn build_args_mut(&mut self) -> &mut BuildArgs {
        Arc::make_mut(&mut self.stage.build_args)
    }
}

/// Arguments that say what a scanner looks at: they are no environment variables.
pub(super) fn is_for_scanners(name: &str) -> bool {
    matches!(name, "BUILDKIT_SBOM_SCAN_CONTEXT" | "BUILDKIT_SBOM_SCAN_STAGE")
}
