//! How long compiling takes: a Dockerfile of 1,000 instructions, here and by BuildKit's own frontend, and how
//! time grows with length.
//!
//! `cargo bench --bench compile`; BuildKit's times need the test bed's buildkitd (`make services`).

#![expect(clippy::print_stdout, clippy::panic, reason = "a benchmark prints, and stops when wrong")]

use bk_sync::buildkit::dial;
use bk_sync::buildkit::errors::{Code, Failure};
use bk_sync::buildkit::gateway::{Gateway, Solve};
use bk_sync::buildkit::session::{ContextMemory, FileSync, SessionBuilder, random_id};
use bk_sync::buildkit::solve;
use bk_sync::compile::{Answer, Build, Builder, Compiler, ImageAnswer, Request, Step, WebContext};
use bk_sync::filesync::Source;
use bk_sync::llb::{Caps, Platform};
use bk_sync::proto::moby::buildkit::v1::SolveRequest;
use bk_sync::proto::moby::buildkit::v1::frontend::Result as BuildResult;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Instructions of every kind, in stages that use each other.
fn mixed(instructions: usize) -> String {
    mixed_on("alpine:${VERSION}", instructions)
}

/// The same on another image.
fn mixed_on(image: &str, instructions: usize) -> String {
    let mut text = format!("ARG VERSION=3.21\nFROM {image} AS s0\n");
    for at in 2..instructions {
        let stage = at / 50;
        let line = match at % 50 {
            0 => format!("FROM {image} AS s{stage}"),
            1 if stage > 0 => format!("COPY --from=s{} /out /in", stage - 1),
            n => match n % 8 {
                0 => format!("ENV NAME_{n}=${{PATH}}:{at}"),
                1 => format!("RUN echo {at} && make target-{at}"),
                2 => format!("COPY src/{at} /dst/{at}/"),
                3 => format!("ARG ARG_{n}=value-{at}"),
                4 => "RUN --mount=type=cache,target=/root/.cache pip install x".to_owned(),
                5 => format!("WORKDIR /work/{at}"),
                6 => format!("LABEL label.{n}=\"{at}\""),
                _ => format!("COPY --link --chown=1000:1000 a{at} /b/"),
            },
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{line}");
    }
    text
}

fn compile(text: &str) -> Build {
    let mut compiler = Compiler::new(Request {
        dockerfile: text.as_bytes().to_vec(),
        attrs: [("platform".to_owned(), "linux/arm64".to_owned())].into(),
        ignore_file: None,
        web_context: WebContext::default(),
        builder: Builder { caps: Caps::all(), platform: Platform::new("linux", "amd64") },
        session: "bench".to_owned(),
    });
    loop {
        match compiler.step() {
            Step::Done(build) => return *build,
            Step::Failed(failure) => panic!("{}", failure.error),
            Step::Ask(questions) => {
                for question in questions {
                    let config = br#"{"architecture":"arm64","os":"linux",
                        "rootfs":{"type":"layers","diff_ids":["sha256:00"]}}"#;
                    let answer = Answer::Image(ImageAnswer {
                        reference: None,
                        digest: format!("sha256:{}", "0".repeat(64)),
                        config: config.to_vec(),
                    });
                    compiler.answer(question, Ok(answer));
                }
            }
        }
    }
}

/// The fastest of some runs, and how many ops came out.
fn measure(text: &str, runs: u32) -> (Duration, usize) {
    let mut best = Duration::MAX;
    let mut ops = 0;
    for _ in 0..runs {
        let start = Instant::now();
        ops = compile(text).targets.iter().map(|target| target.definition.ops().len()).sum();
        best = best.min(start.elapsed());
    }
    (best, ops)
}

fn report(name: &str, text: &str, runs: u32) {
    let (time, ops) = measure(text, runs);
    let lines = u32::try_from(text.lines().count()).unwrap_or(u32::MAX);
    println!("{name:<28} {lines:>7} lines {ops:>7} ops {time:>12.2?} {:>10.2?}/line", time / lines);
}

/// The test bed's buildkitd and an image that it can reach, where the bed is up.
fn bed() -> Option<(String, String)> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/target/services.env");
    let text = std::fs::read_to_string(file).ok()?;
    let value = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
    };
    Some((value("BK_SYNC_TEST_BUILDKITD")?, value("BK_SYNC_TEST_BASE_MULTI")?))
}

/// The fastest of some calls of the builder's own frontend, which compiles and runs nothing. What it
/// does besides compiling is the same in each call: the file is read from a session, and the
/// graph is loaded and sent back.
async fn frontend(builder: &str, text: &str, runs: u32) -> Result<Duration, Box<dyn Error>> {
    let connection = dial::connect(&builder.parse()?, &dial::Options::default()).await?;
    let files = BTreeMap::from([("Dockerfile".to_owned(), Bytes::from(text.to_owned()))]);
    let sources = BTreeMap::from(
        ["context", "dockerfile"].map(|name| (name.to_owned(), Source::Memory(files.clone()))),
    );
    let memory = ContextMemory::open(None, &sources);
    let session = SessionBuilder::new("bench").attach(FileSync::new(sources, memory));
    let session = session.open(connection.channel.clone()).await?;
    let request = SolveRequest {
        r#ref: random_id(),
        session: session.id().to_owned(),
        ..SolveRequest::default()
    };
    let (sender, receiver) = std::sync::mpsc::channel();
    let make = async |gateway: &Gateway| -> Result<BuildResult, Failure> {
        for _ in 0..runs {
            let start = Instant::now();
            let attributes = BTreeMap::from([("platform".to_owned(), "linux/arm64".to_owned())]);
            let frontend = "dockerfile.v0".to_owned();
            gateway.solve(Solve { frontend, attributes, ..Solve::default() }).await?;
            sender
                .send(start.elapsed())
                .map_err(|error| Failure::new(Code::Internal, error.to_string()))?;
        }
        Ok(BuildResult::default())
    };
    let cancel = CancellationToken::new();
    solve::run(connection.channel.clone(), session, request, make, drop, &cancel).await?;
    receiver.try_iter().min().ok_or_else(|| "no call was timed".into())
}

/// The same file compiled here and there.
fn beside_buildkit() {
    let Some((builder, image)) = bed() else {
        println!("BuildKit's own time: the test bed is not up");
        return;
    };
    let Ok(runtime) = tokio::runtime::Runtime::new() else { return };
    for (instructions, runs) in [(2, 10), (1_000, 10)] {
        let text = mixed_on(&image, instructions);
        report("mixed, here", &text, 20);
        match runtime.block_on(frontend(&builder, &text, runs)) {
            Ok(time) => {
                println!(
                    "{:<28} {instructions:>7} lines {time:>24.2?}",
                    "mixed, BuildKit's frontend"
                );
            }
            Err(error) => println!("BuildKit's own time: {error}"),
        }
    }
}

fn main() {
    beside_buildkit();
    report("mixed", &mixed(1_000), 20);
    for lines in [10_000, 100_000] {
        report("mixed", &mixed(lines), 3);
    }
    for (name, line) in [
        ("RUN", "RUN make"),
        ("COPY", "COPY a /b/"),
        ("COPY --link", "COPY --link a /b/"),
        ("LABEL", "LABEL a=b"),
        ("ENV, one name", "ENV A=$A$PATH"),
        ("unknown variable", "WORKDIR /$UNKNOWN"),
    ] {
        // A value that grows with every line grows without end: it is set anew each time.
        let line = line.replace("$A$PATH", "$PATH");
        for lines in [10_000, 100_000] {
            report(name, &format!("FROM scratch\n{}", format!("{line}\n").repeat(lines)), 3);
        }
    }
    for lines in [10_000, 100_000] {
        let numbered = |line: &str| -> String {
            (0..lines).map(|at| line.replace('#', &at.to_string()) + "\n").collect()
        };
        report("ENV, many names", &format!("FROM scratch\n{}", numbered("ENV A#=$A0")), 3);
        report("COPY, many paths", &format!("FROM scratch\n{}", numbered("COPY a# /b#")), 3);
        report("stages in a chain", &chain(lines), 3);
        report("ARG and ENV in a chain", &declaring_chain(lines), 3);
        report("triggers", &triggers(lines), 3);
        report(
            "heredocs",
            &format!("FROM scratch\n{}", "COPY <<E /x\n$A\nE\n".repeat(lines / 3)),
            3,
        );
    }
}

/// Each stage starts from the one before it and declares an argument and a variable.
fn declaring_chain(lines: usize) -> String {
    let mut text = String::from("FROM scratch AS s0\n");
    for at in 1..lines / 3 {
        let before = at - 1;
        let _ = writeln!(text, "FROM s{before} AS s{at}\nARG A{at}={at}\nENV E{at}=$A{at}");
    }
    text
}

/// A stage with many triggers, and one that starts from it.
fn triggers(lines: usize) -> String {
    format!("FROM scratch AS a\n{}FROM a\n", "ONBUILD LABEL a=b\n".repeat(lines - 2))
}

/// Each stage starts from the one before it and copies from it.
fn chain(lines: usize) -> String {
    let mut text = String::from("FROM scratch AS s0\n");
    for at in 1..lines / 2 {
        let before = at - 1;
        let _ = writeln!(text, "FROM s{before} AS s{at}\nCOPY --from=s{before} /a /b");
    }
    text
}
