//! The compilation for one platform.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::error::CompileError;
use super::image::Histories;
use super::naming::Steps;
use super::platforms::Platforms;
use super::question::{Answer, Question};
use super::stage::Stage;
use super::{Compiled, Input, Mode};
use crate::dockerfile::expand::Expander;
use crate::dockerfile::lint::Linter;
use crate::ignorefile::Matcher;
use crate::llb::{Defaults, Env, Later, Output, Platform, ProxyEnv, State};

use super::options::Options;

/// Why a compilation does not go on.
#[derive(Debug)]
pub(super) enum Stop {
    /// Something has to be asked first.
    Asking,
    /// Something is wrong.
    Failed(CompileError),
}

impl From<CompileError> for Stop {
    fn from(error: CompileError) -> Self {
        Self::Failed(error)
    }
}

impl From<super::Fault> for Stop {
    fn from(fault: super::Fault) -> Self {
        Self::Failed(fault.into())
    }
}

/// The compilation of a Dockerfile for one platform.
pub(super) struct Target<'a> {
    pub(super) input: &'a Input,
    pub(super) mode: Mode,
    pub(super) platforms: Platforms,
    pub(super) expander: Expander,
    /// Build arguments; the clock may change them.
    pub(super) build_args: BTreeMap<String, String>,
    pub(super) global_args: Env,
    /// The names of global `ARG`s, with or without a value.
    pub(super) declared: BTreeSet<String>,
    pub(super) proxy: Option<ProxyEnv>,
    pub(super) epoch: Option<i64>,
    pub(super) linter: &'a mut Linter,
    pub(super) stages: Vec<Stage<'a>>,
    /// The stages as `--from=N` counts them: what stands behind the stages of the file is counted
    /// again by each use of its number.
    pub(super) numbered: Vec<usize>,
    /// How many stages the triggers of images brought in.
    pub(super) brought_in: usize,
    pub(super) by_name: HashMap<String, usize>,
    pub(super) histories: Histories,
    /// The client's context, decided on when all its uses are known.
    pub(super) context: Later,
    /// The client's context as instructions use it.
    pub(super) context_state: State,
    pub(super) matcher: Option<Matcher>,
    pub(super) exclude: Vec<String>,
    questions: &'a mut BTreeSet<Question>,
    /// Bytes that the words of all instructions have come to so far.
    pub(super) written: Cell<usize>,
}

impl<'a> Target<'a> {
    /// Compiles for a platform; what has to be asked first is added to `questions`.
    pub(super) fn compile(
        input: &'a Input,
        mode: Mode,
        platform: Option<&Platform>,
        linter: &'a mut Linter,
        questions: &'a mut BTreeSet<Question>,
    ) -> Result<Compiled, Stop> {
        let dockerfile = &input.dockerfile;
        let platforms = Platforms::new(platform, &input.request.builder.platform);
        let options = &input.options;
        let last = dockerfile.stages.last().and_then(|stage| stage.from.name.as_deref());
        let stage =
            if options.target.is_empty() { last.unwrap_or_default() } else { &options.target };
        let global_args = platforms.arguments(&options.build_args, stage);
        let context = Output::later();
        let target = Self {
            context_state: State::from_output(context.output()),
            input,
            mode,
            expander: Expander::new(dockerfile.escape),
            build_args: options.build_args.clone(),
            global_args,
            declared: BTreeSet::new(),
            proxy: None,
            epoch: None,
            linter,
            stages: Vec::with_capacity(dockerfile.stages.len()),
            numbered: Vec::new(),
            brought_in: 0,
            by_name: HashMap::new(),
            histories: Histories::default(),
            context,
            matcher: None,
            exclude: Vec::new(),
            questions,
            written: Cell::new(0),
            platforms,
        };
        target.run()
    }

    fn run(mut self) -> Result<Compiled, Stop> {
        self.check_default_bases();
        self.read_global_args()?;
        self.resolve_epoch()?;
        self.proxy = Options::proxy(&self.build_args);
        self.build_stages()?;
        let target = self.find_target()?;
        self.link_stages()?;
        let reachable = self.resolve_stages(target)?;
        self.read_ignore_file()?;
        self.dispatch_stages(&reachable, target)?;
        self.finish(target)
    }

    /// The answer to a question, or a note that it has to be asked.
    pub(super) fn ask(&mut self, question: Question) -> Result<Answer, Stop> {
        match self.input.answers.get(&question) {
            Some(Ok(answer)) => Ok(answer.clone()),
            Some(Err(text)) => Err(CompileError::new(super::Fault::Lookup(text.clone())).into()),
            None => {
                self.questions.insert(question);
                Err(Stop::Asking)
            }
        }
    }

    /// The result: what is left to decide is decided, and the graph is written down.
    fn finish(self, target: usize) -> Result<Compiled, Stop> {
        self.linter.verdict().map_err(super::Fault::Lint)?;
        let mut follow = BTreeSet::new();
        for stage in &self.stages {
            follow.extend(stage.context_paths.iter().cloned());
        }
        let options = &self.input.options;
        let main = &self.input.context;
        let context = main.state(options, self.exclude.clone(), followed(&follow));
        if let Some(output) = context.output() {
            self.context.decide(output.clone());
        }
        for at in 0..self.stages.len() {
            let root = self.paths_root(at);
            let Some(stage) = self.stages.get(at) else { continue };
            if stage.locals.is_empty() {
                continue;
            }
            let paths = self.stages.get(root).map(|stage| followed(&stage.paths));
            for local in &stage.locals {
                local.decide(paths.clone().unwrap_or_default());
            }
        }
        let Some(stage) = self.stages.get(target) else { return Err(Stop::Asking) };
        let mut config = stage.image.to_config(&self.histories);
        config
            .config
            .labels
            .extend(options.labels.iter().map(|(name, value)| (name.clone(), value.clone())));
        self.platforms.stamp(&mut config);
        let caps = self.input.request.builder.caps.clone();
        let defaults = Defaults::new(self.platforms.target.clone(), Some(caps.clone()));
        let definition = match self.mode {
            Mode::Check => crate::llb::Definition::default(),
            Mode::Build => {
                let definition = stage.state.marshal(&defaults).map_err(super::Fault::Marshal)?;
                super::capability::check(&definition, &caps)?;
                super::epoch::check_year(self.epoch)?;
                definition
            }
        };
        Ok(Compiled {
            platform: self.platforms.target.clone(),
            definition,
            config,
            base_config: stage.base_config.as_deref().cloned(),
            epoch: self.epoch,
        })
    }

    /// The stage whose paths a stage's are: all that are built on one another count as one.
    pub(super) fn paths_root(&self, stage: usize) -> usize {
        self.stages.get(stage).map_or(stage, |known| known.paths_root)
    }

    pub(super) fn steps(&self) -> Steps {
        Steps { with_platform: self.input.options.multi_platform, ..Steps::default() }
    }
}

/// Paths as a local source follows them: relative and sorted, or all of them as soon as one is the
/// root.
fn followed(paths: &BTreeSet<String>) -> Vec<String> {
    if paths.contains("/") {
        return Vec::new();
    }
    let mut follow: Vec<String> =
        paths.iter().map(|path| crate::llb::path::join([".", path.as_str()])).collect();
    follow.sort();
    follow
}
