//! What a workload is told of the deploy that it carries.

use super::Receipt;
use std::collections::BTreeMap;

/// What the names of our annotations begin with.
pub const ANNOTATION_PREFIX: &str = "bk-sync/";

/// The annotations for the workload itself, beside those that the rollout writes (image and
/// commit). They are not for its pod template: a new receipt must
/// not start new pods.
pub fn annotations(receipt: &Receipt) -> BTreeMap<String, String> {
    let git = receipt.git.as_ref();
    let facts = [
        ("receipt", Some(receipt.id.clone())),
        ("outcome", Some(receipt.outcome.name().to_owned())),
        ("git-tree", git.map(|git| git.tree.clone())),
        ("git-dirty", git.map(|git| git.dirty.to_string())),
        ("llb-digest", receipt.llb_digest.clone()),
        ("deployed-at", receipt.ended.clone().or_else(|| Some(receipt.started.clone()))),
        ("reason", Some(receipt.reason.clone())),
    ];
    facts
        .into_iter()
        .filter_map(|(name, value)| Some((format!("{ANNOTATION_PREFIX}{name}"), value?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::annotations;
    use crate::{plan::GitFacts, record::Receipt};

    #[test]
    fn what_is_not_known_is_left_out() {
        let git = GitFacts { tree: "t1".to_owned(), dirty: true, ..GitFacts::default() };
        let receipt = Receipt { id: "1".to_owned(), git: Some(git), ..Receipt::default() };
        let annotations = annotations(&receipt);
        assert_eq!(annotations["bk-sync/git-tree"], "t1");
        assert_eq!(annotations["bk-sync/git-dirty"], "true");
        assert!(!annotations.contains_key("bk-sync/llb-digest"));
    }
}
