//! Ctrl-C and SIGTERM: the first asks the build to end and clean up, the second ends the process.

use crate::{
    diagnostic::Exit,
    event::{Event, Events, Warning},
};
use std::{
    io,
    sync::{Arc, OnceLock},
};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Which signal came first, if one did.
#[derive(Clone, Debug)]
pub(super) struct Signals {
    first: Arc<OnceLock<Exit>>,
}

impl Signals {
    /// Cancels `cancel` at the first signal. Must be called inside a runtime.
    ///
    /// # Errors
    /// Where the system takes no handlers.
    pub(super) fn watch(cancel: CancellationToken, events: Events) -> io::Result<Self> {
        let interrupt = signal(SignalKind::interrupt())?;
        let terminate = signal(SignalKind::terminate())?;
        let first = Arc::new(OnceLock::new());
        drop(tokio::spawn(wait(interrupt, terminate, cancel, events, Arc::clone(&first))));
        Ok(Self { first })
    }

    /// How a process ends that a signal stopped. SIGINT where none came: then the stop was ours.
    pub(super) fn exit(&self) -> Exit {
        self.first.get().copied().unwrap_or(Exit::Interrupted)
    }
}

async fn wait(
    mut interrupt: Signal,
    mut terminate: Signal,
    cancel: CancellationToken,
    events: Events,
    first: Arc<OnceLock<Exit>>,
) {
    loop {
        let exit = tokio::select! {
            _ = interrupt.recv() => Exit::Interrupted,
            _ = terminate.recv() => Exit::Terminated,
        };
        if first.set(exit).is_err() {
            #[expect(
                clippy::exit,
                clippy::disallowed_methods,
                reason = "the second signal says that clean-up takes too long"
            )]
            std::process::exit(i32::from(exit.code()));
        }
        cancel.cancel();
        events.emit(Event::Warning(Warning {
            code: "INTERRUPTED",
            message: "stopping the build on the builder".to_owned(),
            hint: Some("once more to end at once".to_owned()),
        }));
    }
}
