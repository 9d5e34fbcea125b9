//! What `COPY` and `ADD` have in common: sources of several kinds, a destination, one op.

use crate::compile::chmod::{self, ModeFault};
use crate::compile::dispatch::Step;
use crate::compile::error::{CompileError, Fault};
use crate::compile::git_ref::{GitRef, NoGitRef};
use crate::compile::{epoch, naming, os_path, ranges};
use crate::dockerfile::ast::Files;
use crate::dockerfile::lint::rules;
use crate::ignorefile::{Matcher, Pattern};
use crate::llb::{
    Constraints, CopyOptions, FileAction, Mode, Owner, ProgressGroup, State, caps, path,
};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Add,
    Copy,
}

/// A `COPY` or `ADD` with its variables filled in.
pub(super) struct Transfer {
    pub(super) verb: Verb,
    pub(super) source: State,
    /// Whether the source is the main context, which has an ignore file.
    pub(super) from_context: bool,
    pub(super) files: Files,
    pub(super) chown: String,
    pub(super) chmod: String,
    pub(super) checksum: String,
    pub(super) exclude: Vec<String>,
    pub(super) link: bool,
    pub(super) parents: bool,
    pub(super) keep_git_dir: Option<bool>,
    pub(super) unpack: Option<bool>,
}

impl Transfer {
    pub(super) fn apply(mut self, step: &mut Step<'_, '_>) -> Result<(), CompileError> {
        let os = step.os().to_owned();
        let dir = step.stage.state.working_dir();
        let dest = os_path::destination(dir, &self.files.dest, &os).map_err(Fault::Destination)?;
        let base = CopyOptions {
            mode: self.mode()?,
            owner: (!self.chown.is_empty()).then(|| Owner::parse(&self.chown)),
            exclude: self.exclude.clone(),
            create_dest_path: true,
            ..CopyOptions::default()
        };
        self.check_checksum()?;
        let history = self.history();
        let env = step.stage.state.environment();
        let shown = naming::shown(step.shared.expander, &step.origin.code, env);
        let name = step.step_name(&shown);
        let mut actions = Vec::with_capacity(self.files.paths.len() + self.files.inline.len());
        for source in std::mem::take(&mut self.files.paths) {
            let action = match GitRef::parse(&source) {
                Err(NoGitRef::Query(error)) => return Err(Fault::GitQuery(error).into()),
                Ok(git) if !git.like_a_path => self.add_git(&git, &name, &dest, &base)?,
                Ok(_) | Err(NoGitRef::Other) if epoch::is_of_the_web(&source) => {
                    self.add_web(&source, &name, &dest, &base)?
                }
                Ok(_) | Err(NoGitRef::Other) => self.add_files(step, &source, &dest, &base)?,
            };
            actions.push(action);
        }
        for inline in &self.files.inline {
            let file = os_path::without_drive(&inline.name, &os, false).map_err(Fault::Drive)?;
            let document = State::scratch().file(
                vec![FileAction::make_file(&file, 0o644, inline.data.clone())],
                Constraints::named("[internal] preparing inline document"),
            );
            let file = os_path::to_slash(&file, &os);
            actions.push(FileAction::copy_with(&document, &file, &dest, base.clone()));
        }
        self.add_op(step, &shown, name, actions);
        step.commit_layer(history);
        Ok(())
    }

    fn mode(&self) -> Result<Option<Mode>, CompileError> {
        let text = &self.chmod;
        if text.is_empty() {
            return Ok(None);
        }
        let octal = (!text.starts_with('+')).then(|| u32::from_str_radix(text, 8));
        if let Some(Ok(bits)) = octal {
            if bits > 0o7777 {
                return Err(Fault::OctalMode(text.clone()).into());
            }
            return Ok(Some(Mode::Bits(bits)));
        }
        match chmod::check_symbolic(text) {
            Ok(()) => Ok(Some(Mode::Symbolic(text.clone()))),
            Err(ModeFault::Number) => Err(Fault::OctalMode(text.clone()).into()),
            Err(ModeFault::Syntax) => Err(Fault::SymbolicMode(text.clone()).into()),
        }
    }

    fn check_checksum(&self) -> Result<(), CompileError> {
        if self.checksum.is_empty() {
            return Ok(());
        }
        let [source] = self.files.paths.as_slice() else {
            return Err(Fault::ChecksumOfSeveral.into());
        };
        if !epoch::is_of_the_web(source) && !GitRef::is_one(source) {
            return Err(Fault::ChecksumOfLocal.into());
        }
        Ok(())
    }

    /// The instruction as the history shows it: with what changes the result, and no more.
    fn history(&self) -> String {
        let mut text = String::from(if self.verb == Verb::Add { "ADD" } else { "COPY" });
        if self.parents {
            text.push_str(" --parents");
        }
        if !self.chown.is_empty() {
            text.extend([" --chown=", &self.chown]);
        }
        if !self.chmod.is_empty() {
            text.extend([" --chmod=", &self.chmod]);
        }
        for source in &self.files.paths {
            text.push(' ');
            text.push_str(source);
        }
        for inline in &self.files.inline {
            text.push_str(" <<");
            text.push_str(&inline.name);
        }
        text.push(' ');
        text.push_str(&self.files.dest);
        text.push_str(" # buildkit");
        text
    }

    fn add_files(
        &self,
        step: &mut Step<'_, '_>,
        source: &str,
        dest: &str,
        base: &CopyOptions,
    ) -> Result<FileAction, CompileError> {
        self.warn_ignored(step, source);
        let os = step.os();
        let normalize = |text: &str| os_path::normalize("/", text, os, false).map_err(Fault::Drive);
        let mut source = source.to_owned();
        let (mut include, mut required) = (Vec::new(), Vec::new());
        if self.parents {
            // What is before the pivot is cut off, what is behind it is kept.
            let (parent, pattern) = match source.split_once("/./") {
                Some((parent, pattern)) => (parent.to_owned(), pattern.to_owned()),
                None => ("/".to_owned(), source.clone()),
            };
            let pattern = normalize(&pattern)?;
            include.push(pattern.strip_prefix('/').unwrap_or(&pattern).to_owned());
            if !has_wildcards(&parent) && !has_wildcards(&pattern) {
                required.push(normalize(&path::join([parent.as_str(), pattern.as_str()]))?);
            }
            source = parent;
        }
        let options = CopyOptions {
            follow_symlinks: true,
            dir_contents: true,
            include,
            required,
            unpack: self.unpack.unwrap_or(self.verb == Verb::Add),
            wildcard: true,
            empty_wildcard: true,
            ..base.clone()
        };
        Ok(FileAction::copy_with(&self.source, &normalize(&source)?, dest, options))
    }

    fn warn_ignored(&self, step: &mut Step<'_, '_>, source: &str) {
        if !self.from_context {
            return;
        }
        let Some(matcher) = step.shared.matcher else { return };
        // What is taken back by an exclamation mark cannot be judged without the files.
        if matcher.has_negations() {
            return;
        }
        let source = path::clean(source);
        if matches!(source.as_str(), "." | "/") && !ignores_everything(matcher) {
            return;
        }
        if matcher.at_once(&source) {
            let verb = if self.verb == Verb::Add { "Add" } else { "Copy" };
            let rule = &rules::COPY_IGNORED_FILE;
            step.scope.report(rule, step.lines(), (rule.message)(verb, &source));
        }
    }

    /// Adds the op: on top of the state, or, as a link, beside it.
    fn add_op(&self, step: &mut Step<'_, '_>, shown: &str, name: String, actions: Vec<FileAction>) {
        let places = ranges(Some(step.lines()));
        let constraints = |name: String, step: &Step<'_, '_>| {
            let constraints =
                Constraints::named(name).location(&step.shared.input.source_map, places.clone());
            if step.stage.ignore_cache { constraints.ignore_cache() } else { constraints }
        };
        let merges = step.shared.input.request.builder.caps.supports(caps::MERGE);
        if !merges || !self.link || !self.chmod.is_empty() {
            let constraints = constraints(name, step);
            step.change(|state| state.file(actions, constraints));
            return;
        }
        let platform = step.stage.platform.clone();
        let env = step.stage.state.environment().clone();
        let id = step.shared.input.group_id(step.stage.steps.stage.as_str(), &name);
        let linked = step.stage.steps.again(&format!("LINK {shown}"), platform.as_ref(), &env);
        let group = |weak| ProgressGroup { id: id.clone(), name: name.clone(), weak };
        let own = constraints(name.clone(), step).progress_group(group(true));
        let merged = constraints(linked, step).progress_group(group(false));
        let files = State::scratch().file(actions, own);
        step.change(|state| {
            let output = State::merge(vec![state.clone(), files], merged).output().cloned();
            state.with_output(output)
        });
    }
}

/// Whether a pattern leaves out all that is in the root.
fn ignores_everything(matcher: &Matcher) -> bool {
    let all = |pattern: &Pattern| matches!(pattern.text(), "*" | "**" | "**/*");
    matcher.patterns().iter().any(|pattern| !pattern.is_negated() && all(pattern))
}

fn has_wildcards(text: &str) -> bool {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '*' | '?' | '[' => return true,
            '\\' => drop(chars.next()),
            _ => {}
        }
    }
    false
}
