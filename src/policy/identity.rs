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
use std::collections::BTreeMap;

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
    here: BTreeMap<Name, BTreeMap<u32, Selector>>,
    across: BTreeMap<u32, (Selector, Selector)>,
    blocks: BTreeMap<IpNet, BTreeMap<u32, Block>>,
    ports: BTreeMap<(Name, Protocol, u16), u32>,
    /// Every prefix at which a block begins or ends, and how often one does.
    cuts: BTreeMap<IpNet, usize>,
}

/// What selects pods in one namespace.
pub type PodTerms<'a> = Vec<(&'a Selector, u32)>;

impl Terms {
    /// One more term, by its number. It is not among them yet.
    pub fn add(&mut self, term: &Term, number: u32) {
        match term {
            Term::Here(namespace, pods) => {
                self.here.entry(namespace.clone()).or_default().insert(number, pods.clone());
            }
            Term::Across(namespaces, pods) => {
                self.across.insert(number, (namespaces.clone(), pods.clone()));
            }
            Term::Block(block) => {
                self.blocks.entry(block.cidr.trunc()).or_default().insert(number, block.clone());
                cuts(block).for_each(|cut| *self.cuts.entry(cut).or_default() += 1);
            }
            Term::Port(name, protocol, port) => {
                self.ports.insert((name.clone(), *protocol, *port), number);
            }
        }
    }

    /// One term less. It is among them.
    pub fn remove(&mut self, term: &Term, number: u32) {
        fn from<K: Ord, V>(map: &mut BTreeMap<K, BTreeMap<u32, V>>, key: &K, number: u32) {
            if let Some(of_key) = map.get_mut(key) {
                of_key.remove(&number);
                if of_key.is_empty() {
                    map.remove(key);
                }
            }
        }
        match term {
            Term::Here(namespace, _) => from(&mut self.here, namespace, number),
            Term::Across(..) => drop(self.across.remove(&number)),
            Term::Block(block) => {
                from(&mut self.blocks, &block.cidr.trunc(), number);
                for cut in cuts(block) {
                    if let Some(users) = self.cuts.get_mut(&cut) {
                        *users -= 1;
                        if *users == 0 {
                            self.cuts.remove(&cut);
                        }
                    }
                }
            }
            Term::Port(name, protocol, port) => drop(self.ports.remove(&(name.clone(), *protocol, *port))),
        }
    }

    /// The terms that can select pods of a namespace. None if its Namespace is not known: then no selector matches.
    pub fn in_namespace(&self, cluster: &Cluster, name: &Name) -> PodTerms<'_> {
        let Some(namespace) = cluster.namespaces.get(name) else { return Vec::new() };
        let here = self.here.get(name).into_iter().flatten().map(|(number, pods)| (pods, *number));
        let across = self.across.iter().filter(|(_, (namespaces, _))| namespaces.matches(&namespace.labels));
        here.chain(across.map(|(number, (_, pods))| (pods, *number))).collect()
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

    /// The class of every address in a network, if no prefix of [`Terms::cuts_at`] divides it.
    pub fn of_network(&self, network: &IpNet) -> Class {
        let holds = |block: &Block| !block.except.iter().any(|except| except.contains(network));
        let around = std::iter::successors(Some(*network), IpNet::supernet);
        let blocks = around.filter_map(|around| self.blocks.get(&around)).flatten();
        blocks.filter(|(_, block)| holds(block)).map(|(number, _)| *number).collect()
    }

    /// Whether a block begins or ends at a prefix.
    pub fn cuts_at(&self, prefix: &IpNet) -> bool {
        self.cuts.contains_key(prefix)
    }
}

/// The prefixes at which a block begins and ends.
pub fn cuts(block: &Block) -> impl Iterator<Item = IpNet> {
    std::iter::once(block.cidr).chain(block.except.iter().copied()).map(|prefix| prefix.trunc())
}

/// The pods of a cluster by namespace, in order; those that are endpoints.
pub fn endpoints(cluster: &Cluster) -> impl Iterator<Item = (&Key, &Pod)> {
    cluster.pods.iter().filter(|(_, pod)| pod.is_endpoint())
}

/// Every pod that a term holds for.
pub fn having<'a>(cluster: &'a Cluster, term: &'a Term) -> Box<dyn Iterator<Item = (&'a Key, &'a Pod)> + 'a> {
    let selected =
        |namespace: &Name, pods: &'a Selector| cluster.pods_in(namespace).filter(|(_, pod)| pods.matches(&pod.labels));
    let pods: Box<dyn Iterator<Item = _>> = match term {
        Term::Here(namespace, pods) => Box::new(selected(namespace, pods)),
        Term::Across(namespaces, pods) => {
            let there = cluster.namespaces.iter().filter(|(_, namespace)| namespaces.matches(&namespace.labels));
            Box::new(there.flat_map(move |(name, _)| selected(name, pods)))
        }
        Term::Port(name, protocol, port) => Box::new(
            cluster.pods.iter().filter(move |(_, pod)| pod.named_ports(name, *protocol).any(|number| number == *port)),
        ),
        Term::Block(_) => Box::new(std::iter::empty()),
    };
    Box::new(pods.filter(|(_, pod)| pod.is_endpoint()))
}
