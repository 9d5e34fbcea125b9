//! Every JSON output is what the schemas in `schema/` say. [`hold`] is called for each that a test
//! reads, so that there is none that no schema describes.

use jsonschema::Validator;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("schema").join(format!("{name}.json"))
}

/// A schema names another by its file's name.
struct Siblings;

impl jsonschema::Retrieve for Siblings {
    fn retrieve(
        &self,
        uri: &jsonschema::Uri<String>,
    ) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        let name = uri.path().as_str().trim_start_matches('/').trim_end_matches(".json");
        Ok(serde_json::from_str(&fs::read_to_string(path(name))?)?)
    }
}

/// Panics, naming what is wrong, where `instance` is not what the schema `name` says.
fn validate(name: &str, instance: &Value) {
    static VALIDATORS: Mutex<BTreeMap<String, Validator>> = Mutex::new(BTreeMap::new());
    let mut validators = VALIDATORS.lock().unwrap_or_else(PoisonError::into_inner);
    let validator = validators.entry(name.to_owned()).or_insert_with(|| {
        let path = path(name);
        let text = fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("`{}` is missing: {error}", path.display()));
        let schema: Value = serde_json::from_str(&text).unwrap();
        jsonschema::options()
            .with_retriever(Siblings)
            .build(&schema)
            .unwrap_or_else(|error| panic!("{name}: {error}"))
    });
    let wrong: Vec<String> = validator
        .iter_errors(instance)
        .map(|error| format!("at `{}`: {error}", error.instance_path))
        .collect();
    assert!(wrong.is_empty(), "not what schema/{name}.json says: {wrong:#?}\n{instance:#}");
}

/// Holds what a command wrote to stdout with `--format json` against its schemas.
pub fn hold(output: &Value) {
    validate("output", output);
    if output["ok"] == true {
        validate(output["command"].as_str().unwrap(), &output["result"]);
    }
}

/// Holds a line of `--progress rawjson` against its schema.
pub fn hold_progress(line: &Value) {
    validate("progress", line);
}

#[test]
fn what_is_no_output_is_refused() {
    let wrong = [
        serde_json::json!({"ok": true, "command": "check", "result": {}, "warnings": [], "next_actions": []}),
        serde_json::json!({"ok": true, "command": "check", "result": {"warnings": []}}),
        serde_json::json!({"ok": false, "command": "build", "error": {"code": "lower"}, "fix": null, "next_actions": []}),
    ];
    for output in wrong {
        let held = std::panic::catch_unwind(|| hold(&output));
        assert!(held.is_err(), "{output}");
    }
}

#[test]
fn every_command_has_a_schema() {
    let help = crate::cli::Place::new().run(&["--help"]).stdout;
    let commands = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names = commands.lines().filter_map(|line| line.split_whitespace().next());
    for command in names.filter(|command| *command != "help") {
        assert!(path(command).exists(), "schema/{command}.json is missing");
    }
}

#[test]
fn every_schema_is_one() {
    for entry in fs::read_dir(path("output").parent().unwrap()).unwrap() {
        let path = entry.unwrap().path();
        // The schema of the config file is held elsewhere.
        let is_config = path.ends_with("bk-sync.schema.json");
        if path.extension().is_some_and(|extension| extension == "json") && !is_config {
            let schema: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
            assert!(schema["title"].is_string(), "{}", path.display());
            assert!(jsonschema::meta::is_valid(&schema), "{}", path.display());
        }
    }
}
