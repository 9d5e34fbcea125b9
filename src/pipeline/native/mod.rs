//! The Dockerfile compiled in this process: what the compiler asks is answered over the gateway and
//! from the client's own directories, and what it makes is handed to the builder.

mod answer;
mod dockerfile;
mod look;
mod time;

use super::frontend::{
    Compiled, DaemonFrontend, Frontend, FrontendError, FrontendInput, LocalDockerfile, syntax,
};
use crate::{
    buildkit::{
        errors::{Code, Failure, Source},
        gateway::{Gateway, Solve},
    },
    compile::{self, Build, CompileError, Compiler, Fault, Request, Step},
    dockerfile::{Lines, lint},
    llb::{Caps, Platform, SourceMap},
    pipeline::{attributes::DEFAULT_PROVENANCE, error::Refusal},
    plan::{FrontendChoice, Pinning},
    proto::{
        moby::buildkit::v1::frontend::{
            Ref, RefMap, Result as BuildResult, WarnRequest, result::Result as Kind,
        },
        pb,
    },
};
pub(super) use look::Looking;
pub use look::Wanted;

use answer::Answers;
use futures::future::{BoxFuture, try_join_all};
use prost::Message as _;
use std::sync::Arc;

/// Compiles here. A file whose `# syntax` line names another frontend than the standard one is
/// handed to that, unless this one was asked for by name.
#[derive(Clone, Copy, Debug)]
pub(super) struct NativeFrontend {
    choice: FrontendChoice,
}

impl NativeFrontend {
    /// `choice` is `Native` to compile whatever the `# syntax` line says.
    pub(super) fn new(choice: FrontendChoice) -> Self {
        Self { choice }
    }
}

impl Frontend for NativeFrontend {
    fn compile<'a>(
        &'a self,
        gateway: &'a Gateway,
        input: &'a FrontendInput,
    ) -> BoxFuture<'a, Result<Compiled, FrontendError>> {
        Box::pin(async move {
            if self.choice == FrontendChoice::Auto && needs_daemon(input) {
                return DaemonFrontend::new(self.choice).compile(gateway, input).await;
            }
            let entry = dockerfile::read(gateway, input).await?;
            if self.choice == FrontendChoice::Auto {
                let text = entry.text.clone().into();
                let name = entry.filename.clone();
                let dockerfile = Some(LocalDockerfile { name, text });
                let known = FrontendInput { dockerfile, ..input.clone() };
                if syntax(&known).is_some_and(|syntax| !syntax.is_standard) {
                    return DaemonFrontend::new(self.choice).compile(gateway, &known).await;
                }
            }
            native(gateway, input, entry).await
        })
    }
}

/// What only a frontend on the builder can do: scanning the stages for a bill of materials runs a
/// scanner's image on their results, and a builder's own account of how a build was asked for is what it
/// saw its frontend being asked.
fn needs_daemon(input: &FrontendInput) -> bool {
    let provenance = input.attributes.get("attest:provenance");
    input.attributes.contains_key("attest:sbom")
        || provenance.is_some_and(|asked| asked != DEFAULT_PROVENANCE)
}

async fn native(
    gateway: &Gateway,
    input: &FrontendInput,
    entry: dockerfile::Dockerfile,
) -> Result<Compiled, FrontendError> {
    solve(gateway, input, *graphs(gateway, input, entry).await?).await
}

/// The graphs of another build, which nobody solves by themselves.
async fn compiled(gateway: &Gateway, input: &FrontendInput) -> Result<Box<Build>, FrontendError> {
    let entry = dockerfile::read(gateway, input).await?;
    graphs(gateway, input, entry).await
}

async fn graphs(
    gateway: &Gateway,
    input: &FrontendInput,
    entry: dockerfile::Dockerfile,
) -> Result<Box<Build>, FrontendError> {
    let mut answers = Answers::new(gateway, input);
    let mut compiler = Compiler::new(Request {
        dockerfile: entry.text.clone(),
        attrs: input.attributes.clone(),
        ignore_file: entry.ignore_file.clone(),
        web_context: entry.web_context,
        builder: builder(gateway),
        session: input.session_id.clone(),
    });
    let build = loop {
        match compiler.step() {
            Step::Ask(questions) => {
                for (question, answer) in answers.to(questions).await? {
                    compiler.answer(question, answer);
                }
            }
            Step::Done(build) => break build,
            Step::Failed(failure) => {
                return Err(refusal(&failure.error, &entry));
            }
        }
    };
    for warning in &build.warnings {
        if let Some(source) = &build.source_map {
            gateway.warn(told(warning, source)).await?;
        }
    }
    if matches!(input.pinning, Pinning::Locked(_)) {
        refuse_moving_sources(&build)?;
    }
    Ok(build)
}

/// Refuses what may be something else tomorrow: files of the web without a checksum, branches and tags.
fn refuse_moving_sources(build: &Build) -> Result<(), Refusal> {
    let ops = build.targets.iter().flat_map(|target| target.definition.ops());
    let sources = ops.filter_map(|op| match pb::Op::decode(op.bytes.as_slice()).ok()?.op {
        Some(pb::op::Op::Source(source)) => Some(source),
        _ => None,
    });
    let mut moving: Vec<String> = sources
        .filter(|source| match source.identifier.split_once("://") {
            Some(("http" | "https", _)) => !source.attrs.contains_key("http.checksum"),
            Some(("git", rest)) => {
                let commit = rest.rsplit_once('#').map_or("", |(_, reference)| reference);
                let commit = commit.split(':').next().unwrap_or_default();
                let is_whole =
                    commit.len() >= 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
                !is_whole && !source.attrs.contains_key("git.checksum")
            }
            _ => false,
        })
        .map(|source| source.identifier)
        .collect();
    moving.sort_unstable();
    moving.dedup();
    if moving.is_empty() {
        return Ok(());
    }
    Err(Refusal::new(
        "SOURCE_NOT_LOCKED",
        format!("what is behind `{}` may change", moving.join("`, `")),
    )
    .with_fix("give a file of the web `ADD --checksum=…`, and a repository a whole commit hash"))
}

/// What the graph is made for.
fn builder(gateway: &Gateway) -> compile::Builder {
    let capabilities = gateway.capabilities();
    let platform = capabilities
        .workers
        .first()
        .and_then(|worker| worker.platforms.first())
        .map_or_else(Platform::host, |own| Platform {
            os: own.os.clone(),
            architecture: own.architecture.clone(),
            variant: own.variant.clone(),
            os_version: own.os_version.clone(),
            os_features: own.os_features.clone(),
        });
    compile::Builder { caps: Caps::of(capabilities.llb.iter().cloned()), platform }
}

/// Hands the graphs over, side by side. Nothing runs before the result is returned.
async fn solve(
    gateway: &Gateway,
    input: &FrontendInput,
    build: Build,
) -> Result<Compiled, FrontendError> {
    let refs = try_join_all(build.targets.iter().map(async |target| {
        let solved = gateway
            .solve(Solve {
                definition: Some(target.definition.to_pb()),
                cache_imports: input.cache_imports.clone(),
                ..Solve::default()
            })
            .await?;
        let reference = match solved.result {
            Some(Kind::Ref(reference)) => reference,
            Some(Kind::RefDeprecated(id)) => Ref { id, def: None },
            // An empty image has no result.
            None => Ref::default(),
            Some(Kind::Refs(_) | Kind::RefsDeprecated(_)) => {
                let message = "the builder answered one graph with several results";
                return Err(Failure::new(Code::Internal, message));
            }
        };
        Ok((target.id(), reference))
    }))
    .await?;
    let only = match refs.as_slice() {
        [(_, reference)] if !build.multi_platform => Some(reference.clone()),
        _ => None,
    };
    let result =
        only.map_or_else(|| Kind::Refs(RefMap { refs: refs.into_iter().collect() }), Kind::Ref);
    let llb_digest = match build.targets.as_slice() {
        [target] => target.definition.head().map(str::to_owned),
        _ => None,
    };
    let heads = build.targets.iter().filter_map(|target| target.definition.head());
    Ok(Compiled {
        result: BuildResult {
            result: Some(result),
            metadata: build.metadata(),
            ..BuildResult::default()
        },
        frontend: "native".to_owned(),
        llb_digest,
        heads: heads.map(str::to_owned).collect(),
        graphs: Some(Arc::new(build)),
    })
}

/// A warning in the builder's words, on the vertex that the file would be read by.
fn told(warning: &lint::Warning, source: &Arc<SourceMap>) -> WarnRequest {
    let message = format!("{}: {} (line {})", warning.rule, warning.message, warning.lines.first);
    let digest = source.definition.as_ref().and_then(|definition| definition.head());
    WarnRequest {
        digest: digest.unwrap_or_default().to_owned(),
        level: 1,
        short: message.into_bytes(),
        detail: vec![warning.description.as_bytes().to_vec()],
        url: warning.url.to_owned(),
        info: Some(source.to_pb()),
        ranges: warning.lines.each().map(range).collect(),
    }
}

fn range(line: u32) -> pb::Range {
    let line = i32::try_from(line).unwrap_or(i32::MAX);
    crate::llb::Range::lines(line, line).to_pb()
}

/// Why nothing could be compiled: what the builder failed to look up is its failure, with the
/// place that asked for it; all else is the Dockerfile's.
fn refusal(error: &CompileError, entry: &dockerfile::Dockerfile) -> FrontendError {
    let place = |lines: &Lines| Source {
        filename: entry.filename.clone(),
        data: entry.text.clone(),
        lines: vec![(lines.first, lines.last)],
    };
    let sources: Vec<Source> = error.places.iter().flatten().map(place).collect();
    match &*error.fault {
        Fault::BaseImage { .. } | Fault::Lookup(_) => {
            let mut failure = Failure::new(Code::Unknown, error.to_string());
            failure.details.sources = sources;
            FrontendError::Builder(failure)
        }
        _ => FrontendError::Dockerfile { message: error.to_string(), sources, fix: error.hint() },
    }
}
