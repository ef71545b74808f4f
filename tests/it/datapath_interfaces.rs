//! The C program under BPF_PROG_TEST_RUN: addresses that are bound to interfaces, and what else comes and goes there.
use crate::{
    datapath_program::{
        ANYBODY_80, CLIENT, CLIENT6, INGRESS, JAILED, OPEN, OUT_80, STRANGER, STRANGER6, SeenAs, UNKNOWN, UPLINK, WEB,
        WEB6, accepted, dropped, frame, icmp6, ip, leaves, table, tcp, trial, with,
    },
    root::root_or_return,
};
use ringfence::{
    datapath::{
        Reason,
        trial::{Conntrack, Frame},
    },
    policy::{
        change::changes,
        table::{Meaning, Table},
    },
};
use std::time::Duration;

/// The bridge that the ports below belong to, and a device on top of it.
const BRIDGE: u32 = 4;
/// `WEB` and `WEB6` are behind one, `CLIENT` and `CLIENT6` behind another, `JAILED` behind a third.
pub(crate) const WEBS: u32 = 11;
const CLIENTS: u32 = 12;
pub(crate) const JAIL: u32 = 13;
const MULTICAST: &str = "239.1.2.3";
const BROADCAST: &str = "10.0.0.255";

pub(crate) fn bound() -> Table {
    let mut table = table();
    for (address, ifindex) in [(WEB, WEBS), (WEB6, WEBS), (CLIENT, CLIENTS), (CLIENT6, CLIENTS), (JAILED, JAIL)] {
        let known = table.addresses.get_mut(&ip(address)).unwrap();
        known.ifindex = ifindex;
        table.interfaces.insert(ifindex, known.meaning);
    }
    table
}

trait Travels {
    /// By ports of a bridge.
    fn came_by_port(self, port: u32) -> Frame;
    fn to_port(self, port: u32) -> Frame;
    /// By interfaces of their own.
    fn came_by_device(self, ifindex: u32) -> Frame;
    fn to_device(self, ifindex: u32) -> Frame;
}

impl Travels for Frame {
    fn came_by_port(self, port: u32) -> Frame {
        Frame { ifindex: BRIDGE, port, ..self }
    }
    fn to_port(self, port: u32) -> Frame {
        Frame { out: BRIDGE, out_port: port, ..self }
    }
    fn came_by_device(self, ifindex: u32) -> Frame {
        Frame { ifindex, port: 0, ..self }
    }
    fn to_device(self, ifindex: u32) -> Frame {
        Frame { out: ifindex, out_port: 0, ..self }
    }
}

#[test]
fn an_address_comes_in_by_its_interface_and_by_no_other() {
    root_or_return!();
    let trial = trial(&bound());
    let spoofed = Reason::Spoofed.id();
    for (client, web) in [(CLIENT, WEB), (CLIENT6, WEB6)] {
        let packet = || tcp(client, web, 80);
        accepted(&trial, &packet().came_by_port(CLIENTS), &[ANYBODY_80.0]);
        accepted(&trial, &packet().came_by_device(CLIENTS), &[ANYBODY_80.0]);
        for other in
            [packet().came_by_port(WEBS), packet().came_by_port(UPLINK), packet().came_by_device(JAIL), packet()]
        {
            dropped(&trial, &other, spoofed);
        }
        // Before a word of conntrack's is believed.
        dropped(&trial, &packet().came_by_port(WEBS).seen_as(Conntrack::Reply), spoofed);
        dropped(&trial, &packet().came_by_port(JAIL).seen_as(Conntrack::Established), spoofed);
    }
    // The node itself is where it is.
    accepted(&trial, &Frame { ifindex: 0, ..tcp(CLIENT, WEB, 81) }, &[Reason::Node.id()]);
}

#[test]
fn an_interface_lets_nothing_in_but_what_is_bound_to_it() {
    root_or_return!();
    let trial = trial(&bound());
    let spoofed = Reason::Spoofed.id();
    // The gateway, a pod elsewhere, an address outside, none, and a link-local one that is not for neighbours.
    for source in ["10.0.0.254", "10.0.9.9", STRANGER, "0.0.0.0", UNKNOWN] {
        dropped(&trial, &tcp(source, WEB, 80).came_by_port(JAIL), spoofed);
    }
    for source in [STRANGER6, "::", "fe80::7"] {
        dropped(&trial, &tcp(source, WEB6, 80).came_by_port(CLIENTS), spoofed);
    }
    // Elsewhere they may be what they like.
    accepted(&trial, &tcp(STRANGER, WEB, 80), &[ANYBODY_80.0]);
    accepted(&trial, &tcp(STRANGER, STRANGER, 80), &OPEN);
}

#[test]
fn neighbours_have_link_local_addresses_or_their_own_or_none() {
    root_or_return!();
    let trial = trial(&bound());
    let message = |source: &str, hop_limit, kind| icmp6(source, "ff02::1", hop_limit, kind, 0, &[0; 16]);
    for (hop_limit, kind) in [(255, 133), (255, 135), (255, 136), (1, 131), (1, 143)] {
        for source in ["fe80::7", "::", CLIENT6] {
            let frame = frame(message(source, hop_limit, kind)).came_by_port(CLIENTS);
            accepted(&trial, &frame, &[Reason::Neighbour.id()]);
        }
        for source in [WEB6, STRANGER6] {
            dropped(&trial, &frame(message(source, hop_limit, kind)).came_by_port(CLIENTS), Reason::Spoofed.id());
        }
    }
    dropped(&trial, &frame(message("fe80::7", 255, 128)).came_by_port(CLIENTS), Reason::Spoofed.id());
}

#[test]
fn an_address_leaves_by_its_interface_where_that_can_be_seen() {
    root_or_return!();
    let trial = trial(&bound());
    let astray = Reason::Astray.id();
    let packet = || tcp(CLIENT, WEB, 80).came_by_port(CLIENTS);
    for right in [packet().to_port(WEBS), packet().to_device(WEBS), packet().to_device(BRIDGE), packet()] {
        accepted(&trial, &right, &[ANYBODY_80.0]);
    }
    // A frame that the bridge floods, also to ports that are no pod's; a route that is wrong.
    for wrong in [packet().to_port(JAIL), packet().to_port(UPLINK), packet().to_device(JAIL)] {
        dropped(&trial, &wrong, astray);
    }
    accepted(&trial, &tcp(JAILED, STRANGER, 80).came_by_port(JAIL).to_device(UPLINK), &[OUT_80.0]);
}

#[test]
fn what_leaves_by_the_interface_of_a_pod_is_for_that_pod() {
    root_or_return!();
    let mut table = bound();
    table.networks.remove(&"10.0.0.0/24".parse().unwrap());
    let trial = trial(&table);
    const UDP: u8 = 17;
    for everybody in [MULTICAST, BROADCAST, "255.255.255.255", STRANGER] {
        // WEB takes 80/TCP from anybody and nothing else; CLIENT is not isolated.
        dropped(&trial, &with(UDP, CLIENT, everybody, 5353).came_by_port(CLIENTS).to_port(WEBS), INGRESS.0);
        accepted(&trial, &tcp(CLIENT, everybody, 80).came_by_port(CLIENTS).to_port(WEBS), &[ANYBODY_80.0]);
        dropped(&trial, &tcp(CLIENT, everybody, 81).came_by_port(CLIENTS).to_device(WEBS), INGRESS.0);
        accepted(&trial, &with(UDP, STRANGER, everybody, 5353).to_port(CLIENTS), &OPEN);
        accepted(&trial, &with(UDP, CLIENT, everybody, 5353).came_by_port(CLIENTS).to_port(UPLINK), &OPEN);
    }
    dropped(&trial, &with(UDP, CLIENT6, "ff02::fb", 5353).came_by_port(CLIENTS).to_port(WEBS), INGRESS.0);
    // By an address that the pods gave themselves; and what answers it.
    dropped(&trial, &with(UDP, STRANGER6, "fe80::7", 9).to_port(WEBS), INGRESS.0);
    dropped(&trial, &tcp(STRANGER, "169.254.1.1", 9).to_port(WEBS).seen_as(Conntrack::Established), INGRESS.0);
}

#[test]
fn an_interface_of_an_unknown_pod_is_closed() {
    root_or_return!();
    let mut table = bound();
    let nobody = Meaning { closed: true, local: true, ..Meaning::default() };
    table.interfaces.insert(WEBS, nobody);
    for address in [WEB, WEB6] {
        table.addresses.get_mut(&ip(address)).unwrap().meaning = nobody;
    }
    let trial = trial(&table);
    let closed = Reason::Closed.id();
    dropped(&trial, &tcp(CLIENT, WEB, 80).came_by_port(CLIENTS).to_port(WEBS), closed);
    dropped(&trial, &tcp(WEB, CLIENT, 80).came_by_port(WEBS).to_port(CLIENTS), closed);
    dropped(&trial, &with(17, CLIENT, MULTICAST, 5353).came_by_port(CLIENTS).to_port(WEBS), closed);
}

#[test]
fn a_frame_leaves_by_the_port_that_its_destination_is_bound_to() {
    root_or_return!();
    let trial = trial(&bound());
    let (passes, astray) = ((true, vec![]), (false, vec![Reason::Astray.id()]));
    for (client, web) in [(CLIENT, WEB), (CLIENT6, WEB6)] {
        // Whoever sent it, the node too, and whatever its policies say.
        for port in [80, 81] {
            let packet = || Frame { ifindex: 0, ..tcp(client, web, port) };
            assert_eq!(leaves(&trial, &packet().to_port(WEBS)), passes);
            assert_eq!(leaves(&trial, &packet().to_port(JAIL)), astray);
        }
    }
    // What is bound to no interface leaves by any: broadcast and multicast, unknown and foreign addresses.
    for to in [MULTICAST, BROADCAST, UNKNOWN, STRANGER] {
        assert_eq!(leaves(&trial, &tcp(CLIENT, to, 80).to_port(JAIL)), passes, "{to}");
    }
    for to in ["ff02::1", "fe80::7", STRANGER6] {
        assert_eq!(leaves(&trial, &tcp(CLIENT6, to, 80).to_port(JAIL)), passes, "{to}");
    }
    // Fragments have no ports, and are somebody's all the same.
    let mut fragment = tcp(CLIENT, WEB, 80);
    fragment.bytes[6..8].copy_from_slice(&[0x20, 0x08]);
    assert_eq!(leaves(&trial, &fragment.clone().to_port(WEBS)), passes);
    assert_eq!(leaves(&trial, &fragment.to_port(JAIL)), astray);
}

#[test]
fn a_frame_that_can_not_be_read_leaves_by_no_port() {
    root_or_return!();
    let trial = trial(&bound());
    let malformed = (false, vec![Reason::Malformed.id()]);
    for (client, web, header) in [(CLIENT, WEB, 20), (CLIENT6, WEB6, 40)] {
        let whole = tcp(client, web, 80).to_port(WEBS);
        let of_header = Frame { bytes: whole.bytes[..header].into(), ..whole.clone() };
        assert_eq!(leaves(&trial, &of_header), (true, vec![]), "ports are not needed");
        assert_eq!(leaves(&trial, &Frame { ipv6: !whole.ipv6, ..whole }), malformed, "another version");
    }
    let clothed = format!("::ffff:{WEB}");
    assert_eq!(leaves(&trial, &tcp(CLIENT6, &clothed, 80).to_port(WEBS)), malformed);
}

#[test]
fn what_goes_astray_is_reported_with_both_ends() {
    root_or_return!();
    let trial = trial(&bound());
    let mut events = trial.datapath.events().unwrap();
    for (client, web) in [(CLIENT, WEB), (CLIENT6, WEB6)] {
        let packet = tcp(client, web, 443).to_port(JAIL);
        assert!(!trial.leaves(&packet, 1).unwrap().0);
        let [event] = &events.next(Duration::ZERO).unwrap()[..] else { panic!("one event") };
        assert_eq!((event.source, event.source_port), (ip(client), 40000));
        assert_eq!((event.destination, event.destination_port), (ip(web), 443));
        assert_eq!((event.protocol, event.reason, event.accepted), (6, Reason::Astray, false));
        assert_eq!(event.length as usize, packet.bytes.len());
    }
}

#[test]
fn what_is_remembered_is_of_one_way_and_of_one_state() {
    root_or_return!();
    let mut trial = trial(&bound());
    let astray = Reason::Astray.id();
    let packet = || tcp(CLIENT, WEB, 80).came_by_port(CLIENTS);
    for doubts in [false, true] {
        trial.doubts = doubts;
        accepted(&trial, &packet().to_device(UPLINK), &[ANYBODY_80.0]);
        dropped(&trial, &packet().to_port(UPLINK), astray);
        accepted(&trial, &packet().to_port(WEBS), &[ANYBODY_80.0]);
        assert_eq!(leaves(&trial, &packet().to_port(WEBS)), (true, vec![]));
    }
    let mut moved = bound();
    moved.addresses.get_mut(&ip(WEB)).unwrap().ifindex = JAIL;
    trial.datapath.apply(&changes(&bound(), &moved)).unwrap();
    for doubts in [true, false] {
        trial.doubts = doubts;
        dropped(&trial, &packet().to_port(WEBS), astray);
        assert_eq!(leaves(&trial, &packet().to_port(WEBS)), (false, vec![astray]));
    }
}
