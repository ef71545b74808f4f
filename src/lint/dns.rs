//! DNS: the port that a fence for egress forgets first.

use super::{Meaning, spec};
use crate::{
    finding::{Finding, Severity, rule::Rule},
    policy::model::{self, Direction, NetworkPolicy, PortSpec, Protocol},
};

pub(super) const RULES: &[Rule] = &[FORGOTTEN, TCP_ONLY, UDP_ONLY];

const FORGOTTEN: Rule = Rule {
    id: "dns-forgotten",
    severity: Some(Severity::Warning),
    title: "Egress is fenced, and no rule lets DNS out",
    why: "Pods that may reach others by name have to ask for the name first: UDP and TCP 53 to the cluster's resolver. Without \
          that every connection by name fails with a timeout of the resolver.",
    wrong: "\
podSelector: {matchLabels: {app: api}}
policyTypes: [Egress]
egress:
- to: [{podSelector: {matchLabels: {app: db}}}]
  ports: [{port: 3306}]
",
    right: "\
podSelector: {matchLabels: {app: api}}
policyTypes: [Egress]
egress:
- to: [{podSelector: {matchLabels: {app: db}}}]
  ports: [{port: 3306}]
- to:
  - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}
    podSelector: {matchLabels: {k8s-app: kube-dns}}
  ports: [{protocol: UDP, port: 53}, {protocol: TCP, port: 53}]
",
};

const TCP_ONLY: Rule = Rule {
    id: "dns-tcp-only",
    severity: Some(Severity::Warning),
    title: "Port 53 without UDP",
    why: "A port without `protocol` is TCP. Names are asked for by UDP first, so `port: 53` alone leaves a pod without DNS.",
    wrong: "\
podSelector: {}
policyTypes: [Egress]
egress:
- to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}}]
  ports: [{port: 53}]
",
    right: "\
podSelector: {}
policyTypes: [Egress]
egress:
- to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}}]
  ports: [{port: 53}, {protocol: UDP, port: 53}]
",
};

const UDP_ONLY: Rule = Rule {
    id: "dns-udp-only",
    severity: Some(Severity::Warning),
    title: "Port 53 without TCP",
    why: "An answer that does not fit into a UDP packet is asked for again by TCP. Without TCP 53 long answers fail, and only \
          those.",
    wrong: "\
podSelector: {}
policyTypes: [Egress]
egress:
- to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}}]
  ports: [{protocol: UDP, port: 53}]
",
    right: "\
podSelector: {}
policyTypes: [Egress]
egress:
- to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}}]
  ports: [{protocol: UDP, port: 53}, {protocol: TCP, port: 53}]
",
};

pub(super) fn rules(policy: &Meaning<'_>) -> Vec<Finding> {
    let value = policy.value;
    let mut findings = Vec::new();
    for (direction, path, rule) in policy.rules() {
        let says = |protocol| {
            rule.ports.iter().position(|port| port.protocol == protocol && port.port == PortSpec::Range(53, 53))
        };
        let anywhere = |protocol| {
            let rules = value.rules(direction).unwrap_or_default();
            rules.iter().any(|rule| !rule.ports.is_empty() && admits(rule, protocol))
        };
        let (at, rule, has, lacks) = match (says(Protocol::Tcp), says(Protocol::Udp)) {
            (Some(at), None) if !anywhere(Protocol::Udp) => (at, TCP_ONLY, Protocol::Tcp, Protocol::Udp),
            (None, Some(at)) if !anywhere(Protocol::Tcp) => (at, UDP_ONLY, Protocol::Udp, Protocol::Tcp),
            _ => continue,
        };
        let message = format!("port 53 is admitted by {has} only, and DNS needs both");
        let help = format!("write a second entry: {{protocol: {lacks}, port: 53}}");
        findings.push(rule.at(&path.field("ports").index(at), message, help));
    }
    findings.extend(forgotten(policy, value));
    findings
}

/// A policy that lets something out and no DNS, when nothing beside it does.
fn forgotten(policy: &Meaning<'_>, value: &NetworkPolicy) -> Option<Finding> {
    let egress = value.rules(Direction::Egress).filter(|rules| !rules.is_empty())?;
    let lets =
        |rules: &[model::Rule]| rules.iter().any(|rule| admits(rule, Protocol::Udp) || admits(rule, Protocol::Tcp));
    let addresses_only = egress
        .iter()
        .all(|rule| !rule.peers.is_empty() && rule.peers.iter().all(|peer| matches!(peer, model::Peer::Block(_))));
    if lets(egress) || addresses_only {
        return None;
    }
    if policy.beside().iter().any(|(_, other)| other.rules(Direction::Egress).is_some_and(lets)) {
        return None;
    }
    let message = "egress is isolated and nothing lets DNS out: the pods will not resolve names";
    let help = "admit UDP and TCP 53 to namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}, here or in a policy for all pods";
    Some(FORGOTTEN.at(&spec().field("egress"), message, help))
}

fn admits(rule: &model::Rule, protocol: Protocol) -> bool {
    rule.ports.is_empty()
        || rule.ports.iter().any(|port| {
            port.protocol == protocol
                && match &port.port {
                    // CoreDNS calls its ports dns and dns-tcp; OpenShift's listens on 5353.
                    PortSpec::Named(name) => name.contains("dns"),
                    PortSpec::Range(first, last) => [53, 5353].iter().any(|port| (*first..=*last).contains(port)),
                }
        })
}
