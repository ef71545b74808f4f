//! A policy that can be read, in the cluster around it: what it selects, and whom its peers mean.
//!
//! `Policy -> Meaning`, by [`Meaning::of`]. All rules of the catalogue share one: whichever asks first has it looked up.

use super::{Place, Policy, View, view::Inside};
use crate::policy::{
    model::{self, Direction, Key, NetworkPolicy, Peer, Pod},
    selector::Selector,
};
use smallvec::SmallVec;
use std::{
    borrow::Cow,
    cell::{OnceCell, RefCell},
    rc::Rc,
};

/// The most selected pods, and pods of one peer, that any rule looks at.
const SELECTED: usize = 1000;
const PODS: usize = 200;

/// Peers that mean more than one pod are few.
pub(super) type Pods<'a> = SmallVec<[(&'a Key, &'a Pod); 1]>;

/// How many choices of namespaces are remembered at a time: most policies make one or two.
const CHOICES: usize = 64;

/// The pods that the peers of a direction mean: those of all rules in one list, and where those of each rule begin.
#[derive(Default)]
struct Meant<'a> {
    begins: Vec<usize>,
    of_peers: Vec<OnceCell<Pods<'a>>>,
}

impl<'a> Meant<'a> {
    fn of(rules: &[model::Rule]) -> Self {
        let mut begins = Vec::with_capacity(rules.len());
        let mut all = 0;
        for rule in rules {
            begins.push(all);
            all += rule.peers.len();
        }
        Self { begins, of_peers: (0..all).map(|_| OnceCell::new()).collect() }
    }

    fn of_peer(&self, rule: usize, peer: usize) -> Option<&OnceCell<Pods<'a>>> {
        self.of_peers.get(self.begins.get(rule)? + peer)
    }
}

/// A policy that can be read.
pub(super) struct Meaning<'a> {
    pub(super) key: &'a Key,
    pub(super) value: &'a NetworkPolicy,
    pub(super) view: Option<View<'a>>,
    /// By the selector of namespaces.
    inside: RefCell<Vec<(Option<&'a Selector>, Rc<Inside<'a>>)>>,
    selected: OnceCell<Pods<'a>>,
    beside: OnceCell<Vec<(Key, Cow<'a, NetworkPolicy>)>>,
    /// By direction.
    meant: [Meant<'a>; 2],
}

impl<'a> Meaning<'a> {
    /// Of a policy, if all of it can be read.
    pub(super) fn of(policy: &Policy<'a>) -> Option<Self> {
        let Policy { key, object: _, written: _, value, view } = *policy;
        let value = value?;
        let meant = Direction::BOTH
            .map(|direction| value.rules(direction).filter(|_| view.is_some()).map(Meant::of).unwrap_or_default());
        Some(Self {
            key,
            value,
            view,
            inside: RefCell::default(),
            selected: OnceCell::new(),
            beside: OnceCell::new(),
            meant,
        })
    }

    /// Its rules with the place of each.
    pub(super) fn rules(&self) -> impl Iterator<Item = (Direction, Place, &'a model::Rule)> + use<'a> {
        let value = self.value;
        Direction::BOTH.into_iter().flat_map(move |direction| {
            let place = move |rule| Place { direction, rule, peer: None };
            let rules = value.rules(direction).unwrap_or_default();
            rules.iter().enumerate().map(move |(at, rule)| (direction, place(at), rule))
        })
    }

    /// The peers of its rules with the place of each.
    pub(super) fn peers(&self) -> impl Iterator<Item = (Direction, Place, &'a Peer)> + use<'a> {
        self.rules().flat_map(|(direction, place, rule)| {
            rule.peers.iter().enumerate().map(move |(at, peer)| (direction, place.of_peer(at), peer))
        })
    }

    /// The pods that it selects, as far as the cluster is known and at most some.
    pub(super) fn selected(&self) -> &[(&'a Key, &'a Pod)] {
        self.selected.get_or_init(|| {
            let inside = self.inside(None);
            inside.map(|inside| inside.pods_with(&self.value.selector).take(SELECTED).collect()).unwrap_or_default()
        })
    }

    /// The endpoint pods that the peer at a place means, at most some; nobody can say it of an ipBlock, and without a cluster.
    pub(super) fn meant(&self, place: Place) -> Option<&[(&'a Key, &'a Pod)]> {
        let peer = place.peer?;
        let rule = self.value.rules(place.direction)?.get(place.rule)?;
        let Peer::Pods { namespaces, pods } = rule.peers.get(peer)? else { return None };
        let of_direction = &self.meant[usize::from(place.direction == Direction::Egress)];
        let known = of_direction.of_peer(place.rule, peer)?;
        if known.get().is_none() {
            let inside = self.inside(namespaces.as_ref())?;
            let _ = known.set(inside.pods_with(pods).take(PODS).collect());
        }
        known.get().map(Pods::as_slice)
    }

    /// The namespaces that a selector matches, without one its own, as far as the cluster is known.
    pub(super) fn inside(&self, selector: Option<&'a Selector>) -> Option<Rc<Inside<'a>>> {
        let (view, mut known) = (self.view?, self.inside.borrow_mut());
        if let Some((_, inside)) = known.iter().find(|(other, _)| *other == selector) {
            return Some(inside.clone());
        }
        if known.len() == CHOICES {
            known.clear();
        }
        let inside = Rc::new(view.inside(&self.key.namespace, selector));
        known.push((selector, inside.clone()));
        Some(inside)
    }

    /// Whom the peers of the rule at a place mean, those that are ipBlocks left out.
    pub(super) fn meant_by(&self, place: Place, rule: &model::Rule) -> impl Iterator<Item = &[(&'a Key, &'a Pod)]> {
        (0..rule.peers.len()).filter_map(move |peer| self.meant(place.of_peer(peer)))
    }

    /// The other policies of the namespace that hold for all pods that this one selects, the baseline among them.
    pub(super) fn beside(&self) -> &[(Key, Cow<'a, NetworkPolicy>)] {
        self.beside.get_or_init(|| {
            let Some(view) = self.view else { return vec![] };
            let selected = || self.selected().iter().take(PODS);
            let holds = |other: &Selector| {
                let alike = other.is_empty() || *other == self.value.selector;
                alike || (selected().len() > 0 && selected().all(|(_, pod)| other.matches(&pod.labels)))
            };
            let others = view.cluster.policies_in(&self.key.namespace).filter(|(key, ..)| key != self.key);
            others.filter(|(_, other, _)| holds(&other.selector)).map(|(key, other, _)| (key, other)).collect()
        })
    }
}
