//! Dockerfile to LLB and image config: the same graph that BuildKit's own frontend makes.
//!
//! A [`Compiler`] is given a [`Request`] and does no I/O. What it cannot know, such as what a base
//! image holds, it asks for ([`Step::Ask`]): all that is needed at once, so that the answers can be
//! fetched side by side. Triggers of base images and named contexts may need more once they are
//! known, so asking goes on until nothing is missing. Then each platform has a graph and a config.
//!
//! ```
//! use bk_sync::compile::{Builder, Compiler, Request, Step, WebContext};
//! use bk_sync::llb::{Caps, Platform};
//!
//! let request = Request {
//!     dockerfile: b"FROM scratch\nCOPY app /app\n".to_vec(),
//!     attrs: [("platform".to_owned(), "linux/arm64".to_owned())].into(),
//!     ignore_file: None,
//!     web_context: WebContext::default(),
//!     builder: Builder { caps: Caps::all(), platform: Platform::new("linux", "amd64") },
//!     session: "session-1".to_owned(),
//! };
//! let mut compiler = Compiler::new(request);
//! match compiler.step() {
//!     Step::Done(build) => assert_eq!(build.targets[0].definition.ops().len(), 3),
//!     Step::Ask(questions) => panic!("nothing has to be asked for this file: {questions:?}"),
//!     Step::Failed(failure) => panic!("{}", failure.error),
//! }
//! ```
//!
//! One file per instruction is in `instruction/`; the stages, their bases and the order in which
//! things happen are around it.

mod args;
mod build;
mod capability;
mod chmod;
mod context;
mod dispatch;
mod epoch;
mod error;
mod git_ref;
mod image;
mod instruction;
mod named;
mod naming;
mod options;
mod os_path;
mod platforms;
mod question;
mod request;
mod resolve;
mod stage;
mod stages;
mod target;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use build::{Build, Compiled};
pub use context::{Entry, WebSource};
pub use error::{CompileError, Fault};
pub use git_ref::GitQueryError;
pub use options::{OptionError, ULIMITS};
pub use os_path::PathError;
pub use question::{
    Answer, IgnoreFileQuestion, ImageAnswer, ImageQuestion, InputAnswer, InputQuestion,
    LayoutStore, Question, SourceQuestion,
};
pub use request::{Builder, IgnoreFileText, Request, WebContext};

use crate::dockerfile::ast::Dockerfile;
use crate::dockerfile::lint::{self, Linter, Warning};
use crate::dockerfile::{self, Lines, directive};
use crate::llb::{self, Caps, Defaults, Platform, Range, SourceMap, caps};
use context::MainContext;
use options::Options;
use target::{Stop, Target};

/// How a compilation goes on.
#[derive(Debug)]
pub enum Step {
    /// These have to be answered first.
    Ask(Vec<Question>),
    /// It is done.
    Done(Box<Build>),
    /// It cannot be done.
    Failed(Box<Failure>),
}

/// A compilation that failed, and what was found unwise before it did.
#[derive(Debug)]
pub struct Failure {
    /// What is wrong.
    pub error: CompileError,
    /// Warnings, in the order in which they were found.
    pub warnings: Vec<Warning>,
}

/// What a Dockerfile looks like to the lint rules.
#[derive(Debug)]
pub struct Checked {
    /// Warnings, in the order in which they were found.
    pub warnings: Vec<Warning>,
    /// What keeps it from being built.
    pub error: Option<CompileError>,
}

/// How a check goes on.
#[derive(Debug)]
pub enum CheckStep {
    /// These have to be answered first.
    Ask(Vec<Question>),
    /// It is done.
    Done(Box<Checked>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Build,
    Check,
}

/// Compiles one Dockerfile.
#[derive(Debug)]
pub struct Compiler {
    parsed: Result<Input, CompileError>,
    /// What reading alone had to say.
    linter: Linter,
}

/// All that a compilation starts from.
#[derive(Debug)]
struct Input {
    request: Request,
    options: Options,
    dockerfile: Dockerfile,
    context: MainContext,
    source_map: Arc<SourceMap>,
    answers: BTreeMap<Question, Result<Answer, String>>,
}

impl Compiler {
    /// What holds the Dockerfile, for who has to read it through a builder.
    ///
    /// # Errors
    /// Options that cannot be read.
    pub fn entry(
        attrs: &BTreeMap<String, String>,
        session: &str,
        web: WebContext,
    ) -> Result<Entry, CompileError> {
        let options = Options::parse(attrs).map_err(Fault::Options)?;
        Ok(MainContext::new(&options, session, web)?.entry)
    }

    /// What is fetched for a context of the web, for who has to find out what it holds; none for
    /// other contexts.
    ///
    /// # Errors
    /// Options that cannot be read.
    pub fn web_context(
        attrs: &BTreeMap<String, String>,
    ) -> Result<Option<WebSource>, CompileError> {
        let options = Options::parse(attrs).map_err(Fault::Options)?;
        Ok(context::web_source(&options))
    }

    /// The source of the ignore file of the client's context, for who has to read it through a
    /// builder.
    ///
    /// # Errors
    /// Options that cannot be read.
    pub fn ignore_file(
        attrs: &BTreeMap<String, String>,
        session: &str,
    ) -> Result<llb::State, CompileError> {
        let options = Options::parse(attrs).map_err(Fault::Options)?;
        Ok(context::main_ignore_file(&options, session))
    }

    /// Reads a Dockerfile; what is wrong with it is said by the first step.
    pub fn new(request: Request) -> Self {
        let mut linter = Linter::default();
        let parsed = Input::new(request, &mut linter);
        Self { parsed, linter }
    }

    /// Goes on as far as the answers reach.
    pub fn step(&self) -> Step {
        let mut linter = self.linter.clone();
        let mut questions = BTreeSet::new();
        let result = match &self.parsed {
            Err(error) => Err(Stop::Failed(error.clone())),
            Ok(input) => input.build(&mut linter, &mut questions),
        };
        match result {
            Ok(targets) => {
                let warnings = linter.into_warnings();
                let (multi, source_map) = match &self.parsed {
                    Ok(input) => {
                        (input.options.multi_platform, Some(Arc::clone(&input.source_map)))
                    }
                    Err(_) => (false, None),
                };
                Step::Done(Box::new(Build { targets, warnings, multi_platform: multi, source_map }))
            }
            Err(Stop::Asking) => Step::Ask(questions.into_iter().collect()),
            Err(Stop::Failed(error)) => {
                Step::Failed(Box::new(Failure { error, warnings: linter.into_warnings() }))
            }
        }
    }

    /// Checks the file without building it: all stages where no target is named, for the builder's
    /// own platform.
    pub fn check(&self) -> CheckStep {
        let mut linter = self.linter.clone();
        let mut questions = BTreeSet::new();
        let result = match &self.parsed {
            Err(error) => Err(Stop::Failed(error.clone())),
            Ok(input) => {
                Target::compile(input, Mode::Check, None, &mut linter, &mut questions).map(drop)
            }
        };
        let error = match result {
            Ok(()) => None,
            Err(Stop::Asking) => return CheckStep::Ask(questions.into_iter().collect()),
            Err(Stop::Failed(error)) => Some(error),
        };
        CheckStep::Done(Box::new(Checked { warnings: linter.into_warnings(), error }))
    }

    /// Answers a question; the error is what a user reads.
    pub fn answer(&mut self, question: Question, answer: Result<Answer, String>) {
        if let Ok(input) = &mut self.parsed {
            input.answers.insert(question, answer);
        }
    }
}

impl Input {
    fn new(request: Request, linter: &mut Linter) -> Result<Self, CompileError> {
        if !request.builder.caps.supports(caps::FILE_BASE) {
            return Err(Fault::TooOld.into());
        }
        let options = Options::parse(&request.attrs).map_err(Fault::Options)?;
        if request.dockerfile.is_empty() {
            let error = dockerfile::Error {
                cause: Box::new(dockerfile::Cause::EmptyFile),
                lines: None,
                span: None,
            };
            return Err(Fault::Dockerfile(Box::new(error.into())).into());
        }
        let lint_options = if let Some(options) = &options.lint {
            options.clone()
        } else {
            let text = directive::value(directive::Name::Check, &request.dockerfile);
            let text = text.map(|(value, _)| value).unwrap_or_default();
            lint::Options::parse(&text).map_err(Fault::CheckOptions)?
        };
        *linter = Linter::new(lint_options);
        let context = MainContext::new(&options, &request.session, request.web_context)?;
        let dockerfile = dockerfile::parse(&request.dockerfile, linter).map_err(|errors| {
            let lines = errors.first.lines;
            let error = CompileError::new(Fault::Dockerfile(Box::new(errors)));
            if lines.is_some() { error.at(lines) } else { error }
        })?;
        // The file's own source is told along, so that a builder can say where it came from.
        let defaults = Defaults::new(request.builder.platform.clone(), Some(Caps::all()));
        let source_map = Arc::new(SourceMap {
            filename: context.entry.filename.clone(),
            language: "Dockerfile".into(),
            data: request.dockerfile.clone(),
            definition: Some(context.entry.state.marshal(&defaults).map_err(Fault::Marshal)?),
        });
        Ok(Self { request, options, dockerfile, context, source_map, answers: BTreeMap::new() })
    }

    fn build(
        &self,
        linter: &mut Linter,
        questions: &mut BTreeSet<Question>,
    ) -> Result<Vec<Compiled>, Stop> {
        let platforms: Vec<Option<&Platform>> = if self.options.platforms.is_empty() {
            vec![None]
        } else {
            self.options.platforms.iter().map(Some).collect()
        };
        let mut compiled = Vec::with_capacity(platforms.len());
        let mut asking = false;
        for (at, platform) in platforms.into_iter().enumerate() {
            // What is unwise is so on every platform: it is said once.
            let mut silent = Linter::default();
            let linter = if at == 0 { &mut *linter } else { &mut silent };
            match Target::compile(self, Mode::Build, platform, linter, questions) {
                Ok(target) => compiled.push(target),
                Err(Stop::Asking) => asking = true,
                Err(stop) => return Err(stop),
            }
        }
        if asking { Err(Stop::Asking) } else { Ok(compiled) }
    }

    /// A name for the ops of one linked copy: the same each time, and no other's of this build.
    fn group_id(&self, stage: &str, step: &str) -> String {
        llb::group_id(&[self.request.session.as_str(), stage, step])
    }
}

/// The ranges of an instruction as BuildKit counts them: one for each of its lines.
fn ranges(lines: Option<Lines>) -> Vec<Range> {
    let line = |line: u32| i32::try_from(line).unwrap_or(i32::MAX);
    lines
        .map(|lines| lines.each().map(|at| Range::lines(line(at), line(at))).collect())
        .unwrap_or_default()
}
