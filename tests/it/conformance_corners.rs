//! `tests/conformance/corners.jsonl`: small Dockerfiles for the corners of every instruction, option
//! and rule, and what BuildKit's frontend makes of each: the last op of each graph, which names all
//! others, the image config, warnings with their lines, or the error with its places.
//! `tests/bed/frontend` computed them.

use bk_sync::compile::{
    Answer, Build, Builder, Compiler, Failure, IgnoreFileText, ImageAnswer, Question, Request,
    Step, WebContext,
};
use bk_sync::dockerfile::lint::Warning;
use bk_sync::llb::{Caps, Platform};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::{collections::BTreeMap, fs, path::Path};

fn read(name: &str) -> String {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    fs::read_to_string(directory.join(name)).unwrap()
}

fn strings(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().map(|one| one.as_str().unwrap()).collect()
}

fn compiler(case: &Value) -> Compiler {
    let attrs: BTreeMap<String, String> = serde_json::from_value(case["attrs"].clone()).unwrap();
    let ignore_file = ["Dockerfile.dockerignore", ".dockerignore"].into_iter().find_map(|name| {
        let data = case["ignore"][name].as_str()?.into();
        Some(IgnoreFileText { name: name.into(), data })
    });
    let caps = strings(&case["unsupported_caps"]);
    let own = strings(&case["worker_platforms"]).first().copied().unwrap_or("linux/amd64");
    Compiler::new(Request {
        dockerfile: case["dockerfile"].as_str().unwrap().into(),
        ignore_file: ignore_file.filter(|_| !attrs.contains_key("context")),
        attrs,
        web_context: WebContext::default(),
        builder: Builder {
            caps: caps.iter().fold(Caps::all(), |caps, id| caps.without(id)),
            platform: Platform::parse(own).unwrap(),
        },
        session: "conformance".into(),
    })
}

fn answer(images: &Value, question: &Question) -> Result<Answer, String> {
    let Question::Image(image) = question else {
        return Ok(match question {
            Question::IgnoreFile(_) => Answer::File(None),
            _ => Answer::Time(None),
        });
    };
    let prefix = format!("failed to resolve source metadata for {}", image.reference);
    let known = &images[&image.reference];
    if let Some(text) = known["error"].as_str() {
        return Err(format!("{prefix}: {text}"));
    }
    if known.is_null() {
        return Err(format!("{prefix}: {}: not found", image.reference));
    }
    let own = Platform::new("linux", "amd64");
    let config = &known["platforms"][image.platform.as_ref().unwrap_or(&own).normalized().format()];
    if config.is_null() {
        return Err(format!("{prefix}: no match for platform in manifest: not found"));
    }
    let digest = known["digest"].as_str().unwrap().into();
    let config = config.to_string().into_bytes();
    Ok(Answer::Image(ImageAnswer { reference: None, digest, config }))
}

fn compile(case: &Value, images: &Value) -> Result<Box<Build>, Box<Failure>> {
    let mut compiler = compiler(case);
    loop {
        match compiler.step() {
            Step::Done(build) => return Ok(build),
            Step::Failed(failure) => return Err(failure),
            Step::Ask(questions) => {
                for question in questions {
                    let answer = answer(images, &question);
                    compiler.answer(question, answer);
                }
            }
        }
    }
}

/// What came of a case, in the words of the corpus.
fn outcome(case: &Value, images: &Value) -> Value {
    let (mut made, warnings) = match compile(case, images) {
        Ok(build) => {
            let name = |id: String| {
                if build.multi_platform { id.replace('/', "-") } else { "result".to_owned() }
            };
            let graphs: BTreeMap<String, Value> = build
                .targets
                .iter()
                .map(|target| {
                    let ops = target.definition.ops();
                    let last = ops.last().map_or("", |op| &op.digest);
                    let config: Value = serde_json::from_str(&target.config.to_json()).unwrap();
                    (name(target.id()), json!([ops.len(), last, hash(&config)]))
                })
                .collect();
            (json!({ "graphs": graphs }), build.warnings)
        }
        Err(failure) => {
            let error = &failure.error;
            let errors = error.dockerfile_errors();
            let text = errors.map_or_else(|| error.to_string(), |errors| errors.first.to_string());
            let lines: Vec<Vec<u32>> = error
                .places
                .iter()
                .map(|place| place.map(|lines| lines.each().collect()).unwrap_or_default())
                .collect();
            (json!({ "error": text, "lines": lines }), failure.warnings)
        }
    };
    if !warnings.is_empty() {
        let told = |one: &Warning| json!([one.rule, one.lines.first, one.message]);
        made["warnings"] = warnings.iter().map(told).collect();
    }
    made
}

/// The start of the digest of a value that is written with its keys sorted and without blanks.
fn hash(value: &Value) -> String {
    fn write(value: &Value, text: &mut String) {
        match value {
            Value::Array(list) => {
                text.push('[');
                for (at, one) in list.iter().enumerate() {
                    text.push_str(if at > 0 { "," } else { "" });
                    write(one, text);
                }
                text.push(']');
            }
            Value::Object(object) => {
                let sorted: BTreeMap<_, _> = object.iter().collect();
                text.push('{');
                for (at, (key, one)) in sorted.into_iter().enumerate() {
                    text.push_str(if at > 0 { "," } else { "" });
                    text.push_str(&Value::from(key.as_str()).to_string());
                    text.push(':');
                    write(one, text);
                }
                text.push('}');
            }
            plain => text.push_str(&plain.to_string()),
        }
    }
    let mut text = String::new();
    write(value, &mut text);
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(8).fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

#[test]
fn every_corner_is_compiled_as_buildkit_compiles_it() {
    let images: Value = serde_json::from_str(&read("llb/images.json")).unwrap();
    let mut report = Vec::new();
    let mut count = 0;
    for line in read("corners.jsonl").lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let made = outcome(&case, &images);
        count += 1;
        for key in ["graphs", "error", "lines", "warnings"] {
            // Some errors say more than BuildKit does, before its words or after them.
            let same = match (made[key].as_str(), case[key].as_str()) {
                (Some(ours), Some(theirs)) => ours.contains(theirs),
                _ => made[key] == case[key],
            };
            if !same {
                report.push(format!(
                    "{} {key}: {}\n  expected {}",
                    case["name"], made[key], case[key]
                ));
            }
        }
    }
    assert!(count > 800, "only {count} cases");
    assert!(report.is_empty(), "{} differ\n{}", report.len(), report.join("\n"));
}
