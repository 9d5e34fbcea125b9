//! What a metadata file holds besides the exporters' answers, in buildx's shape: what the builder's
//! history says of the image's provenance, and the build's warnings.

use crate::{
    buildkit::control::Control,
    event::VertexWarning,
    plan::{MetadataDetail, ProvenanceDetail},
    proto::moby::buildkit::v1::{BuildHistoryRecord, BuildResultInfo},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The largest provenance that is read, in bytes: it lists every step of a build.
const PROVENANCE_LIMIT: usize = 32 << 20;

/// What tells an attestation's kind.
const PREDICATE: &str = "in-toto.io/predicate-type";

/// How the kinds of provenance begin, of any version.
const PROVENANCE: &str = "https://slsa.dev/provenance/";

/// The key of the provenance; with a platform behind it where there are several.
const PROVENANCE_KEY: &str = "buildx.build.provenance";

/// The key of the warnings.
const WARNINGS_KEY: &str = "buildx.build.warnings";

/// The entries for the build `build_id`, as far as `detail` wants them.
pub(super) async fn entries(
    control: &Control,
    build_id: &str,
    detail: MetadataDetail,
    warnings: &[VertexWarning],
) -> BTreeMap<String, Value> {
    let mut entries = BTreeMap::new();
    if detail.warnings && !warnings.is_empty() {
        entries.insert(WARNINGS_KEY.to_owned(), warnings.iter().map(warning).collect());
    }
    if detail.provenance == ProvenanceDetail::Disabled {
        return entries;
    }
    match control.history(build_id).await {
        Ok(Some(record)) => {
            for (key, digest) in provenance(&record) {
                match control.read_blob(&digest, PROVENANCE_LIMIT).await {
                    Ok(Some(blob)) => {
                        if let Ok(mut predicate) = serde_json::from_slice(&blob) {
                            if detail.provenance == ProvenanceDetail::Min {
                                shorten(&mut predicate);
                            }
                            entries.insert(key, predicate);
                        }
                    }
                    Ok(None) => tracing::debug!(digest, "the provenance is too large"),
                    Err(failure) => tracing::debug!(%failure, digest, "no provenance"),
                }
            }
        }
        // Some builders keep no history.
        Ok(None) => {}
        Err(failure) => tracing::debug!(%failure, "no history of the build"),
    }
    entries
}

/// The keys of a record's provenances, and their digests.
fn provenance(record: &BuildHistoryRecord) -> Vec<(String, String)> {
    let of = |result: &BuildResultInfo| {
        let is_provenance = |kind: &String| kind.starts_with(PROVENANCE);
        result
            .attestations
            .iter()
            .find(|one| one.annotations.get(PREDICATE).is_some_and(is_provenance))
            .map(|one| one.digest.clone())
    };
    let mut found: Vec<(String, String)> = record
        .results
        .iter()
        .filter_map(|(platform, result)| {
            Some((format!("{PROVENANCE_KEY}/{platform}"), of(result)?))
        })
        .collect();
    if let Some(digest) = record.result.as_ref().and_then(of) {
        found.push((PROVENANCE_KEY.to_owned(), digest));
    }
    found
}

/// Leaves out what says how it went instead of what was built: steps and times.
fn shorten(predicate: &mut Value) {
    let Value::Object(fields) = predicate else { return };
    fields.remove("buildConfig");
    fields.remove("metadata");
    if let Some(Value::Object(run)) = fields.get_mut("runDetails") {
        run.remove("metadata");
    }
    let internal = fields
        .get_mut("buildDefinition")
        .and_then(|definition| definition.get_mut("internalParameters"));
    if let Some(Value::Object(parameters)) = internal {
        parameters.remove("buildConfig");
    }
}

/// A warning in the JSON of BuildKit's own client.
fn warning(warning: &VertexWarning) -> Value {
    let base64 = |text: &[u8]| Value::from(BASE64_STANDARD.encode(text));
    let mut fields = Map::new();
    fields.insert("vertex".to_owned(), Value::from(warning.vertex.as_str()));
    fields.insert("level".to_owned(), Value::from(warning.level));
    fields.insert("short".to_owned(), base64(warning.short.as_bytes()));
    let detail = warning.detail.iter().map(|line| base64(line.as_bytes()));
    fields.insert("detail".to_owned(), detail.collect());
    if !warning.url.is_empty() {
        fields.insert("url".to_owned(), Value::from(warning.url.as_str()));
    }
    if !warning.filename.is_empty() {
        let source = json!({"filename": warning.filename, "data": base64(&warning.source)});
        fields.insert("sourceInfo".to_owned(), source);
    }
    let place = |(line, character): (i32, i32)| json!({"line": line, "character": character});
    let ranges = warning
        .ranges
        .iter()
        .map(|(start, end)| json!({"start": place(*start), "end": place(*end)}));
    fields.insert("range".to_owned(), ranges.collect());
    Value::Object(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::moby::buildkit::v1::Descriptor;

    fn result(kind: &str, digest: &str) -> BuildResultInfo {
        let descriptor = |kind: &str, digest: &str| Descriptor {
            digest: digest.to_owned(),
            annotations: BTreeMap::from([(PREDICATE.to_owned(), kind.to_owned())]),
            ..Descriptor::default()
        };
        let attestations =
            vec![descriptor("https://spdx.dev/Document", "x"), descriptor(kind, digest)];
        BuildResultInfo { attestations, ..BuildResultInfo::default() }
    }

    #[test]
    fn a_provenance_has_its_platform_where_there_are_several() {
        let old = "https://slsa.dev/provenance/v0.2";
        let one = BuildHistoryRecord { result: Some(result(old, "a")), ..Default::default() };
        assert_eq!(provenance(&one), [("buildx.build.provenance".to_owned(), "a".to_owned())]);
        let new = result("https://slsa.dev/provenance/v1", "b");
        let results = BTreeMap::from([("linux/arm64".to_owned(), new)]);
        let several = BuildHistoryRecord { results, ..Default::default() };
        let key = "buildx.build.provenance/linux/arm64".to_owned();
        assert_eq!(provenance(&several), [(key, "b".to_owned())]);
    }

    #[test]
    fn a_short_provenance_has_no_steps_and_no_times() {
        let mut old = json!({"builder": {"id": ""}, "buildType": "t", "metadata": {}, "buildConfig": {}, "materials": []});
        shorten(&mut old);
        assert_eq!(old, json!({"builder": {"id": ""}, "buildType": "t", "materials": []}));
        let mut new = json!({"buildDefinition": {"internalParameters": {"buildConfig": {}, "x": 1}}, "runDetails": {"metadata": {}}});
        shorten(&mut new);
        assert_eq!(
            new,
            json!({"buildDefinition": {"internalParameters": {"x": 1}}, "runDetails": {}})
        );
    }
}
