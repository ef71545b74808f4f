//! Pods on cables of their own, with host routes and no bridge: the plugin `ptp`, kindnet.

use super::{
    Server, TCP, UDP, in_lab, reaches,
    site::{Site, peer, policy},
};
use crate::root::root_or_return;
use ringfence::demo::lab::Lab;
use std::thread;

#[test]
fn policies_hold_between_routed_pods_on_one_node_and_on_two() {
    root_or_return!();
    in_lab(|lab| {
        let pods = [("client", 1), ("web", 1), ("stranger", 1), ("far", 2)];
        let mut site = Site::with(lab, &pods, Lab::routed_pod);
        site.lab.outside().unwrap();
        let _servers = ["client", "web", "far"].map(|space| Server::start(&site.lab, space));
        let ports = "ports: [{port: 80}, {protocol: UDP, port: 53}]";
        let web = policy("web", &format!("ingress: [{{from: [{}, {}], {ports}}}]", peer("client"), peer("far")));
        let out = format!("egress: [{{to: [{}], ports: [{{port: 80}}]}}]", peer("far"));
        let stranger = policy("stranger", &format!("policyTypes: [Ingress, Egress], {out}"));
        let expectations = [
            ("client", "web", TCP, 80, true),
            ("client", "web", TCP, 81, false),
            ("client", "web", UDP, 53, true),
            ("client", "web", UDP, 54, false),
            ("far", "web", TCP, 80, true),
            ("far", "web", TCP, 81, false),
            ("far", "web", UDP, 54, false),
            ("stranger", "web", TCP, 80, false),
            ("stranger", "far", TCP, 80, true),
            ("stranger", "far", TCP, 81, false),
            ("stranger", "client", TCP, 80, false),
            ("web", "client", TCP, 81, true),
            ("node1", "web", TCP, 81, true),
            ("outside", "web", TCP, 80, false),
            ("outside", "client", TCP, 81, true),
        ];
        let check = |open: bool| {
            thread::scope(|scope| {
                for (from, to, protocol, port, expected) in expectations {
                    let site = &site;
                    scope.spawn(move || {
                        for address in site.host(to).addresses() {
                            let reached = reaches(&site.lab, from, address, protocol, port);
                            assert_eq!(reached, expected || open, "{from} -> {to} {address} {port}");
                        }
                    });
                }
            });
        };
        check(true);
        let _nodes = ["node1", "node2"].map(|node| site.enforce(node, &(web.clone() + &stranger)));
        check(false);
    });
}
