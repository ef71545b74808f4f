//! The slow, obvious answer: may this flow pass, and why?
//!
//! Reads the cluster as the Kubernetes page on network policies does, object by object, with no table and no index. It is
//! the oracle: what [`super::compile`] and the kernel say must agree with [`decide`].

use super::{
    cluster::Cluster,
    model::{Block, Direction, Key, Name, Peer, Pod, PortMatch, PortSpec, Protocol, Rule},
    table::RuleRef,
};
use std::{collections::BTreeSet, net::IpAddr};

/// One end of a flow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// A pod of the pod network, with the address that it uses if it has one.
    Pod(Key, Option<IpAddr>),
    /// A node, or a pod that lives in its network namespace.
    Node(Name, Option<IpAddr>),
    /// Anything else.
    Address(IpAddr),
}

impl Endpoint {
    /// Its address, if it has one.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Endpoint::Pod(_, address) | Endpoint::Node(_, address) => *address,
            Endpoint::Address(address) => Some(*address),
        }
    }
}

/// A connection, as its first packet asks for it: behind DNAT, before SNAT.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    /// Who opens it.
    pub from: Endpoint,
    /// Who is asked.
    pub to: Endpoint,
    /// IP protocol number.
    pub protocol: u8,
    /// Destination port; 0 for a protocol without ports.
    pub port: u16,
}

/// What one end says to a flow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Side {
    /// The nodes on which this end is judged.
    pub nodes: BTreeSet<Name>,
    /// An address of a node's pod range, or one that two pods claim, that is no known pod: nothing passes.
    pub closed: bool,
    /// The policies that isolate this end; empty = open.
    pub isolated_by: Vec<Key>,
    /// The rules among them that admit the flow.
    pub allowed_by: Vec<RuleRef>,
}

impl Side {
    /// Whether this end lets the flow pass.
    pub fn allows(&self) -> bool {
        !self.closed && (self.isolated_by.is_empty() || !self.allowed_by.is_empty())
    }
}

/// Why a flow passes without a policy being asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Exempt {
    /// A pod can not be kept from itself.
    OwnPod,
    /// Nor its own node from it, or it from its node.
    OwnNode,
}

/// May a flow pass, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// No policy is asked.
    pub exempt: Option<Exempt>,
    /// What the source's end says.
    pub egress: Side,
    /// What the destination's end says.
    pub ingress: Side,
}

impl Decision {
    /// Whether the flow passes: both ends must let it.
    pub fn allows(&self) -> bool {
        self.exempt.is_some() || (self.egress.allows() && self.ingress.allows())
    }

    /// What the hook of one node says to it, which judges only the ends that are its own.
    pub fn allows_at(&self, node: &str) -> bool {
        let passes = |side: &Side| !side.nodes.contains(node) || side.allows();
        self.exempt.is_some() || (passes(&self.egress) && passes(&self.ingress))
    }
}

/// May this flow pass, and why? Decides for the whole cluster.
pub fn decide(cluster: &Cluster, flow: &Flow) -> Decision {
    Decision {
        exempt: exempt(cluster, flow),
        egress: side(cluster, flow, Direction::Egress),
        ingress: side(cluster, flow, Direction::Ingress),
    }
}

/// Whose an address is. One that two pods claim is nobody's.
pub fn endpoint(cluster: &Cluster, address: IpAddr) -> Endpoint {
    let mut pods = cluster.pods_at(address);
    if let (Some((key, _)), None) = (pods.next(), pods.next()) {
        return Endpoint::Pod(key.clone(), Some(address));
    }
    match cluster.node_at(address) {
        Some(name) => Endpoint::Node(name.clone(), Some(address)),
        None => Endpoint::Address(address),
    }
}

fn pod<'a>(cluster: &'a Cluster, end: &Endpoint) -> Option<(&'a Key, &'a Pod)> {
    match end {
        Endpoint::Pod(key, _) => cluster.pods.get_key_value(key).filter(|(_, pod)| pod.is_endpoint()),
        Endpoint::Node(..) | Endpoint::Address(_) => None,
    }
}

fn exempt(cluster: &Cluster, flow: &Flow) -> Option<Exempt> {
    let own_node = |end: &Endpoint, other: &Endpoint| match (pod(cluster, end), other) {
        (Some((_, pod)), Endpoint::Node(node, _)) => pod.node.as_ref() == Some(node),
        _ => false,
    };
    match (&flow.from, &flow.to) {
        (Endpoint::Pod(from, _), Endpoint::Pod(to, _)) if from == to => Some(Exempt::OwnPod),
        (from, to) if own_node(from, to) || own_node(to, from) => Some(Exempt::OwnNode),
        _ => None,
    }
}

fn side(cluster: &Cluster, flow: &Flow, direction: Direction) -> Side {
    let (end, peer) = match direction {
        Direction::Egress => (&flow.from, &flow.to),
        Direction::Ingress => (&flow.to, &flow.from),
    };
    let Some((key, subject)) = pod(cluster, end) else {
        let mut nodes = end.address().map(|address| closed_on(cluster, address)).unwrap_or_default();
        // What a node sends, or gets, it does not judge.
        for own in [end, peer] {
            if let Endpoint::Node(name, _) = own {
                nodes.remove(name);
            }
        }
        return Side { closed: !nodes.is_empty(), nodes, ..Side::default() };
    };
    let mut side = Side { nodes: subject.node.iter().cloned().collect(), ..Side::default() };
    for (policy, rules) in cluster.isolating(key, subject, direction) {
        for (at, rule) in rules.iter().enumerate() {
            if rule_admits(cluster, &policy.namespace, rule, peer, flow) {
                side.allowed_by.push(RuleRef { policy: policy.clone(), direction, rule: at });
            }
        }
        side.isolated_by.push(policy);
    }
    side
}

/// The nodes in whose hook an address is closed: no pod that is known, but in a pod range, or claimed by two pods.
fn closed_on(cluster: &Cluster, address: IpAddr) -> BTreeSet<Name> {
    let claims: Vec<_> = cluster.pods_at(address).filter_map(|(_, pod)| pod.node.clone()).collect();
    let ranges = cluster.nodes.iter().filter(|(_, node)| node.pod_ranges.iter().any(|range| range.contains(&address)));
    ranges.map(|(name, _)| name.clone()).chain(claims).collect()
}

fn rule_admits(cluster: &Cluster, namespace: &Name, rule: &Rule, peer: &Endpoint, flow: &Flow) -> bool {
    let peer_matches = rule.peers.is_empty() || rule.peers.iter().any(|p| peer_is(cluster, namespace, p, peer));
    let port_matches = rule.ports.is_empty() || rule.ports.iter().any(|p| port_is(cluster, p, flow));
    peer_matches && port_matches
}

fn peer_is(cluster: &Cluster, namespace: &Name, peer: &Peer, end: &Endpoint) -> bool {
    match peer {
        Peer::Block(block) => end.address().is_some_and(|address| block_holds(block, address)),
        Peer::Pods { namespaces, pods } => {
            let Some((key, pod)) = pod(cluster, end) else { return false };
            // A pod whose Namespace is not known matches no selector.
            let Some(its_namespace) = cluster.namespaces.get(&key.namespace) else { return false };
            let in_namespace = match namespaces {
                Some(selector) => selector.matches(&its_namespace.labels),
                None => key.namespace == *namespace,
            };
            in_namespace && pods.matches(&pod.labels)
        }
    }
}

fn block_holds(block: &Block, address: IpAddr) -> bool {
    block.cidr.contains(&address) && !block.except.iter().any(|except| except.contains(&address))
}

fn port_is(cluster: &Cluster, port: &PortMatch, flow: &Flow) -> bool {
    Protocol::from_number(flow.protocol) == Some(port.protocol)
        && match &port.port {
            PortSpec::Range(low, high) => (*low..=*high).contains(&flow.port),
            PortSpec::Named(name) => pod(cluster, &flow.to)
                .is_some_and(|(_, pod)| pod.named_ports(name, port.protocol).any(|number| number == flow.port)),
        }
}
