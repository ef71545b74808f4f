//! `decide`, `compile` + `lookup` and the change list give one answer, on random clusters.

use crate::clusters::{ADDRESSES, PORTS, cluster, events, seen_from, settings, with_settings};
use proptest::prelude::*;
use ringfence::policy::{
    change::{Change, Image, changes},
    cluster::Cluster,
    compile::{Ids, compile},
    decide::{Decision, Endpoint, Flow, Side, decide, endpoint},
    model::{Direction, Name},
    state::State,
    table::{Label, Packet, Passed, RuleId, Table, Verdict},
};
use std::net::IpAddr;

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

/// The packet of a flow as a node's hook sees it; none if it never gets there.
fn packet(node: &str, from: IpAddr, to: IpAddr, flow: &Flow) -> Option<Packet> {
    let is_node = |end: &Endpoint| matches!(end, Endpoint::Node(name, _) if name.as_ref() == node);
    (!is_node(&flow.to)).then(|| Packet {
        from_node: is_node(&flow.from),
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
                let Some(packet) = packet(node, from, to, &flow) else { continue };
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
    let packets: Vec<Packet> =
        flows(&Cluster::default()).into_iter().filter_map(|(from, to, flow)| packet("none", from, to, &flow)).collect();
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
