//! Who reaches whom on one port: every ordered pair of endpoints, decided.
//!
//! `Cluster + strangers -> Matrix`. Pods without an address count, as they will be selected by their labels all the same.

use super::{
    cluster::Cluster,
    decide::{Endpoint, Flow, decide},
    model::{Key, Pod, Protocol},
};
use std::{collections::BTreeSet, fmt, net::IpAddr};

/// An address family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    #[default]
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Family {
    /// As the command line and JSON write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Family::Ipv4 => "ipv4",
            Family::Ipv6 => "ipv6",
        }
    }

    /// The family of an address.
    pub fn of(address: &IpAddr) -> Self {
        if address.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a matrix asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The destination port.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// Which of their addresses the endpoints use.
    pub family: Family,
    /// Endpoints that are no pods, by name and address.
    pub strangers: Vec<(String, IpAddr)>,
}

/// Who reaches whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matrix {
    /// What was asked.
    pub question: Question,
    /// Names, in order: strangers as given, then pods as `namespace/name`.
    pub endpoints: Vec<String>,
    /// Pairs of places in `endpoints`: the first reaches the second.
    pub allowed: BTreeSet<(usize, usize)>,
}

impl Matrix {
    /// Whether one endpoint reaches another, by their places in `endpoints`.
    pub fn allows(&self, from: usize, to: usize) -> bool {
        self.allowed.contains(&(from, to))
    }
}

/// Decides every ordered pair, self included.
pub fn matrix(cluster: &Cluster, question: Question) -> Matrix {
    let strangers = question.strangers.iter().map(|(name, address)| (name.clone(), Endpoint::Address(*address)));
    let pods = cluster.pods.iter().filter(|(_, pod)| !pod.finished);
    let pods = pods.map(|(key, pod)| (key.to_string(), end(key, pod, question.family)));
    let (endpoints, ends): (Vec<_>, Vec<_>) = strangers.chain(pods).unzip();
    let mut allowed = BTreeSet::new();
    for (from_at, from) in ends.iter().enumerate() {
        for (to_at, to) in ends.iter().enumerate() {
            let flow =
                Flow { from: from.clone(), to: to.clone(), protocol: question.protocol.number(), port: question.port };
            if from_at == to_at || decide(cluster, &flow).allows() {
                allowed.insert((from_at, to_at));
            }
        }
    }
    Matrix { question, endpoints, allowed }
}

/// A pod as one end of a flow, with its address of a family. A pod of the host network is its node.
pub fn end(key: &Key, pod: &Pod, family: Family) -> Endpoint {
    let address = pod.addresses.iter().find(|address| Family::of(address) == family).copied();
    match pod.host_network {
        true => Endpoint::Node(pod.node.clone().unwrap_or_default(), address),
        false => Endpoint::Pod(key.clone(), address),
    }
}
