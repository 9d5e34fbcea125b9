//! Policy as data: names, tags, platforms, what a build is asked to do. Pure.

mod build;
mod builders;
mod context;
mod lock;
mod platform;
mod policy;
mod signing;
mod stage;
mod sync;
mod words;

pub use build::{
    AgentForward, BuildPlan, CacheEntry, Checkout, Context, ExtraHost, FrontendChoice,
    MetadataDetail, NamedContext, Network, Output, OutputKind, OutputTarget, ProvenanceDetail,
    PushVia, SecretSource, SecretSpec, Ulimit,
};
pub use builders::{Ability, ListedBuilder, Part, divide, listed_builders};
pub use lock::{ImageLock, LockError, Pinning, images_of_graph};
pub use platform::normalize_platform;
pub use policy::{
    PolicyAction, PolicyCondition, PolicyConstraint, PolicyMatch, PolicyRule, PolicySelector,
    PolicyUpdate, SourcePolicy,
};
pub use signing::{BaseKey, IMAGE, SignedBy, SigningPlan};
pub use stage::{Moment, SyncStage};
pub use sync::{
    CheckPlan, Choice, GitFacts, HookPlan, HttpSinkPlan, RecordPlan, RolloutPlan, SyncPlan,
};
pub use words::fill_words;
