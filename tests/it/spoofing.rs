//! Real packets of a pod that says it is somebody else: on a bridge, and behind interfaces of their own.
use crate::{
    datapath_program::{bytes, icmp6},
    packets::in_lab,
    root::root_or_return,
};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, sendto, setsockopt, socket, sockopt,
};
use ringfence::{
    datapath::{Config, Datapath, Reason},
    demo::lab::{Host, Lab},
    node::{bridge, conntrack::Conntrack},
    policy::{
        change::changes,
        cluster::{Attachment, Cluster},
        compile::{Ids, compile},
        model::*,
        selector::{Requirement, Selector},
        table::Table,
    },
};
use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket},
    os::fd::AsRawFd,
    process::Command,
    time::{Duration, Instant},
};

const UDP: u8 = 17;
const PORT: u16 = 9000;
/// A pod elsewhere, the gateway, and a host outside: nobody's of this node.
const FOREIGN: [(&str, &str); 3] =
    [("10.244.2.10", "fd00:2::a"), ("10.244.1.1", "fd00:1::1"), ("192.168.77.100", "fd00:77::64")];

struct Node {
    lab: Lab,
    web: Host,
    client: Host,
    mallory: Host,
    datapath: Datapath,
    _conntrack: Conntrack,
}

impl Node {
    /// On the bridge, or each behind an interface of its own with a route to it.
    fn build(mut lab: Lab, routed: bool) -> Self {
        lab.node(1).unwrap();
        let [web, client, mallory] = ["web", "client", "mallory"].map(|name| lab.pod(1, name).unwrap());
        for (name, host) in [("web", web), ("client", client), ("mallory", mallory)] {
            if routed {
                route(name, host);
            }
        }
        let (datapath, conntrack) = lab
            .within("node1", || {
                for switch in ["all", "default"] {
                    fs::write(format!("/proc/sys/net/ipv4/conf/{switch}/rp_filter"), "0").unwrap();
                }
                bridge::call_netfilter().unwrap();
                let conntrack = Conntrack::keep().unwrap();
                let mut datapath = Datapath::open(&Config::default()).unwrap();
                datapath.attach().unwrap();
                (datapath, conntrack)
            })
            .unwrap();
        Node { lab, web, client, mallory, datapath, _conntrack: conntrack }
    }

    /// `web` takes UDP 5000 from `mallory` and nothing else; nobody else is isolated.
    fn cluster(&self, bound: bool) -> Cluster {
        let mut cluster = Cluster { here: Some("node1".into()), ..Cluster::default() };
        cluster.namespaces.insert("x".into(), Namespace::default());
        for (name, host) in [("web", self.web), ("client", self.client), ("mallory", self.mallory)] {
            let key = Key::new("x", name);
            let pod = Pod {
                labels: Labels::from_iter([("app", name)]),
                node: Some("node1".into()),
                addresses: host.addresses().into(),
                ..Pod::default()
            };
            for address in host.addresses().into_iter().filter(|_| bound) {
                let attachment = Attachment { ifindex: host.ifindex, pod: Some((key.clone(), None)) };
                cluster.attachments.insert(address, attachment);
            }
            cluster.pods.insert(key, pod);
        }
        cluster
    }

    fn isolated(&self, bound: bool) -> Cluster {
        let app = |name: &str| Selector::from_iter([Requirement::equals("app", name)]);
        let rule = Rule {
            peers: vec![Peer::Pods { namespaces: None, pods: app("mallory") }],
            ports: vec![PortMatch { protocol: Protocol::Udp, port: PortSpec::Range(5000, 5000) }],
        };
        let policy = NetworkPolicy { selector: app("web"), ingress: Some(vec![rule]), ..NetworkPolicy::default() };
        let mut cluster = self.cluster(bound);
        cluster.policies.insert(Key::new("x", "web"), policy);
        cluster
    }

    fn enforce(&mut self, cluster: &Cluster) {
        let found = self.datapath.table().unwrap();
        let table = compile(cluster, "node1", &mut Ids::default());
        let datapath = &mut self.datapath;
        let apply = || {
            datapath.apply(&changes(&found, &Table::default())).unwrap();
            datapath.apply(&changes(&Table::default(), &table)).unwrap();
        };
        self.lab.within("node1", apply).unwrap();
    }

    fn count(&self, reason: Reason) -> u64 {
        self.datapath.counters().unwrap().get(&reason.id()).map_or(0, |count| count.packets)
    }

    fn listen(&self, space: &str, port: u16) -> UdpSocket {
        let socket = self.lab.within(space, || UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap()).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        socket
    }
}

fn ip(space: &str, line: &str) {
    let status = Command::new("ip").args(["-n", space]).args(line.split(' ')).status().unwrap();
    assert!(status.success(), "ip -n {space} {line}");
}

fn route(name: &str, host: Host) {
    let veth = format!("veth{}", host.ipv4.octets()[3]);
    let Host { ipv4, ipv6, .. } = host;
    ip("node1", &format!("link set {veth} nomaster"));
    ip("node1", &format!("route add {ipv4}/32 dev {veth}"));
    ip("node1", &format!("route add {ipv6}/128 dev {veth}"));
    ip("node1", &format!("addr add fe80::1/64 dev {veth} nodad"));
    ip(name, &format!("addr del {ipv4}/24 dev eth0"));
    ip(name, &format!("addr del {ipv6}/64 dev eth0"));
    ip(name, &format!("addr add {ipv4}/32 dev eth0"));
    ip(name, &format!("addr add {ipv6}/128 dev eth0 nodad"));
    ip(name, "route add 10.244.1.1 dev eth0");
    ip(name, "route add default via 10.244.1.1");
    ip(name, "-6 route flush default");
    ip(name, "route add default via fe80::1 dev eth0");
}

/// Sends a packet that is written from its IP header on.
fn send_raw(packet: &[u8], destination: IpAddr) {
    let family = if destination.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let raw = socket(family, SockType::Raw, SockFlag::empty(), SockProtocol::Raw).unwrap();
    let to = SockaddrStorage::from(SocketAddr::new(destination, 0));
    sendto(raw.as_raw_fd(), packet, &to, MsgFlags::empty()).unwrap();
}

/// The same with the checksum that etherparse gave it, and a number as its payload's first byte.
fn numbered(source: IpAddr, destination: IpAddr, number: u8) -> Vec<u8> {
    let builder = match (source, destination) {
        (IpAddr::V4(s), IpAddr::V4(d)) => etherparse::PacketBuilder::ipv4(s.octets(), d.octets(), 63),
        (IpAddr::V6(s), IpAddr::V6(d)) => etherparse::PacketBuilder::ipv6(s.octets(), d.octets(), 63),
        _ => panic!("two families"),
    };
    let mut packet = Vec::new();
    builder.udp(40000, PORT).write(&mut packet, &[number]).unwrap();
    packet
}

/// The first bytes of what comes in until nothing has come for a while.
fn received(socket: &UdpSocket) -> BTreeSet<u8> {
    let mut numbers = BTreeSet::new();
    let mut last = Instant::now();
    while last.elapsed() < Duration::from_millis(300) {
        let mut buffer = [0; 64];
        if let Ok(1..) = socket.recv(&mut buffer) {
            numbers.insert(buffer[0]);
            last = Instant::now();
        }
    }
    numbers
}

/// Everything that `mallory` may say it is; the first two are the truth.
fn sources(node: &Node) -> Vec<IpAddr> {
    let foreign = FOREIGN.iter().flat_map(|(v4, v6)| [v4.parse().unwrap(), v6.parse().unwrap()]);
    node.mallory.addresses().into_iter().chain(node.client.addresses()).chain(foreign).collect()
}

#[test]
fn a_pod_is_itself_or_nobody_on_a_bridge_and_behind_an_interface_of_its_own() {
    root_or_return!();
    for routed in [false, true] {
        in_lab(move |lab| {
            let mut node = Node::build(lab, routed);
            let web = node.listen("web", PORT);
            let sources = sources(&node);
            // A node that routes refuses its own IPv4 address from elsewhere by itself.
            let gets_there = |source: &IpAddr| !(routed && *source == IpAddr::from([10, 244, 1, 1]));
            let numbers = (0u8..).zip(&sources).filter(|(_, source)| gets_there(source));
            let all: BTreeSet<u8> = numbers.map(|(number, _)| number).collect();
            for bound in [false, true] {
                node.enforce(&node.cluster(bound));
                let before = node.count(Reason::Spoofed);
                node.lab
                    .within("mallory", || {
                        for (number, source) in sources.iter().enumerate() {
                            let [v4, v6] = node.web.addresses();
                            let to = if source.is_ipv4() { v4 } else { v6 };
                            send_raw(&numbered(*source, to, number as u8), to);
                        }
                    })
                    .unwrap();
                let expected = if bound { BTreeSet::from([0, 1]) } else { all.clone() };
                assert_eq!(received(&web), expected, "routed {routed}, bound {bound}, of {sources:?}");
                let spoofed = node.count(Reason::Spoofed) - before;
                assert!(if bound { spoofed >= all.len() as u64 - 2 } else { spoofed == 0 }, "{spoofed}");
            }
            // Whose namespace is left out.
            let mut router = node.cluster(true);
            router.namespaces.insert(
                "x".into(),
                Namespace {
                    labels: Labels::from_iter([("ringfence.dev/anti-spoofing", "off")]),
                    ..Namespace::default()
                },
            );
            node.enforce(&router);
            let (source, to) = (node.client.ipv4.into(), node.web.ipv4.into());
            node.lab.within("mallory", || send_raw(&numbered(source, to, 77), to)).unwrap();
            assert_eq!(received(&web), BTreeSet::from([77]));
        });
    }
}

#[test]
fn an_answer_that_somebody_else_makes_up_is_dropped() {
    root_or_return!();
    for routed in [false, true] {
        in_lab(move |lab| {
            let mut node = Node::build(lab, routed);
            for bound in [false, true] {
                node.enforce(&node.isolated(bound));
                for (web, client) in node.web.addresses().into_iter().zip(node.client.addresses()) {
                    // `web` asks `client`, which does not answer; `mallory` does in its name.
                    let asking = node.lab.within("web", || UdpSocket::bind((web, 0)).unwrap()).unwrap();
                    asking.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
                    asking.send_to(b"?", (client, 7000)).unwrap();
                    let answer = bytes(UDP, client, web, 7000, asking.local_addr().unwrap().port());
                    node.lab.within("mallory", || send_raw(&answer, web)).unwrap();
                    let got = (0..3).any(|_| asking.recv(&mut [0; 64]).is_ok());
                    assert_eq!(got, !bound, "routed {routed}, bound {bound}, {client} -> {web}");
                }
            }
        });
    }
}

#[test]
fn an_isolated_pod_gets_no_broadcast_or_multicast_that_its_policies_do_not_admit() {
    root_or_return!();
    in_lab(|lab| {
        let mut node = Node::build(lab, false);
        let group = Ipv4Addr::new(239, 1, 2, 3);
        let listen = |space: &str, port| {
            let socket = node.listen(space, port);
            let own = if space == "web" { node.web.ipv4 } else { node.client.ipv4 };
            node.lab
                .within(space, || {
                    let v4 = nix::sys::socket::IpMembershipRequest::new(group, Some(own));
                    setsockopt(&socket, sockopt::IpAddMembership, &v4).unwrap();
                })
                .unwrap();
            socket
        };
        let sockets = [("web", 5000), ("web", 5001), ("client", 5000), ("client", 5001)].map(|(s, p)| listen(s, p));
        let mallory = node.mallory;
        let eth0 = node.lab.within("mallory", || nix::net::if_::if_nametoindex("eth0").unwrap()).unwrap();
        for bound in [false, true] {
            node.enforce(&node.isolated(bound));
            node.lab
                .within("mallory", || {
                    let v4 = UdpSocket::bind((mallory.ipv4, 0)).unwrap();
                    v4.set_broadcast(true).unwrap();
                    let v6 = UdpSocket::bind((mallory.ipv6, 0)).unwrap();
                    for port in [5000, 5001] {
                        v4.send_to(&[1], ("10.244.1.255", port)).unwrap();
                        v4.send_to(&[2], (group, port)).unwrap();
                        v6.send_to(&[3], SocketAddrV6::new("ff02::1".parse().unwrap(), port, 0, eth0)).unwrap();
                    }
                })
                .unwrap();
            let (all, none) = (BTreeSet::from([1, 2, 3]), BTreeSet::new());
            let expected = [&all, if bound { &none } else { &all }, &all, &all];
            for ((socket, expected), which) in
                sockets.iter().zip(expected).zip(["web 5000", "web 5001", "5000", "5001"])
            {
                assert_eq!(received(socket), *expected, "bound {bound}, {which}");
            }
        }
    });
}

/// A bridge learns where a MAC is from whoever uses it.
#[test]
fn frames_for_a_pod_do_not_leave_by_the_port_of_one_that_took_its_mac() {
    root_or_return!();
    in_lab(|lab| {
        let mut node = Node::build(lab, false);
        let shown = Command::new("ip").args(["-n", "web", "-br", "link", "show", "eth0"]).output().unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        let mac = shown.split_whitespace().find(|word| word.matches(':').count() == 5).unwrap().to_owned();
        let web = node.web;
        let client = node.lab.within("client", || UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
        let (own, stolen) = (node.listen("web", PORT), node.listen("mallory", PORT));
        node.enforce(&node.cluster(true));
        client.send_to(&[1], (web.ipv4, PORT)).unwrap();
        assert_eq!((received(&own), received(&stolen)), ([1].into(), [].into()));

        ip("mallory", &format!("link set eth0 address {mac}"));
        ip("mallory", &format!("addr add {}/32 dev eth0", web.ipv4));
        for bound in [true, false] {
            node.enforce(&node.cluster(bound));
            let (from, to) = (node.mallory.ipv4.into(), node.client.ipv4.into());
            node.lab.within("mallory", || send_raw(&numbered(from, to, 0), to)).unwrap();
            client.send_to(&[2], (web.ipv4, PORT)).unwrap();
            // What it would get otherwise.
            assert_eq!(received(&stolen), if bound { [].into() } else { [2].into() });
        }
        assert!(node.count(Reason::Astray) > 0);
    });
}

#[test]
fn a_pod_can_not_play_router() {
    root_or_return!();
    in_lab(|lab| {
        let mut node = Node::build(lab, false);
        node.enforce(&node.cluster(true));
        let advertisement = icmp6("fe80::77", "ff02::1", 255, 134, 0, &[64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0]);
        let before = node.count(Reason::Redirect);
        let eth0 = node.lab.within("mallory", || nix::net::if_::if_nametoindex("eth0").unwrap()).unwrap();
        node.lab
            .within("mallory", || {
                let raw = socket(AddressFamily::Inet6, SockType::Raw, SockFlag::empty(), SockProtocol::Raw).unwrap();
                let to = SockaddrStorage::from(SocketAddrV6::new("ff02::1".parse().unwrap(), 0, 0, eth0));
                sendto(raw.as_raw_fd(), &advertisement, &to, MsgFlags::empty()).unwrap();
            })
            .unwrap();
        // One for each other port.
        assert!(node.count(Reason::Redirect) - before >= 2);
    });
}
