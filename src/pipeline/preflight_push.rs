//! Whether the image may be pushed, asked while the Dockerfile is compiled and before any step runs.

use super::{
    error::PushFailure,
    login::{Login, LoginFailure},
    outputs::{Outputs, Push},
    push::read_places,
};
use crate::{
    buildkit::session::RegistryAuth as _,
    credential::RegistryHost,
    event::{Event, Events, Warning},
    image::reference::Reference,
    registry::probe::ProbeError,
};
use futures::future::{BoxFuture, try_join_all};
use std::{collections::BTreeSet, path::Path};

/// Asks every registry that `outputs` are pushed to, but for those that took a push from here before
/// and are open to all: there is nothing that could have gone wrong since. `state` is where pushes by
/// this process are remembered.
///
/// # Errors
/// One of them says no. A registry that cannot be asked from here may be within the builder's reach
/// all the same, so that this is no refusal.
pub(super) fn check<'a>(
    outputs: &Outputs,
    login: &'a Login,
    events: &'a Events,
    state: Option<&Path>,
) -> BoxFuture<'a, Result<(), Box<PushFailure>>> {
    let names = outputs.names.iter().filter(|_| outputs.push != Push::None);
    let names: Vec<&Reference> = names.collect();
    let state = state.filter(|_| outputs.push == Push::Client);
    names_allowed(&names, login, events, state)
}

/// The same for images that will have these names.
///
/// # Errors
/// As [`check`].
pub(super) fn names_allowed<'a>(
    names: &[&Reference],
    login: &'a Login,
    events: &'a Events,
    state: Option<&Path>,
) -> BoxFuture<'a, Result<(), Box<PushFailure>>> {
    let repositories: BTreeSet<(RegistryHost, String)> = names
        .iter()
        .map(|name| (RegistryHost::new(name.domain()), name.path().to_owned()))
        .collect();
    let places = state.map(read_places);
    Box::pin(async move {
        let places = places.as_ref();
        let asked = repositories.iter().map(|(host, path)| async move {
            let is_known = places.is_some_and(|places| places.knows(host.as_str(), path));
            ask(login, events, (host, path), is_known).await
        });
        try_join_all(asked).await.map(|_| ())
    })
}

async fn ask(
    login: &Login,
    events: &Events,
    (host, path): (&RegistryHost, &str),
    is_known: bool,
) -> Result<(), Box<PushFailure>> {
    match login.may_push(host, path, is_known).await {
        Ok(()) => Ok(()),
        Err(failure) if !failure.is_refusal() => {
            events.emit(Event::Warning(Warning {
                code: "PREFLIGHT_SKIPPED",
                message: format!("it is not known whether `{host}` will take the push: {failure}"),
                hint: None,
            }));
            Ok(())
        }
        Err(failure) => {
            let name = format!("{host}/{path}");
            if let LoginFailure::Probe(ProbeError::Refused { status: 404, .. }) = failure {
                let mut unknown = PushFailure::new(Some(&name), "name unknown");
                unknown.cause = Some(failure.to_string());
                return Err(Box::new(unknown));
            }
            // Where credentials should have been found and were not, that says more.
            let told = match login.credentials(host.as_str()).await {
                Some(_) => failure,
                None => login.loss(host).unwrap_or(failure),
            };
            Err(Box::new(PushFailure::new(Some(&name), "denied").explained_by(&told)))
        }
    }
}
