//! The C program under BPF_PROG_TEST_RUN: random tables and packets against `Table::lookup`.
use crate::{
    datapath_program::{bytes, frame},
    root::root_or_return,
};
use proptest::{option, prelude::*, strategy::ValueTree, test_runner::TestRunner};
use ringfence::{
    datapath::{
        Config, Reason,
        trial::{Conntrack, Frame, Trial},
    },
    policy::{
        change::changes,
        mode::Mode,
        table::{
            Address, Admission, IdentityId, Meaning, Packet, Passed, PolicyId, PortPrefix, PortSetId, RuleId, Table,
            Verdict,
        },
    },
};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

/// Few of everything, so that tables and packets meet.
pub(crate) fn any_ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (0u8..2, 0u8..5).prop_map(|(c, d)| IpAddr::from(Ipv4Addr::new(10, 0, c, d))),
        (0u16..2, 0u16..5).prop_map(|(c, d)| IpAddr::from(Ipv6Addr::new(0xfd00, 0, 0, c, 0, 0, 0, d))),
    ]
}

fn any_meaning() -> impl Strategy<Value = Meaning> {
    let policy = || {
        prop_oneof![2 => Just(0u32), 2 => 100u32..104, 1 => (104u32..106).prop_map(|n| n | PolicyId::AUDIT)]
            .prop_map(PolicyId)
    };
    (0u32..5, policy(), policy(), any::<bool>(), prop::bool::weighted(0.04)).prop_map(
        |(identity, ingress, egress, local, closed)| {
            let none = PolicyId(0);
            let (ingress, egress) = if local { (ingress, egress) } else { (none, none) };
            Meaning { identity: IdentityId(identity), ingress, egress, local, closed }
        },
    )
}

fn any_port() -> impl Strategy<Value = u16> {
    prop_oneof![5 => Just(80u16), 3 => Just(443), 1 => 0u16..8, 1 => 1000u16..1040, 1 => any::<u16>()]
}

fn any_protocol() -> impl Strategy<Value = u8> {
    prop_oneof![5 => Just(TCP), 2 => Just(UDP), 1 => Just(SCTP)]
}

pub(crate) fn any_table() -> impl Strategy<Value = Table> {
    let addresses = prop::collection::btree_map(
        any_ip(),
        (any_meaning(), 0u32..3).prop_map(|(meaning, ifindex)| Address { meaning, ifindex }),
        0..20,
    );
    let networks = prop::collection::btree_map(
        (any_ip(), 0u8..=32, prop::sample::select(vec![0u8, 8, 48, 64, 112, 126, 128]))
            .prop_map(|(ip, v4, v6)| ipnet::IpNet::new(ip, if ip.is_ipv4() { v4 } else { v6 }).unwrap().trunc()),
        any_meaning().prop_map(|m| Meaning { ingress: PolicyId(0), egress: PolicyId(0), local: false, ..m }),
        0..8,
    );
    let admissions = prop::collection::btree_map(
        (100u32..106, 0u32..5).prop_map(|(policy, identity)| {
            let mode = if policy < 104 { Mode::Enforce } else { Mode::Audit };
            (PolicyId::new(policy, mode), IdentityId(identity))
        }),
        (0u32..4, prop::option::weighted(0.25, 200u32..204))
            .prop_map(|(ports, any)| Admission { ports: PortSetId(ports), any: any.map(RuleId) }),
        4..20,
    );
    let ports =
        prop::collection::vec((1u32..4, any_protocol(), any_port(), any_port(), any::<bool>(), 204u32..208), 0..12)
            .prop_map(|entries| {
                let mut ports = std::collections::BTreeMap::new();
                for (set, protocol, a, b, single, rule) in entries {
                    let (low, high) = if single { (a, a) } else { (a.min(b), a.max(b)) };
                    for prefix in PortPrefix::covering(protocol, low, high) {
                        ports.insert((PortSetId(set), prefix), RuleId(rule));
                    }
                }
                ports
            });
    let behind = any_meaning().prop_map(|m| Meaning { identity: IdentityId(0), ..m });
    let interfaces = prop::collection::btree_map(1u32..4, behind, 0..4);
    let parts = (addresses, interfaces, networks, admissions, ports);
    parts.prop_map(|(addresses, interfaces, networks, admissions, ports)| Table {
        addresses,
        interfaces,
        networks,
        admissions,
        ports,
        labels: Default::default(),
    })
}

/// A packet that takes the way that its addresses are bound to, where it has no other.
#[derive(Debug, Clone)]
struct Travelling {
    packet: Packet,
    comes_by: Option<u32>,
    leaves_by: Option<u32>,
}

impl Travelling {
    fn through(self, table: &Table) -> Packet {
        let own = |address: IpAddr, else_by| match table.addresses.get(&address) {
            Some(Address { ifindex, .. }) if *ifindex != 0 => *ifindex,
            _ => else_by,
        };
        let comes_by = self.comes_by.unwrap_or_else(|| own(self.packet.source, 4));
        let leaves_by = self.leaves_by.unwrap_or_else(|| own(self.packet.destination, 0));
        Packet { comes_by, leaves_by, bridged: self.packet.bridged && leaves_by != 0, ..self.packet }
    }
}

fn any_packet() -> impl Strategy<Value = Travelling> {
    let protocol = prop_oneof![8 => any_protocol(), 1 => Just(47u8), 1 => Just(136u8)];
    let ends = (any_ip(), any_ip()).prop_filter("one family", |(a, b)| a.is_ipv4() == b.is_ipv4());
    // By the interfaces that the ends are bound to where they are, and by others.
    let way = (option::weighted(0.15, 1u32..5), option::weighted(0.15, 0u32..5), any::<bool>());
    (ends, protocol, any_port(), any_port(), any::<bool>(), prop::bool::weighted(0.05), way).prop_map(
        |((source, destination), protocol, source_port, destination_port, reply, from_node, way)| {
            let ports = if [TCP, UDP, SCTP].contains(&protocol) { (source_port, destination_port) } else { (0, 0) };
            let packet = Packet {
                from_node,
                comes_by: 0,
                leaves_by: 0,
                bridged: way.2,
                reply,
                source,
                destination,
                protocol,
                source_port: ports.0,
                destination_port: ports.1,
            };
            Travelling { packet, comes_by: way.0, leaves_by: way.1 }
        },
    )
}

#[test]
fn random_packets_get_the_answer_of_the_table() {
    root_or_return!();
    let mut runner = TestRunner::deterministic();
    let mut trial = Trial::open(&Config { events_per_second: u32::MAX, ..Config::default() }).unwrap();
    let mut events = trial.datapath.events().unwrap();
    let mut old = Table::default();
    let (mut drops, mut admitted, mut audited, mut spoofed, mut astray) = (0, 0, 0, 0, 0);
    let mut earlier: Vec<Frame> = Vec::new();
    for _ in 0..60 {
        let table = any_table().new_tree(&mut runner).unwrap().current();
        // Through the empty table: ids of a random table mean nothing in the next.
        trial.datapath.apply(&changes(&old, &Table::default())).unwrap();
        trial.datapath.apply(&changes(&Table::default(), &table)).unwrap();
        old = table.clone();
        // What is remembered is of one state: the trial doubts it, and complains.
        for frame in earlier.drain(..) {
            trial.accepts(&frame).unwrap();
        }
        events.next(Duration::ZERO).unwrap();
        let mut seen = Vec::new();
        for number in 0..150 {
            let packet = any_packet().new_tree(&mut runner).unwrap().current().through(&table);
            let frame = Frame {
                // A port is known beside the interface of its bridge.
                ifindex: if packet.from_node { 0 } else { packet.comes_by },
                port: if number % 2 == 0 { packet.comes_by } else { 0 },
                out: if packet.bridged { 9 } else { packet.leaves_by },
                out_port: if packet.bridged { packet.leaves_by } else { 0 },
                conntrack: if packet.reply { Conntrack::Reply } else { Conntrack::New },
                scattered: number % 4 == 0,
                ..frame(bytes(
                    packet.protocol,
                    packet.source,
                    packet.destination,
                    packet.source_port,
                    packet.destination_port,
                ))
            };
            let expected = table.lookup(&packet);
            let accepts = trial.accepts(&frame).unwrap();
            assert_eq!(accepts, expected.accepts(), "{packet:?} {expected:?} {table:#?}");
            seen.push((frame, accepts));
            let told = events.next(Duration::ZERO).unwrap();
            match expected {
                Verdict::Accept { egress: Passed::Audited(policy), .. }
                | Verdict::Accept { ingress: Passed::Audited(policy), .. } => {
                    audited += 1;
                    let begins = !packet.reply;
                    assert_eq!(told.len(), usize::from(begins), "{packet:?}");
                    for event in told {
                        assert_eq!((event.audited, event.reason, event.id), (true, Reason::Policy, policy.number()));
                    }
                }
                Verdict::Accept { egress, ingress } => {
                    assert_eq!(told, []);
                    admitted += usize::from(egress != Passed::Open || ingress != Passed::Open);
                }
                Verdict::Spoofed => {
                    spoofed += 1;
                    assert_eq!((told[0].reason, told[0].ifindex), (Reason::Spoofed, packet.comes_by));
                }
                Verdict::Astray => {
                    astray += 1;
                    assert_eq!(told[0].reason, Reason::Astray);
                }
                Verdict::Closed => assert_eq!(told[0].reason, Reason::Closed),
                Verdict::Denied(side, policy) => {
                    drops += 1;
                    assert_eq!((told[0].reason, told[0].side, told[0].id), (Reason::Policy, Some(side), policy.0));
                }
            }
        }
        trial.doubts = false;
        for (frame, accepted) in &seen {
            assert_eq!(trial.accepts(frame).unwrap(), *accepted, "the second time: {frame:?}");
        }
        trial.doubts = true;
        earlier.extend(seen.into_iter().map(|(frame, _)| frame));
        events.next(Duration::ZERO).unwrap();
    }
    let met = drops > 400 && admitted > 200 && audited > 200 && spoofed > 200 && astray > 50;
    assert!(met, "the random packets meet the random tables: {drops} {admitted} {audited} {spoofed} {astray}");
}
