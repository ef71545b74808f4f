//! Both ends of a connection have to let it pass: what a policy admits and another one does not.

use super::{Meaning, listening::destinations, meaning::Pods, spec, view::list};
use crate::{
    finding::{Finding, Severity, rule::Rule},
    policy::{
        cluster::{Cluster, Event, of_namespace},
        decide::{Endpoint, Flow, Side, side},
        matrix::{Family, end},
        model::{self, Direction, Key, Name, NetworkPolicy, Peer, Pod, PortSpec},
    },
};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

pub(super) const RULES: &[Rule] = &[OTHER_END, CUTS_CALLER];

const OTHER_END: Rule = Rule {
    id: "other-end-denies",
    severity: Some(Severity::Warning),
    title: "Admitted here, and denied at the other end",
    why: "A connection needs egress at its source and ingress at its destination. A rule at one end opens nothing while the \
          other end is isolated and has no rule for it.",
    wrong: "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: api, namespace: shop}
spec:
  podSelector: {matchLabels: {app: api}}
  policyTypes: [Egress]
  egress:
  - to: [{podSelector: {matchLabels: {app: db}}}]
    ports: [{port: 3306}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  policyTypes: [Ingress]
---
apiVersion: v1
kind: Pod
metadata: {name: api, namespace: shop, labels: {app: api}}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
",
    right: "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: api, namespace: shop}
spec:
  podSelector: {matchLabels: {app: api}}
  policyTypes: [Egress]
  egress:
  - to: [{podSelector: {matchLabels: {app: db}}}]
    ports: [{port: 3306}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  policyTypes: [Ingress]
  ingress:
  - from: [{podSelector: {matchLabels: {app: api}}}]
    ports: [{port: 3306}]
---
apiVersion: v1
kind: Pod
metadata: {name: api, namespace: shop, labels: {app: api}}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
",
};

const CUTS_CALLER: Rule = Rule {
    id: "cuts-api-server",
    severity: Some(Severity::Warning),
    title: "The policy keeps API servers from what they call",
    why: "Webhooks and aggregated APIs are called by API servers, which are pods of no namespace: only a rule without `from`, or \
          an ipBlock, lets them in. A webhook that is cut off can stop every write to the cluster. In files it is said when \
          they hold the webhook configuration, its Service and its pods.",
    wrong: "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny, namespace: hooks}
spec:
  podSelector: {}
  policyTypes: [Ingress]
---
apiVersion: v1
kind: Pod
metadata: {name: hook, namespace: hooks, labels: {app: hook}}
---
apiVersion: v1
kind: Service
metadata: {name: hook, namespace: hooks}
spec: {selector: {app: hook}, ports: [{port: 443, targetPort: 9443}]}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: hook}
webhooks:
- name: hook.example.org
  clientConfig: {service: {namespace: hooks, name: hook}}
",
    right: "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny, namespace: hooks}
spec:
  podSelector: {}
  policyTypes: [Ingress]
  ingress:
  - ports: [{port: 9443}]
---
apiVersion: v1
kind: Pod
metadata: {name: hook, namespace: hooks, labels: {app: hook}}
---
apiVersion: v1
kind: Service
metadata: {name: hook, namespace: hooks}
spec: {selector: {app: hook}, ports: [{port: 443, targetPort: 9443}]}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: hook}
webhooks:
- name: hook.example.org
  clientConfig: {service: {namespace: hooks, name: hook}}
",
};

/// How many rules are held against their other end, and how many pods of each end.
const HELD: usize = 20;
const ENDS: usize = 3;

pub(super) fn rules(policy: &Meaning<'_>) -> Vec<Finding> {
    let Some(view) = &policy.view else { return vec![] };
    let mut findings = Vec::new();
    let here = first(policy.selected());
    let mut sides = Sides { cluster: view.cluster, isolated: BTreeMap::new() };
    for (direction, path, rule) in policy.rules().filter(|(.., rule)| !rule.peers.is_empty()).take(HELD) {
        let there: Pods<'_> = match direction {
            // Each peer that is pods, beside those that are not.
            Direction::Ingress => policy.meant_by(path, rule).flatten().take(ENDS).copied().collect(),
            Direction::Egress => destinations(policy, path, rule),
        };
        let (other, way) = match direction {
            Direction::Ingress => (Direction::Egress, "to"),
            Direction::Egress => (Direction::Ingress, "from"),
        };
        if let Some(denied) = denied(&mut sides, direction, other, rule, here, first(&there)) {
            let message = format!("{} denies it: {other} there is isolated by {}", denied.pod, denied.by);
            let help = format!("admit it in a policy for {} too, as an {other} rule {way} these pods", denied.pod);
            findings.push(OTHER_END.at(&path.field(list(direction)), message, help));
        }
    }
    findings.extend(callers(policy));
    findings
}

fn first<T>(ends: &[T]) -> &[T] {
    &ends[..ends.len().min(ENDS)]
}

struct Denied {
    pod: Key,
    by: Key,
}

/// What ends say to flows.
struct Sides<'a> {
    cluster: &'a Cluster,
    /// Whether any policy of a namespace isolates in a direction.
    isolated: BTreeMap<(&'a Name, Direction), bool>,
}

impl<'a> Sides<'a> {
    /// What the end of a flow that is this pod says in a direction, if it denies the flow. Where nothing isolates nothing denies.
    fn denies(&mut self, flow: impl FnOnce() -> Flow, pod: &'a Key, direction: Direction) -> Option<Side> {
        let (cluster, namespace) = (self.cluster, &pod.namespace);
        let isolates = || cluster.policies_in(namespace).any(|(_, policy, _)| policy.rules(direction).is_some());
        let is_isolated = *self.isolated.entry((namespace, direction)).or_insert_with(isolates);
        is_isolated.then(|| side(cluster, &flow(), direction)).filter(|side| !side.allows())
    }
}

/// What the other end denies, if it denies all of what was looked at.
fn denied<'a>(
    sides: &mut Sides<'a>,
    direction: Direction,
    other: Direction,
    rule: &model::Rule,
    here: &[(&'a Key, &'a Pod)],
    there: &[(&'a Key, &'a Pod)],
) -> Option<Denied> {
    let mut found = None;
    for (here, there) in here.iter().flat_map(|here| there.iter().map(move |there| (here, there))) {
        if here.0 == there.0 {
            continue;
        }
        let (from, to) = if direction == Direction::Egress { (here, there) } else { (there, here) };
        let (protocol, port) = match rule.ports.first() {
            None => (model::Protocol::Tcp, 80),
            Some(port) => match &port.port {
                PortSpec::Range(first, _) => (port.protocol, (*first).max(1)),
                PortSpec::Named(name) => (port.protocol, to.1.named_ports(name, port.protocol).next()?),
            },
        };
        let at = |(key, pod): &(&Key, &Pod)| end(key, pod, Family::Ipv4);
        let flow = || Flow { from: at(from), to: at(to), protocol: protocol.number(), port };
        let denied = sides.denies(flow, there.0, other)?;
        found = denied.isolated_by.first().map(|by| Denied { pod: there.0.clone(), by: by.clone() });
    }
    found
}

/// A documentation address stands for an API server, whose own is not known.
const SOMEBODY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

fn callers(policy: &Meaning<'_>) -> Option<Finding> {
    let (view, value) = (policy.view.as_ref()?, policy.value);
    value.ingress.as_ref()?;
    let namespace = &policy.key.namespace;
    let around = &view.cluster.around;
    let called = around.callers.iter().flat_map(|(by, services)| services.iter().map(move |key| (key, by)));
    for (key, by) in called.filter(|(key, _)| key.namespace == *namespace) {
        let Some(service) = around.services.get(key) else { continue };
        for (pod_key, pod) in view.pods(namespace).filter(|(_, pod)| service.has(pod)).take(ENDS) {
            if !value.selector.matches(&pod.labels) {
                continue;
            }
            let Some(port) = service.ports.iter().find_map(|port| port.on(pod)) else { continue };
            let has_block = |policy: &NetworkPolicy| {
                let rules = policy.ingress.iter().flatten();
                rules.flat_map(|rule| &rule.peers).any(|peer| matches!(peer, Peer::Block(_)))
            };
            let cluster = with(view.cluster, policy, value, (pod_key, pod));
            let to = Endpoint::Pod(pod_key.clone(), None);
            let flow = Flow { from: Endpoint::Address(SOMEBODY), to, protocol: 6, port };
            let open = side(&cluster, &flow, Direction::Ingress).allows();
            // An ipBlock may be that of the API servers.
            if open || cluster.policies_in(namespace).any(|(_, policy, _)| has_block(&policy)) {
                continue;
            }
            let message = format!("API servers call the Service {} for {by}, and nothing lets them in", key.name);
            let help = format!("write an ingress rule without from for it: - ports: [{{port: {port}}}]");
            return Some(CUTS_CALLER.at(&spec().field("podSelector"), message, help));
        }
    }
    None
}

/// A pod, and its namespace with this policy in it: what the rest of a cluster holds does not matter to an address outside.
fn with(cluster: &Cluster, policy: &Meaning<'_>, value: &NetworkPolicy, pod: (&Key, &Pod)) -> Cluster {
    let namespace = &policy.key.namespace;
    let mut small = Cluster { baseline: cluster.baseline, ..Cluster::default() };
    if let Some(known) = cluster.namespaces.get(namespace) {
        small.apply(Event::Namespace(namespace.clone(), Some(known.clone())));
    }
    small.pods.extend([owned(pod)]);
    small.policies = of_namespace(&cluster.policies, namespace).map(owned).collect();
    small.policies.insert(policy.key.clone(), value.clone());
    small
}

fn owned<V: Clone>((key, value): (&Key, &V)) -> (Key, V) {
    (key.clone(), value.clone())
}
