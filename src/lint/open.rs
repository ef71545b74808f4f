//! Rules that admit more than they look like.

use super::{Meaning, Policy, items, spec, view::list};
use crate::{
    finding::{Finding, Severity, rule::Rule},
    policy::model::Direction,
};

pub(super) const RULES: &[Rule] = &[ALLOWS_ALL, EMPTY_PEERS, FROM_ANYWHERE, TO_ANYWHERE, EVERY_POD];

const ALLOWS_ALL: Rule = Rule {
    id: "rule-allows-all",
    severity: Some(Severity::Warning),
    title: "An empty rule admits everything",
    why: "A rule without peers and without ports admits everybody on every port. Policies add up, so it undoes whatever the \
          others deny for these pods in that direction.",
    wrong: "podSelector: {}\npolicyTypes: [Ingress]\ningress:\n- {}\n",
    right: "podSelector: {}\npolicyTypes: [Ingress]\ningress: []\n",
};

const EMPTY_PEERS: Rule = Rule {
    id: "empty-peer-list",
    severity: Some(Severity::Warning),
    title: "An empty list of peers admits everybody",
    why: "`from: []` and `to: []` are the same as no list: everybody is admitted. To admit nobody, leave the rule out. The API \
          server drops the empty list before it stores the policy.",
    wrong: "podSelector: {}\npolicyTypes: [Ingress]\ningress:\n- from: []\n  ports: [{port: 80}]\n",
    right: "podSelector: {}\npolicyTypes: [Ingress]\ningress:\n- from:\n  - podSelector: {}\n  ports: [{port: 80}]\n",
};

const FROM_ANYWHERE: Rule = Rule {
    id: "open-to-everybody",
    severity: Some(Severity::Hint),
    title: "An ingress rule with ports and without from admits everybody there",
    why: "Without `from` a rule admits every source, those outside of the cluster included. For what faces users that is meant; \
          for everything else name who may come.",
    wrong: "\
podSelector: {matchLabels: {app: db}}
policyTypes: [Ingress]
ingress:
- ports: [{port: 3306}]
",
    right: "\
podSelector: {matchLabels: {app: db}}
policyTypes: [Ingress]
ingress:
- from:
  - podSelector: {matchLabels: {app: api}}
  ports: [{port: 3306}]
",
};

const TO_ANYWHERE: Rule = Rule {
    id: "open-to-anywhere",
    severity: Some(Severity::Hint),
    title: "An egress rule with ports and without to admits every destination there",
    why: "Without `to` a rule admits every destination on its ports, the internet included.",
    wrong: "podSelector: {}\npolicyTypes: [Egress]\negress:\n- ports: [{port: 443}]\n",
    right: "\
podSelector: {}
policyTypes: [Egress]
egress:
- to:
  - ipBlock: {cidr: 203.0.113.0/24}
  ports: [{port: 443}]
",
};

const EVERY_POD: Rule = Rule {
    id: "admits-to-every-pod",
    severity: Some(Severity::Hint),
    title: "A policy that admits somebody selects every pod of the namespace",
    why: "`podSelector: {}` is right for a policy that denies. In one that admits others to a port it opens that port of every \
          pod of the namespace, those to come included.",
    wrong: "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from:
  - podSelector: {matchLabels: {app: api}}
  ports: [{port: 3306}]
",
    right: "\
podSelector: {matchLabels: {app: db}}
policyTypes: [Ingress]
ingress:
- from:
  - podSelector: {matchLabels: {app: api}}
  ports: [{port: 3306}]
",
};

/// What only the author's own text shows.
pub(super) fn written(policy: &Policy<'_>) -> Vec<Finding> {
    let Some(written) = policy.written else { return vec![] };
    let mut findings = Vec::new();
    for direction in Direction::BOTH {
        let (rules, list) = (&written["spec"][direction.as_str()], list(direction));
        for (at, rule) in items(rules).enumerate() {
            if rule[list].as_array().is_some_and(Vec::is_empty) {
                let path = spec().field(direction.as_str()).index(at).field(list);
                let message = format!("{list}: [] admits everybody, as if it were not there");
                findings.push(EMPTY_PEERS.at(
                    &path,
                    message,
                    format!(
                        "to admit nobody leave the rule out; else name who may, as in {list}: [{{podSelector: {{}}}}]"
                    ),
                ));
            }
        }
    }
    findings
}

pub(super) fn rules(policy: &Meaning<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (direction, path, rule) in policy.rules() {
        let list = list(direction);
        if rule.peers.is_empty() && rule.ports.is_empty() {
            let message = format!("this rule admits everything, {}", way(direction));
            findings.push(ALLOWS_ALL.at(
                &path.path(),
                message,
                format!("name who may, as in {list}: [{{podSelector: {{}}}}], or leave the rule out to deny"),
            ));
        } else if rule.peers.is_empty() {
            let (rule, message) = match direction {
                Direction::Ingress => (FROM_ANYWHERE, "no from: every source is admitted, outside the cluster, too"),
                Direction::Egress => (TO_ANYWHERE, "no to: every destination is admitted on these ports"),
            };
            findings.push(rule.at(
                &path.path(),
                message,
                format!("if that is not meant name who: {list}: [{{podSelector: …}}]"),
            ));
        }
    }
    let admits = policy.value.ingress.as_deref().unwrap_or_default();
    let some = admits.iter().any(|rule| !rule.peers.is_empty() && !rule.ports.is_empty());
    if some && policy.value.selector.is_empty() {
        let message = "podSelector: {} opens these ports of every pod of the namespace";
        let help = "name the pods that listen there, as in podSelector: {matchLabels: {app: db}}";
        findings.push(EVERY_POD.at(&spec().field("podSelector"), message, help));
    }
    findings
}

fn way(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "from everybody",
        Direction::Egress => "to everywhere",
    }
}
