//! What differs between the two sides.

use std::collections::BTreeMap;

use bk_sync::buildkit::errors::Failure as Refused;
use bk_sync::compile::{Build, Checked, CompileError};
use bk_sync::dockerfile::Lines;
use bk_sync::dockerfile::lint::Warning;
use bk_sync::proto::moby::buildkit::v1::VertexWarning;
use bk_sync::proto::moby::buildkit::v1::frontend::Result as BuildResult;
use bk_sync::proto::moby::buildkit::v1::frontend::result::Result as Kind;
use bk_sync::proto::{moby, pb};
use serde_json::{Value, json};

use super::Release;
use super::sides::error_text;

/// What differs between our build and the frontend's result.
pub fn builds(ours: &Build, theirs: &BuildResult, release: Release) -> Vec<String> {
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
        graphs(&id, &ours, &theirs, &mut found);
    }
    let metadata = ours.metadata();
    if release == Release::Ours {
        let here: Vec<&String> = metadata.keys().collect();
        let there: Vec<&String> = theirs.metadata.keys().collect();
        if here != there {
            found.push(format!("metadata {here:?}, there {there:?}"));
        }
    }
    for key in metadata.keys().filter(|key| key.starts_with("containerimage.config")) {
        let json = |bytes: Option<&Vec<u8>>| -> Value {
            bytes.map(|bytes| serde_json::from_slice(bytes).unwrap()).unwrap_or_default()
        };
        let (ours, theirs) = (json(metadata.get(key)), json(theirs.metadata.get(key)));
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

fn graphs(id: &str, ours: &pb::Definition, theirs: &pb::Definition, found: &mut Vec<String>) {
    if ours.def != theirs.def {
        let differs = ours.def.iter().zip(&theirs.def).position(|(a, b)| a != b);
        let (here, there) = (ours.def.len(), theirs.def.len());
        found
            .push(format!("{id}: {here} ops here, {there} there; first difference at {differs:?}"));
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
    if places(ours) != places(theirs) {
        found.push(format!("{id}: places differ"));
    }
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

/// What differs between our error and the builder's.
pub fn errors(ours: &CompileError, theirs: &Refused, own_words: bool) -> Vec<String> {
    let mut found = Vec::new();
    let text = error_text(ours);
    let is_theirs = without_suggestion(&theirs.message).ends_with(without_suggestion(&text));
    if own_words == is_theirs && (is_theirs || !names_a_function(&theirs.message)) {
        let note = if own_words { " (marked as our own words)" } else { "" };
        found.push(format!("error `{text}`, there `{}`{note}", theirs.message));
    }
    // A place without lines says nothing.
    let is_place = |lines: &Vec<(u32, u32)>| !lines.is_empty();
    let here = ours.places.iter().map(|lines| each(*lines));
    let mut here: Vec<Vec<(u32, u32)>> = here.filter(is_place).collect();
    // The same place twice arrives once.
    here.dedup();
    let there = theirs.details.sources.iter().map(|source| source.lines.clone());
    let there: Vec<Vec<(u32, u32)>> = there.filter(is_place).collect();
    if here != there {
        found.push(format!("error `{text}` at {here:?}, there {there:?}"));
    }
    found
}

/// Whether Go's own function is named there, where we say what the number is for.
fn names_a_function(theirs: &str) -> bool {
    theirs.contains("strconv.Parse")
}

fn each(lines: Option<Lines>) -> Vec<(u32, u32)> {
    // A line that is none is not sent.
    let each = |lines: Lines| lines.each().filter(|at| *at > 0).map(|at| (at, at)).collect();
    lines.map(each).unwrap_or_default()
}

/// The text of an error without its suggestion, which is a random one of several equally near.
fn without_suggestion(text: &str) -> &str {
    text.split_once(" (did you mean ").map_or(text, |(before, _)| before)
}

/// What differs between our warnings and those of the builder, of which some are missing where it `is_cut`.
pub fn warnings(ours: &[Warning], theirs: &[VertexWarning], is_cut: bool) -> Vec<String> {
    let here: Vec<String> = ours
        .iter()
        .map(|warning| {
            let Warning { rule, message, url, description, lines, .. } = warning;
            let message = without_suggestion(message);
            format!("{rule}: {message} {:?} {url} {description}", each(Some(*lines)))
        })
        .collect();
    let there: Vec<String> = theirs
        .iter()
        .map(|warning| {
            let short = String::from_utf8_lossy(&warning.short);
            let short = short.rsplit_once(" (line ").map_or(&*short, |(before, _)| before);
            let short = without_suggestion(short);
            let detail = String::from_utf8_lossy(&warning.detail[0]);
            let line = |at: Option<&pb::Position>| u32::try_from(at.unwrap().line).unwrap();
            let ends = |range: &pb::Range| (line(range.start.as_ref()), line(range.end.as_ref()));
            let lines: Vec<(u32, u32)> = warning.ranges.iter().map(ends).collect();
            format!("{short} {lines:?} {} {detail}", warning.url)
        })
        .collect();
    let (mut here, mut there) = (here, there);
    // Two that belong to one instruction come in any order there, and one may come twice: who asks for
    // the status while a build runs gets what was told before, and what is told just then.
    here.sort();
    here.dedup();
    there.sort();
    there.dedup();
    let mut rest = here.iter();
    let equal =
        if is_cut { there.iter().all(|one| rest.any(|other| other == one)) } else { here == there };
    if equal { Vec::new() } else { vec![format!("warnings {here:#?}, there {there:#?}")] }
}

/// What differs between what our check says and what the builder's says.
pub fn checks(ours: &Checked, theirs: &Value, own_words: bool) -> Vec<String> {
    let lines = |ranges: &Value| -> Vec<(u64, u64)> {
        let line = |range: &Value, end: &str| range[end]["line"].as_u64().unwrap_or_default();
        let ranges = ranges.as_array().into_iter().flatten();
        ranges.map(|range| (line(range, "start"), line(range, "end"))).collect()
    };
    let mut here: Vec<String> = ours
        .warnings
        .iter()
        .map(|warning| {
            let message = without_suggestion(&warning.message);
            format!("{} {message} {:?}", warning.rule, each(Some(warning.lines)))
        })
        .collect();
    let mut there: Vec<String> = theirs["warnings"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|warning| {
            let text = |name: &str| warning[name].as_str().unwrap_or_default();
            let detail = without_suggestion(text("detail"));
            format!("{} {detail} {:?}", text("ruleName"), lines(&warning["location"]["ranges"]))
        })
        .collect();
    here.sort();
    there.sort();
    let mut found = Vec::new();
    if here != there {
        found.push(format!("check: {here:#?}, there {there:#?}"));
    }
    let error = ours.error.as_ref().map(error_text).map_or(Value::Null, Value::from);
    let other = &theirs["buildError"]["message"];
    let equal = match (error.as_str(), other.as_str()) {
        (Some(ours), Some(theirs)) => {
            let (theirs, ours) = (without_suggestion(theirs), without_suggestion(ours));
            // A check there sometimes tells the innermost cause alone.
            own_words
                || names_a_function(theirs)
                || theirs.ends_with(ours)
                || ours.ends_with(&format!(": {theirs}"))
        }
        (ours, theirs) => ours == theirs,
    };
    if !equal {
        found.push(format!("check: error {}", json!([error, other])));
    }
    found
}
