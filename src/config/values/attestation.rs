//! `--attest`, `--provenance` and `--sbom`.

use super::{
    ValueError,
    fields::{boolean, pairs},
};
use std::collections::BTreeMap;

const EXAMPLE: &str = "type=provenance,mode=max";

/// An `--attest`: its type, and its attributes less `type` (none where it is switched off).
fn attestation(text: &str) -> Result<(String, Option<String>), ValueError> {
    let (mut kind, mut disabled, mut attributes) = (String::new(), false, Vec::new());
    for (key, value) in pairs(text, EXAMPLE)? {
        match key.as_str() {
            "type" => kind = value,
            "disabled" => {
                disabled = boolean(&value).ok_or_else(|| {
                    ValueError::new(
                        format!("`disabled={value}` is neither true nor false"),
                        "write `disabled=true` or `disabled=false`",
                    )
                })?;
            }
            _ => attributes.push(quoted(&format!("{key}={value}"))),
        }
    }
    match kind.as_str() {
        "provenance" | "sbom" => Ok((kind, (!disabled).then(|| attributes.join(",")))),
        "" => Err(ValueError::new(
            format!("the attestation `{text}` has no type"),
            format!("write it like `{EXAMPLE}`"),
        )),
        _ => Err(ValueError::new(
            format!("unknown attestation type `{kind}`"),
            "the types are `provenance` and `sbom`",
        )),
    }
}

/// All attestations of a build. The shorthands are added after `--attest`, and the first word on a
/// type wins, as in buildx.
pub(crate) fn attestations(
    attest: &[String],
    provenance: Option<&str>,
    sbom: Option<&str>,
) -> Result<BTreeMap<String, Option<String>>, (&'static str, ValueError)> {
    let mut all = BTreeMap::new();
    let long = attest.iter().map(|text| ("--attest", text.clone()));
    let short = [("--provenance", "provenance", provenance), ("--sbom", "sbom", sbom)];
    let short = short.into_iter().filter_map(|(flag, kind, value)| {
        let value = value.filter(|value| !value.is_empty())?;
        Some((
            flag,
            match boolean(value) {
                Some(on) => format!("type={kind},disabled={}", !on),
                None => format!("type={kind},{value}"),
            },
        ))
    });
    for (flag, text) in long.chain(short) {
        let (kind, attributes) = attestation(&text).map_err(|error| (flag, error))?;
        all.entry(kind).or_insert(attributes);
    }
    Ok(all)
}

/// A field as CSV writes it.
fn quoted(field: &str) -> String {
    if field.contains([',', '"']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::attestations;

    #[test]
    fn shorthands_and_the_long_form_meet_in_one_map() {
        type Row<'a> = (&'a [&'a str], Option<&'a str>, Option<&'a str>, &'a str);
        let table: &[Row<'_>] = &[
            (&[], None, None, "{}"),
            (&[], Some("false"), None, r#"{"provenance": None}"#),
            (&[], Some("true"), Some("1"), r#"{"provenance": Some(""), "sbom": Some("")}"#),
            (&[], Some("mode=max"), None, r#"{"provenance": Some("mode=max")}"#),
            (&["type=sbom,generator=a/b"], None, None, r#"{"sbom": Some("generator=a/b")}"#),
            (&["type=sbom,disabled=true"], None, Some("true"), r#"{"sbom": None}"#),
        ];
        for (attest, provenance, sbom, expected) in table {
            let attest: Vec<String> = attest.iter().map(|&text| text.to_owned()).collect();
            let all = attestations(&attest, *provenance, *sbom).unwrap();
            assert_eq!(format!("{all:?}"), *expected);
        }
    }

    #[test]
    fn a_wrong_one_names_its_flag() {
        let error = attestations(&["mode=max".to_owned()], None, None).unwrap_err();
        assert_eq!(error.0, "--attest");
        let error = attestations(&[], Some("max"), None).unwrap_err();
        assert_eq!(
            (error.0, error.1.problem.as_str()),
            ("--provenance", "the field `max` is no `key=value` pair")
        );
    }
}
