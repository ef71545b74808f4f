//! What the podSelector of a policy selects, held against the pods that there are.

use super::{
    Meaning, spec,
    view::{View, shown},
};
use crate::{
    finding::{Finding, Severity, near, rule::Rule},
    policy::{
        mode::Mode,
        model::{Direction, Key, Labels, Name, Pod},
        selector::{Requirement, Selector, Test},
    },
};

pub(super) const RULES: &[Rule] = &[NOTHING, HOST_NETWORK, DENIES_NOW];

const NOTHING: Rule = Rule {
    id: "selector-matches-nothing",
    severity: Some(Severity::Warning),
    title: "The podSelector selects no pod that there is",
    why: "A policy that selects no pod fences nobody. Often a label is misspelt, or stands on the Deployment and not on its pod \
          template. In files it is said only of namespaces whose pods the files hold.",
    wrong: "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: fronted}}
  policyTypes: [Ingress]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: frontend}}
  template:
    metadata: {labels: {app: frontend}}
    spec: {containers: [{name: web, image: web}]}
",
    right: "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: frontend}}
  policyTypes: [Ingress]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: frontend}}
  template:
    metadata: {labels: {app: frontend}}
    spec: {containers: [{name: web, image: web}]}
",
};

const HOST_NETWORK: Rule = Rule {
    id: "selects-host-network",
    severity: Some(Severity::Warning),
    title: "The policy is meant for pods of the host network, which no policy selects",
    why: "A pod with `hostNetwork: true` lives in its node's network: it is the node, and no NetworkPolicy holds for it.",
    wrong: "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: proxy, namespace: shop}
spec:
  podSelector: {matchLabels: {app: proxy}}
  policyTypes: [Ingress]
---
apiVersion: v1
kind: Pod
metadata: {name: proxy, namespace: shop, labels: {app: proxy}}
spec: {hostNetwork: true}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
",
    right: "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: proxy, namespace: shop}
spec:
  podSelector: {matchLabels: {app: proxy}}
  policyTypes: [Ingress]
---
apiVersion: v1
kind: Pod
metadata: {name: proxy, namespace: shop, labels: {app: proxy}}
",
};

const DENIES_NOW: Rule = Rule {
    id: "denies-running-pods",
    severity: Some(Severity::Warning),
    title: "The policy cuts everything of pods that run now",
    why: "A policy without rules denies everything in its direction. Where pods run that no policy isolated so far, their \
          connections end as soon as it is stored. It is said by the webhook and with `--kubeconfig` only: files do not run.",
    wrong: "podSelector: {}\npolicyTypes: [Ingress, Egress]\n",
    right: "podSelector: {}\npolicyTypes: [Ingress, Egress]\ningress:\n- from: [{podSelector: {}}]\negress:\n- to: [{podSelector: {}}]\n",
};

pub(super) fn rules(policy: &Meaning<'_>) -> Vec<Finding> {
    let Some(view) = &policy.view else { return vec![] };
    let (value, namespace) = (policy.value, &policy.key.namespace);
    if !policy.selected().is_empty() {
        return denies_now(policy, view).into_iter().collect();
    }
    if value.selector.is_empty() {
        return vec![];
    }
    let path = spec().field("podSelector");
    let mut hosts =
        view.cluster.pods_in(namespace).filter(|(_, pod)| pod.host_network && value.selector.matches(&pod.labels));
    if let Some((key, _)) = hosts.next() {
        let message = format!("{} is a pod of the host network, which no policy selects", key.name);
        return vec![HOST_NETWORK.at(&path, message, "leave the policy out, or give the pod a network of its own")];
    }
    if !view.holds(namespace) {
        return vec![];
    }
    let count = view.pods(namespace).count();
    let workloads = view.cluster.around.workloads.iter().filter(|(key, _)| key.namespace == *namespace);
    let outer = workloads.into_iter().find(|(_, labels)| value.selector.matches(labels));
    let help = match outer {
        Some((key, _)) => format!(
            "{} has these labels itself, its pods have not: put them under spec.template.metadata.labels, or select what is there",
            key.name
        ),
        None => nearest(view, &[namespace], &value.selector),
    };
    let message = format!("selects 0 of the {count} pods of {namespace}: none has {}", shown(&value.selector));
    vec![NOTHING.at(&path, message, help)]
}

/// The labels that are nearest to what a selector asks for.
pub(super) fn nearest(view: &View<'_>, namespaces: &[&Name], selector: &Selector) -> String {
    let labels = || namespaces.iter().flat_map(|namespace| view.pods(namespace)).map(|(_, pod)| &pod.labels).take(500);
    for Requirement { key, test } in selector.requirements() {
        let Test::In(values) = test else { continue };
        let Some(value) = values.first() else { continue };
        let has = |labels: &Labels| labels.get(key).is_some_and(|value| values.contains(value));
        if labels().any(has) {
            continue;
        }
        let known = labels().filter_map(|labels| labels.get(key)).map(AsRef::as_ref);
        if let Some(near) = near::nearest(value, known) {
            return format!("the nearest label is {key}={near}");
        }
        let keys = labels().flat_map(|labels| labels.iter()).filter(|(_, v)| *v == value).map(|(k, _)| k.as_ref());
        if let Some(other) = keys.min_by_key(|other| near::distance(key, other)) {
            return format!("the nearest label is {other}={value}");
        }
        let mut known: Vec<&str> = labels().filter_map(|labels| labels.get(key)).map(AsRef::as_ref).collect();
        known.sort_unstable();
        known.dedup();
        return match known.len() {
            0 => format!("no pod there has a label {key}"),
            _ => format!("{key} is {} there", known.into_iter().take(5).collect::<Vec<_>>().join(", ")),
        };
    }
    "no pod there has all of these labels at once".to_owned()
}

fn denies_now(policy: &Meaning<'_>, view: &View<'_>) -> Option<Finding> {
    let denies = |direction: &Direction| policy.value.rules(*direction).is_some_and(<[_]>::is_empty);
    let direction = Direction::BOTH.into_iter().find(denies).filter(|_| view.live)?;
    let open = |(key, pod): &&(&Key, &Pod)| {
        !pod.addresses.is_empty() && view.cluster.isolating(key, pod, direction).all(|(.., mode)| mode == Mode::Audit)
    };
    let cut = policy.selected().iter().take(200).filter(open).count();
    (cut > 0).then(|| {
        let message = format!("{cut} running pods lose all {direction} that no other policy admits");
        DENIES_NOW.at(&spec().field("podSelector"), message, "admit what they need before, in a policy of its own")
    })
}
