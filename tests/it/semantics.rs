//! `decide`, `compile` + `lookup` and the change list give one answer, on random clusters.

use crate::clusters::{ADDRESSES, PORTS, cluster, events, policy_event, seen_from, settings, with_settings};
use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
    strategy::ValueTree,
    test_runner::TestRunner,
};
use ringfence::policy::{
    baseline,
    change::{Change, Image, changes},
    cluster::{ANTI_SPOOFING, Cluster, Event, Unknown},
    compile::{Ids, compile},
    decide::{Decision, Endpoint, Exempt, Flow, Side, decide, endpoint},
    model::*,
    selector::{Requirement, Selector, Test},
    state::State,
    table::{Label, Packet, Passed, RuleId, Table, Verdict},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

/// An interface that nothing is bound to.
const UPLINK: u32 = 99;
/// How many flows or packets are looked at in each case.
const EACH: usize = 12;

fn addresses() -> Vec<IpAddr> {
    ADDRESSES.iter().map(|a| a.parse().unwrap()).collect()
}

/// Who asks whom, for which protocol and port.
type Asked = (IpAddr, IpAddr, u8, u16);

/// A cluster, and flows between addresses of one family: those of its pods most, and port 80 of TCP.
fn case() -> impl Strategy<Value = (Cluster, Vec<Asked>)> {
    let port = prop_oneof![
        3 => Just((6, 80)),
        6 => (select(&[6, 17, 132][..]), select(&PORTS[..])),
        1 => Just((1, 0)),
    ];
    let end = || (any::<Index>(), prop::bool::weighted(0.75));
    (cluster(), vec((end(), end(), prop::bool::weighted(0.35), port), EACH)).prop_map(|(cluster, flows)| {
        let asked = flows.into_iter().map(|(from, to, ipv6, (protocol, port))| {
            let find = |(index, of_pod): (Index, bool)| {
                let family = |address: &IpAddr| address.is_ipv6() == ipv6;
                let of_pods = cluster.pods.values().flat_map(|pod| pod.addresses.clone());
                let mut found: Vec<IpAddr> = of_pods.filter(|address| of_pod && family(address)).collect();
                if found.is_empty() {
                    found = addresses().into_iter().filter(family).collect();
                }
                *index.get(&found)
            };
            (find(from), find(to), protocol, port)
        });
        let asked = asked.collect();
        (cluster, asked)
    })
}

fn flow(cluster: &Cluster, (from, to, protocol, port): Asked) -> Flow {
    Flow { from: endpoint(cluster, from), to: endpoint(cluster, to), protocol, port }
}

fn any_asked() -> impl Strategy<Value = Asked> {
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = addresses().into_iter().partition(IpAddr::is_ipv4);
    let pair = |of: Vec<IpAddr>| (select(of.clone()), select(of));
    let port = prop_oneof![1 => Just((6, 80)), 2 => (select(&[6, 17, 132][..]), select(&PORTS[..])), 1 => Just((1, 0))];
    (prop_oneof![2 => pair(v4), 1 => pair(v6)], port)
        .prop_map(|((from, to), (protocol, port))| (from, to, protocol, port))
}

/// A packet on any way.
fn travelling() -> impl Strategy<Value = Packet> {
    let interface = || select(&[0, 1, 2, 3, 4, UPLINK][..]);
    (any_asked(), any::<bool>(), interface(), interface(), any::<bool>()).prop_map(
        |((source, destination, protocol, port), reply, comes_by, leaves_by, bridged)| Packet {
            from_node: false,
            comes_by,
            leaves_by,
            bridged: bridged && leaves_by != 0,
            reply,
            source,
            destination,
            protocol,
            source_port: port,
            destination_port: port,
        },
    )
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

/// So many cases; as many as `PROPTEST_CASES` says where that is set.
fn config(cases: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(cases);
    // Sets of few things reject what is in them already, now and then.
    ProptestConfig { cases, max_local_rejects: 10 * cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(100_000))]

    #[test]
    fn a_node_answers_what_the_oracle_decides_and_for_the_same_reason(
        (cluster, asked) in case(),
    ) {
        for node in ["n1", "n2"] {
            let cluster = seen_from(&cluster, node);
            let table = compile(&cluster, node, &mut Ids::default());
            for asked in &asked {
                let flow = flow(&cluster, *asked);
                let Some(packet) = packet(&cluster, node, asked.0, asked.1, &flow) else { continue };
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

}

proptest! {
    #![proptest_config(config(100_000))]

    #[test]
    fn an_address_keeps_to_its_interface_and_what_leaves_by_one_is_for_its_pod(
        cluster in cluster(),
        packets in vec(travelling(), EACH),
    ) {
        let table = compile(&cluster, "n1", &mut Ids::default());
        let bound: BTreeMap<IpAddr, u32> =
            addresses().into_iter().filter_map(|address| Some((address, bound_to(&cluster, address)?))).collect();
        let is_bound = |ifindex: u32| bound.values().any(|other| *other == ifindex);
        for packet in packets {
            let Packet { source: from, destination: to, comes_by, leaves_by, .. } = packet;
            let asked = (from, to, packet.protocol, packet.destination_port);
            let flow = flow(&cluster, asked);
            let is_here = |end: &Endpoint| matches!(end, Endpoint::Node(name, _) if name.as_ref() == "n1");
            if is_here(&flow.from) || is_here(&flow.to) {
                continue;
            }
            let packet = Packet { reply: false, ..packet };
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
    fn a_flow_passes_if_and_only_if_every_node_lets_it((cluster, asked) in case()) {
        for asked in asked {
            let flow = flow(&cluster, asked);
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
fn no_transient(old: &Table, new: &Table, list: &[Change], packets: &[Packet]) -> Result<Image, TestCaseError> {
    let mut image = Image::default();
    for change in changes(&Table::default(), old) {
        image.apply(&change);
    }
    let before = image.generation();
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
    #![proptest_config(config(100_000))]

    #[test]
    fn every_packet_sees_the_whole_old_state_or_the_whole_new_one(
        clusters in vec(cluster(), 2..4),
        packets in vec(travelling(), 2 * EACH),
    ) {
        let mut state = State::new(Name::from("n1"), settings(&clusters[0]), Table::default());
        for next in clusters {
            let old = state.table().clone();
            let cluster = with_settings(next, state.cluster());
            let list = state.apply(events(state.cluster(), &cluster));
            state.confirm();
            let image = no_transient(&old, state.table(), &list, &packets)?;
            prop_assert_eq!(image.at(image.generation()), without_labels(state.table()));
        }
    }

    #[test]
    fn a_new_agent_leads_from_what_it_finds_without_a_transient(
        first in cluster(),
        second in cluster(),
        packets in vec(travelling(), 2 * EACH),
    ) {
        let found = without_labels(&compile(&first, "n1", &mut Ids::default()));
        let mut state = State::new(Name::from("n1"), settings(&second), found.clone());
        let list = state.apply(events(state.cluster(), &second));
        state.confirm();
        no_transient(&found, state.table(), &list, &packets)?;
    }

    #[test]
    fn a_refused_change_is_made_good_by_the_next_one(
        clusters in vec(cluster(), 3..4),
        packets in vec(travelling(), 2 * EACH),
    ) {
        let mut state = State::new(Name::from("n1"), Cluster::default(), Table::default());
        state.apply(events(&Cluster::default(), &clusters[0]));
        state.confirm();
        let old = state.table().clone();
        state.apply(events(state.cluster(), &clusters[1]));
        let list = state.apply(events(state.cluster(), &clusters[2]));
        state.confirm();
        no_transient(&old, state.table(), &list, &packets)?;
    }
}

proptest! {
    #![proptest_config(config(20_000))]

    #[test]
    fn event_by_event_the_table_is_what_a_compile_from_scratch_makes(clusters in vec(cluster(), 2..5)) {
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
    fn policies_that_come_change_and_go_leave_the_table_that_a_compile_from_scratch_makes(
        cluster in cluster(),
        policies in vec(vec(policy_event(), 1..3), 1..12),
    ) {
        let mut state = State::new(Name::from("n1"), settings(&cluster), Table::default());
        state.apply(events(state.cluster(), &cluster));
        state.confirm();
        for events in policies {
            state.apply(events.clone());
            let fresh = compile(state.cluster(), "n1", &mut state.ids().clone());
            prop_assert_eq!(state.table(), &fresh, "after {:?}", events);
            state.confirm();
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

/// Numbers are taken back now and then, many changes apart.
#[test]
fn what_stays_keeps_its_numbers_through_thousands_of_changes_of_others() {
    let equals = |value: &str| Selector::from_iter([Requirement::equals("app", value)]);
    let pod = |name: &str, address: [u8; 4], node: &str| {
        let labels = Labels::from_iter([("app", name)]);
        let pod = Pod { labels, addresses: vec![address.into()], node: Some(node.into()), ..Pod::default() };
        Event::Pod(Key::new("shop", name), Some(pod))
    };
    let policy = |name: &str, admitted: &str| {
        let peers = vec![Peer::Pods { namespaces: None, pods: equals(admitted) }];
        let ingress = Some(vec![Rule { peers, ports: vec![] }]);
        let policy = NetworkPolicy { selector: equals("server"), ingress, ..NetworkPolicy::default() };
        Event::Policy(Key::new("shop", name), Some(policy))
    };
    let mut state = State::new("n1".into(), Cluster::default(), Table::default());
    state.apply([Event::Namespace("shop".into(), Some(Namespace::default()))]);
    state.apply([pod("server", [10, 1, 0, 1], "n1"), pod("client", [10, 1, 0, 2], "n2"), policy("stays", "client")]);
    state.confirm();
    for change in 0..3_000 {
        let admitted = format!("other-{change}");
        state.apply([policy("changes", &admitted), pod("other", [10, 1, 0, 3], "n2")]);
        state.confirm();
        let fresh = compile(state.cluster(), "n1", &mut state.ids().clone());
        assert_eq!(*state.table(), fresh, "after {change} changes");
    }
    let highest = state.table().labels.keys().max().copied().unwrap_or_default();
    assert!(highest < 3_000, "numbers that nothing uses were never given again: {highest}");
}

/// A case that never comes is not tested: each of these must come often enough among so many clusters, flows asked of each.
#[test]
fn the_random_clusters_meet_every_row_of_the_semantics() {
    const CASES: usize = 4_000;
    let mut runner = TestRunner::deterministic();
    let mut met: BTreeMap<&str, usize> = BTreeMap::new();
    for _ in 0..CASES {
        let (cluster, asked) = case().new_tree(&mut runner).unwrap().current();
        for what in asked.into_iter().flat_map(|asked| rows(&cluster, asked)).collect::<BTreeSet<_>>() {
            *met.entry(what).or_default() += 1;
        }
    }
    println!("of {CASES} cases: {met:#?}");
    let rare: Vec<_> = ROWS.iter().filter(|row| met.get(*row).copied().unwrap_or(0) * 2_000 < CASES).collect();
    assert!(rare.is_empty(), "hardly ever: {rare:?} of {met:#?}");
}

const ROWS: [&str; 31] = [
    "denied at the source",
    "denied at the destination",
    "admitted by rules at both ends",
    "closed",
    "to itself",
    "to or from its own node",
    "a port name in ingress decides",
    "a port name in egress decides",
    "a port name means two numbers",
    "a range decides",
    "every TCP port",
    "an except decides",
    "a CIDR that is not canonical decides",
    "any address holds a pod",
    "a pod in an ipBlock",
    "NotIn on an absent key decides",
    "namespaces by kubernetes.io/metadata.name",
    "namespaces and pods together",
    "a policy that selects nothing",
    "a namespace that is not known",
    "a pod that has finished",
    "a pod of the host network",
    "two pods with one address",
    "a pod of two families",
    "an address on an interface",
    "an address whose pod is not known",
    "IPv6",
    "would be denied by a policy in audit",
    "a baseline isolates",
    "a baseline admits beyond the labels of the resolver",
    "a rule without ports admits ICMP",
];

/// What a case is a case of.
fn rows(cluster: &Cluster, asked: Asked) -> Vec<&'static str> {
    let flow = flow(cluster, asked);
    let decision = decide(cluster, &flow);
    let mut rows = Vec::new();
    let mut row = |name: &'static str, holds: bool| rows.extend(holds.then_some(name));
    row("denied at the source", !decision.egress.closed && !decision.egress.allows());
    row("denied at the destination", !decision.ingress.closed && !decision.ingress.allows());
    let both = [&decision.egress, &decision.ingress].iter().all(|side| !side.allowed_by.is_empty());
    row("admitted by rules at both ends", both);
    row("closed", decision.egress.closed || decision.ingress.closed);
    row("to itself", decision.exempt == Some(Exempt::OwnPod));
    row("to or from its own node", decision.exempt == Some(Exempt::OwnNode));
    row("IPv6", !asked.0.is_ipv4());
    row("would be denied by a policy in audit", decision.would_deny());
    let baseline = |key: &Key| key.name.as_ref() == baseline::POLICY_NAME;
    row("a baseline isolates", decision.egress.isolated_by.iter().chain(&decision.ingress.isolated_by).any(baseline));

    let beyond = decision.egress.allowed_by.iter().any(|rule| baseline(&rule.policy) && rule.rule > 0);
    row("a baseline admits beyond the labels of the resolver", beyond);

    // Without what is in question the answer would be another one.
    let matters = |change: &dyn Fn(&mut Rule)| {
        let mut other = cluster.clone();
        for policy in other.policies.values_mut() {
            policy.ingress.iter_mut().chain(&mut policy.egress).flatten().for_each(change);
        }
        decide(&other, &flow).allows() != decision.allows()
    };
    let without_ports = |name: &dyn Fn(&PortSpec) -> bool| {
        matters(&|rule| {
            let had = !rule.ports.is_empty();
            rule.ports.retain(|port| !name(&port.port));
            if had && rule.ports.is_empty() {
                // Not "any port".
                rule.ports.push(PortMatch { protocol: Protocol::Sctp, port: PortSpec::Named("nobody".into()) });
            }
        })
    };
    let of_end = |end: &Endpoint| match end {
        Endpoint::Pod(key, _) => cluster.pods.get(key).map(|pod| (key.clone(), pod.clone())),
        _ => None,
    };
    let named = without_ports(&|port| matches!(port, PortSpec::Named(_)));
    row("a port name in ingress decides", named && !decision.ingress.allowed_by.is_empty());
    row("a port name in egress decides", named && !decision.egress.allowed_by.is_empty());
    let numbers = |name: &str| -> BTreeSet<u16> {
        cluster.pods.values().flat_map(|pod| pod.named_ports(name, Protocol::Tcp).collect::<Vec<_>>()).collect()
    };
    row("a port name means two numbers", named && (numbers("http").len() > 1 || numbers("dns").len() > 1));
    row("a range decides", without_ports(&|port| matches!(port, PortSpec::Range(a, b) if a < b && *b < u16::MAX)));
    row("every TCP port", flow.protocol == 6 && without_ports(&|port| *port == PortSpec::ALL));
    let blocks = |rule: &mut Rule, change: &dyn Fn(&mut Block)| {
        for peer in &mut rule.peers {
            if let Peer::Block(block) = peer {
                change(block);
            }
        }
    };
    row("an except decides", matters(&|rule| blocks(rule, &|block| block.except.clear())));
    let nowhere = |block: &mut Block| block.cidr = "203.0.113.0/32".parse().unwrap();
    let odd = |block: &mut Block| {
        if block.cidr != block.cidr.trunc() {
            nowhere(block)
        }
    };
    row("a CIDR that is not canonical decides", matters(&|rule| blocks(rule, &odd)));
    let any = |block: &mut Block| {
        if block.cidr.prefix_len() == 0 {
            nowhere(block)
        }
    };
    let pods = of_end(&flow.from).is_some() && of_end(&flow.to).is_some();
    row("any address holds a pod", pods && matters(&|rule| blocks(rule, &any)));
    row("a pod in an ipBlock", pods && matters(&|rule| blocks(rule, &nowhere)));
    let selectors = |change: &dyn Fn(&Selector) -> Selector, of_namespaces: bool| {
        matters(&|rule| {
            for peer in &mut rule.peers {
                if let Peer::Pods { namespaces, pods } = peer {
                    match (of_namespaces, namespaces) {
                        (true, Some(namespaces)) => *namespaces = change(namespaces),
                        (true, None) => {}
                        (false, _) => *pods = change(pods),
                    }
                }
            }
        })
    };
    let needs_key = |selector: &Selector| {
        let with_key = |requirement: &Requirement| {
            let exists = Requirement { key: requirement.key.clone(), test: Test::Exists };
            let negative = matches!(requirement.test, Test::NotIn(_));
            std::iter::once(requirement.clone()).chain(negative.then_some(exists)).collect::<Vec<_>>()
        };
        selector.requirements().flat_map(with_key).collect()
    };
    row("NotIn on an absent key decides", selectors(&needs_key, false));
    let unnamed = |selector: &Selector| {
        selector.requirements().filter(|r| r.key.as_ref() != baseline::NAMESPACE_NAME).cloned().collect()
    };
    row("namespaces by kubernetes.io/metadata.name", selectors(&unnamed, true));
    row("namespaces and pods together", selectors(&|_| Selector::everything(), true));
    let selects = |policy: &NetworkPolicy| cluster.pods.values().any(|pod| policy.selector.matches(&pod.labels));
    row("a policy that selects nothing", cluster.policies.values().any(|policy| !selects(policy)));
    let ends: Vec<_> = [&flow.from, &flow.to].into_iter().filter_map(of_end).collect();
    row("a namespace that is not known", ends.iter().any(|(key, _)| !cluster.namespaces.contains_key(&key.namespace)));
    let at = |test: &dyn Fn(&Pod) -> bool| {
        cluster.pods.values().any(|pod| test(pod) && [asked.0, asked.1].iter().any(|a| pod.addresses.contains(a)))
    };
    row("a pod that has finished", at(&|pod| pod.finished));
    row("a pod of the host network", at(&|pod| pod.host_network));
    row("two pods with one address", cluster.pods_at(asked.1).len() > 1);
    row("a pod of two families", ends.iter().any(|(_, pod)| pod.addresses.len() > 1));
    row("an address on an interface", ends.len() == 2 && cluster.attachments.contains_key(&asked.1));
    let unknown = cluster.attachments.contains_key(&asked.1) && matches!(flow.to, Endpoint::Address(_));
    row("an address whose pod is not known", unknown);
    let elsewhere = |(key, _): &(Key, Pod)| cluster.seen_elsewhere(asked.1).any(|(seen, _)| seen == key);
    row("an address that only the pod's node knows", ends.last().is_some_and(elsewhere) && !claimed(cluster, asked.1));
    row("a rule without ports admits ICMP", flow.protocol == 1 && decision.allows() && both);
    rows
}

fn claimed(cluster: &Cluster, address: IpAddr) -> bool {
    cluster.pods.values().any(|pod| pod.is_endpoint() && pod.addresses.contains(&address))
}
