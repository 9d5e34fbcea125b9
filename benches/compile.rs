//! How long compiling takes: a Dockerfile of 1,000 instructions, and how time grows with length.
//!
//! `cargo bench --bench compile`

#![expect(clippy::print_stdout, clippy::panic, reason = "a benchmark prints, and stops when wrong")]

use bk_sync::compile::{Answer, Build, Builder, Compiler, ImageAnswer, Request, Step, WebContext};
use bk_sync::llb::{Caps, Platform};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// Instructions of every kind, in stages that use each other.
fn mixed(instructions: usize) -> String {
    let mut text = String::from("ARG VERSION=3.21\nFROM alpine:${VERSION} AS s0\n");
    for at in 2..instructions {
        let stage = at / 50;
        let line = match at % 50 {
            0 => format!("FROM alpine:3.21 AS s{stage}"),
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

fn main() {
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
    }
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
