//! What is looked at before anything changes, beside the cluster: who builds the image, who takes
//! it, who is asked about it afterwards. A deploy that would fail at one of them builds nothing.

use super::{Outcome, real::Real};
use crate::{
    buildkit::dial::{Connection, FreeDisk},
    compile::Build,
    diagnostic::{Diagnostic, Exit},
    event::{Event, Events, Warning},
    image::reference::Reference,
    llb::Platform,
    pipeline::{
        self, Error, Inputs, Look, Wanted, doctor::free_disk, imagined::Looked, preflight_push,
        push::Targets,
    },
    plan::BuildPlan,
    proto::pb::{self, op},
    verify::inngest::{checks::InngestCheck, runs::WhileRunning, server::Server},
};
use prost::Message as _;
use std::{collections::BTreeSet, time::Duration};
use tokio_util::sync::CancellationToken;

/// How long an Inngest server may take to answer.
const INNGEST_PATIENCE: Duration = Duration::from_secs(20);

/// What stands in the way, gathered: all of it is told at once.
#[derive(Default)]
struct Obstacles(Vec<Diagnostic>);

impl Obstacles {
    /// Keeps what `looked` found in the way.
    fn note<T>(&mut self, looked: Outcome<T>) -> Option<T> {
        looked.map_err(|obstacle| self.0.push(*obstacle)).ok()
    }

    /// The first obstacle, with the others beside it; an interruption before all.
    fn into_outcome(mut self) -> Outcome<()> {
        let interrupted = self.0.iter().position(|one| one.exit == Exit::Interrupted);
        if let Some(at) = interrupted {
            return Err(Box::new(self.0.swap_remove(at)));
        }
        let mut all = self.0.into_iter();
        let Some(mut first) = all.next() else { return Ok(()) };
        for more in all {
            first = first.with_note(format!("{}: {}", more.code, more.message));
        }
        Err(Box::new(first))
    }
}

/// Looks at everything that the deploy will need. `resumed` says that the image is pushed already.
pub(super) async fn preflight(
    real: &mut Real<'_>,
    resumed: bool,
    cancel: &CancellationToken,
) -> Outcome<()> {
    let mut obstacles = Obstacles::default();
    if !resumed {
        if let Some(reached) = obstacles.note(real.connect(cancel).await) {
            builders(real, &reached, &mut obstacles, cancel).await;
        }
        obstacles.note(registry(real, cancel).await);
    }
    if let Some(target) = &mut real.target {
        let looked = target.preflight(cancel).await;
        if obstacles.note(looked).is_some() {
            obstacles.note(target.check_rights(cancel).await);
        }
        let inngest = target.inngest().cloned();
        if let Some(check) = inngest {
            obstacles.note(server(&check, &real.parts.events, cancel).await);
        }
    }
    obstacles.into_outcome()
}

/// Whether the builders that are reached can do what they are for.
async fn builders(
    real: &mut Real<'_>,
    reached: &[(Connection, Duration)],
    obstacles: &mut Obstacles,
    cancel: &CancellationToken,
) {
    for (connection, _) in reached {
        obstacles.note(disk(real, connection).await);
    }
    let plan = &real.plan.build;
    let divided = real.divided(plan, cancel, &real.parts.events);
    match (obstacles.note(divided).flatten(), reached) {
        (Some((_, shares)), _) => {
            for share in shares {
                let looked = emulation(plan, &share.platforms, share.inputs);
                obstacles.note(Box::pin(looked).await);
            }
        }
        (None, [only]) => {
            let native = pipeline::builder::Builder::new(&only.0.workers).platforms;
            let inputs = real.inputs((only.0.clone(), Duration::ZERO), cancel);
            let looked = emulation(plan, &plan.platforms, inputs);
            obstacles.note(Box::pin(looked).await);
            if let Some(target) = &mut real.target {
                target.note_native(native.first().map(Platform::format));
            }
        }
        // Why the builders do not go together is among the obstacles.
        (None, _) => {}
    }
}

/// Full disks end builds in the middle, and on a machine that is a node too they end pods.
async fn disk(real: &Real<'_>, connection: &Connection) -> Outcome<()> {
    let needed = real.plan.free_disk;
    match free_disk(&connection.address, &real.parts.options).await {
        Some(FreeDisk { place, bytes: free }) if free < needed => Err(Diagnostic::new(
            "BUILDER_DISK_FULL",
            Exit::Preflight,
            format!(
                "{} MB are free at `{place}`, where `{}` keeps its data, and a build should find {} MB",
                free / 1_000_000,
                connection.address,
                needed / 1_000_000
            ),
        )
        .with_detail("free", free)
        .with_fix(
            "remove what is not in use (`bk-sync builder prune`), or set `free_disk` in `[deploy]`",
        )
        .into()),
        Some(_) | None => Ok(()),
    }
}

/// Steps for a platform that the builder cannot run end with `exec format error`. A platform that no
/// step runs on is no obstacle: then files are only copied.
async fn emulation(plan: &BuildPlan, wanted: &[String], inputs: Inputs) -> Outcome<()> {
    let address = inputs.connection.address.to_string();
    let builder = pipeline::builder::Builder::new(&inputs.connection.workers);
    let known: Vec<String> = builder.platforms.iter().map(Platform::format).collect();
    if known.is_empty() || wanted.iter().all(|platform| runs(&known, platform)) {
        return Ok(());
    }
    let look = Look { wanted: Wanted::Graphs, session_id: None };
    let plan = BuildPlan { platforms: wanted.to_vec(), ..plan.clone() };
    let looked = pipeline::look(&plan, inputs, look).await;
    let build = match looked.map_err(|error| Box::new(Diagnostic::from(error)))? {
        Looked::Graphs(compiled) => compiled.outcome,
        Looked::BuilderGraphs(build) => build,
        // What is wrong with the Dockerfile is said when it is built, with the place.
        Looked::Checked(_) | Looked::Compared(_) | Looked::Wrong(_) => return Ok(()),
    };
    let missing: Vec<String> =
        platforms_of_steps(&build).into_iter().filter(|platform| !runs(&known, platform)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let message = format!(
        "`{address}` runs {}, and steps of this Dockerfile run on {}: they would end with `exec format \
         error`",
        known.join(", "),
        missing.join(", ")
    );
    Err(Diagnostic::new("EMULATION_MISSING", Exit::Preflight, message)
        .with_fix(
            "register an emulator with the builder's kernel (`binfmt_misc`), or name a builder of \
             that platform",
        )
        .into())
}

fn runs(known: &[String], platform: &str) -> bool {
    known.iter().any(|one| one == platform || one.starts_with(&format!("{platform}/")))
}

/// The platforms that a build's steps run on.
fn platforms_of_steps(build: &Build) -> BTreeSet<String> {
    let ops = build.targets.iter().flat_map(|target| target.definition.ops());
    ops.filter_map(|op| pb::Op::decode(op.bytes.as_slice()).ok())
        .filter(|op| matches!(op.op, Some(op::Op::Exec(_))))
        .filter_map(|op| op.platform)
        .map(|platform| pipeline::builder::platform(&platform).format())
        .collect()
}

/// Whether the registries of the image take a push from us.
async fn registry(real: &Real<'_>, cancel: &CancellationToken) -> Outcome<()> {
    let names: Vec<Reference> =
        real.plan.build.tags.iter().filter_map(|tag| Reference::parse(tag).ok()).collect();
    let parts = &real.parts;
    let targets = Targets::new(&names, false, &parts.login, &parts.push.reach);
    // Who will push is decided by the builder, so a registry that we do not reach refuses nothing.
    let asked = preflight_push::check(&targets, false, &parts.login, &parts.events, None);
    let failure = tokio::select! {
        asked = asked => match asked {
            Ok(()) => return Ok(()),
            Err(failure) => Error::Preflight(failure),
        },
        () = cancel.cancelled() => Error::Interrupted,
    };
    Err(Box::new(failure.into()))
}

/// Whether the Inngest server answers that the new pods are to be registered with, and whether runs go
/// on that a rollout would end.
async fn server(check: &InngestCheck, events: &Events, cancel: &CancellationToken) -> Outcome<()> {
    let ask = async {
        let server = Server::new(&check.url, check.signing_key.clone())?;
        server.apps(&check.app).await?;
        match check.running {
            Some(_) => server.running(&check.app, jiff::Timestamp::now()).await,
            None => Ok(0),
        }
    };
    let words = tokio::select! {
        asked = tokio::time::timeout(INNGEST_PATIENCE, ask) => match asked {
            Ok(Ok(0)) => return Ok(()),
            Ok(Ok(count)) => return running(check, count, events),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!(
                "the Inngest server gave no answer within {} s",
                INNGEST_PATIENCE.as_secs()
            ),
        },
        () = cancel.cancelled() => return Err(Box::new(Error::Interrupted.into())),
    };
    Err(Diagnostic::new("INNGEST_SERVER_SILENT", Exit::Preflight, words)
        .with_fix(
            "see that the server runs and can be reached from here, or mend `verify.inngest.url`",
        )
        .into())
}

/// Runs that go on: told, or a refusal, as the config has it.
fn running(check: &InngestCheck, count: usize, events: &Events) -> Outcome<()> {
    const CODE: &str = "INNGEST_RUNS_ACTIVE";
    let message = format!(
        "{count} runs of `{}` go on, and a rollout ends the steps that run in old pods",
        check.app
    );
    if check.running == Some(WhileRunning::Refuse) {
        return Err(Diagnostic::new(CODE, Exit::Preflight, message)
            .with_fix(
                "wait until they are done, or set `running = \"report\"` in `[verify.inngest]`",
            )
            .into());
    }
    let hint = Some("see that their functions are retried".to_owned());
    events.emit(Event::Warning(Warning { code: CODE, message, hint }));
    Ok(())
}
