//! Whose an address is, as this node knows it, and what its entry and its interface say then.

use super::{
    super::{
        change::Before,
        cluster::{Attachment, Cluster, Unknown},
        identity::Class,
        model::{Key, Pod},
        table::{Address, IdentityId, Meaning},
    },
    Compiled, Ids,
};
use ipnet::IpNet;
use std::{collections::BTreeSet, net::IpAddr};

/// Whose an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner<'a> {
    Pod(&'a Key, &'a Pod),
    /// No pod that is known, so nothing passes.
    Closed,
    /// No pod that is known, and it is told apart from others by its interface only.
    Unknown,
    /// An address like any other.
    Nobody,
}

impl<'a> Owner<'a> {
    pub(super) fn pod(self) -> Option<(&'a Key, &'a Pod)> {
        match self {
            Owner::Pod(key, pod) => Some((key, pod)),
            Owner::Closed | Owner::Unknown | Owner::Nobody => None,
        }
    }
}

/// The pods that say that an address is theirs; nearly always one.
#[derive(Debug)]
pub(super) enum Claims {
    One(Key),
    Several(Vec<Key>),
}

impl Claims {
    fn of(mut keys: Vec<Key>) -> Option<Self> {
        match keys.len() {
            0 | 1 => keys.pop().map(Claims::One),
            _ => Some(Claims::Several(keys)),
        }
    }

    fn keys(&self) -> &[Key] {
        match self {
            Claims::One(key) => std::slice::from_ref(key),
            Claims::Several(keys) => keys,
        }
    }
}

impl Compiled {
    /// The pod that an address is, as this node knows it.
    pub fn pod_at(&self, cluster: &Cluster, address: IpAddr) -> Option<Key> {
        self.owner(cluster, address).pod().map(|(key, _)| key.clone())
    }

    /// Whose an address is, as this node knows it.
    pub(super) fn owner<'a>(&self, cluster: &'a Cluster, address: IpAddr) -> Owner<'a> {
        // A node's address is no pod's.
        if self.of_nodes.contains(&address) {
            return Owner::Nobody;
        }
        let is_local = |(_, pod): &(&Key, &Pod)| pod.node.as_ref() == Some(&self.node);
        let claims = self.claims.get(&address).into_iter().flat_map(Claims::keys);
        let claims = claims.filter_map(|key| cluster.pods.get_key_value(key));
        let attachment = self.attachments.get(&address);
        let owners: Vec<(&Key, &Pod)> = match attachment.map(|attachment| &attachment.pod) {
            None if self.claims.contains_key(&address) => claims.collect(),
            None => cluster.seen_elsewhere(address).collect(),
            Some(None) => claims.filter(is_local).collect(),
            Some(Some((key, uid))) => cluster.attached(key, *uid).into_iter().collect(),
        };
        match owners[..] {
            [(key, pod)] => Owner::Pod(key, pod),
            // Two pods claim it, so it is nobody's: closed where one of them is, an address like any other elsewhere.
            [_, _, ..] if owners.iter().any(is_local) => Owner::Closed,
            [] if attachment.is_some() && cluster.unknown == Unknown::Closed => Owner::Closed,
            [] if attachment.is_some() => Owner::Unknown,
            _ => Owner::Nobody,
        }
    }

    /// A pod has these addresses now, and had those.
    pub(super) fn claim(&mut self, key: &Key, old: Option<&Pod>, new: Option<&Pod>) {
        let addresses =
            |pod: Option<&Pod>| -> BTreeSet<IpAddr> { pod.into_iter().flat_map(|pod| pod.addresses.clone()).collect() };
        let (old, new) = (addresses(old), addresses(new));
        for address in old.symmetric_difference(&new) {
            let others = self.claims.remove(address);
            let others = others.iter().flat_map(Claims::keys).filter(|other| *other != key);
            let claims = others.chain(new.contains(address).then_some(key)).cloned().collect();
            if let Some(claims) = Claims::of(claims) {
                self.claims.insert(*address, claims);
            }
        }
    }

    /// The node sees an address on an interface of its own, or does no longer.
    pub(super) fn attach(&mut self, address: IpAddr, attachment: Option<Attachment>) {
        let pod_of = |attachment: &Attachment| attachment.pod.as_ref().map(|(key, _)| key.clone());
        if let Some(pod) = attachment.as_ref().and_then(pod_of) {
            self.attached.entry(pod).or_default().insert(address);
        }
        let old = match attachment {
            Some(attachment) => self.attachments.insert(address, attachment),
            None => self.attachments.remove(&address),
        };
        let left = old.as_ref().and_then(pod_of);
        if let Some(pod) = left.filter(|pod| self.attachments.get(&address).and_then(pod_of).as_ref() != Some(pod))
            && let Some(addresses) = self.attached.get_mut(&pod)
        {
            addresses.remove(&address);
            if addresses.is_empty() {
                self.attached.remove(&pod);
            }
        }
    }

    /// The ranges in which an address that is no known pod is closed here.
    pub(super) fn ranges_of(&self, cluster: &Cluster) -> BTreeSet<IpNet> {
        if cluster.unknown == Unknown::Open {
            return BTreeSet::new();
        }
        let seen = cluster.ranges.iter().filter(|_| cluster.here.as_ref() == Some(&self.node));
        let told = cluster.nodes.get(&self.node).into_iter().flat_map(|node| &node.pod_ranges);
        told.chain(seen).map(IpNet::trunc).collect()
    }

    /// Brings the entry of an address up to whose it is; `class` is what its pod is to the policies in use.
    pub(super) fn settle_address(
        &mut self,
        cluster: &Cluster,
        address: IpAddr,
        owner: Owner<'_>,
        mut class: Class,
        ids: &mut Ids,
        before: &mut Before,
    ) {
        let attachment = self.attachments.get(&address);
        let isolation = owner.pod().and_then(|(key, _)| self.isolation.get(key)).copied();
        let local = isolation.is_some() || attachment.is_some();
        let seen = || attachment.and_then(|attachment| attachment.pod.as_ref()).map(|(key, _)| key);
        let pod = owner.pod().map(|(key, _)| key).or_else(seen);
        let bound = pod.is_none_or(|key| cluster.is_bound(&key.namespace));
        let ifindex = attachment.filter(|_| bound).map_or(0, |attachment| attachment.ifindex);
        let new = if owner == Owner::Nobody {
            None
        } else {
            let [ingress, egress] = isolation.unwrap_or_default();
            class.extend_from_slice(self.blocks_of(address));
            let identity = self.take_identity(class, ids, before);
            Some(Address {
                meaning: Meaning { identity, ingress, egress, local, closed: owner == Owner::Closed },
                ifindex,
            })
        };
        let old = match new {
            Some(new) => self.table.addresses.insert(address, new),
            None => self.table.addresses.remove(&address),
        };
        if old != new {
            before.addresses.entry(address).or_insert(old);
            self.bind(address, old, new, before);
        }
        if let Some(old) = old {
            self.leave_identity(old.meaning.identity, before);
        }
    }

    /// Brings the interfaces of an address up to what is behind them.
    fn bind(&mut self, address: IpAddr, old: Option<Address>, new: Option<Address>, before: &mut Before) {
        let [old, new] = [old, new].map(|at| at.map_or(0, |at| at.ifindex));
        if old != new
            && let Some(bound) = self.bound.get_mut(&old)
        {
            bound.remove(&address);
        }
        if new != 0 {
            self.bound.entry(new).or_default().insert(address);
        }
        for ifindex in [old, new] {
            let Some(bound) = self.bound.get(&ifindex) else { continue };
            let mut there = bound.iter().filter_map(|address| self.table.addresses.get(address)).map(|at| at.meaning);
            let first = there.next().map(|first| Meaning { identity: IdentityId(0), ..first });
            // An interface of two pods that differ is for neither.
            let same =
                first.is_some_and(|first| there.all(|other| Meaning { identity: IdentityId(0), ..other } == first));
            let behind = first.map(|first| if same { first } else { Meaning { closed: true, ..first } });
            let was = match behind {
                Some(behind) => self.table.interfaces.insert(ifindex, behind),
                None => self.table.interfaces.remove(&ifindex),
            };
            if behind.is_none() {
                self.bound.remove(&ifindex);
            }
            if was != behind {
                before.interfaces.entry(ifindex).or_insert(was);
            }
        }
    }
}
