//! The objects of a cluster, cut down to what a NetworkPolicy can tell apart.
//!
//! Namespace, Node, Pod and NetworkPolicy as plain, ordered, comparable values. They know nothing of Kubernetes' JSON:
//! `k8s::convert` makes them. What is absent in the API is written out here (defaults are already applied).

pub use super::labels::{Labels, Name};
use super::{mode::Mode, selector::Selector};
use ipnet::IpNet;
use std::{fmt, net::IpAddr};

/// Namespace and name of an object. The pod of a workload's template is named `deployment/web`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The namespace.
    pub namespace: Name,
    /// The name in it.
    pub name: Name,
}

impl Key {
    /// A key of two names.
    pub fn new(namespace: impl Into<Name>, name: impl Into<Name>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A Namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace {
    /// Its labels; `kubernetes.io/metadata.name`, which every API server sets, is among them.
    pub labels: Labels,
    /// Its annotation `ringfence.dev/allow`: the rules about Pods that do not hold in it.
    pub allow: Option<Name>,
    /// It was there before baselines were set, so what is set for all holds for it no more than its label says.
    pub older: bool,
    /// It has been deleted and waits for what is in it to go.
    pub terminating: bool,
}

/// A Node.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// Its own addresses (`status.addresses`, those that are addresses).
    pub addresses: Vec<IpAddr>,
    /// The ranges its pods get their addresses from (`spec.podCIDRs`).
    pub pod_ranges: Vec<IpNet>,
}

/// A Pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pod {
    /// Its labels.
    pub labels: Labels,
    /// The node that it is bound to.
    pub node: Option<Name>,
    /// `status.podIPs`; a pod without one has none yet.
    pub addresses: Vec<IpAddr>,
    /// Ports that have a name, of containers and of sidecars (init containers that restart always).
    pub ports: Vec<NamedPort>,
    /// It lives in its node's network namespace: it is its node, and no policy selects it.
    pub host_network: bool,
    /// Succeeded or Failed: its address may already be another pod's.
    pub finished: bool,
    /// As the container runtime knows it: tells it from an earlier pod of the same name. `None` = not known.
    pub uid: Option<Uid>,
}

/// What tells a pod from an earlier one of the same name: its `metadata.uid`, or for a static pod the hash of its manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid(pub u128);

impl std::str::FromStr for Uid {
    type Err = ();
    /// 32 hexadecimal digits, dashes between them or not.
    fn from_str(text: &str) -> Result<Self, ()> {
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        if digits.len() != 32 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(());
        }
        u128::from_str_radix(&digits, 16).map(Uid).map_err(drop)
    }
}

impl Pod {
    /// Whether policies can select it and peers can match it: a pod of the pod network that has not finished.
    pub fn is_endpoint(&self) -> bool {
        !self.host_network && !self.finished
    }

    /// What a port name and protocol mean on this pod.
    pub fn named_ports(&self, name: &str, protocol: Protocol) -> impl Iterator<Item = u16> {
        self.ports.iter().filter(move |p| p.name.as_ref() == name && p.protocol == protocol).map(|p| p.number)
    }
}

/// A container port with a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamedPort {
    /// Its name.
    pub name: Name,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number.
    pub number: u16,
}

/// A protocol with ports, by its number in the IP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Protocol {
    /// TCP.
    Tcp = 6,
    /// UDP.
    Udp = 17,
    /// SCTP.
    Sctp = 132,
}

impl Protocol {
    /// All three.
    pub const ALL: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

    /// Its number in the IP header.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The protocol of a number in the IP header, if it is one of the three.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.number() == number)
    }

    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        }
    }
}

impl std::str::FromStr for Protocol {
    type Err = ();
    /// As the API reads it: upper case only.
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|p| p.as_str() == text).ok_or(())
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The side of a connection that a rule speaks about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Into the selected pods.
    Ingress,
    /// Out of the selected pods.
    Egress,
}

impl Direction {
    /// Both.
    pub const BOTH: [Direction; 2] = [Direction::Ingress, Direction::Egress];

    /// In lower case, as messages write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A NetworkPolicy. A direction that is `None` is not among its policyTypes: it does not isolate there.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkPolicy {
    /// The pods of its namespace that it isolates.
    pub selector: Selector,
    /// What may come in.
    pub ingress: Option<Vec<Rule>>,
    /// What may go out.
    pub egress: Option<Vec<Rule>>,
    /// Its own mode; `None` = that of its namespace.
    pub mode: Option<Mode>,
}

impl NetworkPolicy {
    /// Its rules of a direction, if it isolates there.
    pub fn rules(&self, direction: Direction) -> Option<&[Rule]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }
}

/// One rule of a policy: what one of the peers does on one of the ports is admitted.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// With whom; empty = with anybody.
    pub peers: Vec<Peer>,
    /// On which ports of the destination; empty = on any, and any protocol.
    pub ports: Vec<PortMatch>,
}

/// Who may be at the other end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    /// Pods by their labels.
    Pods {
        /// In the namespaces with these labels; `None` = in the policy's own namespace.
        namespaces: Option<Selector>,
        /// With these labels.
        pods: Selector,
    },
    /// Addresses.
    Block(Block),
}

/// An ipBlock.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block {
    /// All addresses in here,
    pub cidr: IpNet,
    /// but not those in one of these.
    pub except: Vec<IpNet>,
}

/// One entry of a rule's ports.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortMatch {
    /// The protocol.
    pub protocol: Protocol,
    /// The port of the destination.
    pub port: PortSpec,
}

/// Which ports of a protocol.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortSpec {
    /// From one number to another, both included; every port is 0 to 65535.
    Range(u16, u16),
    /// Whatever the name means on the destination pod.
    Named(Name),
}

impl PortSpec {
    /// Every port of the protocol.
    pub const ALL: PortSpec = PortSpec::Range(0, u16::MAX);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_is_the_same_with_dashes_and_without_and_nothing_else_is_one() {
        let uid: Uid = "6f2b1c9e-1d2f-4a3b-8c4d-5e6f7a8b9c0d".parse().unwrap();
        assert_eq!("6F2B1C9E1D2F4A3B8C4D5E6F7A8B9C0D".parse(), Ok(uid));
        for text in ["", "web-0", "6f2b1c9e-1d2f-4a3b-8c4d-5e6f7a8b9c0", "+f2b1c9e-1d2f-4a3b-8c4d-5e6f7a8b9c0d"] {
            assert_eq!(text.parse::<Uid>(), Err(()), "{text}");
        }
    }
}
