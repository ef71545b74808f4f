//! Under a flood of packets: a successor that takes over, and a denial that moves, without a gap.

use super::{
    UDP, in_lab, pins,
    town::{fence, table},
};
use crate::root::root_or_return;
use nix::sched::{CloneFlags, setns};
use ringfence::{
    datapath::{Config, Datapath},
    demo::lab::{Host, Lab},
    node::conntrack::Conntrack,
    policy::{
        change::{Change, changes},
        table::{Address, Admission, IdentityId, Meaning, PolicyId, PortPrefix, PortSetId, RuleId, Table},
    },
};
use serde_json::Value;
use std::{
    env,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

/// What became of packets to two UDP ports, of which the first is allowed and the second denied.
#[derive(Debug)]
pub(crate) struct Flood {
    /// So many to each.
    pub(crate) sent: u64,
    /// Those that came to the hook, as a chain before it counted them.
    given: [u64; 2],
    /// Those that left it, as a chain behind it counted them.
    passed: [u64; 2],
    arrived: [u64; 2],
    /// Packets of whomever that CPUs of this machine had no room for meanwhile.
    overflowed: u64,
}

impl Flood {
    /// The hook let through each packet that is allowed and none that is not. What waits for a CPU waits in one queue for
    /// all network namespaces (`net.core.netdev_max_backlog`, 1,000): a packet may be missing that never came to the hook,
    /// or was dropped after it, but no more than the kernel says.
    pub(crate) fn is_fenced_without_loss(&self) {
        println!("{self:?}");
        assert!(self.sent > 5_000);
        assert_eq!(self.passed, [self.given[0], 0], "what the hook made of {:?}", self.given);
        assert_eq!(self.arrived[1], 0);
        assert!(self.given[1] > self.sent / 2, "packets that are denied came to the hook");
        assert!(self.sent - self.arrived[0] <= self.overflowed, "packets were lost beside the hook");
    }
}

/// Packets that were dropped before anything saw them, on all CPUs.
fn overflowed() -> u64 {
    let text = std::fs::read_to_string("/proc/net/softnet_stat").unwrap();
    let of_cpu = |line: &str| u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap();
    text.lines().map(of_cpu).sum()
}

/// Runs `nft` on `node1`.
fn nft(lab: &Lab, words: &[&str]) -> Vec<u8> {
    let output = lab.within("node1", || Command::new("nft").args(words).output().unwrap()).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Counts what comes to two ports, before the hook and behind it.
fn count(lab: &Lab, ports: [u16; 2]) {
    let chain = |name, priority| {
        let [first, second] = ports.map(|port| format!("udp dport {port} counter"));
        format!("chain {name} {{ type filter hook postrouting priority {priority}; {first}; {second}; }}")
    };
    nft(lab, &[&format!("table inet count {{ {}; {}; }}", chain("given", 40), chain("passed", 60))]);
}

fn counted(lab: &Lab, chain: &str) -> [u64; 2] {
    let listed: Value = serde_json::from_slice(&nft(lab, &["-j", "list", "chain", "inet", "count", chain])).unwrap();
    let rules = listed["nftables"].as_array().unwrap().iter().filter_map(|item| item["rule"]["expr"].as_array());
    let packets = rules.flatten().filter_map(|part| part["counter"]["packets"].as_u64());
    packets.collect::<Vec<_>>().try_into().unwrap()
}

/// Sends 10,000 packets a second from `client` to each of two UDP ports of `web`, both on `node1`, until `during` has ended.
pub(crate) fn flood(lab: &Lab, web: Host, ports: [u16; 2], during: impl FnOnce()) -> Flood {
    count(lab, ports);
    let before = overflowed();
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
    Flood {
        sent,
        given: counted(lab, "given"),
        passed: counted(lab, "passed"),
        arrived: counts.each_ref().map(|count| count.load(Ordering::Relaxed)),
        overflowed: overflowed() - before,
    }
}

#[test]
fn a_successor_leaves_no_gap_and_loses_nothing() {
    root_or_return!();
    in_lab(|mut lab| {
        lab.node(1).unwrap();
        let [client, web, jail] = ["client", "web", "jail"].map(|name| lab.pod(1, name).unwrap());
        let mut current = Some(fence(&lab, "node1", &table(&[client], web, jail, 1)));
        let flood = flood(&lab, web, [53, 54], || {
            for round in 0..6 {
                thread::sleep(Duration::from_millis(250));
                // The predecessor goes when the successor has taken over, as in a rolling update.
                let successor = lab.within("node1", || {
                    // Another program each time, as after an upgrade: what is constant in it differs.
                    let config =
                        Config { bpffs: Some(pins("node1")), events_per_second: 10 + round, ..Config::default() };
                    let mut datapath = Datapath::open(&config).unwrap();
                    datapath.attach().unwrap();
                    (datapath, Conntrack::keep().unwrap())
                });
                current = Some(successor.unwrap());
            }
            thread::sleep(Duration::from_millis(250));
        });
        flood.is_fenced_without_loss();
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

/// Two states that admit the same to `web`: 53/UDP of the client. In one of them web denies the rest, in the other one the
/// client itself does.
fn two_states([client, web, jail]: [Host; 3]) -> [Table; 2] {
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
    [at_web, at_client]
}

#[test]
fn a_denial_that_moves_from_one_end_to_the_other_leaves_no_gap() {
    root_or_return!();
    in_lab(|mut lab| {
        lab.node(1).unwrap();
        let [client, web, jail] = ["client", "web", "jail"].map(|name| lab.pod(1, name).unwrap());
        let [at_web, at_client] = two_states([client, web, jail]);
        let there = last(changes(&at_web, &at_client), web.ipv4.into());
        let back = last(changes(&at_client, &at_web), web.ipv4.into());
        let (mut datapath, _conntrack) = fence(&lab, "node1", &at_web);
        let mut moves = 0;
        let flood = flood(&lab, web, [53, 54], || {
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_secs(2) {
                datapath.apply(&there).unwrap();
                datapath.apply(&back).unwrap();
                moves += 2;
            }
        });
        assert!(moves > 10, "{moves}");
        flood.is_fenced_without_loss();
    });
}

/// Many steps that can be counted: whoever is killed on the way leaves some of them.
fn with_many_entries(mut table: Table) -> Table {
    let entries =
        (0..2000).map(|n| ((PolicyId(1000 + n), IdentityId(1)), Admission { ports: PortSetId(9), any: None }));
    table.admissions.extend(entries);
    table
}

/// The process that is killed is this test, run by itself on the node: it leads from one state to the other and back.
#[test]
fn killed_in_the_middle_of_a_change_every_packet_gets_the_old_or_the_new_answer_and_the_next_start_repairs() {
    root_or_return!();
    const APPLIES: &str = "RINGFENCE_TEST_APPLIES";
    const NAME: &str = "packets::handover::killed_in_the_middle_of_a_change_every_packet_gets_the_old_or_the_new_answer_and_the_next_start_repairs";
    let states = |hosts| {
        let [at_web, at_client] = two_states(hosts);
        [at_web, with_many_entries(at_client)]
    };
    let config = || Config { bpffs: Some(pins("node1")), ..Config::default() };
    if let Ok(interfaces) = env::var(APPLIES) {
        let host = |(ifindex, last): (&str, u8)| Host {
            ipv4: Ipv4Addr::new(10, 244, 1, last),
            ipv6: Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, last.into()),
            ifindex: ifindex.parse().unwrap(),
        };
        let hosts: Vec<Host> = interfaces.split(' ').zip(10..).map(host).collect();
        let states = states(hosts.try_into().unwrap());
        let mut datapath = Datapath::open(&config()).unwrap();
        datapath.attach().unwrap();
        let begun = Instant::now();
        for state in states.iter().cycle().take_while(|_| begun.elapsed() < Duration::from_secs(20)) {
            let found = datapath.table().unwrap();
            datapath.apply(&changes(&found, state)).unwrap();
        }
        return;
    }
    in_lab(|mut lab| {
        lab.node(1).unwrap();
        let hosts = ["client", "web", "jail"].map(|name| lab.pod(1, name).unwrap());
        let states = states(hosts);
        let (datapath, _conntrack) = fence(&lab, "node1", &states[0]);
        drop(datapath);
        let interfaces = hosts.map(|host| host.ifindex.to_string()).join(" ");
        let (mut kills, mut in_the_middle) = (0, 0);
        let flood = flood(&lab, hosts[1], [53, 54], || {
            for round in 0..20 {
                let start = || {
                    let mut child = Command::new("/proc/self/exe");
                    child.args([NAME, "--exact"]).env(APPLIES, &interfaces).stdout(Stdio::null()).spawn().unwrap()
                };
                let mut child = lab.within("node1", start).unwrap();
                thread::sleep(Duration::from_millis(250 + round * 73 % 200));
                assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
                child.kill().unwrap();
                child.wait().unwrap();
                kills += 1;
                let found = lab.within("node1", || Datapath::open(&config()).unwrap().table().unwrap()).unwrap();
                let is = |state: &Table| state.addresses == found.addresses && state.networks == found.networks;
                assert!(states.iter().any(is), "neither the one state nor the other");
                in_the_middle += u32::from(!states.contains(&found));
            }
        });
        println!("{kills} kills, {in_the_middle} of them seen in the middle of a list");
        assert!(flood.sent > 10_000 && in_the_middle > 0, "{in_the_middle}");
        flood.is_fenced_without_loss();
    });
}
