//! Which addresses no policy in use on the node tells apart.
//!
//! `peers of the policies in use -> Terms -> class of an address -> identity`. A [`Term`] is one thing by which a policy
//! can tell addresses apart; a class is the set of terms that hold for an address, and its number is the identity.

use super::{
    cluster::Cluster,
    model::{Block, Key, Name, Peer, Pod, Protocol},
    selector::Selector,
};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};

/// One thing by which a policy can tell addresses apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Term {
    /// A pod with these labels in this namespace.
    Here(Name, Selector),
    /// A pod with these labels in a namespace with those.
    Across(Selector, Selector),
    /// An address of an ipBlock.
    Block(Block),
    /// A pod on which this port name and protocol mean this number.
    Port(Name, Protocol, u16),
}

impl Term {
    /// What a peer means in a policy of this namespace.
    pub fn of_peer(namespace: &Name, peer: &Peer) -> Term {
        match peer {
            Peer::Pods { namespaces: None, pods } => Term::Here(namespace.clone(), pods.clone()),
            Peer::Pods { namespaces: Some(namespaces), pods } => Term::Across(namespaces.clone(), pods.clone()),
            Peer::Block(block) => Term::Block(block.clone()),
        }
    }
}

/// The set of terms that hold for an address, as their numbers in order.
pub type Class = Vec<u32>;

/// The terms in use, sorted by what has to be asked of an address.
#[derive(Debug, Default)]
pub struct Terms {
    here: BTreeMap<Name, Vec<(Selector, u32)>>,
    across: Vec<(Selector, Selector, u32)>,
    blocks: Vec<(Block, u32)>,
    ports: BTreeMap<(Name, Protocol, u16), u32>,
}

/// What selects pods in one namespace.
pub type PodTerms<'a> = Vec<(&'a Selector, u32)>;

impl Terms {
    /// Sorts terms and their numbers.
    pub fn new<'a>(terms: impl IntoIterator<Item = (&'a Term, u32)>) -> Self {
        let mut sorted = Self::default();
        for (term, number) in terms {
            match term {
                Term::Here(namespace, pods) => {
                    sorted.here.entry(namespace.clone()).or_default().push((pods.clone(), number))
                }
                Term::Across(namespaces, pods) => sorted.across.push((namespaces.clone(), pods.clone(), number)),
                Term::Block(block) => sorted.blocks.push((block.clone(), number)),
                Term::Port(name, protocol, port) => {
                    sorted.ports.insert((name.clone(), *protocol, *port), number);
                }
            }
        }
        sorted
    }

    /// The terms that can select pods of a namespace. None if its Namespace is not known: then no selector matches.
    pub fn in_namespace(&self, cluster: &Cluster, name: &Name) -> PodTerms<'_> {
        let Some(namespace) = cluster.namespaces.get(name) else { return Vec::new() };
        let here = self.here.get(name).into_iter().flatten().map(|(pods, number)| (pods, *number));
        let across = self.across.iter().filter(|(namespaces, _, _)| namespaces.matches(&namespace.labels));
        here.chain(across.map(|(_, pods, number)| (pods, *number))).collect()
    }

    /// The class of a pod by its labels and named ports; `selecting` is [`Terms::in_namespace`] of its namespace.
    pub fn of_pod(&self, selecting: &PodTerms<'_>, pod: &Pod) -> Class {
        let selected = selecting.iter().filter(|(pods, _)| pods.matches(&pod.labels)).map(|(_, number)| *number);
        let named = pod
            .ports
            .iter()
            .filter_map(|port| self.ports.get(&(port.name.clone(), port.protocol, port.number)))
            .copied();
        selected.chain(named).collect()
    }

    /// The class of every address in a network, if no prefix of [`Terms::prefixes`] divides it.
    pub fn of_network(&self, network: &IpNet) -> Class {
        let holds = |(block, _): &&(Block, u32)| {
            block.cidr.contains(network) && !block.except.iter().any(|except| except.contains(network))
        };
        self.blocks.iter().filter(holds).map(|(_, number)| *number).collect()
    }

    /// Every prefix at which a block begins or ends.
    pub fn prefixes(&self) -> BTreeSet<IpNet> {
        let of_block = |(block, _): &(Block, u32)| {
            std::iter::once(block.cidr)
                .chain(block.except.iter().copied())
                .map(|prefix| prefix.trunc())
                .collect::<Vec<_>>()
        };
        self.blocks.iter().flat_map(of_block).collect()
    }
}

/// The pods of a cluster by namespace, in order; those that are endpoints.
pub fn endpoints(cluster: &Cluster) -> impl Iterator<Item = (&Key, &Pod)> {
    cluster.pods.iter().filter(|(_, pod)| pod.is_endpoint())
}
