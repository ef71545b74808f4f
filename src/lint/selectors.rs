//! Selectors, by themselves.

use super::{Meaning, spec};
use crate::{
    finding::{FieldPath, Finding, Severity, rule::Rule},
    policy::{
        model::Peer,
        selector::{Requirement, Selector, Test},
    },
};

pub(super) const RULES: &[Rule] = &[ABSENT, GENERATED];

const ABSENT: Rule = Rule {
    id: "not-in-matches-absent",
    severity: Some(Severity::Hint),
    title: "NotIn matches objects without the label, too",
    why: "`NotIn` and `DoesNotExist` hold for every pod or namespace that lacks the key: the unlabelled ones are in.",
    wrong: "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from:
  - namespaceSelector:
      matchExpressions: [{key: env, operator: NotIn, values: [prod]}]
",
    right: "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from:
  - namespaceSelector:
      matchExpressions: [{key: env, operator: NotIn, values: [prod]}, {key: env, operator: Exists}]
",
};

const GENERATED: Rule = Rule {
    id: "generated-label",
    severity: Some(Severity::Warning),
    title: "A selector asks for a label that a controller makes up",
    why: "Labels such as `pod-template-hash` are another value after the next rollout: the selector then matches nothing.",
    wrong: "podSelector: {matchLabels: {pod-template-hash: 6d4cf56db6}}\npolicyTypes: [Ingress]\n",
    right: "podSelector: {matchLabels: {app: web}}\npolicyTypes: [Ingress]\n",
};

const MADE_UP: [&str; 7] = [
    "pod-template-hash",
    "controller-revision-hash",
    "pod-template-generation",
    "controller-uid",
    "batch.kubernetes.io/controller-uid",
    "job-name",
    "batch.kubernetes.io/job-name",
];

pub(super) fn rules(policy: &Meaning<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut judge = |selector: &Selector, path: &dyn Fn() -> FieldPath| {
        let keys = |key: &str| selector.requirements().filter(move |r| r.key.as_ref() == key).count();
        for Requirement { key, test } in selector.requirements() {
            if let Test::NotIn(values) = test
                && keys(key) == 1
            {
                let values = values.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
                let message = format!("{key} NotIn ({values}) matches whatever has no label {key}, too");
                let help = format!("if that is not meant add {{key: {key}, operator: Exists}}");
                findings.push(ABSENT.at(&path(), message, help));
            }
            if MADE_UP.contains(&key.as_ref()) && matches!(test, Test::In(_)) {
                let message = format!("{key} is made up by a controller and changes with the next rollout");
                findings.push(GENERATED.at(&path(), message, "select a label of the pod template instead"));
            }
        }
    };
    judge(&policy.value.selector, &|| spec().field("podSelector"));
    for (_, path, peer) in policy.peers() {
        if let Peer::Pods { namespaces, pods } = peer {
            judge(pods, &|| path.field("podSelector"));
            if let Some(namespaces) = namespaces {
                judge(namespaces, &|| path.field("namespaceSelector"));
            }
        }
    }
    findings
}
