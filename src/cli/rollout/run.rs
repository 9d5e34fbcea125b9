//! Work in a cluster that is shown while it goes on, and that a signal ends.

use crate::{
    cli::{
        arguments::GlobalArguments,
        cluster::{inputs, internal},
        environment::Environment,
        screen,
        signal::Signals,
        trace,
    },
    cluster::AccessSettings,
    diagnostic::{Diagnostic, Exit},
    pipeline::rollout::{RolloutFailure, RolloutInputs},
    progress::Reporter,
};
use serde_json::Value;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long tasks that nobody waits for may take to end with the process.
const LAST_CALL: Duration = Duration::from_millis(200);

/// What came of the work, and what was warned of meanwhile.
pub(in crate::cli) struct Ran<T> {
    /// What came of it.
    pub(in crate::cli) value: T,
    /// The warnings, for the envelope.
    pub(in crate::cli) warnings: Vec<Value>,
}

/// Does `work` in the cluster that `settings` name.
///
/// # Errors
/// The failure, which is not written yet.
pub(in crate::cli) fn run<T>(
    global: &GlobalArguments,
    environment: &Environment,
    settings: &AccessSettings,
    work: impl AsyncFnOnce(RolloutInputs) -> Result<T, RolloutFailure>,
) -> Result<Ran<T>, Box<Diagnostic>> {
    let (mode, out) = screen::mode(global, environment)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| internal(&error))?;
    let (reporter, events) = Reporter::start(&mode, out);
    let outcome = runtime.block_on(async {
        let cancel = CancellationToken::new();
        let signals =
            Signals::watch(cancel.clone(), events.clone()).map_err(|error| internal(&error))?;
        let done = async {
            let inputs = inputs(settings, environment, events, cancel).await?;
            work(inputs).await
        };
        done.await.map_err(|failure| {
            let mut diagnostic = Box::new(Diagnostic::from(failure));
            if diagnostic.exit == Exit::Interrupted {
                diagnostic.exit = signals.exit();
            }
            diagnostic
        })
    });
    runtime.shutdown_timeout(LAST_CALL);
    let mut summary = reporter.finish(outcome.is_ok());
    summary.notices.extend(trace::export(&summary.timeline, global, environment));
    Ok(Ran { value: outcome?, warnings: summary.warnings() })
}
