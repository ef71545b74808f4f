//! What is routed onto a bridge, and what the node itself sends, leaves by the port of the pod that it is for: whatever other
//! pods make the node and the bridge believe.
//!
//! Without a binding the same tricks work; each test sees that first.

use super::{
    UDP, in_lab, pins,
    site::{Enforced, Site, policy},
    wire::{ICMPV6, Wire, icmp, ip, ip_with, udp},
};
use crate::{
    agent::{Agent, one_node},
    root::root_or_return,
};
use libbpf_rs::Link;
use ringfence::{
    datapath::{Config, Datapath, Error, Reason, Sizes},
    demo::lab::{Host, Lab},
    policy::{
        change::changes,
        cluster::{Attachment, Event},
        model::Key,
        table::{Meaning, Table},
    },
};
use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

const ARP: [u8; 2] = [0x08, 0x06];
/// For experiments of one's own.
const NOTHING: [u8; 2] = [0x88, 0xb5];
const VLAN: [u8; 2] = [0x81, 0x00];
const EVERYBODY: [u8; 6] = [0xff; 6];

/// `web` and `mallory` on one node, `far` on another one, and who listens.
struct Street {
    site: Site,
    node: Enforced,
    web: Wire,
    mallory: Wire,
    far: Wire,
    bridges: [Wire; 2],
}

impl Street {
    fn build(lab: Lab) -> Self {
        let site = Site::new(lab, &[("web", 1), ("mallory", 1), ("far", 2)]);
        let node = site.enforce("node1", "");
        let [web, mallory, far] = ["web", "mallory", "far"].map(|space| Wire::of(&site.lab, space));
        let bridges = ["node1", "node2"].map(|space| Wire::of(&site.lab, space));
        // Who says something new is believed at once, whoever they are.
        let at_once = || {
            fs::write("/proc/sys/net/ipv4/neigh/cni0/locktime", "0").unwrap();
            for interface in ["all", "cni0"] {
                fs::write(format!("/proc/sys/net/ipv4/conf/{interface}/rp_filter"), "0").unwrap();
            }
        };
        site.lab.within("node1", at_once).unwrap();
        Street { site, node, web, mallory, far, bridges }
    }

    /// These of the two pods are bound to their interfaces.
    fn bind(&mut self, pods: &[&str]) {
        let of = |name: &str| {
            let Host { ifindex, .. } = self.site.host(name);
            let pod = Some((Key::new("shop", name), None));
            let attachment = pods.contains(&name).then_some(Attachment { ifindex, pod });
            self.site.host(name).addresses().map(|address| Event::Attachment(address, attachment.clone()))
        };
        let events: Vec<_> = ["web", "mallory"].into_iter().flat_map(of).collect();
        self.tell(events);
    }

    fn tell(&mut self, events: Vec<Event>) {
        let node = &mut self.node;
        self.site.lab.within("node1", || node.tell(events)).unwrap();
    }

    /// Sends to an address from the pod `far`, or from the node.
    fn send(&self, from: &str, to: IpAddr, mark: &[u8]) {
        if from == "far" {
            let [v4, v6] = self.site.host("far").addresses();
            let source = if to.is_ipv4() { v4 } else { v6 };
            return self.far.send(&self.bridges[1], &ip(UDP, source, to, &udp(source, to, 40000, 9, mark)));
        }
        send_to(&self.site.lab, from, to, mark);
    }

    /// Whether `web` and whether `mallory` hear what is sent to `web`.
    fn heard(&self, from: &str, to: IpAddr, turn: &str) -> [bool; 2] {
        let mark = format!("{from} says to {to} {turn}");
        self.send(from, to, mark.as_bytes());
        [self.web.hears_of(mark.as_bytes()), self.mallory.hears_of(mark.as_bytes())]
    }

    /// Nobody remembers anything, and `web` speaks.
    fn begin_anew(&self) {
        self.site.run("node1", &["ip", "neigh", "flush", "dev", "cni0"], "");
        self.web.send_as(self.web.mac, EVERYBODY, NOTHING, b"it is me");
        for to in self.site.host("web").addresses() {
            self.send("node1", to, b"where are you?");
        }
        thread::sleep(Duration::from_millis(20));
    }

    fn mallory_veth(&self) -> String {
        format!("veth{}", self.site.host("mallory").ipv4.octets()[3])
    }
}

/// Frames for a pod go to this port for good, whoever speaks.
fn nail(lab: &Lab, pod: Host, wire: &Wire, veth: &str) {
    let mac = wire.mac.map(|byte| format!("{byte:02x}")).join(":");
    let neighbour = format!("ip neigh replace {} lladdr {mac} dev cni0 nud permanent", pod.ipv4);
    let port = format!("bridge fdb replace {mac} dev {veth} master static sticky");
    for line in [neighbour, port] {
        let (program, words) = line.split_once(' ').unwrap();
        let run = || Command::new(program).args(words.split(' ')).status().unwrap();
        assert!(lab.within("node1", run).unwrap().success(), "{line}");
    }
}

fn send_to(lab: &Lab, from: &str, to: IpAddr, mark: &[u8]) {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let send = || {
        let socket = UdpSocket::bind((any, 0)).unwrap();
        socket.set_broadcast(true).unwrap();
        socket.send_to(mark, (to, 9)).unwrap()
    };
    lab.within(from, send).unwrap();
}

/// The interfaces at which a node has the program pinned.
fn ports(node: &str) -> Vec<u32> {
    ports_in(&pins(node))
}

fn ports_in(dir: &Path) -> Vec<u32> {
    let Ok(links) = fs::read_dir(dir.join("links")) else { return Vec::new() };
    let names: Vec<_> = links.map(|link| link.unwrap().file_name().into_string().unwrap()).collect();
    let [enters, leaves] = ["enters-", "leaves-"].map(|side| {
        let of = |name: &String| name.strip_prefix(side)?.parse::<u32>().ok();
        names.iter().filter_map(of).collect::<BTreeSet<_>>()
    });
    assert_eq!(enters, leaves, "both sides or none");
    leaves.into_iter().collect()
}

/// What `mallory` does to get what is for `web`.
type Trick = fn(&Street);

fn answers_arp(street: &Street) {
    let (web, node) = (street.site.host("web").ipv4.octets(), [10, 244, 1, 1]);
    let bridge = street.bridges[0].mac;
    let answer = [&[0, 1, 8, 0, 6, 4, 0, 2][..], &street.mallory.mac, &web, &bridge, &node].concat();
    street.mallory.send_as(street.mallory.mac, bridge, ARP, &answer);
}

fn answers_solicitations(street: &Street) {
    let (from, node): (IpAddr, IpAddr) = (street.site.host("mallory").ipv6.into(), "fd00:1::1".parse().unwrap());
    // Asked for, and instead of what was said before; by this MAC address.
    let body = [&street.site.host("web").ipv6.octets()[..], &[2, 1], &street.mallory.mac].concat();
    let advertisement = icmp(from, node, [136, 0], [0x60, 0, 0, 0], &body);
    street.mallory.send(&street.bridges[0], &ip_with(255, ICMPV6, from, node, &advertisement));
}

fn takes_the_mac(street: &Street) {
    street.mallory.send_as(street.web.mac, EVERYBODY, NOTHING, b"it is me");
}

#[test]
fn a_pod_draws_nothing_to_itself_that_is_for_another_one() {
    root_or_return!();
    in_lab(|lab| {
        let mut street = Street::build(lab);
        let [web4, web6] = street.site.host("web").addresses();
        let tricks: [(&str, Trick, &[IpAddr]); 3] = [
            ("answers ARP", answers_arp, &[web4]),
            ("answers neighbour solicitations", answers_solicitations, &[web6]),
            ("takes the MAC address", takes_the_mac, &[web4, web6]),
        ];
        for bound in [false, true] {
            street.bind(if bound { &["web", "mallory"] } else { &[] });
            for (what, trick, targets) in tricks {
                for (from, to) in
                    ["far", "node1"].into_iter().flat_map(|from| targets.iter().map(move |to| (from, *to)))
                {
                    street.begin_anew();
                    assert_eq!(street.heard(from, to, "before"), [true, false], "{from} -> {to}, bound {bound}");
                    let before = street.node.packets(Reason::Astray);
                    street.node.drops();
                    trick(&street);
                    thread::sleep(Duration::from_millis(20));
                    let heard = street.heard(from, to, "after it");
                    assert_eq!(heard, [false, !bound], "{what}: {from} -> {to}, bound {bound}");
                    let astray = street.node.packets(Reason::Astray) - before;
                    assert_eq!(astray > 0, bound, "{what}: {from} -> {to}: {astray}");
                    let own = |address: &IpAddr| address.is_ipv4() == to.is_ipv4();
                    let source = street.site.host("far").addresses().into_iter().find(own).filter(|_| from == "far");
                    let told = street.node.drops().into_iter().any(|(event, _)| {
                        let ends = (event.destination, event.destination_port) == (to, 9);
                        event.reason == Reason::Astray && ends && source.is_none_or(|source| event.source == source)
                    });
                    assert_eq!(told, bound, "{what}: {from} -> {to}");
                }
            }
        }
        street.begin_anew();
        assert_eq!(street.heard("far", web4, "in the end"), [true, false]);
        assert_eq!(street.heard("far", web6, "in the end"), [true, false]);
    });
}

#[test]
fn what_a_bridge_floods_leaves_by_one_port_and_what_is_for_everybody_by_all() {
    root_or_return!();
    in_lab(|lab| {
        let mut street = Street::build(lab);
        for bound in [false, true] {
            street.bind(if bound { &["web", "mallory"] } else { &[] });
            street.begin_anew();
            // The bridge knows nobody's port.
            let veth = format!("veth{}", street.site.host("web").ipv4.octets()[3]);
            let forget = ["ip", "link", "set", &veth, "type", "bridge_slave", "learning", "off", "fdb_flush"];
            street.site.run("node1", &forget, "");
            for to in street.site.host("web").addresses() {
                for from in ["far", "node1"] {
                    assert_eq!(street.heard(from, to, "flooded"), [true, !bound], "{from} -> {to}, bound {bound}");
                }
            }
            let everybody = Ipv4Addr::new(10, 244, 1, 255).into();
            assert_eq!(street.heard("node1", everybody, "broadcast"), [true, true], "bound {bound}");
            let question = icmp(
                "fd00:1::1".parse().unwrap(),
                "ff02::1".parse().unwrap(),
                [128, 0],
                [0; 4],
                format!("everybody, bound {bound}").as_bytes(),
            );
            let packet = ip(ICMPV6, "fd00:1::1".parse().unwrap(), "ff02::1".parse().unwrap(), &question);
            street.bridges[0].send_to([0x33, 0x33, 0, 0, 0, 1], &packet);
            let heard = [&street.web, &street.mallory].map(|wire| wire.hears_of(b"everybody, bound"));
            assert_eq!(heard, [true, true], "bound {bound}");
        }
    });
}

#[test]
fn what_says_that_it_is_ip_and_can_not_be_read_leaves_by_no_port() {
    root_or_return!();
    in_lab(|lab| {
        let mut street = Street::build(lab);
        for bound in [false, true] {
            street.bind(if bound { &["web"] } else { &[] });
            for (kind, content) in [([0x08, 0x00], &b"\x45short"[..]), ([0x86, 0xdd], b"\x60shorter than a header")] {
                let before = street.node.packets(Reason::Malformed);
                street.bridges[0].send_as(street.bridges[0].mac, street.web.mac, kind, content);
                assert_eq!(street.web.hears_of(&content[1..]), !bound, "{kind:?}, bound {bound}");
                assert_eq!(street.node.packets(Reason::Malformed) - before, u64::from(bound), "{kind:?}");
            }
            // What does not say so is nobody's concern.
            street.bridges[0].send_as(street.bridges[0].mac, street.web.mac, NOTHING, b"\x45nothing");
        }
    });
}

/// The same way a packet that is routed says nothing of the port that it came in by.
#[test]
fn a_tag_does_not_let_a_pod_speak_as_somebody_elsewhere() {
    root_or_return!();
    in_lab(|lab| {
        let mut street = Street::build(lab);
        let sources = street.site.host("far").addresses();
        let targets = street.site.host("web").addresses();
        let socket = street.site.lab.within("web", || UdpSocket::bind("[::]:9").unwrap()).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        for bound in [false, true] {
            street.bind(if bound { &["web", "mallory"] } else { &[] });
            street.begin_anew();
            while socket.recv(&mut [0; 16]).is_ok() {}
            for (kind, from, to) in [([0x08, 0x00], sources[0], targets[0]), ([0x86, 0xdd], sources[1], targets[1])] {
                let packet = ip(UDP, from, to, &udp(from, to, 40000, 9, b"from far away"));
                let tagged = [&[0, 0][..], &kind, &packet].concat();
                let before = street.node.packets(Reason::Tagged);
                street.node.drops();
                street.mallory.send_as(street.mallory.mac, street.bridges[0].mac, VLAN, &tagged);
                assert_eq!(socket.recv(&mut [0; 16]).is_ok(), !bound, "{from} -> {to}, bound {bound}");
                assert_eq!(street.node.packets(Reason::Tagged) - before, u64::from(bound), "{from} -> {to}");
                let told = street.node.drops().into_iter().any(|(event, _)| {
                    let by = street.site.host("mallory").ifindex;
                    event.reason == Reason::Tagged && (event.source, event.ifindex) == (from, by)
                });
                assert_eq!(told, bound, "{from} -> {to}");
            }
        }
    });
}

/// A bridge keeps frames with a tag from the hook, and whoever gets one with the tag 0 takes it as if it had none.
#[test]
fn a_tag_gets_nothing_around_the_fence() {
    root_or_return!();
    in_lab(|lab| {
        let mut street = Street::build(lab);
        let [web4, web6] = street.site.host("web").addresses();
        let [from4, from6] = street.site.host("mallory").addresses();
        let socket = street.site.lab.within("web", || UdpSocket::bind("[::]:9").unwrap()).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let fenced = street.site.cluster(&policy("web", "policyTypes: [Ingress]"));
        street.node.change(&fenced);
        for pods in [&[][..], &["web"], &["web", "mallory"]] {
            street.bind(pods);
            let bound = !pods.is_empty();
            let before = street.node.packets(Reason::Tagged);
            for (kind, from, to) in [([0x08, 0x00], from4, web4), ([0x86, 0xdd], from6, web6)] {
                let packet = ip(UDP, from, to, &udp(from, to, 40000, 9, b"tagged"));
                for tags in [&[0, 0][..], &[0, 0, 0x81, 0, 0, 0]] {
                    street.mallory.send_as(street.mallory.mac, street.web.mac, VLAN, &[tags, &kind, &packet].concat());
                    assert_eq!(socket.recv(&mut [0; 16]).is_ok(), !bound, "{to}, {tags:?}, bound: {pods:?}");
                }
            }
            assert_eq!(street.node.packets(Reason::Tagged) - before, if bound { 4 } else { 0 });
            // As it would be without.
            let packet = ip(UDP, from4, web4, &udp(from4, web4, 40000, 9, b"plain"));
            street.mallory.send(&street.web, &packet);
            assert!(socket.recv(&mut [0; 16]).is_err());
        }
    });
}

#[test]
fn only_interfaces_that_addresses_are_bound_to_are_looked_at() {
    root_or_return!();
    in_lab(|lab| {
        let mut street = Street::build(lab);
        let [web, mallory] = ["web", "mallory"].map(|name| street.site.host(name).ifindex);
        assert!(ports("node1").is_empty());
        street.bind(&["web"]);
        assert_eq!(ports("node1"), [web]);
        street.bind(&["web", "mallory"]);
        assert_eq!(ports("node1"), [web, mallory]);

        // A network beside, with addresses of its own that happen to be the same.
        let beside = "link add br1 type bridge\nlink set br1 up\naddr add 10.99.0.1/24 dev br1\n\
                      link add net1 type veth peer name eth1 netns mallory\nlink set net1 master br1 up\n\
                      route add 10.244.1.10 via 10.99.0.2 dev br1\n";
        street.site.run("node1", &["ip", "-batch", "-"], beside);
        let inside = "link set eth1 up\naddr add 10.99.0.2/24 dev eth1\naddr add 10.244.1.10/32 dev eth1\n";
        street.site.run("mallory", &["ip", "-batch", "-"], inside);
        let socket = street.site.lab.within("mallory", || UdpSocket::bind("0.0.0.0:9").unwrap()).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        street.send("node1", street.site.host("web").ipv4.into(), b"beside");
        assert!(socket.recv(&mut [0; 16]).is_ok());

        // What has gone, and what was never there, is no error.
        street.site.run("node1", &["ip", "link", "del", &street.mallory_veth()], "");
        let nowhere = Attachment { ifindex: 4242, pod: None };
        street.tell(vec![Event::Attachment("10.244.1.77".parse().unwrap(), Some(nowhere))]);
        assert_eq!(ports("node1"), [web, mallory], "what has gone is bound as long as somebody says so");
        street.bind(&["web"]);
        assert_eq!(ports("node1"), [web]);
        street.bind(&[]);
        assert!(ports("node1").is_empty());
    });
}

/// Which link and which program are pinned.
fn ids(node: &str) -> Vec<(u32, u32)> {
    let of = |name: String| {
        let info = Link::open(pins(node).join("links").join(name)).unwrap().info().unwrap();
        (info.id, info.prog_id)
    };
    ports(node).into_iter().flat_map(|port| ["enters", "leaves"].map(|side| of(format!("{side}-{port}")))).collect()
}

#[test]
fn successors_put_their_program_into_the_same_links_and_nothing_leaves_meanwhile() {
    root_or_return!();
    in_lab(|lab| {
        let mut street = Street::build(lab);
        let web = street.site.host("web");
        street.bind(&["web", "mallory"]);
        street.begin_anew();
        nail(&street.site.lab, web, &street.web, &street.mallory_veth());
        let before = street.node.packets(Reason::Astray);
        let stop = &AtomicBool::new(false);
        let sent = thread::scope(|scope| {
            let lab = &street.site.lab;
            let send = move || {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                let mut sent = 0_u64;
                while !stop.load(Ordering::Relaxed) && sent < 100_000 {
                    for _ in 0..10 {
                        socket.send_to(b"for web alone", (web.ipv4, 9)).unwrap();
                        sent += 1;
                    }
                    thread::sleep(Duration::from_millis(2));
                }
                sent
            };
            let sender = scope.spawn(move || lab.within("node1", send).unwrap());
            for round in 0..6 {
                thread::sleep(Duration::from_millis(100));
                let before = ids("node1");
                let succeed = || {
                    let config =
                        Config { bpffs: Some(pins("node1")), events_per_second: 10 + round, ..Config::default() };
                    Datapath::open(&config).unwrap().attach().unwrap();
                };
                street.site.lab.within("node1", succeed).unwrap();
                let after = ids("node1");
                assert_eq!(after.len(), 4);
                for (before, after) in before.iter().zip(&after) {
                    assert_eq!(before.0, after.0, "the same link");
                    assert_ne!(before.1, after.1, "another program");
                }
            }
            thread::sleep(Duration::from_millis(100));
            stop.store(true, Ordering::Relaxed);
            sender.join().unwrap()
        });
        assert!(sent > 1_000, "{sent}");
        assert!(!street.mallory.hears_of(b"for web alone"));
        assert_eq!(street.node.packets(Reason::Astray) - before, sent);

        street.site.lab.within("node1", || Datapath::detach(&pins("node1")).unwrap()).unwrap();
        assert!(ports("node1").is_empty());
        assert_eq!(street.heard("node1", web.ipv4.into(), "in the end"), [false, true], "nothing of it is left");
    });
}

#[test]
fn what_an_agent_leaves_at_ports_holds_without_it_and_goes_when_enforcement_ends() {
    root_or_return!();
    in_lab(|mut lab| {
        let (directory, web) = one_node(&mut lab);
        let (own, thief) = (Wire::of(&lab, "web"), Wire::of(&lab, "client"));
        let stolen = |turn: &str| {
            send_to(&lab, "node1", web.ipv4.into(), turn.as_bytes());
            thief.hears_of(turn.as_bytes())
        };
        nail(&lab, web, &own, "veth10");
        assert!(stolen("before"));
        let start = || {
            let agent = Agent::start_with(&lab, "node1", &["--cluster".as_ref(), directory.path().as_os_str()]);
            agent.until("ready", |agent| agent.get("readyz").0 == 200);
            agent
        };
        let agent = start();
        assert_eq!(ports_in(Path::new("/sys/fs/bpf/node1")).len(), 2);
        assert!(!stolen("while it runs"));
        agent.kill();
        assert!(!stolen("after its end"));
        let agent = start();
        assert!(!stolen("with another one"));
        drop(agent);
        let mut detach = Command::new(env!("CARGO_BIN_EXE_ringfence"));
        detach.args(["agent", "--detach", "--bpffs", "/sys/fs/bpf/node1"]);
        let detached = lab.within("node1", || detach.status().unwrap()).unwrap();
        assert!(detached.success());
        assert!(ports_in(Path::new("/sys/fs/bpf/node1")).is_empty());
        assert!(stolen("in the end"));
    });
}

#[test]
fn an_interface_that_takes_no_program_holds_up_no_policy_and_is_named_in_one_line() {
    root_or_return!();
    in_lab(|mut lab| {
        lab.node(1).unwrap();
        let pod = lab.pod(1, "web").unwrap();
        let mut bound = Table::default();
        bound.interfaces.insert(pod.ifindex, Meaning { local: true, ..Meaning::default() });
        let bind = changes(&Table::default(), &bound);
        let sizes = Sizes { addresses: Some(8), networks: Some(8), counters: Some(64), ..Sizes::default() };
        let of = |number: u32| pins(&format!("other{number}"));
        let open = |number: u32| {
            let mut datapath = Datapath::open(&Config { bpffs: Some(of(number)), sizes, ..Config::default() }).unwrap();
            let begun = Instant::now();
            while let Err(error) = datapath.attach() {
                assert!(matches!(error, Error::Taken { .. }) && begun.elapsed() < Duration::from_secs(5), "{error}");
                thread::sleep(Duration::from_millis(10));
            }
            datapath
        };
        let fill = || {
            let mut others = 0;
            let (mut datapath, error) = loop {
                assert!(others < 100, "there is a limit");
                let mut datapath = open(others);
                if let Err(error) = datapath.apply(&bind) {
                    break (datapath, error);
                }
                drop(datapath);
                // The hook has room for two; the interface keeps what is pinned. A place that is left is free a little later.
                for link in fs::read_dir(of(others).join("links")).unwrap().map(|link| link.unwrap().path()) {
                    if link.file_name().unwrap().as_encoded_bytes().starts_with(b"ipv") {
                        fs::remove_file(link).unwrap();
                    }
                }
                others += 1;
            };
            assert!(matches!(error, Error::Crowded(ifindex) if ifindex == pod.ifindex), "{error}");
            assert!(!error.to_string().contains('\n'));
            assert_eq!(datapath.table().unwrap(), bound, "no policy waits for an interface");
            assert!(datapath.attach_next().is_err(), "the other way through it, too");
            assert!(!datapath.attach_next().unwrap(), "what is refused is not tried without end");
            assert!(datapath.attach_refused().is_err());
            assert!(ports(&format!("other{others}")).is_empty());
            Datapath::detach(&of(0)).unwrap();
            datapath.attach_refused().unwrap();
            assert_eq!(ports(&format!("other{others}")), [pod.ifindex]);
        };
        lab.within("node1", fill).unwrap();
    });
}
