//! What addresses mean, in the memory that the kernel's program reads: two versions each, and the generation.
//!
//! What a packet may still read is written again only after the next grace period: a slot that no key points to any more, and
//! the version that was before the last change.

use super::{
    abi::{self, meaning, slot},
    error::Error,
    grace,
    maps::Maps,
};
use libbpf_rs::{MapCore, MapHandle};
use memmap2::{MmapOptions, MmapRaw};
use std::{
    mem::{offset_of, size_of},
    os::fd::{AsFd, AsRawFd},
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

/// The slots and the generation.
#[derive(Debug)]
pub(super) struct Slots {
    memory: MmapRaw,
    control: MmapRaw,
    entries: u32,
    /// Never used so far, and all above.
    next: u32,
    free: Vec<u32>,
    retired: Vec<u32>,
}

impl Slots {
    /// Maps the memory; `used` are the slots that keys point to.
    pub(super) fn open(maps: &Maps, used: &[u32]) -> Result<Self, Error> {
        let entries = maps.slots.max_entries();
        let memory = map(&maps.slots, size_of::<slot>() * entries as usize)?;
        let control = map(&maps.control, size_of::<abi::control>())?;
        let mut taken: Vec<u32> = used.to_vec();
        taken.sort_unstable();
        taken.dedup();
        let next = taken.last().map_or(0, |last| last + 1);
        if next > entries {
            return Err(Error::Misfit(format!("slot {} of {entries} is in use", next - 1)));
        }
        let free = (0..next).filter(|index| taken.binary_search(index).is_err()).collect();
        Ok(Self { memory, control, entries, next, free, retired: Vec::new() })
    }

    /// Undoes what an agent prepared and did not publish: versions of a generation that never came.
    pub(super) fn repair(&self) {
        let generation = self.generation();
        for index in 0..self.next {
            let holds = self.holds(index).load(Ordering::Acquire);
            if holds >> 1 > generation {
                self.holds(index).store((holds & 1) ^ 1, Ordering::Release);
            }
        }
    }

    /// The generation that a packet reads which begins now.
    pub(super) fn generation(&self) -> u64 {
        self.control_word().load(Ordering::Acquire)
    }

    /// Turns every slot over whose second version waits for this generation, and returns it.
    pub(super) fn publish(&self) -> Result<u64, Error> {
        if cfg!(not(target_arch = "x86_64")) {
            // A processor that reorders loads could pair the new generation with a version that it read before.
            grace::wait()?;
        }
        Ok(self.control_word().fetch_add(1, Ordering::AcqRel) + 1)
    }

    /// Whether accepted connections are reported, too.
    pub(super) fn report_accepts(&self, on: bool) {
        let wanted = if on { abi::report::REPORT_ACCEPTS } else { abi::report::REPORT_DROPS };
        // SAFETY: the mapping is one `struct control` long, shared and aligned to a page; the word is only accessed by
        // atomic operations.
        let word = unsafe {
            AtomicU32::from_ptr(self.control.as_mut_ptr().add(offset_of!(abi::control, report)).cast::<u32>())
        };
        word.store(wanted.0, Ordering::Relaxed);
    }

    /// Writes the layout for those who look at the pins.
    pub(super) fn stamp(&self) {
        // SAFETY: as in `report_accepts`.
        let word = unsafe {
            AtomicU32::from_ptr(self.control.as_mut_ptr().add(offset_of!(abi::control, layout)).cast::<u32>())
        };
        word.store(abi::layout::LAYOUT.0, Ordering::Relaxed);
    }

    /// A slot of its own whose both versions are the same.
    pub(super) fn take(&mut self, what: meaning) -> Result<u32, Error> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.next < self.entries => {
                self.next += 1;
                self.next - 1
            }
            None => return Err(Error::Full { map: "slots", entries: self.entries }),
        };
        self.write(index, 0, what);
        self.write(index, 1, what);
        self.holds(index).store(0, Ordering::Release);
        Ok(index)
    }

    /// No key points to it any more, but a packet may.
    pub(super) fn retire(&mut self, index: u32) {
        self.retired.push(index);
    }

    /// Whether there are slots that only a grace period gives back.
    pub(super) fn must_wait(&self) -> bool {
        !self.retired.is_empty()
    }

    /// After a grace period.
    pub(super) fn recycle(&mut self) {
        self.free.append(&mut self.retired);
    }

    /// What it means from the next generation on. Returns the word that undoes it.
    pub(super) fn set(&self, index: u32, what: meaning) -> u64 {
        let generation = self.generation();
        let before = self.holds(index).load(Ordering::Acquire);
        let unread = current(before, generation) ^ 1;
        self.write(index, unread, what);
        self.holds(index).store((generation + 1) << 1 | unread, Ordering::Release);
        before
    }

    /// Takes a [`Slots::set`] back before its generation came.
    pub(super) fn restore(&self, index: u32, before: u64) {
        self.holds(index).store(before, Ordering::Release);
    }

    /// What it means to a packet that begins now.
    pub(super) fn read(&self, index: u32) -> Option<meaning> {
        if index >= self.entries {
            return None;
        }
        let version = current(self.holds(index).load(Ordering::Acquire), self.generation());
        // SAFETY: `place` is within the mapping, and nobody but this process writes there.
        Some(unsafe { self.place(index, version).read_volatile() })
    }

    fn write(&self, index: u32, version: u64, what: meaning) {
        // SAFETY: `place` is within the mapping; no packet reads this version, and nobody else writes.
        unsafe { self.place(index, version).write_volatile(what) }
    }

    fn place(&self, index: u32, version: u64) -> *mut meaning {
        assert!(index < self.entries && version < 2, "slot {index} of {}", self.entries);
        let offset =
            index as usize * size_of::<slot>() + offset_of!(slot, version) + version as usize * size_of::<meaning>();
        // SAFETY: `entries` slots are mapped, and the index is below.
        unsafe { self.memory.as_mut_ptr().add(offset).cast() }
    }

    fn holds(&self, index: u32) -> &AtomicU64 {
        assert!(index < self.entries, "slot {index} of {}", self.entries);
        // SAFETY: within the mapping as above, aligned as slots are (48 bytes from the start of a page), and only
        // accessed by atomic operations as long as the mapping lives.
        unsafe {
            let start = self.memory.as_mut_ptr().add(index as usize * size_of::<slot>());
            AtomicU64::from_ptr(start.add(offset_of!(slot, holds)).cast())
        }
    }

    fn control_word(&self) -> &AtomicU64 {
        // SAFETY: as in `report_accepts`.
        unsafe { AtomicU64::from_ptr(self.control.as_mut_ptr().add(offset_of!(abi::control, generation)).cast()) }
    }
}

/// The version that holds at a generation.
fn current(holds: u64, generation: u64) -> u64 {
    if generation >= holds >> 1 { holds & 1 } else { (holds & 1) ^ 1 }
}

fn map(of: &MapHandle, bytes: usize) -> Result<MmapRaw, Error> {
    let mapped = MmapOptions::new().len(bytes).map_raw(of.as_fd().as_raw_fd());
    mapped.map_err(|_| Error::last(format!("mapping `{}` into memory", of.name().to_string_lossy())))
}
