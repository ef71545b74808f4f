//! The C program under BPF_PROG_TEST_RUN: every branch by hand.
use crate::root::root_or_return;
use etherparse::PacketBuilder;
use ringfence::{
    datapath::{
        Config, Event, Reason, Sizes,
        trial::{Conntrack, Frame, Trial},
    },
    policy::{
        change::changes,
        mode::Mode,
        model::Direction,
        table::{Address, Admission, IdentityId, Meaning, PolicyId, PortPrefix, PortSetId, RuleId, Table},
    },
};
use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The rules of the hand-made table: who they are for is in their names.
pub(crate) const ANYBODY_80: RuleId = RuleId(101);
const FRIEND_ANY: RuleId = RuleId(102);
const BLOCK_RANGE: RuleId = RuleId(103);
pub(crate) const OUT_80: RuleId = RuleId(104);
const BLOCK_443: RuleId = RuleId(105);
pub(crate) const INGRESS: PolicyId = PolicyId(201);
pub(crate) const EGRESS: PolicyId = PolicyId(202);

/// An interface that no pod is behind.
pub(crate) const UPLINK: u32 = 3;

pub(crate) const WEB: &str = "10.0.0.1"; // ingress isolated
pub(crate) const CLIENT: &str = "10.0.0.2"; // not isolated, local
pub(crate) const FRIEND: &str = "10.0.0.3"; // identity 1
pub(crate) const JAILED: &str = "10.0.0.4"; // egress isolated
pub(crate) const STRANGER: &str = "192.0.2.9"; // nothing is said of it
pub(crate) const UNKNOWN: &str = "10.0.0.99"; // in the pod range: closed
const BLOCK: &str = "172.16.1.1"; // in an ipBlock
const EXCEPT: &str = "172.16.5.1"; // in its except
pub(crate) const WEB6: &str = "fd00::1";
pub(crate) const CLIENT6: &str = "fd00::2";
pub(crate) const JAILED6: &str = "fd00::4";
const UNKNOWN6: &str = "fd00::99";
pub(crate) const STRANGER6: &str = "2001:db8::9";

/// `WEB` takes 80/TCP from anybody, everything from `FRIEND`, 443 and 1000-1999 from a block but not its except;
/// `JAILED` reaches 80/TCP of anybody.
pub(crate) fn table() -> Table {
    let mut table = Table::default();
    let local = |identity, ingress, egress| Meaning { identity, ingress, egress, local: true, closed: false };
    let none = PolicyId(0);
    for (address, meaning) in [
        (WEB, local(IdentityId(0), INGRESS, none)),
        (CLIENT, local(IdentityId(0), none, none)),
        (FRIEND, local(IdentityId(1), none, none)),
        (JAILED, local(IdentityId(0), none, EGRESS)),
        (WEB6, local(IdentityId(0), INGRESS, none)),
        (CLIENT6, local(IdentityId(0), none, none)),
        (JAILED6, local(IdentityId(0), none, EGRESS)),
    ] {
        table.addresses.insert(ip(address), Address { meaning, ifindex: 0 });
    }
    let closed = Meaning { closed: true, ..Meaning::default() };
    let block = Meaning { identity: IdentityId(2), ..Meaning::default() };
    for (prefix, meaning) in [
        ("10.0.0.0/24", closed),
        ("fd00::/64", closed),
        ("172.16.0.0/16", block),
        ("172.16.5.0/24", Meaning::default()),
        ("::/0", Meaning { identity: IdentityId(3), ..Meaning::default() }),
    ] {
        table.networks.insert(prefix.parse().unwrap(), meaning);
    }
    let ports = |ports| Admission { ports, any: None };
    table.admissions.insert((INGRESS, IdentityId(0)), ports(PortSetId(1)));
    table.admissions.insert((INGRESS, IdentityId(1)), Admission { ports: PortSetId(0), any: Some(FRIEND_ANY) });
    table.admissions.insert((INGRESS, IdentityId(2)), ports(PortSetId(2)));
    table.admissions.insert((EGRESS, IdentityId(0)), ports(PortSetId(3)));
    let one = |protocol, port| PortPrefix { protocol, port, bits: 16 };
    table.ports.insert((PortSetId(1), one(TCP, 80)), ANYBODY_80);
    table.ports.insert((PortSetId(2), one(TCP, 443)), BLOCK_443);
    for prefix in PortPrefix::covering(UDP, 1000, 1999) {
        table.ports.insert((PortSetId(2), prefix), BLOCK_RANGE);
    }
    table.ports.insert((PortSetId(3), one(TCP, 80)), OUT_80);
    table
}

pub(crate) fn trial(table: &Table) -> Trial {
    limited(table, u32::MAX)
}

fn limited(table: &Table, events_per_second: u32) -> Trial {
    let sizes = Sizes { counters: Some(512), ..Sizes::default() };
    let mut trial = Trial::open(&Config { sizes, events_per_second, ..Config::default() }).unwrap();
    trial.datapath.apply(&changes(&Table::default(), table)).unwrap();
    trial
}

pub(crate) fn bytes(protocol: u8, source: IpAddr, destination: IpAddr, source_port: u16, port: u16) -> Vec<u8> {
    let builder = match (source, destination) {
        (IpAddr::V4(s), IpAddr::V4(d)) => PacketBuilder::ipv4(s.octets(), d.octets(), 63),
        (IpAddr::V6(s), IpAddr::V6(d)) => PacketBuilder::ipv6(s.octets(), d.octets(), 63),
        _ => panic!("two families"),
    };
    let payload = [0u8; 16];
    let mut out = Vec::new();
    match protocol {
        TCP => builder.tcp(source_port, port, 1, 1000).write(&mut out, &payload).unwrap(),
        UDP => builder.udp(source_port, port).write(&mut out, &payload).unwrap(),
        other => {
            let mut body = source_port.to_be_bytes().to_vec();
            body.extend(port.to_be_bytes());
            body.extend(payload);
            builder.write(&mut out, etherparse::IpNumber(other), &body).unwrap();
        }
    }
    out
}

/// A new connection's first packet, from a pod.
pub(crate) fn frame(bytes: Vec<u8>) -> Frame {
    let ipv6 = bytes[0] >> 4 == 6;
    Frame { bytes, ipv6, ifindex: UPLINK, port: 0, out: 0, out_port: 0, conntrack: Conntrack::New, scattered: false }
}

pub(crate) fn tcp(source: &str, destination: &str, port: u16) -> Frame {
    frame(bytes(TCP, ip(source), ip(destination), 40000, port))
}

pub(crate) fn with(protocol: u8, source: &str, destination: &str, port: u16) -> Frame {
    frame(bytes(protocol, ip(source), ip(destination), 40000, port))
}

pub(crate) trait SeenAs {
    fn seen_as(self, conntrack: Conntrack) -> Frame;
}

impl SeenAs for Frame {
    fn seen_as(self, conntrack: Conntrack) -> Frame {
        Frame { conntrack, ..self }
    }
}

/// Runs a packet with the headers in the linear part and without, and returns whether it passes and what counted it.
fn run(trial: &Trial, frame: &Frame) -> (bool, Vec<u32>) {
    both(trial, frame, |frame| trial.accepts(frame).unwrap())
}

/// The same where it leaves by its port.
pub(crate) fn leaves(trial: &Trial, frame: &Frame) -> (bool, Vec<u32>) {
    both(trial, frame, |frame| trial.leaves(frame, 1).unwrap().0)
}

fn both(trial: &Trial, frame: &Frame, passes: impl Fn(&Frame) -> bool) -> (bool, Vec<u32>) {
    let mut answers = [false, true].map(|scattered| {
        let before = trial.datapath.counters().unwrap();
        let accepts = passes(&Frame { scattered, ..frame.clone() });
        let after = trial.datapath.counters().unwrap();
        let counted = after.into_iter().filter(|(id, count)| before.get(id) != Some(count)).map(|(id, _)| id).collect();
        (accepts, counted)
    });
    assert_eq!(answers[0], answers[1], "linear and not: {frame:?}");
    std::mem::take(&mut answers[0])
}

pub(crate) fn accepted(trial: &Trial, frame: &Frame, by: &[u32]) {
    assert_eq!(run(trial, frame), (true, by.to_vec()), "{frame:?}");
}

pub(crate) fn dropped(trial: &Trial, frame: &Frame, by: u32) {
    assert_eq!(run(trial, frame), (false, vec![by]), "{frame:?}");
}

pub(crate) const OPEN: [u32; 1] = [7];

#[test]
fn policies_decide_who_reaches_what() {
    root_or_return!();
    assert_eq!(OPEN, [Reason::Open.id()]);
    let trial = trial(&table());
    accepted(&trial, &tcp(CLIENT, WEB, 80), &[ANYBODY_80.0]);
    dropped(&trial, &tcp(CLIENT, WEB, 81), INGRESS.0);
    dropped(&trial, &with(UDP, CLIENT, WEB, 80), INGRESS.0);
    accepted(&trial, &tcp(STRANGER, WEB, 80), &[ANYBODY_80.0]);
    accepted(&trial, &tcp(FRIEND, WEB, 4321), &[FRIEND_ANY.0]);
    accepted(&trial, &with(SCTP, FRIEND, WEB, 4321), &[FRIEND_ANY.0]);
    dropped(&trial, &with(SCTP, CLIENT, WEB, 80), INGRESS.0);
    // An identity with an entry of its own is not asked for anybody's.
    dropped(&trial, &tcp(BLOCK, WEB, 80), INGRESS.0);
    accepted(&trial, &tcp(BLOCK, WEB, 443), &[BLOCK_443.0]);
    for (port, inside) in [(999, false), (1000, true), (1500, true), (1999, true), (2000, false)] {
        let (accepts, by) = run(&trial, &with(UDP, BLOCK, WEB, port));
        assert_eq!((accepts, by), (inside, vec![if inside { BLOCK_RANGE.0 } else { INGRESS.0 }]), "{port}");
    }
    dropped(&trial, &tcp(BLOCK, WEB, 1500), INGRESS.0);
    dropped(&trial, &tcp(EXCEPT, WEB, 443), INGRESS.0);
    accepted(&trial, &tcp(EXCEPT, WEB, 80), &[ANYBODY_80.0]);
    accepted(&trial, &tcp(JAILED, STRANGER, 80), &[OUT_80.0]);
    dropped(&trial, &tcp(JAILED, STRANGER, 81), EGRESS.0);
    accepted(&trial, &tcp(JAILED, WEB, 80), &[ANYBODY_80.0, OUT_80.0]);
    dropped(&trial, &tcp(JAILED, WEB, 443), EGRESS.0);
    accepted(&trial, &tcp(CLIENT, FRIEND, 9), &OPEN);
    accepted(&trial, &tcp(STRANGER, STRANGER, 9), &OPEN);
    accepted(&trial, &tcp(BLOCK, BLOCK, 9), &OPEN);
    // IPv6: ::/0 is an identity of its own, and says nothing of IPv4.
    accepted(&trial, &tcp(CLIENT6, WEB6, 80), &[ANYBODY_80.0]);
    dropped(&trial, &tcp(CLIENT6, WEB6, 81), INGRESS.0);
    accepted(&trial, &tcp(STRANGER6, WEB6, 80), &[ANYBODY_80.0]);
    dropped(&trial, &tcp(JAILED6, STRANGER6, 81), EGRESS.0);
}

#[test]
fn closed_addresses_the_node_and_the_pod_itself() {
    root_or_return!();
    let trial = trial(&table());
    dropped(&trial, &tcp(UNKNOWN, STRANGER, 80), Reason::Closed.id());
    dropped(&trial, &tcp(STRANGER, UNKNOWN, 80), Reason::Closed.id());
    dropped(&trial, &tcp(UNKNOWN, UNKNOWN, 80), Reason::Closed.id());
    dropped(&trial, &tcp(STRANGER6, UNKNOWN6, 80), Reason::Closed.id());
    dropped(&trial, &tcp(UNKNOWN, WEB, 80).seen_as(Conntrack::Reply), Reason::Closed.id());
    accepted(&trial, &tcp(WEB, WEB, 9999), &[Reason::Itself.id()]);
    accepted(&trial, &Frame { ifindex: 0, ..tcp(CLIENT, WEB, 81) }, &[Reason::Node.id()]);
    dropped(&trial, &tcp(CLIENT, WEB, 81), INGRESS.0);
}

#[test]
fn a_reply_is_judged_as_what_it_answers() {
    root_or_return!();
    let trial = trial(&table());
    let reply = |from: &str, port, to: &str| frame(bytes(TCP, ip(from), ip(to), port, 40000)).seen_as(Conntrack::Reply);
    accepted(&trial, &reply(WEB, 80, CLIENT), &[ANYBODY_80.0]);
    dropped(&trial, &reply(WEB, 81, CLIENT), INGRESS.0);
    accepted(&trial, &reply(STRANGER, 80, JAILED), &[OUT_80.0]);
    dropped(&trial, &reply(STRANGER, 81, JAILED), EGRESS.0);
    // Without conntrack nothing is a reply: what JAILED sends is its own, though its port says otherwise.
    dropped(&trial, &reply(JAILED, 80, STRANGER).seen_as(Conntrack::None), EGRESS.0);
    accepted(&trial, &reply(JAILED, 80, STRANGER), &OPEN);
    accepted(&trial, &tcp(JAILED, STRANGER, 80).seen_as(Conntrack::Established), &[OUT_80.0]);
    dropped(&trial, &tcp(JAILED, STRANGER, 81).seen_as(Conntrack::Established), EGRESS.0);
    // What conntrack's helpers expect is a new connection.
    dropped(&trial, &tcp(JAILED, STRANGER, 81).seen_as(Conntrack::Related), EGRESS.0);
}

#[test]
fn protocols_without_ports_pass_by_rules_without_ports_only() {
    root_or_return!();
    let trial = trial(&table());
    for protocol in [2, 47, 50, 112, 136] {
        dropped(&trial, &with(protocol, CLIENT, WEB, 80), INGRESS.0);
        accepted(&trial, &with(protocol, FRIEND, WEB, 80), &[FRIEND_ANY.0]);
    }
    dropped(&trial, &frame(icmp4(CLIENT, WEB, 8, 0, &[])), INGRESS.0);
    accepted(&trial, &frame(icmp4(FRIEND, WEB, 8, 0, &[])), &[FRIEND_ANY.0]);
    dropped(&trial, &frame(icmp6(CLIENT6, WEB6, 64, 128, 0, &[])), INGRESS.0);
}

pub(crate) fn icmp4(source: &str, destination: &str, kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
    icmp(1, source, destination, 64, kind, code, rest)
}

pub(crate) fn icmp6(source: &str, destination: &str, hop_limit: u8, kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
    icmp(58, source, destination, hop_limit, kind, code, rest)
}

fn icmp(protocol: u8, source: &str, destination: &str, hop_limit: u8, kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
    let mut body = vec![kind, code, 0, 0, 0, 0, 0, 0];
    body.extend(rest);
    let mut out = Vec::new();
    let builder = match (ip(source), ip(destination)) {
        (IpAddr::V4(s), IpAddr::V4(d)) => PacketBuilder::ipv4(s.octets(), d.octets(), hop_limit),
        (IpAddr::V6(s), IpAddr::V6(d)) => PacketBuilder::ipv6(s.octets(), d.octets(), hop_limit),
        _ => panic!("two families"),
    };
    builder.write(&mut out, etherparse::IpNumber(protocol), &body).unwrap();
    out
}

#[test]
fn icmp_errors_are_judged_by_the_packet_they_are_about() {
    root_or_return!();
    let trial = trial(&table());
    for (web, client, jailed, stranger, v6) in
        [(WEB, CLIENT, JAILED, STRANGER, false), (WEB6, CLIENT6, JAILED6, STRANGER6, true)]
    {
        let error = |from: &str, to: &str, about: Vec<u8>, as_of| {
            let bytes = if v6 { icmp6(from, to, 64, 1, 4, &about) } else { icmp4(from, to, 3, 3, &about) };
            frame(bytes).seen_as(as_of)
        };
        let quoted = |from: &str, sport, to: &str, port| bytes(TCP, ip(from), ip(to), sport, port);
        // A router about the first packets of an admitted connection; and of one that is not.
        let about = quoted(client, 40000, web, 80);
        accepted(&trial, &error(stranger, client, about, Conntrack::RelatedReply), &[ANYBODY_80.0]);
        let about = quoted(client, 40000, web, 81);
        dropped(&trial, &error(stranger, client, about, Conntrack::RelatedReply), INGRESS.0);
        // The client about a reply that it got.
        let about = quoted(web, 80, client, 40000);
        accepted(&trial, &error(client, web, about, Conntrack::Related), &[ANYBODY_80.0]);
        let about = quoted(web, 81, client, 40000);
        dropped(&trial, &error(client, web, about, Conntrack::Related), INGRESS.0);
        // About what JAILED sent.
        let about = quoted(jailed, 40000, stranger, 80);
        accepted(&trial, &error(stranger, jailed, about, Conntrack::RelatedReply), &[OUT_80.0]);
        let about = quoted(jailed, 40000, stranger, 81);
        dropped(&trial, &error(stranger, jailed, about, Conntrack::RelatedReply), EGRESS.0);
        // Between an address that is closed and one that is not.
        let unknown = if v6 { UNKNOWN6 } else { UNKNOWN };
        let about = quoted(client, 40000, web, 80);
        dropped(&trial, &error(unknown, client, about, Conntrack::RelatedReply), Reason::Closed.id());
        let about = quoted(client, 40000, unknown, 80);
        dropped(&trial, &error(stranger, client, about, Conntrack::RelatedReply), Reason::Closed.id());
        // Not to the sender of what it quotes; cut off within it; about nothing that conntrack knows.
        let about = quoted(client, 40000, web, 80);
        dropped(&trial, &error(stranger, web, about.clone(), Conntrack::RelatedReply), Reason::Malformed.id());
        let cut = about[..if v6 { 42 } else { 22 }].to_vec();
        dropped(&trial, &error(stranger, client, cut, Conntrack::RelatedReply), Reason::Malformed.id());
        dropped(&trial, &error(stranger, web, about.clone(), Conntrack::None), INGRESS.0);
        dropped(&trial, &error(stranger, web, about, Conntrack::New), INGRESS.0);
    }
    // The quoted packet was the first fragment of its datagram: it has the ports.
    let mut about = bytes(TCP, ip(CLIENT), ip(WEB), 40000, 80);
    about[6] = 0x20;
    let first = frame(icmp4(STRANGER, CLIENT, 11, 1, &about)).seen_as(Conntrack::RelatedReply);
    accepted(&trial, &first, &[ANYBODY_80.0]);
    about[7] = 1;
    let later = frame(icmp4(STRANGER, CLIENT, 11, 1, &about)).seen_as(Conntrack::RelatedReply);
    dropped(&trial, &later, Reason::Malformed.id());
}

#[test]
fn neighbours_find_each_other_and_nobody_plays_router() {
    root_or_return!();
    let trial = trial(&table());
    let neighbour = Reason::Neighbour.id();
    let rest = [0u8; 16];
    for kind in [133, 135, 136] {
        for source in ["fe80::1", "::", UNKNOWN6, CLIENT6] {
            accepted(&trial, &frame(icmp6(source, "ff02::1", 255, kind, 0, &rest)), &[neighbour]);
        }
        // From behind a router: not neighbour discovery.
        dropped(&trial, &frame(icmp6(CLIENT6, WEB6, 254, kind, 0, &rest)), INGRESS.0);
    }
    for kind in [1, 3, 128, 129, 138] {
        dropped(&trial, &frame(icmp6(CLIENT6, WEB6, 255, kind, 0, &rest)), INGRESS.0);
    }
    for kind in [134, 137] {
        for hop_limit in [255, 64] {
            dropped(&trial, &frame(icmp6("fe80::1", "ff02::1", hop_limit, kind, 0, &rest)), Reason::Redirect.id());
        }
    }
    dropped(&trial, &frame(icmp4(CLIENT, FRIEND, 5, 1, &[0; 28])), Reason::Redirect.id());
    for kind in [130, 131, 132, 143] {
        let plain = icmp6("fe80::1", "ff02::16", 1, kind, 0, &rest);
        accepted(&trial, &frame(plain.clone()), &[neighbour]);
        accepted(&trial, &frame(extended(&plain, &[(0, hop_by_hop())])), &[neighbour]);
        dropped(&trial, &frame(icmp6(CLIENT6, WEB6, 64, kind, 0, &rest)), INGRESS.0);
    }
    // A router advertisement that hides behind other headers.
    let hidden = extended(&icmp6("fe80::1", "ff02::1", 255, 134, 0, &rest), &[(60, hop_by_hop()), (60, hop_by_hop())]);
    dropped(&trial, &frame(hidden), Reason::Redirect.id());
}

/// An empty options header of 8 bytes, without its next header.
fn hop_by_hop() -> Vec<u8> {
    vec![0, 0, 1, 4, 0, 0, 0, 0]
}

/// Puts extension headers between an IPv6 header and what follows it.
fn extended(packet: &[u8], extensions: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut out = packet[..40].to_vec();
    let mut next = packet[6];
    let mut chain = Vec::new();
    for (number, header) in extensions.iter().rev() {
        let mut header = header.clone();
        header[0] = next;
        next = *number;
        chain.splice(0..0, header);
    }
    out[6] = next;
    out.extend(&chain);
    out.extend(&packet[40..]);
    let length = (out.len() - 40) as u16;
    out[4..6].copy_from_slice(&length.to_be_bytes());
    out
}

#[test]
fn headers_in_between_do_not_hide_the_ports() {
    root_or_return!();
    let trial = trial(&table());
    let options = |mut packet: Vec<u8>| {
        packet[0] = 0x47;
        packet.splice(20..20, [7, 7, 4, 0, 0, 0, 0, 0]);
        frame(packet)
    };
    accepted(&trial, &options(bytes(TCP, ip(CLIENT), ip(WEB), 40000, 80)), &[ANYBODY_80.0]);
    dropped(&trial, &options(bytes(TCP, ip(CLIENT), ip(WEB), 40000, 81)), INGRESS.0);

    let authentication = vec![0, 2, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0];
    let atomic = vec![0, 0, 0, 0, 0, 0, 0, 1];
    for chain in [
        vec![(0, hop_by_hop())],
        vec![(0, hop_by_hop()), (60, hop_by_hop()), (43, hop_by_hop()), (51, authentication.clone())],
        vec![(44, atomic)],
        vec![(60, [hop_by_hop(), vec![0; 16]].concat().tap(|header| header[1] = 2))],
    ] {
        accepted(&trial, &frame(extended(&bytes(TCP, ip(CLIENT6), ip(WEB6), 40000, 80), &chain)), &[ANYBODY_80.0]);
        dropped(&trial, &frame(extended(&bytes(TCP, ip(CLIENT6), ip(WEB6), 40000, 81), &chain)), INGRESS.0);
    }
    let endless = vec![(60, hop_by_hop()); 13];
    dropped(&trial, &frame(extended(&bytes(TCP, ip(CLIENT6), ip(WEB6), 40000, 80), &endless)), Reason::Malformed.id());
}

trait Tap: Sized {
    fn tap(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}
impl Tap for Vec<u8> {}

#[test]
fn what_can_not_be_read_does_not_pass() {
    root_or_return!();
    let trial = trial(&table());
    let whole = bytes(TCP, ip(CLIENT), ip(WEB), 40000, 80);
    for first in [(0x20, 0), (0x20, 1), (0, 1)] {
        let fragment = whole.clone().tap(|packet| (packet[6], packet[7]) = first);
        dropped(&trial, &frame(fragment), Reason::Fragment.id());
    }
    let whole6 = bytes(TCP, ip(CLIENT6), ip(WEB6), 40000, 80);
    for (offset, more) in [(0, 1), (1, 1), (1, 0)] {
        let header = vec![0, 0, 0, offset << 3 | more, 0, 0, 0, 1];
        dropped(&trial, &frame(extended(&whole6, &[(44, header)])), Reason::Fragment.id());
    }
    // Cut off before the end of the ports, also between nobodies. The test run itself wants an IP header.
    for (source, destination) in [(CLIENT, WEB), (STRANGER, STRANGER)] {
        let whole = bytes(TCP, ip(source), ip(destination), 40000, 80);
        for length in 20..24 {
            dropped(&trial, &frame(whole[..length].to_vec()), Reason::Malformed.id());
        }
    }
    for length in 40..44 {
        dropped(&trial, &frame(whole6[..length].to_vec()), Reason::Malformed.id());
    }
    let chain = extended(&whole6, &[(0, hop_by_hop()), (60, hop_by_hop())]);
    for length in 40..60 {
        dropped(&trial, &frame(chain[..length].to_vec()), Reason::Malformed.id());
    }
    for first in [0x65, 0x05, 0x44, 0x40] {
        let garbage = Frame { ipv6: false, ..frame(whole.clone().tap(|packet| packet[0] = first)) };
        dropped(&trial, &garbage, Reason::Malformed.id());
    }
    let garbage = Frame { ipv6: true, ..frame(whole6.clone().tap(|packet| packet[0] = 0x45)) };
    dropped(&trial, &garbage, Reason::Malformed.id());
    // An IPv4 address in IPv6's clothes would be looked up as the pod's.
    let mapped =
        whole6.tap(|packet| packet[8..24].copy_from_slice(&Ipv4Addr::new(10, 0, 0, 3).to_ipv6_mapped().octets()));
    dropped(&trial, &frame(mapped), Reason::Malformed.id());
}

#[test]
fn a_drop_is_told_with_the_tuple_of_the_first_packet() {
    root_or_return!();
    let trial = trial(&table());
    let mut events = trial.datapath.events().unwrap();
    let mut next = || events.next(Duration::ZERO).unwrap();
    assert!(!trial.accepts(&tcp(CLIENT, WEB, 81)).unwrap());
    let [event] = next()[..] else { panic!("one event") };
    let expected = Event {
        time: event.time,
        generation: 1,
        source: ip(CLIENT),
        destination: ip(WEB),
        source_port: 40000,
        destination_port: 81,
        protocol: TCP,
        reply: false,
        accepted: false,
        audited: false,
        reason: Reason::Policy,
        side: Some(Direction::Ingress),
        id: INGRESS.0,
        length: 56,
        ifindex: 3,
    };
    assert_eq!(event, expected);
    assert!(event.time > Duration::ZERO);

    let reply = frame(bytes(TCP, ip(STRANGER), ip(JAILED), 81, 40000)).seen_as(Conntrack::Reply);
    assert!(!trial.accepts(&reply).unwrap());
    let [event] = next()[..] else { panic!("one event") };
    assert_eq!((event.source, event.destination), (ip(JAILED), ip(STRANGER)));
    assert_eq!((event.source_port, event.destination_port), (40000, 81));
    assert_eq!((event.reply, event.side, event.id), (true, Some(Direction::Egress), EGRESS.0));

    assert!(!trial.accepts(&tcp(UNKNOWN, WEB, 80)).unwrap());
    let [event] = next()[..] else { panic!("one event") };
    assert_eq!((event.reason, event.side, event.id), (Reason::Closed, None, 0));

    assert!(trial.accepts(&tcp(CLIENT, WEB, 80)).unwrap());
    assert_eq!(next(), []);
    trial.datapath.report_accepts(true);
    assert!(trial.accepts(&tcp(CLIENT, WEB, 80)).unwrap());
    assert!(trial.accepts(&tcp(CLIENT, WEB, 80).seen_as(Conntrack::Established)).unwrap());
    let [event] = next()[..] else { panic!("one event: the connection's first packet") };
    assert_eq!((event.accepted, event.reason, event.id), (true, Reason::Policy, ANYBODY_80.0));
}

#[test]
fn what_a_policy_in_audit_would_deny_passes_and_is_counted_and_told_as_such() {
    root_or_return!();
    // The same policies, watched: their rules are those of other ids.
    let mut table = table();
    let audited = |policy: PolicyId| match policy {
        PolicyId(0) => policy,
        PolicyId(number) => PolicyId::new(number + 10, Mode::Audit),
    };
    for (address, pod) in &mut table.addresses {
        pod.meaning.ingress = audited(pod.meaning.ingress);
        // JAILED6 stays enforced.
        pod.meaning.egress = if *address == ip(JAILED6) { pod.meaning.egress } else { audited(pod.meaning.egress) };
    }
    let rules = table.admissions.clone();
    table.admissions.extend(rules.into_iter().map(|((policy, identity), what)| ((audited(policy), identity), what)));
    let trial = trial(&table);
    let mut events = trial.datapath.events().unwrap();
    let (ingress, egress) = (INGRESS.0 + 10, EGRESS.0 + 10);

    accepted(&trial, &tcp(CLIENT, WEB, 80), &[ANYBODY_80.0]);
    assert_eq!(events.next(Duration::ZERO).unwrap(), [], "admitted, so nothing is to be said");
    accepted(&trial, &tcp(CLIENT, WEB, 81), &[ingress]);
    let told = events.next(Duration::ZERO).unwrap();
    assert_eq!(told.len(), 2, "with the headers in the linear part and without");
    assert!(told[0].accepted && told[0].audited);
    assert_eq!((told[0].reason, told[0].side, told[0].id), (Reason::Policy, Some(Direction::Ingress), ingress));
    accepted(&trial, &tcp(CLIENT, WEB, 81).seen_as(Conntrack::Established), &[ingress]);
    assert_eq!(events.next(Duration::ZERO).unwrap(), [], "one event for a connection");
    // Both ends would deny it: both count, and the source's would have been the first.
    accepted(&trial, &tcp(JAILED, WEB, 81), &[ingress, egress]);
    let told = events.next(Duration::ZERO).unwrap();
    assert_eq!((told[0].side, told[0].id), (Some(Direction::Egress), egress));
    // One would, the other admits it.
    accepted(&trial, &tcp(JAILED, STRANGER, 81), &[egress]);
    accepted(&trial, &tcp(JAILED, WEB, 80), &[ANYBODY_80.0, OUT_80.0]);
    // An end that is enforced is, whatever the other one's mode.
    dropped(&trial, &tcp(JAILED6, WEB6, 81), EGRESS.0);
    accepted(&trial, &tcp(JAILED6, WEB6, 80), &[ANYBODY_80.0, OUT_80.0]);
    dropped(&trial, &tcp(UNKNOWN, WEB, 81), Reason::Closed.id());
}

#[test]
fn events_are_limited_and_counters_are_not() {
    root_or_return!();
    let trial = limited(&table(), 3);
    let mut events = trial.datapath.events().unwrap();
    for _ in 0..500 {
        assert!(!trial.accepts(&tcp(CLIENT, WEB, 81)).unwrap());
    }
    assert_eq!(trial.datapath.counters().unwrap()[&INGRESS.0].packets, 500);
    let told = events.next(Duration::ZERO).unwrap().len();
    // On every CPU that a run was on, and perhaps as a second ended.
    let most = 3 * 2 * std::thread::available_parallelism().unwrap().get();
    assert!((3..=most).contains(&told), "{told} events");
    // Another policy's are its own.
    assert!(!trial.accepts(&tcp(JAILED, STRANGER, 81)).unwrap());
    assert_eq!(events.next(Duration::ZERO).unwrap()[0].id, EGRESS.0);
}

#[test]
fn counters_sum_packets_and_bytes_and_begin_anew() {
    root_or_return!();
    let mut trial = trial(&table());
    for _ in 0..3 {
        assert!(!trial.accepts(&tcp(CLIENT, WEB, 81)).unwrap());
    }
    let count = trial.datapath.counters().unwrap()[&INGRESS.0];
    assert_eq!((count.packets, count.bytes), (3, 3 * 56));
    assert_eq!(trial.datapath.counter(INGRESS.0).unwrap(), count);
    trial.datapath.reset_counter(INGRESS.0).unwrap();
    assert!(!trial.datapath.counters().unwrap().contains_key(&INGRESS.0));
}

#[test]
fn an_id_that_is_higher_than_any_before_it_is_counted_too() {
    root_or_return!();
    let sizes = Sizes { counters: Some(5000), ..Sizes::default() };
    let mut trial = Trial::open(&Config { sizes, ..Config::default() }).unwrap();
    let mut before = Table::default();
    for id in [20, 1500, 4999] {
        let mut after = before.clone();
        let meaning = Meaning { ingress: PolicyId(id), local: true, ..Meaning::default() };
        after.addresses.insert(ip(WEB), Address { meaning, ifindex: 0 });
        trial.datapath.apply(&changes(&before, &after)).unwrap();
        assert!(!trial.accepts(&tcp(CLIENT, WEB, 81)).unwrap());
        assert_eq!(trial.datapath.counters().unwrap()[&id].packets, 1);
        before = after;
    }
}

/// `cargo test --release --test it cost_of_a_packet -- --ignored --nocapture`
///
/// Above a program that does nothing. What is not remembered is the first packet of its kind in a generation.
#[test]
#[ignore = "a measurement"]
fn cost_of_a_packet() {
    root_or_return!();
    let bound = |mut table: Table| {
        for (address, ifindex) in [(WEB, 11), (JAILED, 13), (CLIENT, 12)] {
            let known = table.addresses.get_mut(&ip(address)).unwrap();
            known.ifindex = ifindex;
            table.interfaces.insert(ifindex, known.meaning);
        }
        table
    };
    let mut many = table();
    for number in 0..10_000u32 {
        let (ingress, egress, rule) =
            (PolicyId(1000 + number * 3), PolicyId(1001 + number * 3), RuleId(1002 + number * 3));
        let meaning = Meaning { identity: IdentityId(10 + number), ingress, egress, local: true, closed: false };
        let address = IpAddr::V4(Ipv4Addr::from(0x0a80_0000 + number));
        many.addresses.insert(address, Address { meaning, ifindex: 0 });
        for policy in [ingress, egress] {
            let admission = Admission { ports: PortSetId(10 + number), any: None };
            many.admissions.insert((policy, IdentityId(10 + (number + 1) % 10_000)), admission);
        }
        let prefix = PortPrefix { protocol: TCP, port: 80, bits: 16 };
        many.ports.insert((PortSetId(10 + number), prefix), rule);
    }
    let [[few, large], [few_found, large_found]] = [false, true].map(|doubts| {
        let mut few = trial(&bound(table()));
        let mut large = Trial::open(&Config::default()).unwrap();
        large.datapath.apply(&changes(&Table::default(), &bound(many.clone()))).unwrap();
        (few.doubts, large.doubts) = (doubts, doubts);
        [few, large]
    });
    let by = |frame: Frame, port| Frame { ifindex: 4, port, out: 4, out_port: 11, ..frame };
    let both = by(tcp(JAILED, WEB, 80), 13);
    let cases = [
        ("both ends isolated", &few, both.clone()),
        ("both ends, 10,000 more policies", &large, both.clone()),
        ("both ends, not remembered", &few_found, both.clone()),
        ("not remembered, 10,000 more", &large_found, both.clone()),
        ("node's own", &few, Frame { ifindex: 0, ..tcp(CLIENT, WEB, 80) }),
        ("nobody known", &few, tcp(STRANGER, STRANGER, 80)),
        ("one end isolated, on a bridge", &few, by(tcp(CLIENT, WEB, 80), 12)),
        ("from outside to one end", &few, Frame { out: 4, ..tcp(STRANGER, WEB, 80) }),
        ("by a range", &few, with(UDP, BLOCK, WEB, 1500)),
        ("by a range, not remembered", &few_found, with(UDP, BLOCK, WEB, 1500)),
        ("IPv6", &few, tcp(CLIENT6, WEB6, 80)),
        ("denied and told", &few, Frame { out: 9, ..by(tcp(JAILED, STRANGER, 81), 13) }),
    ];
    let mut times = vec![Vec::new(); cases.len()];
    let mut nothing = Vec::new();
    for _ in 0..20 {
        nothing.push(few.nothing(&both, 100_000).unwrap()[0].as_nanos());
        for (times, (_, trial, frame)) in times.iter_mut().zip(&cases) {
            times.push(trial.run(frame, 100_000).unwrap().1.as_nanos());
        }
    }
    nothing.sort_unstable();
    times.iter_mut().for_each(|times| times.sort_unstable());
    let above = |times: &Vec<u128>| times[10].saturating_sub(nothing[10]);
    println!("a program that does nothing: {} ns", nothing[10]);
    for (times, (name, ..)) in times.iter().zip(&cases) {
        println!("{name:34} {:4} ns above it ({} to {} with it)", above(times), times[0], times[19]);
    }
    let ratio = |many: usize, one: usize| above(&times[many]) as f64 / above(&times[one]) as f64;
    println!("10,000 policies cost {:.2} of what one costs, not remembered {:.2}", ratio(1, 0), ratio(3, 2));
}
