//! The same Dockerfiles compiled here and by the frontend of each real builder: the graphs must be
//! equal byte for byte, what is known of each op too, and the image configs. Nothing is executed.

use std::collections::BTreeMap;

use bk_sync::buildkit::gateway::{Gateway, Solve};
use bk_sync::buildkit::session::{ContextMemory, FileSync, SessionBuilder, random_id};
use bk_sync::compile::{
    Answer, Build, Builder, Compiler, ImageAnswer, Question, Request, Step, WebContext,
};
use bk_sync::filesync::Source;
use bk_sync::llb::{Caps, Platform};
use bk_sync::proto::moby::buildkit::v1::control_client::ControlClient;
use bk_sync::proto::moby::buildkit::v1::frontend::Result as BuildResult;
use bk_sync::proto::moby::buildkit::v1::frontend::result::Result as Kind;
use bk_sync::proto::{moby, pb};
use bytes::Bytes;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use serde_json::Value;

use crate::bed;
use crate::generated::{Generated, generate};
use crate::session::channel;

/// Which release of the frontend a builder has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Release {
    /// The one that we follow.
    Ours,
    /// An older one.
    Older,
}

/// Dockerfiles made up at random, the same in each run.
fn made_up(count: usize) -> Vec<Generated> {
    let images = [bed::base_multi(), bed::base_multi()];
    let mut runner = TestRunner::deterministic();
    let choices = proptest::collection::vec(proptest::num::u16::ANY, 20..400);
    (0..count)
        .map(|_| generate(&choices.new_tree(&mut runner).unwrap().current(), &images))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn graphs_are_those_of_a_buildkitd() {
    let (ops, _) = compare_with(bed::buildkitd(), Release::Ours, &made_up(150)).await;
    assert!(ops > 600, "only {ops} ops were compared");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_are_those_of_a_buildkitd() {
    let spoiled: Vec<Generated> =
        (0..).zip(made_up(100)).map(|(at, made)| spoil(made, at)).collect();
    let (_, refused) = compare_with(bed::buildkitd(), Release::Ours, &spoiled).await;
    assert!(refused > 50, "only {refused} files were refused");
}

/// What makes a Dockerfile wrong (but no second base image: which of two is told is a race there), or only other than it was; whole lines end with a line end.
const SPOILS: [&str; 32] = [
    "${",
    "$",
    "}",
    "'",
    "\"",
    ":",
    "--from=9 ",
    "--chmod=99 ",
    "ENV X=${A:?bad}\n",
    "EXPOSE 80/x\n",
    "EXPOSE 1:2:3\n",
    "EXPOSE 99999\n",
    "STOPSIGNAL nope\n",
    "RUN --mount=type=x y\n",
    "RUN --mount=type=cache y\n",
    "RUN --mount=target=/ y\n",
    "USER\n",
    "COPY a b c\n",
    "COPY https://x.test/y /z\n",
    "ADD --checksum=sha256:12 https://x.test/y /z\n",
    "FROM $NOPE\n",
    "FROM --platform=bad/x/y/z/w scratch\n",
    "ARG A=${B\n",
    "LABEL $A\n",
    "ONBUILD NOPE\n",
    "HEALTHCHECK --interval=1 CMD x\n",
    "VOLUME [\"\"]\n",
    "VOLUME $NOPE\n",
    "RUN --network=x y\n",
    "ENV A=\"b\n",
    "SHELL x\n",
    "COPY --chown=:: a b\n",
];

/// The Dockerfile with two things put in that do not belong there.
fn spoil(mut made: Generated, seed: usize) -> Generated {
    for step in 0..2 {
        let spoil = SPOILS[(seed * 31 + step * 17) % SPOILS.len()];
        let text = &mut made.text;
        let near = (seed * 7919 + step * 104_729) % (text.len() + 1);
        let fits = |&at: &usize| {
            let line_start = at == 0 || text.as_bytes()[at - 1] == b'\n';
            text.is_char_boundary(at) && (line_start || !spoil.ends_with('\n'))
        };
        let at = (near..=text.len()).find(fits).unwrap_or(text.len());
        text.insert_str(at, spoil);
    }
    made
}

/// The text of an error without its suggestion, which is a random one of several equally near.
fn without_suggestion(text: &str) -> &str {
    text.split_once(" (did you mean ").map_or(text, |(before, _)| before)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn graphs_are_those_of_a_docker_with_the_containerd_store() {
    let (ops, _) = compare_with(bed::dockerd(), Release::Older, &made_up(60)).await;
    assert!(ops > 240, "only {ops} ops were compared");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn graphs_are_those_of_a_docker_with_graphdrivers() {
    let (ops, _) = compare_with(bed::dockerd_graphdriver(), Release::Older, &made_up(60)).await;
    assert!(ops > 240, "only {ops} ops were compared");
}

/// Compiles each file here and there, and fails with all that differs. Tells how many ops were
/// compared, and how many files were refused.
async fn compare_with(builder: &str, release: Release, made: &[Generated]) -> (usize, usize) {
    let name = |at: usize| format!("Dockerfile-{at}");
    let files: BTreeMap<String, Bytes> =
        (0..).zip(made).map(|(at, made)| (name(at), Bytes::from(made.text.clone()))).collect();
    let sources = BTreeMap::from(
        ["context", "dockerfile"].map(|local| (local.to_owned(), Source::Memory(files.clone()))),
    );
    let memory = ContextMemory::open(None, &sources);
    let channel = channel(builder).await;
    let session = SessionBuilder::new(random_id())
        .attach(FileSync::new(sources, memory))
        .open(channel.clone())
        .await
        .unwrap();
    let build = random_id();
    let solve = moby::buildkit::v1::SolveRequest {
        r#ref: build.clone(),
        session: session.id().to_owned(),
        ..Default::default()
    };
    let mut control = ControlClient::new(channel.clone());
    let solved = tokio::spawn(async move { control.solve(solve).await });
    let gateway = Gateway::open(channel, &build).await.unwrap();

    let mut differing = Vec::new();
    let (mut equal, mut ops, mut refused) = (0, 0, 0);
    for (at, made) in made.iter().enumerate() {
        // The builder's own platform, one other, and several at once.
        let platform = ["", "linux/arm64", "linux/amd64,linux/arm64"][at % 3];
        let mut attrs = BTreeMap::from([("filename".to_owned(), name(at))]);
        if !platform.is_empty() {
            attrs.insert("platform".to_owned(), platform.to_owned());
        }
        if at % 4 == 3 {
            attrs.insert("build-arg:VERSION".to_owned(), "9".to_owned());
            attrs.insert("no-cache".to_owned(), String::new());
        }
        let theirs = gateway
            .solve(Solve {
                frontend: "dockerfile.v0".to_owned(),
                attributes: attrs.clone(),
                ..Solve::default()
            })
            .await;
        let ours = compile(&gateway, made, attrs, session.id()).await;
        let found = match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => {
                ops += ours.targets.iter().map(|t| t.definition.ops().len()).sum::<usize>();
                differences(&ours, &theirs, release)
            }
            (Err(ours), Err(theirs))
                if without_suggestion(&theirs.message).ends_with(without_suggestion(&ours)) =>
            {
                refused += 1;
                Vec::new()
            }
            (ours, theirs) => {
                let ours = ours.map(|_| "compiles");
                let theirs = theirs.map(|_| "compiles").map_err(|failure| failure.message);
                vec![format!("here {ours:?}, there {theirs:?}")]
            }
        };
        if found.is_empty() {
            equal += 1;
        } else {
            differing.push(format!("{}\n{}", found.join("\n"), made.text));
        }
    }

    gateway.return_result(BuildResult::default()).await.unwrap();
    solved.await.unwrap().unwrap();
    session.close().await.unwrap();
    assert!(
        differing.is_empty(),
        "{equal} are equal, {} differ:\n\n{}",
        differing.len(),
        differing.iter().take(5).cloned().collect::<Vec<_>>().join("\n----\n")
    );
    (ops, refused)
}

async fn compile(
    gateway: &Gateway,
    made: &Generated,
    attrs: BTreeMap<String, String>,
    session: &str,
) -> Result<Build, String> {
    let capabilities = gateway.capabilities();
    let own = &capabilities.workers[0].platforms[0];
    let platform = Platform {
        os: own.os.clone(),
        architecture: own.architecture.clone(),
        variant: own.variant.clone(),
        os_version: own.os_version.clone(),
        os_features: own.os_features.clone(),
    };
    let mut compiler = Compiler::new(Request {
        dockerfile: made.text.clone().into_bytes(),
        attrs,
        ignore_file: None,
        web_context: WebContext::default(),
        builder: Builder { caps: Caps::of(capabilities.llb.iter().cloned()), platform },
        session: session.to_owned(),
    });
    loop {
        let questions = match compiler.step() {
            Step::Done(build) => return Ok(*build),
            // Of several errors, a builder tells the first.
            Step::Failed(failure) => {
                let errors = failure.error.dockerfile_errors();
                let first = errors.map(|errors| errors.first.to_string());
                return Err(first.unwrap_or_else(|| failure.error.to_string()));
            }
            Step::Ask(questions) => questions,
        };
        for question in questions {
            let Question::Image(image) = &question else { panic!("{question:?}") };
            let platform = image.platform.as_ref().map(Platform::to_pb);
            let found = gateway
                .resolve_image(&image.reference, platform, image.mode, &image.log_name)
                .await;
            let answer = found.map_err(|failure| failure.message).map(|found| {
                Answer::Image(ImageAnswer {
                    reference: None,
                    digest: found.digest,
                    config: found.config,
                })
            });
            compiler.answer(question, answer);
        }
    }
}

/// What differs between our build and the frontend's result.
fn differences(ours: &Build, theirs: &BuildResult, release: Release) -> Vec<String> {
    let empty = moby::buildkit::v1::frontend::Ref::default();
    let refs: BTreeMap<String, _> = match &theirs.result {
        Some(Kind::Ref(one)) => BTreeMap::from([(ours.targets[0].id(), one)]),
        Some(Kind::Refs(refs)) => refs.refs.iter().map(|(id, one)| (id.clone(), one)).collect(),
        other => return vec![format!("the frontend's result is {other:?}")],
    };
    let mut found = Vec::new();
    for target in &ours.targets {
        let id = target.id();
        let def = refs.get(&id).unwrap_or(&&empty).def.clone().unwrap_or_default();
        let (ours, theirs) = (comparable(target.definition.to_pb()), comparable(def));
        if ours.def != theirs.def {
            let differs = ours.def.iter().zip(&theirs.def).position(|(a, b)| a != b);
            found.push(format!(
                "{id}: {} ops here, {} there; first difference at {differs:?}",
                ours.def.len(),
                theirs.def.len()
            ));
            if let Some(at) = differs {
                for def in [&ours.def, &theirs.def] {
                    found.push(bk_sync::llb::print::op_json(&def[at]).to_string());
                }
            }
        }
        if ours.metadata != theirs.metadata {
            for (digest, metadata) in &ours.metadata {
                let other = theirs.metadata.get(digest);
                if other != Some(metadata) {
                    found.push(format!("{id}: metadata {metadata:?}, there {other:?}"));
                }
            }
        }
        let places = |def: &pb::Definition| def.source.clone().unwrap_or_default().locations;
        if places(&ours) != places(&theirs) {
            found.push(format!("{id}: places differ"));
        }
    }
    let config_keys: Vec<String> = ours
        .metadata()
        .into_keys()
        .filter(|key| key.starts_with("containerimage.config"))
        .collect();
    for key in config_keys {
        let json = |bytes: Option<&Vec<u8>>| -> Value {
            bytes.map(|bytes| serde_json::from_slice(bytes).unwrap()).unwrap_or_default()
        };
        let metadata = ours.metadata();
        let (ours, theirs) = (json(metadata.get(&key)), json(theirs.metadata.get(&key)));
        let (ours, theirs) = if release == Release::Ours {
            (ours, theirs)
        } else {
            (without_health_history(ours), without_health_history(theirs))
        };
        if ours != theirs {
            found.push(format!("{key}: {ours}\nthere {theirs}"));
        }
    }
    found
}

/// A config whose history does not tell what a `HEALTHCHECK` said: releases print it in different
/// forms, and what it said stands in the config anyway.
fn without_health_history(mut config: Value) -> Value {
    for entry in config["history"].as_array_mut().into_iter().flatten() {
        if entry["created_by"].as_str().is_some_and(|text| text.starts_with("HEALTHCHECK ")) {
            entry["created_by"] = "HEALTHCHECK".into();
        }
    }
    config
}

/// A definition without what is made up anew each time: the ids of progress groups.
fn comparable(mut definition: pb::Definition) -> pb::Definition {
    for metadata in definition.metadata.values_mut() {
        if let Some(group) = &mut metadata.progress_group {
            group.id.clear();
        }
    }
    definition
}
