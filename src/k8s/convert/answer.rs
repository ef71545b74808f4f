//! What a kube-apiserver would answer to a NetworkPolicy, in its own words.
//!
//! `object -> text`, in the server's order: kinds that it does not know, then what its decoder cannot read (the first thing
//! only), then fields that it does not know, then what its validation refuses (all at once). Seen with 1.37.2; where the
//! words are not known for sure there is no answer.

mod decode;
mod validate;

use serde_json::Value;

/// What the server says to an object that it refuses; `None` where it takes it, or nobody knows its words. `strict`: it
/// refuses CIDRs that can be read in two ways (1.36).
pub fn to(object: &Value, strict: bool) -> Option<String> {
    let (version, kind) = (object["apiVersion"].as_str()?, object["kind"].as_str()?);
    if !super::is_network_policy(object) {
        return None;
    }
    if (version, kind) != ("networking.k8s.io/v1", "NetworkPolicy") {
        return Some(format!("no matches for kind {kind:?} in version {version:?}"));
    }
    // kubectl itself looks at these before it asks.
    let name = object["metadata"]["name"].as_str().filter(|name| !name.is_empty())?;
    if let Some(error) = decode::error(object) {
        return Some(format!("NetworkPolicy in version \"v1\" cannot be handled as a NetworkPolicy: {error}"));
    }
    let errors = validate::errors(object, strict)?;
    match &errors[..] {
        [] => None,
        [one] => Some(format!("The NetworkPolicy {name:?} is invalid: {one}")),
        many => Some(format!("The NetworkPolicy {name:?} is invalid: \n* {}", many.join("\n* "))),
    }
}
