//! How many packets each policy, rule and reason decided.

use super::{Datapath, Error, abi::counter};
use libbpf_rs::{MapCore, MapFlags, libbpf_sys, num_possible_cpus};
use nix::errno::Errno;
use std::{
    collections::BTreeMap,
    ops::{AddAssign, Sub},
    os::fd::{AsFd, AsRawFd},
};

/// Of one id, over all CPUs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Their bytes, from the IP header on.
    pub bytes: u64,
    /// Events that were not sent: too many in a second, or nobody made room for them.
    pub unreported: u64,
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.unreported += other.unreported;
    }
}

impl Sub for Count {
    type Output = Self;
    /// Nothing where the other one is more.
    fn sub(self, other: Self) -> Self {
        Self {
            packets: self.packets.saturating_sub(other.packets),
            bytes: self.bytes.saturating_sub(other.bytes),
            unreported: self.unreported.saturating_sub(other.unreported),
        }
    }
}

/// Ids that are read by one system call: 32 KiB for each CPU.
const BATCH: u32 = 1024;

impl Datapath {
    /// Every id that decided a packet: policies count what they denied, rules what they admitted, and the first ids are
    /// [`super::Reason`]s. Only ids that were in use since [`Datapath::open`], or had counted something then, are read.
    pub fn counters(&self) -> Result<BTreeMap<u32, Count>, Error> {
        self.counted_below(self.ids)
    }

    /// The same for ids below a bound: reading takes its time, on a machine of many CPUs above all.
    pub(super) fn counted_below(&self, ids: u32) -> Result<BTreeMap<u32, Count>, Error> {
        let cpus = cpus()?;
        let mut counts = BTreeMap::new();
        let mut keys = vec![0u32; BATCH as usize];
        let mut values = vec![0u8; BATCH as usize * cpus * size_of::<counter>()];
        let (mut at, mut done) = (0u32, 0u32);
        while done < ids {
            let mut read = BATCH.min(ids - done);
            let mut next = 0u32;
            let from = if done > 0 { (&raw const at).cast_mut().cast() } else { std::ptr::null_mut() };
            // SAFETY: `keys` and `values` have room for `read` keys and as many values of every CPU (a counter is a
            // multiple of 8 bytes long, so values are not padded); `at` and `next` are keys; all outlive the call.
            let answer = unsafe {
                libbpf_sys::bpf_map_lookup_batch(
                    self.maps.counters.as_fd().as_raw_fd(),
                    from,
                    (&raw mut next).cast(),
                    keys.as_mut_ptr().cast(),
                    values.as_mut_ptr().cast(),
                    &raw mut read,
                    std::ptr::null(),
                )
            };
            let end = answer < 0 && Errno::last() == Errno::ENOENT;
            if answer < 0 && !end {
                return Err(Error::last("reading the map `counters`"));
            }
            let each = values.chunks_exact(cpus * size_of::<counter>());
            for (id, of_cpus) in keys.iter().zip(each).take(read as usize) {
                let count = sum(of_cpus.chunks_exact(size_of::<counter>()));
                if count.packets > 0 {
                    counts.insert(*id, count);
                }
            }
            if end || read == 0 {
                break;
            }
            (at, done) = (next, done + read);
        }
        Ok(counts)
    }

    /// What one id decided.
    pub fn counter(&self, id: u32) -> Result<Count, Error> {
        let read = self.maps.counters.lookup_percpu(&id.to_ne_bytes(), MapFlags::ANY);
        let of_cpus = read.map_err(|_| Error::last(format!("reading counter {id}")))?;
        Ok(sum(of_cpus.iter().flatten().map(Vec::as_slice)))
    }

    pub(super) fn zero(&self, id: u32) -> Result<(), Error> {
        let zeroes = vec![vec![0u8; size_of::<counter>()]; cpus()?];
        let reset = self.maps.counters.update_percpu(&id.to_ne_bytes(), &zeroes, MapFlags::ANY);
        reset.map_err(|_| Error::last(format!("resetting counter {id}")))
    }
}

fn cpus() -> Result<usize, Error> {
    num_possible_cpus().map_err(|_| Error::last("counting CPUs"))
}

fn sum<'a>(of_cpus: impl Iterator<Item = &'a [u8]>) -> Count {
    let mut sum = Count::default();
    for one in of_cpus.map(bytemuck::pod_read_unaligned::<counter>) {
        sum += Count { packets: one.packets, bytes: one.bytes, unreported: one.unreported };
    }
    sum
}
