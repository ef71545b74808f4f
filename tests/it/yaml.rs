//! What kubectl makes of a text is what we make of it.
//!
//! `cases/go-yaml.jsonl` holds texts and what sigs.k8s.io/yaml 1.6 with go-yaml 2.4.4, which kubectl uses, made of each.

use ringfence::k8s::yaml;
use serde_json::Value;

#[test]
fn yaml_is_what_kubectl_sends() {
    let cases = include_str!("cases/go-yaml.jsonl").lines();
    for case in cases.map(|line| serde_json::from_str::<Value>(line).expect("JSON")) {
        let text = case["yaml"].as_str().expect("a text");
        let parsed = yaml::parse(text);
        assert_eq!(!parsed.errors.is_empty(), case.get("error").is_some(), "{text:?} {:?}", parsed.errors);
        if let Some(json) = case.get("json") {
            let values: Vec<&Value> = parsed.objects.iter().map(|object| &object.value).collect();
            // Empty documents are left out.
            let expected: Vec<&Value> = Some(json).into_iter().filter(|json| !json.is_null()).collect();
            assert_eq!(values, expected, "{text:?}");
        }
    }
}
