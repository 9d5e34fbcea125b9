//! A deploy from its plan to its receipt: the order of the stages, what ends one, and where one
//! goes on that was ended.
//!
//! [`Deploy`] knows the order and nothing else; what a stage does is behind [`Stages`].

mod cluster;
mod order;
mod preflight;
mod real;
mod refer;

pub use cluster::ClusterParts;
pub(super) use cluster::Target;
pub use order::{Deploy, Ended, Resume};
pub use real::{Parts, Real};

use crate::{diagnostic::Diagnostic, record::Receipt};
use tokio_util::sync::CancellationToken;

/// What a stage came to.
pub type Outcome<T> = Result<T, Box<Diagnostic>>;

/// What the stages of a deploy do. Each gets the receipt so far and writes into it what it found;
/// each ends soon, and leaves nothing behind, when `cancel` is cancelled.
#[expect(async_fn_in_trait, reason = "a deploy runs on one task, so no future of it is sent")]
pub trait Stages {
    /// Looks at everything before anything changes. `resumed` says that there is an image already.
    ///
    /// # Errors
    /// What stands in the way.
    async fn preflight(&mut self, resumed: bool, cancel: &CancellationToken) -> Outcome<()>;

    /// Builds the image.
    ///
    /// # Errors
    /// See [`crate::pipeline::Error`].
    async fn build(&mut self, receipt: &mut Receipt, cancel: &CancellationToken) -> Outcome<()>;

    /// Pushes the image.
    ///
    /// # Errors
    /// See [`crate::pipeline::Error`].
    async fn push(&mut self, receipt: &mut Receipt, cancel: &CancellationToken) -> Outcome<()>;

    /// Whether the workload runs the receipt's image already, whole and ready. Changes nothing.
    ///
    /// # Errors
    /// The cluster cannot be asked.
    async fn is_current(
        &mut self,
        receipt: &mut Receipt,
        cancel: &CancellationToken,
    ) -> Outcome<bool>;

    /// Gives the workload the image and waits for it.
    ///
    /// # Errors
    /// The rollout failed; the exit code says whether the image before it came back.
    async fn rollout(&mut self, receipt: &mut Receipt, cancel: &CancellationToken) -> Outcome<()>;

    /// Checks the new pods.
    ///
    /// # Errors
    /// A check failed.
    async fn verify(&mut self, receipt: &mut Receipt, cancel: &CancellationToken) -> Outcome<()>;

    /// Brings the image before back, after a check failed.
    ///
    /// # Errors
    /// It did not come back.
    async fn roll_back(&mut self, receipt: &mut Receipt, cancel: &CancellationToken)
    -> Outcome<()>;

    /// Tells those who are told of deploys. What goes wrong there is reported, and fails nothing.
    async fn record(&mut self, receipt: &Receipt, cancel: &CancellationToken);

    /// Waits for what may take longer than the stage that began it, after a deploy that came to
    /// something. What goes wrong there is reported, and fails nothing.
    async fn settle(&mut self);

    /// Lets go of what was lent, however the deploy ended.
    async fn release(&mut self);
}
