//! `decide`, `compile` + `lookup` and the change list give one answer, on random clusters.

use crate::clusters::{ADDRESSES, PORTS, cluster, events, seen_from, settings, with_settings};
use proptest::prelude::*;
use ringfence::policy::{
    change::{Change, Image, changes},
    cluster::{ANTI_SPOOFING, Cluster, Unknown},
    compile::{Ids, compile},
    decide::{Decision, Endpoint, Flow, Side, decide, endpoint},
    model::{Direction, Key, Name},
    state::State,
    table::{Label, Packet, Passed, RuleId, Table, Verdict},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

/// An interface that nothing is bound to.
const UPLINK: u32 = 99;
const PROTOCOLS: [u8; 4] = [6, 17, 132, 1];

fn addresses() -> Vec<IpAddr> {
    ADDRESSES.iter().map(|a| a.parse().unwrap()).collect()
}

/// Every flow between addresses of one family, on every port that means something.
fn flows(cluster: &Cluster) -> Vec<(IpAddr, IpAddr, Flow)> {
    let mut flows = Vec::new();
    for from in addresses() {
        for to in addresses().into_iter().filter(|to| to.is_ipv4() == from.is_ipv4()) {
            for protocol in PROTOCOLS {
                for port in PORTS.into_iter().filter(|port| protocol != 1 || *port == 0) {
                    let (from_end, to_end) = (endpoint(cluster, from), endpoint(cluster, to));
                    flows.push((from, to, Flow { from: from_end, to: to_end, protocol, port }));
                }
            }
        }
    }
    flows
}

/// The interface that an address is bound to, read off the cluster.
fn bound_to(cluster: &Cluster, address: IpAddr) -> Option<u32> {
    let attachment = cluster.attachments.get(&address).filter(|_| cluster.node_at(address).is_none())?;
    let pod = match endpoint(cluster, address) {
        Endpoint::Pod(key, _) => Some(key),
        _ => attachment.pod.as_ref().map(|(key, _)| key.clone()),
    };
    let labels = pod.and_then(|pod| cluster.namespaces.get(&pod.namespace)).map(|namespace| &namespace.labels);
    let off = labels.and_then(|labels| labels.get(ANTI_SPOOFING)).is_some_and(|value| value.as_ref() == "off");
    (!off).then_some(attachment.ifindex)
}

/// The packet of a flow as a node's hook sees it on its right way; none if it never gets there.
fn packet(cluster: &Cluster, node: &str, from: IpAddr, to: IpAddr, flow: &Flow) -> Option<Packet> {
    let own = |address| bound_to(cluster, address).unwrap_or(UPLINK);
    let is_node = |end: &Endpoint| matches!(end, Endpoint::Node(name, _) if name.as_ref() == node);
    (!is_node(&flow.to)).then(|| Packet {
        from_node: is_node(&flow.from),
        comes_by: own(from),
        leaves_by: own(to),
        bridged: false,
        reply: false,
        source: from,
        destination: to,
        protocol: flow.protocol,
        source_port: 40000,
        destination_port: flow.port,
    })
}

fn reply(packet: &Packet) -> Packet {
    Packet {
        reply: true,
        comes_by: packet.leaves_by,
        leaves_by: packet.comes_by,
        source: packet.destination,
        destination: packet.source,
        source_port: packet.destination_port,
        destination_port: packet.source_port,
        ..*packet
    }
}

/// What the table names as the reason is what the oracle names.
fn same_reason(table: &Table, decision: &Decision, verdict: Verdict) -> Result<(), TestCaseError> {
    let rules = |id: RuleId| match table.labels.get(&id.0) {
        Some(Label::Rules(rules)) => rules.clone(),
        other => panic!("rule {id:?} is labelled {other:?}"),
    };
    match verdict {
        Verdict::Accept { egress, ingress } => {
            let sides =
                [(Direction::Egress, &decision.egress, egress), (Direction::Ingress, &decision.ingress, ingress)];
            for (direction, side, passed) in sides {
                match passed {
                    // Or it is judged on another node.
                    Passed::Open => {}
                    Passed::Admitted(id) => {
                        let by = if side.isolated_by.is_empty() { &side.audit_admits } else { &side.allowed_by };
                        for rule in rules(id) {
                            prop_assert!(by.contains(&rule), "{rule} is not among {by:?}");
                        }
                    }
                    Passed::Audited(policy) => {
                        prop_assert!(side.would_deny(), "{:?}", side);
                        let label = Label::Audited(direction, side.audited_by.clone());
                        prop_assert_eq!(table.labels.get(&policy.number()), Some(&label));
                    }
                }
            }
        }
        Verdict::Denied(direction, policy) => {
            let side = if direction == Direction::Egress { &decision.egress } else { &decision.ingress };
            prop_assert_eq!(table.labels.get(&policy.0), Some(&Label::Policies(direction, side.isolated_by.clone())));
        }
        Verdict::Spoofed | Verdict::Astray => prop_assert!(false, "{verdict:?} on the right way"),
        Verdict::Closed => prop_assert!(decision.egress.closed || decision.ingress.closed),
    }
    Ok(())
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(1500))]

    #[test]
    fn a_node_answers_what_the_oracle_decides_and_for_the_same_reason(cluster in cluster()) {
        for node in ["n1", "n2"] {
            let cluster = seen_from(&cluster, node);
            let table = compile(&cluster, node, &mut Ids::default());
            for (from, to, flow) in flows(&cluster) {
                let Some(packet) = packet(&cluster, node, from, to, &flow) else { continue };
                let decision = decide(&cluster, &flow);
                let verdict = table.lookup(&packet);
                prop_assert_eq!(verdict.accepts(), decision.allows_at(node), "{} {:?}: {:?}", node, flow, verdict);
                same_reason(&table, &decision, verdict)?;
                if decision.exempt.is_none() && verdict.accepts() {
                    let audits = |side: &Side| side.nodes.contains(node) && side.would_deny();
                    let audited = audits(&decision.egress) || audits(&decision.ingress);
                    prop_assert_eq!(verdict.is_audited(), audited, "{} {:?}: {:?}", node, flow, verdict);
                }
                if !packet.from_node {
                    prop_assert_eq!(table.lookup(&reply(&packet)), verdict, "the reply to {:?}", flow);
                }
            }
        }
    }

    #[test]
    fn an_address_keeps_to_its_interface_and_what_leaves_by_one_is_for_its_pod(
        cluster in cluster(),
        ways in proptest::collection::vec((0u32..6, 0u32..6, any::<bool>()), 1..8),
    ) {
        let table = compile(&cluster, "n1", &mut Ids::default());
        let bound: BTreeMap<IpAddr, u32> =
            addresses().into_iter().filter_map(|address| Some((address, bound_to(&cluster, address)?))).collect();
        let is_bound = |ifindex: u32| bound.values().any(|other| *other == ifindex);
        for ((from, to, flow), (comes_by, leaves_by, bridged)) in flows(&cluster).into_iter().zip(ways.into_iter().cycle()) {
            let Some(packet) = packet(&cluster, "n1", from, to, &flow).filter(|packet| !packet.from_node) else { continue };
            let packet = Packet { comes_by, leaves_by, bridged: bridged && leaves_by != 0, ..packet };
            let spoofed = bound.get(&from).map_or(is_bound(comes_by), |own| *own != comes_by);
            let elsewhere = |own: &u32| *own != leaves_by && (packet.bridged || is_bound(leaves_by));
            let expected = match (spoofed, bound.get(&to)) {
                (true, _) => Err(Verdict::Spoofed),
                (false, Some(own)) if elsewhere(own) => Err(Verdict::Astray),
                // Nobody sends to itself through somebody else's interface.
                (false, None) if is_bound(leaves_by) && from == to => continue,
                (false, None) if is_bound(leaves_by) => {
                    // Of the pod that is there, whatever the destination is; if more than one is there, it depends.
                    let there = bound.iter().filter(|(_, own)| **own == leaves_by).map(|(address, _)| *address);
                    let ends: BTreeSet<Option<Key>> = there.map(|address| match endpoint(&cluster, address) {
                        Endpoint::Pod(key, _) => Some(key),
                        _ => None,
                    }).collect();
                    let egress = decide(&cluster, &flow).egress;
                    let passes = |side: &Side| !side.nodes.contains("n1") || side.allows();
                    match Vec::from_iter(ends)[..] {
                        [None] if cluster.unknown == Unknown::Closed => Ok(false),
                        [Some(ref key)] => {
                            let ingress = decide(&cluster, &Flow { to: Endpoint::Pod(key.clone(), Some(to)), ..flow.clone() });
                            let closed = decide(&cluster, &flow).ingress;
                            Ok(passes(&egress) && passes(&ingress.ingress) && !(closed.closed && closed.nodes.contains("n1")))
                        }
                        _ => continue,
                    }
                }
                _ => Ok(decide(&cluster, &flow).allows_at("n1")),
            };
            let verdict = table.lookup(&packet);
            match expected {
                Err(expected) => prop_assert_eq!(verdict, expected, "{:?}", packet),
                Ok(passes) => prop_assert_eq!(verdict.accepts(), passes, "{:?} {:?}", packet, verdict),
            }
        }
    }

    #[test]
    fn a_flow_passes_if_and_only_if_every_node_lets_it(cluster in cluster()) {
        for (_, _, flow) in flows(&cluster) {
            let decision = decide(&cluster, &flow);
            // A pod that is bound to no node is judged by none.
            let judged = [&decision.egress, &decision.ingress].iter().all(|side| side.allows() || !side.nodes.is_empty());
            if judged {
                let everywhere = ["n1", "n2"].iter().all(|node| decision.allows_at(node));
                prop_assert_eq!(decision.allows(), everywhere, "{:?}", flow);
            }
        }
    }
}

/// Each point of a change list shows a packet that began in a generation the whole state of that generation.
fn no_transient(old: &Table, new: &Table, list: &[Change]) -> Result<Image, TestCaseError> {
    let mut image = Image::default();
    for change in changes(&Table::default(), old) {
        image.apply(&change);
    }
    let before = image.generation();
    let packets: Vec<Packet> = flows(&Cluster::default())
        .into_iter()
        .enumerate()
        .filter_map(|(number, (from, to, flow))| {
            // By every interface in turn: those that are bound change, too.
            let ways = |number: usize| [0, 1, 2, 3, 4, UPLINK][number % 6];
            let packet = packet(&Cluster::default(), "none", from, to, &flow)?;
            Some(Packet { comes_by: ways(number), leaves_by: ways(number / 6), bridged: number % 4 == 0, ..packet })
        })
        .collect();
    let answers = |table: &Table| packets.iter().map(|p| table.lookup(p)).collect::<Vec<_>>();
    let (in_old, in_new) = (answers(old), answers(new));
    for (at, change) in list.iter().enumerate() {
        image.apply(change);
        let published = image.generation() > before;
        let waited = list[..=at].contains(&Change::Wait);
        if !waited {
            prop_assert_eq!(&answers(&image.at(before)), &in_old, "step {} of {:?}", at, list);
        }
        if published {
            prop_assert_eq!(&answers(&image.at(image.generation())), &in_new, "step {} of {:?}", at, list);
        }
    }
    Ok(image)
}

fn without_labels(table: &Table) -> Table {
    Table { labels: Default::default(), ..table.clone() }
}

proptest! {
    #![proptest_config(config(120))]

    #[test]
    fn every_packet_sees_the_whole_old_state_or_the_whole_new_one(clusters in proptest::collection::vec(cluster(), 2..4)) {
        let mut state = State::new(Name::from("n1"), settings(&clusters[0]), Table::default());
        for next in clusters {
            let old = state.table().clone();
            let cluster = with_settings(next, state.cluster());
            let list = state.apply(events(state.cluster(), &cluster));
            state.confirm();
            let image = no_transient(&old, state.table(), &list)?;
            prop_assert_eq!(image.at(image.generation()), without_labels(state.table()));
        }
    }

    #[test]
    fn a_new_agent_leads_from_what_it_finds_without_a_transient(first in cluster(), second in cluster()) {
        let found = without_labels(&compile(&first, "n1", &mut Ids::default()));
        let mut state = State::new(Name::from("n1"), settings(&second), found.clone());
        let list = state.apply(events(state.cluster(), &second));
        state.confirm();
        no_transient(&found, state.table(), &list)?;
    }

    #[test]
    fn a_refused_change_is_made_good_by_the_next_one(clusters in proptest::collection::vec(cluster(), 3..4)) {
        let mut state = State::new(Name::from("n1"), Cluster::default(), Table::default());
        state.apply(events(&Cluster::default(), &clusters[0]));
        state.confirm();
        let old = state.table().clone();
        state.apply(events(state.cluster(), &clusters[1]));
        let list = state.apply(events(state.cluster(), &clusters[2]));
        state.confirm();
        no_transient(&old, state.table(), &list)?;
    }

    #[test]
    fn event_by_event_the_table_is_what_a_compile_from_scratch_makes(clusters in proptest::collection::vec(cluster(), 2..5)) {
        let mut state = State::new(Name::from("n1"), settings(&clusters[0]), Table::default());
        let mut image = Image::default();
        for next in clusters {
            let next = with_settings(next, state.cluster());
            for event in events(state.cluster(), &next) {
                let list = state.apply([event.clone()]);
                let fresh = compile(state.cluster(), "n1", &mut state.ids().clone());
                prop_assert_eq!(state.table(), &fresh, "after {:?}", event);
                for address in addresses() {
                    prop_assert_eq!(state.endpoint(address), endpoint(state.cluster(), address), "after {:?}", event);
                }
                list.iter().for_each(|change| image.apply(change));
                state.confirm();
                prop_assert_eq!(&image.at(image.generation()), &without_labels(&fresh), "after {:?}", event);
            }
        }
    }

    #[test]
    fn nothing_is_told_to_the_kernel_when_nothing_changes(cluster in cluster()) {
        let mut state = State::new(Name::from("n1"), Cluster::default(), Table::default());
        state.apply(events(&Cluster::default(), &cluster));
        state.confirm();
        prop_assert_eq!(state.apply([]), vec![]);
    }
}
