//! A source policy in the builder's words.

use crate::{
    plan::{PolicyAction, PolicyCondition, PolicyMatch, PolicyRule, SourcePolicy},
    proto::moby::buildkit::v1::sourcepolicy::{
        self, AttrConstraint, AttrMatch, MatchType, Policy, Rule, Selector, Update,
    },
};

/// The policy as a build carries it.
pub(super) fn policy(policy: &SourcePolicy) -> Policy {
    Policy { version: policy.version, rules: policy.rules.iter().map(rule).collect() }
}

fn rule(rule: &PolicyRule) -> Rule {
    let action = match rule.action {
        PolicyAction::Allow => sourcepolicy::PolicyAction::Allow,
        PolicyAction::Deny => sourcepolicy::PolicyAction::Deny,
        PolicyAction::Convert => sourcepolicy::PolicyAction::Convert,
    };
    let match_type = match rule.selector.match_type {
        PolicyMatch::Wildcard => MatchType::Wildcard,
        PolicyMatch::Exact => MatchType::Exact,
        PolicyMatch::Regex => MatchType::Regex,
    };
    let constraints = rule.selector.constraints.iter().map(|one| AttrConstraint {
        key: one.key.clone(),
        value: one.value.clone(),
        condition: match one.condition {
            PolicyCondition::Equal => AttrMatch::Equal,
            PolicyCondition::NotEqual => AttrMatch::Notequal,
            PolicyCondition::Matches => AttrMatch::Matches,
        }
        .into(),
    });
    Rule {
        action: action.into(),
        selector: Some(Selector {
            identifier: rule.selector.identifier.clone(),
            match_type: match_type.into(),
            constraints: constraints.collect(),
        }),
        updates: rule.updates.as_ref().map(|update| Update {
            identifier: update.identifier.clone(),
            attrs: update.attrs.clone(),
        }),
    }
}
