//! Whether the image may be pushed, asked while the Dockerfile is compiled and before any step runs.

use super::{
    error::PushFailure,
    login::Login,
    push::{Targets, read_places},
};
use crate::{
    event::{Event, Events, Warning},
    registry::{Kind, RegistryError, Repository},
};
use futures::future::{BoxFuture, try_join_all};
use std::{path::Path, time::Duration};

/// A build is not held up for longer: the builder may reach a registry that we do not.
const LIMIT: Duration = Duration::from_secs(5);

/// Asks every repository of `targets`, but for those that took a push from here before and are open to
/// all: there is nothing that could have gone wrong since. Where this process pushes itself, `state` is
/// where its pushes are remembered.
///
/// # Errors
/// One of them says no. A registry that cannot be asked from here may be within the builder's reach
/// all the same, so that this is no refusal.
pub(super) fn check<'a>(
    targets: &'a Targets,
    is_ours: bool,
    login: &'a Login,
    events: &'a Events,
    state: Option<&Path>,
) -> BoxFuture<'a, Result<(), Box<PushFailure>>> {
    let places = state.filter(|_| is_ours).map(read_places);
    Box::pin(async move {
        let places = places.as_ref();
        let asked = targets.0.iter().map(|target| async move {
            let repository = &target.repository;
            let host = repository.server().host().as_str();
            let is_known = places.is_some_and(|places| places.knows(host, repository.name()));
            match ask(repository, is_known).await {
                Ok(()) => Ok(()),
                Err(error) if refuses(&error, is_ours) => {
                    Err(Box::new(refused(repository, &error, login).await))
                }
                Err(error) => {
                    events.emit(Event::Warning(Warning {
                        code: "PREFLIGHT_SKIPPED",
                        message: format!(
                            "it is not known whether `{host}` will take the push: {}",
                            error.explanation()
                        ),
                        hint: None,
                    }));
                    Ok(())
                }
            }
        });
        try_join_all(asked).await.map(|_| ())
    })
}

/// Asks one repository. One that took a push from here before `is_known`.
///
/// # Errors
/// It says no ([`RegistryError::is_refusal`]), or does not say.
pub(super) async fn ask(repository: &Repository, is_known: bool) -> Result<(), RegistryError> {
    let asked = tokio::time::timeout(LIMIT, repository.check_write(is_known)).await;
    asked.unwrap_or_else(|_| Err(repository.silent(LIMIT)))
}

/// Whether the push is certain to fail, too. A builder that pushes trusts other certificates than we.
fn refuses(error: &RegistryError, is_ours: bool) -> bool {
    error.is_refusal() || is_ours && matches!(error.kind, Kind::Untrusted)
}

/// The refusal of a repository, told by what stood in the way of the login.
pub(super) async fn refused(
    repository: &Repository,
    error: &RegistryError,
    login: &Login,
) -> PushFailure {
    let failure = PushFailure::of_registry(&repository.to_string(), error);
    // Where credentials should have been found and were not, that says more.
    let host = repository.server().host();
    match login.loss(host) {
        Some(loss) if failure.code == "PUSH_DENIED" && !login.knows(host).await => {
            failure.explained_by(&loss)
        }
        _ => failure,
    }
}
