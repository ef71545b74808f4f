//! Executes lists of changes. [`crate::policy::change::Image`] is the same with values instead of maps.

use super::{
    Datapath, Error,
    abi::{PortPlace, address, admission, admission_key, network},
    grace,
};
use crate::policy::{
    change::Change,
    table::{Address, Meaning, PortPrefix, PortSetId, RuleId},
};
use ipnet::IpNet;
use libbpf_rs::MapCore;
use std::net::IpAddr;

/// What takes a step back that no packet has seen.
enum Undo {
    Port(PortSetId, PortPrefix),
    Admission(admission_key),
    Network(IpNet),
    Address(IpAddr),
    Interface(u32),
    Version { slot: u32, before: u64 },
}

/// What is left of a list of changes once its state is in force: it waits for the packets that began before.
#[derive(Debug, Default)]
pub(super) struct Rest {
    changes: Vec<Change>,
    /// Ids that nothing uses any more.
    counters: Vec<u32>,
}

impl Datapath {
    /// Takes the steps in their order and returns the generation that is in force afterwards.
    ///
    /// An error before [`Change::Publish`] takes back what was done: the old state is whole, and nobody saw anything
    /// else. After it the new state is in force, and an error says that something which nothing points to was left:
    /// [`Datapath::table`] has it, and the next list of changes from there takes it away.
    pub fn apply(&mut self, changes: &[Change]) -> Result<u64, Error> {
        let generation = self.publish(changes)?;
        self.settle()?;
        while self.attach_next()? {}
        Ok(generation)
    }

    /// The same, but returns as soon as the new state is in force. What no packet will read any more is taken away by
    /// [`Datapath::settle`], or before the next changes; nobody waits for packets under way unless changes follow at once.
    pub fn publish(&mut self, changes: &[Change]) -> Result<u64, Error> {
        self.settle()?;
        if self.slots.must_wait() {
            // The last list failed, and a packet may still hold what was taken back. Without it there would be less room.
            grace::wait()?;
            self.slots.recycle();
        }
        let published = changes.iter().position(|change| *change == Change::Publish).map_or(0, |at| at + 1);
        // A list without it changes nothing that a packet reads.
        let (now, rest) = changes.split_at(if published == 0 { changes.len() } else { published });
        let mut undo = Vec::new();
        for change in now {
            match self.step(change) {
                Ok(step) => undo.extend(step),
                Err(error) => {
                    self.undo(undo);
                    return Err(error);
                }
            }
        }
        if let [Change::Wait, changes @ ..] = rest {
            self.rest.changes = changes.to_vec();
            self.grace.begin();
        } else {
            self.rest.changes = rest.to_vec();
        }
        Ok(self.slots.generation())
    }

    /// Takes away what no packet reads any more, after waiting for those that do.
    pub fn settle(&mut self) -> Result<(), Error> {
        let Rest { changes, counters } = std::mem::take(&mut self.rest);
        if self.grace.end()? {
            self.slots.recycle();
        }
        for change in &changes {
            self.step(change)?;
        }
        for id in counters {
            self.zero(id)?;
        }
        Ok(())
    }

    /// [`Datapath::settle`], if nobody has to wait for it.
    pub fn settle_in_time(&mut self) -> Result<(), Error> {
        if self.grace.is_running() { Ok(()) } else { self.settle() }
    }

    /// Begins an id at zero, before it is given to something else: a packet under way may count for it until it settles.
    pub fn reset_counter(&mut self, id: u32) -> Result<(), Error> {
        if self.grace.is_begun() {
            self.rest.counters.push(id);
            return Ok(());
        }
        self.zero(id)
    }

    fn step(&mut self, change: &Change) -> Result<Option<Undo>, Error> {
        match *change {
            Change::AddPort(set, ports, rule) => {
                self.countable(rule.0)?;
                self.add_port(set, ports, rule)?;
                return Ok(Some(Undo::Port(set, ports)));
            }
            Change::AddAdmission(policy, identity, what) => {
                let any = what.any.map_or(0, |rule| rule.0);
                self.countable(policy.number())?;
                self.countable(any)?;
                let key = admission_key::from((policy, identity));
                let flags = self.index.flags(what.ports.0);
                self.maps.admissions.insert(&key, &admission { port_set: what.ports.0, any, flags })?;
                return Ok(Some(Undo::Admission(key)));
            }
            Change::AddNetwork(prefix, before) => {
                let slot = self.slots.take(Address { meaning: before, ifindex: 0 }.into())?;
                if let Err(error) = self.maps.networks.insert(&network::from(prefix), &slot) {
                    self.slots.retire(slot);
                    return Err(error);
                }
                self.index.networks.insert(prefix, slot);
                return Ok(Some(Undo::Network(prefix)));
            }
            Change::AddAddress(ip, before) => {
                let slot = self.slots.take(before.into())?;
                if let Err(error) = self.maps.addresses.insert(&address::from(ip), &slot) {
                    self.slots.retire(slot);
                    return Err(error);
                }
                self.index.addresses.insert(ip, slot);
                return Ok(Some(Undo::Address(ip)));
            }
            Change::AddInterface(ifindex) => {
                let slot = self.slots.take(Address::default().into())?;
                if let Err(error) = self.maps.interfaces.insert(&ifindex, &slot) {
                    self.slots.retire(slot);
                    return Err(error);
                }
                self.index.interfaces.insert(ifindex, slot);
                self.ports.watch(ifindex);
                return Ok(Some(Undo::Interface(ifindex)));
            }
            Change::SetInterface(ifindex, meaning) => {
                let slot = self.index.interfaces.get(&ifindex).copied();
                let slot = slot.ok_or_else(|| Error::Misfit(format!("the interface {ifindex} is not known")))?;
                return self.set(slot, Address { meaning, ifindex: 0 }).map(Some);
            }
            Change::SetNetwork(prefix, meaning) => {
                let slot = self.index.networks.get(&prefix).copied();
                let slot = slot.ok_or_else(|| Error::Misfit(format!("the prefix {prefix} is not known")))?;
                return self.set(slot, Address { meaning, ifindex: 0 }).map(Some);
            }
            Change::SetAddress(ip, what) => {
                let slot = self.index.addresses.get(&ip).copied();
                let slot = slot.ok_or_else(|| Error::Misfit(format!("the address {ip} is not known")))?;
                return self.set(slot, what).map(Some);
            }
            Change::Publish => {
                self.slots.publish()?;
            }
            Change::Wait => {
                grace::wait()?;
                self.slots.recycle();
            }
            Change::RemoveAddress(ip) => self.remove_address(ip)?,
            Change::RemoveNetwork(prefix) => self.remove_network(prefix)?,
            Change::RemoveInterface(ifindex) => self.remove_interface(ifindex)?,
            Change::RemoveAdmission(policy, identity) => {
                self.maps.admissions.remove(&(policy, identity).into())?;
            }
            Change::RemovePort(set, ports) => self.remove_port(set, ports)?,
        }
        Ok(None)
    }

    fn set(&mut self, slot: u32, what: Address) -> Result<Undo, Error> {
        let Meaning { ingress, egress, .. } = what.meaning;
        self.countable(ingress.number())?;
        self.countable(egress.number())?;
        Ok(Undo::Version { slot, before: self.slots.set(slot, what.into()) })
    }

    /// Ids are places in the counters.
    fn countable(&mut self, id: u32) -> Result<(), Error> {
        let entries = self.maps.counters.max_entries();
        if id >= entries {
            return Err(Error::Full { map: "counters", entries });
        }
        self.ids = self.ids.max(id + 1);
        Ok(())
    }

    fn add_port(&mut self, set: PortSetId, ports: PortPrefix, rule: RuleId) -> Result<(), Error> {
        let kind = match PortPlace::from((set, ports)) {
            PortPlace::Port(key) => self.maps.ports.insert(&key, &rule.0).map(|()| 0)?,
            PortPlace::Range(key) => self.maps.ranges.insert(&key, &rule.0).map(|()| 1)?,
        };
        self.index.port_sets.entry(set.0).or_default()[kind] += 1;
        Ok(())
    }

    fn remove_port(&mut self, set: PortSetId, ports: PortPrefix) -> Result<(), Error> {
        let (kind, removed) = match PortPlace::from((set, ports)) {
            PortPlace::Port(key) => (0, self.maps.ports.remove(&key)?),
            PortPlace::Range(key) => (1, self.maps.ranges.remove(&key)?),
        };
        if removed && let Some(kinds) = self.index.port_sets.get_mut(&set.0) {
            kinds[kind] = kinds[kind].saturating_sub(1);
            if *kinds == [0, 0] {
                self.index.port_sets.remove(&set.0);
            }
        }
        Ok(())
    }

    fn remove_address(&mut self, ip: IpAddr) -> Result<(), Error> {
        self.maps.addresses.remove(&ip.into())?;
        if let Some(slot) = self.index.addresses.remove(&ip) {
            self.slots.retire(slot);
        }
        Ok(())
    }

    fn remove_network(&mut self, prefix: IpNet) -> Result<(), Error> {
        self.maps.networks.remove(&prefix.into())?;
        if let Some(slot) = self.index.networks.remove(&prefix) {
            self.slots.retire(slot);
        }
        Ok(())
    }

    fn remove_interface(&mut self, ifindex: u32) -> Result<(), Error> {
        self.maps.interfaces.remove(&ifindex)?;
        if let Some(slot) = self.index.interfaces.remove(&ifindex) {
            self.slots.retire(slot);
        }
        self.ports.leave(ifindex)
    }

    /// The last step first. What can not be taken back is left, seen by nobody, and found by the next diff.
    fn undo(&mut self, steps: Vec<Undo>) {
        for step in steps.into_iter().rev() {
            let undone = match step {
                Undo::Port(set, ports) => self.remove_port(set, ports),
                Undo::Admission(key) => self.maps.admissions.remove(&key).map(drop),
                Undo::Network(prefix) => self.remove_network(prefix),
                Undo::Address(ip) => self.remove_address(ip),
                Undo::Interface(ifindex) => self.remove_interface(ifindex),
                Undo::Version { slot, before } => {
                    self.slots.restore(slot, before);
                    Ok(())
                }
            };
            if let Err(error) = undone {
                tracing::warn!(%error, "an entry that nothing points to is left behind");
            }
        }
    }
}
