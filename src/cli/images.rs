//! `build` of several images from one file.

use super::{
    build::{self, BuildArguments, Request},
    execute::{self, Run, Surroundings, attended},
    several,
};
use crate::{
    diagnostic::{Diagnostic, Exit},
    pipeline::{Built, login::Login, push::PushSettings},
    plan::BuildPlan,
};
use serde_json::{Map, Value, json};

/// Builds the images with these ids one after another on one builder: a stage that they share runs for
/// the first, and the others find it.
///
/// # Errors
/// The first failure.
pub(super) fn run(
    ids: &[String],
    arguments: &BuildArguments,
    surroundings: Surroundings<'_>,
    within: build::Surroundings<'_>,
) -> Result<Exit, Box<Diagnostic>> {
    let Surroundings { global, config, environment, printer } = surroundings;
    let mut requests = Vec::new();
    for id in ids {
        let mut request = arguments.for_each(id)?.request(global, config, within)?;
        build::tell_checkout(&mut request.plan, environment)?;
        requests.push((id, request));
    }
    let Some((_, first)) = requests.first() else {
        return Err(Diagnostic::new("USAGE", Exit::Usage, "there is no image to build").into());
    };
    let whole =
        Request { plan: whole(requests.iter().map(|(_, request)| &request.plan)), ..first.clone() };
    let work = async |run: Run<'_>, login: Login, push: PushSettings| {
        let listed = execute::listed(whole.builder.value.as_deref())?;
        let reached = several::reached(&whole.builder, listed.as_deref(), surroundings, &run);
        let reached = reached.await?;
        let inputs = |(connection, took)| {
            run.clone().inputs(connection, took, login.clone(), push.clone()).for_another()
        };
        let mut built = Vec::new();
        for (id, request) in &requests {
            let plan = &request.plan;
            let one = several::on(plan, listed.as_deref(), reached.clone(), inputs, &run.events);
            let one = one.await.map_err(|error| {
                let diagnostic = Diagnostic::from(error);
                Box::new(
                    diagnostic
                        .with_detail("image", id.as_str())
                        .with_note(format!("the image is `{id}`")),
                )
            })?;
            built.push((*id, one));
        }
        Ok(built)
    };
    let (built, summary) = attended(&whole, surroundings, work)?;
    let lines: Vec<String> = built.iter().filter_map(|(_, one)| one.reference()).collect();
    let mut images = Map::new();
    for (id, one) in &built {
        images.insert((*id).clone(), value(one)?);
    }
    let result = json!({ "images": images });
    printer.success("build", &lines.join("\n"), &result, &summary.warnings(), &[]).map_err(
        |error| {
            let message =
                format!("the builds are done, and their results cannot be written: {error}");
            Diagnostic::new("STDOUT_FAILED", Exit::Internal, message)
        },
    )?;
    Ok(Exit::Done)
}

fn value(built: &Built) -> Result<Value, Box<Diagnostic>> {
    serde_json::to_value(built).map_err(|error| execute::internal(&error))
}

/// What all of `plans` need together: of registries, caches and secrets.
fn whole(plans: impl Iterator<Item = impl std::borrow::Borrow<BuildPlan>>) -> BuildPlan {
    let mut whole = BuildPlan::default();
    for plan in plans {
        let plan = plan.borrow();
        whole.push |= plan.push;
        whole.tags.extend(plan.tags.clone());
        whole.outputs.extend(plan.outputs.clone());
        whole.cache_from.extend(plan.cache_from.clone());
        whole.cache_to.extend(plan.cache_to.clone());
        whole.secrets.extend(plan.secrets.clone());
        whole.signing = whole.signing.or_else(|| plan.signing.clone());
    }
    whole
}
