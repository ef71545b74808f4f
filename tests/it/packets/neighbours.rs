//! What a link needs to work at all: between pods that nobody may reach, and not for anybody who only says so.

use super::{
    in_lab,
    site::{Site, peer, policy},
    wire::{ICMP, ICMPV6, Wire, icmp, ip_with},
};
use crate::{agent::connects, agent::listen, root::root_or_return};
use ringfence::datapath::Reason;
use std::net::{IpAddr, Ipv6Addr};

/// Both are isolated, but `web` takes 80/TCP from `client`.
fn fenced() -> String {
    let egress = format!("egress: [{{to: [{}], ports: [{{port: 80}}]}}]", peer("web"));
    let ingress = format!("ingress: [{{from: [{}], ports: [{{port: 80}}]}}]", peer("client"));
    policy("client", &format!("policyTypes: [Ingress, Egress], {egress}"))
        + &policy("web", &format!("policyTypes: [Ingress, Egress], {ingress}"))
}

/// The MAC address of an IPv6 multicast group.
fn group_mac(group: Ipv6Addr) -> [u8; 6] {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

#[test]
fn isolated_pods_find_each_other_on_the_bridge() {
    root_or_return!();
    in_lab(|lab| {
        let site = Site::new(lab, &[("client", 1), ("web", 1)]);
        let node = site.enforce("node1", &fenced());
        let _listeners = [80, 81].map(|port| listen(&site.lab, "web", port));
        for pod in ["client", "web"] {
            site.run(pod, &["ip", "neigh", "flush", "dev", "eth0"], "");
        }
        let before = node.packets(Reason::Neighbour);
        for address in site.host("web").addresses() {
            assert!(connects(&site.lab, "client", (address, 80)), "{address}");
            assert!(!connects(&site.lab, "client", (address, 81)), "{address}");
        }
        assert!(node.packets(Reason::Neighbour) >= before + 2, "a question and its answer");
    });
}

#[test]
fn reports_of_multicast_listeners_pass_and_what_only_looks_like_one_does_not() {
    root_or_return!();
    in_lab(|lab| {
        let site = Site::new(lab, &[("client", 1), ("web", 1)]);
        // A bridge that snoops keeps reports for routers.
        site.run("node1", &["ip", "link", "set", "cni0", "type", "bridge", "mcast_snooping", "0"], "");
        let _node = site.enforce("node1", &fenced());
        let (client, web) = (Wire::of(&site.lab, "client"), Wire::of(&site.lab, "web"));
        let from = site.host("client").ipv6.into();
        let to: Ipv6Addr = "ff02::16".parse().unwrap();
        // Changes of one group, ff05::7, without sources; behind the router alert that every report has.
        let group: Ipv6Addr = "ff05::7".parse().unwrap();
        let report = icmp(from, to.into(), [143, 0], [0, 0, 0, 1], &[&[4, 0, 0, 0][..], &group.octets()].concat());
        let alert = [&[ICMPV6, 0, 5, 2, 0, 0, 1, 0][..], &report].concat();
        for (hops, expected) in [(1, true), (64, false)] {
            client.send_to(group_mac(to), &ip_with(hops, 0, from, to.into(), &alert));
            assert_eq!(web.hears_of(&group.octets()), expected, "hop limit {hops}");
        }
    });
}

#[test]
fn a_neighbour_is_believed_only_with_a_hop_limit_that_no_router_could_have_lowered() {
    root_or_return!();
    in_lab(|lab| {
        let site = Site::new(lab, &[("client", 1), ("web", 1)]);
        let _node = site.enforce("node1", &fenced());
        let (client, web) = (Wire::of(&site.lab, "client"), Wire::of(&site.lab, "web"));
        let (from, to) = (site.host("client").ipv6.into(), site.host("web").ipv6);
        // Who has web's address? With a link layer address that nobody has, as the mark.
        for (hops, expected) in [(255, true), (64, false)] {
            let mark = [1, 1, 2, 0, 0x5e, hops, 7, 7];
            let question = icmp(from, to.into(), [135, 0], [0; 4], &[&to.octets()[..], &mark].concat());
            client.send(&web, &ip_with(hops, ICMPV6, from, to.into(), &question));
            assert_eq!(web.hears_of(&mark), expected, "hop limit {hops}");
        }
    });
}

#[test]
fn a_pod_is_no_router() {
    root_or_return!();
    in_lab(|lab| {
        let site = Site::new(lab, &[("client", 1), ("web", 1)]);
        // Nobody is isolated.
        let node = site.enforce("node1", "");
        let (client, web) = (Wire::of(&site.lab, "client"), Wire::of(&site.lab, "web"));
        let before = node.packets(Reason::Redirect);
        let host = site.host("client");
        let (four, six): (IpAddr, IpAddr) = (host.ipv4.into(), host.ipv6.into());
        let [to_four, to_six] = site.host("web").addresses();
        let mark = b"this way, please";
        let all: Ipv6Addr = "ff02::1".parse().unwrap();
        let advertisement = icmp(six, all.into(), [134, 0], [64, 0, 7, 8], &[&[0; 8][..], mark].concat());
        client.send_to(group_mac(all), &ip_with(255, ICMPV6, six, all.into(), &advertisement));
        let redirect = icmp(six, to_six, [137, 0], [0; 4], &[&[0; 32][..], mark].concat());
        client.send(&web, &ip_with(255, ICMPV6, six, to_six, &redirect));
        let redirect = icmp(four, to_four, [5, 1], [10, 244, 1, 10], &[&[0x45; 28][..], mark].concat());
        client.send(&web, &ip_with(64, ICMP, four, to_four, &redirect));
        assert!(!web.hears_of(mark));
        assert!(node.packets(Reason::Redirect) >= before + 3);
        // The cable works, and the mark would be heard.
        let echo = icmp(four, to_four, [8, 0], [0, 1, 0, 1], mark);
        client.send(&web, &ip_with(64, ICMP, four, to_four, &echo));
        assert!(web.hears_of(mark));
    });
}
