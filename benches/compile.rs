//! What a node's agent computes: a full compile of a large cluster, and one pod event in it.
//!
//! 100,000 pods in 5,000 namespaces, 10,000 policies, for one node with 110 pods.

#![allow(clippy::unwrap_used, reason = "constants that parse")]

use criterion::{Criterion, criterion_group, criterion_main};
use ringfence::policy::{
    baseline::{Baseline, with_name_label},
    cluster::{Cluster, Event},
    compile::{Ids, compile},
    model::*,
    selector::{Requirement, Selector},
    state::State,
    table::Table,
};
use std::hint::black_box;

const NAMESPACES: u32 = 5_000;
const PODS: u32 = 20;
const NODES: u32 = 909;

fn equals(key: &str, value: &str) -> Selector {
    Selector::from_iter([Requirement::equals(key, value)])
}

fn pod(namespace: u32, number: u32) -> (Key, Pod) {
    let place = namespace * PODS + number;
    let labels = [("app".to_owned(), format!("app-{}", number % 4)), ("pod".to_owned(), number.to_string())];
    let pod = Pod {
        labels: Labels::from_iter(labels),
        node: Some(format!("node-{}", place % NODES).into()),
        addresses: vec![std::net::Ipv4Addr::from(0x0a00_0000 + place).into()],
        ..Pod::default()
    };
    (Key::new(format!("ns-{namespace}"), format!("pod-{number}")), pod)
}

/// Two policies a namespace: one app admits another, and a team's namespaces and a block are admitted on a range.
fn policies(namespace: u32) -> [(Key, NetworkPolicy); 2] {
    let port = |port| PortMatch { protocol: Protocol::Tcp, port };
    let near = Rule {
        peers: vec![Peer::Pods { namespaces: None, pods: equals("app", "app-0") }],
        ports: vec![port(PortSpec::Range(80, 80))],
    };
    let block = Block { cidr: format!("192.168.{}.0/24", namespace % 256).parse().unwrap(), except: vec![] };
    let far = Rule {
        peers: vec![
            Peer::Pods {
                namespaces: Some(equals("team", &format!("team-{}", namespace % 100))),
                pods: equals("app", "app-1"),
            },
            Peer::Block(block),
        ],
        ports: vec![port(PortSpec::Range(8000, 8999))],
    };
    let key = |name: &str| Key::new(format!("ns-{namespace}"), name);
    let policy = |app: &str, rule: Rule| NetworkPolicy {
        selector: equals("app", app),
        ingress: Some(vec![rule.clone()]),
        egress: Some(vec![rule]),
    };
    [(key("near"), policy("app-1", near)), (key("far"), policy("app-2", far))]
}

fn cluster() -> Cluster {
    let namespace = |n: u32| {
        let name = Name::from(format!("ns-{n}"));
        let labels = Labels::from_iter([("team".to_owned(), format!("team-{}", n % 100))]);
        (name.clone(), Namespace { labels: with_name_label(&name, labels), ..Namespace::default() })
    };
    Cluster {
        namespaces: (0..NAMESPACES).map(namespace).collect(),
        nodes: Default::default(),
        pods: (0..NAMESPACES).flat_map(|n| (0..PODS).map(move |p| pod(n, p))).collect(),
        policies: (0..NAMESPACES).flat_map(policies).collect(),
        baseline: Baseline::Off,
        ..Cluster::default()
    }
}

fn benches(criterion: &mut Criterion) {
    let cluster = cluster();
    let mut group = criterion.benchmark_group("100,000 pods, 10,000 policies");
    group.sample_size(10);
    group.bench_function("compile", |b| b.iter(|| black_box(compile(&cluster, "node-7", &mut Ids::default()))));

    let mut state = State::new("node-7".into(), Cluster::default(), Table::default());
    state.apply(Cluster::default().events_to(&cluster));
    state.confirm();
    let (key, value) = pod(3, 3);
    let mut moved = value.clone();
    moved.addresses = vec![std::net::Ipv4Addr::new(10, 200, 0, 1).into()];
    let mut turn = [value, moved].into_iter().cycle();
    group.bench_function("one pod event", |b| {
        b.iter(|| {
            let changes = state.apply([Event::Pod(key.clone(), turn.next())]);
            state.confirm();
            black_box(changes)
        })
    });
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
