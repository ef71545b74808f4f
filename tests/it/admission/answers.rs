//! What is answered, whole: golden reviews, and what people see of them.

use super::{as_kubectl_prints, asked, policy, review, wrong_policy};
use base64::{Engine, prelude::BASE64_STANDARD};
use rstest::rstest;
use serde_json::{Value, json};

fn isolated() -> Value {
    policy(json!({"podSelector": {}, "policyTypes": ["Ingress"]}))
}

#[rstest]
#[case::validate("/validate", "validate.ringfence.dev")]
#[case::mutate("/mutate", "mutate.ringfence.dev")]
#[tokio::test]
async fn a_wrong_policy_is_denied_with_everything_that_is_wrong(#[case] path: &str, #[case] webhook: &str) {
    let answer = asked(path, &review("CREATE", Some(wrong_policy()), None)).await;
    insta::allow_duplicates! {
        insta::assert_json_snapshot!("denial", answer);
    }
    insta::with_settings!({snapshot_suffix => webhook}, {
        insta::assert_snapshot!("kubectl_denial", as_kubectl_prints(webhook, &answer));
    });
}

#[tokio::test]
async fn a_policy_with_a_weakness_passes_with_a_warning() {
    let weak = policy(json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]}));
    let answer = asked("/validate", &review("CREATE", Some(weak.clone()), None)).await;
    insta::assert_json_snapshot!("warning", answer);
    // /validate sees it too, and a warning is wanted once.
    let answer = asked("/mutate", &review("CREATE", Some(weak), None)).await;
    assert_eq!(answer["response"], json!({"uid": answer["response"]["uid"], "allowed": true}));
}

#[tokio::test]
async fn a_good_policy_passes_without_a_word() {
    for path in ["/validate", "/mutate"] {
        let answer = asked(path, &review("CREATE", Some(isolated()), None)).await;
        assert_eq!(answer["response"], json!({"uid": answer["response"]["uid"], "allowed": true}), "{path}");
    }
}

#[tokio::test]
async fn types_that_nobody_wrote_are_written_once() {
    let mut object = policy(json!({"podSelector": {}, "egress": [{}]}));
    let answer = asked("/mutate", &review("CREATE", Some(object.clone()), None)).await;
    insta::assert_json_snapshot!("patch", answer);

    let patch = BASE64_STANDARD.decode(answer["response"]["patch"].as_str().unwrap()).unwrap();
    let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
    json_patch::patch(&mut object, &patch).unwrap();
    assert_eq!(object["spec"]["policyTypes"], json!(["Ingress", "Egress"]));

    let again = asked("/mutate", &review("CREATE", Some(object), None)).await;
    assert_eq!(again["response"], json!({"uid": again["response"]["uid"], "allowed": true}));
}

#[tokio::test]
async fn a_validating_answer_never_carries_a_patch() {
    let answer = asked("/validate", &review("CREATE", Some(policy(json!({"podSelector": {}}))), None)).await;
    assert_eq!(answer["response"], json!({"uid": answer["response"]["uid"], "allowed": true}));
}

fn with_blocks(count: usize) -> Value {
    let wrong = json!({"to": [{"ipBlock": {"cidr": "10.0.0.0/33"}}]});
    policy(json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": vec![wrong; count]}))
}

#[tokio::test]
async fn an_update_answers_for_what_it_adds_only() {
    let mut moved = with_blocks(1);
    moved["spec"]["egress"].as_array_mut().unwrap().insert(0, json!({"ports": [{"port": 53}]}));
    let answer = asked("/validate", &review("UPDATE", Some(moved), Some(with_blocks(1)))).await;
    assert_eq!(answer["response"]["allowed"], true);
    let warning = answer["response"]["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("already so before: [cidr] spec.egress[1].to[0].ipBlock.cidr: "), "{warning}");

    let answer = asked("/validate", &review("UPDATE", Some(with_blocks(3)), Some(with_blocks(1)))).await;
    let message = answer["response"]["status"]["message"].as_str().unwrap();
    assert!(message.starts_with("NetworkPolicy shop/db has 2 errors:"), "{message}");
}

#[tokio::test]
async fn what_did_not_change_and_what_is_going_passes() {
    let mut labelled = wrong_policy();
    labelled["metadata"]["labels"] = json!({"team": "a"});
    let mut going = wrong_policy();
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    for (what, review) in [
        ("metadata only", review("UPDATE", Some(labelled), Some(wrong_policy()))),
        ("being deleted", review("UPDATE", Some(going), Some(isolated()))),
        ("deleted", review("DELETE", None, Some(wrong_policy()))),
        ("connected", review("CONNECT", Some(wrong_policy()), None)),
    ] {
        for path in ["/validate", "/mutate"] {
            let answer = asked(path, &review).await;
            assert_eq!(answer["response"], json!({"uid": answer["response"]["uid"], "allowed": true}), "{what}");
        }
    }
}

#[rstest]
#[case::another_kind("/request/kind/kind", json!("Secret"))]
#[case::another_group("/request/kind/group", json!("projectcalico.org"))]
#[case::another_version("/request/kind/version", json!("v2"))]
#[case::a_subresource("/request/subResource", json!("status"))]
#[tokio::test]
async fn what_is_not_ours_passes(#[case] pointer: &str, #[case] value: Value) {
    let mut asking = review("CREATE", Some(wrong_policy()), None);
    asking["request"]["subResource"] = json!("");
    *asking.pointer_mut(pointer).unwrap() = value;
    for path in ["/validate", "/mutate"] {
        let answer = asked(path, &asking).await;
        assert_eq!(answer["response"], json!({"uid": answer["response"]["uid"], "allowed": true}));
    }
}

#[tokio::test]
async fn an_object_that_cannot_be_read_is_refused_by_its_uid() {
    let mut deep = json!(null);
    for _ in 0..100 {
        deep = json!([deep]);
    }
    // A hundred levels can be read, whatever they mean; see the malformed bodies for more than that.
    let answer = asked("/validate", &review("CREATE", Some(policy(json!({"deep": deep}))), None)).await;
    assert_eq!(answer["response"]["allowed"], true);

    for (object, why) in [(None, "there is none"), (Some(json!("text")), "it is not a mapping")] {
        for path in ["/validate", "/mutate"] {
            let answer = asked(path, &review("CREATE", object.clone(), None)).await;
            assert_eq!(
                answer["response"]["status"],
                json!({
                    "code": 400,
                    "reason": "BadRequest",
                    "message": format!("the NetworkPolicy in the review cannot be read: {why}"),
                })
            );
        }
    }
}

#[rstest]
#[case::made_up_by_the_server(json!(""), json!({"generateName": "db-"}), "NetworkPolicy shop/db-… has")]
#[case::in_the_object_only(json!(null), json!({"name": "db-7"}), "NetworkPolicy shop/db-7 has")]
#[case::nowhere(json!(""), json!({}), "NetworkPolicy shop/without a name has")]
#[tokio::test]
async fn a_policy_is_called_by_the_name_that_is_known(
    #[case] name: Value,
    #[case] metadata: Value,
    #[case] starts: &str,
) {
    let mut object = wrong_policy();
    object["metadata"] = metadata;
    let mut asking = review("CREATE", Some(object), None);
    asking["request"]["name"] = name;
    let answer = asked("/validate", &asking).await;
    let message = answer["response"]["status"]["message"].as_str().unwrap();
    assert!(message.starts_with(starts), "{message}");
}
