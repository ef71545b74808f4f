//! Ports of a rule, by themselves.

use super::Meaning;
use crate::{
    finding::{Finding, Severity, rule::Rule},
    policy::model::{Direction, Peer, PortSpec, Protocol},
};

pub(super) const RULES: &[Rule] = &[NAME_OF_ADDRESS, EVERY_PORT, SCTP];

const NAME_OF_ADDRESS: Rule = Rule {
    id: "named-port-of-address",
    severity: Some(Severity::Warning),
    title: "A port name where the destination is an address",
    why: "The name of a port means what the destination pod calls so. An address that is no pod has no names: the rule does \
          not admit it.",
    wrong: "\
podSelector: {}
policyTypes: [Egress]
egress:
- to:
  - ipBlock: {cidr: 203.0.113.0/24}
  ports: [{port: https}]
",
    right: "\
podSelector: {}
policyTypes: [Egress]
egress:
- to:
  - ipBlock: {cidr: 203.0.113.0/24}
  ports: [{port: 443}]
",
};

const EVERY_PORT: Rule = Rule {
    id: "port-range-of-everything",
    severity: Some(Severity::Hint),
    title: "A range of ports that is nearly all of them",
    why: "A range of tens of thousands of ports is hardly a restriction, and some network plugins ignore `endPort`.",
    wrong: "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from: [{podSelector: {}}]
  ports: [{port: 1, endPort: 65535}]
",
    right: "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from: [{podSelector: {}}]
  ports: [{port: 8000, endPort: 8010}]
",
};

const SCTP: Rule = Rule {
    id: "sctp",
    severity: Some(Severity::Hint),
    title: "SCTP needs a kernel and a network plugin that know it",
    why: "SCTP is a module that many nodes do not have, and several network plugins do not rule it. Ringfence does.",
    wrong: "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from: [{podSelector: {}}]
  ports: [{protocol: SCTP, port: 132}]
",
    right: "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from: [{podSelector: {}}]
  ports: [{protocol: TCP, port: 132}]
",
};

pub(super) fn rules(policy: &Meaning<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (direction, path, rule) in policy.rules().take(super::MAX_FINDINGS) {
        let blocks_only = !rule.peers.is_empty() && rule.peers.iter().all(|peer| matches!(peer, Peer::Block(_)));
        for (at, port) in rule.ports.iter().enumerate() {
            let path = || path.field("ports").index(at);
            match &port.port {
                PortSpec::Named(name) if direction == Direction::Egress && blocks_only => {
                    let message = format!("{name} is the name of a port of a pod, and the destination is an address");
                    findings.push(NAME_OF_ADDRESS.at(&path().field("port"), message, "write the number of the port"));
                }
                PortSpec::Range(first, last) if *first > 0 && last - first > 30_000 => {
                    let message = format!("{} ports in one range", u32::from(last - first) + 1);
                    findings.push(EVERY_PORT.at(
                        &path(),
                        message,
                        "name the ports that are used, or leave port out for all",
                    ));
                }
                _ => {}
            }
            if port.protocol == Protocol::Sctp {
                let message = "not every node and network plugin knows SCTP";
                findings.push(SCTP.at(&path().field("protocol"), message, "check that sctp is loaded on the nodes"));
            }
        }
    }
    findings
}
