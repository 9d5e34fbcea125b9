//! `tests/conformance/llb`: Dockerfiles and what BuildKit's own frontend makes of them. Everything
//! that can be compared is: ops by digest and by content, metadata, places, configs, warnings,
//! errors and their places, and what is asked and loaded on the way.

use bk_sync::compile::{
    Answer, Build, Builder, CheckStep, CompileError, Compiler, Failure, IgnoreFileText,
    ImageAnswer, Question, Request, Step, WebContext,
};
use bk_sync::dockerfile::Lines;
use bk_sync::dockerfile::lint::Warning;
use bk_sync::llb::{Caps, Defaults, Definition, Platform, print, wire};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Where the cases are: `BK_SYNC_TEST_CORPUS` names another corpus of the same form to be held
/// against, with images of its own or those of ours.
#[expect(clippy::disallowed_methods, reason = "whoever runs the tests names the corpus")]
pub fn corpus() -> PathBuf {
    env::var_os("BK_SYNC_TEST_CORPUS").map_or_else(own_corpus, PathBuf::from)
}

fn own_corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/llb")
}

fn images() -> PathBuf {
    let with_the_cases = corpus().join("images.json");
    if with_the_cases.exists() { with_the_cases } else { own_corpus().join("images.json") }
}

/// A JSON file of the corpus.
pub fn read_json(path: &Path) -> Value {
    let text =
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names of the cases.
pub fn cases() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(corpus())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().join("case.json").exists())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    let enough = if corpus() == own_corpus() { 180 } else { 1 };
    assert!(names.len() >= enough, "only {} cases", names.len());
    names
}

/// One case: its options, and a compiler whose questions the corpus answers.
struct Case {
    dir: PathBuf,
    options: Value,
    requests: Value,
    attrs: BTreeMap<String, String>,
    images: Value,
    asked: Vec<Question>,
}

impl Case {
    fn read(name: &str) -> Self {
        let dir = corpus().join(name);
        let requests = read_json(&dir.join("expected/requests.json"));
        let attrs = requests["attrs"].as_object().unwrap().iter();
        Self {
            options: read_json(&dir.join("case.json")),
            attrs: attrs.map(|(name, v)| (name.clone(), v.as_str().unwrap().into())).collect(),
            images: read_json(&images()),
            requests,
            dir,
            asked: Vec::new(),
        }
    }

    fn strings(&self, key: &str) -> Vec<&str> {
        let list = self.options[key].as_array();
        list.map(|list| list.iter().map(|v| v.as_str().unwrap()).collect()).unwrap_or_default()
    }

    fn compiler(&self) -> Compiler {
        let web = WebContext::default();
        let entry = Compiler::entry(&self.attrs, "conformance", web);
        let read = |name: &str| fs::read(self.dir.join("ctx").join(name)).ok();
        let (mut dockerfile, mut ignore_file) = (Vec::new(), None);
        if let Ok(entry) = entry {
            let other = entry.other_filename.as_deref().and_then(read);
            dockerfile = read(&entry.filename).or(other).expect("the Dockerfile of the case");
            let own = read(&entry.ignore_file);
            let name = if own.is_some() { entry.ignore_file } else { ".dockerignore".into() };
            let shared = || read(".dockerignore").filter(|_| entry.local_context);
            ignore_file = own.or_else(shared).map(|data| IgnoreFileText { name, data });
        }
        let caps = self.strings("unsupported_caps");
        let caps = caps.iter().fold(Caps::all(), |caps, id| caps.without(id));
        let own = self.strings("worker_platforms").first().copied().unwrap_or("linux/amd64");
        Compiler::new(Request {
            dockerfile,
            attrs: self.attrs.clone(),
            ignore_file,
            web_context: web,
            builder: Builder { caps, platform: Platform::parse(own).unwrap() },
            session: "conformance".into(),
        })
    }

    fn answer(&self, question: &Question) -> Result<Answer, String> {
        match question {
            Question::IgnoreFile(file) => {
                let given = &self.options["build_contexts"];
                let given = given.as_object().into_iter().flatten().find(|(name, _)| {
                    let source = self.attrs.get(&format!("context:{name}"));
                    let local = source.and_then(|source| source.strip_prefix("local:"));
                    local == Some(&file.local)
                });
                // A directory that no option names is the context itself.
                let dir = given.map_or(".", |(_, dir)| dir.as_str().unwrap());
                let path = self.dir.join("ctx").join(dir).join(".dockerignore");
                Ok(Answer::File(fs::read(path).ok()))
            }
            Question::Image(image) => {
                let prefix = format!("failed to resolve source metadata for {}", image.reference);
                let known = &self.images[&image.reference];
                if let Some(text) = known["error"].as_str() {
                    return Err(format!("{prefix}: {text}"));
                }
                if known.is_null() {
                    return Err(format!("{prefix}: {}: not found", image.reference));
                }
                let own = Platform::new("linux", "amd64");
                let platform = image.platform.as_ref().unwrap_or(&own).normalized().format();
                let config = &known["platforms"][&platform];
                if config.is_null() {
                    return Err(format!("{prefix}: no match for platform in manifest: not found"));
                }
                Ok(Answer::Image(ImageAnswer {
                    reference: None,
                    digest: known["digest"].as_str().unwrap().into(),
                    config: config.to_string().into_bytes(),
                }))
            }
            Question::Input(input) => panic!("{input:?}"),
            Question::SourceTime(source) => {
                let known = &self.options["source_metadata"][&source.identifier];
                let time = known["last_modified"].as_str().map(|text| {
                    let time: jiff::Timestamp = text.parse().unwrap();
                    time.as_second()
                });
                Ok(Answer::Time(time))
            }
        }
    }

    fn build(&mut self) -> Result<Box<Build>, Box<Failure>> {
        let mut compiler = self.compiler();
        loop {
            match compiler.step() {
                Step::Done(build) => return Ok(build),
                Step::Failed(failure) => return Err(failure),
                Step::Ask(questions) => {
                    assert!(!questions.is_empty());
                    for question in questions {
                        assert!(!self.asked.contains(&question), "asked twice: {question:?}");
                        compiler.answer(question.clone(), self.answer(&question));
                        self.asked.push(question);
                    }
                }
            }
        }
    }

    fn check(&self) -> (Vec<Warning>, Option<CompileError>) {
        let mut compiler = self.compiler();
        loop {
            match compiler.check() {
                CheckStep::Done(checked) => return (checked.warnings, checked.error),
                CheckStep::Ask(questions) => {
                    for question in questions {
                        compiler.answer(question.clone(), self.answer(&question));
                    }
                }
            }
        }
    }

    fn expected(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.dir.join("expected").join(file)).ok()
    }

    /// What differs, as text; nothing where all is as expected.
    fn differences(&mut self) -> Vec<String> {
        let mut found = Vec::new();
        let warnings = match self.build() {
            Ok(build) => {
                self.compare_build(&build, &mut found);
                build.warnings
            }
            Err(failure) => {
                self.compare_failure(&failure, &mut found);
                failure.warnings
            }
        };
        let warnings: Vec<Value> =
            warnings.iter().map(|warning| warning_json(warning, true)).collect();
        let expected = read_json(&self.dir.join("expected/warnings.json"));
        compare("warnings", &Value::from(warnings), &expected, &mut found);
        if self.options["check"] == json!(true) {
            self.compare_check(&mut found);
        }
        found
    }

    fn compare_build(&self, build: &Build, found: &mut Vec<String>) {
        if let Some(text) = self.expected("error.txt") {
            found.push(format!("should fail: {text}"));
            return;
        }
        for target in &build.targets {
            let name =
                if build.multi_platform { target.id().replace('/', "-") } else { "result".into() };
            let digests: Vec<&str> =
                target.definition.ops().iter().map(|op| op.digest.as_str()).collect();
            let expected = self.expected(&format!("{name}.digests")).unwrap_or_default();
            let ops = read_json(&self.dir.join(format!("expected/{name}.ops.json")));
            compare(&format!("{name}.ops"), &ops_json(&target.definition), &ops, found);
            if digests != expected.lines().collect::<Vec<_>>() {
                found.push(format!("{name}: digests differ"));
            }
            let config: Value = serde_json::from_str(&target.config.to_json()).unwrap();
            let expected = read_json(&self.dir.join(format!("expected/{name}.config.json")));
            compare(&format!("{name}.config"), &config, &expected, found);
        }
        let keys: Vec<String> = build.metadata().into_keys().collect();
        compare("metadata", &json!(keys), &self.requests["metadata"], found);
        if let Some(platforms) = self.requests["platforms"].as_array() {
            let ids: Vec<Value> = build.targets.iter().map(|target| target.id().into()).collect();
            compare("platforms", &ids.into(), &platforms.clone().into(), found);
        }
        self.compare_requests(found);
    }

    /// Images asked about, and sources loaded on the way, with their digests.
    fn compare_requests(&self, found: &mut Vec<String>) {
        let mut resolves = BTreeSet::new();
        let mut loads = BTreeMap::new();
        let entry = Compiler::entry(&self.attrs, "conformance", WebContext::default()).unwrap();
        let mut add = |state: &bk_sync::llb::State, file: &str| {
            let defaults = Defaults::new(Platform::new("linux", "amd64"), Some(Caps::all()));
            let definition = state.marshal(&defaults).unwrap();
            let name = &definition.metadata(definition.head().unwrap()).unwrap().description;
            let digests: Vec<String> =
                definition.ops().iter().map(|op| op.digest.clone()).collect();
            loads.insert(format!("{} {file}", name["llb.customname"]), digests);
        };
        add(&entry.state, "");
        let own_ignore_file = self.dir.join("ctx").join(&entry.ignore_file).exists();
        if entry.local_context && !own_ignore_file {
            add(&Compiler::ignore_file(&self.attrs, "conformance").unwrap(), "");
        }
        for question in &self.asked {
            match question {
                Question::Image(image) => {
                    let platform = image.platform.as_ref().map(Platform::format_all);
                    resolves.insert((
                        image.reference.clone(),
                        platform.unwrap_or_default(),
                        image.log_name.clone(),
                    ));
                }
                Question::IgnoreFile(file) => add(&file.source(), ""),
                Question::Input(_) | Question::SourceTime(_) => {}
            }
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let expected: BTreeSet<_> = self.requests["resolves"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| (text(&one["ref"]), text(&one["platform"]), text(&one["log_name"])))
            .collect();
        if resolves != expected {
            found.push(format!("resolves: {resolves:#?}\nexpected {expected:#?}"));
        }
        let expected: BTreeMap<String, Vec<String>> = self.requests["loads"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| {
                let digests = one["digests"].as_array().unwrap().iter().map(text).collect();
                (format!("{} ", text(&one["name"])), digests)
            })
            .collect();
        if loads != expected {
            found.push(format!("loads: {loads:#?}\nexpected {expected:#?}"));
        }
    }

    fn compare_failure(&self, failure: &Failure, found: &mut Vec<String>) {
        let Some(expected) = self.expected("error.txt") else {
            found.push(format!("must not fail: {}", failure.error));
            return;
        };
        let text = error_text(&failure.error);
        let bare = without_line(expected.trim_end_matches('\n'));
        if !text.ends_with(bare) {
            found.push(format!("error `{text}`, expected `{bare}`"));
        }
        let places: Vec<String> =
            failure.error.places.iter().map(|lines| ranges_text(*lines).join(" ")).collect();
        let expected = self.expected("error.ranges").unwrap_or_default();
        let expected: Vec<&str> = expected.lines().collect();
        if places != expected {
            found.push(format!("places {places:?}, expected {expected:?}"));
        }
    }

    fn compare_check(&self, found: &mut Vec<String>) {
        let expected = read_json(&self.dir.join("expected/check.json"));
        let (warnings, error) = self.check();
        let warnings: Vec<Value> =
            warnings.iter().map(|warning| warning_json(warning, false)).collect();
        compare("check.warnings", &warnings.into(), &expected["warnings"], found);
        let error = error.map_or(Value::Null, |error| error_text(&error).into());
        let expected = match expected["error"]["message"].as_str() {
            Some(text) => without_line(text).into(),
            None => Value::Null,
        };
        compare("check.error", &error, &expected, found);
    }
}

/// What is wrong; of several mistakes the first, which is the one that BuildKit tells.
fn error_text(error: &CompileError) -> String {
    error.dockerfile_errors().map_or_else(|| error.to_string(), |errors| errors.first.to_string())
}

/// The text without the line that BuildKit puts before it where the parser stops.
fn without_line(text: &str) -> &str {
    match text.strip_prefix("dockerfile parse error on line ") {
        Some(rest) => rest.split_once(": ").map_or(rest, |(_, text)| text),
        None => text,
    }
}

fn ranges_text(lines: Option<Lines>) -> Vec<String> {
    lines.map(|lines| lines.each().map(|at| format!("{at}:0-{at}:0")).collect()).unwrap_or_default()
}

fn warning_json(warning: &Warning, with_line: bool) -> Value {
    let mut value = json!({
        "rule": warning.rule,
        "message": warning.message,
        "ranges": ranges_text(Some(warning.lines)),
        "url": warning.url,
        "description": warning.description,
    });
    if with_line {
        value["line"] = warning.lines.first.into();
    }
    value
}

/// The ops in the corpus's form: progress groups are numbered as they come.
fn ops_json(definition: &Definition) -> Value {
    let mut groups: HashMap<String, String> = HashMap::new();
    let mut ops = Vec::new();
    for op in definition.ops() {
        let mut metadata = definition.metadata(&op.digest).map(wire::to_json).unwrap_or_default();
        if let Some(id) = metadata.pointer_mut("/progressGroup/id") {
            let number = format!("PG-{}", groups.len());
            let known = groups.entry(id.as_str().unwrap().to_owned()).or_insert(number);
            *id = known.clone().into();
        }
        let ranges: Vec<String> = definition
            .locations(&op.digest)
            .iter()
            .flat_map(|location| {
                let ranges: Vec<String> = location
                    .ranges
                    .iter()
                    .map(|range| {
                        let (from, to) = (range.start, range.end);
                        let (from, to) = ((from.line, from.character), (to.line, to.character));
                        format!("{}@{}:{}-{}:{}", location.source, from.0, from.1, to.0, to.1)
                    })
                    .collect();
                ranges
            })
            .collect();
        ops.push(json!({
            "digest": op.digest,
            "op": print::op_json(&op.bytes),
            "metadata": metadata,
            "ranges": ranges,
        }));
    }
    ops.into()
}

/// Notes the first place where two values differ.
fn compare(what: &str, actual: &Value, expected: &Value, found: &mut Vec<String>) {
    if let Some((path, actual, expected)) = first_difference(actual, expected, what.into()) {
        found.push(format!("{path}:\n  is       {actual}\n  expected {expected}"));
    }
}

fn first_difference(
    actual: &Value,
    expected: &Value,
    path: String,
) -> Option<(String, String, String)> {
    match (actual, expected) {
        (Value::Array(ours), Value::Array(theirs)) => {
            let pairs = ours.iter().zip(theirs).enumerate();
            let mut inner =
                pairs.filter_map(|(at, (a, e))| first_difference(a, e, format!("{path}[{at}]")));
            inner.next().or_else(|| {
                let (a, e) = (ours.len(), theirs.len());
                let rest = |list: &[Value], from| list.get(from).map(Value::to_string);
                (a != e).then(|| {
                    let from = a.min(e);
                    (
                        format!("{path}.len"),
                        format!("{a} {:?}", rest(ours, from)),
                        format!("{e} {:?}", rest(theirs, from)),
                    )
                })
            })
        }
        (Value::Object(ours), Value::Object(theirs)) => {
            let mut keys: Vec<&String> = ours.keys().chain(theirs.keys()).collect();
            // What an op is made of says more than its digest.
            keys.sort_by_key(|key| (key.as_str() == "digest", key.as_str()));
            keys.dedup();
            let null = Value::Null;
            keys.into_iter().find_map(|key| {
                let (a, e) = (ours.get(key).unwrap_or(&null), theirs.get(key).unwrap_or(&null));
                first_difference(a, e, format!("{path}.{key}"))
            })
        }
        _ if actual == expected => None,
        _ => Some((path, actual.to_string(), expected.to_string())),
    }
}

#[test]
fn every_case_is_compiled_as_buildkit_compiles_it() {
    let mut report = String::new();
    let mut wrong = 0;
    for name in cases() {
        let found = Case::read(&name).differences();
        if !found.is_empty() {
            wrong += 1;
            report.extend(["== ", &name, "\n", &found.join("\n"), "\n"]);
        }
    }
    assert_eq!(wrong, 0, "{wrong} cases differ\n{report}");
}
