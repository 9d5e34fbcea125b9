//! That a session lives as long as it is wanted, and how it ends.

use super::{builders, channel, dial, over};
use bk_sync::{
    buildkit::session::{SessionBuilder, SessionError, random_id},
    proto::moby::buildkit::v1::{SolveRequest, control_client::ControlClient},
};
use std::time::Duration;
use tokio::{io::copy_bidirectional, net::UnixStream, time::timeout};

/// The builder asks every five seconds whether the session lives, and ends it after two misses.
const WELL_BEYOND_TWO_CHECKS: Duration = Duration::from_secs(13);

#[tokio::test]
async fn idle_sessions_stay_healthy_and_close_cleanly_on_every_builder() {
    let mut idle = tokio::task::JoinSet::new();
    for address in builders() {
        idle.spawn(async move {
            let session = SessionBuilder::new("key").open(channel(address).await).await.unwrap();
            let ended = timeout(WELL_BEYOND_TWO_CHECKS, session.closed()).await;
            assert!(ended.is_err(), "{address} ended the session: {ended:?}");
            let closing = std::time::Instant::now();
            session.close().await.unwrap();
            assert!(closing.elapsed() < Duration::from_secs(4), "{address} did not let go");
        });
    }
    while let Some(joined) = idle.join_next().await {
        joined.unwrap();
    }
}

#[tokio::test]
async fn a_connection_that_is_cut_loses_the_session_with_an_error() {
    for address in builders() {
        // The bytes pass through us, so that we can cut them.
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut builder = dial(address).await.unwrap();
        let relay =
            tokio::spawn(async move { copy_bidirectional(&mut theirs, &mut builder).await });
        let session = SessionBuilder::new("").open(over(ours)).await.unwrap();
        relay.abort();
        let ended = timeout(Duration::from_secs(5), session.closed()).await;
        let error = ended.expect("a lost session is noticed").unwrap_err();
        assert!(matches!(error, SessionError::Lost { .. }));
        let told = error.to_string();
        assert!(told.starts_with("the session with the builder was lost: "), "{told}");
        assert!(session.close().await.is_err(), "closing does not hide it");
    }
}

#[tokio::test]
async fn what_is_no_builder_is_no_hang() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(theirs);
    let opened = SessionBuilder::new("").open(over(ours));
    let opened = timeout(Duration::from_secs(5), opened).await.unwrap();
    assert!(matches!(opened, Err(SessionError::Refused { .. })), "{opened:?}");
}

/// A build that waits for a session that is no more fails, and does so soon.
#[tokio::test]
async fn a_build_whose_session_was_dropped_fails_soon() {
    for address in builders() {
        let channel = channel(address).await;
        let session = SessionBuilder::new("").open(channel.clone()).await.unwrap();
        let request = SolveRequest {
            r#ref: random_id(),
            session: session.id().to_owned(),
            frontend: "dockerfile.v0".to_owned(),
            ..Default::default()
        };
        drop(session);
        let solve = async { ControlClient::new(channel).solve(request).await };
        let answer = timeout(Duration::from_secs(20), solve).await;
        let error = answer.expect("the builder gives up").unwrap_err();
        assert!(error.message().contains("session"), "{address}: {}", error.message());
    }
}
