//! `lock`.

use super::{
    arguments::GlobalArguments,
    build::{self, BuildArguments},
    environment::Environment,
    execute::Surroundings,
    failure::uncompiled,
    imagined::look_pinned,
};
use crate::{
    config::Config,
    diagnostic::{Diagnostic, Exit, Printer},
    pipeline::imagined::Looked,
    plan::ImageLock,
};
use clap::Args;
use serde_json::json;
use std::{collections::BTreeMap, io, io::Write as _, path::Path};

const EXAMPLES: &str = "Examples:
  bk-sync lock .                 hold the base images that bk-sync.lock does not hold yet
  bk-sync lock --update .        take what their names stand for now
  bk-sync build --reproducible . build with what is held";

/// Hold base images by their digests, in bk-sync.lock
///
/// The names in the Dockerfile are looked up; nothing is built. Takes all of build's flags.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct LockArguments {
    #[command(flatten)]
    build: BuildArguments,
    /// Look up again what is held already
    #[arg(long, help_heading = "Lock options")]
    update: bool,
}

impl LockArguments {
    /// Looks images up, and writes what was found.
    pub(super) fn run(
        self,
        global: &GlobalArguments,
        config: Option<&Config>,
        environment: &Environment,
        printer: Printer,
    ) -> Result<Exit, Box<Diagnostic>> {
        let Self { build, update } = self;
        let path = build::lock_path(config);
        let mut lock = build::read_lock(&path)?;
        let surroundings = Surroundings { global, config, environment, printer };
        let ids = build.images(config)?;
        let each = match ids.as_slice() {
            [] => vec![build],
            // All of them, since one lock holds for all.
            ids => ids.iter().map(|id| build.for_each(id)).collect::<Result<_, _>>()?,
        };
        let mut found = BTreeMap::new();
        for one in each {
            found.extend(bases(one, surroundings)?.0);
        }
        let mut changed = BTreeMap::new();
        for (name, digest) in &found {
            let held = lock.0.get(name);
            if held.is_none() || (update && held != Some(digest)) {
                changed.insert(name.clone(), digest.clone());
            }
        }
        lock.0.extend(changed.clone());
        write(&path, &lock).map_err(|error| {
            let message = format!("cannot write `{}`: {error}", path.display());
            Diagnostic::new("FILE_FAILED", Exit::Build, message)
        })?;
        let held: BTreeMap<&String, &String> =
            lock.0.iter().filter(|(name, _)| found.contains_key(*name)).collect();
        let line: Vec<String> =
            held.iter().map(|(name, digest)| format!("{name}@{digest}")).collect();
        let result =
            json!({"file": path.display().to_string(), "images": held, "changed": changed});
        printer
            .success("lock", &line.join("\n"), &result, &[], &[])
            .map_err(|error| Diagnostic::new("INTERNAL", Exit::Internal, error.to_string()))?;
        Ok(Exit::Done)
    }
}

/// The images that what `build` describes starts from, as their names stand for them now.
fn bases(
    build: BuildArguments,
    surroundings: Surroundings<'_>,
) -> Result<ImageLock, Box<Diagnostic>> {
    let graphs = match look_pinned(build, surroundings)? {
        Looked::Graphs(graphs) => graphs.outcome,
        Looked::Wrong(wrong) => {
            return Err(uncompiled(&wrong.outcome, &wrong.file, &wrong.text).into());
        }
        Looked::Checked(_) | Looked::BuilderGraphs(_) | Looked::Compared(_) => {
            let message = "another answer came back in the place of a graph";
            return Err(Diagnostic::new("INTERNAL", Exit::Internal, message).into());
        }
    };
    let ops = graphs.targets.iter().flat_map(|target| target.definition.ops());
    Ok(ImageLock::of_graph(ops.map(|op| op.bytes.as_slice())))
}

/// Writes the lock so that it is there whole or not at all, and only where it changes.
fn write(path: &Path, lock: &ImageLock) -> io::Result<()> {
    let text = lock.render();
    if std::fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut file = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(directory)?;
    file.write_all(text.as_bytes())?;
    file.persist(path).map(drop).map_err(|error| error.error)
}
