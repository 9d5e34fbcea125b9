//! What a builder says when it refuses or fails: the gRPC status, and the typed details in it.
//!
//! BuildKit puts its details into the error model's `Any`s, with a type URL that ends in `+json`
//! and JSON for a value. They come from another machine, so what is taken of them is bounded, and
//! what is not understood is passed over.

use crate::proto::google::rpc;
use base64::{
    Engine as _,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use prost::Message as _;
use serde::{Deserialize, Deserializer, de};
use std::{borrow::Cow, collections::BTreeMap, error::Error as _};

/// Details looked at in one status; BuildKit sends one per wrapped error, mostly stack traces.
const DETAILS_LIMIT: usize = 512;

/// Bytes of one detail that is looked at; a Dockerfile travels in it, base64 in JSON.
const DETAIL_SIZE_LIMIT: usize = 8 << 20;

/// A call to a builder that failed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The status code; `Unknown` for most failures of a build.
    pub code: Code,
    /// The builder's own words, outermost context first.
    pub message: String,
    /// Whether the connection broke, so that the words are ours and not the builder's.
    pub connection: bool,
    /// What it told in typed details.
    pub details: Box<Details>,
}

/// The typed details of a failure.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Details {
    /// Places in the Dockerfile that it points at, innermost first.
    pub sources: Vec<Source>,
    /// The digest of the vertex that failed.
    pub vertex: Option<String>,
    /// The op that failed.
    pub op: Option<FailedOp>,
    /// The exit code of the command that failed.
    pub exit_code: Option<u32>,
    /// The frontend that the builder lacks or that failed: its name and, for one that is an image,
    /// the reference.
    pub frontend: Option<(String, String)>,
    /// The capability that the frontend lacks.
    pub frontend_capability: Option<String>,
    /// The subrequest that the frontend does not serve.
    pub subrequest: Option<String>,
}

/// gRPC's status code.
pub type Code = tonic::Code;

/// A place in a source file of the build.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Source {
    /// The file's name as the frontend was asked for it.
    pub filename: String,
    /// The file's whole text.
    pub data: Vec<u8>,
    /// The lines meant, 1-based and inclusive: first and last.
    pub lines: Vec<(u32, u32)>,
}

/// An op that failed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FailedOp {
    /// The command, for an op that runs one.
    pub args: Vec<String>,
    /// What the frontend called the step.
    pub name: Option<String>,
    /// The instruction as the Dockerfile has it.
    pub instruction: Option<String>,
}

impl Failure {
    /// A failure without details.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), connection: false, details: Box::default() }
    }

    /// Whether the call was cancelled, by us or by the builder.
    pub fn is_cancelled(&self) -> bool {
        self.code == Code::Cancelled || self.message.ends_with("context canceled")
    }
}

impl Details {
    fn read(&mut self, detail: &prost_types::Any) {
        if detail.value.len() > DETAIL_SIZE_LIMIT {
            return;
        }
        let kind = detail.type_url.rsplit('/').next().unwrap_or_default();
        match kind {
            "errdefs.Source+json" => {
                if let Some(source) = parse::<SourceJson>(&detail.value) {
                    self.add_source(source);
                }
            }
            "errdefs.Vertex+json" => {
                if let Some(vertex) = parse::<VertexJson>(&detail.value) {
                    self.vertex = Some(vertex.digest);
                }
            }
            "errdefs.Solve+json" => {
                if let Some(op) = parse::<SolveJson>(&detail.value).and_then(SolveJson::op) {
                    self.op = Some(op);
                }
            }
            "gatewayapi.ExitMessage+json" => {
                if let Some(exit) = parse::<ExitJson>(&detail.value) {
                    self.exit_code = Some(exit.code);
                }
            }
            "errdefs.Frontend+json" => {
                if let Some(frontend) = parse::<FrontendJson>(&detail.value) {
                    self.frontend = Some((frontend.name, frontend.source));
                }
            }
            "errdefs.FrontendCap+json" => {
                if let Some(capability) = parse::<NameJson>(&detail.value) {
                    self.frontend_capability = Some(capability.name);
                }
            }
            "errdefs.Subrequest+json" => {
                if let Some(subrequest) = parse::<NameJson>(&detail.value) {
                    self.subrequest = Some(subrequest.name);
                }
            }
            _ => {}
        }
    }

    fn add_source(&mut self, source: SourceJson) {
        let Some(info) = source.info else { return };
        let lines = source
            .ranges
            .iter()
            .filter_map(|range| {
                let first = u32::try_from(range.start.line).ok().filter(|line| *line > 0)?;
                let last = u32::try_from(range.end.line).unwrap_or(first);
                Some((first, last.max(first)))
            })
            .collect();
        let source = Source { filename: info.filename, data: info.data, lines };
        // Details run from the outermost error inwards; the innermost place is the nearest.
        if !self.sources.contains(&source) {
            self.sources.insert(0, source);
        }
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        let mut failure = Self::new(status.code(), status.message());
        // A status made on this side has the transport's error as its cause.
        if let Some(cause) = status.source() {
            failure.connection = true;
            failure.message = chain(cause);
        }
        if let Ok(model) = rpc::Status::decode(status.details()) {
            for detail in model.details.iter().take(DETAILS_LIMIT) {
                failure.details.read(detail);
            }
        }
        failure
    }
}

/// An error and its causes, each told once.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = cause.source();
    }
    text
}

fn parse<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Option<T> {
    serde_json::from_slice(json).ok()
}

#[derive(Deserialize)]
struct SourceJson {
    info: Option<InfoJson>,
    #[serde(default)]
    ranges: Vec<RangeJson>,
}

#[derive(Deserialize)]
struct InfoJson {
    #[serde(default)]
    filename: String,
    #[serde(default, deserialize_with = "bytes")]
    data: Vec<u8>,
}

#[derive(Deserialize)]
struct RangeJson {
    #[serde(default)]
    start: PositionJson,
    #[serde(default)]
    end: PositionJson,
}

#[derive(Default, Deserialize)]
struct PositionJson {
    #[serde(default)]
    line: i32,
}

#[derive(Deserialize)]
struct VertexJson {
    digest: String,
}

#[derive(Deserialize)]
struct ExitJson {
    #[serde(rename = "Code", default)]
    code: u32,
}

#[derive(Deserialize)]
struct FrontendJson {
    #[serde(default)]
    name: String,
    #[serde(default)]
    source: String,
}

#[derive(Deserialize)]
struct NameJson {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct SolveJson {
    op: Option<OpJson>,
    #[serde(default)]
    description: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct OpJson {
    exec: Option<ExecJson>,
}

#[derive(Deserialize)]
struct ExecJson {
    meta: Option<MetaJson>,
}

#[derive(Deserialize)]
struct MetaJson {
    #[serde(default)]
    args: Vec<String>,
}

impl SolveJson {
    fn op(mut self) -> Option<FailedOp> {
        let exec = self.op?.exec;
        Some(FailedOp {
            args: exec.and_then(|exec| exec.meta).map(|meta| meta.args).unwrap_or_default(),
            name: self.description.remove("llb.customname"),
            instruction: self.description.remove("com.docker.dockerfile.v1.command"),
        })
    }
}

/// Base64 of either alphabet, padded or not.
fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let Some(text) = Option::<Cow<'de, str>>::deserialize(deserializer)? else {
        return Ok(Vec::new());
    };
    let standard = text.replace('-', "+").replace('_', "/");
    let lenient = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    GeneralPurpose::new(&base64::alphabet::STANDARD, lenient)
        .decode(standard)
        .map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(kind: &str, json: &str) -> prost_types::Any {
        prost_types::Any {
            type_url: format!("github.com/moby/buildkit/{kind}+json"),
            value: json.as_bytes().to_vec(),
        }
    }

    fn failure(details: Vec<prost_types::Any>) -> Failure {
        let model = rpc::Status { code: 2, message: "no".to_owned(), details };
        tonic::Status::with_details(tonic::Code::Unknown, "no", model.encode_to_vec().into()).into()
    }

    #[test]
    fn typed_details_are_read_and_unknown_ones_skipped() {
        let failure = failure(vec![
            any("stack.Stack", r#"{"frames":[{"Name":"main"}]}"#),
            any(
                "errdefs.Source",
                r#"{"info":{"filename":"Dockerfile","data":"RlJPTSBh"},"ranges":[{"start":{"line":3},"end":{"line":4}},{"start":{},"end":{}}]}"#,
            ),
            any("errdefs.Vertex", r#"{"digest":"sha256:aa"}"#),
            any(
                "errdefs.Solve",
                r#"{"inputIDs":["x"],"op":{"exec":{"meta":{"args":["/bin/sh","-c","false"],"cwd":"/"}},"platform":{"Architecture":"arm64"}},"description":{"llb.customname":"[2/2] RUN false"}}"#,
            ),
            any("gatewayapi.ExitMessage", r#"{"Code":7}"#),
            any("errdefs.Frontend", r#"{"name":"gateway.v0","source":"a/b:c"}"#),
            any("errdefs.Subrequest", r#"{"name":"frontend.lint"}"#),
            any("errdefs.FrontendCap", "not json"),
        ]);
        assert_eq!(
            failure.details.sources,
            [Source {
                filename: "Dockerfile".to_owned(),
                data: b"FROM a".to_vec(),
                lines: vec![(3, 4)],
            }]
        );
        assert_eq!(failure.details.vertex.as_deref(), Some("sha256:aa"));
        let op = failure.details.op.expect("an op");
        assert_eq!(op.args, ["/bin/sh", "-c", "false"]);
        assert_eq!(op.name.as_deref(), Some("[2/2] RUN false"));
        assert_eq!(failure.details.exit_code, Some(7));
        assert_eq!(failure.details.frontend, Some(("gateway.v0".to_owned(), "a/b:c".to_owned())));
        assert_eq!(failure.details.subrequest.as_deref(), Some("frontend.lint"));
        assert_eq!(failure.details.frontend_capability, None);
        assert!(!failure.connection);
    }

    #[test]
    fn source_text_is_read_in_either_alphabet_with_or_without_padding() {
        for (text, expected) in
            [("+/8=", [0xfb, 0xff]), ("-_8", [0xfb, 0xff]), ("-_8=", [0xfb, 0xff])]
        {
            let json = format!(r#"{{"info":{{"filename":"f","data":"{text}"}}}}"#);
            let failure = failure(vec![any("errdefs.Source", &json)]);
            assert_eq!(
                failure.details.sources.first().map(|s| s.data.as_slice()),
                Some(&expected[..])
            );
        }
    }

    #[test]
    fn the_innermost_place_comes_first_and_is_told_once() {
        let place = |line: u32| {
            let json = format!(
                r#"{{"info":{{"filename":"f"}},"ranges":[{{"start":{{"line":{line}}},"end":{{"line":{line}}}}}]}}"#
            );
            any("errdefs.Source", &json)
        };
        let failure = failure(vec![place(1), place(9), place(1)]);
        let lines: Vec<_> = failure.details.sources.iter().flat_map(|s| s.lines.clone()).collect();
        assert_eq!(lines, [(9, 9), (1, 1)]);
    }

    #[test]
    fn details_that_are_no_error_model_are_no_panic() {
        let status =
            tonic::Status::with_details(tonic::Code::Internal, "x", vec![0xff_u8; 40].into());
        assert_eq!(Failure::from(status), Failure::new(tonic::Code::Internal, "x"));
    }

    #[test]
    fn an_oversized_detail_is_passed_over() {
        let big = "A".repeat(DETAIL_SIZE_LIMIT);
        let json = format!(r#"{{"info":{{"filename":"f","data":"{big}"}}}}"#);
        assert!(failure(vec![any("errdefs.Source", &json)]).details.sources.is_empty());
    }
}
