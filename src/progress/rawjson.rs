//! Progress as BuildKit's own status, one JSON object a line: the fields, the times and the base64
//! of Go's encoding of `client.SolveStatus`, so that readers of buildx's `rawjson` read ours.

use super::synthetic::Told;
use crate::event::{BuildStatus, Vertex, VertexLog, VertexStatus, VertexWarning, Warning};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;
use std::time::SystemTime;

/// One line, with its newline; empty where there is nothing to say.
pub(super) fn line(told: &Told) -> String {
    let status = match told {
        Told::Status(status) => SolveStatus::from(status),
        Told::Warning(warning) => SolveStatus::from(warning),
        Told::Built => return String::new(),
    };
    match serde_json::to_string(&status) {
        Ok(json) if json != "{}" => format!("{}\n", escape_html(&json)),
        _ => String::new(),
    }
}

/// Go's encoder escapes these; they can stand in strings only.
fn escape_html(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            '<' => escaped.push_str("\\u003c"),
            '>' => escaped.push_str("\\u003e"),
            '&' => escaped.push_str("\\u0026"),
            '\u{2028}' => escaped.push_str("\\u2028"),
            '\u{2029}' => escaped.push_str("\\u2029"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[derive(Serialize)]
struct SolveStatus<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    vertexes: Vec<VertexJson<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    statuses: Vec<StatusJson<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    logs: Vec<LogJson<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<WarningJson<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct VertexJson<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    digest: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    inputs: &'a [String],
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed: Option<String>,
    #[serde(skip_serializing_if = "is_false")]
    cached: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress_group: Option<GroupJson<'a>>,
}

#[derive(Serialize)]
struct GroupJson<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "is_false")]
    weak: bool,
}

#[derive(Serialize)]
struct StatusJson<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    vertex: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    total: i64,
    current: i64,
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed: Option<String>,
}

#[derive(Serialize)]
struct LogJson<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    vertex: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    stream: i64,
    data: String,
    timestamp: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WarningJson<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    vertex: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    level: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    short: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    detail: Vec<String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    url: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_info: Option<SourceJson<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    range: Vec<RangeJson>,
}

#[derive(Serialize)]
struct SourceJson<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    filename: &'a str,
    #[serde(skip_serializing_if = "String::is_empty")]
    data: String,
}

#[derive(Serialize)]
struct RangeJson {
    start: PositionJson,
    end: PositionJson,
}

#[derive(Serialize)]
struct PositionJson {
    #[serde(skip_serializing_if = "is_zero_i32")]
    line: i32,
    #[serde(skip_serializing_if = "is_zero_i32")]
    character: i32,
}

impl<'a> From<&'a BuildStatus> for SolveStatus<'a> {
    fn from(status: &'a BuildStatus) -> Self {
        Self {
            vertexes: status.vertices.iter().map(VertexJson::from).collect(),
            statuses: status.statuses.iter().map(StatusJson::from).collect(),
            logs: status.logs.iter().map(LogJson::from).collect(),
            warnings: status.warnings.iter().map(WarningJson::from).collect(),
        }
    }
}

impl<'a> From<&'a Warning> for SolveStatus<'a> {
    fn from(warning: &'a Warning) -> Self {
        let hint = warning.hint.iter().map(|hint| STANDARD.encode(hint)).collect();
        let warning = WarningJson {
            vertex: "",
            level: 1,
            short: STANDARD.encode(&warning.message),
            detail: hint,
            url: "",
            source_info: None,
            range: Vec::new(),
        };
        Self {
            vertexes: Vec::new(),
            statuses: Vec::new(),
            logs: Vec::new(),
            warnings: vec![warning],
        }
    }
}

impl<'a> From<&'a Vertex> for VertexJson<'a> {
    fn from(vertex: &'a Vertex) -> Self {
        Self {
            digest: &vertex.digest,
            inputs: &vertex.inputs,
            name: &vertex.name,
            started: vertex.started.map(time),
            completed: vertex.completed.map(time),
            cached: vertex.cached,
            error: &vertex.error,
            progress_group: vertex.group.as_ref().map(|group| GroupJson {
                id: &group.id,
                name: &group.name,
                weak: group.weak,
            }),
        }
    }
}

impl<'a> From<&'a VertexStatus> for StatusJson<'a> {
    fn from(status: &'a VertexStatus) -> Self {
        Self {
            id: &status.id,
            vertex: &status.vertex,
            name: &status.name,
            total: status.total,
            current: status.current,
            timestamp: required_time(status.timestamp),
            started: status.started.map(time),
            completed: status.completed.map(time),
        }
    }
}

impl<'a> From<&'a VertexLog> for LogJson<'a> {
    fn from(log: &'a VertexLog) -> Self {
        Self {
            vertex: &log.vertex,
            stream: log.stream,
            data: STANDARD.encode(&log.data),
            timestamp: required_time(log.timestamp),
        }
    }
}

impl<'a> From<&'a VertexWarning> for WarningJson<'a> {
    fn from(warning: &'a VertexWarning) -> Self {
        let has_source = !warning.filename.is_empty() || !warning.source.is_empty();
        let position = |(line, character)| PositionJson { line, character };
        Self {
            vertex: &warning.vertex,
            level: warning.level,
            short: STANDARD.encode(&warning.short),
            detail: warning.detail.iter().map(|line| STANDARD.encode(line)).collect(),
            url: &warning.url,
            source_info: has_source.then(|| SourceJson {
                filename: &warning.filename,
                data: STANDARD.encode(&warning.source),
            }),
            range: warning
                .ranges
                .iter()
                .map(|(start, end)| RangeJson { start: position(*start), end: position(*end) })
                .collect(),
        }
    }
}

/// RFC 3339 in UTC with as many decimals as it takes.
fn time(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(|_| zero_time(), |timestamp| timestamp.to_string())
}

/// A time that Go does not leave out: its zero is the first second of the year 1.
fn required_time(moment: Option<SystemTime>) -> String {
    moment.map_or_else(zero_time, time)
}

fn zero_time() -> String {
    "0001-01-01T00:00:00Z".to_owned()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_false(value: &bool) -> bool {
    !value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_zero(value: &i64) -> bool {
    *value == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_zero_i32(value: &i32) -> bool {
    *value == 0
}

#[cfg(test)]
mod tests {
    use super::line;
    use crate::{
        event::{BuildStatus, Vertex, VertexLog, VertexStatus, VertexWarning, Warning},
        progress::synthetic::Told,
    };
    use std::time::{Duration, SystemTime};

    fn at(nanoseconds: u32) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::new(1_800_000_000, nanoseconds)
    }

    #[test]
    fn lines_are_what_go_makes_of_a_solve_status() {
        let status = BuildStatus {
            vertices: vec![Vertex {
                digest: "sha256:a".to_owned(),
                inputs: vec!["sha256:b".to_owned()],
                name: "[1/2] RUN a && b <c>".to_owned(),
                started: Some(at(120_000_000)),
                completed: Some(at(0)),
                ..Vertex::default()
            }],
            statuses: vec![VertexStatus {
                id: "transferring".to_owned(),
                vertex: "sha256:a".to_owned(),
                timestamp: Some(at(1)),
                ..VertexStatus::default()
            }],
            logs: vec![VertexLog {
                vertex: "sha256:a".to_owned(),
                timestamp: None,
                stream: 2,
                data: b"hi\n".to_vec(),
            }],
            warnings: vec![VertexWarning {
                short: "odd".to_owned(),
                filename: "Dockerfile".to_owned(),
                source: b"FROM a".to_vec(),
                ranges: vec![((1, 0), (1, 6))],
                ..VertexWarning::default()
            }],
        };
        insta::assert_snapshot!(line(&Told::Status(status)).trim_end(), @r#"{"vertexes":[{"digest":"sha256:a","inputs":["sha256:b"],"name":"[1/2] RUN a \u0026\u0026 b \u003cc\u003e","started":"2027-01-15T08:00:00.12Z","completed":"2027-01-15T08:00:00Z"}],"statuses":[{"id":"transferring","vertex":"sha256:a","current":0,"timestamp":"2027-01-15T08:00:00.000000001Z"}],"logs":[{"vertex":"sha256:a","stream":2,"data":"aGkK","timestamp":"0001-01-01T00:00:00Z"}],"warnings":[{"short":"b2Rk","sourceInfo":{"filename":"Dockerfile","data":"RlJPTSBh"},"range":[{"start":{"line":1},"end":{"line":1,"character":6}}]}]}"#);
    }

    #[test]
    fn a_warning_without_a_step_is_a_warning_and_nothing_is_no_line() {
        let warning = Warning { code: "ODD", message: "odd".to_owned(), hint: None };
        assert_eq!(
            line(&Told::Warning(warning)),
            "{\"warnings\":[{\"level\":1,\"short\":\"b2Rk\"}]}\n"
        );
        assert_eq!(line(&Told::Status(BuildStatus::default())), "");
    }
}
