//! The DaemonSet that an agent runs in: an agent that is stopped has a successor if it is there.
//!
//! `API server -> Standing`, by [`follow`]. A watch that is open, and no question at the end: who uninstalls takes the
//! account's rights away a moment after the DaemonSet, and before the pods are stopped.

use super::{
    access::Access,
    backoff::{Backoff, between},
    error::Error,
    request,
    stream::QUIET,
};
use http_body_util::BodyExt;
use serde_json::Value;
use std::{fmt, str::FromStr, time::Duration};

/// How long a watch lasts before it is opened again.
const LASTING: [Duration; 2] = [Duration::from_secs(300), Duration::from_secs(600)];
/// A line is one DaemonSet, and etcd takes none of this size.
const LONGEST: usize = 16 << 20;

/// What is known of a DaemonSet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Standing {
    /// It was never seen.
    #[default]
    Unknown,
    /// It was there when it was seen last.
    There,
    /// It was there, and was deleted, or is being deleted.
    Gone,
}

/// A DaemonSet, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonSet {
    namespace: String,
    name: String,
}

impl FromStr for DaemonSet {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no NAMESPACE/NAME of a DaemonSet");
        let (namespace, name) = text.split_once('/').ok_or_else(wrong)?;
        // What a name may hold needs no escape in a path.
        let plain = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
        };
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        if plain(&namespace) && plain(&name) { Ok(Self { namespace, name }) } else { Err(wrong()) }
    }
}

impl fmt::Display for DaemonSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl DaemonSet {
    /// Of this one alone, as RBAC can allow it by name.
    fn path(&self) -> String {
        format!("/apis/apps/v1/namespaces/{}/daemonsets?fieldSelector=metadata.name%3D{}", self.namespace, self.name)
    }
}

/// Follows a DaemonSet for good, and tells its standing whenever something was heard of it. Errors change nothing that is
/// known.
pub async fn follow(access: Access, own: DaemonSet, mut tell: impl FnMut(Standing)) {
    let mut backoff = Backoff::default();
    let mut known = Standing::Unknown;
    loop {
        let before = known;
        let mut heard = |standing| {
            known = standing;
            tell(standing);
        };
        let wait = match round(&access, &own, before, &mut heard).await {
            Ok(()) => {
                backoff.works();
                Duration::ZERO
            }
            Err(error) => {
                if known != Standing::Gone {
                    tracing::warn!("whether the DaemonSet {own} is there can not be followed: {error}");
                }
                backoff.failed(error.pause())
            }
        };
        // Also after a watch that ended in order, so that it is never asked without end.
        tokio::time::sleep(wait + between(Duration::from_millis(100), Duration::from_millis(500))).await;
    }
}

/// Looks whether it is there, and watches it until the watch ends in order.
async fn round(
    access: &Access,
    own: &DaemonSet,
    known: Standing,
    heard: &mut impl FnMut(Standing),
) -> Result<(), Error> {
    let client = access.connect().await?;
    let path = own.path();
    let list = request::whole(request::get(&client, &path, None).await?, &path).await?;
    let list: Value = parsed(&list)?;
    match list["items"].get(0) {
        Some(object) => heard(standing(object)),
        None if known == Standing::Unknown => {
            tracing::warn!("there is no DaemonSet {own}: enforcement will stay when this agent is stopped");
        }
        None => heard(Standing::Gone),
    }
    let version = list["metadata"]["resourceVersion"].as_str().unwrap_or("0");
    let seconds = between(LASTING[0], LASTING[1]).as_secs();
    let path = format!("{path}&watch=true&allowWatchBookmarks=true&resourceVersion={version}&timeoutSeconds={seconds}");
    let mut body = request::get(&client, &path, None).await?.into_body();
    let mut buffer = Vec::new();
    loop {
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            if let Some(standing) = event(&parsed(&line)?)? {
                heard(standing);
            }
        }
        if buffer.len() > LONGEST {
            return Err(Error::Unreadable(format!("a line of more than {LONGEST} bytes")));
        }
        let frame = tokio::time::timeout(QUIET, body.frame()).await;
        match frame.map_err(|_| Error::Slow { what: format!("the watch of {own}"), after: QUIET })? {
            None => return Ok(()),
            Some(Err(error)) => return Err(request::broken(&error)),
            Some(Ok(frame)) => buffer.extend(frame.data_ref().into_iter().flatten()),
        }
    }
}

fn parsed(text: &[u8]) -> Result<Value, Error> {
    serde_json::from_slice(text).map_err(|error| Error::Unreadable(format!("a DaemonSet: {error}")))
}

/// With a finalizer, or deleted in the foreground, it is there for a while longer.
fn standing(object: &Value) -> Standing {
    if object["metadata"]["deletionTimestamp"].is_null() { Standing::There } else { Standing::Gone }
}

/// What an event of a watch says; nothing in a bookmark.
fn event(event: &Value) -> Result<Option<Standing>, Error> {
    match event["type"].as_str().unwrap_or_default() {
        "ADDED" | "MODIFIED" => Ok(Some(standing(&event["object"]))),
        "DELETED" => Ok(Some(Standing::Gone)),
        "BOOKMARK" => Ok(None),
        _ => Err(Error::Gone(event["object"]["message"].as_str().unwrap_or_default().to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_name_is_a_namespace_and_a_name() {
        let own: DaemonSet = "ringfence-system/ringfence-agent".parse().unwrap();
        assert_eq!(own.to_string(), "ringfence-system/ringfence-agent");
        assert_eq!(
            own.path(),
            "/apis/apps/v1/namespaces/ringfence-system/daemonsets?fieldSelector=metadata.name%3Dringfence-agent"
        );
        for wrong in ["", "a", "/", "a/", "/a", "a/b/c", "A/b", "a/b&watch=true", "a/b?"] {
            assert!(wrong.parse::<DaemonSet>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn events_say_whether_it_is_there() {
        let say = |kind: &str, object: Value| event(&json!({"type": kind, "object": object}));
        let alive = json!({"metadata": {"name": "a"}});
        let dying = json!({"metadata": {"name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z"}});
        assert_eq!(say("ADDED", alive.clone()).unwrap(), Some(Standing::There));
        assert_eq!(say("MODIFIED", alive.clone()).unwrap(), Some(Standing::There));
        assert_eq!(say("MODIFIED", dying).unwrap(), Some(Standing::Gone));
        assert_eq!(say("DELETED", alive.clone()).unwrap(), Some(Standing::Gone));
        assert_eq!(say("BOOKMARK", alive).unwrap(), None);
        assert!(say("ERROR", json!({"code": 410, "message": "too old"})).unwrap_err().gone());
    }
}
