//! The webhook with the real catalogue: what people read when they write the notorious mistakes.

use super::{as_kubectl_prints, policy, post, review, text, webhook_with};
use ringfence::admission::{catalogue, router::CONCURRENCY};
use serde_json::{Value, json};
use std::fmt::Write;
use tower::ServiceExt;

async fn judged(path: &str, asking: &Value) -> Value {
    let response = webhook_with(catalogue, CONCURRENCY).oneshot(post(path, asking.to_string())).await.unwrap();
    serde_json::from_str(&text(response).await).unwrap()
}

#[tokio::test]
async fn people_read_what_is_wrong_where_and_what_to_write() {
    let selector = json!({"matchLabels": {"role": "db"}});
    let mut printed = String::new();
    for (what, spec) in [
        ("a colon too many", json!({"podSelector": selector, "policyTypes": [{"Ingress": null}]})),
        ("lower case", json!({"podSelector": selector, "policyTypes": ["ingress"]})),
        (
            "rules that policyTypes does not name",
            json!({"podSelector": {}, "policyTypes": ["Ingress"], "egress": [{"to": [{"podSelector": {}}]}]}),
        ),
        (
            "several at a time",
            json!({
                "podSelector": selector,
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/33"}}, {}], "ports": [{"port": "80"}]}],
                "egress": [{"ports": [{"protocol": "tcp", "port": 5000, "endPort": 80}]}],
            }),
        ),
    ] {
        let asking = review("CREATE", Some(policy(spec)), None);
        let (validate, mutate) = (judged("/validate", &asking).await, judged("/mutate", &asking).await);
        assert_eq!(validate["response"]["status"], mutate["response"]["status"], "{what}: both hooks deny alike");
        assert_eq!(validate["response"]["allowed"], false, "{what}");
        writeln!(printed, "# {what}\n{}", as_kubectl_prints("validate.ringfence.dev", &validate)).unwrap();
    }
    insta::assert_snapshot!("catalogue_denials", printed);
}

#[tokio::test]
async fn the_three_tiers_pass_without_a_word() {
    let from = |role: &str| json!([{"podSelector": {"matchLabels": {"role": role}}}]);
    let asking = review(
        "CREATE",
        Some(policy(json!({
            "podSelector": {"matchLabels": {"role": "db"}},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": from("api"), "ports": [{"protocol": "TCP", "port": 3306}]}],
        }))),
        None,
    );
    for path in ["/validate", "/mutate"] {
        let answer = judged(path, &asking).await;
        assert_eq!(answer["response"], json!({"uid": answer["response"]["uid"], "allowed": true}), "{path}");
    }
}
