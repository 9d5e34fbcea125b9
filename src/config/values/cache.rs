//! `--cache-from` and `--cache-to`.

use super::{
    ValueError,
    fields::{fields, pairs},
};
use crate::plan::CacheEntry;
use std::collections::BTreeMap;

const EXAMPLE: &str = "type=registry,ref=ghcr.io/owner/app:cache";

/// The entries of one flag: several where it is a list of bare references.
pub(crate) fn cache_entries(text: &str) -> Result<Vec<CacheEntry>, ValueError> {
    if !text.contains('=') {
        let references = fields(text)?;
        return Ok(references
            .into_iter()
            .map(|reference| CacheEntry {
                kind: "registry".to_owned(),
                attributes: BTreeMap::from([("ref".to_owned(), reference)]),
            })
            .collect());
    }
    let mut attributes: BTreeMap<_, _> = pairs(text, EXAMPLE)?.into_iter().collect();
    match attributes.remove("type").filter(|kind| !kind.is_empty()) {
        Some(kind) => Ok(vec![CacheEntry { kind, attributes }]),
        None => Err(ValueError::new(
            format!("the cache `{text}` has no type"),
            format!("write it like `{EXAMPLE}`"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::cache_entries;

    #[test]
    fn caches_are_pairs_or_bare_references() {
        let table: &[(&str, &[(&str, &str)])] = &[
            ("user/app:cache", &[("registry", r#"{"ref": "user/app:cache"}"#)]),
            ("a:1,b:2", &[("registry", r#"{"ref": "a:1"}"#), ("registry", r#"{"ref": "b:2"}"#)]),
            ("type=inline", &[("inline", "{}")]),
            ("type=local,SRC=dir,mode=max", &[("local", r#"{"mode": "max", "src": "dir"}"#)]),
        ];
        for (text, expected) in table {
            let entries = cache_entries(text).unwrap();
            let shown: Vec<_> = entries
                .iter()
                .map(|one| (one.kind.clone(), format!("{:?}", one.attributes)))
                .collect();
            let shown: Vec<_> = shown.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
            assert_eq!(shown, *expected, "{text}");
        }
    }

    #[test]
    fn a_cache_without_a_type_is_refused() {
        assert_eq!(cache_entries("ref=a").unwrap_err().problem, "the cache `ref=a` has no type");
    }
}
