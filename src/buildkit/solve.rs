//! A gateway build: a `Solve` that waits for its result from us, the status stream beside it, and
//! a frontend that drives it over the bridge, all under one id.

use super::{
    control::{Control, StatusStream},
    errors::Failure,
    gateway::Gateway,
    session::{OpenSession, SessionError},
};
use crate::{
    event::BuildStatus,
    proto::moby::buildkit::v1::{SolveRequest, frontend::Result as BuildResult},
};
use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Code, transport::Channel};

/// How long the status stream may be silent after a build has ended before we leave it.
const STATUS_IDLE: Duration = Duration::from_secs(5);

/// How long a build may go on whose frontend or session has failed, so that the builder can say
/// why in its own words.
const EPITAPH: Duration = Duration::from_secs(5);

/// How long a builder may take to end a build that we cancelled.
const CANCEL_LIMIT: Duration = Duration::from_secs(10);

/// Why a build has no result.
#[derive(Debug, thiserror::Error)]
pub enum BuildError<E> {
    /// The builder failed it.
    #[error(transparent)]
    Builder(#[from] Failure),
    /// It was cancelled on our side, and the builder has ended it or was given time to.
    #[error("cancelled")]
    Cancelled,
    /// Our frontend failed.
    #[error("{0}")]
    Frontend(E),
    /// The session was lost, and the builder did not say more.
    #[error(transparent)]
    Session(SessionError),
}

/// What the builder is told of a frontend's failure, so that its history has it too.
pub trait FrontendFailure {
    /// The status code.
    fn code(&self) -> Code;

    /// The words.
    fn message(&self) -> String;
}

impl FrontendFailure for Failure {
    fn code(&self) -> Code {
        self.code
    }

    fn message(&self) -> String {
        self.message.clone()
    }
}

/// Runs the gateway build that `request` describes (with its id in `ref`, and neither a definition
/// nor a frontend) and answers with what the exporters said. `frontend` makes the result that is
/// exported; `observe` gets every message of the status stream. The session is closed at the end.
///
/// # Errors
/// See [`BuildError`].
pub async fn run<F, E>(
    channel: Channel,
    session: OpenSession,
    request: SolveRequest,
    frontend: F,
    observe: impl FnMut(BuildStatus),
    cancel: &CancellationToken,
) -> Result<BTreeMap<String, String>, BuildError<E>>
where
    F: AsyncFnOnce(&Gateway) -> Result<BuildResult, E>,
    E: FrontendFailure,
{
    let control = Control::new(channel.clone());
    let build_id = request.r#ref.clone();
    let (ended, has_ended) = watch::channel(false);

    let mut solve = Box::pin(control.solve(request));
    let mut status = pin!(follow(&control, &build_id, observe, has_ended));
    let failed = Mutex::new(None);
    let mut drive = pin!(drive(channel, &build_id, frontend, &failed));
    let mut lost = pin!(session.closed());
    let mut deadline = pin!(tokio::time::sleep(Duration::MAX));
    let (mut driving, mut following, mut serving) = (true, true, true);
    let mut own_error = None;

    let outcome = loop {
        tokio::select! {
            answer = solve.as_mut() => break Some(answer),
            () = cancel.cancelled() => break None,
            () = deadline.as_mut() => break None,
            () = status.as_mut(), if following => following = false,
            outcome = drive.as_mut(), if driving => {
                driving = false;
                if let Err(error) = outcome {
                    own_error = error.map(BuildError::Builder);
                    deadline.as_mut().reset(tokio::time::Instant::now() + EPITAPH);
                }
            }
            outcome = lost.as_mut(), if serving => {
                serving = false;
                if let Err(error) = outcome {
                    own_error.get_or_insert(BuildError::Session(error));
                    deadline.as_mut().reset(tokio::time::Instant::now() + EPITAPH);
                }
            }
        }
    };

    // Dropping the call resets its stream, which is how a builder is told to stop. The status
    // stream ends when it has.
    drop(solve);
    ended.send_replace(true);
    if following {
        let limit = if outcome.is_none() { CANCEL_LIMIT } else { Duration::MAX };
        let _: Result<(), _> = timeout(limit, status).await;
    }
    if let Err(error) = session.close().await {
        tracing::debug!(%error, "session ended early");
    }

    let failed = failed.lock().unwrap_or_else(PoisonError::into_inner).take();
    let own_error = failed.map(BuildError::Frontend).or(own_error);
    match (outcome, own_error) {
        (Some(Ok(response)), _) => Ok(response),
        (_, Some(BuildError::Frontend(error))) => Err(BuildError::Frontend(error)),
        (Some(Err(failure)), _) if cancel.is_cancelled() && failure.is_cancelled() => {
            Err(BuildError::Cancelled)
        }
        (Some(Err(failure)), own_error) => Err(prefer(failure, own_error)),
        (None, Some(error)) if !cancel.is_cancelled() => Err(error),
        (None, _) => Err(BuildError::Cancelled),
    }
}

/// Of the builder's failure and ours, the one that says more: a builder whose session was lost
/// only knows that it was cancelled.
fn prefer<E>(failure: Failure, own_error: Option<BuildError<E>>) -> BuildError<E> {
    match own_error {
        Some(error) if failure.is_cancelled() => error,
        _ => BuildError::Builder(failure),
    }
}

/// Lets the frontend make the result and hands it to the builder; none is the failure of a frontend,
/// which is in `failed`. It is there before the builder hears of it: the build may end over it sooner
/// than the builder answers.
async fn drive<F, E>(
    channel: Channel,
    build_id: &str,
    frontend: F,
    failed: &Mutex<Option<E>>,
) -> Result<(), Option<Failure>>
where
    F: AsyncFnOnce(&Gateway) -> Result<BuildResult, E>,
    E: FrontendFailure,
{
    let gateway = Gateway::open(channel, build_id).await.map_err(Some)?;
    match frontend(&gateway).await {
        Ok(result) => gateway.return_result(result).await.map_err(Some),
        Err(error) => {
            let (code, message) = (error.code(), error.message());
            *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            // The frontend's error is what counts; that the builder could not be told is not.
            if let Err(failure) = gateway.return_failure(code, &message).await {
                tracing::debug!(%failure, "the builder was not told of the frontend's failure");
            }
            Err(None)
        }
    }
}

/// Hands on the status stream until it ends or, once the build has ended, falls silent.
async fn follow(
    control: &Control,
    build_id: &str,
    mut observe: impl FnMut(BuildStatus),
    ended: watch::Receiver<bool>,
) {
    let mut stream = match control.status(build_id).await {
        Ok(stream) => stream,
        Err(failure) => {
            tracing::debug!(%failure, "no status");
            return;
        }
    };
    while let Some(message) = next(&mut stream, ended.clone()).await {
        observe(message);
    }
}

async fn next(stream: &mut StatusStream, mut ended: watch::Receiver<bool>) -> Option<BuildStatus> {
    let silence = async {
        let _: Result<_, _> = ended.wait_for(|ended| *ended).await.map(drop);
        tokio::time::sleep(STATUS_IDLE).await;
    };
    tokio::select! {
        message = stream.next() => match message {
            Ok(message) => message,
            Err(failure) => {
                tracing::debug!(%failure, "the status stream broke");
                None
            }
        },
        () = silence => None,
    }
}
