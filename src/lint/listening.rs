//! Ports of a rule, held against what the pods at the other end listen on.
//!
//! The other end is where the port is: the selected pods for ingress, the peers for egress.

use super::{Meaning, Place, meaning::Pods, view::View};
use crate::{
    finding::{Finding, Severity, rule::Rule},
    policy::{
        model::{self, Direction, Key, Pod, PortMatch, PortSpec},
        service::Service,
    },
};
use std::{cell::OnceCell, collections::BTreeSet};

pub(super) const RULES: &[Rule] = &[NAME_NOWHERE, NAME_DIFFERS, SERVICE_PORT];

const NAME_NOWHERE: Rule = Rule {
    id: "named-port-missing",
    severity: Some(Severity::Warning),
    title: "No pod calls a port so",
    why: "The name of a port is looked up among the container ports of each destination pod. Where no pod has it the rule admits \
          nothing.",
    wrong: "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress]
  ingress:
  - from: [{podSelector: {}}]
    ports: [{port: http}]
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {containers: [{name: web, ports: [{name: web, containerPort: 8080}]}]}
",
    right: "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress]
  ingress:
  - from: [{podSelector: {}}]
    ports: [{port: web}]
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {containers: [{name: web, ports: [{name: web, containerPort: 8080}]}]}
",
};

const NAME_DIFFERS: Rule = Rule {
    id: "named-port-differs",
    severity: Some(Severity::Hint),
    title: "One port name is different numbers on different pods",
    why: "Each destination pod says what a port name means on it. Implementations differ where that is not one number; Ringfence \
          takes each pod's own.",
    wrong: "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress]
  ingress:
  - from: [{podSelector: {}}]
    ports: [{port: http}]
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web}}
spec: {containers: [{name: web, ports: [{name: http, containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-2, namespace: shop, labels: {app: web}}
spec: {containers: [{name: web, ports: [{name: http, containerPort: 80}]}]}
",
    right: "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress]
  ingress:
  - from: [{podSelector: {}}]
    ports: [{port: http}]
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web}}
spec: {containers: [{name: web, ports: [{name: http, containerPort: 8080}]}]}
",
};

const SERVICE_PORT: Rule = Rule {
    id: "service-port",
    severity: Some(Severity::Warning),
    title: "The port of a Service, where the port of the pods is wanted",
    why: "A packet to a Service is judged after its address and port have become those of a pod. A rule names the port that the \
          container listens on (`targetPort`), not the port of the Service.",
    wrong: "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress]
  ingress:
  - from: [{podSelector: {}}]
    ports: [{port: 80}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
",
    right: "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress]
  ingress:
  - from: [{podSelector: {}}]
    ports: [{port: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
",
};

/// How many rules are held against the cluster, and how many pods of each.
const RULES_HELD: usize = 50;
const PODS: usize = 200;

pub(super) fn rules(policy: &Meaning<'_>) -> Vec<Finding> {
    let Some(view) = &policy.view else { return vec![] };
    let mut findings = Vec::new();
    let selected = Listening::new(policy.selected().iter().take(PODS).copied().collect());
    for (direction, path, rule) in policy.rules().filter(|(.., rule)| !rule.ports.is_empty()).take(RULES_HELD) {
        let meant;
        let there = match direction {
            Direction::Ingress => &selected,
            Direction::Egress => {
                meant = Listening::new(destinations(policy, path, rule));
                &meant
            }
        };
        if there.pods.is_empty() {
            continue;
        }
        for (at, port) in rule.ports.iter().enumerate().take(RULES_HELD) {
            let path = || path.field("ports").index(at).field("port");
            findings.extend(match &port.port {
                PortSpec::Named(name) => {
                    named(name, port, &there.pods).map(|(rule, message, help)| rule.at(&path(), message, help))
                }
                PortSpec::Range(first, last) if first == last => {
                    there.service(view, *first, port).map(|(message, help)| SERVICE_PORT.at(&path(), message, help))
                }
                PortSpec::Range(..) => None,
            });
        }
    }
    findings
}

/// The pods at the peers of a rule; none where it also means somebody who is no pod.
pub(super) fn destinations<'a>(policy: &Meaning<'a>, place: Place, rule: &model::Rule) -> Pods<'a> {
    let mut pods = Pods::new();
    for peer in 0..rule.peers.len() {
        let Some(meant) = policy.meant(place.of_peer(peer)) else { return Pods::new() };
        pods.extend(meant.iter().copied());
        if pods.len() >= PODS {
            break;
        }
    }
    pods
}

fn named(name: &str, port: &PortMatch, pods: &[(&Key, &Pod)]) -> Option<(Rule, String, String)> {
    let numbers: BTreeSet<u16> = pods.iter().flat_map(|(_, pod)| pod.named_ports(name, port.protocol)).collect();
    match numbers.len() {
        0 => {
            let names: BTreeSet<&str> =
                pods.iter().flat_map(|(_, pod)| &pod.ports).map(|port| port.name.as_ref()).collect();
            let help = match names.len() {
                0 => "give the container port that name, or write its number".to_owned(),
                _ => format!("they have {}", names.into_iter().take(5).collect::<Vec<_>>().join(", ")),
            };
            let message = format!(
                "none of the {} pods has a {} port called {name}: nothing is admitted",
                pods.len(),
                port.protocol
            );
            Some((NAME_NOWHERE, message, help))
        }
        1 => None,
        _ => {
            let numbers = numbers.iter().take(5).map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let message = format!("{name} is {numbers} on different pods");
            Some((NAME_DIFFERS, message, "write numbers where that is not meant".to_owned()))
        }
    }
}

/// The pods at which a rule lets somebody in.
struct Listening<'a> {
    pods: Pods<'a>,
    /// Some of them, each with a Service that leads to it.
    services: OnceCell<Vec<(&'a Pod, &'a Key, &'a Service)>>,
}

impl<'a> Listening<'a> {
    fn new(pods: Pods<'a>) -> Self {
        Self { pods, services: OnceCell::new() }
    }

    fn services(&self, view: &View<'a>) -> &[(&'a Pod, &'a Key, &'a Service)] {
        self.services.get_or_init(|| {
            let of = |(key, pod): &(&'a Key, &'a Pod)| {
                let (services, pod) = (view.services(&key.namespace), *pod);
                services.filter(|(_, service)| service.has(pod)).map(move |(name, service)| (pod, name, service))
            };
            self.pods.iter().take(20).flat_map(of).collect()
        })
    }

    /// What is wrong with a number that is the port of a Service and not of the pods behind it.
    fn service(&self, view: &View<'a>, number: u16, port: &PortMatch) -> Option<(String, String)> {
        // A container that says it listens there does.
        let says = |pod: &Pod| pod.ports.iter().any(|p| p.number == number && p.protocol == port.protocol);
        if self.pods.iter().any(|(_, pod)| says(pod)) {
            return None;
        }
        let mut led = None;
        for (pod, name, service) in self.services(view) {
            for way in service.ports.iter().filter(|way| way.protocol == port.protocol) {
                match way.on(pod) {
                    // Some Service leads there: somebody listens.
                    Some(target) if target == number => return None,
                    Some(target) if way.port == number => led = Some((name, target)),
                    _ => {}
                }
            }
        }
        let (name, target) = led?;
        let message =
            format!("{number} is the port of the Service {name}; its pods listen on {target}, and that is judged");
        Some((message, format!("write port: {target}")))
    }
}
