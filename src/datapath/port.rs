//! The places at the interfaces that addresses are bound to: what leaves there is looked at once more, when a bridge has
//! chosen its port, and what enters there must not have a tag.
//!
//! A link each, before whatever else is there. Pinned, it stays when the agent ends, and its successor puts the new program
//! into it. Each waits for a grace period of the kernel's, about 10 ms, so they are made one by one beside everything else.

use super::{
    error::Error,
    pins::{self, Pins},
    program::Program,
};
use libbpf_rs::{AsRawLibbpf, Link, ProgramMut, libbpf_sys};
use nix::errno::Errno;
use std::{
    collections::{BTreeSet, HashMap},
    ptr::NonNull,
};

/// A way through an interface, as the node sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Side {
    Enters,
    Leaves,
}

impl Side {
    pub(super) const BOTH: [Side; 2] = [Side::Enters, Side::Leaves];

    pub(super) fn name(self) -> &'static str {
        match self {
            Side::Enters => "enters",
            Side::Leaves => "leaves",
        }
    }
}

/// Interfaces with the programs.
#[derive(Debug)]
pub(super) struct Ports {
    pins: Option<Pins>,
    /// Only without pins.
    links: HashMap<(u32, Side), Link>,
    /// Whether packets are to see the programs.
    open: bool,
    /// Where a program is still missing,
    missing: BTreeSet<(u32, Side)>,
    /// and where the kernel refused one.
    refused: BTreeSet<(u32, Side)>,
}

impl Ports {
    /// No packet sees the programs before [`Ports::take_over`].
    pub(super) fn new(pins: Option<Pins>) -> Self {
        Ports { pins, links: HashMap::new(), open: false, missing: BTreeSet::new(), refused: BTreeSet::new() }
    }

    /// The programs are wanted at these interfaces, and are no longer at others where a predecessor had them.
    pub(super) fn take_over(&mut self, interfaces: impl IntoIterator<Item = u32>) -> Result<(), Error> {
        self.open = true;
        let interfaces: BTreeSet<u32> = interfaces.into_iter().collect();
        interfaces.iter().for_each(|ifindex| self.watch(*ifindex));
        let pinned = self.pins.as_ref().map(Pins::ports).transpose()?.unwrap_or_default();
        pinned.difference(&interfaces).try_for_each(|ifindex| self.leave(*ifindex))
    }

    /// The programs are wanted at one more interface.
    pub(super) fn watch(&mut self, ifindex: u32) {
        if self.open {
            self.missing.extend(Side::BOTH.map(|side| (ifindex, side)));
        }
    }

    /// Puts one program where it is missing. Whether there is more to do.
    pub(super) fn attach_next(&mut self, program: &Program) -> Result<bool, Error> {
        self.missing.pop_first().map_or(Ok(()), |place| self.attach_at(program, place))?;
        Ok(!self.missing.is_empty())
    }

    /// Once more at every place that was refused.
    pub(super) fn attach_refused(&mut self, program: &Program) -> Result<(), Error> {
        let again = std::mem::take(&mut self.refused);
        again.into_iter().map(|place| self.attach_at(program, place)).fold(Ok(()), Result::and)
    }

    fn attach_at(&mut self, program: &Program, place: (u32, Side)) -> Result<(), Error> {
        let attached = self.attach_unless_gone(program, place);
        if attached.is_err() {
            self.refused.insert(place);
        }
        attached
    }

    /// A link that is pinned gets its own program without a gap.
    fn attach_unless_gone(&mut self, program: &Program, (ifindex, side): (u32, Side)) -> Result<(), Error> {
        let program = program.of(side);
        match &self.pins {
            None => self.links.extend(attach(program, ifindex)?.map(|link| ((ifindex, side), link))),
            Some(pins) => {
                let path = pins.port(ifindex, side);
                if !Link::open(&path).is_ok_and(|mut link| link.update_prog(program).is_ok()) {
                    // Of an interface that has gone, if there is one.
                    pins::cut(&path)?;
                    if let Some(mut link) = attach(program, ifindex)? {
                        link.pin(&path).map_err(|_| Error::last(format!("pinning {}", path.display())))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes the programs away from an interface, also where a predecessor put them there.
    pub(super) fn leave(&mut self, ifindex: u32) -> Result<(), Error> {
        for side in Side::BOTH {
            self.missing.remove(&(ifindex, side));
            self.refused.remove(&(ifindex, side));
            self.links.remove(&(ifindex, side));
            if let Some(pins) = &self.pins {
                pins::cut(&pins.port(ifindex, side))?;
            }
        }
        Ok(())
    }
}

/// Attaches to an interface of this thread's network namespace; `None` where there is no such interface.
fn attach(program: &ProgramMut<'_>, ifindex: u32) -> Result<Option<Link>, Error> {
    let Ok(index) = i32::try_from(ifindex) else { return Ok(None) };
    let place = libbpf_sys::bpf_tcx_opts {
        sz: size_of::<libbpf_sys::bpf_tcx_opts>() as libbpf_sys::size_t,
        // Nobody else's verdict comes first.
        flags: libbpf_sys::BPF_F_BEFORE,
        ..Default::default()
    };
    // SAFETY: the program is loaded and lives longer than the call, which keeps neither pointer.
    let link = unsafe { libbpf_sys::bpf_program__attach_tcx(program.as_libbpf_object().as_ptr(), index, &place) };
    match (NonNull::new(link), Errno::last()) {
        // SAFETY: made by libbpf just now, and nobody else has it.
        (Some(link), _) => Ok(Some(unsafe { Link::from_ptr(link) })),
        (None, Errno::ENODEV) => Ok(None),
        (None, Errno::EINVAL) => Err(Error::NoPorts(Errno::EINVAL)),
        (None, Errno::ERANGE) => Err(Error::Crowded(ifindex)),
        (None, _) => Err(Error::last(format!("attaching to the interface {ifindex}"))),
    }
}
