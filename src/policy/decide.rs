//! The slow, obvious answer: may this flow pass, and why?
//!
//! Reads the cluster as the Kubernetes page on network policies does, object by object, with no table and no index. It is
//! the oracle: what [`super::compile`] and the kernel say must agree with [`decide`].

use super::{
    cluster::{Cluster, Unknown},
    mode::Mode,
    model::{Block, Direction, Key, Name, Node, Peer, Pod, PortMatch, PortSpec, Protocol, Rule},
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
    /// The policies in audit that select this end: they change nothing of what passes.
    pub audited_by: Vec<Key>,
    /// The rules among them that would admit the flow.
    pub audit_admits: Vec<RuleRef>,
}

impl Side {
    /// Whether this end lets the flow pass.
    pub fn allows(&self) -> bool {
        !self.closed && (self.isolated_by.is_empty() || !self.allowed_by.is_empty())
    }

    /// Whether it lets the flow pass only because the policies that would isolate this end are in audit.
    pub fn would_deny(&self) -> bool {
        let isolated = self.isolated_by.is_empty() && !self.audited_by.is_empty();
        !self.closed && isolated && self.audit_admits.is_empty()
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

    /// Whether it passes only because of policies in audit.
    pub fn would_deny(&self) -> bool {
        self.exempt.is_none() && self.allows() && (self.egress.would_deny() || self.ingress.would_deny())
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

/// Whose an address is. One that two pods claim is nobody's, unless the node that asks sees whose interface carries it.
pub fn endpoint(cluster: &Cluster, address: IpAddr) -> Endpoint {
    if let [(key, _)] = cluster.pods_at(address)[..] {
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
        (Endpoint::Pod(..), Endpoint::Pod(..)) if flow.from == flow.to => Some(Exempt::OwnPod),
        (from, to) if own_node(from, to) || own_node(to, from) => Some(Exempt::OwnNode),
        _ => None,
    }
}

/// What one end of a flow says to it: the source's for egress, the destination's for ingress.
pub fn side(cluster: &Cluster, flow: &Flow, direction: Direction) -> Side {
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
    for (policy, value, mode) in cluster.isolating(key, subject, direction) {
        let (isolating, admitting) = match mode {
            Mode::Enforce => (&mut side.isolated_by, &mut side.allowed_by),
            Mode::Audit => (&mut side.audited_by, &mut side.audit_admits),
        };
        for (at, rule) in value.rules(direction).unwrap_or_default().iter().enumerate() {
            if rule_admits(cluster, &policy.namespace, rule, peer, flow) {
                admitting.push(RuleRef { policy: policy.clone(), direction, rule: at });
            }
        }
        isolating.push(policy);
    }
    side
}

/// The nodes in whose hook an address that is no pod's is closed: it is in a pod range, on an interface of the node that
/// asks, or claimed by two pods.
fn closed_on(cluster: &Cluster, address: IpAddr) -> BTreeSet<Name> {
    let mut nodes: BTreeSet<Name> =
        cluster.pods_at(address).into_iter().filter_map(|(_, pod)| pod.node.clone()).collect();
    if cluster.unknown == Unknown::Closed {
        let in_range = |node: &Node| node.pod_ranges.iter().any(|range| range.contains(&address));
        nodes.extend(cluster.nodes.iter().filter(|(_, node)| in_range(node)).map(|(name, _)| name.clone()));
        let seen_here = cluster.ranges.iter().any(|range| range.contains(&address))
            || (cluster.attachments.contains_key(&address) && cluster.node_at(address).is_none());
        nodes.extend(cluster.here.iter().filter(|_| seen_here).cloned());
    }
    nodes
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{
        cluster::{Attachment, Event},
        model::{Node, Uid},
    };

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 0, 1));

    fn pod(node: &str, uid: u128) -> Pod {
        Pod { node: Some(node.into()), addresses: vec![ADDRESS], uid: Some(Uid(uid)), ..Pod::default() }
    }

    /// `n1` asks, and sees the address on its interface 7.
    fn seen(pod: Option<(&str, Option<u128>)>, pods: &[(&str, Pod)]) -> Cluster {
        let mut cluster = Cluster { here: Some("n1".into()), ..Cluster::default() };
        let pod = pod.map(|(name, uid)| (Key::new("x", name), uid.map(Uid)));
        cluster.apply(Event::Attachment(ADDRESS, Some(Attachment { ifindex: 7, pod })));
        for (name, pod) in pods {
            cluster.apply(Event::Pod(Key::new("x", *name), Some(pod.clone())));
        }
        cluster
    }

    fn owner(cluster: &Cluster) -> Option<String> {
        match endpoint(cluster, ADDRESS) {
            Endpoint::Pod(key, _) => Some(key.name.to_string()),
            _ => None,
        }
    }

    fn is_closed(cluster: &Cluster) -> bool {
        let to = endpoint(cluster, ADDRESS);
        let flow = Flow { from: Endpoint::Address([192, 0, 2, 1].into()), to, protocol: 6, port: 80 };
        !decide(cluster, &flow).allows_at("n1")
    }

    #[test]
    fn an_address_is_the_pods_whose_interface_carries_it_whoever_else_claims_it() {
        let unaddressed = Pod { addresses: vec![], ..pod("n1", 1) };
        let cluster = seen(Some(("p", Some(1))), &[("p", unaddressed), ("q", pod("n1", 2)), ("r", pod("n2", 3))]);
        assert_eq!((owner(&cluster).as_deref(), is_closed(&cluster)), (Some("p"), false));
    }

    #[test]
    fn it_is_closed_while_that_pod_is_not_known_or_another_one_is() {
        for known in [
            vec![("q", pod("n1", 1))],
            vec![("p", pod("n1", 2))],
            vec![("p", pod("n2", 1))],
            vec![("p", Pod { finished: true, ..pod("n1", 1) })],
        ] {
            let cluster = seen(Some(("p", Some(1))), &known);
            assert_eq!((owner(&cluster), is_closed(&cluster)), (None, true), "{known:?}");
            let open = Cluster { unknown: Unknown::Open, ..cluster };
            assert_eq!((owner(&open), is_closed(&open)), (None, false), "{known:?}");
        }
        let cluster = seen(Some(("p", None)), &[("p", pod("n1", 2))]);
        assert_eq!(owner(&cluster).as_deref(), Some("p"));
    }

    #[test]
    fn a_node_is_believed_of_its_own_pods_in_its_own_ranges_while_nobody_claims_the_address() {
        let unaddressed = Pod { addresses: vec![], ..pod("n2", 1) };
        let told = |range: Option<&str>, pods: &[(&str, Pod)]| {
            let mut cluster = Cluster { here: Some("n1".into()), ..Cluster::default() };
            let pod_ranges = range.iter().map(|range| range.parse().unwrap()).collect();
            cluster.apply(Event::Node("n2".into(), Some(Node { pod_ranges, ..Node::default() })));
            cluster.apply(Event::Neighbour("n2".into(), [(ADDRESS, (Key::new("x", "p"), Uid(1)))].into()));
            for (name, pod) in pods {
                cluster.apply(Event::Pod(Key::new("x", *name), Some(pod.clone())));
            }
            owner(&cluster)
        };
        let p = ("p", unaddressed.clone());
        assert_eq!(told(None, std::slice::from_ref(&p)).as_deref(), Some("p"));
        assert_eq!(told(Some("10.1.0.0/24"), std::slice::from_ref(&p)).as_deref(), Some("p"));
        assert_eq!(told(Some("10.2.0.0/24"), std::slice::from_ref(&p)), None, "out of its ranges");
        assert_eq!(told(None, &[p, ("q", pod("n3", 2))]).as_deref(), Some("q"), "the API says whose it is");
        for (other, why) in [
            (Pod { node: Some("n3".into()), ..unaddressed.clone() }, "bound to another node"),
            (Pod { node: None, ..unaddressed.clone() }, "bound to none"),
            (Pod { uid: Some(Uid(2)), ..unaddressed.clone() }, "another one of its name"),
            (Pod { host_network: true, ..unaddressed.clone() }, "on the host's network"),
        ] {
            assert_eq!(told(None, &[("p", other)]), None, "{why}");
        }
    }

    #[test]
    fn where_only_the_interface_is_known_the_one_pod_of_this_node_that_claims_it_is_believed() {
        let cluster = seen(None, &[("p", pod("n1", 1)), ("q", pod("n2", 2))]);
        assert_eq!(owner(&cluster).as_deref(), Some("p"));
        for claims in [vec![], vec![("q", pod("n2", 2))], vec![("p", pod("n1", 1)), ("q", pod("n1", 2))]] {
            let cluster = seen(None, &claims);
            assert_eq!((owner(&cluster), is_closed(&cluster)), (None, true), "{claims:?}");
        }
    }
}
