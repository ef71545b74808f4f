//! The maps as typed collections: one system call each, no state of their own.

use super::{
    abi::{RingfenceMaps, address, admission, admission_key, control, counter, network, port_key, range_key, slot},
    error::Error,
};
use bytemuck::Pod;
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapMut};
use nix::errno::Errno;
use std::marker::PhantomData;

/// Names of the maps that outlive the agent, as in `ringfence.h`.
pub(super) const PINNED: [&str; 10] =
    ["addresses", "interfaces", "networks", "slots", "admissions", "ports", "ranges", "counters", "control", "events"];

/// One map of keys and values.
#[derive(Debug)]
pub(super) struct Map<K, V> {
    handle: MapHandle,
    name: &'static str,
    types: PhantomData<(K, V)>,
}

impl<K: Pod, V: Pod> Map<K, V> {
    fn new(handle: MapHandle, name: &'static str) -> Result<Self, Error> {
        if handle.key_size() as usize != size_of::<K>() || handle.value_size() as usize != size_of::<V>() {
            let sizes = format!("{} and {} bytes", handle.key_size(), handle.value_size());
            return Err(Error::Misfit(format!("the map `{name}` has keys and values of {sizes}")));
        }
        Ok(Self { handle, name, types: PhantomData })
    }

    /// A key that is not there yet.
    pub(super) fn insert(&self, key: &K, value: &V) -> Result<(), Error> {
        let added = self.handle.update(bytemuck::bytes_of(key), bytemuck::bytes_of(value), MapFlags::NO_EXIST);
        added.map_err(|_| match Errno::last() {
            Errno::E2BIG | Errno::ENOSPC | Errno::ENOMEM => {
                Error::Full { map: self.name, entries: self.handle.max_entries() }
            }
            Errno::EEXIST => Error::Misfit(format!("an entry of the map `{}` is there already", self.name)),
            _ => Error::last(format!("adding to the map `{}`", self.name)),
        })
    }

    /// Whether the key was there.
    pub(super) fn remove(&self, key: &K) -> Result<bool, Error> {
        match self.handle.delete(bytemuck::bytes_of(key)) {
            Ok(()) => Ok(true),
            Err(_) if Errno::last() == Errno::ENOENT => Ok(false),
            Err(_) => Err(Error::last(format!("removing from the map `{}`", self.name))),
        }
    }

    /// Every entry. Complete because nobody else writes.
    pub(super) fn entries(&self) -> Result<Vec<(K, V)>, Error> {
        let mut entries = Vec::new();
        for key in self.handle.keys() {
            let value = self.handle.lookup(&key, MapFlags::ANY);
            let value = value.map_err(|_| Error::last(format!("reading the map `{}`", self.name)))?;
            if let Some(value) = value {
                entries.push((bytemuck::pod_read_unaligned(&key), bytemuck::pod_read_unaligned(&value)));
            }
        }
        Ok(entries)
    }
}

/// All maps of the program.
#[derive(Debug)]
pub(super) struct Maps {
    pub(super) addresses: Map<address, u32>,
    pub(super) interfaces: Map<u32, u32>,
    pub(super) networks: Map<network, u32>,
    pub(super) admissions: Map<admission_key, admission>,
    pub(super) ports: Map<port_key, u32>,
    pub(super) ranges: Map<range_key, u32>,
    pub(super) counters: MapHandle,
    pub(super) slots: MapHandle,
    pub(super) control: MapHandle,
    pub(super) events: MapHandle,
}

impl Maps {
    /// Those that a loaded program uses.
    pub(super) fn of(maps: &RingfenceMaps<'_>) -> Result<Self, Error> {
        Ok(Self {
            addresses: Map::new(handle(&maps.addresses, "addresses")?, "addresses")?,
            interfaces: Map::new(handle(&maps.interfaces, "interfaces")?, "interfaces")?,
            networks: Map::new(handle(&maps.networks, "networks")?, "networks")?,
            admissions: Map::new(handle(&maps.admissions, "admissions")?, "admissions")?,
            ports: Map::new(handle(&maps.ports, "ports")?, "ports")?,
            ranges: Map::new(handle(&maps.ranges, "ranges")?, "ranges")?,
            slots: Map::<u32, slot>::new(handle(&maps.slots, "slots")?, "slots")?.handle,
            control: Map::<u32, control>::new(handle(&maps.control, "control")?, "control")?.handle,
            counters: Map::<u32, counter>::new(handle(&maps.counters, "counters")?, "counters")?.handle,
            events: handle(&maps.events, "events")?,
        })
    }
}

/// A handle of its own, which lives as long as its owner wants.
fn handle(map: &MapMut<'_>, name: &str) -> Result<MapHandle, Error> {
    MapHandle::try_from(map).map_err(|_| Error::last(format!("opening the map `{name}`")))
}
