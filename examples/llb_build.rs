//! Builds an image without any Dockerfile: a graph made with `bk_sync::llb`, solved on a builder,
//! written as an OCI archive.
//!
//! ```text
//! cargo run --example llb_build -- unix:///run/buildkit/buildkitd.sock alpine:3.21 greeting.tar
//! skopeo inspect oci-archive:greeting.tar
//! ```

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example prints by itself")]

use bk_sync::{
    buildkit::{
        address::Address,
        dial,
        errors::Failure,
        gateway::{Gateway, Solve},
        session::{Destination, FileSend, SessionBuilder, random_id},
        solve,
    },
    image::{
        config::{ImageConfig, RunConfig},
        reference::Reference,
    },
    llb::{
        Caps, Constraints, DEFAULT_PATH, Defaults, Definition, Exec, FileAction, Image, Platform,
        ResolveMode, State,
    },
    proto::moby::buildkit::v1::{Exporter, SolveRequest, frontend::Result as BuildResult},
};
use std::{collections::BTreeMap, env, error::Error, path::PathBuf, process::ExitCode};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [builder, base, archive] = arguments.as_slice() else {
        eprintln!("usage: llb_build BUILDER BASE ARCHIVE");
        return ExitCode::from(2);
    };
    match build(builder, base, archive.into()).await {
        Ok(digest) => {
            println!("{digest}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Builds on the builder at `builder`, on top of the image `base`, into the file `archive`. The
/// digest of the image.
pub async fn build(builder: &str, base: &str, archive: PathBuf) -> Result<String, Box<dyn Error>> {
    let address: Address = builder.parse()?;
    let connection = dial::connect(&address, &dial::Options::default()).await?;
    let own = connection.workers.first().and_then(|worker| worker.platforms.first());
    let platform = own.map_or_else(Platform::host, |own| Platform::new(&own.os, &own.architecture));

    // The builder sends the first exporter's output to the first destination.
    let output = FileSend::new(BTreeMap::from([(0, Destination::File(archive))]));
    let session = SessionBuilder::new("llb-build").attach(output);
    let session = session.open(connection.channel.clone()).await?;
    let build_id = random_id();
    let request = SolveRequest {
        r#ref: build_id,
        session: session.id().to_owned(),
        exporters: vec![Exporter { r#type: "oci".to_owned(), attrs: BTreeMap::new() }],
        ..SolveRequest::default()
    };

    let base = Reference::parse(base)?;
    let make = async |gateway: &Gateway| -> Result<BuildResult, Failure> {
        let name = base.to_string();
        let found = gateway
            .resolve_image(&name, Some(platform.to_pb()), ResolveMode::Default, "find the base")
            .await?;
        let caps = Caps::of(gateway.capabilities().llb.iter().cloned());
        let graph = graph(&format!("{name}@{}", found.digest), &platform, caps)
            .map_err(|error| Failure::new(tonic::Code::Internal, error.to_string()))?;
        let solve = Solve { definition: Some(graph.to_pb()), ..Solve::default() };
        let mut result = gateway.solve(solve).await?;
        let config = config(&platform).to_json();
        result.metadata.insert("containerimage.config".to_owned(), config.into_bytes());
        Ok(result)
    };
    let cancel = CancellationToken::new();
    let said =
        solve::run(connection.channel.clone(), session, request, make, drop, &cancel).await?;
    said.get("containerimage.digest").cloned().ok_or_else(|| "the builder named no digest".into())
}

/// A greeting, made by a process on the base and by nobody, beside each other in an empty image
/// together with the shell that prints them.
fn graph(base: &str, platform: &Platform, caps: Caps) -> Result<Definition, bk_sync::llb::Error> {
    let base = Image::new(base).state(Constraints::named("the base").platform(platform.clone()));
    let made = base.clone().env("PATH", DEFAULT_PATH).dir("/tmp").run(
        Exec::new(["/bin/sh", "-c", "echo \"hello from $(uname -m)\" >greeting"]),
        Constraints::named("write a greeting"),
    );
    let written = State::scratch().file(
        vec![
            FileAction::make_dir("/etc/greetings", 0o755, true),
            FileAction::make_file("/etc/greetings/plain", 0o644, "hello\n"),
            FileAction::copy(&made, "/tmp/greeting", "/etc/greetings/made"),
        ],
        Constraints::named("collect them"),
    );
    State::merge(vec![base, written], Constraints::named("put them together"))
        .marshal(&Defaults::new(platform.clone(), Some(caps)))
}

/// What a container of the image runs.
fn config(platform: &Platform) -> ImageConfig {
    ImageConfig {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        config: RunConfig {
            cmd: vec!["/bin/cat".to_owned(), "/etc/greetings/made".to_owned()],
            env: vec![format!("PATH={DEFAULT_PATH}")],
            ..RunConfig::default()
        },
        ..ImageConfig::default()
    }
}
