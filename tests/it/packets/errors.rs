//! ICMP errors: those about a connection that is admitted come through, and nobody opens a door with one that is made up.

use super::{
    UDP, in_lab,
    site::{Site, peer, policy},
    wire::{ICMP, ICMPV6, Wire, icmp, ip, udp},
};
use crate::root::root_or_return;
use nix::sys::socket::{getsockopt, sockopt};
use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

/// `jail` may ask `client` on UDP, and nobody may ask `jail`.
fn jail() -> String {
    let egress = format!("egress: [{{to: [{}], ports: [{{protocol: UDP}}]}}]", peer("client"));
    policy("jail", &format!("policyTypes: [Ingress, Egress], {egress}"))
}

fn unspecified(of: IpAddr) -> IpAddr {
    if of.is_ipv4() { "0.0.0.0".parse().unwrap() } else { "::".parse().unwrap() }
}

#[test]
fn a_port_that_is_closed_is_told_to_an_isolated_pod() {
    root_or_return!();
    in_lab(|lab| {
        let site = Site::new(lab, &[("client", 1), ("jail", 1)]);
        let _node = site.enforce("node1", &jail());
        for address in site.host("client").addresses() {
            let told = site.lab.within("jail", || {
                let socket = UdpSocket::bind((unspecified(address), 0)).unwrap();
                socket.connect((address, 5000)).unwrap();
                socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
                socket.send(b"anybody there?").unwrap();
                socket.recv(&mut [0; 16]).unwrap_err().kind()
            });
            assert_eq!(told.unwrap(), ErrorKind::ConnectionRefused, "{address}");
        }
    });
}

#[test]
fn an_error_about_a_connection_that_there_is_not_or_that_is_not_admitted_is_dropped() {
    root_or_return!();
    in_lab(|lab| {
        let site = Site::new(lab, &[("client", 1), ("jail", 1)]);
        let mut node = site.enforce("node1", &jail());
        let (client, wire) = (Wire::of(&site.lab, "client"), Wire::of(&site.lab, "jail"));
        let pairs = || site.host("jail").addresses().into_iter().zip(site.host("client").addresses());
        // An error that `client` sends about a packet of `jail`'s, with a mark in what it quotes.
        let error = |jail: IpAddr, asked: IpAddr, port: u16, mark: &[u8]| {
            let quoted = ip(UDP, jail, asked, &udp(jail, asked, port, 5000, mark));
            let (protocol, kind) = if jail.is_ipv4() { (ICMP, [3, 3]) } else { (ICMPV6, [1, 4]) };
            client.send(&wire, &ip(protocol, asked, jail, &icmp(asked, jail, kind, [0; 4], &quoted)));
        };
        let mut open = Vec::new();
        for (jail, asked) in pairs() {
            error(jail, asked, 1234, b"made up out of nothing");
            assert!(!wire.hears_of(b"made up out of nothing"), "{jail}");
            let (socket, port) = site
                .lab
                .within("jail", || {
                    let socket = UdpSocket::bind((jail, 0)).unwrap();
                    socket.send_to(b"a real one", (asked, 5000)).unwrap();
                    let port = socket.local_addr().unwrap().port();
                    (socket, port)
                })
                .unwrap();
            thread::sleep(Duration::from_millis(50));
            error(jail, asked, port, b"about a real one");
            assert!(wire.hears_of(b"about a real one"), "{jail}");
            open.push((socket, port));
        }
        // The connection is in conntrack still, and nobody admits it any more.
        node.change(&site.cluster(&policy("jail", "policyTypes: [Ingress, Egress]")));
        for ((jail, asked), (_socket, port)) in pairs().zip(&open) {
            error(jail, asked, *port, b"about one that was");
            assert!(!wire.hears_of(b"about one that was"), "{jail}");
        }
    });
}

#[test]
fn an_isolated_pod_finds_out_how_long_packets_may_be() {
    root_or_return!();
    const MTU: u16 = 1300;
    const LENGTH: usize = 400_000;
    in_lab(|lab| {
        let mut site = Site::new(lab, &[("web", 1)]);
        site.lab.outside().unwrap();
        let beyond = site.lab.beyond(MTU).unwrap();
        let listeners = beyond
            .addresses()
            .map(|address| site.lab.within("beyond", || TcpListener::bind((address, 80)).unwrap()).unwrap());
        let [four, six] = beyond.addresses();
        let to = format!("to: [{{ipBlock: {{cidr: {four}/32}}}}, {{ipBlock: {{cidr: '{six}/128'}}}}]");
        let egress = format!("policyTypes: [Ingress, Egress], egress: [{{{to}, ports: [{{port: 80}}]}}]");
        let _node = site.enforce("node1", &policy("web", &egress));
        for (listener, address) in listeners.into_iter().zip(beyond.addresses()) {
            let received = thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut all = Vec::new();
                stream.read_to_end(&mut all).unwrap();
                all.len()
            });
            let longest = site
                .lab
                .within("web", || {
                    let to = SocketAddr::new(address, 80);
                    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(1)).unwrap();
                    stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
                    stream.write_all(&vec![7; LENGTH]).unwrap();
                    getsockopt(&stream, sockopt::TcpMaxSeg).unwrap()
                })
                .unwrap();
            assert_eq!(received.join().unwrap(), LENGTH, "{address}");
            assert!(longest < u32::from(MTU), "{address}: segments of {longest} bytes");
        }
    });
}
