//! How an image was built: what is needed to build it from the same commit again.

use crate::{
    plan::{BuildPlan, ImageLock},
    why,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// How an image was built.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct BuildRecord {
    /// What was asked for. Paths of the checkout start at its top. Where the image went and which
    /// caches were used is left out: neither makes it another one.
    pub plan: BuildPlan,
    /// The images that it starts from, by their digests; none where the builder compiled.
    pub bases: ImageLock,
    /// Build arguments whose values are not kept, since they may be secrets.
    pub hidden_args: BTreeSet<String>,
}

impl BuildRecord {
    /// The record of `plan`, whose paths start at the checkout's top. The values of `masked`
    /// arguments, and of those whose names say that they are secrets, are not kept.
    pub fn new(plan: BuildPlan, bases: ImageLock, masked: &BTreeSet<&str>) -> Self {
        let mut plan = BuildPlan {
            cache_from: Vec::new(),
            cache_to: Vec::new(),
            push: false,
            load: false,
            outputs: Vec::new(),
            iid_file: None,
            metadata_file: None,
            ..plan
        };
        let may_be_secret =
            |name: &str, value: &str| masked.contains(name) || why::kept(name, value) != value;
        let hidden_args: BTreeSet<String> = plan
            .args
            .iter()
            .filter(|(name, value)| may_be_secret(name, value))
            .map(|(name, _)| name.clone())
            .collect();
        plan.args.retain(|name, _| !hidden_args.contains(name));
        Self { plan, bases, hidden_args }
    }
}

#[cfg(test)]
mod tests {
    use super::BuildRecord;
    use crate::plan::{
        BuildPlan, CacheEntry, Context, FrontendChoice, ImageLock, NamedContext, Network, Pinning,
        PolicyAction, PolicyCondition, PolicyConstraint, PolicyRule, PolicySelector, SecretSource,
        SecretSpec, SourcePolicy,
    };
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn a_plan_survives_the_way_to_disk_without_its_secrets() {
        let text = |text: &str| text.to_owned();
        let lock = ImageLock(BTreeMap::from([(text("a"), text("sha256:1"))]));
        let constraint = PolicyConstraint {
            key: text("k"),
            value: text("v"),
            condition: PolicyCondition::NotEqual,
        };
        let selector = PolicySelector {
            identifier: text("docker-image://*"),
            constraints: vec![constraint],
            match_type: crate::plan::PolicyMatch::Exact,
        };
        let rule = PolicyRule { action: PolicyAction::Deny, selector, updates: None };
        let keys = BTreeMap::from([(text("secret_access_key"), text("hush"))]);
        let plan = BuildPlan {
            context: Context::Directory("app".into()),
            args: [("A", "b"), ("NPM_TOKEN", "hush"), ("OF_ENV", "hush")]
                .map(|(name, value)| (text(name), text(value)))
                .into(),
            named_contexts: vec![NamedContext { name: text("n"), value: text("docker-image://a") }],
            secrets: vec![SecretSpec { id: text("i"), source: SecretSource::Env(text("E")) }],
            network: Network::None,
            frontend: FrontendChoice::Native,
            cache_to: vec![CacheEntry { kind: text("s3"), attributes: keys }],
            reproducible: Some(0),
            pinning: Pinning::Locked(lock.clone()),
            source_policy: Some(SourcePolicy { version: 1, rules: vec![rule] }),
            ..BuildPlan::default()
        };
        let record = BuildRecord::new(plan, lock, &BTreeSet::from(["OF_ENV"]));
        assert_eq!(record.hidden_args, ["NPM_TOKEN", "OF_ENV"].map(str::to_owned).into());
        let written = serde_json::to_string(&record).unwrap();
        assert!(!written.contains("hush"), "{written}");
        assert_eq!(serde_json::from_str::<BuildRecord>(&written).unwrap(), record);
    }

    #[test]
    fn a_plan_that_lacks_what_later_ones_have_is_read() {
        let read: BuildRecord =
            serde_json::from_str(r#"{"plan":{"target":"t"},"bases":{},"hidden_args":[]}"#).unwrap();
        assert_eq!(read.plan.target.as_deref(), Some("t"));
    }
}
