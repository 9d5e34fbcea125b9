//! Policy as data: names, tags, platforms, what a build is asked to do. Pure.

mod build;

pub use build::{
    AgentForward, BuildPlan, CacheEntry, Context, ExtraHost, FrontendChoice, NamedContext, Network,
    Output, OutputKind, OutputTarget, PushVia, SecretSource, SecretSpec, Ulimit,
};
