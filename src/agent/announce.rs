//! Events about the Node, for people: that its agent can not enforce, why, and when it can again.
//!
//! `Status -> Event of the API`, by [`follow`]. What waits for a state to arrive is no event; what the kernel refuses and what
//! the node lacks is.

use super::status::Status;
use crate::{
    k8s::watch::{Access, Error, Named},
    policy::model::Name,
};
use serde_json::{Value, json};
use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How often it is looked whether there is something to say.
const ROUND: Duration = Duration::from_secs(1);
/// After an event, or a server that did not take one.
const PAUSE: Duration = Duration::from_secs(3);
/// The API takes no message of more than 1024 bytes.
const LONGEST: usize = 1000;

/// Says what changes, for good. What is the same as before is not said again.
pub async fn follow(access: Access, node: Name, status: Arc<Status>) {
    let mut said = Vec::new();
    loop {
        tokio::time::sleep(ROUND).await;
        let troubles = status.troubles();
        if troubles == said {
            continue;
        }
        match say(&access, &node, &troubles).await {
            Ok(()) => said = troubles,
            Err(error) => tracing::warn!("no event about this node: {error}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn say(access: &Access, node: &Name, troubles: &[String]) -> Result<(), Error> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let name = format!("{node}.{:x}", since.as_nanos());
    let client = access.connect().await?;
    // Where the kubelet's events about nodes are, which belong to no namespace.
    let events = Named::new("/api/v1/namespaces/default/events", &name);
    events.create(&client, &event(node, &name, troubles, since.as_secs())).await.map(drop)
}

fn event(node: &Name, name: &str, troubles: &[String], seconds: u64) -> Value {
    let (kind, reason, message) = match troubles {
        [] => ("Normal", "NetworkPoliciesEnforced", "NetworkPolicies are enforced on this node again".to_owned()),
        troubles => ("Warning", "NetworkPoliciesNotEnforced", troubles.join("; ")),
    };
    let at = timestamp(seconds);
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": "default"},
        // As the kubelet does it: `kubectl describe node` looks for the name as the uid.
        "involvedObject": {"apiVersion": "v1", "kind": "Node", "name": node.as_ref(), "uid": node.as_ref()},
        "type": kind,
        "reason": reason,
        "message": message.chars().take(LONGEST).collect::<String>(),
        "source": {"component": "ringfence-agent", "host": node.as_ref()},
        "reportingComponent": "ringfence-agent",
        "reportingInstance": node.as_ref(),
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
    })
}

/// As RFC 3339 writes it: days since 1970 in the calendar of Gregory, counted in years that begin in March.
fn timestamp(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = era * 400 + year + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_about_the_node_and_says_why() {
        let node = Name::from("n1");
        let one = event(&node, "n1.1", &["the map `ports` is full".to_owned(), "no".to_owned()], 0);
        assert_eq!((&one["type"], &one["involvedObject"]["kind"]), (&json!("Warning"), &json!("Node")));
        assert_eq!(one["message"], "the map `ports` is full; no");
        assert_eq!(event(&node, "n1.2", &[], 0)["type"], "Normal");
    }

    #[test]
    fn a_time_is_written_as_the_api_reads_it() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_795_510_800, "2026-11-24T09:00:00Z"),
        ] {
            assert_eq!(timestamp(seconds), text);
        }
    }
}
