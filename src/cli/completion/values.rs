//! Values that only the place knows: stages of the Dockerfile, codes, steps of the last build, what
//! was deployed.

use super::{cluster, engine::Asked};
use crate::{
    cli::{environment::Environment, execute},
    config::Config,
    diagnostic::codes,
    dockerfile::{self, lint::Linter},
    pipeline::remember,
    record::{History, Receipt},
    rollout::code,
};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The values of an argument, each with what it is; none for one whose values are declared, or are
/// anybody's guess.
pub(super) fn of(asked: &Asked<'_>, environment: &Environment) -> Option<Vec<(String, String)>> {
    match (asked.command, asked.argument) {
        (_, "target" | "no_cache_filter") => Some(stages(asked)),
        (_, "builder") => Some(builders()),
        (_, "image_id") => Some(several(asked)),
        ("explain", "code") => Some(
            codes::all()
                .into_iter()
                .map(|code| (code.code.to_owned(), code.title.to_owned()))
                .collect(),
        ),
        ("history", "id") => Some(deploys(environment)),
        ("reproduce", "reference") => Some([deploys(environment), images(environment)].concat()),
        ("rollout", "image") => Some(images(environment)),
        ("build" | "sync" | "plan", "tags") => Some(tags(environment)),
        ("why", "step") => Some(steps(asked, environment)),
        (_, "kube_context") => Some(cluster::contexts(asked, environment)),
        (_, "namespace") => Some(cluster::namespaces(asked, environment)),
        (_, "workload" | "workloads") => Some(cluster::workloads(asked, environment)),
        (_, "tolerate") => {
            Some(code::ALL.iter().map(|code| (code.to_string(), String::new())).collect())
        }
        (_, "platforms") => Some(
            ["linux/amd64", "linux/arm64", "linux/arm/v7"]
                .map(|platform| (platform.to_owned(), String::new()))
                .to_vec(),
        ),
        _ => None,
    }
}

/// Where the command is to run.
fn directory(asked: &Asked<'_>) -> PathBuf {
    asked.given.get("directory").map_or_else(|| PathBuf::from("."), PathBuf::from)
}

/// The stages of the Dockerfile that the command would read.
fn stages(asked: &Asked<'_>) -> Vec<(String, String)> {
    let directory = directory(asked);
    let Some(text) = dockerfiles(asked, &directory).iter().find_map(|path| fs::read(path).ok())
    else {
        return Vec::new();
    };
    let mut linter = Linter::default();
    let Ok(parsed) = dockerfile::parse(&text, &mut linter) else { return Vec::new() };
    let named = parsed.stages.into_iter().filter_map(|stage| {
        let help = stage.from.doc_comment.unwrap_or_else(|| format!("FROM {}", stage.from.base));
        Some((stage.from.name?, help))
    });
    named.collect()
}

/// The Dockerfiles that may be meant, the likeliest first.
fn dockerfiles(asked: &Asked<'_>, directory: &Path) -> Vec<PathBuf> {
    let context = asked.given.get("context").map_or(".", String::as_str);
    if let Some(file) = asked.given.get("file") {
        return vec![directory.join(file), directory.join(context).join(file)];
    }
    let mut found = Vec::new();
    if !asked.given.contains_key("context")
        && let Ok(Some(config)) = Config::find(directory, None)
        && let Some(file) = &config.sections.build.file
        && let Ok(file) = file.fill(|_| Err(()))
    {
        found.push(config.directory().join(file));
    }
    found.push(directory.join(context).join("Dockerfile"));
    found
}

/// The ids of several images.
fn several(asked: &Asked<'_>) -> Vec<(String, String)> {
    let Ok(Some(config)) = Config::find(&directory(asked), None) else { return Vec::new() };
    let images = config.sections.images.into_iter();
    let help = |name: Option<crate::config::Template>| name.map(|name| name.source());
    images.map(|one| (one.id.value, help(one.image.name).unwrap_or_default())).collect()
}

/// The beginnings of addresses.
fn builders() -> Vec<(String, String)> {
    [
        ("docker://", "the Docker of the environment, or of a socket"),
        ("docker-container://", "buildkitd in a container"),
        ("kube-pod://", "buildkitd in a pod"),
        ("podman-container://", "buildkitd in a container of Podman"),
        ("ssh://", "buildkitd on another machine"),
        ("tcp://", "buildkitd on the network"),
        ("unix://", "buildkitd on a socket"),
    ]
    .map(|(scheme, help)| (scheme.to_owned(), help.to_owned()))
    .to_vec()
}

/// What is recorded of deploys, the newest first.
fn receipts(environment: &Environment) -> Vec<Receipt> {
    let state = execute::state(environment);
    state.and_then(|state| History::new(&state).list(None).ok()).unwrap_or_default()
}

/// The ids of deploys.
fn deploys(environment: &Environment) -> Vec<(String, String)> {
    let shown = |receipt: Receipt| {
        let help = format!("{} {}", receipt.outcome.name(), receipt.project);
        (receipt.id, help)
    };
    receipts(environment).into_iter().map(shown).collect()
}

/// The images that were deployed, by their digests.
fn images(environment: &Environment) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for receipt in receipts(environment) {
        let Some(image) = receipt.image else { continue };
        if found.iter().all(|(known, _)| *known != image.reference) {
            found.push((image.reference, receipt.reason));
        }
    }
    found
}

/// The names that images were pushed under.
fn tags(environment: &Environment) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for receipt in receipts(environment) {
        for tag in receipt.tags() {
            if found.iter().all(|(known, _)| known != tag) {
                found.push((tag.clone(), receipt.project.clone()));
            }
        }
    }
    found
}

/// The steps of the last build from here.
fn steps(asked: &Asked<'_>, environment: &Environment) -> Vec<(String, String)> {
    let directory = directory(asked);
    let context =
        asked.given.get("context").map_or_else(|| directory.clone(), |dir| directory.join(dir));
    let last = execute::state(environment)
        .and_then(|state| remember::last_build(&state, &context, |_| true).ok().flatten());
    let Some((last, _)) = last else { return Vec::new() };
    let written = last.steps.into_iter().filter(|step| step.line > 0);
    written.map(|step| (format!(":{}", step.line), step.name)).collect()
}
