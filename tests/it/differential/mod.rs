//! The same Dockerfiles compiled here and by the frontend of each real builder: the graphs must be
//! equal byte for byte, what is known of each op too, and the image configs; so must errors, their places, warnings,
//! and what a check says. Nothing is executed.

mod case;
mod found;
mod images;
mod sides;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bk_sync::buildkit::gateway::Gateway;
use bk_sync::buildkit::session::{ContextMemory, FileSync, SessionBuilder, random_id};
use bk_sync::filesync::Source;
use bk_sync::proto::moby::buildkit::v1::control_client::ControlClient;
use bk_sync::proto::moby::buildkit::v1::frontend::Result as BuildResult;
use bk_sync::proto::moby::buildkit::v1::{SolveRequest, StatusRequest, VertexWarning};
use bytes::Bytes;
use futures::StreamExt as _;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use crate::bed;
use crate::generated::{Generated, generate};
use crate::session::channel;
use case::Case;
use sides::Here;

/// How many cases are compared at once.
const AT_ONCE: usize = 4;

/// Which release of the frontend a builder has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Release {
    /// The one that we follow.
    Ours,
    /// An older one.
    Older,
}

/// Dockerfiles made up at random, the same in each run.
fn made_up(count: usize) -> Vec<Case> {
    cases_of(&generated(0, count))
}

fn cases_of(made: &[Generated]) -> Vec<Case> {
    (0..).zip(made).map(|(at, made)| Case::made(made, at)).collect()
}

/// `count` Dockerfiles; another batch has others.
fn generated(batch: u8, count: usize) -> Vec<Generated> {
    let images = [bed::base_multi(), bed::base_multi()];
    let config = proptest::test_runner::Config::default();
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &[batch; 32]);
    let mut runner = TestRunner::new_with_rng(config, random);
    let choices = proptest::collection::vec(proptest::num::u16::ANY, 20..400);
    (0..count)
        .map(|_| generate(&choices.new_tree(&mut runner).unwrap().current(), &images))
        .collect()
}

/// Those of which an older release makes the same: it knows no `--parents`, and names directories otherwise.
fn known_before(mut cases: Vec<Case>) -> Vec<Case> {
    cases.retain(|case| {
        let text = String::from_utf8_lossy(&case.text);
        !text.contains("--parents") && case.attrs.values().all(|value| value != "local:tidy")
    });
    cases
}

/// Which batches of random Dockerfiles are compared: the first, or those that `BK_SYNC_TEST_BATCHES`
/// names, as `3..9`.
#[expect(clippy::disallowed_methods, reason = "whoever runs the tests says how much")]
fn batches() -> std::ops::Range<u8> {
    let Ok(wanted) = std::env::var("BK_SYNC_TEST_BATCHES") else { return 0..1 };
    let (from, to) = wanted.split_once("..").expect("two numbers, as `3..9`");
    from.parse().unwrap()..to.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn graphs_are_those_of_a_buildkitd() {
    for batch in batches() {
        let cases = cases_of(&generated(batch, 150));
        let seen = compare_with(bed::buildkitd(), Release::Ours, &cases).await;
        assert!(seen.ops > 400, "only {seen:?} was compared");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_are_those_of_a_buildkitd() {
    for batch in batches() {
        let spoiled: Vec<Generated> =
            (0..).zip(generated(batch, 100)).map(|(at, made)| spoil(made, at)).collect();
        let seen = compare_with(bed::buildkitd(), Release::Ours, &cases_of(&spoiled)).await;
        assert!(seen.refused > 50, "only {seen:?} was compared");
    }
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn graphs_are_those_of_a_docker_with_the_containerd_store() {
    let seen = compare_with(bed::dockerd(), Release::Older, &known_before(made_up(60))).await;
    assert!(seen.ops > 100, "only {seen:?} was compared");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn graphs_are_those_of_a_docker_with_graphdrivers() {
    let seen =
        compare_with(bed::dockerd_graphdriver(), Release::Older, &known_before(made_up(60))).await;
    assert!(seen.ops > 100, "only {seen:?} was compared");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_files_of_cases_are_compiled_as_by_a_buildkitd() {
    let cases = case::read();
    let seen = compare_with(bed::buildkitd(), Release::Ours, &cases).await;
    assert!(cases.len() > 400 && seen.ops > 700, "only {seen:?} was compared");
    assert!(seen.refused > 200 && seen.warnings > 200, "only {seen:?} was compared");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_files_of_cases_are_compiled_as_by_both_dockers() {
    let (newer, same): (Vec<Case>, Vec<Case>) =
        case::read().into_iter().partition(|case| case.newer.is_some());
    let mut otherwise = BTreeSet::new();
    for builder in [bed::dockerd(), bed::dockerd_graphdriver()] {
        let seen = compare_with(builder, Release::Older, &same).await;
        assert!(seen.ops > 600, "only {seen:?} was compared");
        let (_, differing) = compared(builder, Release::Older, &newer).await;
        otherwise.extend(differing.into_keys());
    }
    // A mark that hides nothing would hide what breaks later.
    let needless: Vec<&str> =
        (0..newer.len()).filter(|at| !otherwise.contains(at)).map(|at| &*newer[at].name).collect();
    assert!(needless.is_empty(), "marked as newer, yet equal on both: {needless:#?}");
}

/// How much was compared.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    ops: usize,
    refused: usize,
    warnings: usize,
}

/// What came of one case.
struct Outcome {
    differs: Vec<String>,
    ops: usize,
    refused: bool,
    /// Our warnings, which the builder's are compared with when all of those are there.
    warnings: Vec<bk_sync::dockerfile::lint::Warning>,
}

/// The directories that cases may name as contexts.
fn directories(files: BTreeMap<String, Bytes>) -> BTreeMap<String, Source> {
    let one = |name: &str, text: &'static str| {
        Source::Memory(BTreeMap::from([(name.to_owned(), Bytes::from_static(text.as_bytes()))]))
    };
    BTreeMap::from([
        ("context".to_owned(), Source::Memory(files.clone())),
        ("dockerfile".to_owned(), Source::Memory(files)),
        ("plain".to_owned(), one("a.txt", "a\n")),
        ("tidy".to_owned(), one(".dockerignore", "# not these\n*.md\n!keep.md\n/tmp/\n")),
    ])
}

/// Compiles each case here and there, and fails with all that differs.
async fn compare_with(builder: &str, release: Release, cases: &[Case]) -> Seen {
    let (seen, differing) = compared(builder, release, cases).await;
    assert!(
        differing.is_empty(),
        "{} of {} cases differ:\n\n{}",
        differing.len(),
        cases.len(),
        differing.into_values().collect::<Vec<_>>().join("\n----\n")
    );
    seen
}

/// Compiles each case here and there. Tells what differs, by the case's place in the list.
async fn compared(
    builder: &str,
    release: Release,
    cases: &[Case],
) -> (Seen, BTreeMap<usize, String>) {
    let name = |at: usize| format!("Dockerfile-{at}");
    let mut files = BTreeMap::new();
    for (at, case) in cases.iter().enumerate() {
        files.insert(name(at), Bytes::from(case.text.clone()));
        if let Some(ignore) = &case.ignore {
            files.insert(format!("{}.dockerignore", name(at)), Bytes::from(ignore.clone()));
        }
    }
    let sources = directories(files);
    let memory = ContextMemory::open(None, &sources);
    let channel = channel(builder).await;
    let session = SessionBuilder::new(random_id())
        .attach(FileSync::new(sources.clone(), memory))
        .open(channel.clone())
        .await
        .unwrap();
    let build = random_id();
    let solve = SolveRequest {
        r#ref: build.clone(),
        session: session.id().to_owned(),
        ..SolveRequest::default()
    };
    let mut control = ControlClient::new(channel.clone());
    let solved = tokio::spawn(async move { control.solve(solve).await });
    let told = tokio::spawn(warnings_of(ControlClient::new(channel.clone()), build.clone()));
    let gateway = Gateway::open(channel, &build).await.unwrap();
    let here = Here { gateway: &gateway, session: session.id(), directories: &sources };

    let outcomes: Vec<Outcome> = futures::stream::iter(cases.iter().enumerate())
        .map(|(at, case)| compare(&here, case, name(at), release))
        .buffered(AT_ONCE)
        .collect()
        .await;

    gateway.return_result(BuildResult::default()).await.unwrap();
    solved.await.unwrap().unwrap();
    let told = told.await.unwrap();
    session.close().await.unwrap();
    let mut seen = Seen::default();
    let mut differing = BTreeMap::new();
    for (at, outcome) in outcomes.into_iter().enumerate() {
        seen.ops += outcome.ops;
        seen.refused += usize::from(outcome.refused);
        let mut differs = outcome.differs;
        if release == Release::Ours {
            let theirs = told.get(&name(at)).map(Vec::as_slice).unwrap_or_default();
            seen.warnings += theirs.len();
            // Platforms are compiled side by side there, and one that fails silences the others.
            let is_cut =
                outcome.refused && cases[at].attrs.get("platform").is_some_and(|p| p.contains(','));
            differs.extend(found::warnings(&outcome.warnings, theirs, is_cut));
        }
        if !differs.is_empty() {
            let text = String::from_utf8_lossy(&cases[at].text);
            differing.insert(at, format!("== {}\n{}\n{text}", cases[at].name, differs.join("\n")));
        }
    }
    (seen, differing)
}

async fn compare(here: &Here<'_>, case: &Case, filename: String, release: Release) -> Outcome {
    let theirs = sides::there(here.gateway, case, &filename).await;
    let ours = here.compile(case, &filename).await;
    let mut outcome = Outcome { differs: Vec::new(), ops: 0, refused: false, warnings: Vec::new() };
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => {
            outcome.ops = ours.targets.iter().map(|t| t.definition.ops().len()).sum();
            outcome.differs = found::builds(&ours, &theirs, release);
            outcome.warnings = ours.warnings;
        }
        (Err(ours), Err(theirs)) => {
            outcome.refused = true;
            // An older release may say it in other words.
            if release == Release::Ours {
                outcome.differs = found::errors(&ours.error, &theirs, case.own_words.is_some());
            }
            outcome.warnings = ours.warnings;
        }
        (ours, theirs) => {
            let ours = ours.map(|_| "compiles").map_err(|failure| failure.error.to_string());
            let theirs = theirs.map(|_| "compiles").map_err(|failure| failure.message);
            outcome.differs = vec![format!("here {ours:?}, there {theirs:?}")];
        }
    }
    if release == Release::Ours {
        let ours = here.check(case, &filename).await;
        match sides::check_there(here.gateway, case, &filename).await {
            Ok(theirs) => {
                outcome.differs.extend(found::checks(&ours, &theirs, case.own_words.is_some()));
            }
            // What keeps the file from being read keeps it from being checked.
            Err(_) if ours.error.is_some() => {}
            Err(theirs) => {
                outcome.differs.push(format!("only the builder cannot check: {}", theirs.message));
            }
        }
    }
    outcome
}

/// The warnings that the builder tells while a build runs, by the name of the file.
async fn warnings_of(
    mut control: ControlClient<tonic::transport::Channel>,
    build: String,
) -> HashMap<String, Vec<VertexWarning>> {
    let mut told: HashMap<String, Vec<VertexWarning>> = HashMap::new();
    let mut status = control.status(StatusRequest { r#ref: build }).await.unwrap().into_inner();
    while let Some(response) = status.message().await.unwrap() {
        for warning in response.warnings {
            let name = warning.info.as_ref().map(|info| info.filename.clone()).unwrap_or_default();
            told.entry(name).or_default().push(warning);
        }
    }
    told
}
