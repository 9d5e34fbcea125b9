//! Whatever the Dockerfile, compiling it ends without a panic, twice with the same bytes, and the
//! graph that comes out is one that a builder can load: canonical ops, each after what it is built
//! on, none without metadata, places inside the file.

use bk_sync::compile::{
    Answer, Build, Builder, CompileError, Compiler, ImageAnswer, Question, Request, Step,
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
        Question::SourceTime(_) => Answer::Time(None),
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
