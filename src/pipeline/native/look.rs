//! Compiling without building: the graphs, or the warnings, stay with whoever asked.

mod theirs;

use super::{answer::Answers, builder, dockerfile};
use crate::{
    buildkit::gateway::Gateway,
    compile::{CheckStep, Compiler, Request, Step},
    pipeline::{
        frontend::{Compiled, Frontend, FrontendError, FrontendInput, syntax},
        imagined::{Compared, CompiledHere, Looked},
    },
    plan::FrontendChoice,
    proto::moby::buildkit::v1::frontend::Result as BuildResult,
};
use futures::future::BoxFuture;
use std::sync::{Mutex, PoisonError};

/// What is wanted of a compilation that builds nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wanted {
    /// What the lint rules say.
    Checks,
    /// The graphs.
    Graphs,
    /// The graphs that are compiled here, and beside them those of the builder's own frontend.
    Comparison,
}

/// A frontend that keeps what it compiles, and gives the builder an empty result.
#[derive(Debug)]
pub(in crate::pipeline) struct Looking {
    wanted: Wanted,
    choice: FrontendChoice,
    found: Mutex<Option<Looked>>,
}

impl Looking {
    /// `choice` says who compiles where graphs are wanted.
    pub(in crate::pipeline) fn new(wanted: Wanted, choice: FrontendChoice) -> Self {
        Self { wanted, choice, found: Mutex::default() }
    }

    /// What was found; none where it was never asked to compile.
    pub(in crate::pipeline) fn into_found(self) -> Option<Looked> {
        self.found.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    async fn look(
        &self,
        gateway: &Gateway,
        input: &FrontendInput,
    ) -> Result<Looked, FrontendError> {
        match self.wanted {
            Wanted::Graphs if self.is_for_the_builder(input) => {
                theirs::graphs(gateway, input, self.choice).await.map(Looked::BuilderGraphs)
            }
            Wanted::Graphs | Wanted::Checks => self.look_here(gateway, input).await,
            Wanted::Comparison => {
                let (outcome, file, text) = match self.look_here(gateway, input).await? {
                    Looked::Graphs(CompiledHere { outcome, file, text }) => {
                        (Ok(outcome), file, text)
                    }
                    Looked::Wrong(wrong) => (Err(wrong.outcome), wrong.file, wrong.text),
                    other => return Ok(other),
                };
                let there = theirs::graphs(gateway, input, FrontendChoice::Native).await;
                match (outcome, there) {
                    (Err(outcome), Err(_)) => {
                        Ok(Looked::Wrong(Box::new(CompiledHere { outcome, file, text })))
                    }
                    (outcome, there) => Ok(Looked::Compared(Box::new(Compared {
                        here: CompiledHere { outcome, file, text },
                        there: there.map_err(|error| error.to_string()),
                    }))),
                }
            }
        }
    }

    /// Whether a build would let the builder compile.
    fn is_for_the_builder(&self, input: &FrontendInput) -> bool {
        match self.choice {
            FrontendChoice::Daemon => true,
            FrontendChoice::Native => false,
            FrontendChoice::Auto => syntax(input).is_some_and(|syntax| !syntax.is_standard),
        }
    }

    async fn look_here(
        &self,
        gateway: &Gateway,
        input: &FrontendInput,
    ) -> Result<Looked, FrontendError> {
        let entry = dockerfile::read(gateway, input).await?;
        let mut answers = Answers::new(gateway, input);
        let mut compiler = Compiler::new(Request {
            dockerfile: entry.text.clone(),
            attrs: input.attributes.clone(),
            ignore_file: entry.ignore_file,
            web_context: entry.web_context,
            builder: builder(gateway),
            session: input.session_id.clone(),
        });
        let (file, text) = (entry.filename, entry.text);
        loop {
            let questions = if self.wanted == Wanted::Checks {
                match compiler.check() {
                    CheckStep::Ask(questions) => questions,
                    CheckStep::Done(checked) => {
                        return Ok(Looked::Checked(CompiledHere { outcome: *checked, file, text }));
                    }
                }
            } else {
                match compiler.step() {
                    Step::Ask(questions) => questions,
                    Step::Done(build) => {
                        return Ok(Looked::Graphs(CompiledHere { outcome: *build, file, text }));
                    }
                    Step::Failed(failure) => {
                        let wrong = CompiledHere { outcome: failure.error, file, text };
                        return Ok(Looked::Wrong(Box::new(wrong)));
                    }
                }
            };
            for (question, answer) in answers.to(questions).await? {
                compiler.answer(question, answer);
            }
        }
    }
}

impl Frontend for Looking {
    fn compile<'a>(
        &'a self,
        gateway: &'a Gateway,
        input: &'a FrontendInput,
    ) -> BoxFuture<'a, Result<Compiled, FrontendError>> {
        Box::pin(async move {
            let found = self.look(gateway, input).await?;
            *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
            Ok(Compiled {
                result: BuildResult::default(),
                frontend: "native".to_owned(),
                llb_digest: None,
                heads: Vec::new(),
                graphs: None,
            })
        })
    }
}
