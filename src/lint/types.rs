//! What an absent `policyTypes` comes to.
//!
//! The default is Ingress, and Egress where there are egress rules (`pkg/apis/networking/v1/defaults.go`). A server writes it
//! out before it asks anybody, so these look at what the author wrote.

use super::{Policy, spec};
use crate::finding::{Finding, Severity, rule::Rule};
use serde_json::Value;

pub(super) const RULES: &[Rule] = &[EMPTY_EGRESS, IMPLIED_INGRESS, IMPLICIT];

const EMPTY_EGRESS: Rule = Rule {
    id: "empty-egress-list",
    severity: Some(Severity::Warning),
    title: "`egress: []` without policyTypes denies nothing",
    why: "Without `policyTypes` a policy isolates for ingress, and for egress only if it has egress rules. An empty list is \
          none, so `egress: []` does not deny egress; the API server even drops it before it stores the policy.",
    wrong: "podSelector: {}\negress: []\n",
    right: "podSelector: {}\npolicyTypes: [Egress]\negress: []\n",
};

const IMPLIED_INGRESS: Rule = Rule {
    id: "implied-ingress",
    severity: Some(Severity::Warning),
    title: "A policy with egress rules alone denies all ingress, too",
    why: "Without `policyTypes` every policy isolates for ingress. One that was written for egress only then cuts everything \
          that comes in.",
    wrong: "\
podSelector: {matchLabels: {app: api}}
egress:
- to:
  - podSelector: {matchLabels: {app: db}}
",
    right: "\
podSelector: {matchLabels: {app: api}}
policyTypes: [Egress]
egress:
- to:
  - podSelector: {matchLabels: {app: db}}
",
};

const IMPLICIT: Rule = Rule {
    id: "policy-types-implicit",
    severity: Some(Severity::Hint),
    title: "policyTypes is left to the default",
    why: "Without `policyTypes` a policy isolates the pods that it selects for ingress, and for egress if it has egress rules. \
          Whoever reads it has to know that.",
    wrong: "podSelector: {}\n",
    right: "podSelector: {}\npolicyTypes: [Ingress]\n",
};

pub(super) fn rules(policy: &Policy<'_>) -> Vec<Finding> {
    let Some(written) = policy.written.map(|object| &object["spec"]).filter(|spec| spec.is_object()) else {
        return vec![];
    };
    let is_empty = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    if !is_empty(&written["policyTypes"]) {
        return vec![];
    }
    let path = spec();
    if written["egress"].as_array().is_some_and(Vec::is_empty) {
        let message = "egress: [] denies nothing here: without policyTypes the policy isolates for ingress only";
        return vec![EMPTY_EGRESS.at(&path.field("egress"), message, "write policyTypes: [Egress]")];
    }
    if !is_empty(&written["egress"]) && written["ingress"].is_null() {
        let message = "the policy has egress rules only, and denies all ingress of the pods that it selects";
        let help = "write policyTypes: [Egress], or [Ingress, Egress] if that is meant";
        return vec![IMPLIED_INGRESS.at(&path.field("egress"), message, help)];
    }
    let (message, help) = match is_empty(&written["egress"]) {
        true => ("policyTypes is left out, which means [Ingress]", "write policyTypes: [Ingress]"),
        false => ("policyTypes is left out, which means [Ingress, Egress]", "write policyTypes: [Ingress, Egress]"),
    };
    vec![IMPLICIT.at(&path, message, help)]
}
