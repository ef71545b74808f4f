//! What a fence holds back and lets through, with an agent and without, and what it tells of it.

use super::{
    TCP, UDP, echoes, in_lab, pins, reaches,
    town::{CLIENTS, FROM_JAIL, JAIL_IN, JAIL_OUT, TO_WEB, Town, WEB_IN, fence},
};
use crate::root::root_or_return;
use nix::mount::{MsFlags, mount};
use ringfence::{
    datapath::{Count, Datapath, Event, Reason},
    node::bridge,
    policy::{change::changes, model::Direction},
};
use std::{
    net::{SocketAddr, TcpStream},
    time::Duration,
};

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
