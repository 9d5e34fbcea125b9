//! Questions about a Dockerfile that the builder's frontend answers: its targets, its arguments.

use super::{
    build::{Inputs, asking},
    error::Error,
    frontend::{Compiled, DaemonFrontend, Frontend, FrontendError, FrontendInput},
};
use crate::{
    buildkit::gateway::Gateway,
    plan::{BuildPlan, FrontendChoice},
    proto::moby::buildkit::v1::frontend::Result as BuildResult,
};
use futures::future::BoxFuture;
use serde_json::Value;
use std::sync::{Mutex, PoisonError};

/// The attribute that makes a frontend answer instead of compile.
const REQUEST: &str = "requestid";

/// What a frontend answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Asked {
    /// For people.
    pub text: String,
    /// For programs; null where it gave nothing of the kind.
    pub json: Value,
}

/// Asks the frontend `request`, such as `frontend.targets`, and builds nothing.
///
/// # Errors
/// As a build; the frontend may not know the question.
pub async fn ask(plan: &BuildPlan, inputs: Inputs, request: &str) -> Result<Asked, Error> {
    let frontend =
        Asking { request: request.to_owned(), choice: plan.frontend, answer: Mutex::default() };
    asking(plan, inputs, &frontend).await?;
    frontend.answer.into_inner().unwrap_or_else(PoisonError::into_inner).ok_or_else(|| {
        Error::Builder { message: "it ended the build before anything was answered".to_owned() }
    })
}

/// A frontend whose answer is kept, and that gives the builder an empty result.
struct Asking {
    request: String,
    choice: FrontendChoice,
    answer: Mutex<Option<Asked>>,
}

impl Frontend for Asking {
    fn compile<'a>(
        &'a self,
        gateway: &'a Gateway,
        input: &'a FrontendInput,
    ) -> BoxFuture<'a, Result<Compiled, FrontendError>> {
        Box::pin(async move {
            let (mut solve, frontend) = DaemonFrontend::new(self.choice).solve(input);
            solve.attributes.insert(REQUEST.to_owned(), self.request.clone());
            solve.attributes.insert(
                "frontend.caps".to_owned(),
                "moby.buildkit.frontend.subrequests".to_owned(),
            );
            let metadata = gateway.solve(solve).await?.metadata;
            let part = |name: &str| metadata.get(name).map(Vec::as_slice).unwrap_or_default();
            let answer = Asked {
                text: String::from_utf8_lossy(part("result.txt")).into_owned(),
                json: serde_json::from_slice(part("result.json")).unwrap_or_default(),
            };
            *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
            Ok(Compiled { result: BuildResult::default(), frontend, llb_digest: None })
        })
    }
}
