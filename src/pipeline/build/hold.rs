//! What becomes of an image whose push by the builder failed: all its steps are cached there, so that it
//! is exported once more, to nobody. It then stays in the builder's store under a digest that we know,
//! and this process pushes it when the user goes on.

use super::{Inputs, Prepared};
use crate::{
    event::Events,
    pipeline::{
        error::{Error, PushFailure},
        frontend::frontend,
    },
    plan::{BuildPlan, PushVia},
};
use std::sync::{Arc, OnceLock};

/// Where the name goes of an image that is held.
pub(super) type Hold = Arc<OnceLock<String>>;

impl Inputs {
    /// The same for a second export that nobody sees; none where the first reads what can be read
    /// only once.
    pub(super) fn again(&self) -> Option<Self> {
        self.stdin.is_none().then(|| self.twin())
    }

    /// The same for another build on the same builder.
    #[must_use]
    pub fn for_another(&self) -> Self {
        Self { is_remembered: self.is_remembered, events: self.events.clone(), ..self.twin() }
    }

    /// The same, less what can be read only once.
    pub(super) fn twin(&self) -> Self {
        Self {
            connection: self.connection.clone(),
            connect_time: None,
            docker: None,
            login: self.login.clone(),
            cache_defaults: self.cache_defaults.clone(),
            variables: self.variables.clone(),
            ssh_agent: self.ssh_agent.clone(),
            directory: self.directory.clone(),
            state: self.state.clone(),
            is_remembered: false,
            push: self.push.clone(),
            stdin: None,
            events: Events::discard(),
            cancel: self.cancel.clone(),
        }
    }
}

/// The failure of a push by the builder, with the image held where it can be. That it cannot is no
/// failure more: what was built is cached all the same.
pub(super) async fn held(
    plan: &BuildPlan,
    inputs: Option<Inputs>,
    failure: Box<PushFailure>,
) -> Error {
    // What is held has to be noted.
    let inputs = inputs.filter(|inputs| inputs.state.is_some());
    let Some(inputs) = inputs else { return Error::Push(failure) };
    let plan = BuildPlan {
        push_via: PushVia::Client,
        load: false,
        cache_to: Vec::new(),
        metadata_file: None,
        ..plan.clone()
    };
    let (cancel, hold) = (inputs.cancel.clone(), Hold::default());
    let export = async {
        let mut prepared = Prepared::new(&plan, inputs, Some(hold.clone())).await?;
        // The user built once.
        prepared.memory = None;
        prepared.run(&plan, frontend(plan.frontend).as_ref()).await
    };
    let exported = tokio::select! {
        exported = export => exported,
        () = cancel.cancelled() => return Error::Interrupted,
    };
    if let Err(error) = exported {
        tracing::debug!(%error, "the image of a failed push cannot be held");
    }
    Error::Push(match hold.get() {
        Some(id) => Box::new(failure.resumable(id)),
        None => failure,
    })
}
