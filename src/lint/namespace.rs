//! Labels and annotations of ours that mean nothing.

use crate::{
    finding::{FieldPath, Finding, Severity, near, rule::Rule},
    policy::{baseline, mode},
};
use serde_json::Value;

pub(super) const RULES: &[Rule] = &[LABEL_VALUE];

const LABEL_VALUE: Rule = Rule {
    id: "ringfence-label-value",
    severity: Some(Severity::Warning),
    title: "A label or an annotation of Ringfence has a value that means nothing",
    why: "On a Namespace the label `ringfence.dev/baseline` is deny-all, deny-ingress or off, `ringfence.dev/mode` is enforce \
          or audit, and `ringfence.dev/anti-spoofing` is on or off. On a NetworkPolicy the annotation `ringfence.dev/mode` is \
          enforce or audit. A value that means nothing is taken as the strictest: a baseline that \
          denies all, enforced.",
    wrong: "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n  labels: {ringfence.dev/baseline: denyall}\n",
    right: "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n  labels: {ringfence.dev/baseline: deny-all}\n",
};

/// Our labels, the values that they may have, and what another one is taken for.
const LABELS: [(&str, &[&str], &str); 3] = [
    (baseline::LABEL, &["deny-all", "deny-ingress", "off"], "deny-all"),
    (mode::NAME, &["enforce", "audit"], "enforce"),
    ("ringfence.dev/anti-spoofing", &["on", "off"], "on"),
];

/// What is wrong with the labels of a Namespace, and with the annotation of a NetworkPolicy.
pub fn rules(object: &Value) -> Vec<Finding> {
    let (field, ours) = match object["kind"].as_str() {
        Some("Namespace") => ("labels", &LABELS[..]),
        _ => ("annotations", &LABELS[1..2]),
    };
    let path = FieldPath::root().field("metadata").field(field);
    let wrong = ours.iter().filter_map(|(label, values, taken)| {
        let value = object["metadata"][field][label].as_str().filter(|value| !values.contains(value))?;
        let message = format!("{value:?} means nothing for {label}, and is taken for {taken}");
        let help = match near::nearest(value, values.iter().copied()) {
            Some(near) => format!("write {label}: {near}"),
            None => format!("write one of {}", values.join(", ")),
        };
        Some(LABEL_VALUE.at(&path.field(*label), message, help))
    });
    wrong.collect()
}
