//! Services as kube-proxy makes them, by iptables and by nftables: policies are about the pods behind them.

use super::{
    Server, TCP, in_lab, reaches,
    site::{Site, peer, policy},
};
use crate::root::root_or_return;
use std::{fmt::Write, net::IpAddr};

/// A Service in front of one pod.
struct Service {
    name: &'static str,
    address: [&'static str; 2],
    /// Port of every node, and whether the client's address is hidden on the way.
    node_ports: &'static [(u16, bool)],
    pod: &'static str,
    /// On the pod; the Service has 80.
    port: u16,
}

/// `web`, and `client` under a port that has another number there.
const SERVICES: [Service; 2] = [
    Service {
        name: "web",
        address: ["10.96.0.10", "fd00:96::10"],
        node_ports: &[(30080, true), (30081, false)],
        pod: "web",
        port: 80,
    },
    Service { name: "client", address: ["10.96.0.11", "fd00:96::11"], node_ports: &[], pod: "client", port: 81 },
];

const PODS: [&str; 2] = ["10.244.0.0/16", "fd00::/30"];

/// Input for `iptables-restore` and `ip6tables-restore`: the chains that kube-proxy makes.
fn iptables(site: &Site, family: usize) -> String {
    let mut rules = "*nat\n:KUBE-SERVICES -\n:KUBE-NODEPORTS -\n:KUBE-POSTROUTING -\n:KUBE-MARK-MASQ -\n".to_owned();
    let mut body = "-A PREROUTING -j KUBE-SERVICES\n-A OUTPUT -j KUBE-SERVICES\n-A POSTROUTING -j KUBE-POSTROUTING\n\
                    -A KUBE-MARK-MASQ -j MARK --or-mark 0x4000\n\
                    -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN\n\
                    -A KUBE-POSTROUTING -j MARK --xor-mark 0x4000\n\
                    -A KUBE-POSTROUTING -j MASQUERADE --random-fully\n"
        .to_owned();
    for Service { name, address, node_ports, pod, port } in SERVICES {
        let (address, pods) = (address[family], PODS[family]);
        let pod = site.host(pod).addresses()[family];
        let to = std::net::SocketAddr::new(pod, port);
        let _ = write!(rules, ":KUBE-SVC-{name} -\n:KUBE-SEP-{name} -\n");
        let _ = write!(
            body,
            "-A KUBE-SERVICES -d {address} -p tcp --dport 80 -j KUBE-SVC-{name}\n\
             -A KUBE-SVC-{name} ! -s {pods} -d {address} -p tcp --dport 80 -j KUBE-MARK-MASQ\n\
             -A KUBE-SVC-{name} -j KUBE-SEP-{name}\n\
             -A KUBE-SEP-{name} -s {pod} -j KUBE-MARK-MASQ\n\
             -A KUBE-SEP-{name} -p tcp -m tcp -j DNAT --to-destination {to}\n"
        );
        for (node_port, hides) in node_ports {
            if *hides {
                let _ = writeln!(body, "-A KUBE-NODEPORTS -p tcp --dport {node_port} -j KUBE-MARK-MASQ");
            }
            let _ = writeln!(body, "-A KUBE-NODEPORTS -p tcp --dport {node_port} -j KUBE-SEP-{name}");
        }
    }
    rules + &body + "-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\nCOMMIT\n"
}

/// Input for `nft -f`: the table that kube-proxy makes, its verdict maps included.
fn nftables(site: &Site, family: usize) -> String {
    let (ip, kind) = [("ip", "ipv4_addr"), ("ip6", "ipv6_addr")][family];
    let (mut addresses, mut ports, mut chains) = (String::new(), String::new(), String::new());
    for Service { name, address, node_ports, pod, port } in SERVICES {
        let (address, pods) = (address[family], PODS[family]);
        let pod = site.host(pod).addresses()[family];
        let to = std::net::SocketAddr::new(pod, port);
        let _ = write!(addresses, "{address} . tcp . 80 : goto service-{name},");
        let _ = write!(
            chains,
            "chain endpoint-{name} {{ {ip} saddr {pod} jump mark-for-masquerade; meta l4proto tcp dnat to {to}; }}\n\
             chain service-{name} {{ {ip} daddr {address} {ip} saddr != {pods} jump mark-for-masquerade; goto \
             endpoint-{name}; }}\n\
             chain external-{name} {{ jump mark-for-masquerade; goto endpoint-{name}; }}\n"
        );
        for (node_port, hides) in node_ports {
            let chain = if *hides { "external" } else { "endpoint" };
            let _ = write!(ports, "tcp . {node_port} : goto {chain}-{name},");
        }
    }
    format!(
        "table {ip} kube-proxy {{\n\
         chain mark-for-masquerade {{ meta mark set meta mark or 0x4000; }}\n{chains}\
         map service-ips {{ type {kind} . inet_proto . inet_service : verdict; elements = {{ {addresses} }}; }}\n\
         map service-nodeports {{ type inet_proto . inet_service : verdict; elements = {{ {ports} }}; }}\n\
         chain services {{\n\
         {ip} daddr . meta l4proto . th dport vmap @service-ips\n\
         fib daddr type local meta l4proto . th dport vmap @service-nodeports\n}}\n\
         chain nat-prerouting {{ type nat hook prerouting priority dstnat; jump services; }}\n\
         chain nat-output {{ type nat hook output priority -100; jump services; }}\n\
         chain nat-postrouting {{\n type nat hook postrouting priority srcnat\n\
         meta mark & 0x4000 != 0 meta mark set meta mark xor 0x4000 masquerade fully-random\n}}\n}}\n"
    )
}

fn check(restore: fn(&Site, &str)) {
    in_lab(|lab| {
        let mut site = Site::new(lab, &[("client", 1), ("web", 1), ("jail", 1), ("stranger", 1), ("far", 2)]);
        let outside = site.lab.outside().unwrap();
        let _servers = ["web", "client"].map(|space| Server::start(&site.lab, space));
        ["node1", "node2"].iter().for_each(|node| restore(&site, node));
        for family in ["inet", "inet6"] {
            let services = if family == "inet" { "10.96.0.0/16" } else { "fd00:96::/64" };
            let via = if family == "inet" { "192.168.77.1" } else { "fd00:77::1" };
            site.run("outside", &["ip", "-f", family, "route", "add", services, "via", via], "");
            // A node sends to a Service only if there is a way: nodes have a default route.
            let gateway = if family == "inet" { "192.168.77.100" } else { "fd00:77::64" };
            site.run("node1", &["ip", "-f", family, "route", "add", "default", "via", gateway], "");
        }
        let peers = [peer("client"), peer("far")].join(", ");
        let block = |address: IpAddr, bits: u8| format!("{{ipBlock: {{cidr: '{address}/{bits}'}}}}");
        let blocks = [block(outside.ipv4.into(), 32), block(outside.ipv6.into(), 128)].join(", ");
        let web = |from: &str| policy("web", &format!("ingress: [{{from: [{from}], ports: [{{port: 80}}]}}]"));
        // The Service of `client` says 80, and the pod has 81: it is the pod's that counts.
        let out = format!(
            "egress: [{{to: [{}], ports: [{{port: 80}}]}}, {{to: [{}], ports: [{{port: 80}}]}}]",
            peer("web"),
            peer("client")
        );
        let jail = policy("jail", &format!("policyTypes: [Ingress, Egress], {out}"));
        let in_both = format!("{peers}, {}, {blocks}", peer("jail"));

        let services = |service: usize| SERVICES[service].address.map(|a| a.parse::<IpAddr>().unwrap());
        let nodes =
            |node: u8| [format!("192.168.77.{node}"), format!("fd00:77::{node}")].map(|a| a.parse::<IpAddr>().unwrap());
        let expect = |from: &str, to: [IpAddr; 2], port: u16, expected: bool| {
            for to in to {
                assert_eq!(reaches(&site.lab, from, to, TCP, port), expected, "{from} -> {to} {port}");
            }
        };
        // Everything works first.
        for (from, to, port) in [
            ("client", services(0), 80),
            ("far", services(0), 80),
            ("web", services(0), 80),
            ("jail", services(1), 80),
            ("outside", services(0), 80),
            ("outside", nodes(1), 30080),
            ("outside", nodes(1), 30081),
            ("outside", nodes(2), 30080),
            ("node1", services(0), 80),
        ] {
            expect(from, to, port, true);
        }

        let mut one = site.enforce("node1", &(web(&in_both) + &jail));
        let _two = site.enforce("node2", &(web(&in_both) + &jail));
        expect("client", services(0), 80, true);
        expect("far", services(0), 80, true);
        expect("stranger", services(0), 80, false);
        // A pod meets itself behind its Service.
        expect("web", services(0), 80, true);
        expect("jail", services(0), 80, true);
        expect("jail", services(1), 80, false);
        // From outside: by who it is, with the address that it hides behind put on only afterwards.
        for (to, port) in [(services(0), 80), (nodes(1), 30080), (nodes(1), 30081)] {
            expect("outside", to, port, true);
        }
        // Another node hides it before it comes here, and that node is in no block.
        one.drops();
        expect("outside", nodes(2), 30080, false);
        let hidden: Vec<IpAddr> = one.drops().into_iter().map(|(event, _)| event.source).collect();
        let tunnels: [IpAddr; 2] = ["10.244.2.0".parse().unwrap(), "fd00:2::".parse().unwrap()];
        assert!(tunnels.iter().all(|tunnel| hidden.contains(tunnel)), "{hidden:?}");
        // The node itself is no policy's business.
        expect("node1", services(0), 80, true);

        one.change(&site.cluster(&(web(&peers) + &jail)));
        for (to, port) in [(services(0), 80), (nodes(1), 30080), (nodes(1), 30081)] {
            expect("outside", to, port, false);
        }
        expect("jail", services(0), 80, false);
        expect("client", services(0), 80, true);
        expect("far", services(0), 80, true);
    });
}

#[test]
fn services_of_iptables_are_seen_through() {
    root_or_return!();
    check(|site, node| {
        site.run(node, &["iptables-nft-restore"], &iptables(site, 0));
        site.run(node, &["ip6tables-nft-restore"], &iptables(site, 1));
    });
}

#[test]
fn services_of_legacy_iptables_are_seen_through() {
    root_or_return!();
    check(|site, node| {
        site.run(node, &["iptables-legacy-restore"], &iptables(site, 0));
        site.run(node, &["ip6tables-legacy-restore"], &iptables(site, 1));
    });
}

#[test]
fn services_of_nftables_are_seen_through() {
    root_or_return!();
    check(|site, node| site.run(node, &["nft", "-f", "-"], &(nftables(site, 0) + &nftables(site, 1))));
}
