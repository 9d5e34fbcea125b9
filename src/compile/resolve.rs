//! Base images: which are needed, what they are, and the triggers that they bring.

use std::collections::HashSet;
use std::sync::Arc;

use super::Mode;
use super::error::{CompileError, Fault};
use super::image::Image;
use super::question::{Answer, ImageAnswer, ImageQuestion, Question};
use super::stage::{Command, Held};
use super::stages::SCRATCH;
use super::target::{Stop, Target};
use crate::dockerfile::ast::Kind;
use crate::dockerfile::lint::rules;
use crate::dockerfile::{self, suggest};
use crate::image::config::ImageConfig;
use crate::image::reference::Reference;
use crate::llb::{self, COMMAND_KEY, Constraints, Env, Platform, State};

/// How many stages triggers may bring in: an image whose trigger uses the image itself would bring
/// in one after the other without end.
const MAX_BROUGHT_IN: usize = 1_000;

/// Images that are often misspelt.
const COMMON_IMAGES: [&str; 7] =
    ["alpine", "busybox", "centos", "debian", "golang", "ubuntu", "fedora"];

impl Target<'_> {
    /// Resolves the bases of all stages that the target needs. A trigger may bring in a stage that
    /// nobody needed before, so this goes on until nothing is new.
    pub(super) fn resolve_stages(&mut self, target: usize) -> Result<HashSet<usize>, Stop> {
        loop {
            let reachable = self.reachable(target);
            self.resolve_bases(&reachable)?;
            let mut order: Vec<usize> = reachable.iter().copied().collect();
            order.sort_unstable();
            let mut more = false;
            for at in order {
                more |= self.read_triggers(at)?;
            }
            if !more {
                return Ok(reachable);
            }
        }
    }

    fn resolve_bases(&mut self, reachable: &HashSet<usize>) -> Result<(), Stop> {
        let mut asking = false;
        for at in 0..self.stages.len() {
            let needed = self.mode == Mode::Check && self.all_stages() || reachable.contains(&at);
            let Some(stage) = self.stages.get_mut(at) else { continue };
            if stage.base.is_some() || stage.dispatched || stage.resolved {
                continue;
            }
            stage.resolved = needed;
            let hidden = stage.hidden;
            if stage.base_name == SCRATCH && stage.context.is_none() {
                stage.state = State::scratch();
                stage.image = Image::empty(&self.platforms.target);
                stage.platform = Some(self.platforms.target.clone());
                stage.dispatched |= hidden;
                continue;
            }
            let lines = stage.lines;
            let result = self.resolve_base(at, needed);
            if hidden && let Some(stage) = self.stages.get_mut(at) {
                stage.dispatched = true;
            }
            match result {
                Ok(()) => {}
                // All that has to be asked is asked at once.
                Err(Stop::Asking) => asking = true,
                Err(Stop::Failed(error)) => return Err(error.at(lines).into()),
            }
        }
        if asking { Err(Stop::Asking) } else { Ok(()) }
    }

    /// Whether a check looks at stages that the target does not need, too.
    pub(super) fn all_stages(&self) -> bool {
        self.input.options.target.is_empty()
    }

    fn resolve_base(&mut self, at: usize, needed: bool) -> Result<(), Stop> {
        let Some(stage) = self.stages.get(at) else { return Ok(()) };
        let written = stage.base_name.clone();
        let own_platform = stage.platform.clone();
        let reference = Reference::parse(&written)
            .map_err(|error| Fault::BaseName { name: written.clone(), error })?
            .or_latest();
        let mut platform = own_platform.clone().unwrap_or_else(|| self.platforms.target.clone());
        let mut base_name = reference.to_string();
        if !needed {
            // Nobody looks at it, but its `FROM` is counted.
            self.start_from(at, &base_name, &platform, false);
            return Ok(());
        }
        if let Some(named) = stage.context.clone() {
            return self.start_from_context(at, &named);
        }
        if let Some(named) = self.stage_context(&base_name, Some(&platform))? {
            let loaded = self.load_context(&named)?;
            let config = loaded.config.unwrap_or_else(|| {
                Image::empty(&platform).to_config(&super::image::Histories::default())
            });
            let image = Image::of(config.clone(), &mut self.histories);
            let Some(stage) = self.stages.get_mut(at) else { return Ok(()) };
            stage.base_name = base_name;
            stage.base_config = Some(Arc::new(config));
            stage.image = image;
            stage.state = loaded.state.platform(&platform);
            stage.platform = Some(platform);
            stage.locals.extend(loaded.local);
            return Ok(());
        }
        let answer = self.image(&written, &base_name, &platform)?;
        let config = ImageConfig::parse(&answer.config)
            .map_err(|error| Fault::ImageConfig(error.to_string()))?;
        if own_platform.is_none() && self.platforms.implicit {
            platform = self.platforms.detected(&config, &platform);
        }
        if let Some(name) = &answer.reference {
            let wrong = |error| Fault::BuilderReference { name: name.clone(), error };
            base_name = Reference::parse(name).map_err(wrong)?.to_string();
        }
        if !answer.digest.is_empty() {
            let named = Reference::parse(&base_name).map_err(Fault::Reference)?;
            base_name = named.with_digest(&answer.digest).map_err(Fault::Reference)?.to_string();
        }
        let no_layers = config.rootfs.diff_ids.as_ref().is_none_or(Vec::is_empty)
            && config.history.iter().all(|entry| entry.empty_layer);
        let image = Image::of(config.clone(), &mut self.histories);
        let actual = config.platform();
        if let Some(stage) = self.stages.get_mut(at) {
            stage.image = image;
            stage.base_config = Some(Arc::new(config));
        }
        self.start_from(at, &base_name, &platform, no_layers);
        if !no_layers {
            self.compare_platforms(at, &written, &platform, &actual);
        }
        Ok(())
    }

    /// A stage that the build replaced is final as it is.
    fn start_from_context(
        &mut self,
        at: usize,
        named: &super::named::NamedContext,
    ) -> Result<(), Stop> {
        let loaded = self.load_context(named)?;
        let image = loaded.config.map(|config| {
            let known = !config.architecture.is_empty() && !config.os.is_empty();
            let platform = known.then(|| config.platform());
            (Image::of(config, &mut self.histories), platform)
        });
        let Some(stage) = self.stages.get_mut(at) else { return Ok(()) };
        stage.dispatched = true;
        stage.state = loaded.state;
        stage.locals.extend(loaded.local);
        if let Some((image, platform)) = image {
            stage.image = image;
            stage.platform = platform.or(stage.platform.take());
        }
        Ok(())
    }

    fn start_from(&mut self, at: usize, name: &str, platform: &Platform, empty: bool) {
        let mode = self.input.options.resolve_mode;
        let source_map = &self.input.source_map;
        let Some(stage) = self.stages.get_mut(at) else { return };
        if empty {
            stage.state = State::scratch();
        } else {
            let text = format!("FROM {name}");
            let constraints = Constraints::new()
                .describe(COMMAND_KEY, stage.code)
                .platform(platform.clone())
                .name(stage.steps.next(&text, Some(platform), &Env::default()))
                .location(source_map, super::ranges(stage.lines));
            stage.state = llb::Image::new(name).resolve_mode(mode).state(constraints);
        }
        stage.base_name = name.into();
        stage.platform = Some(platform.clone());
    }

    fn image(
        &mut self,
        written: &str,
        reference: &str,
        platform: &Platform,
    ) -> Result<ImageAnswer, Stop> {
        let prefix = if self.input.options.multi_platform {
            format!("[{} internal]", platform.format_all())
        } else {
            "[internal]".into()
        };
        let question = Question::Image(ImageQuestion {
            reference: reference.into(),
            platform: Some(platform.clone()),
            mode: self.input.options.resolve_mode,
            log_name: format!("{prefix} load metadata for {reference}"),
            layout: None,
        });
        match self.ask(question) {
            Ok(Answer::Image(answer)) => Ok(answer),
            Ok(Answer::File(_) | Answer::Input(_) | Answer::Time(_)) => {
                let text = "the builder's answer is no image".into();
                Err(CompileError::new(Fault::BaseImage { name: written.into(), text }).into())
            }
            Err(Stop::Asking) => Err(Stop::Asking),
            Err(Stop::Failed(error)) => {
                let text = error.to_string();
                let error = CompileError::new(Fault::BaseImage { name: written.into(), text });
                let common: Vec<String> = COMMON_IMAGES
                    .iter()
                    .flat_map(|name| [(*name).to_owned(), format!("{name}:latest")])
                    .collect();
                let names = self.step_names();
                let options = names.into_iter().chain(common.iter().map(String::as_str));
                Err(error.suggest(suggest(written, options)).into())
            }
        }
    }

    fn compare_platforms(&mut self, at: usize, name: &str, wanted: &Platform, actual: &Platform) {
        if wanted.os == actual.os && wanted.architecture == actual.architecture {
            return;
        }
        let Some(lines) = self.stages.get(at).and_then(|stage| stage.lines) else { return };
        let rule = &rules::INVALID_BASE_IMAGE_PLATFORM;
        let wanted = wanted.normalized().format_all();
        let actual = actual.normalized().format_all();
        self.linter.report(rule, lines, (rule.message)(name, &wanted, &actual));
    }

    /// Puts the triggers of a stage's base in front of its instructions. Says whether they use
    /// stages.
    fn read_triggers(&mut self, at: usize) -> Result<bool, Stop> {
        let Some(stage) = self.stages.get_mut(at) else { return Ok(false) };
        let mut triggers = Vec::new();
        if stage.base.is_none() && !stage.image.config().config.on_build.is_empty() {
            triggers = std::mem::take(&mut stage.image.config_mut().config.on_build);
        }
        let base = stage.base.filter(|_| !stage.triggered);
        let lines = stage.lines;
        if let Some(base) = base {
            stage.triggered = true;
            if let Some(base) = self.stages.get(base) {
                triggers.extend(base.commands.iter().filter_map(|command| {
                    match &command.instruction.kind {
                        Kind::Onbuild(text) => Some(text.clone()),
                        _ => None,
                    }
                }));
            }
        }
        if triggers.is_empty() {
            return Ok(false);
        }
        let mut commands = Vec::with_capacity(triggers.len());
        let mut uses_stages = false;
        for text in triggers {
            // Whatever is wrong with a trigger, the `FROM` that brings it in is to blame.
            let blame = |error: CompileError| error.only_at(lines);
            let instruction = dockerfile::parse_trigger(&text, lines.unwrap_or_default())
                .map_err(|error| blame(Fault::Trigger(Box::new(error)).into()))?;
            let before = self.stages.len();
            let sources = self.sources_of(&instruction).map_err(blame)?;
            self.brought_in += self.stages.len() - before;
            if self.brought_in > MAX_BROUGHT_IN {
                return Err(blame(Fault::EndlessTriggers(text).into()).into());
            }
            uses_stages |= !sources.is_empty();
            self.note_uses(at, &sources, lines);
            let instruction = Held::Trigger(Arc::new(instruction));
            commands.push(Command { instruction, sources, on_build: true });
        }
        if let Some(stage) = self.stages.get_mut(at) {
            stage.steps.total += commands.len();
            commands.append(&mut stage.commands);
            stage.commands = commands;
        }
        Ok(uses_stages)
    }
}
