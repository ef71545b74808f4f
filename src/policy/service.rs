//! What stands around a cluster of policies and explains them: Services, workloads, who is called from outside the pods.
//!
//! `Fact -> Surroundings`, by [`Surroundings::apply`]. Packets never see any of it (they are judged behind DNAT); rules of the
//! catalogue do.

use super::{
    model::{Key, Labels, Name, Pod, PortSpec, Protocol},
    selector::{Requirement, Selector},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

/// What is known beside the cluster itself. Empty = nothing is known, not: there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Services.
    pub services: BTreeMap<Key, Service>,
    /// The labels that workloads have themselves, by the key of their pods.
    pub workloads: BTreeMap<Key, Labels>,
    /// The Services that API servers call, by the object that tells them to: `APIService v1beta1.metrics.k8s.io`.
    pub callers: BTreeMap<Name, BTreeSet<Key>>,
}

/// What is now the case around policies, or is not any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// A Service.
    Service(Key, Option<Service>),
    /// The labels that a workload has itself.
    Workload(Key, Option<Labels>),
    /// What an object tells API servers to call.
    Caller(Name, Option<BTreeSet<Key>>),
}

/// Puts a value into a map or takes it out. Returns what would take that back; none if nothing changed.
pub(super) fn set<K: Ord + Clone, V: PartialEq, E>(
    map: &mut BTreeMap<K, V>,
    key: K,
    value: Option<V>,
    back: fn(K, Option<V>) -> E,
) -> Option<E> {
    if map.get(&key) == value.as_ref() {
        return None;
    }
    let old = match value {
        Some(value) => map.insert(key.clone(), value),
        None => map.remove(&key),
    };
    Some(back(key, old))
}

impl Surroundings {
    /// Takes a fact in. Returns the one that would take it back; none if nothing changed.
    pub fn apply(&mut self, fact: Fact) -> Option<Fact> {
        match fact {
            Fact::Service(key, value) => set(&mut self.services, key, value, Fact::Service),
            Fact::Workload(key, value) => set(&mut self.workloads, key, value, Fact::Workload),
            Fact::Caller(name, value) => set(&mut self.callers, name, value, Fact::Caller),
        }
    }
}

/// A Service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Service {
    /// The pods behind it; one that asks for nothing has none.
    pub selector: Selector,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// Its addresses in the cluster.
    pub addresses: BTreeSet<IpAddr>,
    /// Its addresses for those outside.
    pub external: BTreeSet<IpAddr>,
    /// Those outside are seen with the address of a node: NodePort or LoadBalancer, and not `externalTrafficPolicy: Local`.
    pub hides_clients: bool,
}

/// A port of a Service, and the port of the pods that it leads to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServicePort {
    /// The protocol.
    pub protocol: Protocol,
    /// Its own number.
    pub port: u16,
    /// That of the pods.
    pub target: PortSpec,
}

impl ServicePort {
    /// The port that it leads to on a pod.
    pub fn on(&self, pod: &Pod) -> Option<u16> {
        match &self.target {
            PortSpec::Range(number, _) => Some(*number),
            PortSpec::Named(name) => pod.named_ports(name, self.protocol).next(),
        }
    }
}

impl Service {
    /// Whether a pod of its namespace is behind it.
    pub fn has(&self, pod: &Pod) -> bool {
        !self.selector.is_empty() && !pod.host_network && self.selector.matches(&pod.labels)
    }

    /// The selector of a Service: labels, all of which must be there.
    pub fn selecting(labels: impl IntoIterator<Item = (String, String)>) -> Selector {
        labels.into_iter().map(|(key, value)| Requirement::equals(key, value)).collect()
    }
}
