//! Objects of a collection that have one name, or one label: followed, whole.
//!
//! `API server -> Told`, by [`Selected::follow`]. They are few: they are listed at once, and listed again whenever a watch ends.

use super::{
    access::Access,
    backoff::{Backoff, between},
    error::Error,
    request,
    stream::{QUIET, more},
};
use serde_json::Value;
use std::time::Duration;

/// How long a watch lasts before it is opened again.
const LASTING: [Duration; 2] = [Duration::from_secs(300), Duration::from_secs(600)];
/// A line is one object, and etcd takes none of this size.
const LONGEST: usize = 16 << 20;

/// Some objects of a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// Its path.
    pub(super) collection: String,
    /// As a query says it.
    pub(super) selector: String,
}

/// What is told of them.
#[derive(Debug)]
pub enum Told {
    /// These are all.
    Listed(Vec<Value>),
    /// This one is new or has changed.
    There(Value),
    /// This one was deleted.
    Gone(Value),
    /// They can not be followed, and why; it is tried again.
    Lost(Error),
}

impl Selected {
    /// Those of a collection, which is a path, that have a label.
    pub fn labelled(collection: impl Into<String>, label: &str) -> Self {
        Self { collection: collection.into(), selector: format!("labelSelector={}", label.replace('=', "%3D")) }
    }

    /// Follows them for good, and tells what is heard. Errors are told, and tried again.
    pub async fn follow(self, access: Access, mut tell: impl FnMut(Told)) {
        let mut backoff = Backoff::default();
        loop {
            let wait = match self.round(&access, &mut tell).await {
                Ok(()) => {
                    backoff.works();
                    Duration::ZERO
                }
                Err(error) => {
                    let wait = backoff.failed(error.pause());
                    tell(Told::Lost(error));
                    wait
                }
            };
            // Also after a watch that ended in order, so that it is never asked without end.
            tokio::time::sleep(wait + between(Duration::from_millis(100), Duration::from_millis(500))).await;
        }
    }

    /// Lists them, and watches until the watch ends in order.
    async fn round(&self, access: &Access, tell: &mut impl FnMut(Told)) -> Result<(), Error> {
        let client = access.connect().await?;
        let resource = resource(&self.collection);
        let path = format!("{}?{}", self.collection, self.selector);
        let list = request::get(&client, &path, Some(("list", &resource))).await?;
        let mut list = self.parsed(&request::whole(list, &path).await?)?;
        let version = list["metadata"]["resourceVersion"].as_str().unwrap_or("0").to_owned();
        let items = match list["items"].take() {
            Value::Array(items) => items,
            _ => Vec::new(),
        };
        tell(Told::Listed(items));
        let seconds = between(LASTING[0], LASTING[1]).as_secs();
        let path =
            format!("{path}&watch=true&allowWatchBookmarks=true&resourceVersion={version}&timeoutSeconds={seconds}");
        let mut body = request::get(&client, &path, Some(("watch", &resource))).await?.into_body();
        let mut buffer = Vec::new();
        loop {
            while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = buffer.drain(..=end).collect();
                if let Some(told) = event(self.parsed(&line)?)? {
                    tell(told);
                }
            }
            if buffer.len() > LONGEST {
                return Err(Error::Unreadable(format!("a line of more than {LONGEST} bytes")));
            }
            if !more(&mut body, &mut buffer, QUIET).await? {
                return Ok(());
            }
        }
    }

    fn parsed(&self, text: &[u8]) -> Result<Value, Error> {
        serde_json::from_slice(text)
            .map_err(|error| Error::Unreadable(format!("{}: {error}", resource(&self.collection))))
    }
}

/// A collection as RBAC writes it: `networkpolicies.networking.k8s.io`.
pub(super) fn resource(collection: &str) -> String {
    let plural = collection.rsplit('/').next().unwrap_or_default();
    match collection.strip_prefix("/apis/").and_then(|rest| rest.split('/').next()) {
        Some(group) => format!("{plural}.{group}"),
        None => plural.to_owned(),
    }
}

/// What an event of a watch says; nothing in a bookmark.
fn event(mut event: Value) -> Result<Option<Told>, Error> {
    let object = event["object"].take();
    match event["type"].as_str().unwrap_or_default() {
        "ADDED" | "MODIFIED" => Ok(Some(Told::There(object))),
        "DELETED" => Ok(Some(Told::Gone(object))),
        "BOOKMARK" => Ok(None),
        _ => Err(Error::Gone(object["message"].as_str().unwrap_or_default().to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn events_say_what_became_of_an_object() {
        let say = |kind: &str| event(json!({"type": kind, "object": {"metadata": {"name": "a"}}}));
        assert!(matches!(say("ADDED").unwrap(), Some(Told::There(_))));
        assert!(matches!(say("MODIFIED").unwrap(), Some(Told::There(object)) if object["metadata"]["name"] == "a"));
        assert!(matches!(say("DELETED").unwrap(), Some(Told::Gone(_))));
        assert!(say("BOOKMARK").unwrap().is_none());
        let error = event(json!({"type": "ERROR", "object": {"code": 410, "message": "too old"}}));
        assert!(error.unwrap_err().to_string().contains("too old"));
    }
}
