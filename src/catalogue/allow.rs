//! The annotation `ringfence.dev/allow`: rules that do not hold for an object because its author says so.
//!
//! On a NetworkPolicy it speaks of the findings about that policy; on a Namespace, where it is guarded, of those about its
//! Pods. What the API server refuses it cannot allow. It is told itself, so that nobody overlooks it.

use crate::{
    finding::{
        FieldPath, Finding, Severity, near,
        rule::{ALLOW, Rule},
    },
    lint::View,
    policy::model::Name,
};
use serde_json::Value;
use std::collections::BTreeSet;

pub(super) const RULES: &[Rule] = &[ALLOWED, UNKNOWN];

const ALLOWED: Rule = Rule {
    id: "allowed-by-annotation",
    severity: Some(Severity::Warning),
    title: "An annotation keeps rules from speaking",
    why: "`ringfence.dev/allow` names rules that are not to be told of this NetworkPolicy, or of the Pods of this Namespace. It is \
          told itself, so that nobody overlooks it.",
    wrong: "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop, annotations: {ringfence.dev/allow: rule-allows-all}}
spec:
  podSelector: {}
  policyTypes: [Ingress]
  ingress:
  - {}
",
    right: "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {}
  policyTypes: [Ingress]
  ingress: []
",
};

const UNKNOWN: Rule = Rule {
    id: "unknown-rule",
    severity: Some(Severity::Warning),
    title: "The annotation ringfence.dev/allow names a rule that there is not",
    why: "A name that no rule has allows nothing. Rules that say what API servers refuse cannot be allowed, either.",
    wrong: "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop, annotations: {ringfence.dev/allow: rule-allow-all}}
spec: {podSelector: {}, policyTypes: [Ingress]}
",
    right: "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec: {podSelector: {}, policyTypes: [Ingress]}
",
};

fn path() -> FieldPath {
    FieldPath::root().field("metadata").field("annotations").field(ALLOW)
}

fn named(object: &Value) -> BTreeSet<&str> {
    ids(object["metadata"]["annotations"][ALLOW].as_str().unwrap_or_default())
}

fn ids(text: &str) -> BTreeSet<&str> {
    text.split([',', ' ', '\n']).filter(|id| !id.is_empty()).collect()
}

/// What is left of the findings about a policy.
pub(super) fn of_policy(object: &Value, findings: Vec<Finding>, levels: &super::Levels) -> Vec<Finding> {
    let named = named(object);
    let (allowed, mut left): (Vec<_>, Vec<_>) = findings.into_iter().partition(|f| named.contains(f.rule));
    let rules: BTreeSet<&str> = allowed.iter().map(|finding| finding.rule).collect();
    let mut about = unknown(&named);
    if !rules.is_empty() {
        let rules = rules.into_iter().collect::<Vec<_>>().join(", ");
        let message = format!("{ALLOW} keeps {rules} from speaking of this policy");
        about.push(ALLOWED.at(&path(), message, "take the rule out of the annotation when it is no longer needed"));
    }
    left.extend(levels.apply(about));
    left
}

/// What a Namespace allows its Pods.
pub(super) fn of_namespace(object: &Value) -> Vec<Finding> {
    let named = named(object);
    let mut findings = unknown(&named);
    let rules: Vec<&str> = named.into_iter().filter(|id| super::rule(id).is_some()).take(10).collect();
    if !rules.is_empty() {
        let message = format!("{ALLOW} keeps {} from speaking of the Pods of this namespace", rules.join(", "));
        findings.push(ALLOWED.at(&path(), message, "take a rule out of the annotation when it is no longer needed"));
    }
    findings
}

/// What is left of the findings about a Pod.
pub(super) fn of_pod(view: Option<&View<'_>>, namespace: &Name, findings: Vec<Finding>) -> Vec<Finding> {
    let namespace = view.and_then(|view| view.cluster.namespaces.get(namespace));
    let Some(text) = namespace.and_then(|namespace| namespace.allow.as_ref()) else { return findings };
    let named = ids(text);
    findings.into_iter().filter(|finding| !named.contains(finding.rule)).collect()
}

fn unknown(named: &BTreeSet<&str>) -> Vec<Finding> {
    let refused = |id: &str| crate::k8s::convert::RULES.iter().any(|rule| rule.id == id);
    let wrong = named.iter().filter(|id| super::rule(id).is_none() || refused(id)).take(10);
    let findings = wrong.map(|id| {
        let message = format!("{ALLOW} names {id:?}, which is no rule that could be allowed");
        let near = near::nearest(id, super::rules().map(|rule| rule.id));
        let help = near.map_or_else(|| "docs/rules lists them".to_owned(), |near| format!("write {near}"));
        UNKNOWN.at(&path(), message, help)
    });
    findings.collect()
}
