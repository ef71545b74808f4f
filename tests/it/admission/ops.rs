//! The ops listener, in memory.

use super::{findings, policy, post, review, text, wrong_policy};
use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use ringfence::{
    admission::{
        metrics::Metrics,
        ops::{self, Readiness},
        router::{State, router},
    },
    telemetry,
};
use serde_json::json;
use std::sync::Arc;
use tower::ServiceExt;

fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

#[tokio::test]
async fn ready_is_who_takes_reviews_and_healthy_who_answers() {
    let readiness = Readiness::default();
    let ops = ops::router(readiness.clone(), Arc::new(telemetry::registry()));
    let status = async |path| ops.clone().oneshot(get(path)).await.unwrap().status();
    assert_eq!(status("/healthz").await, StatusCode::OK);
    assert_eq!(status("/readyz").await, StatusCode::SERVICE_UNAVAILABLE);
    readiness.set(true);
    assert_eq!(status("/readyz").await, StatusCode::OK);
    readiness.set(false);
    assert_eq!(status("/readyz").await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(status("/validate").await, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn reviews_rules_and_refusals_are_counted_by_words_of_ours_only() {
    let mut registry = telemetry::registry();
    let metrics = Metrics::register(&mut registry);
    let webhook = router(State::new(super::service(findings), metrics, 1));
    let mut pod = review("CREATE", Some(json!({})), None);
    pod["request"]["kind"]["kind"] = json!("MadeUp");
    pod["request"]["operation"] = json!("INVENT");
    for (path, body) in [
        ("/validate", review("CREATE", Some(wrong_policy()), None).to_string()),
        ("/validate", review("DELETE", None, Some(wrong_policy())).to_string()),
        ("/mutate", review("CREATE", Some(policy(json!({"podSelector": {}}))), None).to_string()),
        ("/mutate", review("UPDATE", None, None).to_string()),
        ("/mutate", pod.to_string()),
        ("/mutate", String::new()),
    ] {
        webhook.clone().oneshot(post(path, body)).await.unwrap();
    }
    let ops = ops::router(Readiness::default(), Arc::new(registry));
    let metrics = text(ops.oneshot(get("/metrics")).await.unwrap()).await;
    let mut counted: Vec<&str> = metrics
        .lines()
        .filter(|line| !line.starts_with('#') && !line.contains("_bucket") && !line.contains("_sum"))
        .filter(|line| line.starts_with("ringfence_admission"))
        .collect();
    counted.sort_unstable();
    insta::assert_snapshot!("metrics", counted.join("\n"));
}
