//! Two nodes as flannel makes them, under a table that is written by hand.

use super::{Server, TCP, UDP, pins, reaches};
use ringfence::{
    datapath::{Config, Datapath},
    demo::lab::{Host, Lab},
    node::{bridge, conntrack::Conntrack},
    policy::{
        change::changes,
        table::{Address, Admission, IdentityId, Meaning, PolicyId, PortPrefix, PortSetId, RuleId, Table},
    },
};
use std::thread;

/// The datapath of a node, with a table in force.
pub(super) fn fence(lab: &Lab, node: &str, table: &Table) -> (Datapath, Conntrack) {
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

pub(super) const WEB_IN: PolicyId = PolicyId(20);
pub(super) const JAIL_OUT: PolicyId = PolicyId(21);
pub(super) const JAIL_IN: PolicyId = PolicyId(22);
pub(super) const TO_WEB: RuleId = RuleId(30);
pub(super) const FROM_JAIL: RuleId = RuleId(31);
pub(super) const CLIENTS: IdentityId = IdentityId(1);

/// `web` takes 80/TCP and 53/UDP from clients. `jail` reaches 80/TCP of clients, and nobody reaches it.
pub(super) fn table(clients: &[Host], web: Host, jail: Host, node: u8) -> Table {
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
pub(super) struct Town {
    pub(super) lab: Lab,
    pub(super) client: Host,
    pub(super) web: Host,
    pub(super) jail: Host,
    pub(super) far: Host,
    _servers: Vec<Server>,
}

impl Town {
    pub(super) fn build(mut lab: Lab) -> Self {
        lab.node(1).unwrap();
        lab.node(2).unwrap();
        let [client, web, jail] = ["client", "web", "jail"].map(|name| lab.pod(1, name).unwrap());
        let far = lab.pod(2, "far").unwrap();
        lab.outside().unwrap();
        let servers = ["client", "web", "far", "node1", "jail"].map(|space| Server::start(&lab, space));
        Town { lab, client, web, jail, far, _servers: servers.into() }
    }

    pub(super) fn table(&self, node: u8) -> Table {
        table(&[self.client, self.far], self.web, self.jail, node)
    }

    /// Every pair that says something, with whether it may.
    pub(super) fn expectations(&self) -> Vec<(&'static str, Host, u8, u16, bool)> {
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

    pub(super) fn check(&self) {
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
