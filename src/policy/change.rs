//! From one table to the next, as a list of steps that never shows a packet anything but one of the two.
//!
//! Ids are never redefined while something points to them, so new rules go in first, unseen. What an address or a prefix
//! means carries two versions and the generation from which the second holds; one store of the generation turns all of
//! them over. [`Image`] is the kernel's side as a value: what any list of steps leaves behind.

use super::table::{Address, Admission, IdentityId, Meaning, PolicyId, PortPrefix, PortSetId, RuleId, Table};
use ipnet::IpNet;
use std::{collections::BTreeMap, net::IpAddr};

/// One step. What comes before [`Change::Publish`] is seen by no packet; what comes after it is read by no packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A port set gets an entry.
    AddPort(PortSetId, PortPrefix, RuleId),
    /// A policy gets an entry.
    AddAdmission(PolicyId, IdentityId, Admission),
    /// A new prefix that means what its parent means until the change is published.
    AddNetwork(IpNet, Meaning),
    /// A new address that means what its longest prefix means until the change is published.
    AddAddress(IpAddr, Address),
    /// What a prefix means once the change is published.
    SetNetwork(IpNet, Meaning),
    /// What an address means once the change is published.
    SetAddress(IpAddr, Address),
    /// The store: the next generation begins.
    Publish,
    /// Until no packet is under way that began before this step.
    Wait,
    /// An address that means what its longest prefix means.
    RemoveAddress(IpAddr),
    /// A prefix that means what its parent means.
    RemoveNetwork(IpNet),
    /// An entry that nothing points to any more.
    RemoveAdmission(PolicyId, IdentityId),
    /// An entry that nothing points to any more.
    RemovePort(PortSetId, PortPrefix),
}

/// The steps from one table to another; none when the kernel would not notice. Ids must mean the same in both.
pub fn changes(old: &Table, new: &Table) -> Vec<Change> {
    let mut steps = Vec::new();
    steps.extend(added(&old.ports, &new.ports).map(|((set, ports), rule)| Change::AddPort(*set, *ports, *rule)));
    let admissions = added(&old.admissions, &new.admissions);
    steps.extend(admissions.map(|((policy, identity), what)| Change::AddAdmission(*policy, *identity, *what)));

    // Shorter prefixes first: IpNet orders a network before its subnets.
    for (prefix, meaning) in added(&old.networks, &new.networks) {
        steps.push(Change::AddNetwork(*prefix, old.network(*prefix)));
        steps.push(Change::SetNetwork(*prefix, *meaning));
    }
    for (address, new_address) in added(&old.addresses, &new.addresses) {
        let before = Address { meaning: old.network(IpNet::from(*address)), ifindex: new_address.ifindex };
        steps.push(Change::AddAddress(*address, before));
        steps.push(Change::SetAddress(*address, *new_address));
    }
    for (prefix, meaning) in &old.networks {
        let after = new.network(*prefix);
        if after != *meaning {
            steps.push(Change::SetNetwork(*prefix, after));
        }
    }
    for (address, what) in &old.addresses {
        let after = match new.addresses.get(address) {
            Some(after) => *after,
            None => Address { meaning: new.network(IpNet::from(*address)), ifindex: what.ifindex },
        };
        if after != *what {
            steps.push(Change::SetAddress(*address, after));
        }
    }

    let mut removals = Vec::new();
    removals.extend(added(&new.addresses, &old.addresses).map(|(address, _)| Change::RemoveAddress(*address)));
    removals.extend(added(&new.networks, &old.networks).map(|(prefix, _)| Change::RemoveNetwork(*prefix)));
    let readable = !removals.is_empty();
    let admissions = added(&new.admissions, &old.admissions);
    removals.extend(admissions.map(|((policy, identity), _)| Change::RemoveAdmission(*policy, *identity)));
    removals.extend(added(&new.ports, &old.ports).map(|((set, ports), _)| Change::RemovePort(*set, *ports)));
    if steps.is_empty() && removals.is_empty() {
        return steps;
    }
    steps.extend([Change::Publish, Change::Wait]);
    steps.extend(removals);
    if readable {
        // The kernel may hand the elements out again at once; a packet may still hold one that was looked up before.
        steps.push(Change::Wait);
    }
    steps
}

/// What `new` has and `old` has not.
fn added<'a, K: Ord, V>(old: &'a BTreeMap<K, V>, new: &'a BTreeMap<K, V>) -> impl Iterator<Item = (&'a K, &'a V)> {
    new.iter().filter(|(key, _)| !old.contains_key(key))
}

/// Two versions of a meaning, as the kernel holds them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Versions<T> {
    before: T,
    after: T,
    from: u64,
}

impl<T: Copy> Versions<T> {
    fn at(&self, generation: u64) -> T {
        if generation >= self.from { self.after } else { self.before }
    }

    fn set(&mut self, value: T, generation: u64) {
        *self = Versions { before: self.at(generation), after: value, from: generation + 1 };
    }
}

/// The kernel's side as a value. What the datapath does with maps, step by step, this does with ordered values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    generation: u64,
    addresses: BTreeMap<IpAddr, Versions<Address>>,
    networks: BTreeMap<IpNet, Versions<Meaning>>,
    admissions: BTreeMap<(PolicyId, IdentityId), Admission>,
    ports: BTreeMap<(PortSetId, PortPrefix), RuleId>,
}

impl Image {
    /// The generation that a packet reads which begins now.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Takes one step.
    pub fn apply(&mut self, change: &Change) {
        let generation = self.generation;
        match *change {
            Change::AddPort(set, ports, rule) => {
                self.ports.insert((set, ports), rule);
            }
            Change::AddAdmission(policy, identity, what) => {
                self.admissions.insert((policy, identity), what);
            }
            Change::AddNetwork(prefix, before) => {
                self.networks.insert(prefix, Versions { before, after: before, from: 0 });
            }
            Change::AddAddress(address, before) => {
                self.addresses.insert(address, Versions { before, after: before, from: 0 });
            }
            Change::SetNetwork(prefix, after) => {
                if let Some(versions) = self.networks.get_mut(&prefix) {
                    versions.set(after, generation);
                }
            }
            Change::SetAddress(address, after) => {
                if let Some(versions) = self.addresses.get_mut(&address) {
                    versions.set(after, generation);
                }
            }
            Change::Publish => self.generation += 1,
            Change::Wait => {}
            Change::RemoveAddress(address) => {
                self.addresses.remove(&address);
            }
            Change::RemoveNetwork(prefix) => {
                self.networks.remove(&prefix);
            }
            Change::RemoveAdmission(policy, identity) => {
                self.admissions.remove(&(policy, identity));
            }
            Change::RemovePort(set, ports) => {
                self.ports.remove(&(set, ports));
            }
        }
    }

    /// What a packet sees that read this generation at its start.
    pub fn at(&self, generation: u64) -> Table {
        Table {
            addresses: self.addresses.iter().map(|(k, v)| (*k, v.at(generation))).collect(),
            networks: self.networks.iter().map(|(k, v)| (*k, v.at(generation))).collect(),
            admissions: self.admissions.clone(),
            ports: self.ports.clone(),
            labels: BTreeMap::new(),
        }
    }
}
