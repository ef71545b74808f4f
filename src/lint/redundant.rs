//! What adds nothing: rules and policies that admit no more than others do.

use super::{Meaning, spec, view::list};
use crate::{
    finding::{Finding, Severity, rule::Rule},
    policy::{
        mode::Mode,
        model::{self, Direction, Key, NetworkPolicy, Peer, PortMatch, PortSpec},
        selector::Selector,
    },
};
use std::borrow::Cow;

pub(super) const RULES: &[Rule] = &[RULE, POLICY];

const RULE: Rule = Rule {
    id: "redundant-rule",
    severity: Some(Severity::Hint),
    title: "A rule admits nothing that another one does not",
    why: "Rules of a policy add up. One whose peers and ports all stand in another rule changes nothing; perhaps it was meant to \
          restrict, which a NetworkPolicy cannot.",
    wrong: "\
podSelector: {matchLabels: {app: db}}
policyTypes: [Ingress]
ingress:
- from: [{podSelector: {matchLabels: {app: api}}}]
- from: [{podSelector: {matchLabels: {app: api}}}]
  ports: [{port: 3306}]
",
    right: "\
podSelector: {matchLabels: {app: db}}
policyTypes: [Ingress]
ingress:
- from: [{podSelector: {matchLabels: {app: api}}}]
  ports: [{port: 3306}]
",
};

const POLICY: Rule = Rule {
    id: "redundant-policy",
    severity: Some(Severity::Hint),
    title: "A policy admits nothing that others of its namespace do not",
    why: "Policies add up. One whose rules are all covered by policies that select the same pods, or every pod, changes nothing; \
          perhaps it was meant to restrict, which a NetworkPolicy cannot.",
    wrong: "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  policyTypes: [Ingress]
  ingress:
  - from: [{podSelector: {}}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db-from-api, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  policyTypes: [Ingress]
  ingress:
  - from: [{podSelector: {matchLabels: {app: api}}}]
    ports: [{port: 3306}]
",
    right: "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db-from-api, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  policyTypes: [Ingress]
  ingress:
  - from: [{podSelector: {matchLabels: {app: api}}}]
    ports: [{port: 3306}]
",
};

pub(super) fn rules(policy: &Meaning<'_>) -> Vec<Finding> {
    let (mut findings, value) = (Vec::new(), policy.value);
    for (direction, path, rule) in policy.rules().take(super::MAX_FINDINGS) {
        let rules = value.rules(direction).unwrap_or_default();
        let Some(own) = rules.iter().position(|other| std::ptr::eq(other, rule)) else { continue };
        let covering = rules.iter().take(super::MAX_FINDINGS).enumerate().find(|(at, other)| {
            // Of two that cover each other the first one stays.
            *at != own && covers(other, rule) && (*at < own || !covers(rule, other))
        });
        if let Some((other, _)) = covering {
            let message = format!("{} admits all of this already", spec().field(direction.as_str()).index(other));
            let help = format!("leave this rule out, or restrict the other one (its {} or ports)", list(direction));
            findings.push(RULE.at(&path.path(), message, help));
        }
    }
    findings.extend(policies(policy, value));
    findings
}

/// A policy with rules, each of which one policy or another covers that holds for all pods that this one selects.
fn policies(policy: &Meaning<'_>, value: &NetworkPolicy) -> Option<Finding> {
    let view = policy.view?;
    Direction::BOTH.into_iter().find(|direction| value.rules(*direction).is_some_and(|rules| !rules.is_empty()))?;
    let beside: Vec<(Key, Cow<'_, NetworkPolicy>)> = view
        .cluster
        .policies_in(&policy.key.namespace)
        .filter(|(key, other, mode)| {
            let holds = other.selector.is_empty() || other.selector == value.selector;
            // Of two that say the same the first one stays.
            holds && *mode == Mode::Enforce && key != policy.key && (**other != *value || key < policy.key)
        })
        .map(|(key, other, _)| (key, other))
        .collect();
    let mut by = Vec::new();
    for direction in Direction::BOTH {
        let Some(rules) = value.rules(direction) else { continue };
        let isolating = || beside.iter().filter_map(|(key, other)| Some((key, other.rules(direction)?)));
        isolating().next()?;
        for rule in rules.iter().take(super::MAX_FINDINGS) {
            by.push(isolating().find(|(_, others)| others.iter().any(|other| covers(other, rule)))?.0);
        }
    }
    by.sort_unstable();
    by.dedup();
    let names = by.iter().take(3).map(|key| key.name.as_ref()).collect::<Vec<_>>().join(", ");
    let message = format!("all that this policy admits {names} admits already");
    Some(POLICY.at(&spec(), message, "leave it out, or restrict what admits more: policies only add"))
}

/// Whether one rule admits all that another one does.
fn covers(wide: &model::Rule, narrow: &model::Rule) -> bool {
    let port = |narrow: &PortMatch| wide.ports.iter().any(|wide| covers_port(wide, narrow));
    let peer = |narrow: &Peer| wide.peers.iter().any(|wide| covers_peer(wide, narrow));
    let ports = || wide.ports.is_empty() || (!narrow.ports.is_empty() && narrow.ports.iter().all(port));
    let peers = || wide.peers.is_empty() || (!narrow.peers.is_empty() && narrow.peers.iter().all(peer));
    // Numbers are told apart sooner than selectors.
    ports() && peers()
}

fn covers_peer(wide: &Peer, narrow: &Peer) -> bool {
    match (wide, narrow) {
        (Peer::Pods { namespaces, pods }, Peer::Pods { namespaces: inside, pods: some }) => {
            let everywhere = namespaces.as_ref().is_some_and(Selector::is_empty);
            (everywhere || namespaces == inside) && (pods.is_empty() || pods == some)
        }
        (Peer::Block(wide), Peer::Block(narrow)) => {
            wide == narrow || (wide.except.is_empty() && wide.cidr.contains(&narrow.cidr))
        }
        _ => false,
    }
}

fn covers_port(wide: &PortMatch, narrow: &PortMatch) -> bool {
    let numbers = match (&wide.port, &narrow.port) {
        (PortSpec::Range(from, to), PortSpec::Range(first, last)) => from <= first && last <= to,
        (wide, narrow) => wide == narrow || *wide == PortSpec::ALL,
    };
    wide.protocol == narrow.protocol && numbers
}
