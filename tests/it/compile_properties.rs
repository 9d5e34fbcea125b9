//! Whatever the Dockerfile, compiling it ends without a panic, twice with the same bytes, and the
//! graph that comes out is one that a builder can load: canonical ops, each after what it is built
//! on, none without metadata, places inside the file.

use bk_sync::compile::{
    Answer, Build, Builder, CompileError, Compiler, Fault, ImageAnswer, Question, Request, Step,
    WebContext,
};
use bk_sync::llb::{Caps, Definition, Platform, wire};
use bk_sync::proto::pb;
use proptest::prelude::*;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use std::{collections::HashSet, fmt::Write as _};

use crate::generated::dockerfiles;

const IMAGES: &[&str] = &["alpine:3.21", "debian", "registry.example.test:5000/a/b:c"];

/// An image with a trigger that brings in another stage.
const CONFIG: &str = r#"{
    "architecture": "arm64", "os": "linux",
    "config": {"Env": ["PATH=/bin", "A=of the base"], "OnBuild": ["COPY --from=debian /x /y"]},
    "rootfs": {"type": "layers", "diff_ids": ["sha256:00"]}
}"#;

/// An image without triggers.
const PLAIN: &str = r#"{
    "architecture": "arm64", "os": "linux",
    "rootfs": {"type": "layers", "diff_ids": ["sha256:00"]}
}"#;

fn answer(question: &Question) -> Answer {
    match question {
        Question::Image(image) => Answer::Image(ImageAnswer {
            reference: None,
            digest: format!("sha256:{}", "5".repeat(64)),
            config: match image.reference.as_str() {
                name if name.contains("debian") => PLAIN.into(),
                name if name.contains("ouroboros") => {
                    CONFIG.replace("--from=debian", "--from=ouroboros").into()
                }
                _ => CONFIG.into(),
            },
        }),
        Question::IgnoreFile(_) => Answer::File(None),
        Question::Input(_) | Question::SourceTime(_) => Answer::Time(None),
    }
}

fn compile(text: &[u8], platforms: &str) -> Result<Build, CompileError> {
    let mut compiler = Compiler::new(Request {
        dockerfile: text.to_vec(),
        attrs: [("platform".to_owned(), platforms.to_owned())].into(),
        ignore_file: None,
        web_context: WebContext::default(),
        builder: Builder { caps: Caps::all(), platform: Platform::new("linux", "amd64") },
        session: "session".into(),
    });
    // Each round asks for what the last one brought in, so rounds are bounded by the stages.
    for _ in 0..1_000 {
        match compiler.step() {
            Step::Done(build) => return Ok(*build),
            Step::Failed(failure) => return Err(failure.error),
            Step::Ask(questions) => {
                assert!(!questions.is_empty(), "asks for nothing and is not done");
                for question in questions {
                    let answer = answer(&question);
                    compiler.answer(question, Ok(answer));
                }
            }
        }
    }
    panic!("asks without end");
}

fn check_graph(definition: &Definition, lines: usize) {
    let mut known = HashSet::new();
    let Some((last, others)) = definition.ops().split_last() else { return };
    for op in others.iter().chain([last]) {
        let digest = Sha256::digest(&op.bytes);
        let hex: String =
            digest.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        assert_eq!(op.digest, format!("sha256:{hex}"));
        let decoded = pb::Op::decode(op.bytes.as_slice()).expect("an op");
        assert_eq!(wire::encode(&decoded), op.bytes, "the bytes are canonical");
        for input in &decoded.inputs {
            assert!(known.contains(&input.digest), "an op comes after what it is built on");
        }
        assert!(known.insert(op.digest.clone()), "an op is written once");
        assert!(definition.metadata(&op.digest).is_some());
        for location in definition.locations(&op.digest) {
            for range in &location.ranges {
                let line = usize::try_from(range.end.line).unwrap();
                assert!((1..=lines).contains(&line), "line {line} of {lines}");
            }
        }
        assert_eq!(op.digest == last.digest, decoded.op.is_none(), "only the last op is terminal");
    }
}

fn check_build(text: &[u8], platforms: &str) {
    let lines = text.split(|byte| *byte == b'\n').count();
    match (compile(text, platforms), compile(text, platforms)) {
        (Ok(build), Ok(again)) => {
            for (target, again) in build.targets.iter().zip(&again.targets) {
                check_graph(&target.definition, lines);
                assert_eq!(target.definition.to_bytes(), again.definition.to_bytes());
                assert_eq!(target.config.to_json(), again.config.to_json());
            }
            assert_eq!(build.metadata(), again.metadata());
        }
        (Err(error), Err(again)) => {
            assert_eq!(error, again);
            assert!(!error.to_string().is_empty());
        }
        _ => panic!("once it compiles and once it does not"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn any_valid_dockerfile_becomes_a_graph_that_can_be_loaded(file in dockerfiles(IMAGES)) {
        check_build(file.text.as_bytes(), "linux/arm64");
    }

    #[test]
    fn several_platforms_are_compiled_alike(file in dockerfiles(IMAGES)) {
        check_build(file.text.as_bytes(), "linux/amd64,linux/arm/v7");
    }

    #[test]
    fn a_damaged_dockerfile_is_compiled_or_refused(
        file in dockerfiles(IMAGES),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut text = file.text.into_bytes();
        if !text.is_empty() {
            let at = at.index(text.len());
            text[at] = byte;
        }
        check_build(&text, "linux/arm64");
    }
}

#[test]
fn an_image_whose_trigger_uses_itself_is_refused() {
    let error = compile(b"FROM ouroboros\n", "linux/arm64").unwrap_err();
    assert!(error.to_string().contains("without end"), "{error}");
    assert_eq!(error.places.len(), 1);
}

#[test]
fn twenty_thousand_stages_are_not_too_deep() {
    let mut text = String::from("FROM scratch AS s0\n");
    for at in 1..20_000 {
        writeln!(text, "FROM s{} AS s{at}\nCOPY --from=s{} /a /b", at - 1, at - 1).unwrap();
    }
    let build = compile(text.as_bytes(), "linux/arm64").unwrap();
    assert_eq!(build.targets[0].definition.ops().len(), 20_000);
    let circle =
        text.replacen("FROM scratch AS s0\n", "FROM scratch AS s0\nCOPY --from=s19999 /a /b\n", 1);
    let error = compile(circle.as_bytes(), "linux/arm64").unwrap_err();
    assert!(error.to_string().starts_with("circular dependency"), "{error}");
}

#[test]
fn a_chain_of_stages_hands_on_one_environment() {
    let mut text = String::from("FROM scratch AS s0\n");
    for at in 1..5_000 {
        let before = at - 1;
        writeln!(text, "FROM s{before} AS s{at}\nENV N{at}=x{at}\nLABEL l{at}={at}").unwrap();
        // Now and then what moves a name to the end, or is no part of the image.
        if at % 1_000 == 0 {
            writeln!(text, "ENV N7=again\nARG N8=argument\nCOPY --from=s{before} /a /b").unwrap();
        }
    }
    text.push_str("RUN true\n");
    let build = compile(text.as_bytes(), "linux/arm64").unwrap();
    let config = &build.targets[0].config.config;
    assert_eq!((config.env.len(), config.labels.len()), (5_000, 4_999));
    assert_eq!(config.env[7], "N7=again");
    let ops = build.targets[0].definition.ops();
    let last = pb::Op::decode(ops[ops.len() - 2].bytes.as_slice()).unwrap();
    let Some(pb::op::Op::Exec(exec)) = last.op else { panic!("no process") };
    let env = exec.meta.unwrap().env;
    assert_eq!(env.len(), 5_000);
    // The image's variables come after an argument of a stage below, and in the image's order.
    assert!(env.contains(&"N8=x8".to_owned()), "what an image sets wins over an argument");
    assert_eq!(env, config.env);
}

/// Lines that each double the one before fill any memory, unless there is an end to it.
#[test]
fn a_file_that_swells_is_refused_at_the_line_where_it_is_enough() {
    let doubled = |instruction: &str| {
        let mut text = format!("{instruction} A0=xxxxxxxxxxxxxxxx\n");
        for at in 1..17 {
            let before = at - 1;
            _ = writeln!(text, "{instruction} A{at}=${{A{before}}}${{A{before}}}");
        }
        text
    };
    let (many, half) = (200, doubled("ENV"));
    let swelling = [
        ("ENV", format!("FROM scratch\n{half}{}", "ENV B$A16=$A15\n".repeat(many))),
        ("LABEL", format!("FROM scratch\n{half}{}", "LABEL l=$A16\n".repeat(many))),
        ("RUN", format!("FROM scratch\n{half}{}", "RUN x\n".repeat(many))),
        ("COPY", format!("FROM scratch\n{half}{}", "COPY a /$A16\n".repeat(many))),
        ("EXPOSE", format!("FROM scratch\n{}", "EXPOSE 1-65535\n".repeat(many))),
        ("ARG", format!("{}{}FROM scratch\n", doubled("ARG"), "ARG C=$A16\n".repeat(many))),
    ];
    for (instruction, text) in swelling {
        let error = compile(text.as_bytes(), "linux/arm64").expect_err(instruction);
        assert!(matches!(*error.fault, Fault::Swollen { .. }), "{instruction}: {error}");
        let line = usize::try_from(error.places[0].expect("lines").first).unwrap();
        let first = text.lines().nth(line - 1).unwrap();
        assert!(first.starts_with(instruction), "{instruction}: {line}: {first}");
    }
}

#[test]
fn what_no_editor_writes_is_compiled_or_refused() {
    let deep = |open: &str, close: &str, depth: usize| open.repeat(depth) + &close.repeat(depth);
    let long = "x".repeat(60_000);
    // A line may be that long only when it is put together from several.
    let joined = format!("{long}\\\n").repeat(8);
    let many = |count: usize, line: &str| line.repeat(count);
    let texts: Vec<String> = vec![
        format!("FROM scratch\nENV A={}\n", deep("${B:-", "}", 10_000)),
        format!("FROM scratch\nENV A={}\n", deep("${B:-\\\n", "\\\n}", 5_000)),
        format!("FROM scratch\nENV A={}\n", deep("${B:+\"\\\n", "\\\n\"}", 5_000)),
        format!("FROM scratch\nCMD {}\n", deep("[\\\n", "\\\n]", 5_000)),
        format!("FROM scratch\nCMD {}\n", deep("{\"a\":\\\n", "\\\n}", 5_000)),
        format!("FROM scratch\n{}RUN x\n", many(5_000, "ONBUILD \\\n")),
        format!("FROM scratch\nRUN {joined}\n"),
        format!("FROM scratch\nENV A={joined}\nENV B=$A$A\n"),
        format!("FROM scratch\nLABEL {joined}=1\n"),
        format!("FROM scratch\nCOPY {} /x/\n", many(5_000, "a \\\n")),
        format!("FROM scratch\nRUN {} x\n", many(500, "--mount=type=tmpfs,target=/a \\\n")),
        format!("FROM scratch\nEXPOSE {}\n", many(3, "1-65535 \\\n")),
        format!("FROM scratch\nCOPY <<E /x\n{}E\n", many(10_000, "some $A text\n")),
        format!("FROM scratch\nRUN {}\n{}", many(300, "<<E "), many(300, "y\nE\n")),
        format!("FROM scratch\nRUN <<E\n{}", many(10_000, "never ended\n")),
        format!("{}FROM scratch\n", many(10_000, "# check=skip=all\n")),
        format!("{}FROM $A\n", many(5_000, "ARG A=$A$A\n")),
        format!("FROM {}\n", "a/".repeat(5_000)),
        format!("FROM scratch AS {long}\nFROM {long}\n"),
        format!("FROM scratch\nHEALTHCHECK --interval={} CMD x\n", "9".repeat(5_000)),
        format!("FROM scratch\nUSER {}\n", "${A##*}".repeat(1_000)),
        format!("FROM scratch\nENV P={}\nENV Q=${{P//a*a*a*a*b/x}}\n", "a".repeat(5_000)),
        many(10_000, "\\\n"),
        many(5_000, "\u{feff}"),
    ];
    for text in &texts {
        check_build(text.as_bytes(), "linux/arm64");
    }
    let lines = "FROM scratch AS x\nARG A=1\nENV A=2\nRUN <<E\n3\nE\nCOPY --from=x [\"4\", \"5\"]\nUSER 6\n";
    for at in 0..=lines.len() {
        for odd in
            [&b"\0"[..], b"\xff", b"\xc3", b"\xed\xa0\x80", b"\x0b\x0c", "\u{2028}".as_bytes()]
        {
            let text = [&lines.as_bytes()[..at], odd, &lines.as_bytes()[at..]].concat();
            check_build(&text, "linux/arm64");
        }
    }
}
