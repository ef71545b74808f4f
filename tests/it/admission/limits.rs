//! What the webhook bears: large bodies, slow clients, crowds, and its own mistakes.

use super::{findings, policy, post, review, text, webhook, webhook_with, wrong_policy};
use axum::{
    body::{Body, Bytes},
    http::StatusCode,
};
use ringfence::admission::router::{BODY_LIMIT, CONCURRENCY};
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tower::ServiceExt;

/// A review, filled up with white space to a size.
fn padded(size: usize) -> Vec<u8> {
    let mut body = review("CREATE", Some(wrong_policy()), None).to_string().into_bytes();
    body.resize(size, b' ');
    body
}

/// A body of which nothing ever comes.
struct Never;

impl http_body::Body for Never {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

#[tokio::test]
async fn a_body_may_hold_two_large_objects_and_not_a_byte_more() {
    let at_limit = webhook().oneshot(post("/validate", padded(BODY_LIMIT))).await.unwrap();
    assert_eq!(at_limit.status(), StatusCode::OK);
    let above = webhook().oneshot(post("/validate", padded(BODY_LIMIT + 1))).await.unwrap();
    assert_eq!(above.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(text(above).await, "the body is larger than 7340032 bytes\n");
}

#[tokio::test]
async fn a_policy_of_two_large_lists_is_judged() {
    let peers: Vec<Value> = (0..30_000)
        .map(|n| json!({"to": [{"ipBlock": {"cidr": format!("10.{}.{}.0/24", n / 250, n % 250)}}]}))
        .collect();
    let mut changed = peers.clone();
    changed.push(json!({"to": [{"ipBlock": {"cidr": "10.0.0.0/33"}}]}));
    let spec = |egress: Vec<Value>| policy(json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": egress}));
    let body = review("UPDATE", Some(spec(changed)), Some(spec(peers))).to_string();
    assert!(body.len() > 2 * 1024 * 1024, "{} bytes are below the limit that axum sets by itself", body.len());
    let response = webhook().oneshot(post("/validate", body)).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(text(response).await.contains("has 1 error:"));
}

#[tokio::test]
async fn a_client_that_sends_nothing_is_let_go_in_the_time_it_gave() {
    let started = Instant::now();
    let response = webhook().oneshot(post("/validate?timeout=1s", Body::new(Never))).await.unwrap();
    assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_decision_that_takes_too_long_is_no_denial() {
    let mut slow = wrong_policy();
    slow["metadata"]["name"] = json!("slow");
    let asking = review("CREATE", Some(slow), None).to_string();
    let response = webhook().oneshot(post("/validate?timeout=1s", asking)).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn whoever_finds_no_place_is_sent_away_at_once() {
    let webhook = webhook_with(findings, 1);
    let first = tokio::spawn(webhook.clone().oneshot(post("/validate?timeout=2s", Body::new(Never))));
    tokio::time::sleep(Duration::from_millis(100)).await;
    let second = webhook.clone().oneshot(post("/validate", padded(2000))).await.unwrap();
    assert_eq!(second.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(text(second).await, "too many reviews at a time; ask again\n");
    assert_eq!(first.await.unwrap().unwrap().status(), StatusCode::REQUEST_TIMEOUT);
    // The place is free again.
    assert_eq!(webhook.oneshot(post("/validate", padded(2000))).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_rule_that_panics_is_an_internal_error_and_takes_nobody_with_it() {
    let webhook = webhook_with(findings, CONCURRENCY);
    let mut object = wrong_policy();
    object["metadata"]["name"] = json!("panics");
    let asking = review("CREATE", Some(object), None).to_string();
    let response = webhook.clone().oneshot(post("/validate", asking)).await.unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(text(response).await, "internal error: a decision panicked\n");
    assert_eq!(webhook.oneshot(post("/validate", padded(2000))).await.unwrap().status(), StatusCode::OK);
}
