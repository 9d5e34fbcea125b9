//! `--builder` with a list: a build on several builders at once.

use super::{
    build::Request,
    execute::{Run, Surroundings, attended, reach},
};
use crate::{
    buildkit::dial::Connection,
    config::{Origin, Setting},
    diagnostic::Diagnostic,
    event::Events,
    pipeline::{self, Built, Inputs, several},
    plan::{BuildPlan, ListedBuilder},
    progress::Summary,
};
use futures::future::try_join_all;
use std::time::{Duration, Instant};

/// Reaches the builders that are listed, divides the platforms between them, and builds.
///
/// # Errors
/// The failure, which is not written yet.
pub(super) fn run(
    request: &Request,
    listed: &[ListedBuilder],
    surroundings: Surroundings<'_>,
) -> Result<(Built, Summary), Box<Diagnostic>> {
    attended(request, surroundings, async |run: Run<'_>, login, push| {
        let reached = reached(&request.builder, Some(listed), surroundings, &run).await?;
        let inputs =
            |(connection, took)| run.clone().inputs(connection, took, login.clone(), push.clone());
        let built = on(&request.plan, Some(listed), reached, inputs, &run.events).await;
        built.map_err(|error| Box::new(Diagnostic::from(error)))
    })
}

/// Reaches the builders that are `listed`, or else the one that `builder` names, and says how long that
/// took.
///
/// # Errors
/// One is not reached, or the user wants no more of it.
pub(super) async fn reached(
    builder: &Setting<Option<String>>,
    listed: Option<&[ListedBuilder]>,
    surroundings: Surroundings<'_>,
    run: &Run<'_>,
) -> Result<Vec<(Connection, Duration)>, Box<Diagnostic>> {
    let named = |one: &ListedBuilder| Setting {
        value: Some(one.address.clone()),
        origin: Origin::Flag("--builder"),
    };
    let builders = match listed {
        Some(listed) => listed.iter().map(named).collect(),
        None => vec![builder.clone()],
    };
    let reached = builders.iter().map(async |one| {
        let began = Instant::now();
        let found = reach(one, surroundings, &run.events, &run.cancel).await?;
        Ok((found.connection, began.elapsed()))
    });
    try_join_all(reached).await
}

/// Builds on what is `reached`: on all that are `listed`, or on the only one. `inputs` says what a build
/// on one of them needs.
pub(super) async fn on(
    plan: &BuildPlan,
    listed: Option<&[ListedBuilder]>,
    mut reached: Vec<(Connection, Duration)>,
    inputs: impl Fn((Connection, Duration)) -> Inputs,
    events: &Events,
) -> Result<Built, pipeline::Error> {
    if let Some(listed) = listed {
        let (plan, shares) = several::divided(plan, listed, reached, inputs, events)?;
        return Box::pin(several::build_on_several(&plan, shares)).await;
    }
    let only = reached
        .pop()
        .ok_or_else(|| pipeline::Error::Builder { message: "none is reached".to_owned() })?;
    Box::pin(pipeline::build(plan, inputs(only))).await
}
