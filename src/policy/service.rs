//! What stands around a cluster of policies and explains them: Services, workloads, who is called from outside the pods.
//!
//! A [`Fact`] becomes part of [`Surroundings`] with the rest of a cluster. Packets never see any of it (they are judged behind DNAT); rules of the
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
