//! What a rule may know of the cluster around an object.
//!
//! `View {cluster, live}`: the watched state in the webhook, the given files in `check`. Files rarely hold all of a
//! cluster, so a rule that says "nothing matches" speaks of a namespace only if the view [`View::holds`] it.

use super::Policy;
use crate::policy::{
    baseline::Baseline,
    cluster::Cluster,
    mode::Mode,
    model::{Direction, Key, Name, NetworkPolicy, Peer, Pod},
    selector::{Requirement, Selector, Test},
    service::Service,
};
use std::borrow::Cow;

/// How many pods or namespaces one rule looks at: an object may name thousands of peers, and a review has milliseconds.
pub(super) const LOOKS: usize = 200_000;

/// The cluster around an object.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// Namespaces, pods, policies and what stands around them; the object itself may be among them as it was before.
    pub cluster: &'a Cluster,
    /// It is all of the cluster, not only what some files hold.
    pub live: bool,
}

impl<'a> View<'a> {
    /// Whether a namespace asks for its pods to be judged: it has a baseline, and that is enforced.
    pub fn fences(&self, namespace: &Name) -> bool {
        self.cluster.mode_of(None, namespace) == Mode::Enforce && self.cluster.baseline_of(namespace) != Baseline::Off
    }

    /// The endpoint pods of a namespace.
    pub(super) fn pods(&self, namespace: &Name) -> impl Iterator<Item = (&'a Key, &'a Pod)> + use<'a> {
        let namespace = namespace.clone();
        let of = self.cluster.pods.range(Key::new(namespace.clone(), "")..);
        of.take_while(move |(key, _)| key.namespace == namespace).filter(|(_, pod)| pod.is_endpoint())
    }

    /// Whether the pods of a namespace are known.
    pub(super) fn holds(&self, namespace: &Name) -> bool {
        self.pods(namespace).next().is_some()
    }

    /// The Services of a namespace.
    pub(super) fn services(&self, namespace: &Name) -> impl Iterator<Item = (&'a Key, &'a Service)> + use<'a> {
        let namespace = namespace.clone();
        let of = self.cluster.around.services.range(Key::new(namespace.clone(), "")..);
        of.take_while(move |(key, _)| key.namespace == namespace)
    }

    /// The namespaces that a selector matches; without one, the object's own.
    pub(super) fn namespaces(&self, own: &Name, selector: Option<&Selector>) -> Vec<Name> {
        let Some(selector) = selector else { return vec![own.clone()] };
        if let Some(name) = by_name(selector) {
            let known = self.cluster.namespaces.get(&name).is_some_and(|n| selector.matches(&n.labels));
            return if known { vec![name] } else { vec![] };
        }
        let all = self.cluster.namespaces.iter();
        all.filter(|(_, namespace)| selector.matches(&namespace.labels)).map(|(name, _)| name.clone()).collect()
    }

    /// The endpoint pods that a peer means, at most some.
    pub(super) fn meant(
        &self,
        own: &Name,
        namespaces: Option<&Selector>,
        pods: &Selector,
        most: usize,
    ) -> Vec<(&'a Key, &'a Pod)> {
        let inside = self.namespaces(own, namespaces).into_iter().flat_map(|namespace| self.pods(&namespace));
        inside.take(LOOKS).filter(|(_, pod)| pods.matches(&pod.labels)).take(most).collect()
    }
}

impl Policy<'_> {
    /// The pods that the policy selects, at most some.
    pub(super) fn selected<'v>(&self, view: &View<'v>, most: usize) -> Vec<(&'v Key, &'v Pod)> {
        let Some(policy) = self.value else { return vec![] };
        view.meant(&self.key.namespace, None, &policy.selector, most)
    }

    /// The other policies of the namespace that hold for all pods that this one selects, the baseline among them.
    pub(super) fn beside<'v>(&self, view: View<'v>) -> Vec<(Key, Cow<'v, NetworkPolicy>)> {
        let Some(policy) = self.value else { return vec![] };
        let selected = self.selected(&view, 200);
        let others = view.cluster.policies_in(&self.key.namespace).map(|(key, policy, _)| (key, policy));
        let others = others.filter(|(key, _)| key != self.key);
        others
            .filter(|(_, other)| {
                let alike = other.selector.is_empty() || other.selector == policy.selector;
                alike || (!selected.is_empty() && selected.iter().all(|(_, pod)| other.selector.matches(&pod.labels)))
            })
            .collect()
    }
}

/// The one namespace that a selector asks for by the label that every namespace has.
pub(super) fn by_name(selector: &Selector) -> Option<Name> {
    selector.requirements().find_map(|Requirement { key, test }| match test {
        Test::In(values) if key.as_ref() == crate::policy::baseline::NAMESPACE_NAME && values.len() == 1 => {
            values.first().cloned()
        }
        _ => None,
    })
}

/// The field that holds the peers of a direction.
pub(super) fn list(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    }
}

/// The ipBlock of a peer.
pub(super) fn block(peer: &Peer) -> Option<&crate::policy::model::Block> {
    match peer {
        Peer::Block(block) => Some(block),
        Peer::Pods { .. } => None,
    }
}

/// A selector in the API's own short form.
pub(super) fn shown(selector: &Selector) -> String {
    let values = |values: &std::collections::BTreeSet<Name>| {
        values.iter().map(AsRef::as_ref).take(4).collect::<Vec<_>>().join(",")
    };
    let shown = selector.requirements().take(4).map(|Requirement { key, test }| match test {
        Test::In(one) if one.len() == 1 => format!("{key}={}", values(one)),
        Test::In(many) => format!("{key} in ({})", values(many)),
        Test::NotIn(many) => format!("{key} notin ({})", values(many)),
        Test::Exists => key.to_string(),
        Test::DoesNotExist => format!("!{key}"),
    });
    shown.collect::<Vec<_>>().join(",")
}
