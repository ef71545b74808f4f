//! Peers that say something else than they look like.

use super::{
    Meaning,
    view::{Inside, View, by_name, list, shown},
};
use crate::{
    finding::{Finding, Severity, near, rule::Rule},
    policy::{
        baseline::NAMESPACE_NAME,
        model::{Direction, Name, Peer},
        selector::{Requirement, Selector, Test},
    },
};

pub(super) const RULES: &[Rule] = &[OR, ALL_NAMESPACES, LABEL_ALONE, NAMESPACE_LABEL, ELSEWHERE, NOTHING];

const OR: Rule = Rule {
    id: "peers-or-not-and",
    severity: Some(Severity::Warning),
    title: "Two dashes are one or the other, not both",
    why: "Each item of `from` or `to` is a peer of its own. A namespaceSelector in one and a podSelector in the next admit every \
          pod of those namespaces, and besides the pods of that kind in this namespace. For pods of that kind in those \
          namespaces both stand in one item.",
    wrong: "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from:
  - namespaceSelector: {matchLabels: {team: a}}
  - podSelector: {matchLabels: {app: web}}
",
    right: "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from:
  - namespaceSelector: {matchLabels: {team: a}}
    podSelector: {matchLabels: {app: web}}
",
};

const ALL_NAMESPACES: Rule = Rule {
    id: "all-namespaces",
    severity: Some(Severity::Warning),
    title: "An empty namespaceSelector admits every pod of the cluster",
    why: "`namespaceSelector: {}` without a podSelector is every pod of every namespace, those of other teams included.",
    wrong: "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from:
  - namespaceSelector: {}
",
    right: "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from:
  - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}
",
};

const LABEL_ALONE: Rule = Rule {
    id: "admits-by-label-alone",
    severity: Some(Severity::Hint),
    title: "A label that anybody may give a pod lets it in",
    why: "Who may create pods, or change their labels, in any namespace chooses what labels they have. Where every namespace is meant, \
          the label alone is the key to what the policy protects, and everybody has it. The labels of namespaces are changed by few.",
    wrong: "\
podSelector: {matchLabels: {app: db}}
policyTypes: [Ingress]
ingress:
- from:
  - namespaceSelector: {}
    podSelector: {matchLabels: {access: \"true\"}}
",
    right: "\
podSelector: {matchLabels: {app: db}}
policyTypes: [Ingress]
ingress:
- from:
  - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop}}
    podSelector: {matchLabels: {app: api}}
",
};

const NAMESPACE_LABEL: Rule = Rule {
    id: "namespace-label-unknown",
    severity: Some(Severity::Warning),
    title: "No namespace has the label that a namespaceSelector asks for",
    why: "A namespace is not labelled with its name as `name: …`. The label that every API server sets is \
          `kubernetes.io/metadata.name`. A selector that no namespace meets admits nobody, and says nothing about it.",
    wrong: "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from:
  - namespaceSelector: {matchLabels: {name: monitoring}}
",
    right: "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from:
  - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}
",
};

const ELSEWHERE: Rule = Rule {
    id: "pods-of-another-namespace",
    severity: Some(Severity::Warning),
    title: "A podSelector alone means pods of this namespace, and these are elsewhere",
    why: "A peer with a podSelector and no namespaceSelector means pods of the policy's own namespace. The cluster's resolver \
          and the API servers live in kube-system; API servers are pods of the host network besides, which no selector matches.",
    wrong: "\
podSelector: {}
policyTypes: [Egress]
egress:
- to:
  - podSelector: {matchLabels: {k8s-app: kube-dns}}
  ports: [{protocol: UDP, port: 53}, {protocol: TCP, port: 53}]
",
    right: "\
podSelector: {}
policyTypes: [Egress]
egress:
- to:
  - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}
    podSelector: {matchLabels: {k8s-app: kube-dns}}
  ports: [{protocol: UDP, port: 53}, {protocol: TCP, port: 53}]
",
};

const NOTHING: Rule = Rule {
    id: "peer-matches-nothing",
    severity: Some(Severity::Warning),
    title: "A peer means no pod that there is",
    why: "A peer that matches no pod admits nobody until there is one. Often a label is misspelt, or the pods are in another \
          namespace. In files it is said only of namespaces whose pods the files hold.",
    wrong: "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  policyTypes: [Ingress]
  ingress:
  - from:
    - podSelector: {matchLabels: {app: fronted}}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: frontend}}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
",
    right: "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  policyTypes: [Ingress]
  ingress:
  - from:
    - podSelector: {matchLabels: {app: frontend}}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: frontend}}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
",
};

/// How many peers are held against the cluster.
const PEERS: usize = 100;

pub(super) fn rules(policy: &Meaning<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (direction, path, rule) in policy.rules() {
        for (at, pair) in rule.peers.windows(2).enumerate() {
            let [Peer::Pods { namespaces: Some(namespaces), pods }, Peer::Pods { namespaces: None, pods: here }] = pair
            else {
                continue;
            };
            if pods.is_empty() && !here.is_empty() && !namespaces.is_empty() {
                let path = path.field(list(direction)).index(at + 1);
                let message = format!(
                    "two peers are one OR the other: every pod of namespaces with {}, and pods with {} of this namespace",
                    shown(namespaces),
                    shown(here)
                );
                let help =
                    "if both are meant at once take this dash away: podSelector beside namespaceSelector in one item";
                findings.push(OR.at(&path, message, help));
            }
        }
    }
    for (at, (direction, path, peer)) in policy.peers().enumerate() {
        let Peer::Pods { namespaces, pods } = peer else { continue };
        let view = policy.view.as_ref().filter(|_| at < PEERS);
        let inside = view.and_then(|_| policy.inside(namespaces.as_ref()));
        let inside = inside.as_deref();
        let is_somebody = || view.and_then(|_| policy.meant(path)).is_some_and(|pods| !pods.is_empty());
        let own = &policy.key.namespace;
        if let Some(selector) = namespaces {
            if selector.is_empty() {
                let help = "name the namespaces: namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: …}}";
                if pods.is_empty() {
                    let message = "this peer is every pod of every namespace";
                    findings.push(ALL_NAMESPACES.at(&path.field("namespaceSelector"), message, help));
                } else if direction == Direction::Ingress {
                    let message = format!("whoever may give a pod {}, in any namespace, lets it in", shown(pods));
                    findings.push(LABEL_ALONE.at(&path.field("podSelector"), message, help));
                }
            }
            if let Some((message, help)) = unlabelled(selector, view, inside) {
                findings.push(NAMESPACE_LABEL.at(&path.field("namespaceSelector"), message, help));
                continue;
            }
        } else if let Some((message, help)) = elsewhere(pods, own, is_somebody) {
            findings.push(ELSEWHERE.at(&path.field("podSelector"), message, help));
            continue;
        }
        if let Some((message, help)) = view.and_then(|view| nothing(view, own, inside?, pods, is_somebody)) {
            findings.push(NOTHING.at(&path.path(), message, help));
        }
    }
    findings
}

/// A selector that no namespace meets: known of a live cluster, guessed from the key elsewhere.
fn unlabelled(selector: &Selector, view: Option<&View<'_>>, inside: Option<&Inside<'_>>) -> Option<(String, String)> {
    let guessed = selector.requirements().find_map(|Requirement { key, test }| match test {
        Test::In(values) if ["name", "namespace", "ns"].contains(&key.as_ref()) => Some((key, values.first()?)),
        _ => None,
    });
    let matched = inside.is_some_and(|inside| !inside.namespaces.is_empty());
    let live = view.is_some_and(|view| view.live);
    match guessed {
        _ if matched || selector.is_empty() => None,
        Some((key, value)) => Some((
            format!("no namespace has {key}={value} by itself"),
            format!("write {NAMESPACE_NAME}: {value}, which every API server sets"),
        )),
        None if live => {
            let near = by_name(selector).and_then(|name| {
                let names = view?.cluster.namespaces.keys().map(AsRef::as_ref);
                near::nearest(name, names).map(|near| format!("is {near} meant?"))
            });
            let help =
                near.unwrap_or_else(|| "label the namespaces that are meant, or correct the selector".to_owned());
            Some((format!("no namespace has {}: the peer is nobody", shown(selector)), help))
        }
        None => None,
    }
}

/// Pods that are known to live in kube-system, asked for in another namespace.
fn elsewhere(pods: &Selector, own: &Name, is_somebody: impl Fn() -> bool) -> Option<(String, String)> {
    if own.as_ref() == "kube-system" {
        return None;
    }
    pods.requirements().find_map(|Requirement { key, test }| {
        let Test::In(values) = test else { return None };
        let value = values.first()?;
        let known = match (key.as_ref(), value.as_ref()) {
            ("k8s-app", "kube-dns" | "coredns" | "node-local-dns") => format!(
                "write both in one item: namespaceSelector: {{matchLabels: {{{NAMESPACE_NAME}: kube-system}}}}, and the podSelector"
            ),
            ("component" | "k8s-app", "kube-apiserver") => {
                "API servers are no pods of the pod network: write an ipBlock with their addresses".to_owned()
            }
            _ => return None,
        };
        (!is_somebody()).then(|| (format!("a podSelector alone means pods of {own}, and {key}={value} is in kube-system"), known))
    })
}

fn nothing<'a>(
    view: &View<'a>,
    own: &'a Name,
    inside: &Inside<'_>,
    pods: &Selector,
    is_somebody: impl Fn() -> bool,
) -> Option<(String, String)> {
    let inside = &inside.namespaces;
    let known = !inside.is_empty() && inside.iter().all(|name| view.live || view.holds(name));
    if !known || pods.is_empty() || is_somebody() {
        return None;
    }
    let help = match view.inside(own, Some(&Selector::everything())).pods_with(pods).next() {
        Some((key, _)) => format!(
            "{key} is such a pod: select its namespace in the same item, namespaceSelector: {{matchLabels: {{{NAMESPACE_NAME}: {}}}}}",
            key.namespace
        ),
        None => super::selects::nearest(view, inside, pods),
    };
    let place = match &inside[..] {
        [one] => one.to_string(),
        many => format!("the {} namespaces that are meant", many.len()),
    };
    Some((format!("no pod of {place} has {}: the peer is nobody", shown(pods)), help))
}
