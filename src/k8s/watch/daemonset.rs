//! The DaemonSet that an agent runs in: an agent that is stopped has a successor if it is there.
//!
//! `API server -> Standing`, by [`follow`]. A watch that is open, and no question at the end: who uninstalls takes the
//! account's rights away a moment after the DaemonSet, and before the pods are stopped.

use super::{
    access::Access,
    named::{Named, is_name},
    selected::Told,
};
use serde_json::Value;
use std::{fmt, str::FromStr};

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
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        if is_name(&namespace) && is_name(&name) { Ok(Self { namespace, name }) } else { Err(wrong()) }
    }
}

impl fmt::Display for DaemonSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Follows a DaemonSet for good, and tells its standing whenever something was heard of it. Errors change nothing that is
/// known.
pub async fn follow(access: Access, own: DaemonSet, mut tell: impl FnMut(Standing)) {
    let named = Named::new(format!("/apis/apps/v1/namespaces/{}/daemonsets", own.namespace), own.name.clone());
    let mut known = Standing::Unknown;
    named
        .follow(access, |told| {
            if let Told::Lost(error) = &told
                && known != Standing::Gone
            {
                tracing::warn!("whether the DaemonSet {own} is there can not be followed: {error}");
            }
            match heard(known, &told) {
                Some(standing) => {
                    known = standing;
                    tell(standing);
                }
                None if matches!(told, Told::Listed(_)) => {
                    tracing::warn!("there is no DaemonSet {own}: enforcement will stay when this agent is stopped");
                }
                None => {}
            }
        })
        .await;
}

/// What follows for its standing from what was told; nothing from an error, and from not being there before it was seen.
fn heard(known: Standing, told: &Told) -> Option<Standing> {
    match told {
        Told::Listed(items) => match items.first() {
            Some(object) => Some(standing(object)),
            None if known == Standing::Unknown => None,
            None => Some(Standing::Gone),
        },
        Told::There(object) => Some(standing(object)),
        Told::Gone(_) => Some(Standing::Gone),
        Told::Lost(_) => None,
    }
}

/// With a finalizer, or deleted in the foreground, it is there for a while longer.
fn standing(object: &Value) -> Standing {
    if object["metadata"]["deletionTimestamp"].is_null() { Standing::There } else { Standing::Gone }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_name_is_a_namespace_and_a_name() {
        let own: DaemonSet = "ringfence-system/ringfence-agent".parse().unwrap();
        assert_eq!(own.to_string(), "ringfence-system/ringfence-agent");
        for wrong in ["", "a", "/", "a/", "/a", "a/b/c", "A/b", "a/b&watch=true", "a/b?"] {
            assert!(wrong.parse::<DaemonSet>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_told_says_whether_it_is_there() {
        let alive = json!({"metadata": {"name": "a"}});
        let dying = json!({"metadata": {"name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z"}});
        let unknown = |told| heard(Standing::Unknown, &told);
        assert_eq!(unknown(Told::There(alive.clone())), Some(Standing::There));
        assert_eq!(unknown(Told::There(dying)), Some(Standing::Gone));
        assert_eq!(unknown(Told::Gone(alive.clone())), Some(Standing::Gone));
        assert_eq!(unknown(Told::Listed(vec![alive])), Some(Standing::There));
        assert_eq!(unknown(Told::Listed(vec![])), None, "never seen is not gone");
        assert_eq!(heard(Standing::There, &Told::Listed(vec![])), Some(Standing::Gone));
    }
}
