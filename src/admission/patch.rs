//! The changes that `/mutate` makes: `policyTypes` written out, and NET_RAW dropped where a setting says so.
//!
//! What is written for a policy is what an API server would have meant (`pkg/apis/networking/v1/defaults.go`): Ingress always,
//! Egress when there are egress rules. A patch that does not apply is an internal error of the API server even where failures
//! are ignored, so each is applied to a copy here before anybody sees it, and a second look at that copy must change nothing.

use crate::lint::pod::{CONTAINERS, keeps_net_raw};
use json_patch::{AddOperation, Patch, PatchOperation, jsonptr::PointerBuf};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// A patch that does not do what it was made for: a mistake in here.
#[derive(Debug, thiserror::Error)]
#[error("the patch does not hold: {0}")]
pub struct PatchFailed(String);

/// The patch that drops NET_RAW from the containers of a Pod that did not ask for it; of one that runs (`old`) from those that
/// are new.
pub(super) fn net_raw(pod: &Value, old: Option<&Value>) -> Result<Option<Patch>, PatchFailed> {
    if pod["spec"]["os"]["name"] == "windows" {
        return Ok(None);
    }
    let names = |pod: &Value| -> BTreeSet<String> {
        let containers = CONTAINERS.iter().flat_map(|list| pod["spec"][list].as_array().into_iter().flatten());
        containers.filter_map(|container| container["name"].as_str().map(str::to_owned)).collect()
    };
    let known = old.map(names).unwrap_or_default();
    let mut operations = Vec::new();
    for list in CONTAINERS {
        for (at, container) in pod["spec"][list].as_array().into_iter().flatten().enumerate() {
            let is_known = container["name"].as_str().is_some_and(|name| known.contains(name));
            if !is_known && container.is_object() && keeps_net_raw(container) {
                operations.extend(dropping(container, ["spec", list, &at.to_string()]));
            }
        }
    }
    if operations.is_empty() {
        return Ok(None);
    }
    let patch = Patch(operations);
    let mut copy = pod.clone();
    json_patch::patch(&mut copy, &patch).map_err(|error| PatchFailed(error.to_string()))?;
    let dropped = CONTAINERS.iter().flat_map(|list| copy["spec"][list].as_array().into_iter().flatten());
    let before = CONTAINERS.iter().flat_map(|list| pod["spec"][list].as_array().into_iter().flatten());
    let keep = |containers: &mut dyn Iterator<Item = &Value>| containers.filter(|one| keeps_net_raw(one)).count();
    let dropped = keep(&mut before.into_iter()).saturating_sub(keep(&mut dropped.into_iter()));
    match dropped == patch.0.len() {
        true => Ok(Some(patch)),
        false => Err(PatchFailed(format!("{dropped} of {} containers dropped NET_RAW", patch.0.len()))),
    }
}

/// What drops it from one container: parents that are missing come first. What is no mapping is the API server's to refuse.
fn dropping(container: &Value, place: [&str; 3]) -> Option<PatchOperation> {
    let (context, fields) = (&container["securityContext"], ["securityContext", "capabilities", "drop"]);
    let capabilities = &context["capabilities"];
    let (depth, value) = match (context, capabilities, &capabilities["drop"]) {
        (Value::Null, ..) => (1, json!({"capabilities": {"drop": ["NET_RAW"]}})),
        (Value::Object(_), Value::Null, _) => (2, json!({"drop": ["NET_RAW"]})),
        (Value::Object(_), Value::Object(_), Value::Null) => (3, json!(["NET_RAW"])),
        (Value::Object(_), Value::Object(_), Value::Array(_)) => (4, json!("NET_RAW")),
        _ => return None,
    };
    let tokens = place.into_iter().chain(fields.into_iter().chain(["-"]).take(depth));
    Some(PatchOperation::Add(AddOperation { path: PointerBuf::from_tokens(tokens), value }))
}

/// The patch that a policy needs; `None` when it says its policyTypes, or is so wrong that nothing can be added to it.
pub(super) fn policy_types(object: &Value) -> Result<Option<Patch>, PatchFailed> {
    let Some(spec) = object.get("spec").and_then(Value::as_object) else { return Ok(None) };
    if !is_empty(spec.get("policyTypes")) {
        return Ok(None);
    }
    let types = if is_empty(spec.get("egress")) { json!(["Ingress"]) } else { json!(["Ingress", "Egress"]) };
    // `add` puts a key where none is and takes the place of an empty one.
    let path = PointerBuf::from_tokens(["spec", "policyTypes"]);
    let patch = Patch(vec![PatchOperation::Add(AddOperation { path, value: types.clone() })]);

    let mut copy = object.clone();
    json_patch::patch(&mut copy, &patch).map_err(|error| PatchFailed(error.to_string()))?;
    match copy.pointer("/spec/policyTypes") {
        Some(written) if *written == types => Ok(Some(patch)),
        _ => Err(PatchFailed("nothing was written".to_owned())),
    }
}

/// As the API's decoder sees it: absent, null and an empty list are one. Something else than a list is not empty.
fn is_empty(list: Option<&Value>) -> bool {
    match list {
        None | Some(Value::Null) => true,
        Some(Value::Array(items)) => items.is_empty(),
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn patched(mut policy: Value) -> Value {
        let patch = policy_types(&policy).unwrap().expect("a patch");
        json_patch::patch(&mut policy, &patch).unwrap();
        assert_eq!(policy_types(&policy).unwrap(), None, "a second look changes nothing");
        policy["spec"]["policyTypes"].clone()
    }

    #[rstest]
    #[case::only_a_selector(json!({"podSelector": {}}), json!(["Ingress"]))]
    #[case::ingress_rules(json!({"ingress": [{}]}), json!(["Ingress"]))]
    #[case::egress_rules(json!({"egress": [{}]}), json!(["Ingress", "Egress"]))]
    #[case::an_empty_list_of_egress_rules_is_none(json!({"egress": []}), json!(["Ingress"]))]
    #[case::null_is_absent(json!({"egress": null, "policyTypes": null}), json!(["Ingress"]))]
    #[case::an_empty_list_of_types_is_none(json!({"policyTypes": []}), json!(["Ingress"]))]
    fn types_are_written_as_the_api_server_means_them(#[case] spec: Value, #[case] expected: Value) {
        assert_eq!(patched(json!({"spec": spec})), expected);
    }

    #[test]
    fn net_raw_is_dropped_where_nobody_asked_for_it_and_once() {
        let pod = json!({"spec": {
            "containers": [
                {"name": "plain"},
                {"name": "context", "securityContext": {"runAsUser": 1}},
                {"name": "adds", "securityContext": {"capabilities": {"add": ["CHOWN"]}}},
                {"name": "drops", "securityContext": {"capabilities": {"drop": ["CHOWN"]}}},
                {"name": "asks", "securityContext": {"capabilities": {"add": ["NET_RAW"]}}},
                {"name": "has-none", "securityContext": {"capabilities": {"drop": ["ALL"]}}},
                {"name": "privileged", "securityContext": {"privileged": true}},
                {"name": "wrong", "securityContext": {"capabilities": [1]}},
            ],
            "initContainers": [{"name": "init", "securityContext": null}],
        }});
        let mut pod = pod;
        let patch = net_raw(&pod, None).unwrap().expect("a patch");
        assert_eq!(patch.0.len(), 5);
        json_patch::patch(&mut pod, &patch).unwrap();
        assert_eq!(net_raw(&pod, None).unwrap(), None, "a second look changes nothing");
        assert_eq!(
            pod["spec"]["containers"][3]["securityContext"]["capabilities"]["drop"],
            json!(["CHOWN", "NET_RAW"])
        );
        assert_eq!(
            pod["spec"]["containers"][0],
            json!({"name": "plain", "securityContext": {"capabilities": {"drop": ["NET_RAW"]}}})
        );
    }

    #[test]
    fn of_a_pod_that_runs_only_new_containers_are_touched() {
        let old = json!({"spec": {"containers": [{"name": "web"}]}});
        let mut new = old.clone();
        assert_eq!(net_raw(&new, Some(&old)).unwrap(), None);
        new["spec"]["ephemeralContainers"] = json!([{"name": "debug"}]);
        let patch = net_raw(&new, Some(&old)).unwrap().expect("a patch");
        assert_eq!(serde_json::to_value(&patch).unwrap()[0]["path"], "/spec/ephemeralContainers/0/securityContext");
    }

    #[rstest]
    #[case::types_are_said(json!({"spec": {"policyTypes": ["Egress"]}}))]
    #[case::types_are_no_list(json!({"spec": {"policyTypes": {"Ingress": null}}}))]
    #[case::no_spec(json!({}))]
    #[case::spec_is_no_mapping(json!({"spec": [1]}))]
    fn nothing_is_written_where_types_are_said_or_cannot_be(#[case] policy: Value) {
        assert_eq!(policy_types(&policy).unwrap(), None);
    }
}
