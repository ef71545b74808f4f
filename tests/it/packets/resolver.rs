//! DNS out of a namespace that is denied everything: to the resolver wherever it is, and to nobody else.

use super::{
    Server, TCP, UDP, echoes, in_lab, reaches,
    site::{Enforced, Site},
};
use crate::root::root_or_return;
use ringfence::{
    demo::lab::Lab,
    policy::{
        baseline,
        cluster::Event,
        model::{Labels, Namespace},
    },
};
use std::{
    fmt::Write,
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

const NODES: [&str; 2] = ["192.168.77.1", "192.168.77.2"];

/// The first node denies everything but DNS; an EndpointSlice of kube-dns for each of these addresses and ports.
fn change(site: &Site, node: &mut Enforced, slices: &[(IpAddr, u16)]) {
    let mut text = String::new();
    for (number, (address, port)) in slices.iter().enumerate() {
        let _ = write!(
            text,
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: s{number}, namespace: kube-system, \
             labels: {{kubernetes.io/service-name: kube-dns}}}}\nendpoints: [{{addresses: ['{address}']}}]\n\
             ports: [{{port: {port}, protocol: UDP}}, {{port: {port}, protocol: TCP}}]\n"
        );
    }
    let mut cluster = site.cluster(&text);
    let labels = Labels::from_iter([(baseline::LABEL, "deny-all")]);
    cluster.apply(Event::Namespace("shop".into(), Some(Namespace { labels, ..Namespace::default() })));
    node.change(&cluster);
}

fn site(lab: Lab) -> (Site, Vec<Server>) {
    let site = Site::new(lab, &[("client", 1), ("far", 2)]);
    let servers = ["node1", "node2", "far"].map(|space| Server::start(&site.lab, space));
    (site, servers.into())
}

#[test]
fn a_fenced_pod_reaches_a_resolver_on_its_own_node_without_any_rule() {
    root_or_return!();
    in_lab(|lab| {
        let (site, _servers) = site(lab);
        let mut node = site.enforce("node1", "");
        change(&site, &mut node, &[]);
        for own in [NODES[0], "10.244.1.1", "fd00:1::1"] {
            assert!(reaches(&site.lab, "client", own.parse().unwrap(), UDP, 53), "{own}");
        }
        assert!(!reaches(&site.lab, "client", NODES[1].parse().unwrap(), UDP, 53));
    });
}

#[test]
fn a_fenced_pod_reaches_where_the_slices_of_the_resolver_lead_and_nothing_beside() {
    root_or_return!();
    in_lab(|lab| {
        let (site, _servers) = site(lab);
        let (host, pod) = (NODES[1].parse().unwrap(), site.host("far").ipv6.into());
        let reached = || {
            [(host, TCP, 80), (host, TCP, 81), (pod, UDP, 54), (pod, UDP, 53), (pod, TCP, 80)]
                .map(|(address, protocol, port)| reaches(&site.lab, "client", address, protocol, port))
        };
        let mut node = site.enforce("node1", "");
        assert_eq!(reached(), [true; 5], "what is missing below was not missing before");
        change(&site, &mut node, &[]);
        assert_eq!(reached(), [false; 5]);
        // On the network of its node (by TCP, as the echo there answers UDP from another address than it was asked at); and with other labels, on another port.
        change(&site, &mut node, &[(host, 80), (pod, 54)]);
        assert_eq!(reached(), [true, false, true, false, false]);
        change(&site, &mut node, &[(host, 80)]);
        assert_eq!(reached(), [true, false, false, false, false]);
    });
}

#[test]
fn a_slice_that_goes_cuts_connections_that_run() {
    root_or_return!();
    in_lab(|lab| {
        let (site, _servers) = site(lab);
        let mut node = site.enforce("node1", "");
        let far = IpAddr::from(site.host("far").ipv4);
        change(&site, &mut node, &[(far, 80)]);
        let to = SocketAddr::new(far, 80);
        let connect = || TcpStream::connect_timeout(&to, Duration::from_secs(1)).unwrap();
        let mut stream = site.lab.within("client", connect).unwrap();
        assert!(echoes(&mut stream));
        change(&site, &mut node, &[]);
        assert!(!echoes(&mut stream));
    });
}
