//! The C program, loaded against new or pinned maps.

use super::{
    Config, Sizes,
    abi::{RingfenceMaps, RingfenceSkel, RingfenceSkelBuilder},
    error::Error,
    maps::PINNED,
    pins::Pins,
    port::Side,
};
use libbpf_rs::{
    MapCore, MapHandle, OpenMapMut, OpenObject, PrintLevel, ProgramMut, ProgramType,
    skel::{OpenSkel, Skel, SkelBuilder},
};
use std::{
    fmt,
    mem::{ManuallyDrop, MaybeUninit},
    os::fd::AsFd,
    ptr::NonNull,
};

/// The generated skeleton, loaded, and the memory that it borrows.
pub(super) struct Program {
    skeleton: ManuallyDrop<RingfenceSkel<'static>>,
    /// From a box; the skeleton has the only reference to it.
    memory: NonNull<MaybeUninit<OpenObject>>,
}

// SAFETY: the skeleton's pointers lead to memory that it owns, and libbpf ties an object to no thread.
unsafe impl Send for Program {}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: dropped here and nowhere else, and before the memory that it borrows.
        unsafe { ManuallyDrop::drop(&mut self.skeleton) };
        // SAFETY: made by `Box::into_raw` in `load`, and nobody borrows it any more.
        drop(unsafe { Box::from_raw(self.memory.as_ptr()) });
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Program")
    }
}

impl Program {
    /// Loads the program. Maps that are pinned are used as they are, with the size they have; others are made and pinned.
    pub(super) fn load(config: &Config, testing: bool, pins: Option<&Pins>) -> Result<Self, Error> {
        libbpf_rs::set_print(Some((PrintLevel::Debug, |_, text| {
            tracing::debug!(target: "libbpf", "{}", text.trim_end());
        })));
        let memory = NonNull::from(Box::leak(Box::new(MaybeUninit::uninit())));
        // SAFETY: the box was just leaked, and this is the only reference to it until `Program` is dropped. Where this
        // function fails it stays leaked: some bytes of a process that ends for it.
        let storage = unsafe { &mut *memory.as_ptr() };
        let builder = RingfenceSkelBuilder::default();
        let mut open = builder.open(storage).map_err(|_| Error::last("reading the BPF program"))?;
        if let Some(settings) = open.maps.rodata_data.as_deref_mut() {
            settings.events_per_second = config.events_per_second;
            settings.testing = testing.into();
        }
        open.progs.accepts.set_autoload(testing);
        open.progs.passes.set_autoload(testing);
        let slots = config.sizes.addresses.unwrap_or_else(|| open.maps.addresses.max_entries())
            + config.sizes.interfaces.unwrap_or_else(|| open.maps.interfaces.max_entries())
            + config.sizes.networks.unwrap_or_else(|| open.maps.networks.max_entries())
            // As in `ringfence.h`: one for finding out that a map is full.
            + 1;
        for mut map in open.open_object_mut().maps_mut() {
            let name = map.name().to_string_lossy().into_owned();
            if PINNED.contains(&name.as_str()) {
                prepare(&mut map, &name, &config.sizes, slots, pins)?;
            }
        }
        let mut skeleton = open.load().map_err(|_| refusal("loading the BPF program"))?;
        if let Some(pins) = pins {
            for mut map in skeleton.object_mut().maps_mut() {
                let name = map.name().to_string_lossy().into_owned();
                let path = pins.map(&name);
                if PINNED.contains(&name.as_str()) && !path.exists() {
                    map.pin(&path).map_err(|_| Error::last(format!("pinning {}", path.display())))?;
                }
            }
        }
        Ok(Self { skeleton: ManuallyDrop::new(skeleton), memory })
    }

    /// Its maps.
    pub(super) fn maps(&self) -> &RingfenceMaps<'static> {
        &self.skeleton.maps
    }

    /// The program itself.
    pub(super) fn itself(&self) -> &ProgramMut<'static> {
        &self.skeleton.progs.ringfence
    }

    /// What does nothing at the hook, and at a port: loaded for trials only.
    pub(super) fn nothing(&self) -> [&ProgramMut<'static>; 2] {
        [&self.skeleton.progs.accepts, &self.skeleton.progs.passes]
    }

    /// The one for a side of interfaces that addresses are bound to.
    pub(super) fn of(&self, side: Side) -> &ProgramMut<'static> {
        match side {
            Side::Enters => &self.skeleton.progs.enters,
            Side::Leaves => &self.skeleton.progs.leaves,
        }
    }
}

/// Takes over the pinned map of that name, or sets the size of a new one.
fn prepare(map: &mut OpenMapMut<'_>, name: &str, sizes: &Sizes, slots: u32, pins: Option<&Pins>) -> Result<(), Error> {
    if let Some(path) = pins.map(|pins| pins.map(name)).filter(|path| path.exists()) {
        let pinned =
            MapHandle::from_pinned_path(&path).map_err(|_| Error::last(format!("opening {}", path.display())))?;
        return map.reuse_fd(pinned.as_fd()).map_err(|_| Error::last(format!("using {}", path.display())));
    }
    let Sizes { addresses, interfaces, networks, admissions, ports, ranges, counters } = *sizes;
    let wanted = match name {
        "addresses" => addresses,
        "interfaces" => interfaces,
        "networks" => networks,
        "admissions" => admissions,
        "ports" => ports,
        "ranges" => ranges,
        "counters" => counters,
        "slots" => Some(slots),
        _ => None,
    };
    match wanted {
        Some(entries) => map.set_max_entries(entries).map_err(|_| Error::last(format!("sizing the map `{name}`"))),
        None => Ok(()),
    }
}

/// A kernel without the program type refuses in the same words as one that finds the program wrong.
fn refusal(what: &str) -> Error {
    let error = Error::last(what);
    match error {
        Error::Refused { source, .. } if !ProgramType::Netfilter.is_supported().unwrap_or(true) => {
            Error::NoHook(source)
        }
        other => other,
    }
}
