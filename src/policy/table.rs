//! What the kernel of one node is told: small integers instead of labels.
//!
//! `address or prefix -> Meaning -> (policy, identity) -> Admission -> (port set, port) -> rule`. [`Table`] is ordered
//! values, [`Table::lookup`] is what the program in the kernel does with a packet (`src/datapath/bpf/`), and
//! [`super::change::changes`] leads from one table to the next.

use super::{
    mode::Mode,
    model::{Direction, Key},
    prefix,
};
use ipnet::IpNet;
use std::{collections::BTreeMap, fmt, net::IpAddr};

/// One set of policies in one direction, with what their port names mean on a pod. 0 = not isolated.
/// With [`PolicyId::AUDIT`] added it is in audit: what it does not admit passes, and is counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyId(pub u32);

impl PolicyId {
    /// The bit of an id that is in audit (`AUDIT` in `ringfence.h`).
    pub const AUDIT: u32 = 1 << 31;

    /// The id of a number, in audit or not.
    pub fn new(number: u32, mode: Mode) -> Self {
        match mode {
            Mode::Enforce => Self(number),
            Mode::Audit => Self(number | Self::AUDIT),
        }
    }

    /// Its place in the counters, and what its label stands under.
    pub fn number(self) -> u32 {
        self.0 & !Self::AUDIT
    }

    /// What becomes of what it does not admit.
    pub fn mode(self) -> Mode {
        if self.0 & Self::AUDIT == 0 { Mode::Enforce } else { Mode::Audit }
    }
}

/// A set of addresses that no policy in use on the node tells apart. 0 = those that no peer matches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdentityId(pub u32);

/// A set of ports. 0 = none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortSetId(pub u32);

/// Rules that say the same of the same ports. Shares its numbers with [`PolicyId`]: both are places in the counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(pub u32);

/// Ids below this one are the kernel's own reasons (`enum reason` in `ringfence.h`).
pub const FIRST_ID: u32 = 16;

/// What an address or a prefix is to this node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Meaning {
    /// What peers match it.
    pub identity: IdentityId,
    /// The policy that isolates it for what comes in; local pods only.
    pub ingress: PolicyId,
    /// The policy that isolates it for what goes out; local pods only.
    pub egress: PolicyId,
    /// A pod of this node.
    pub local: bool,
    /// In a pod range of this node, but no pod that is known: nothing passes.
    pub closed: bool,
}

/// What an address is, and where it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// What it is.
    pub meaning: Meaning,
    /// The interface of this node that it comes in by and leaves by, and no other one; 0 = any.
    pub ifindex: u32,
}

/// What a policy admits from, or to, an identity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Admission {
    /// These ports.
    pub ports: PortSetId,
    /// Everything, whatever the protocol, by this rule.
    pub any: Option<RuleId>,
}

/// Ports of a protocol that share their first bits: 16 bits are one port, 0 bits are all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortPrefix {
    /// The IP protocol number.
    pub protocol: u8,
    /// The first port.
    pub port: u16,
    /// How many of its bits count, 0 to 16.
    pub bits: u8,
}

impl PortPrefix {
    /// The fewest prefixes that hold exactly the ports from `low` to `high`, both included.
    pub fn covering(protocol: u8, low: u16, high: u16) -> Vec<PortPrefix> {
        let mut prefixes = Vec::new();
        let (mut at, end) = (u32::from(low), u32::from(high) + 1);
        while at < end {
            let aligned = if at == 0 { 16 } else { at.trailing_zeros() };
            let fits = (end - at).ilog2();
            let free = aligned.min(fits);
            // `at` is below 65,536 and `free` at most 16.
            prefixes.push(PortPrefix { protocol, port: at as u16, bits: (16 - free) as u8 });
            at += 1 << free;
        }
        prefixes
    }

    /// Whether a port is among them.
    pub fn contains(&self, protocol: u8, port: u16) -> bool {
        let mask = if self.bits == 0 { 0 } else { u16::MAX << (16 - self.bits) };
        self.protocol == protocol && port & mask == self.port
    }

    fn holding(protocol: u8, port: u16, bits: u8) -> PortPrefix {
        let mask = if bits == 0 { 0 } else { u16::MAX << (16 - bits) };
        PortPrefix { protocol, port: port & mask, bits }
    }
}

/// A rule of a policy: where an admission comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleRef {
    /// The policy.
    pub policy: Key,
    /// Which list of rules.
    pub direction: Direction,
    /// The place in it, from 0.
    pub rule: usize,
}

impl fmt::Display for RuleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}[{}]", self.policy, self.direction, self.rule)
    }
}

/// What an id in the counters stands for, in words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Label {
    /// A [`PolicyId`]: the policies that isolate.
    Policies(Direction, Vec<Key>),
    /// A [`PolicyId`] in audit: the policies that would isolate.
    Audited(Direction, Vec<Key>),
    /// A [`RuleId`]: the rules that admit.
    Rules(Vec<RuleRef>),
}

/// Everything that the kernel of one node is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// Every pod address of the cluster.
    pub addresses: BTreeMap<IpAddr, Address>,
    /// The interfaces that addresses are bound to: nothing else comes in there, and what leaves there is for their pod.
    /// The identity is not used.
    pub interfaces: BTreeMap<u32, Meaning>,
    /// Every ipBlock and except in use here, and this node's own pod ranges; the longest prefix counts.
    pub networks: BTreeMap<IpNet, Meaning>,
    /// What a policy admits; [`IdentityId`] 0 = from or to anybody, asked when there is no entry for the identity itself.
    pub admissions: BTreeMap<(PolicyId, IdentityId), Admission>,
    /// What a port set holds; the longest prefix counts.
    pub ports: BTreeMap<(PortSetId, PortPrefix), RuleId>,
    /// What the ids of policies and rules stand for. The kernel does not have it.
    pub labels: BTreeMap<u32, Label>,
}

/// A packet as the hook sees it: behind DNAT, before SNAT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Packet {
    /// The node itself sent it.
    pub from_node: bool,
    /// The interface that it came in by: the port, where that is one of a bridge.
    pub comes_by: u32,
    /// The interface that it leaves by; 0 = not known.
    pub leaves_by: u32,
    /// That is the port of a bridge, so it is where the packet really goes.
    pub bridged: bool,
    /// It belongs to the other direction of its connection, says conntrack.
    pub reply: bool,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Source port; 0 for a protocol without ports.
    pub source_port: u16,
    /// Destination port; 0 for a protocol without ports.
    pub destination_port: u16,
}

/// Why an end lets a packet pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Passed {
    /// It is not isolated here.
    Open,
    /// The rule admits it.
    Admitted(RuleId),
    /// The policy admits it not, and is in audit.
    Audited(PolicyId),
}

/// What becomes of a packet, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It passes.
    Accept {
        /// The source's end.
        egress: Passed,
        /// The destination's end.
        ingress: Passed,
    },
    /// It came in by an interface that its source is not bound to.
    Spoofed,
    /// It would leave by an interface that its destination is not bound to.
    Astray,
    /// An end is closed.
    Closed,
    /// The policy isolates, and none of its rules admits.
    Denied(Direction, PolicyId),
}

impl Verdict {
    /// Accepted without anybody being asked.
    pub const OPEN: Verdict = Verdict::Accept { egress: Passed::Open, ingress: Passed::Open };

    /// Whether the packet passes.
    pub fn accepts(self) -> bool {
        matches!(self, Verdict::Accept { .. })
    }

    /// Whether it passes only because a policy is in audit.
    pub fn is_audited(self) -> bool {
        match self {
            Verdict::Accept { egress, ingress } => {
                [egress, ingress].iter().any(|passed| matches!(passed, Passed::Audited(_)))
            }
            Verdict::Spoofed | Verdict::Astray | Verdict::Closed | Verdict::Denied(..) => false,
        }
    }
}

impl Table {
    /// What the program in the kernel does with a packet. Mirrors `judge()` in `src/datapath/bpf/ringfence.bpf.c`.
    pub fn lookup(&self, packet: &Packet) -> Verdict {
        if packet.from_node {
            return Verdict::OPEN;
        }
        let (from, to) = (self.address(packet.source), self.address(packet.destination));
        let bound = |ifindex: u32| self.interfaces.get(&ifindex).filter(|behind| behind.local);
        let spoofed =
            if from.ifindex == 0 { bound(packet.comes_by).is_some() } else { from.ifindex != packet.comes_by };
        if spoofed {
            return Verdict::Spoofed;
        }
        let (mut from, mut to, leaves_by) = (from.meaning, to.meaning, (to.ifindex, packet.leaves_by));
        match leaves_by {
            // Above a bridge nobody knows the port yet, and there may be other devices in between.
            (own, other) if own != 0 && own != other && (packet.bridged || bound(other).is_some()) => {
                return Verdict::Astray;
            }
            // Whatever its destination says, it is for the pod that is there: multicast, or an address of its own making.
            (0, port) => {
                if let Some(behind) = bound(port) {
                    to = Meaning { identity: to.identity, closed: to.closed || behind.closed, ..*behind };
                }
            }
            _ => {}
        }
        if from.closed || to.closed {
            return Verdict::Closed;
        }
        // A reply is judged as its connection is: by the tuple of the first packet.
        let mut port = packet.destination_port;
        if packet.reply {
            std::mem::swap(&mut from, &mut to);
            port = packet.source_port;
        }
        if packet.source == packet.destination && from.local {
            return Verdict::OPEN;
        }
        let mut passed = [Passed::Open, Passed::Open];
        let sides = [(Direction::Egress, from.egress, to.identity), (Direction::Ingress, to.ingress, from.identity)];
        for (passed, (direction, policy, peer)) in passed.iter_mut().zip(sides) {
            if policy == PolicyId(0) {
                continue;
            }
            *passed = match (self.admit(policy, peer, packet.protocol, port), policy.mode()) {
                (Some(rule), _) => Passed::Admitted(rule),
                (None, Mode::Audit) => Passed::Audited(policy),
                (None, Mode::Enforce) => return Verdict::Denied(direction, policy),
            };
        }
        let [egress, ingress] = passed;
        Verdict::Accept { egress, ingress }
    }

    /// What an address is: what is said of it, or of the longest prefix that holds it.
    pub fn meaning(&self, address: IpAddr) -> Meaning {
        self.address(address).meaning
    }

    fn address(&self, address: IpAddr) -> Address {
        let network = || Address { meaning: self.network(IpNet::from(address)), ifindex: 0 };
        self.addresses.get(&address).copied().unwrap_or_else(network)
    }

    /// What is said of the longest prefix that holds a whole network, itself included.
    pub fn network(&self, of: IpNet) -> Meaning {
        prefix::longest(&self.networks, of).copied().unwrap_or_default()
    }

    fn admit(&self, policy: PolicyId, peer: IdentityId, protocol: u8, port: u16) -> Option<RuleId> {
        let admission =
            self.admissions.get(&(policy, peer)).or_else(|| self.admissions.get(&(policy, IdentityId(0))))?;
        if admission.any.is_some() {
            return admission.any;
        }
        (0..=16)
            .rev()
            .find_map(|bits| self.ports.get(&(admission.ports, PortPrefix::holding(protocol, port, bits))).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_covered_by_prefixes_that_hold_it_and_nothing_else() {
        for (low, high) in
            [(0, 65535), (1, 65535), (80, 80), (1, 1), (0, 0), (65535, 65535), (1000, 2000), (32768, 65535)]
        {
            let prefixes = PortPrefix::covering(6, low, high);
            for port in 0..=u16::MAX {
                let held = prefixes.iter().filter(|p| p.contains(6, port)).count();
                assert_eq!(held, usize::from((low..=high).contains(&port)), "{port} in {low}..={high}");
            }
            assert!(prefixes.len() <= 30);
            assert!(!prefixes[0].contains(17, low), "another protocol");
        }
    }
}
