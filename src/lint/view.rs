//! What a rule may know of the cluster around an object.
//!
//! `View {cluster, live}`: the watched state in the webhook, the given files in `check`. Files rarely hold all of a
//! cluster, so a rule that says "nothing matches" speaks of a namespace only if the view [`View::holds`] it.

use crate::policy::{
    baseline::Baseline,
    cluster::{Cluster, of_namespace},
    mode::Mode,
    model::{Direction, Key, Name, Namespace, Peer, Pod},
    selector::{Requirement, Selector, Test, Values},
    service::Service,
};

/// How many pods or namespaces one rule looks at: an object may name thousands of peers, and a review has milliseconds.
pub(super) const LOOKS: usize = 200_000;
/// Up to how many pods are remembered from one rule to the next.
const FEW: usize = 256;

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
        self.cluster.pods_in(namespace).filter(|(_, pod)| pod.is_endpoint())
    }

    /// Whether the pods of a namespace are known.
    pub(super) fn holds(&self, namespace: &Name) -> bool {
        self.pods(namespace).next().is_some()
    }

    /// The Services of a namespace.
    pub(super) fn services(&self, namespace: &Name) -> impl Iterator<Item = (&'a Key, &'a Service)> + use<'a> {
        of_namespace(&self.cluster.around.services, namespace)
    }

    /// The namespaces that a selector matches; without one, the object's own.
    fn namespaces(&self, own: &'a Name, selector: Option<&Selector>) -> Vec<&'a Name> {
        let Some(selector) = selector else { return vec![own] };
        let known = |(name, namespace): (&'a Name, &Namespace)| selector.matches(&namespace.labels).then_some(name);
        match by_name(selector) {
            Some(name) => self.cluster.namespaces.get_key_value(name).and_then(known).into_iter().collect(),
            None => self.cluster.namespaces.iter().filter_map(known).collect(),
        }
    }

    /// The namespaces that a selector matches, to look for pods in.
    pub(super) fn inside(self, own: &'a Name, selector: Option<&Selector>) -> Inside<'a> {
        let namespaces = self.namespaces(own, selector);
        let few: Vec<_> = namespaces.iter().flat_map(|namespace| self.pods(namespace)).take(FEW + 1).collect();
        let few = Some(few).filter(|few| few.len() <= FEW);
        Inside { view: self, namespaces, few }
    }
}

/// Namespaces to look for pods in, as one rule after another does.
pub(super) struct Inside<'a> {
    view: View<'a>,
    pub(super) namespaces: Vec<&'a Name>,
    /// Their endpoint pods, where they are few.
    few: Option<Vec<(&'a Key, &'a Pod)>>,
}

impl<'a> Inside<'a> {
    /// The endpoint pods in them that a selector matches.
    pub(super) fn pods_with(&self, selector: &Selector) -> impl Iterator<Item = (&'a Key, &'a Pod)> {
        let (few, many) = match &self.few {
            Some(few) => (&few[..], &[][..]),
            None => (&[][..], &self.namespaces[..]),
        };
        let all = few.iter().copied().chain(many.iter().flat_map(|namespace| self.view.pods(namespace)));
        all.take(LOOKS).filter(|(_, pod)| selector.matches(&pod.labels))
    }
}

/// The one namespace that a selector asks for by the label that every namespace has.
pub(super) fn by_name(selector: &Selector) -> Option<&Name> {
    selector.requirements().find_map(|Requirement { key, test }| match test {
        Test::In(values) if key.as_ref() == crate::policy::baseline::NAMESPACE_NAME && values.len() == 1 => {
            values.first()
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
    let values = |values: &Values| values.iter().map(AsRef::as_ref).take(4).collect::<Vec<&str>>().join(",");
    let shown = selector.requirements().take(4).map(|Requirement { key, test }| match test {
        Test::In(one) if one.len() == 1 => format!("{key}={}", values(one)),
        Test::In(many) => format!("{key} in ({})", values(many)),
        Test::NotIn(many) => format!("{key} notin ({})", values(many)),
        Test::Exists => key.to_string(),
        Test::DoesNotExist => format!("!{key}"),
    });
    shown.collect::<Vec<_>>().join(",")
}
