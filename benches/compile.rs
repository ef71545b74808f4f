//! What a node's agent computes: a full compile of a large cluster, and one pod event in it.
//!
//! 100,000 pods in 5,000 namespaces, 10,000 policies, for one node with 110 pods.

#![allow(clippy::unwrap_used, reason = "constants that parse")]

use criterion::{Criterion, criterion_group, criterion_main};
use large::{NODE, cluster, pod};
use ringfence::policy::{
    cluster::{Cluster, Event},
    compile::{Ids, compile},
    state::State,
    table::Table,
};
use std::hint::black_box;

#[path = "../tests/it/large.rs"]
mod large;

fn benches(criterion: &mut Criterion) {
    let cluster = cluster();
    let mut group = criterion.benchmark_group("100,000 pods, 10,000 policies");
    group.sample_size(10);
    group.bench_function("compile", |b| b.iter(|| black_box(compile(&cluster, NODE, &mut Ids::default()))));

    let mut state = State::new(NODE.into(), Cluster::default(), Table::default());
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
