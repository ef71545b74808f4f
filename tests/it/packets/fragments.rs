//! Fragments: judged as the packet that they make, or not let through at all.

use super::{
    TCP, UDP, in_lab,
    site::{Site, peer, policy},
    wire::{Wire, ip, udp},
};
use crate::root::root_or_return;
use etherparse::{IpFragOffset, IpNumber, Ipv4Header};
use std::{
    net::{IpAddr, UdpSocket},
    ops::Range,
    time::Duration,
};

/// What `web` takes from `client`: 53/UDP and 80/TCP.
fn web_takes() -> String {
    let ports = "ports: [{protocol: UDP, port: 53}, {port: 80}]";
    policy("web", &format!("ingress: [{{from: [{}], {ports}}}]", peer("client")))
}

/// A piece of what the packet carries, as a packet of its own.
fn fragment(from: IpAddr, to: IpAddr, protocol: u8, whole: &[u8], piece: Range<usize>, id: u16) -> Vec<u8> {
    let (more, offset) = (piece.end < whole.len(), piece.start as u16 / 8);
    let body = &whole[piece];
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let length = body.len().try_into().unwrap();
            let mut header = Ipv4Header::new(length, 64, IpNumber(protocol), from.octets(), to.octets()).unwrap();
            header.identification = id;
            (header.dont_fragment, header.more_fragments) = (false, more);
            header.fragment_offset = IpFragOffset::try_new(offset).unwrap();
            header.header_checksum = header.calc_header_checksum();
            [&header.to_bytes()[..], body].concat()
        }
        (from, to) => {
            let word = (offset << 3 | u16::from(more)).to_be_bytes();
            let header = [&[protocol, 0][..], &word, &[0, 0], &id.to_be_bytes()].concat();
            ip(44, from, to, &[&header[..], body].concat())
        }
    }
}

#[test]
fn a_datagram_that_a_socket_sends_in_pieces_is_judged_by_its_ports() {
    root_or_return!();
    in_lab(|lab| {
        let site = Site::new(lab, &[("client", 1), ("web", 1), ("far", 2)]);
        let from = format!("from: [{}, {}]", peer("client"), peer("far"));
        let web = policy("web", &format!("ingress: [{{{from}, ports: [{{protocol: UDP, port: 53}}]}}]"));
        let _server = super::Server::start(&site.lab, "web");
        let _node = site.enforce("node1", &web);
        for (port, expected) in [(53, true), (54, false)] {
            for (from, address) in
                ["client", "far"].iter().flat_map(|from| site.host("web").addresses().map(|a| (*from, a)))
            {
                let answered = site.lab.within(from, || {
                    let any: IpAddr =
                        if address.is_ipv4() { "0.0.0.0".parse().unwrap() } else { "::".parse().unwrap() };
                    let socket = UdpSocket::bind((any, 0)).unwrap();
                    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
                    // The first one may be what tells how long packets may be in the tunnel.
                    (0..2).any(|_| {
                        socket.send_to(&[7; 6000], (address, port)).unwrap();
                        socket.recv(&mut [0; 64]).is_ok()
                    })
                });
                assert_eq!(answered.unwrap(), expected, "{from} -> {address} {port}");
            }
        }
    });
}

#[test]
fn pieces_in_any_order_pass_together_and_a_first_one_alone_never() {
    root_or_return!();
    in_lab(|lab| {
        let site = Site::new(lab, &[("client", 1), ("web", 1)]);
        let _node = site.enforce("node1", &web_takes());
        let (client, web) = (Wire::of(&site.lab, "client"), Wire::of(&site.lab, "web"));
        let mut id = 0;
        for (from, to) in site.host("client").addresses().into_iter().zip(site.host("web").addresses()) {
            // Names of what is sent, the pieces in their order, and whether port 53 gets it. Port 54 gets nothing.
            for (what, pieces, expected) in [
                ("three pieces", vec![(0, 16), (16, 32), (32, 48)], true),
                ("the last one first", vec![(32, 48), (16, 32), (0, 16)], true),
                ("a first one that is as small as can be", vec![(0, 8), (8, 48)], true),
                ("a first one alone", vec![(0, 32)], false),
                ("a last one alone", vec![(16, 48)], false),
                ("one that covers half of another", vec![(0, 24), (16, 48)], false),
                ("two first ones", vec![(0, 16), (0, 24), (24, 48)], false),
            ] {
                for port in [53, 54] {
                    id += 1;
                    let mark = [0xfa, 0xce, id as u8, port as u8, 0xfa, 0xce, 1, 2];
                    // The same mark in every piece of 8 bytes but the first, which is the header.
                    let whole = udp(from, to, 40000, port, &[mark; 5].concat());
                    for (begin, end) in pieces.clone() {
                        client.send(&web, &fragment(from, to, UDP, &whole, begin..end, id));
                    }
                    assert_eq!(web.hears_of(&mark), expected && port == 53, "{what}: {to} {port}");
                }
            }
        }
    });
}

/// The ports of the first piece are admitted, those that a later one would put in their place are not.
#[test]
fn pieces_that_overwrite_the_ports_of_the_first_one_reach_nobody() {
    root_or_return!();
    in_lab(|lab| {
        let site = Site::new(lab, &[("client", 1), ("web", 1)]);
        let _node = site.enforce("node1", &web_takes());
        let (client, web) = (Wire::of(&site.lab, "client"), Wire::of(&site.lab, "web"));
        for (from, to) in site.host("client").addresses().into_iter().zip(site.host("web").addresses()) {
            let mark = [0xbe, 0xef, 0xbe, 0xef, 0xbe, 0xef, 0xbe, 0xef];
            let [good, bad] = [53, 54].map(|port| udp(from, to, 40000, port, &[mark; 3].concat()));
            client.send(&web, &fragment(from, to, UDP, &good, 0..16, 77));
            client.send(&web, &fragment(from, to, UDP, &bad, 0..16, 77));
            client.send(&web, &fragment(from, to, UDP, &bad, 16..32, 77));
            // The kernel may take the second one for the first one again, and drop it: then port 53 gets a mixture.
            assert!(!web.hears_of(&bad[..4]), "{to}");
        }
    });
}

#[test]
fn a_tcp_header_in_two_pieces_is_judged_by_its_ports_or_dropped() {
    root_or_return!();
    in_lab(|lab| {
        let site = Site::new(lab, &[("client", 1), ("web", 1)]);
        let _node = site.enforce("node1", &web_takes());
        let (client, web) = (Wire::of(&site.lab, "client"), Wire::of(&site.lab, "web"));
        for (from, to) in site.host("client").addresses().into_iter().zip(site.host("web").addresses()) {
            for (port, expected) in [(80, true), (81, false)] {
                // From the IP header's end: the ports and the sequence number are in the first piece, the flags in the next.
                let header = crate::datapath_program::bytes(TCP, from, to, 40001, port);
                let whole = &header[if from.is_ipv4() { 20 } else { 40 }..];
                let id = 500 + port;
                client.send(&web, &fragment(from, to, TCP, whole, 0..8, id));
                client.send(&web, &fragment(from, to, TCP, whole, 8..whole.len(), id));
                // IPv6 wants all headers in the first piece (RFC 7112), and Linux with it.
                assert_eq!(web.hears_of(&whole[..8]), expected && from.is_ipv4(), "{to} {port}");
            }
        }
    });
}
