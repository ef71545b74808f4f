//! `ignored-rules`: rules of a direction that policyTypes does not name.
//!
//! Kubernetes accepts and ignores them (types.go, NetworkPolicySpec.policyTypes).

use crate::{
    finding::{FieldPath, Finding, Severity},
    policy::model::{Direction, NetworkPolicy},
};
use serde_json::Value;

pub(super) fn rules(object: &Value, policy: &NetworkPolicy) -> Vec<Finding> {
    let find = |direction: Direction| {
        let rules = object["spec"][direction.as_str()].as_array().filter(|rules| !rules.is_empty())?;
        if policy.rules(direction).is_some() {
            return None;
        }
        let (word, other) = match direction {
            Direction::Ingress => ("Ingress", "Egress"),
            Direction::Egress => ("Egress", "Ingress"),
        };
        let subject = match rules.len() {
            1 => format!("the rule under {direction} does"),
            many => format!("the {many} rules under {direction} do"),
        };
        Some(Finding {
            rule: "ignored-rules",
            severity: Severity::Error,
            path: FieldPath::root().field("spec").field(direction.as_str()),
            message: format!("{subject} nothing: policyTypes does not name {word}"),
            help: format!("write policyTypes: [{other}, {word}], or leave {direction} out"),
            server: false,
        })
    };
    Direction::BOTH.into_iter().filter_map(find).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn paths(spec: Value, policy: NetworkPolicy) -> Vec<String> {
        rules(&json!({"spec": spec}), &policy).into_iter().map(|f| f.path.to_string()).collect()
    }

    #[test]
    fn rules_of_a_direction_that_is_not_isolated_are_found() {
        let ingress_only = || NetworkPolicy { ingress: Some(vec![]), ..NetworkPolicy::default() };
        assert_eq!(paths(json!({"ingress": [{}], "egress": [{}]}), ingress_only()), ["spec.egress"]);
        assert_eq!(paths(json!({"egress": []}), ingress_only()), Vec::<String>::new());
        let egress_only = NetworkPolicy { egress: Some(vec![]), ..NetworkPolicy::default() };
        assert_eq!(paths(json!({"ingress": [{}]}), egress_only), ["spec.ingress"]);
    }
}
