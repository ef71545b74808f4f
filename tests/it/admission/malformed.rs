//! Bodies that are no reviews: an HTTP status and one line each, and never a panic.

use super::{post, review, text, webhook, wrong_policy};
use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use proptest::{prelude::*, sample::Index};
use ringfence::admission::{Hook, catalogue, review::Review};
use serde_json::{Value, json};
use std::fmt::Write;
use tower::ServiceExt;

fn without(pointer: &str, key: &str) -> Vec<u8> {
    let mut asking = review("CREATE", Some(wrong_policy()), None);
    asking.pointer_mut(pointer).unwrap().as_object_mut().unwrap().remove(key).unwrap();
    asking.to_string().into_bytes()
}

fn with(pointer: &str, value: Value) -> Vec<u8> {
    let mut asking = review("CREATE", Some(wrong_policy()), None);
    *asking.pointer_mut(pointer).unwrap() = value;
    asking.to_string().into_bytes()
}

/// A review with raw text in the place of its object.
fn with_object(raw: &str) -> Vec<u8> {
    let asking = review("CREATE", Some(json!("HERE")), None).to_string();
    asking.replace("\"HERE\"", raw).into_bytes()
}

fn deep(levels: usize, open: &str, close: &str) -> String {
    format!("{}null{}", open.repeat(levels), close.repeat(levels))
}

#[tokio::test]
async fn every_malformed_body_gets_its_status_and_one_line() {
    let whole = review("CREATE", Some(wrong_policy()), None).to_string().into_bytes();
    let mut latin1 = whole.clone();
    latin1[20] = 0xe9;
    let inside = with_object(&format!(r#"{{"spec":{}}}"#, deep(100_000, r#"{"a":"#, "}")));
    let outside = String::from_utf8(whole.clone())
        .unwrap()
        .replace("\"userInfo\":", &format!("\"extra\":{},\"userInfo\":", deep(100_000, "[", "]")));
    let corpus: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("white space", b" \r\n\t".to_vec()),
        ("a word", b"hello".to_vec()),
        ("half a review", whole[..whole.len() / 2].to_vec()),
        ("a review and more", [whole.as_slice(), b"{}"].concat()),
        ("not UTF-8", latin1),
        ("a NUL", b"\0".to_vec()),
        ("null", b"null".to_vec()),
        ("a number", b"1e999".to_vec()),
        ("a list", b"[]".to_vec()),
        ("a mapping without anything", b"{}".to_vec()),
        ("a deep list", deep(100_000, "[", "]").into_bytes()),
        ("a deep mapping", deep(100_000, r#"{"request":"#, "}").into_bytes()),
        ("an old version", with("/apiVersion", json!("admission.k8s.io/v1beta1"))),
        ("another kind", with("/kind", json!("Pod\n\u{1b}[31m"))),
        ("no version", without("", "apiVersion")),
        ("a version that is no text", with("/apiVersion", json!(1))),
        ("no request", without("", "request")),
        ("a request that is null", with("/request", Value::Null)),
        ("a request that is a list", with("/request", json!([]))),
        ("no uid", without("/request", "uid")),
        ("an empty uid", with("/request/uid", json!(""))),
        ("a uid that is a number", with("/request/uid", json!(7))),
        ("no kind of object", without("/request", "kind")),
        ("a kind that is a word", with("/request/kind", json!("NetworkPolicy"))),
        (
            "two requests",
            b"{\"apiVersion\":\"admission.k8s.io/v1\",\"kind\":\"AdmissionReview\",\"request\":{},\"request\":{}}"
                .to_vec(),
        ),
        ("deep inside the object", inside),
        ("deep where nobody looks", outside.into_bytes()),
    ];
    let mut answers = String::new();
    for (what, body) in corpus {
        let response = webhook().oneshot(post("/validate", body)).await.unwrap();
        let status = response.status();
        let line = text(response).await;
        if status != StatusCode::OK {
            assert_eq!(line.lines().count(), 1, "{what}: {line:?}");
            assert!(line.ends_with('\n') && !line.trim_end().contains(char::is_control), "{what}: {line:?}");
        }
        let shown: String = line.trim_end().chars().take(200).collect();
        writeln!(answers, "{what}\n  {} {shown}", status.as_u16()).unwrap();
    }
    insta::assert_snapshot!("malformed_bodies", answers);
}

#[tokio::test]
async fn whoever_speaks_another_protocol_is_told_so() {
    let body = review("CREATE", Some(wrong_policy()), None).to_string();
    let typed = |kind: &str| Request::post("/validate").header("content-type", kind).body(Body::from(body.clone()));
    let mut answers = String::new();
    for (what, request) in [
        ("no content type", Request::post("/validate").body(Body::from(body.clone()))),
        ("text", typed("text/plain")),
        ("nearly JSON", typed("application/jsonp")),
        ("JSON in another writing", typed("Application/JSON; charset=utf-8")),
        ("GET", Request::get("/validate").body(Body::empty())),
        ("PUT", Request::put("/mutate").header("content-type", "application/json").body(Body::from(body.clone()))),
        ("another path", Request::post("/").body(Body::from(body.clone()))),
        ("a trailing slash", Request::post("/validate/").body(Body::from(body.clone()))),
    ] {
        let response = webhook().oneshot(request.unwrap()).await.unwrap();
        let status = response.status();
        assert!(!status.is_redirection(), "{what}");
        let line = if status.is_success() { "(an answer)".to_owned() } else { text(response).await };
        writeln!(answers, "{what}\n  {} {}", status.as_u16(), line.trim_end()).unwrap();
    }
    insta::assert_snapshot!("other_protocols", answers);
}

/// A review with pieces of it taken out, doubled or replaced by bytes that mean something to JSON.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let whole = review("UPDATE", Some(wrong_policy()), Some(wrong_policy())).to_string().into_bytes();
    let byte = prop_oneof![prop::sample::select(br#"{}[]",:\u0-e.ntf"#.to_vec()), any::<u8>()];
    let edit = (any::<Index>(), 0..24_usize, prop::collection::vec(byte, 0..8));
    prop::collection::vec(edit, 1..4).prop_map(move |edits| {
        let mut body = whole.clone();
        for (at, length, with) in edits {
            let from = at.index(body.len());
            let until = (from + length).min(body.len());
            body.splice(from..until, with);
        }
        body
    })
}

/// A review of a policy in which one value, anywhere, is another one.
fn strange() -> impl Strategy<Value = Vec<u8>> {
    let value = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!([{"Ingress": null}])),
    ];
    let places = prop::sample::select(vec![
        "/metadata",
        "/metadata/name",
        "/spec",
        "/spec/podSelector",
        "/spec/podSelector/matchLabels",
        "/spec/podSelector/matchLabels/role",
        "/spec/policyTypes",
        "/spec/policyTypes/0",
        "/spec/ingress",
        "/spec/ingress/0",
        "/spec/egress",
        "/spec/egress/0/to",
        "/spec/egress/0/to/0",
        "/spec/egress/0/to/0/ipBlock",
        "/spec/egress/0/to/0/ipBlock/cidr",
    ]);
    (places, value).prop_map(|(place, value)| {
        let mut object = wrong_policy();
        *object.pointer_mut(place).unwrap() = value;
        review("CREATE", Some(object), None).to_string().into_bytes()
    })
}

proptest! {
    #[test]
    fn no_bytes_make_a_panic_or_an_answer_that_is_none(body in prop_oneof![damaged(), strange()]) {
        let service = super::service(catalogue);
        for hook in [Hook::Validate, Hook::Mutate] {
            let Ok(review) = Review::parse(&body) else { continue };
            let decision = service.decide(hook, &review).unwrap();
            let answer = serde_json::to_value(&decision.answer).unwrap();
            prop_assert_eq!(answer["response"]["uid"].as_str(), Some(review.uid.as_ref()));
            let denied = answer["response"]["allowed"] == false;
            prop_assert_eq!(denied, answer["response"]["status"]["message"].is_string());
            prop_assert_eq!(answer["response"]["patch"].is_string(), answer["response"]["patchType"].is_string());
        }
    }
}
