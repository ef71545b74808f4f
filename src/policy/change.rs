//! From one table to the next, as a list of steps that never shows a packet anything but one of the two.
//!
//! Ids are never redefined while something points to them, so new rules go in first, unseen. What an address or a prefix
//! means carries two versions and the generation from which the second holds; one store of the generation turns all of
//! them over. [`Image`] is the kernel's side as a value: what any list of steps leaves behind.

use super::table::{Address, Admission, IdentityId, Label, Meaning, PolicyId, PortPrefix, PortSetId, RuleId, Table};
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
    /// A new interface that nothing is bound to until the change is published.
    AddInterface(u32),
    /// What a prefix means once the change is published.
    SetNetwork(IpNet, Meaning),
    /// What an address means once the change is published.
    SetAddress(IpAddr, Address),
    /// What is behind an interface once the change is published.
    SetInterface(u32, Meaning),
    /// The store: the next generation begins.
    Publish,
    /// Until no packet is under way that began before this step.
    Wait,
    /// An address that means what its longest prefix means.
    RemoveAddress(IpAddr),
    /// A prefix that means what its parent means.
    RemoveNetwork(IpNet),
    /// An interface that nothing is bound to.
    RemoveInterface(u32),
    /// An entry that nothing points to any more.
    RemoveAdmission(PolicyId, IdentityId),
    /// An entry that nothing points to any more.
    RemovePort(PortSetId, PortPrefix),
}

/// What a table had where it is different now; `None` = there was nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Before {
    /// Addresses.
    pub addresses: BTreeMap<IpAddr, Option<Address>>,
    /// Interfaces.
    pub interfaces: BTreeMap<u32, Option<Meaning>>,
    /// Prefixes.
    pub networks: BTreeMap<IpNet, Option<Meaning>>,
    /// What policies admit.
    pub admissions: BTreeMap<(PolicyId, IdentityId), Option<Admission>>,
    /// Entries of port sets.
    pub ports: BTreeMap<(PortSetId, PortPrefix), Option<RuleId>>,
    /// What ids stand for.
    pub labels: BTreeMap<u32, Option<Label>>,
}

impl Before {
    /// All in which two tables differ.
    pub fn between(old: &Table, new: &Table) -> Self {
        fn differing<K: Ord + Clone, V: PartialEq + Clone>(
            old: &BTreeMap<K, V>,
            new: &BTreeMap<K, V>,
        ) -> BTreeMap<K, Option<V>> {
            let gone = old.iter().filter(|(key, value)| new.get(key) != Some(value));
            let gone = gone.map(|(key, value)| (key.clone(), Some(value.clone())));
            gone.chain(new.keys().filter(|key| !old.contains_key(key)).map(|key| (key.clone(), None))).collect()
        }
        Self {
            addresses: differing(&old.addresses, &new.addresses),
            interfaces: differing(&old.interfaces, &new.interfaces),
            networks: differing(&old.networks, &new.networks),
            admissions: differing(&old.admissions, &new.admissions),
            ports: differing(&old.ports, &new.ports),
            labels: differing(&old.labels, &new.labels),
        }
    }

    /// Takes in what came before `later`: where both say something, the earlier one is right.
    pub fn then(&mut self, later: Before) {
        fn merge<K: Ord, V>(earlier: &mut BTreeMap<K, V>, later: BTreeMap<K, V>) {
            for (key, value) in later {
                earlier.entry(key).or_insert(value);
            }
        }
        let Before { addresses, interfaces, networks, admissions, ports, labels } = later;
        merge(&mut self.addresses, addresses);
        merge(&mut self.interfaces, interfaces);
        merge(&mut self.networks, networks);
        merge(&mut self.admissions, admissions);
        merge(&mut self.ports, ports);
        merge(&mut self.labels, labels);
    }

    /// What was said of the longest prefix that holds a network, itself included.
    fn network(&self, new: &Table, of: IpNet) -> Meaning {
        let mut at = Some(of);
        while let Some(prefix) = at {
            let said = match self.networks.get(&prefix) {
                Some(before) => before.as_ref(),
                None => new.networks.get(&prefix),
            };
            if let Some(meaning) = said {
                return *meaning;
            }
            at = prefix.supernet();
        }
        Meaning::default()
    }
}

/// The steps from one table to another; none when the kernel would not notice. Ids must mean the same in both.
pub fn changes(old: &Table, new: &Table) -> Vec<Change> {
    steps(&Before::between(old, new), new)
}

/// The steps to a table from the one that differs from it by this.
pub fn steps(before: &Before, new: &Table) -> Vec<Change> {
    let mut steps = Vec::new();
    steps.extend(added(&before.ports, &new.ports).map(|((set, ports), rule)| Change::AddPort(*set, *ports, *rule)));
    let admissions = added(&before.admissions, &new.admissions);
    steps.extend(admissions.map(|((policy, identity), what)| Change::AddAdmission(*policy, *identity, *what)));

    for (prefix, meaning) in added(&before.networks, &new.networks) {
        steps.push(Change::AddNetwork(*prefix, before.network(new, *prefix)));
        steps.push(Change::SetNetwork(*prefix, *meaning));
    }
    for (address, what) in added(&before.addresses, &new.addresses) {
        let said = Address { meaning: before.network(new, IpNet::from(*address)), ifindex: 0 };
        steps.push(Change::AddAddress(*address, said));
        steps.push(Change::SetAddress(*address, *what));
    }
    for (ifindex, meaning) in added(&before.interfaces, &new.interfaces) {
        steps.push(Change::AddInterface(*ifindex));
        steps.push(Change::SetInterface(*ifindex, *meaning));
    }
    for (prefix, meaning) in had(&before.networks) {
        let after = new.network(*prefix);
        if after != *meaning {
            steps.push(Change::SetNetwork(*prefix, after));
        }
    }
    for (address, what) in had(&before.addresses) {
        let after = match new.addresses.get(address) {
            Some(after) => *after,
            None => Address { meaning: new.network(IpNet::from(*address)), ifindex: 0 },
        };
        if after != *what {
            steps.push(Change::SetAddress(*address, after));
        }
    }
    for (ifindex, meaning) in had(&before.interfaces) {
        let after = new.interfaces.get(ifindex).copied().unwrap_or_default();
        if after != *meaning {
            steps.push(Change::SetInterface(*ifindex, after));
        }
    }

    let mut removals = Vec::new();
    removals.extend(gone(&before.addresses, &new.addresses).map(|address| Change::RemoveAddress(*address)));
    removals.extend(gone(&before.networks, &new.networks).map(|prefix| Change::RemoveNetwork(*prefix)));
    removals.extend(gone(&before.interfaces, &new.interfaces).map(|ifindex| Change::RemoveInterface(*ifindex)));
    let readable = !removals.is_empty();
    let admissions = gone(&before.admissions, &new.admissions);
    removals.extend(admissions.map(|(policy, identity)| Change::RemoveAdmission(*policy, *identity)));
    removals.extend(gone(&before.ports, &new.ports).map(|(set, ports)| Change::RemovePort(*set, *ports)));
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

/// What was there before, and what it was.
fn had<K, V>(before: &BTreeMap<K, Option<V>>) -> impl Iterator<Item = (&K, &V)> {
    before.iter().filter_map(|(key, value)| Some((key, value.as_ref()?)))
}

/// What is there now and was not.
fn added<'a, K: Ord, V>(
    before: &'a BTreeMap<K, Option<V>>,
    new: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (&'a K, &'a V)> {
    before.iter().filter(|(_, value)| value.is_none()).filter_map(|(key, _)| new.get_key_value(key))
}

/// What was there and is not now.
fn gone<'a, K: Ord, V>(before: &'a BTreeMap<K, Option<V>>, new: &'a BTreeMap<K, V>) -> impl Iterator<Item = &'a K> {
    had(before).map(|(key, _)| key).filter(|key| !new.contains_key(key))
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
    interfaces: BTreeMap<u32, Versions<Meaning>>,
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
            Change::AddInterface(ifindex) => {
                let nothing = Meaning::default();
                self.interfaces.insert(ifindex, Versions { before: nothing, after: nothing, from: 0 });
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
            Change::SetInterface(ifindex, after) => {
                if let Some(versions) = self.interfaces.get_mut(&ifindex) {
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
            Change::RemoveInterface(ifindex) => {
                self.interfaces.remove(&ifindex);
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
            interfaces: self.interfaces.iter().map(|(k, v)| (*k, v.at(generation))).collect(),
            networks: self.networks.iter().map(|(k, v)| (*k, v.at(generation))).collect(),
            admissions: self.admissions.clone(),
            ports: self.ports.clone(),
            labels: BTreeMap::new(),
        }
    }
}
