//! The objects of files as the cluster around each of them.

use crate::{
    k8s::convert::{self, Settings},
    policy::{
        baseline::with_name_label,
        cluster::{Cluster, Event},
        model::{Labels, Name, Namespace},
    },
};
use serde_json::Value;
use std::collections::BTreeSet;

/// A cluster in which all objects have been applied, on top of one that is there before. Repositories rarely hold the Namespaces of what
/// they hold: those that are missing are taken as an API server makes them.
pub(super) fn gather<'a>(
    objects: impl Iterator<Item = &'a Value>,
    settings: &Settings,
    mut cluster: Cluster,
) -> Cluster {
    for object in objects {
        if let Some(fact) = convert::around(object, settings) {
            cluster.apply(Event::Around(fact));
        }
        // What is wrong is told of the object itself, and not of all that stand beside it.
        let readable = |rule: &str| convert::AMBIGUOUS.contains(&rule);
        let read = convert::object(object, settings).filter(|read| read.findings.iter().all(|f| readable(f.rule)));
        if let Some(read) = read {
            cluster.apply(read.value);
        }
    }
    let pods = cluster.pods.keys().map(|key| &key.namespace);
    let used: BTreeSet<Name> = pods.chain(cluster.policies.keys().map(|key| &key.namespace)).cloned().collect();
    for name in used.into_iter().filter(|name| !cluster.namespaces.contains_key(name)).collect::<Vec<_>>() {
        let labels = with_name_label(&name, Labels::default());
        cluster.apply(Event::Namespace(name, Some(Namespace { labels, ..Namespace::default() })));
    }
    cluster
}
