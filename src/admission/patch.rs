//! The one change that `/mutate` makes: `policyTypes` written out.
//!
//! What is written is what an API server would have meant (`pkg/apis/networking/v1/defaults.go`): Ingress always, Egress when
//! there are egress rules. A patch that does not apply is an internal error of the API server even where failures are
//! ignored, so each is applied to a copy here before anybody sees it.

use json_patch::{AddOperation, Patch, PatchOperation, jsonptr::PointerBuf};
use serde_json::{Value, json};

/// A patch that does not do what it was made for: a mistake in here.
#[derive(Debug, thiserror::Error)]
#[error("the patch for policyTypes does not hold: {0}")]
pub struct PatchFailed(String);

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

    #[rstest]
    #[case::types_are_said(json!({"spec": {"policyTypes": ["Egress"]}}))]
    #[case::types_are_no_list(json!({"spec": {"policyTypes": {"Ingress": null}}}))]
    #[case::no_spec(json!({}))]
    #[case::spec_is_no_mapping(json!({"spec": [1]}))]
    fn nothing_is_written_where_types_are_said_or_cannot_be(#[case] policy: Value) {
        assert_eq!(policy_types(&policy).unwrap(), None);
    }
}
