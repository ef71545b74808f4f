//! The place at the interfaces that addresses are bound to: what leaves there is looked at once more, when a bridge has
//! chosen its port.
//!
//! A link each, before whatever else is there. Pinned, it stays when the agent ends, and its successor puts the new program
//! into it.

use super::{
    error::Error,
    pins::{self, Pins},
};
use libbpf_rs::{AsRawLibbpf, Link, ProgramMut, libbpf_sys};
use nix::errno::Errno;
use std::{
    collections::{BTreeSet, HashMap},
    ptr::NonNull,
};

/// Interfaces with the program.
#[derive(Debug)]
pub(super) struct Ports {
    pins: Option<Pins>,
    /// Only without pins.
    links: HashMap<u32, Link>,
    /// Whether packets are to see the program.
    open: bool,
}

impl Ports {
    /// No packet sees the program before [`Ports::take_over`].
    pub(super) fn new(pins: Option<Pins>) -> Self {
        Ports { pins, links: HashMap::new(), open: false }
    }

    /// The program at these interfaces, and at no others that a predecessor had it at.
    pub(super) fn take_over(
        &mut self,
        program: &ProgramMut<'_>,
        interfaces: impl IntoIterator<Item = u32>,
    ) -> Result<(), Error> {
        self.open = true;
        let interfaces: BTreeSet<u32> = interfaces.into_iter().collect();
        for ifindex in &interfaces {
            self.watch(program, *ifindex)?;
        }
        let pinned = self.pins.as_ref().map(Pins::ports).transpose()?.unwrap_or_default();
        pinned.into_iter().filter(|ifindex| !interfaces.contains(ifindex)).try_for_each(|ifindex| self.leave(ifindex))
    }

    /// The program at one more interface, unless it has gone. A link that is pinned gets it without a gap.
    pub(super) fn watch(&mut self, program: &ProgramMut<'_>, ifindex: u32) -> Result<(), Error> {
        if !self.open {
            return Ok(());
        }
        let Some(pins) = &self.pins else {
            self.links.extend(attach(program, ifindex)?.map(|link| (ifindex, link)));
            return Ok(());
        };
        let path = pins.port(ifindex);
        if Link::open(&path).is_ok_and(|mut link| link.update_prog(program).is_ok()) {
            return Ok(());
        }
        // Of an interface that has gone, if there is one.
        pins::cut(&path)?;
        if let Some(mut link) = attach(program, ifindex)? {
            link.pin(&path).map_err(|_| Error::last(format!("pinning {}", path.display())))?;
        }
        Ok(())
    }

    /// Takes the program away from an interface, also where a predecessor put it there.
    pub(super) fn leave(&mut self, ifindex: u32) -> Result<(), Error> {
        self.links.remove(&ifindex);
        self.pins.as_ref().map_or(Ok(()), |pins| pins::cut(&pins.port(ifindex)))
    }
}

/// Attaches to what leaves by an interface of this thread's network namespace; `None` where there is no such interface.
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
