//! `ignored-rules`: rules of a direction that policyTypes does not name.
//!
//! Kubernetes accepts and ignores them (types.go, NetworkPolicySpec.policyTypes).

use super::{Policy, items, spec};
use crate::{
    finding::{Finding, Severity, rule::Rule},
    policy::model::Direction,
};

pub(super) const RULES: &[Rule] = &[IGNORED];

const IGNORED: Rule = Rule {
    id: "ignored-rules",
    severity: Some(Severity::Error),
    title: "Rules of a direction that policyTypes does not name do nothing",
    why: "`policyTypes` says in which directions a policy isolates. Rules of another direction are accepted by the API server \
          and ignored: nothing is denied there by this policy, and nothing is admitted by it.",
    wrong: "\
podSelector: {}
policyTypes: [Ingress]
egress:
- to:
  - podSelector: {matchLabels: {app: db}}
",
    right: "\
podSelector: {}
policyTypes: [Ingress, Egress]
egress:
- to:
  - podSelector: {matchLabels: {app: db}}
",
};

pub(super) fn rules(policy: &Policy<'_>) -> Vec<Finding> {
    let types: Vec<&str> = items(&policy.object["spec"]["policyTypes"]).filter_map(|item| item.as_str()).collect();
    let find = |direction: Direction| {
        let rules = policy.object["spec"][direction.as_str()].as_array().filter(|rules| !rules.is_empty())?;
        let (word, other) = match direction {
            Direction::Ingress => ("Ingress", "Egress"),
            Direction::Egress => ("Egress", "Ingress"),
        };
        // Where no type is said the default names every direction that has rules.
        if types.is_empty() || types.contains(&word) || !types.contains(&other) {
            return None;
        }
        let subject = match rules.len() {
            1 => format!("the rule under {direction} does"),
            many => format!("the {many} rules under {direction} do"),
        };
        Some(IGNORED.at(
            &spec().field(direction.as_str()),
            format!("{subject} nothing: policyTypes does not name {word}"),
            format!("write policyTypes: [{other}, {word}], or leave {direction} out"),
        ))
    };
    Direction::BOTH.into_iter().filter_map(find).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::model::Key;
    use rstest::rstest;
    use serde_json::{Value, json};

    #[rstest]
    #[case::egress(json!({"policyTypes": ["Ingress"], "egress": [{}]}), &["spec.egress"])]
    #[case::ingress(json!({"policyTypes": ["Egress"], "ingress": [{}]}), &["spec.ingress"])]
    #[case::an_empty_list_is_none(json!({"policyTypes": ["Ingress"], "egress": []}), &[])]
    #[case::the_default_names_what_has_rules(json!({"ingress": [{}], "egress": [{}]}), &[])]
    #[case::a_word_that_is_none_is_told_elsewhere(json!({"policyTypes": ["egress"], "egress": [{}]}), &[])]
    fn rules_of_a_direction_that_is_not_isolated_are_found(#[case] spec: Value, #[case] paths: &[&str]) {
        let (key, object) = (Key::new("shop", "web"), json!({"spec": spec}));
        let policy = Policy { key: &key, object: &object, written: None, value: None, view: None };
        let found: Vec<String> = rules(&policy).into_iter().map(|finding| finding.path.to_string()).collect();
        assert_eq!(found, paths);
    }
}
