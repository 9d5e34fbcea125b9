//! A graph for people: as JSON, and as a drawing for Graphviz.

use prost::Message as _;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::fmt::Write as _;

use super::definition::Definition;
use super::metadata::NAME_KEY;
use super::source_map::Range;
use super::wire;
use crate::proto::pb;

/// The ops, as `[{"digest","op","metadata","locations"}]` with protojson inside `op` and
/// `metadata`; a location is `{"sourceIndex","ranges":[{"start","end"}]}` as on the wire, with lines
/// from 1 and zeros written out.
pub fn ops_json(definition: &Definition) -> Value {
    let position = |line: i32, character: i32| json!({"line": line, "character": character});
    let range = |range: &Range| {
        json!({
            "start": position(range.start.line, range.start.character),
            "end": position(range.end.line, range.end.character),
        })
    };
    definition
        .ops()
        .iter()
        .map(|op| {
            let mut entry = Map::new();
            entry.insert("digest".into(), op.digest.clone().into());
            entry.insert("op".into(), op_json(&op.bytes));
            let metadata = definition.metadata(&op.digest).map(wire::to_json);
            entry.insert("metadata".into(), metadata.unwrap_or_else(|| json!({})));
            let locations: Vec<Value> = definition
                .locations(&op.digest)
                .iter()
                .map(|location| {
                    json!({
                        "sourceIndex": location.source,
                        "ranges": location.ranges.iter().map(range).collect::<Vec<_>>(),
                    })
                })
                .collect();
            entry.insert("locations".into(), locations.into());
            Value::Object(entry)
        })
        .collect()
}

/// One op as protojson; the empty object where the bytes are no op.
pub fn op_json(bytes: &[u8]) -> Value {
    pb::Op::decode(bytes).map_or_else(|_| json!({}), |op| wire::to_json(&op))
}

/// The graph in Graphviz's language, one node per op, edges from what is built on to what is built.
pub fn dot(definition: &Definition) -> String {
    let mut text = String::from("digraph llb {\n  rankdir=BT;\n  node [fontname=monospace];\n");
    let decoded: Vec<(String, pb::Op)> = definition
        .ops()
        .iter()
        .filter_map(|op| Some((op.digest.clone(), pb::Op::decode(op.bytes.as_slice()).ok()?)))
        .collect();
    let numbers: HashMap<&str, usize> =
        decoded.iter().enumerate().map(|(at, (digest, _))| (digest.as_str(), at)).collect();
    for (at, (digest, op)) in decoded.iter().enumerate() {
        let name = definition
            .metadata(digest)
            .and_then(|metadata| metadata.description.get(NAME_KEY))
            .cloned()
            .unwrap_or_else(|| describe(op));
        let shape = match op.op {
            None => "doublecircle",
            Some(pb::op::Op::Source(_)) => "ellipse",
            Some(pb::op::Op::File(_)) => "note",
            Some(pb::op::Op::Merge(_)) => "invtriangle",
            Some(_) => "box",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  n{at} [label={} shape={shape}];", quoted(&name));
        for input in &op.inputs {
            if let Some(from) = numbers.get(input.digest.as_str()) {
                let _ = match input.index {
                    0 => writeln!(text, "  n{from} -> n{at};"),
                    index => writeln!(text, "  n{from} -> n{at} [label=\"{index}\"];"),
                };
            }
        }
    }
    text.push_str("}\n");
    text
}

fn describe(op: &pb::Op) -> String {
    match &op.op {
        None => "result".into(),
        Some(pb::op::Op::Source(source)) => source.identifier.clone(),
        Some(pb::op::Op::Exec(exec)) => {
            exec.meta.as_ref().map(|meta| meta.args.join(" ")).unwrap_or_default()
        }
        Some(pb::op::Op::File(_)) => "file".into(),
        Some(pb::op::Op::Build(_)) => "build".into(),
        Some(pb::op::Op::Merge(_)) => "merge".into(),
        Some(pb::op::Op::Diff(_)) => "diff".into(),
        Some(pb::op::Op::Passthrough(_)) => "passthrough".into(),
    }
}

fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{escaped}\"")
}
