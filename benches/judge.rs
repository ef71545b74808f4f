//! What one review costs the webhook without its network: bytes in, bytes out. Beside it a judge that finds nothing.

#![allow(clippy::unwrap_used, reason = "a review that is one")]

use criterion::{Criterion, criterion_group, criterion_main};
use ringfence::{
    admission::{Hook, Service, View, review::Review},
    catalogue::Catalogue,
    k8s::reading::Reading,
};
use std::hint::black_box;

#[path = "../tests/it/thousand.rs"]
mod thousand;

fn benches(criterion: &mut Criterion) {
    let view = View::default();
    view.take(Reading::Whole(thousand::cluster().into()));
    let body = thousand::review().to_string();
    let mut group = criterion.benchmark_group("a policy of 2 KB, 10,000 pods");
    for (name, service) in [("judged", Service::by(Catalogue::default())), ("let in", Service::new(|_| vec![]))] {
        let service = service.with_view(view.clone());
        group.bench_function(name, |b| b.iter(|| answered(&service, body.as_bytes())));
    }
    group.finish();
}

fn answered(service: &Service, body: &[u8]) -> Vec<u8> {
    let decision = service.decide(Hook::Validate, &Review::parse(black_box(body)).unwrap()).unwrap();
    serde_json::to_vec(&decision.answer).unwrap()
}

criterion_group!(all, benches);
criterion_main!(all);
