//! Compiling without building: the graphs, or the warnings, stay with whoever asked.

use super::{answer::Answers, builder, dockerfile};
use crate::{
    buildkit::gateway::Gateway,
    compile::{CheckStep, Compiler, Request, Step},
    pipeline::{
        frontend::{Compiled, Frontend, FrontendError, FrontendInput},
        imagined::{CompiledHere, Looked},
    },
    proto::moby::buildkit::v1::frontend::Result as BuildResult,
};
use futures::future::BoxFuture;
use std::sync::{Mutex, PoisonError};

/// A frontend that keeps what it compiles, and gives the builder an empty result.
#[derive(Debug, Default)]
pub(in crate::pipeline) struct Looking {
    checks: bool,
    found: Mutex<Option<Looked>>,
}

impl Looking {
    /// `checks` is for the lint rules instead of the graphs.
    pub(in crate::pipeline) fn new(checks: bool) -> Self {
        Self { checks, found: Mutex::default() }
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
            let questions = if self.checks {
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
            })
        })
    }
}
