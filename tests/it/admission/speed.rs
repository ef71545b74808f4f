//! What judging costs: measurements, no verdicts. `make bench` runs them.
//!
//! In memory, without sockets and TLS, so that the share of judging is as large as it can be.

use super::{post, review};
use ringfence::{
    admission::{
        Service, View,
        metrics::Metrics,
        router::{State, router},
    },
    catalogue::Catalogue,
    k8s::reading::Reading,
    policy::{
        baseline::Baseline,
        cluster::{Cluster, Event},
        model::{Key, Labels, Namespace, NetworkPolicy, Pod},
    },
    telemetry,
};
use serde_json::{Value, json};
use std::{
    fs,
    time::{Duration, Instant},
};
use tower::ServiceExt;

/// A thousand namespaces with ten pods and one policy each.
fn thousand() -> Cluster {
    let mut cluster = Cluster::default();
    for namespace in 0..1000 {
        let name = format!("team-{namespace}");
        let labels = Labels::from_iter([("kubernetes.io/metadata.name", name.as_str()), ("team", "a")]);
        cluster.apply(Event::Namespace(name.as_str().into(), Some(Namespace { labels, ..Namespace::default() })));
        for pod in 0..10 {
            let labels = Labels::from_iter([("app", format!("app-{pod}")), ("pod", format!("{namespace}-{pod}"))]);
            let pod_key = Key::new(name.as_str(), format!("app-{pod}"));
            cluster.apply(Event::Pod(pod_key, Some(Pod { labels, ..Pod::default() })));
        }
        let policy = NetworkPolicy { ingress: Some(vec![]), ..NetworkPolicy::default() };
        cluster.apply(Event::Policy(Key::new(name.as_str(), "deny"), Some(policy)));
    }
    cluster
}

/// A policy of two kilobytes, as people write them.
fn asking() -> Value {
    let rule = |app: usize, port: u16| {
        json!({"from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "team-7"}},
            "podSelector": {"matchLabels": {"app": format!("app-{app}")}}}], "ports": [{"protocol": "TCP", "port": port}]})
    };
    let rules: Vec<Value> = (0..8).map(|n| rule(n, 8000 + u16::try_from(n).unwrap())).collect();
    let object = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "db", "namespace": "team-3"},
        "spec": {"podSelector": {"matchLabels": {"app": "app-1"}}, "policyTypes": ["Ingress"], "ingress": rules}});
    let mut asking = review("CREATE", Some(object), None);
    asking["request"]["namespace"] = json!("team-3");
    asking
}

fn resident() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap() * 4 / 1024
}

#[tokio::test]
#[ignore = "a measurement"]
async fn judging_against_allowing() {
    let before = resident();
    let view = View::new(Baseline::Off);
    view.take(Reading::Whole(thousand()));
    println!("1,000 namespaces and 10,000 pods: {} MiB resident more", resident() - before);
    let of = |service: Service| router(State::new(service, Metrics::register(&mut telemetry::registry()), 256));
    let (judging, allowing) = (of(Service::by(Catalogue::default()).with_view(view)), of(Service::new(|_| Vec::new())));
    let body = asking().to_string();
    println!("a review of {} bytes", body.len());
    let mut ratios = Vec::new();
    for _ in 0..9 {
        let mut rates = [0.0; 2];
        let mut slowest = Vec::new();
        for (rate, router) in rates.iter_mut().zip([&judging, &allowing]) {
            let start = Instant::now();
            for _ in 0..2000 {
                let one = Instant::now();
                let response = router.clone().oneshot(post("/validate", body.clone())).await.unwrap();
                assert!(response.status().is_success());
                slowest.push(one.elapsed());
            }
            *rate = 2000.0 / start.elapsed().as_secs_f64();
        }
        let mut judged: Vec<Duration> = slowest[..2000].to_vec();
        judged.sort_unstable();
        println!(
            "judging {:.0}/s, allowing {:.0}/s, ratio {:.2}; p99 of judging {:?}",
            rates[0],
            rates[1],
            rates[0] / rates[1],
            judged[1980]
        );
        ratios.push(rates[0] / rates[1]);
    }
    ratios.sort_by(f64::total_cmp);
    println!("ratio: median {:.2}, from {:.2} to {:.2}", ratios[4], ratios[0], ratios[8]);
}
