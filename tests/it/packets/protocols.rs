//! SCTP by its ports, and everything without ports by rules without ports.

use super::{
    TCP, in_lab,
    site::{Site, peer, policy},
    wire::{ICMP, ICMPV6, Wire, has, icmp, ip},
};
use crate::root::root_or_return;
use std::{net::IpAddr, time::Duration};

const SCTP: u8 = 132;
const GRE: u8 = 47;

/// An SCTP packet of one chunk; conntrack wants its sum to be right.
fn sctp(source: u16, port: u16, tag: u32, kind: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = [&source.to_be_bytes()[..], &port.to_be_bytes(), &tag.to_be_bytes(), &[0; 4]].concat();
    packet.extend([kind, 0]);
    packet.extend((4 + body.len() as u16).to_be_bytes());
    packet.extend_from_slice(body);
    let mut sum = !0u32;
    for byte in &packet {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = (sum >> 1) ^ (0x82f6_3b78 & (sum & 1).wrapping_neg());
        }
    }
    packet[8..12].copy_from_slice(&(!sum).to_le_bytes());
    packet
}

/// What a peer that wants (1) or grants (2) an association says, with its tag.
fn init(source: u16, port: u16, verification: u32, kind: u8, tag: u32) -> Vec<u8> {
    let body = [&tag.to_be_bytes()[..], &65536u32.to_be_bytes(), &[0, 1, 0, 1], &1u32.to_be_bytes()].concat();
    sctp(source, port, verification, kind, &body)
}

#[test]
fn sctp_passes_by_its_own_ports_and_is_no_tcp() {
    root_or_return!();
    in_lab(|lab| {
        let site = Site::new(lab, &[("client", 1), ("web", 1), ("far", 2)]);
        let from = format!("from: [{}, {}]", peer("client"), peer("far"));
        let ports = "ports: [{protocol: SCTP, port: 3868}, {port: 3869}]";
        let _node = site.enforce("node1", &policy("web", &format!("ingress: [{{{from}, {ports}}}]")));
        let web = Wire::of(&site.lab, "web");
        let mut tag = 0x5c70_0000;
        for from in ["client", "far"] {
            let wire = Wire::of(&site.lab, from);
            // Of another node it goes to its gateway.
            let gateway = Wire::of(&site.lab, "node2");
            let next = if from == "far" { &gateway } else { &web };
            let pairs = site.host(from).addresses().into_iter().zip(site.host("web").addresses());
            for (source, to) in pairs {
                for (port, expected) in [(3868, true), (3869, false), (80, false)] {
                    tag += 1;
                    wire.send(next, &ip(SCTP, source, to, &init(40000, port, 0, 1, tag)));
                    assert_eq!(web.hears_of(&tag.to_be_bytes()), expected, "{from}: {source} -> {to} {port}");
                }
                for (port, expected) in [(3868, false), (3869, true)] {
                    let syn = crate::datapath_program::bytes(TCP, source, to, 40009, port);
                    wire.send(next, &syn);
                    let ports = [&40009u16.to_be_bytes()[..], &port.to_be_bytes()].concat();
                    assert_eq!(web.hears_of(&ports), expected, "{from}: TCP {source} -> {to} {port}");
                }
            }
        }
    });
}

#[test]
fn an_answer_in_sctp_comes_back_to_a_pod_that_nobody_may_ask() {
    root_or_return!();
    in_lab(|lab| {
        let site = Site::new(lab, &[("client", 1), ("jail", 1)]);
        let egress = format!("egress: [{{to: [{}], ports: [{{protocol: SCTP, port: 3868}}]}}]", peer("client"));
        let _node = site.enforce("node1", &policy("jail", &format!("policyTypes: [Ingress, Egress], {egress}")));
        let (client, jail) = (Wire::of(&site.lab, "client"), Wire::of(&site.lab, "jail"));
        for (number, (from, to)) in
            site.host("jail").addresses().into_iter().zip(site.host("client").addresses()).enumerate()
        {
            let number = number as u32;
            let (asked, answered, unasked) = (0x0a5c_ed00 + number, 0x0a05_3e00 + number, 0x0bad_0000 + number);
            client.send(&jail, &ip(SCTP, to, from, &init(3868, 40001, 0, 1, unasked)));
            assert!(!jail.hears_of(&unasked.to_be_bytes()), "{from}");
            jail.send(&client, &ip(SCTP, from, to, &init(40000, 3868, 0, 1, asked)));
            assert!(client.hears_of(&asked.to_be_bytes()), "{to}");
            client.send(&jail, &ip(SCTP, to, from, &init(3868, 40000, asked, 2, answered)));
            assert!(jail.hears_of(&answered.to_be_bytes()), "{from}");
        }
    });
}

/// Whether an echo request is answered by the kernel at the other end.
fn pings(site: &Site, from: &str, to: &str) -> Vec<bool> {
    let (wire, other) = (Wire::of(&site.lab, from), Wire::of(&site.lab, to));
    let pairs = site.host(from).addresses().into_iter().zip(site.host(to).addresses());
    let one = |(source, destination): (IpAddr, IpAddr)| {
        let (protocol, request, reply) = if source.is_ipv4() { (ICMP, 8, 0) } else { (ICMPV6, 128, 129) };
        let mark = b"knock, knock";
        let echo = icmp(source, destination, [request, 0], [0, 7, 0, 7], mark);
        wire.send(&other, &ip(protocol, source, destination, &echo));
        let header = if source.is_ipv4() { 20 } else { 40 };
        let is = |packet: &[u8]| packet.len() > header && packet[header] == reply && has(packet, mark);
        wire.hears(Duration::from_millis(200), is).is_some()
    };
    pairs.map(one).collect()
}

#[test]
fn echo_and_tunnels_pass_by_rules_without_ports_only() {
    root_or_return!();
    in_lab(|lab| {
        let site = Site::new(lab, &[("client", 1), ("web", 1), ("stranger", 1)]);
        let mut node = site.enforce("node1", "");
        assert_eq!(pings(&site, "client", "web"), [true, true], "nobody is isolated");
        let from = |rest: &str| policy("web", &format!("ingress: [{{from: [{}]{rest}}}]", peer("client")));
        for (what, policies, expected) in [
            ("no rule", policy("web", "policyTypes: [Ingress]"), false),
            ("every TCP port", from(", ports: [{}]"), false),
            ("every port of each protocol", from(", ports: [{}, {protocol: UDP}, {protocol: SCTP}]"), false),
            ("everything", from(""), true),
        ] {
            node.change(&site.cluster(&policies));
            assert_eq!(pings(&site, "client", "web"), [expected; 2], "{what}");
            assert_eq!(pings(&site, "stranger", "web"), [false; 2], "{what}");
            let (client, web) = (Wire::of(&site.lab, "client"), Wire::of(&site.lab, "web"));
            let pairs = site.host("client").addresses().into_iter().zip(site.host("web").addresses());
            for (source, to) in pairs {
                // 0x6558: Ethernet within.
                client.send(&web, &ip(GRE, source, to, &[&[0, 0, 0x65, 0x58][..], b"a frame within"].concat()));
                assert_eq!(web.hears_of(b"a frame within"), expected, "{what}: GRE to {to}");
            }
        }
    });
}
