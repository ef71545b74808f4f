//! The taint that keeps pods from a node until its agent enforces.
//!
//! Whoever makes nodes puts it on them (`kubelet --register-with-taints`); the agent takes it away once, when it is ready. Pods
//! that the node runs by itself after a reboot are not kept waiting by a taint.

use crate::k8s::watch::{Access, Error, Named};
use serde_json::{Value, json};
use std::time::Duration;

/// Its key.
pub const TAINT: &str = "ringfence.dev/agent-not-ready";
/// What failed is tried again after this.
const AGAIN: Duration = Duration::from_secs(2);

/// Takes the taint from a node; tries until it is not there.
pub async fn remove(access: Access, node: &str) {
    let place = Named::new("/api/v1/nodes", node);
    let mut complaint = None;
    loop {
        match attempt(&access, &place).await {
            Ok(true) => return tracing::info!("the taint {TAINT} was taken from {node}"),
            Ok(false) => return,
            // Somebody else wrote the node meanwhile.
            Err(error) if error.status() == Some(409) => {}
            Err(error) => {
                let why = error.to_string();
                if complaint.as_ref() != Some(&why) {
                    tracing::error!("the taint {TAINT} can not be taken from {node}: {why}");
                    complaint = Some(why);
                }
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Says whether it was there.
async fn attempt(access: &Access, place: &Named) -> Result<bool, Error> {
    let client = access.connect().await?;
    let node = place.get(&client).await?.unwrap_or_default();
    let Some(patch) = without(&node) else { return Ok(false) };
    place.merge(&client, &patch).await.map(|_| true)
}

/// The patch that leaves all other taints; the list is written as a whole, so into this version of the node only.
fn without(node: &Value) -> Option<Value> {
    let taints = node["spec"]["taints"].as_array()?;
    let others: Vec<&Value> = taints.iter().filter(|taint| taint["key"] != TAINT).collect();
    let version = &node["metadata"]["resourceVersion"];
    (others.len() < taints.len()).then(|| json!({"metadata": {"resourceVersion": version}, "spec": {"taints": others}}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_one_taint_goes() {
        let other = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"});
        let ours = json!({"key": TAINT, "effect": "NoSchedule"});
        let node = |taints: &[&Value]| json!({"metadata": {"resourceVersion": "7"}, "spec": {"taints": taints}});
        assert_eq!(without(&node(&[&other])), None);
        assert_eq!(without(&json!({"spec": {}})), None);
        let patch = without(&node(&[&ours, &other])).unwrap();
        assert_eq!(patch, json!({"metadata": {"resourceVersion": "7"}, "spec": {"taints": [other]}}));
    }
}
