//! IP options, IPv6 extension headers, and headers that are cut or make no sense: the real ports are found, or nothing passes.

use super::{
    TCP, UDP, in_lab,
    site::{Site, peer, policy},
    wire::{ICMP, ICMPV6, Wire, has, ip, udp},
};
use crate::root::root_or_return;
use etherparse::{IpNumber, Ipv4Header};
use ringfence::datapath::Reason;
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

/// What `web` takes from `client`: 53/UDP; and 257/UDP, which is what two options say that do nothing (1, 1).
fn web_takes() -> String {
    let ports = "ports: [{protocol: UDP, port: 53}, {protocol: UDP, port: 257}]";
    policy("web", &format!("ingress: [{{from: [{}], {ports}}}]", peer("client")))
}

fn with_options(from: Ipv4Addr, to: Ipv4Addr, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let length = payload.len().try_into().unwrap();
    let mut header = Ipv4Header::new(length, 64, IpNumber(UDP), from.octets(), to.octets()).unwrap();
    header.options = options.try_into().unwrap();
    header.set_payload_len(payload.len()).unwrap();
    header.header_checksum = header.calc_header_checksum();
    [&header.to_bytes()[..], payload].concat()
}

#[test]
fn ports_are_found_behind_ip_options() {
    root_or_return!();
    in_lab(|lab| {
        let site = Site::new(lab, &[("client", 1), ("web", 1)]);
        let _node = site.enforce("node1", &web_takes());
        let (client, web) = (Wire::of(&site.lab, "client"), Wire::of(&site.lab, "web"));
        let (from, to) = (site.host("client").ipv4, site.host("web").ipv4);
        let record_route = [7, 39, 4].into_iter().chain([0; 37]).collect::<Vec<u8>>();
        for (what, options) in [
            ("nothing, eight times", vec![1; 8]),
            ("nothing, forty times", vec![1; 40]),
            ("record the route", record_route),
            ("router alert", vec![148, 4, 0, 0]),
        ] {
            for (port, expected) in [(53, true), (54, false)] {
                let mark = [0x0d, 0xdb, options.len() as u8, options[0], port as u8, 9, 8, 7];
                let payload = udp(from.into(), to.into(), 40000, port, &mark);
                client.send(&web, &with_options(from, to, &options, &payload));
                assert_eq!(web.hears_of(&mark), expected, "{what}: {port}");
            }
        }
    });
}

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;

/// The headers one after the other, the last one naming `upper`.
fn chain(headers: &[u8], upper: u8) -> Vec<u8> {
    let next = headers[1..].iter().copied().chain([upper]);
    let one = |(header, next): (&u8, u8)| match *header {
        // 8 bytes: type 253, no segment left.
        ROUTING => vec![next, 0, 253, 0, 0, 0, 0, 0],
        // The only piece of a whole packet.
        FRAGMENT => vec![next, 0, 0, 0, 0, 0, 0, 1],
        // Counts words of 4 bytes, less two.
        AUTHENTICATION => [&[next, 4, 0, 0][..], &[9; 20]].concat(),
        // One option that is padding.
        _ => vec![next, 0, 1, 4, 0, 0, 0, 0],
    };
    headers.iter().zip(next).flat_map(one).collect()
}

#[test]
fn ports_are_found_behind_extension_headers_and_not_behind_too_many() {
    root_or_return!();
    in_lab(|lab| {
        let site = Site::new(lab, &[("client", 1), ("web", 1)]);
        let node = site.enforce("node1", &web_takes());
        let (client, web) = (Wire::of(&site.lab, "client"), Wire::of(&site.lab, "web"));
        let (from, to) = (site.host("client").ipv6.into(), site.host("web").ipv6.into());
        let chains = [
            (vec![HOP_BY_HOP], true),
            (vec![ROUTING], true),
            (vec![DESTINATION], true),
            (vec![AUTHENTICATION], true),
            (vec![FRAGMENT], true),
            (vec![HOP_BY_HOP, DESTINATION, ROUTING, AUTHENTICATION, DESTINATION], true),
            (vec![DESTINATION; 11], true),
            (vec![DESTINATION; 12], false),
            (vec![DESTINATION; 40], false),
        ];
        for (number, (headers, readable)) in chains.into_iter().enumerate() {
            for port in [53, 54] {
                let before = node.packets(Reason::Malformed);
                let mark = [0xe4, 0x7e, number as u8, port as u8, 1, 2, 3, 4];
                let payload = [chain(&headers, UDP), udp(from, to, 40000, port, &mark)].concat();
                client.send(&web, &ip(headers[0], from, to, &payload));
                assert_eq!(web.hears_of(&mark), readable && port == 53, "{headers:?}: {port}");
                assert_eq!(node.packets(Reason::Malformed) - before, u64::from(!readable), "{headers:?}: {port}");
            }
        }
    });
}

/// Every packet with a name, and whether the kernel lets it come as far as the hook.
fn garbage(from: IpAddr, to: IpAddr) -> Vec<(&'static str, Vec<u8>, bool)> {
    let whole = udp(from, to, 40000, 53, b"garbage");
    let cut = |protocol, length: usize| ip(protocol, from, to, &whole[..length]);
    let icmp = if from.is_ipv4() { ICMP } else { ICMPV6 };
    let mut all = vec![
        ("half of a UDP header's ports", cut(UDP, 2), true),
        ("no UDP header", cut(UDP, 0), true),
        ("three bytes of TCP", cut(TCP, 3), true),
        ("one byte of SCTP", cut(132, 1), true),
        ("one byte of ICMP", cut(icmp, 1), true),
    ];
    let patched = |at: usize, byte: u8| {
        let mut packet = ip(UDP, from, to, &whole);
        packet[at] = byte;
        packet
    };
    if from.is_ipv4() {
        all.extend([
            ("a header that is shorter than its fixed part", patched(0, 0x44), false),
            ("a header that is longer than the packet", patched(0, 0x4f), false),
            ("another version", patched(0, 0x55), false),
            ("a packet that says it is longer", patched(3, 200), false),
            ("a wrong sum", patched(10, 0x11), false),
        ]);
        return all;
    }
    let mapped = |address: IpAddr| match address {
        IpAddr::V6(_) => IpAddr::from(Ipv4Addr::new(10, 244, 1, 10).to_ipv6_mapped()),
        IpAddr::V4(_) => address,
    };
    let behind = |header: u8, bytes: &[u8]| ip(header, from, to, bytes);
    all.extend([
        ("an extension that is longer than the packet", behind(DESTINATION, &[UDP, 255, 1, 4, 0, 0, 0, 0]), true),
        ("an extension that ends in the middle", behind(DESTINATION, &[UDP]), true),
        ("an extension of which only the head is there", behind(AUTHENTICATION, &[UDP, 30, 0, 0]), true),
        ("hop-by-hop options that are longer than the packet", behind(HOP_BY_HOP, &[UDP, 9, 1, 4, 0, 0, 0, 0]), false),
        ("an IPv4 source in IPv6's clothes", ip(UDP, mapped(from), to, &udp(mapped(from), to, 1, 53, b"x")), true),
        ("a packet that says it is longer", patched(5, 200), false),
    ]);
    all
}

#[test]
fn what_can_not_be_read_reaches_nobody_and_is_counted() {
    root_or_return!();
    in_lab(|lab| {
        let site = Site::new(lab, &[("client", 1), ("web", 1)]);
        // Everything is admitted from everybody: only what can not be judged is dropped.
        let node = site.enforce("node1", &policy("web", "ingress: [{}]"));
        let (client, web) = (Wire::of(&site.lab, "client"), Wire::of(&site.lab, "web"));
        for (from, to) in site.host("client").addresses().into_iter().zip(site.host("web").addresses()) {
            let good = udp(from, to, 40000, 9, b"good as gold");
            client.send(&web, &ip(UDP, from, to, &good));
            assert!(web.hears_of(b"good as gold"), "{to}");
            let target: Vec<u8> = match to {
                IpAddr::V4(to) => to.octets().to_vec(),
                IpAddr::V6(to) => to.octets().to_vec(),
            };
            for (what, packet, comes) in garbage(from, to) {
                let before = node.packets(Reason::Malformed);
                client.send(&web, &packet);
                // But for the question who has the address.
                let is_neighbour = |heard: &[u8]| heard[0] >> 4 == 6 && heard[6] == ICMPV6 && heard[7] == 255;
                let heard = web.hears(Duration::from_millis(60), |heard| has(heard, &target) && !is_neighbour(heard));
                assert_eq!(heard, None, "{what}: {to}");
                assert_eq!(node.packets(Reason::Malformed) - before, u64::from(comes), "{what}: {to}");
            }
        }
    });
}

/// Where nobody is isolated, too: what can not be read can not be known to be anybody's.
#[test]
fn what_can_not_be_read_is_dropped_between_pods_that_no_policy_selects() {
    root_or_return!();
    in_lab(|lab| {
        let site = Site::new(lab, &[("client", 1), ("web", 1)]);
        let node = site.enforce("node1", "");
        let (client, web) = (Wire::of(&site.lab, "client"), Wire::of(&site.lab, "web"));
        let (from, to): (Ipv6Addr, Ipv6Addr) = (site.host("client").ipv6, site.host("web").ipv6);
        let payload = [chain(&[DESTINATION; 12], UDP), udp(from.into(), to.into(), 1, 53, b"behind twelve")].concat();
        client.send(&web, &ip(DESTINATION, from.into(), to.into(), &payload));
        assert!(!web.hears_of(b"behind twelve"));
        assert_eq!(node.packets(Reason::Malformed), 1);
    });
}
