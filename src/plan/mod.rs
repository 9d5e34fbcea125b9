//! Policy as data: names, tags, platforms, what a build is asked to do. Pure.

mod build;
mod context;
mod platform;

pub use build::{
    AgentForward, BuildPlan, CacheEntry, Context, ExtraHost, FrontendChoice, NamedContext, Network,
    Output, OutputKind, OutputTarget, PushVia, SecretSource, SecretSpec, Ulimit,
};
pub use platform::normalize_platform;
