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
    /// [`super::Reason`]s.
    pub fn counters(&self) -> Result<BTreeMap<u32, Count>, Error> {
        let cpus = cpus()?;
        let mut counts = BTreeMap::new();
        let mut keys = vec![0u32; BATCH as usize];
        let mut values = vec![0u8; BATCH as usize * cpus * size_of::<counter>()];
        let mut at = 0u32;
        let mut begun = false;
        loop {
            let mut read = BATCH;
            let mut next = 0u32;
            let from = if begun { (&raw const at).cast_mut().cast() } else { std::ptr::null_mut() };
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
                let count = sum(of_cpus);
                if count.packets > 0 {
                    counts.insert(*id, count);
                }
            }
            if end || read == 0 {
                return Ok(counts);
            }
            (at, begun) = (next, true);
        }
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

fn sum(of_cpus: &[u8]) -> Count {
    let mut sum = Count::default();
    for one in of_cpus.chunks_exact(size_of::<counter>()).map(bytemuck::pod_read_unaligned::<counter>) {
        sum += Count { packets: one.packets, bytes: one.bytes, unreported: one.unreported };
    }
    sum
}
