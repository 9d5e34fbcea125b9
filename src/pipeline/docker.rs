//! A push by the Docker that built the image, for builders whose exporters cannot push.

use super::{
    built::{PushedBlobs, Timings},
    error::{Error, PushFailure},
    login::{Login, LoginFailure},
};
use crate::{
    buildkit::session::RegistryAuth as _,
    credential::{Credentials, Kind, RegistryHost},
    engine::{self, Client, PushProgress, PushedImage, RegistryLogin},
    event::{Event, Events, PushAction, PushStatus, Stage},
    image::reference::Reference,
    llb::Platform,
    registry::token::TokenError,
};
use std::{collections::BTreeMap, time::Instant};
use tokio_util::sync::CancellationToken;

/// What a Docker has pushed.
#[derive(Debug)]
pub(super) struct DockerPush {
    /// What the registry has under the first name.
    pub(super) image: PushedImage,
    /// The platform that the image is for.
    pub(super) platform: Option<String>,
    /// What became of the layers under the first name.
    pub(super) blobs: PushedBlobs,
}

/// Has `engine` push the image that it holds under each of `names`.
///
/// # Errors
/// A registry refuses, it or the Docker cannot be reached, or the user wants no more of it.
pub(super) async fn push(
    engine: &Client,
    names: &[Reference],
    login: &Login,
    events: &Events,
    cancel: &CancellationToken,
    timings: &mut Timings,
) -> Result<Option<DockerPush>, Error> {
    let began = Instant::now();
    let mut first = None;
    for name in names {
        let subject = name.to_string();
        events.emit(Event::StageStarted { stage: Stage::Push, subject: subject.clone() });
        let known = login.credentials(name.domain()).await;
        if let Some(known) = &known
            && let Ok(false) = engine.accepts_login(name, &lent(known.clone())).await
        {
            events.emit(Event::StageEnded { stage: Stage::Push, ok: false });
            return Err(wrong_password(&subject, name, known));
        }
        let credentials = known.map(lent);
        let mut layers = BTreeMap::new();
        let report = |progress: PushProgress| {
            if let Some(status) = status(&progress) {
                layers.insert(status.id.clone(), status.action);
                events.emit(Event::Push(status));
            }
        };
        // Dropping the push ends it in the Docker too.
        let pushed = tokio::select! {
            pushed = engine.push_image(name, credentials.as_ref(), report) => pushed,
            () = cancel.cancelled() => return Err(Error::Interrupted),
        };
        events.emit(Event::StageEnded { stage: Stage::Push, ok: pushed.is_ok() });
        let image = pushed.map_err(|error| failure(&subject, &error))?;
        if first.is_none() {
            let platform = engine.inspect_image(&subject).await.ok().map(|inspected| {
                Platform::new(&inspected.os, &inspected.architecture).normalized().format()
            });
            first = Some(DockerPush { image, platform, blobs: counted(&layers) });
        }
    }
    timings.push = Some(began.elapsed());
    Ok(first)
}

fn lent(credentials: Credentials) -> RegistryLogin {
    let Credentials { username, secret, kind, .. } = credentials;
    match kind {
        Kind::IdentityToken => {
            RegistryLogin { username, identity_token: Some(secret), ..RegistryLogin::default() }
        }
        Kind::Password | Kind::RegistryToken => {
            RegistryLogin { username, password: secret, identity_token: None }
        }
    }
}

fn wrong_password(subject: &str, name: &Reference, known: &Credentials) -> Error {
    let told = LoginFailure::Token(TokenError::WrongCredentials {
        host: RegistryHost::new(name.domain()),
        username: known.username.clone(),
        origin: known.origin.clone(),
        message: String::new(),
    });
    Error::Push(Box::new(PushFailure::new(Some(subject), "denied").explained_by(&told)))
}

fn failure(name: &str, error: &engine::Error) -> Error {
    let mut failure = PushFailure::new(Some(name), &error.to_string());
    if let engine::Error::Image { code: Some(401 | 403), .. } = error {
        failure = PushFailure::new(Some(name), &format!("{error}: denied"));
    }
    if let Some(fix) = error.fix() {
        failure.fix = Some(fix);
    }
    Error::Push(Box::new(failure))
}

/// A layer's progress. What is said of the whole, and words that tell nothing new, are passed over.
fn status(progress: &PushProgress) -> Option<PushStatus> {
    let action = match progress.status.as_str() {
        "Preparing" | "Waiting" => PushAction::Preparing,
        "Pushing" => PushAction::Uploading,
        "Pushed" => PushAction::Uploaded,
        "Layer already exists" => PushAction::Existing,
        words if words.starts_with("Mounted from") => PushAction::Mounted,
        _ => return None,
    };
    Some(PushStatus {
        id: progress.layer.clone()?,
        action,
        current: progress.current.unwrap_or(0),
        total: progress.total,
    })
}

fn counted(layers: &BTreeMap<String, PushAction>) -> PushedBlobs {
    let count =
        |action| u64::try_from(layers.values().filter(|last| **last == action).count()).ok();
    PushedBlobs {
        uploaded: count(PushAction::Uploaded),
        mounted: count(PushAction::Mounted),
        existing: count(PushAction::Existing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_counted_by_what_became_of_them() {
        let said = |layer: &str, words: &str| PushProgress {
            layer: Some(layer.to_owned()),
            status: words.to_owned(),
            current: None,
            total: None,
        };
        let mut layers = BTreeMap::new();
        for progress in [
            said("a", "Preparing"),
            said("a", "Pushing"),
            said("a", "Pushed"),
            said("b", "Layer already exists"),
            said("c", "Mounted from base/busybox"),
            said("c", "something new"),
        ] {
            if let Some(status) = status(&progress) {
                layers.insert(status.id, status.action);
            }
        }
        assert_eq!(
            counted(&layers),
            PushedBlobs { uploaded: Some(1), mounted: Some(1), existing: Some(1) }
        );
    }

    #[test]
    fn a_refusal_is_known_by_words_or_by_status() {
        let code = |message: &str, code| {
            let error = engine::Error::Image { message: message.to_owned(), code };
            match failure("r/a:1", &error) {
                Error::Push(failure) => failure.code,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(code("no basic auth credentials", None), "PUSH_DENIED");
        assert_eq!(code("no", Some(403)), "PUSH_DENIED");
        assert_eq!(code("no", None), "PUSH_FAILED");
    }
}
