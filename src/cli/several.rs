//! `--builder` with a list: a build on several builders at once.

use super::{
    build::Request,
    execute::{self, Surroundings, attended, reach},
};
use crate::{
    buildkit::discover::Found,
    config::{Origin, Setting},
    diagnostic::{Diagnostic, Exit},
    event::{Event, Events, Warning},
    pipeline::{self, Built, Share, builder::Builder},
    plan::{Ability, BuildPlan, ListedBuilder, Part, divide},
    progress::Summary,
};
use futures::future::try_join_all;
use std::time::Instant;

/// Reaches the builders that are listed, divides the platforms between them, and builds.
///
/// # Errors
/// The failure, which is not written yet.
pub(super) fn run(
    request: &Request,
    listed: &[ListedBuilder],
    surroundings: Surroundings<'_>,
) -> Result<(Built, Summary), Box<Diagnostic>> {
    let plan = BuildPlan { platforms: platforms(&request.plan, listed)?, ..request.plan.clone() };
    attended(request, surroundings, async |run: execute::Run<'_>, login, push| {
        let began = Instant::now();
        let reached = try_join_all(listed.iter().map(async |one| {
            let address = Some(one.address.clone());
            let builder = Setting { value: address, origin: Origin::Flag("--builder") };
            reach(&builder, surroundings, &run.events, &run.cancel).await
        }));
        let reached = reached.await?;
        let connect_time = began.elapsed();
        let abilities: Vec<_> = listed.iter().cloned().zip(reached.iter().map(ability)).collect();
        let parts = divide(&plan.platforms, &abilities).map_err(|platform| {
            let message = format!("none of the builders builds {platform}");
            refused(&message, &format!("name one that does: `{platform}=ADDRESS`"))
        })?;
        let mut reached: Vec<Option<Found>> = reached.into_iter().map(Some).collect();
        let mut shares = Vec::new();
        for Part { builder, platforms, emulated } in parts {
            let Some(found) = reached.get_mut(builder).and_then(Option::take) else { continue };
            tell(&emulated, &found, &run.events);
            let inputs = run.clone().inputs(found, connect_time, login.clone(), push.clone());
            shares.push(Share { platforms, inputs });
        }
        let built = pipeline::build_on_several(&plan, shares).await;
        built.map_err(|error| Box::new(Diagnostic::from(error)))
    })
}

/// The platforms that are built: those asked for, else those that the list names.
fn platforms(plan: &BuildPlan, listed: &[ListedBuilder]) -> Result<Vec<String>, Box<Diagnostic>> {
    if !plan.platforms.is_empty() {
        return Ok(plan.platforms.clone());
    }
    let named: Option<Vec<String>> = listed.iter().map(|one| one.platform.clone()).collect();
    named.ok_or_else(|| {
        refused(
            "several builders are listed, and it is not said for which platforms",
            "add `--platform linux/arm64,linux/amd64`, or write `--builder PLATFORM=ADDRESS,…`",
        )
    })
}

fn ability(found: &Found) -> Ability {
    let builder = Builder::reached(&found.connection);
    let mut platforms = builder.platforms.iter().map(|platform| platform.normalized().format());
    Ability { native: platforms.next(), others: platforms.collect() }
}

/// Says which platforms a builder has to emulate: several are listed so that none has to.
fn tell(emulated: &[String], found: &Found, events: &Events) {
    if emulated.is_empty() {
        return;
    }
    events.emit(Event::Warning(Warning {
        code: "PLATFORM_EMULATED",
        message: format!("{} is emulated on `{}`", emulated.join(", "), found.connection.address),
        hint: Some("list a builder of that platform, which is many times as fast".to_owned()),
    }));
}

fn refused(message: &str, fix: &str) -> Box<Diagnostic> {
    Diagnostic::new("SEVERAL_BUILDERS", Exit::Usage, message).with_fix(fix).into()
}
