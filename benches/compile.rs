//! What a node's agent computes: a full compile of a large cluster, and one event in it. For a node with 110 pods.

#![allow(clippy::unwrap_used, reason = "constants that parse, and pods that are there")]

use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime};
use large::{LARGE, MEDIUM, NODE, Size};
use ringfence::policy::{
    cluster::{Cluster, Event},
    compile::{Ids, compile},
    model::{Block, Key, Labels, Namespace, NetworkPolicy, Peer, Pod, PortMatch, PortSpec, Protocol, Rule},
    selector::{Requirement, Selector},
    state::State,
    table::Table,
};
use std::hint::black_box;

#[path = "../tests/it/large.rs"]
mod large;

fn benches(criterion: &mut Criterion) {
    of_size(criterion.benchmark_group("100,000 pods, 10,000 policies"), &LARGE);
    of_size(criterion.benchmark_group("5,000 pods, 1,000 policies"), &MEDIUM);
    of_one_pod(criterion.benchmark_group("301 policies that select the same pod"));
}

/// What one of many policies of a pod costs when it changes: it admits a client, or somebody else.
fn of_one_pod(mut group: BenchmarkGroup<'_, WallTime>) {
    let equals = |value: &str| Selector::from_iter([Requirement::equals("app", value)]);
    let policy = |number: usize, admitted: &str| {
        let peers = vec![Peer::Pods { namespaces: None, pods: equals(admitted) }];
        let ingress = Some(vec![Rule { peers, ports: vec![] }]);
        let policy = NetworkPolicy { selector: equals("server"), ingress, ..NetworkPolicy::default() };
        Event::Policy(Key::new("shop", format!("p{number}")), Some(policy))
    };
    let pod = |name: &str, last: u8, node: &str| {
        let labels = Labels::from_iter([("app", name)]);
        let addresses = vec![std::net::Ipv4Addr::new(10, 0, 0, last).into()];
        Event::Pod(Key::new("shop", name), Some(Pod { labels, addresses, node: Some(node.into()), ..Pod::default() }))
    };
    let mut state = State::new(NODE.into(), Cluster::default(), Table::default());
    state.apply([Event::Namespace("shop".into(), Some(Namespace::default()))]);
    state.apply([pod("server", 1, NODE), pod("client", 2, "another")]);
    state.apply((0..301).map(|number| policy(number, &format!("other-{number}"))));
    state.confirm();
    let events = ["client", "nobody"].map(|admitted| policy(0, admitted));
    let mut turn = events.iter().cycle();
    group.bench_function("one of them changes", |b| {
        b.iter(|| {
            let changes = state.apply(turn.next().cloned());
            state.confirm();
            black_box(changes)
        })
    });
    group.finish();
}

fn of_size(mut group: BenchmarkGroup<'_, WallTime>, size: &Size) {
    let cluster = size.cluster();
    group.sample_size(10);
    group.bench_function("compile", |b| b.iter(|| black_box(compile(&cluster, NODE, &mut Ids::default()))));

    let mut state = State::new(NODE.into(), Cluster::default(), Table::default());
    state.apply(Cluster::default().events_to(cluster.clone()));
    state.confirm();
    let mut turns = |what, events: [Event; 2]| {
        let mut turn = events.iter().cycle();
        group.bench_function(what, |b| {
            b.iter(|| {
                let changes = state.apply(turn.next().cloned());
                state.confirm();
                black_box(changes)
            })
        });
    };

    let (key, pod) = size.pod(3, 3);
    let mut moved = pod.clone();
    moved.addresses = vec![std::net::Ipv4Addr::new(10, 200, 0, 1).into()];
    turns("one pod event", [pod, moved].map(|pod| Event::Pod(key.clone(), Some(pod))));

    let (key, policy) = of_a_pod_here(&cluster);
    let event = |rule: Rule| {
        let mut policy = policy.clone();
        policy.ingress.get_or_insert_default().push(rule);
        Event::Policy(key.clone(), Some(policy))
    };
    let port = |number| PortMatch { protocol: Protocol::Tcp, port: PortSpec::Range(number, number) };
    let on = |number| Rule { peers: vec![], ports: vec![port(number)] };
    turns("one policy event", [on(81), on(82)].map(event));

    // Pods that nobody names before: each of them, all over the cluster, is another identity then.
    let equals = |key, value| Selector::from_iter([Requirement::equals(key, value)]);
    let pods = Peer::Pods { namespaces: Some(equals("team", "team-5")), pods: equals("app", "app-3") };
    let from = |peers| Rule { peers, ports: vec![port(83)] };
    turns("one policy event that tells more pods apart", [from(vec![]), from(vec![pods])].map(event));
    // Nobody tells all addresses apart from none until somebody says 0.0.0.0/0.
    let all = Peer::Block(Block { cidr: "0.0.0.0/0".parse().unwrap(), except: vec![] });
    turns("one policy event that is the first, or last, to say 0.0.0.0/0", [from(vec![]), from(vec![all])].map(event));
    group.finish();
}

/// A policy that isolates a pod of the node.
fn of_a_pod_here(cluster: &Cluster) -> (Key, NetworkPolicy) {
    let mut here = cluster.pods.iter().filter(|(_, pod)| pod.node.as_deref() == Some(NODE));
    let found = here.find_map(|(of, pod)| {
        let mut policies = cluster.policies.iter().filter(|(key, _)| key.namespace == of.namespace);
        policies.find(|(_, policy)| policy.selector.matches(&pod.labels))
    });
    let (key, policy) = found.unwrap();
    (key.clone(), policy.clone())
}

criterion_group!(all, benches);
criterion_main!(all);
