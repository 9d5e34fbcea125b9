//! The stages of a file and how they hang together: bases, uses, circles, what a target needs.

use std::collections::HashSet;

use super::error::{CompileError, Fault};
use super::options::NoCache;
use super::stage::{Command, Held, Stage, Use};
use super::target::{Stop, Target};
use crate::dockerfile::ast::{Instruction, Kind, Stage as StageAst};
use crate::dockerfile::expand::{Names, NoVariables, Variables};
use crate::dockerfile::lint::rules;
use crate::dockerfile::{Lines, suggest};
use crate::llb::Platform;

/// The base of an empty file system.
pub(super) const SCRATCH: &str = "scratch";

impl<'a> Target<'a> {
    /// Makes a stage of each `FROM`.
    pub(super) fn build_stages(&mut self) -> Result<(), Stop> {
        let stages: &'a [StageAst] = &self.input.dockerfile.stages;
        for (at, ast) in stages.iter().enumerate() {
            let lines = Some(ast.origin.lines);
            let base_name = self.base_name(ast).map_err(|error| error.at(lines))?;
            let platform = self.stage_platform(ast)?;
            let name = ast.from.name.clone();
            let mut stage = Stage {
                base_name,
                code: &ast.origin.code,
                lines,
                instructions: &ast.instructions,
                steps: self.steps(),
                platform,
                ..Stage::default()
            };
            if let Some(name) = &name {
                stage.context = self.stage_context(name, stage.platform.as_ref())?;
            }
            stage.steps.stage = name.clone().unwrap_or_else(|| format!("stage-{at}"));
            stage.name = name;
            let replaced = stage.context.is_some();
            let added = self.add_stage(stage);
            let no_cache = &self.input.options.no_cache;
            let Some(stage) = self.stages.get_mut(added) else { continue };
            if replaced {
                // What the build put in its place starts from nothing of the file.
                stage.base = None;
                continue;
            }
            let fetched = usize::from(stage.base_name != SCRATCH && stage.base.is_none());
            let steps = stage.instructions.iter().filter(|instruction| is_step(instruction));
            stage.steps.total = fetched + steps.count();
            stage.ignore_cache = match no_cache {
                NoCache::None => false,
                other => other.holds(stage.name.as_deref().unwrap_or_default()),
            };
        }
        Ok(())
    }

    fn base_name(&mut self, ast: &StageAst) -> Result<String, CompileError> {
        let result = self.expander.word(&ast.from.base, &self.global_args);
        let names = match &result {
            Ok(expansion) => &expansion.names,
            Err(error) => &error.names,
        };
        self.report_undeclared(ast, names);
        let text = result.map_err(Fault::from)?.text;
        if text.is_empty() {
            return Err(Fault::BlankBase(ast.from.base.clone()).into());
        }
        Ok(text)
    }

    fn report_undeclared(&mut self, ast: &StageAst, names: &Names) {
        let known =
            |name: &str| self.declared.contains(name) || self.global_args.get(name).is_some();
        let unknown: Vec<&String> = names.unmatched.iter().filter(|name| !known(name)).collect();
        if unknown.is_empty() {
            return;
        }
        let options: std::collections::BTreeSet<&str> =
            self.declared.iter().map(String::as_str).chain(self.global_args.names()).collect();
        let rule = &rules::UNDEFINED_ARG_IN_FROM;
        let mut scope = self.linter.scope(&ast.origin.comments);
        for name in unknown {
            let message = (rule.message)(name, suggest(name, options.iter().copied()));
            scope.report(rule, ast.origin.lines, message);
        }
    }

    fn stage_platform(&mut self, ast: &StageAst) -> Result<Option<Platform>, Stop> {
        let Some(text) = ast.from.platform.as_deref().filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let lines = Some(ast.origin.lines);
        let result = self.expander.word(text, &self.global_args);
        let (resolved, names) = match &result {
            Ok(expansion) => (expansion.text.clone(), expansion.names.clone()),
            Err(error) => (String::new(), error.names.clone()),
        };
        self.report_undeclared(ast, &names);
        if result.is_ok() {
            let mut scope = self.linter.scope(&ast.origin.comments);
            let only_target = names.unmatched.is_empty()
                && names.matched.len() == 1
                && names.matched.contains("TARGETPLATFORM");
            if only_target && self.global_args.get("TARGETPLATFORM") == Some(resolved.as_str()) {
                let rule = &rules::REDUNDANT_TARGET_PLATFORM;
                scope.report(rule, ast.origin.lines, (rule.message)(text));
            }
            let constant = names.matched.is_empty() && names.unmatched.is_empty();
            if constant && let Ok(platform) = Platform::parse(&resolved) {
                let name = ast.from.name.as_deref().unwrap_or_default();
                if !name.contains(&platform.os) && !name.contains(&platform.architecture) {
                    let rule = &rules::FROM_PLATFORM_FLAG_CONST_DISALLOWED;
                    scope.report(rule, ast.origin.lines, (rule.message)(&resolved));
                }
            }
        }
        result.map_err(|error| {
            let (platform, error) = (resolved.clone(), Box::new(error));
            CompileError::new(Fault::PlatformWord { platform, error }).at(lines)
        })?;
        let nearest = || {
            let options: Vec<&str> = self.global_args.names().collect();
            let near = |name: &String| suggest(name, options.iter().copied()).map(str::to_owned);
            names.unmatched.iter().find_map(near)
        };
        if resolved.is_empty() {
            let error = CompileError::new(Fault::BlankPlatform(text.into())).at(lines);
            return Err(error.suggest(nearest().as_deref()).into());
        }
        let platform = Platform::parse(&resolved).map_err(|error| {
            let fault = Fault::Platform { text: text.into(), error: Box::new(error) };
            CompileError::new(fault).at(lines).at(lines).suggest(nearest().as_deref())
        })?;
        Ok(Some(platform))
    }

    /// Adds a stage behind the others; its base is found among those that are there.
    pub(super) fn add_stage(&mut self, mut stage: Stage<'a>) -> usize {
        let at = self.stages.len();
        stage.base = self.by_name.get(&stage.base_name).copied();
        stage.paths_root = at;
        if let Some(name) = &stage.name {
            self.by_name.insert(name.to_lowercase(), at);
        }
        self.stages.push(stage);
        self.numbered.push(at);
        at
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(&name.to_lowercase()).copied()
    }

    /// The stage that is asked for.
    pub(super) fn find_target(&self) -> Result<usize, CompileError> {
        let name = &self.input.options.target;
        if name.is_empty() {
            return Ok(self.stages.len().saturating_sub(1));
        }
        self.find(name).ok_or_else(|| {
            let names = self.step_names();
            CompileError::new(Fault::Target(name.clone()))
                .suggest(suggest(name, names.iter().copied()))
        })
    }

    /// The names that a user may have meant.
    pub(super) fn step_names(&self) -> Vec<&str> {
        let names = self.stages.iter().map(|stage| stage.steps.stage.as_str());
        names.filter(|name| !name.is_empty()).collect()
    }

    /// Finds the stages that instructions use, and refuses circles.
    pub(super) fn link_stages(&mut self) -> Result<(), Stop> {
        let mut at = 0;
        // Stages that are only used are added behind the others on the way.
        while let Some(stage) = self.stages.get(at) {
            let instructions: &'a [Instruction] = stage.instructions;
            let mut commands = Vec::with_capacity(instructions.len());
            for instruction in instructions {
                let sources = self.sources_of(instruction)?;
                let lines = Some(instruction.origin.lines);
                self.note_uses(at, &sources, lines);
                let instruction = Held::File(instruction);
                commands.push(Command { instruction, sources, on_build: false });
            }
            if let Some(stage) = self.stages.get_mut(at) {
                stage.commands = commands;
            }
            at += 1;
        }
        self.refuse_circles()?;
        if let [only] = self.stages.as_mut_slice() {
            only.steps.stage.clear();
        }
        Ok(())
    }

    pub(super) fn note_uses(&mut self, at: usize, sources: &[usize], lines: Option<Lines>) {
        let Some(stage) = self.stages.get_mut(at) else { return };
        for source in sources {
            stage.uses.note(Use { stage: *source, lines });
        }
    }

    /// The stages that an instruction uses; what is no stage is added as an image behind them.
    pub(super) fn sources_of(
        &mut self,
        instruction: &Instruction,
    ) -> Result<Vec<usize>, CompileError> {
        match &instruction.kind {
            Kind::Copy(copy) => {
                let Some(from) = copy.from.as_deref().filter(|from| !from.is_empty()) else {
                    return Ok(Vec::new());
                };
                let expanded = self.expander.word(from, &NoVariables).map_err(Fault::from)?;
                if expanded.text != from {
                    return Err(Fault::FromVariable.into());
                }
                let source = match from.parse::<i64>() {
                    Ok(number) => self.numbered_stage(number)?,
                    Err(_) => match self.find(from) {
                        Some(at) => at,
                        None => self.add_hidden(from, Some(instruction.origin.lines)),
                    },
                };
                Ok(vec![source])
            }
            Kind::Run(run) => {
                let mut sources = Vec::with_capacity(run.mounts.len());
                for mount in &run.mounts {
                    let from = if mount.from.is_empty() { SCRATCH } else { &mount.from };
                    sources.push(match self.find(from) {
                        Some(at) => at,
                        None => self.add_hidden(from, None),
                    });
                }
                Ok(sources)
            }
            _ => Ok(Vec::new()),
        }
    }

    fn numbered_stage(&mut self, number: i64) -> Result<usize, Fault> {
        let found = usize::try_from(number).ok().and_then(|at| self.numbered.get(at)).copied();
        let at = found.ok_or(Fault::StageIndex(number))?;
        if self.stages.get(at).is_some_and(|stage| stage.hidden) {
            self.numbered.push(at);
        }
        Ok(at)
    }

    fn add_hidden(&mut self, name: &str, lines: Option<Lines>) -> usize {
        let steps = self.steps();
        self.add_stage(Stage {
            base_name: name.into(),
            lines,
            hidden: true,
            steps,
            ..Stage::default()
        })
    }

    fn refuse_circles(&self) -> Result<(), CompileError> {
        let mut visited = vec![false; self.stages.len()];
        let mut open = vec![false; self.stages.len()];
        let mark = |marks: &mut Vec<bool>, at: usize, to: bool| {
            if let Some(mark) = marks.get_mut(at) {
                *mark = to;
            }
        };
        for start in 0..self.stages.len() {
            if visited.get(start) == Some(&true) {
                continue;
            }
            mark(&mut visited, start, true);
            mark(&mut open, start, true);
            // Each entry: a stage, which of its uses is next, and where it is used itself.
            let mut path: Vec<(usize, usize, Option<Lines>)> = vec![(start, 0, None)];
            while let Some((at, next, _)) = path.last_mut() {
                let at = *at;
                let used = self.stages.get(at).and_then(|stage| stage.uses.get(*next));
                *next += 1;
                let Some(used) = used else {
                    mark(&mut open, at, false);
                    path.pop();
                    continue;
                };
                if open.get(used.stage) == Some(&true) {
                    let name = self.stages.get(start).map(|stage| stage.steps.stage.clone());
                    let mut error = CompileError::new(Fault::Circle(name.unwrap_or_default()));
                    for (_, _, lines) in path.iter().skip(1) {
                        error = error.at(*lines);
                    }
                    return Err(error.at(used.lines));
                }
                if visited.get(used.stage) == Some(&false) {
                    mark(&mut visited, used.stage, true);
                    mark(&mut open, used.stage, true);
                    path.push((used.stage, 0, used.lines));
                }
            }
        }
        Ok(())
    }

    /// The stages that a target is made of.
    pub(super) fn reachable(&self, target: usize) -> HashSet<usize> {
        let mut reachable = HashSet::from([target]);
        let mut waiting = vec![target];
        while let Some(at) = waiting.pop() {
            let Some(stage) = self.stages.get(at) else { continue };
            let uses = stage.uses.iter().map(|used| used.stage);
            for next in stage.base.into_iter().chain(uses) {
                if reachable.insert(next) {
                    waiting.push(next);
                }
            }
        }
        reachable
    }
}

/// Whether an instruction is counted as a step.
fn is_step(instruction: &Instruction) -> bool {
    matches!(instruction.kind, Kind::Add(_) | Kind::Copy(_) | Kind::Run(_) | Kind::Workdir(_))
}

impl Variables for crate::llb::Env {
    fn value(&self, name: &str) -> Option<std::borrow::Cow<'_, str>> {
        self.get(name).map(std::borrow::Cow::Borrowed)
    }
}
