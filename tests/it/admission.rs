//! The webhook driven in memory: bytes into the router, bytes out of it.

mod answers;
mod catalogue;
mod command;
mod limits;
mod malformed;
mod ops;
mod pods;
mod speed;

use axum::{
    Router,
    body::Body,
    http::{Request, Response, StatusCode},
};
use ringfence::{
    admission::{
        Service,
        metrics::Metrics,
        router::{CONCURRENCY, State, router},
    },
    finding::{FieldPath, Finding, Severity},
    telemetry,
};
use serde_json::{Value, json};
use tower::ServiceExt;

/// Findings of a small catalogue of this test's own, so that golden answers change with the webhook and not with the rules.
pub(crate) fn findings(object: &Value) -> Vec<Finding> {
    assert_ne!(object["metadata"]["name"], "panics", "a rule that panics");
    if object["metadata"]["name"] == "slow" {
        std::thread::sleep(std::time::Duration::from_millis(1500));
    }
    let spec = FieldPath::root().field("spec");
    let mut found = Vec::new();
    let types: &[Value] = object["spec"]["policyTypes"].as_array().map_or(&[], Vec::as_slice);
    for (at, item) in types.iter().enumerate().filter(|(_, item)| !item.is_string()) {
        let word = item.as_object().and_then(|item| item.keys().next()).map_or("Ingress", String::as_str);
        found.push(finding(
            "policy-types-item",
            Severity::Error,
            spec.field("policyTypes").index(at),
            &format!("{item} is a mapping, and a policy type is a word"),
            &format!("write `- {word}`, without the colon"),
        ));
    }
    for (at, rule) in object["spec"]["egress"].as_array().into_iter().flatten().enumerate() {
        if rule["to"][0]["ipBlock"]["cidr"] == "10.0.0.0/33" {
            let path = spec.field("egress").index(at).field("to").index(0).field("ipBlock").field("cidr");
            let message = "\"10.0.0.0/33\" is not an address range";
            found.push(finding(
                "cidr",
                Severity::Error,
                path,
                message,
                "an IPv4 prefix ends at /32:\ncidr: 10.0.0.0/32",
            ));
        }
    }
    if object["spec"]["ingress"][0] == json!({}) {
        let path = spec.field("ingress").index(0);
        found.push(finding(
            "rule-allows-all",
            Severity::Warning,
            path,
            "an empty rule admits everybody",
            "name who may",
        ));
    }
    found.push(finding("a-hint", Severity::Hint, FieldPath::root(), "nobody needs to hear this", ""));
    found
}

fn finding(rule: &'static str, severity: Severity, path: FieldPath, message: &str, help: &str) -> Finding {
    Finding { rule, severity, path, message: message.to_owned(), help: help.to_owned(), server: false }
}

/// A service that judges objects by findings of one's own.
pub(crate) fn service(findings: fn(&Value) -> Vec<Finding>) -> Service {
    Service::new(move |subject| findings(subject.object))
}

/// A router with findings of one's own.
fn webhook_with(findings: fn(&Value) -> Vec<Finding>, concurrency: usize) -> Router {
    let metrics = Metrics::register(&mut telemetry::registry());
    router(State::new(service(findings), metrics, concurrency))
}

fn webhook() -> Router {
    webhook_with(findings, CONCURRENCY)
}

/// A review of a NetworkPolicy `shop/db`.
pub(crate) fn review(operation: &str, object: Option<Value>, old: Option<Value>) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "networking.k8s.io", "version": "v1", "kind": "NetworkPolicy"},
            "resource": {"group": "networking.k8s.io", "version": "v1", "resource": "networkpolicies"},
            "requestKind": {"group": "networking.k8s.io", "version": "v1", "kind": "NetworkPolicy"},
            "requestResource": {"group": "networking.k8s.io", "version": "v1", "resource": "networkpolicies"},
            "name": "db",
            "namespace": "shop",
            "operation": operation,
            "userInfo": {"username": "jane", "groups": ["system:authenticated"]},
            "object": object,
            "oldObject": old,
            "dryRun": false,
            "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"},
        },
    })
}

/// A NetworkPolicy `shop/db` with this spec.
pub(crate) fn policy(spec: Value) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "db", "namespace": "shop"},
        "spec": spec,
    })
}

/// What `- Ingress:` becomes in JSON, and a second mistake.
pub(crate) fn wrong_policy() -> Value {
    policy(json!({
        "podSelector": {"matchLabels": {"role": "db"}},
        "policyTypes": [{"Ingress": null}, "Egress"],
        "ingress": [{}],
        "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/33"}}]}],
    }))
}

fn post(path: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post(path).header("content-type", "application/json").body(body.into()).unwrap()
}

async fn text(response: Response<Body>) -> String {
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What the webhook answers to a review.
async fn asked(path: &str, review: &Value) -> Value {
    let response = webhook().oneshot(post(path, review.to_string())).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "application/json");
    let answer: Value = serde_json::from_str(&text(response).await).unwrap();
    assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(answer["kind"], "AdmissionReview");
    assert_eq!(answer["response"]["uid"], review["request"]["uid"]);
    answer
}

/// What kubectl prints for an answer (kubectl 1.32 and 1.37, seen with a real API server).
fn as_kubectl_prints(webhook: &str, answer: &Value) -> String {
    let response = &answer["response"];
    let mut out = String::new();
    for warning in response["warnings"].as_array().into_iter().flatten() {
        out.push_str(&format!("Warning: {}\n", warning.as_str().unwrap()));
    }
    if response["allowed"] == false {
        let status = &response["status"];
        out.push_str(&format!(
            "Error from server ({}): error when creating \"db.yaml\": admission webhook \"{webhook}\" denied the request: {}\n",
            status["reason"].as_str().unwrap(),
            status["message"].as_str().unwrap(),
        ));
    }
    out
}
