//! Policy as data: names, tags, platforms, what a build is asked to do. Pure.

mod build;
mod context;
mod platform;
mod stage;
mod sync;
mod words;

pub use build::{
    AgentForward, BuildPlan, CacheEntry, Context, ExtraHost, FrontendChoice, NamedContext, Network,
    Output, OutputKind, OutputTarget, PushVia, SecretSource, SecretSpec, Ulimit,
};
pub use platform::normalize_platform;
pub use stage::{Moment, SyncStage};
pub use sync::{
    CheckPlan, Choice, GitFacts, HookPlan, HttpSinkPlan, RecordPlan, RolloutPlan, SyncPlan,
};
pub use words::fill_words;
