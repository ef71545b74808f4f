//! Real sockets in network namespaces: what the hook lets through on a node as flannel makes it.
use crate::root::root_or_return;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns},
};
use ringfence::{
    datapath::{Config, Count, Datapath, Event, Reason},
    demo::lab::{Host, Lab},
    node::{bridge, conntrack::Conntrack, sandbox},
    policy::{
        change::{Change, changes},
        model::Direction,
        table::{Address, Admission, IdentityId, Meaning, PolicyId, PortPrefix, PortSetId, RuleId, Table},
    },
};
use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

const TCP: u8 = 6;
const UDP: u8 = 17;

/// A lab in a sandbox of a thread of its own.
pub(crate) fn in_lab(test: impl FnOnce(Lab) + Send) {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            sandbox::enter().unwrap();
            test(Lab::new().unwrap());
        });
        inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// Echoes on 80 and 81/TCP, 53 and 54/UDP, until dropped.
struct Server {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    fn start(lab: &Lab, space: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let any = |port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let (listeners, sockets) = lab
            .within(space, || {
                let listeners = [80, 81].map(|port| TcpListener::bind(any(port)).unwrap());
                let sockets = [53, 54].map(|port| UdpSocket::bind(any(port)).unwrap());
                (listeners, sockets)
            })
            .unwrap();
        let mut threads = Vec::new();
        for listener in listeners {
            let stop = stop.clone();
            listener.set_nonblocking(true).unwrap();
            threads.push(thread::spawn(move || {
                let mut streams: Vec<TcpStream> = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    if let Ok((stream, _)) = listener.accept() {
                        stream.set_nonblocking(true).unwrap();
                        streams.push(stream);
                    }
                    streams.retain_mut(|stream| {
                        let mut byte = [0];
                        match stream.read(&mut byte) {
                            Ok(0) => false,
                            Ok(_) => stream.write_all(&byte).is_ok(),
                            Err(e) => e.kind() == ErrorKind::WouldBlock,
                        }
                    });
                    thread::sleep(Duration::from_millis(2));
                }
            }));
        }
        for socket in sockets {
            let stop = stop.clone();
            socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            threads.push(thread::spawn(move || {
                let mut buffer = [0; 64];
                while !stop.load(Ordering::Relaxed) {
                    if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                        let _ = socket.send_to(&buffer[..length], from);
                    }
                }
            }));
        }
        Server { stop, threads }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Whether a server answers.
fn reaches(lab: &Lab, from: &str, to: IpAddr, protocol: u8, port: u16) -> bool {
    let to = SocketAddr::new(to, port);
    lab.within(from, || match protocol {
        TCP => TcpStream::connect_timeout(&to, Duration::from_millis(300)).is_ok_and(|mut stream| echoes(&mut stream)),
        _ => {
            let any: IpAddr = if to.is_ipv4() { "0.0.0.0".parse().unwrap() } else { "::".parse().unwrap() };
            let socket = UdpSocket::bind((any, 0)).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(150))).unwrap();
            (0..2).any(|_| socket.send_to(b"x", to).is_ok() && socket.recv(&mut [0; 8]).is_ok())
        }
    })
    .unwrap()
}

fn echoes(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    stream.write_all(b"x").is_ok() && stream.read_exact(&mut [0]).is_ok()
}

fn pins(node: &str) -> PathBuf {
    PathBuf::from("/sys/fs/bpf/ringfence").join(node)
}

/// The datapath of a node, with a table in force.
fn fence(lab: &Lab, node: &str, table: &Table) -> (Datapath, Conntrack) {
    lab.within(node, || {
        bridge::call_netfilter().unwrap();
        let conntrack = Conntrack::keep().unwrap();
        let config = Config { bpffs: Some(pins(node)), events_per_second: 10_000, ..Config::default() };
        let mut datapath = Datapath::open(&config).unwrap();
        let found = datapath.table().unwrap();
        datapath.apply(&changes(&found, table)).unwrap();
        datapath.attach().unwrap();
        (datapath, conntrack)
    })
    .unwrap()
}

const WEB_IN: PolicyId = PolicyId(20);
const JAIL_OUT: PolicyId = PolicyId(21);
const JAIL_IN: PolicyId = PolicyId(22);
const TO_WEB: RuleId = RuleId(30);
const FROM_JAIL: RuleId = RuleId(31);
const CLIENTS: IdentityId = IdentityId(1);

/// `web` takes 80/TCP and 53/UDP from clients. `jail` reaches 80/TCP of clients, and nobody reaches it.
fn table(clients: &[Host], web: Host, jail: Host, node: u8) -> Table {
    let mut table = Table::default();
    let here = |host: &Host| host.ipv4.octets()[2] == node;
    let mut add = |host: &Host, identity, ingress, egress| {
        let local = here(host);
        let none = PolicyId(0);
        let (ingress, egress) = if local { (ingress, egress) } else { (none, none) };
        let meaning = Meaning { identity, ingress, egress, local, closed: false };
        let ifindex = if local { host.ifindex } else { 0 };
        table.addresses.extend(host.addresses().map(|address| (address, Address { meaning, ifindex })));
    };
    for client in clients {
        add(client, CLIENTS, PolicyId(0), PolicyId(0));
    }
    add(&web, IdentityId(2), WEB_IN, PolicyId(0));
    add(&jail, IdentityId(3), JAIL_IN, JAIL_OUT);
    for range in [format!("10.244.{node}.0/24"), format!("fd00:{node}::/64")] {
        table.networks.insert(range.parse().unwrap(), Meaning { closed: true, ..Meaning::default() });
    }
    // The node itself, and its end of the tunnel: traffic of a node to its pods comes from the bridge's address.
    for address in [format!("10.244.{node}.1"), format!("fd00:{node}::1")] {
        table.addresses.insert(address.parse().unwrap(), Address::default());
    }
    let one = |protocol, port| PortPrefix { protocol, port, bits: 16 };
    table.admissions.insert((WEB_IN, CLIENTS), Admission { ports: PortSetId(1), any: None });
    table.admissions.insert((JAIL_OUT, CLIENTS), Admission { ports: PortSetId(2), any: None });
    table.ports.insert((PortSetId(1), one(TCP, 80)), TO_WEB);
    table.ports.insert((PortSetId(1), one(UDP, 53)), TO_WEB);
    table.ports.insert((PortSetId(2), one(TCP, 80)), FROM_JAIL);
    table
}

/// Two nodes: client, web and jail on the first, far (a client, too) on the second; and a host outside.
struct Town {
    lab: Lab,
    client: Host,
    web: Host,
    jail: Host,
    far: Host,
    _servers: Vec<Server>,
}

impl Town {
    fn build(mut lab: Lab) -> Self {
        lab.node(1).unwrap();
        lab.node(2).unwrap();
        let [client, web, jail] = ["client", "web", "jail"].map(|name| lab.pod(1, name).unwrap());
        let far = lab.pod(2, "far").unwrap();
        lab.outside().unwrap();
        let servers = ["client", "web", "far", "node1", "jail"].map(|space| Server::start(&lab, space));
        Town { lab, client, web, jail, far, _servers: servers.into() }
    }

    fn table(&self, node: u8) -> Table {
        table(&[self.client, self.far], self.web, self.jail, node)
    }

    /// Every pair that says something, with whether it may.
    fn expectations(&self) -> Vec<(&'static str, Host, u8, u16, bool)> {
        vec![
            ("client", self.web, TCP, 80, true),
            ("client", self.web, TCP, 81, false),
            ("client", self.web, UDP, 53, true),
            ("client", self.web, UDP, 54, false),
            ("far", self.web, TCP, 80, true),
            ("far", self.web, TCP, 81, false),
            ("far", self.web, UDP, 53, true),
            ("far", self.web, UDP, 54, false),
            ("jail", self.client, TCP, 80, true),
            ("jail", self.client, TCP, 81, false),
            ("jail", self.client, UDP, 53, false),
            ("jail", self.far, TCP, 80, true),
            ("jail", self.far, TCP, 81, false),
            ("jail", self.web, TCP, 80, false),
            ("client", self.jail, TCP, 80, false),
            ("outside", self.web, TCP, 80, false),
            ("outside", self.client, TCP, 80, true),
            ("web", self.client, TCP, 81, true),
            ("web", self.far, UDP, 54, true),
            ("node1", self.web, TCP, 81, true),
            ("node1", self.jail, UDP, 54, true),
        ]
    }

    fn check(&self) {
        let lab = &self.lab;
        thread::scope(|scope| {
            for (from, to, protocol, port, expected) in self.expectations() {
                scope.spawn(move || {
                    for address in to.addresses() {
                        let reached = reaches(lab, from, address, protocol, port);
                        assert_eq!(reached, expected, "{from} -> {address} port {port}, protocol {protocol}");
                    }
                });
            }
        });
    }
}

#[test]
fn policies_hold_on_a_bridge_and_across_nodes_and_without_the_agent() {
    root_or_return!();
    in_lab(|lab| {
        let town = Town::build(lab);
        let lab = &town.lab;
        // Everything reaches everything first: what is missing below was not missing before.
        for (from, to, protocol, port, _) in town.expectations() {
            for address in to.addresses() {
                assert!(reaches(lab, from, address, protocol, port), "{from} -> {address} port {port}");
            }
        }
        let (datapath, conntrack) = fence(lab, "node1", &town.table(1));
        let (_far, _) = fence(lab, "node2", &town.table(2));
        town.check();
        // A pod and its own node, which is no policy's business.
        for gateway in ["10.244.1.1", "fd00:1::1"] {
            assert!(reaches(lab, "jail", gateway.parse().unwrap(), TCP, 81), "jail -> {gateway}");
        }
        tells_who_was_dropped(&town, &datapath);

        // The agent is gone, and nothing changes.
        drop((datapath, conntrack));
        town.check();

        // A successor finds the state, and takes over.
        let (mut datapath, _conntrack) = fence(lab, "node1", &town.table(1));
        assert_eq!(datapath.generation(), 1, "nothing had to change");
        assert_eq!(std::fs::read_dir(pins("node1").join("links")).unwrap().count(), 2, "one link for each family");
        town.check();

        cuts_live_connections(&town, &mut datapath);

        // Break glass.
        lab.within("node1", || Datapath::detach(&pins("node1"))).unwrap().unwrap();
        assert!(reaches(lab, "client", town.web.ipv4.into(), TCP, 81));
        assert!(!pins("node1").exists());
    });
}

/// The state of a container without privileges: the switches of the network namespace can be read only.
#[test]
fn where_proc_is_read_only_each_bridge_is_made_to_call_netfilter() {
    root_or_return!();
    in_lab(|lab| {
        let town = Town::build(lab);
        let switches = ["iptables", "ip6tables"].map(|family| format!("/proc/sys/net/bridge/bridge-nf-call-{family}"));
        let read = || switches.each_ref().map(|switch| std::fs::read_to_string(switch).unwrap().trim().to_owned());
        town.lab
            .within("node1", || {
                // The node's own view, as its containers have it.
                mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>).unwrap();
                switches.each_ref().map(|switch| std::fs::write(switch, "0").unwrap())
            })
            .unwrap();
        let sysctls = Some("/proc/sys");
        let mounted =
            |flags| mount(sysctls, "/proc/sys", None::<&str>, MsFlags::MS_BIND | flags, None::<&str>).unwrap();
        mounted(MsFlags::MS_REC);
        mounted(MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY);

        let _fence = fence(&town.lab, "node1", &town.table(1));
        town.check();
        town.lab
            .within("node1", || {
                assert_eq!(read(), ["0", "0"], "the sysctls could be written after all");
                assert!(!bridge::call_netfilter().unwrap(), "nothing is left to be changed");
            })
            .unwrap();
    });
}

fn tells_who_was_dropped(town: &Town, datapath: &Datapath) {
    let mut events = datapath.events().unwrap();
    while !events.next(Duration::ZERO).unwrap().is_empty() {}
    for (source, destination) in town.jail.addresses().into_iter().zip(town.far.addresses()) {
        assert!(!reaches(&town.lab, "jail", destination, UDP, 54));
        let told = events.next(Duration::from_secs(1)).unwrap();
        let event: &Event = told.iter().find(|event| event.destination == destination).expect("an event");
        assert_eq!((event.source, event.destination_port, event.protocol), (source, 54, UDP));
        assert_eq!((event.reason, event.side, event.id), (Reason::Policy, Some(Direction::Egress), JAIL_OUT.0));
        assert!(!event.accepted && !event.reply && event.ifindex != 0 && event.generation == 1);
    }
    let counters = datapath.counters().unwrap();
    let count = |id: u32| counters.get(&id).copied().unwrap_or_default();
    for id in [WEB_IN.0, JAIL_OUT.0, JAIL_IN.0, TO_WEB.0, FROM_JAIL.0, Reason::Node.id(), Reason::Open.id()] {
        let Count { packets, bytes, .. } = count(id);
        assert!(packets > 0 && bytes >= 28 * packets, "{id} counts: {counters:?}");
    }
}

/// Without its rule a connection ends at the next packet, in both directions.
fn cuts_live_connections(town: &Town, datapath: &mut Datapath) {
    let web = SocketAddr::new(town.web.ipv4.into(), 80);
    let mut stream =
        town.lab.within("client", || TcpStream::connect_timeout(&web, Duration::from_secs(1))).unwrap().unwrap();
    assert!(echoes(&mut stream));
    let old = datapath.table().unwrap();
    let mut new = old.clone();
    new.admissions.remove(&(WEB_IN, CLIENTS));
    datapath.apply(&changes(&old, &new)).unwrap();
    assert!(!echoes(&mut stream));
    datapath.apply(&changes(&new, &old)).unwrap();
}

#[test]
fn fragments_are_judged_by_their_ports() {
    root_or_return!();
    in_lab(|lab| {
        let town = Town::build(lab);
        let _fence = fence(&town.lab, "node1", &town.table(1));
        for (port, expected) in [(53, true), (54, false)] {
            for address in town.web.addresses() {
                let answered = town.lab.within("client", || {
                    let any: IpAddr =
                        if address.is_ipv4() { "0.0.0.0".parse().unwrap() } else { "::".parse().unwrap() };
                    let socket = UdpSocket::bind((any, 0)).unwrap();
                    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
                    socket.send_to(&[7; 6000], (address, port)).unwrap();
                    socket.recv(&mut [0; 64]).is_ok()
                });
                assert_eq!(answered.unwrap(), expected, "{address} {port}");
            }
        }
    });
}

/// Sends 10,000 packets a second from `client` to each of two UDP ports of `web` until `during` has ended. Returns how many
/// were sent to each, and how many arrived.
pub(crate) fn flood(lab: &Lab, web: Host, ports: [u16; 2], during: impl FnOnce()) -> (u64, [u64; 2]) {
    let stop = &AtomicBool::new(false);
    let counts = &ports.map(|_| AtomicU64::new(0));
    let sent = thread::scope(|scope| {
        let mut receivers = Vec::new();
        for (port, count) in ports.iter().zip(counts) {
            let socket = lab.within("web", || UdpSocket::bind(("0.0.0.0", *port)).unwrap()).unwrap();
            nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &(32 << 20)).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            receivers.push(scope.spawn(move || {
                let mut buffer = [0; 64];
                loop {
                    match socket.recv(&mut buffer) {
                        Ok(_) => drop(count.fetch_add(1, Ordering::Relaxed)),
                        Err(_) if stop.load(Ordering::Relaxed) => return,
                        Err(_) => {}
                    }
                }
            }));
        }
        let namespace = lab.namespace("client").unwrap();
        let sender = scope.spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            let sockets = ports.map(|port| {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                socket.connect((web.ipv4, port)).unwrap();
                socket
            });
            let begin = Instant::now();
            let mut sent = 0u64;
            while !stop.load(Ordering::Relaxed) && begin.elapsed() < Duration::from_secs(20) {
                while sent < begin.elapsed().as_micros() as u64 / 100 {
                    for socket in &sockets {
                        socket.send(b"x").unwrap();
                    }
                    sent += 1;
                }
                thread::sleep(Duration::from_micros(300));
            }
            sent
        });
        during();
        stop.store(true, Ordering::Relaxed);
        let sent = sender.join().unwrap();
        for receiver in receivers {
            receiver.join().unwrap();
        }
        sent
    });
    (sent, counts.each_ref().map(|count| count.load(Ordering::Relaxed)))
}

#[test]
fn a_successor_leaves_no_gap_and_loses_nothing() {
    root_or_return!();
    in_lab(|mut lab| {
        lab.node(1).unwrap();
        let [client, web, jail] = ["client", "web", "jail"].map(|name| lab.pod(1, name).unwrap());
        let mut current = Some(fence(&lab, "node1", &table(&[client], web, jail, 1)));
        let (sent, [allowed, denied]) = flood(&lab, web, [53, 54], || {
            for _ in 0..6 {
                thread::sleep(Duration::from_millis(250));
                // The predecessor goes when the successor has taken over, as in a rolling update.
                let successor = lab.within("node1", || {
                    let config = Config { bpffs: Some(pins("node1")), ..Config::default() };
                    let mut datapath = Datapath::open(&config).unwrap();
                    datapath.attach().unwrap();
                    (datapath, Conntrack::keep().unwrap())
                });
                current = Some(successor.unwrap());
            }
            thread::sleep(Duration::from_millis(250));
        });
        println!("{sent} packets to either port: {allowed} allowed ones arrived, {denied} denied ones");
        assert!(sent > 5_000, "{sent}");
        assert_eq!((allowed, denied), (sent, 0));
        drop(current);
    });
}

/// The same list with one address as the last of those that change.
fn last(mut steps: Vec<Change>, address: IpAddr) -> Vec<Change> {
    let of_it = |step: &Change| matches!(step, Change::SetAddress(changed, _) if *changed == address);
    let at = steps.iter().position(of_it).unwrap();
    let publish = steps.iter().position(|step| *step == Change::Publish).unwrap();
    steps[at..publish].rotate_left(1);
    steps
}

#[test]
fn a_denial_that_moves_from_one_end_to_the_other_leaves_no_gap() {
    root_or_return!();
    in_lab(|mut lab| {
        lab.node(1).unwrap();
        let [client, web, jail] = ["client", "web", "jail"].map(|name| lab.pod(1, name).unwrap());
        let at_web = table(&[client], web, jail, 1);
        // The client may send to 53/UDP only, and web takes everything.
        let mut at_client = at_web.clone();
        let (out, rule) = (PolicyId(40), RuleId(41));
        for address in client.addresses() {
            at_client.addresses.get_mut(&address).unwrap().meaning.egress = out;
        }
        for address in web.addresses() {
            at_client.addresses.get_mut(&address).unwrap().meaning.ingress = PolicyId(0);
        }
        at_client.admissions = [((out, IdentityId(2)), Admission { ports: PortSetId(9), any: None })].into();
        at_client.ports = [((PortSetId(9), PortPrefix { protocol: UDP, port: 53, bits: 16 }), rule)].into();
        // Many others change, too, and between the two ends: a list that took effect step by step would show.
        let mut at_web = at_web;
        for (table, identity) in [(&mut at_web, 0), (&mut at_client, 1)] {
            let meaning = Meaning { identity: IdentityId(identity), ..Meaning::default() };
            let others = (0..5000u32).map(|number| IpAddr::from(Ipv4Addr::from(0x0afa_0000 + number)));
            table.addresses.extend(others.map(|other| (other, Address { meaning, ifindex: 0 })));
        }
        let there = last(changes(&at_web, &at_client), web.ipv4.into());
        let back = last(changes(&at_client, &at_web), web.ipv4.into());
        let (mut datapath, _conntrack) = fence(&lab, "node1", &at_web);
        let mut moves = 0;
        let (sent, [allowed, denied]) = flood(&lab, web, [53, 54], || {
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_secs(2) {
                datapath.apply(&there).unwrap();
                datapath.apply(&back).unwrap();
                moves += 2;
            }
        });
        println!(
            "{sent} packets to either port, {moves} changes: {allowed} allowed ones arrived, {denied} denied ones"
        );
        assert!(sent > 5_000 && moves > 10, "{sent} {moves}");
        assert_eq!((allowed, denied), (sent, 0));
    });
}
