//! Enforcement: the program in the kernel, and the maps that tell it what to do.
//!
//! ```text
//!  Table --changes()--> steps --apply()--> maps <--- program <--- packets
//!                                           |           |
//!                              table() <----+           +----> events, counters
//! ```
//! [`Datapath::open`] loads the program against the maps that are pinned, or new ones; [`Datapath::apply`] leads from one
//! table to the next, or [`Datapath::publish`] for whoever does not wait until the old one is cleared away; [`Datapath::attach`] lets packets see it, and takes the predecessor away. Dropping the value
//! changes nothing: pinned, it goes on.

mod abi;
mod apply;
mod counters;
mod error;
mod events;
mod grace;
mod hook;
mod maps;
mod pins;
mod port;
mod program;
mod slots;
pub mod trial;

pub use counters::Count;
pub use error::Error;
pub use events::{Event, Events, Reason};

use crate::policy::table::{Address, Admission, FIRST_ID, RuleId, Table};
use abi::admits;
use hook::Family;
use ipnet::IpNet;
use libbpf_rs::Link;
use maps::Maps;
use pins::Pins;
use port::Ports;
use program::Program;
use slots::Slots;
use std::{
    collections::HashMap,
    net::IpAddr,
    path::{Path, PathBuf},
};

/// How to load the program.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where maps and links are pinned: a directory in a BPF file system, made and mounted if it is not there. `None`:
    /// everything ends with the [`Datapath`].
    pub bpffs: Option<PathBuf>,
    /// Sizes of maps. Those that are pinned in other sizes are left for new ones.
    pub sizes: Sizes,
    /// Events for each counter, CPU and second (of 2^30 ns).
    pub events_per_second: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { bpffs: None, sizes: Sizes::default(), events_per_second: 16 }
    }
}

/// How many entries the maps have; `None` is what `ringfence.h` says. As text: `addresses=100000,ports=1000`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Pod addresses of the cluster.
    pub addresses: Option<u32>,
    /// Interfaces that pods are behind.
    pub interfaces: Option<u32>,
    /// Prefixes.
    pub networks: Option<u32>,
    /// Pairs of policy and identity.
    pub admissions: Option<u32>,
    /// Single ports.
    pub ports: Option<u32>,
    /// Prefixes of ports.
    pub ranges: Option<u32>,
    /// Ids of policies and rules.
    pub counters: Option<u32>,
}

impl Sizes {
    fn named(&mut self) -> [(&'static str, &mut Option<u32>); 7] {
        let Sizes { addresses, networks, admissions, ports, ranges, counters, interfaces } = self;
        [
            ("addresses", addresses),
            ("networks", networks),
            ("admissions", admissions),
            ("ports", ports),
            ("ranges", ranges),
            ("counters", counters),
            ("interfaces", interfaces),
        ]
    }
}

impl std::str::FromStr for Sizes {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut sizes = Sizes::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (name, entries) = part.split_once('=').ok_or_else(|| format!("{part:?} is no MAP=ENTRIES"))?;
            let entries = entries.parse().ok().filter(|entries| (1..1 << 24).contains(entries));
            let entries = entries.ok_or_else(|| format!("{part:?}: entries are 1 to {}", (1 << 24) - 1))?;
            let names = sizes.named().map(|(name, _)| name).join(", ");
            let known = sizes.named().into_iter().find(|(known, _)| *known == name);
            let (_, size) = known.ok_or_else(|| format!("there is no map {name:?}: there are {names}"))?;
            *size = Some(entries);
        }
        Ok(sizes)
    }
}

/// The program in the kernel.
#[derive(Debug)]
pub struct Datapath {
    program: Program,
    maps: Maps,
    slots: Slots,
    index: Index,
    grace: grace::Grace,
    rest: apply::Rest,
    /// One above the highest id that may count.
    ids: u32,
    pins: Option<Pins>,
    /// Only without pins.
    links: Vec<Link>,
    ports: Ports,
}

/// Which slot a key has, and what kinds of entries a port set has.
#[derive(Debug, Default)]
struct Index {
    addresses: HashMap<IpAddr, u32>,
    interfaces: HashMap<u32, u32>,
    networks: HashMap<IpNet, u32>,
    /// Single ports and prefixes of ports.
    port_sets: HashMap<u32, [u32; 2]>,
}

impl Index {
    fn read(maps: &Maps) -> Result<Self, Error> {
        let mut index = Index::default();
        for (key, slot) in maps.addresses.entries()? {
            index.addresses.insert(key.into(), slot);
        }
        index.interfaces.extend(maps.interfaces.entries()?);
        for (key, slot) in maps.networks.entries()? {
            if let Some(prefix) = key.prefix() {
                index.networks.insert(prefix, slot);
            }
        }
        for (key, _) in maps.ports.entries()? {
            index.port_sets.entry(key.port_set).or_default()[0] += 1;
        }
        for (key, _) in maps.ranges.entries()? {
            index.port_sets.entry(u32::from_ne_bytes(key.port_set)).or_default()[1] += 1;
        }
        Ok(index)
    }

    fn slots(&self) -> Vec<u32> {
        self.addresses.values().chain(self.interfaces.values()).chain(self.networks.values()).copied().collect()
    }

    /// In which maps a port set is to be looked up.
    fn flags(&self, port_set: u32) -> admits {
        let [ports, ranges] = self.port_sets.get(&port_set).copied().unwrap_or_default();
        let ports = if ports > 0 { admits::ADMITS_PORTS.0 } else { 0 };
        let ranges = if ranges > 0 { admits::ADMITS_RANGES.0 } else { 0 };
        admits(ports | ranges)
    }
}

impl Datapath {
    /// Loads the program. What a predecessor pinned is taken over, and what it prepared without publishing is undone; no
    /// packet sees a difference. If nothing is pinned, or in another layout or other
    /// sizes, the maps are new and empty.
    pub fn open(config: &Config) -> Result<Self, Error> {
        Self::load(config, false)
    }

    /// `testing`: interface and conntrack state of packets come from [`trial`].
    fn load(config: &Config, testing: bool) -> Result<Self, Error> {
        let pins = config.bpffs.as_deref().map(|dir| Pins::prepare(dir, config.sizes)).transpose()?;
        let program = Program::load(config, testing, pins.as_ref())?;
        let maps = Maps::of(program.maps())?;
        let index = Index::read(&maps)?;
        let slots = Slots::open(&maps, &index.slots())?;
        slots.repair();
        slots.stamp();
        // A packet may still hold what the predecessor changed or removed at its end: it may have been killed while it waited.
        grace::wait()?;
        let rest = apply::Rest::default();
        let grace = grace::Grace::new()?;
        let ports = Ports::new(pins.clone());
        let links = Vec::new();
        let mut datapath = Self { program, maps, slots, index, grace, rest, ids: FIRST_ID, pins, links, ports };
        let counted = datapath.counted_below(u32::MAX)?;
        datapath.ids = counted.keys().last().map_or(FIRST_ID, |last| FIRST_ID.max(last + 1));
        Ok(datapath)
    }

    /// Puts the program into the hook of this thread's network namespace, for both families, and then takes the
    /// predecessor's out: there is no moment without one. Its two companions come to the interfaces that addresses are
    /// bound to, which they follow from then on: changes are for threads of this namespace, too. Apply the first table
    /// before.
    pub fn attach(&mut self) -> Result<(), Error> {
        match self.pins.clone() {
            Some(pins) => self.attach_pinned(&pins)?,
            None => {
                let links = Family::BOTH.map(|family| Ok::<_, Error>(hook::attach(self.program.itself(), family)?.0));
                self.links = links.into_iter().collect::<Result<_, _>>()?;
            }
        }
        // Later, as many interfaces take their time, and the hook is what matters most.
        self.ports.take_over(self.index.interfaces.keys().copied())?;
        while self.attach_next()? {}
        self.pins.as_ref().map_or(Ok(()), Pins::forget_other_layouts)
    }

    /// One step towards the companions at every interface that an address is bound to; whether there is another. Whoever
    /// publishes takes them when nothing else is to be done: each waits some 10 ms for the kernel.
    pub fn attach_next(&mut self) -> Result<bool, Error> {
        self.ports.attach_next(&self.program)
    }

    /// Once more where the kernel refused one.
    pub fn attach_refused(&mut self) -> Result<(), Error> {
        self.ports.attach_refused(&self.program)
    }

    fn attach_pinned(&self, pins: &Pins) -> Result<(), Error> {
        let mut predecessors = Vec::new();
        for family in Family::BOTH {
            let linked = pins.linked(family);
            if let [first, _second] = linked[..] {
                // Somebody was killed between attaching and detaching. Either enforces; one makes room.
                pins.unlink(family, first)?;
            }
            let (mut link, priority) = hook::attach(self.program.itself(), family)?;
            let path = pins.link(family, priority);
            if path.exists() {
                // A pin whose program is detached, or this place would be taken.
                pins.unlink(family, priority)?;
            }
            link.pin(&path).map_err(|_| Error::last(format!("pinning {}", path.display())))?;
            predecessors.extend(pins.linked(family).into_iter().filter(|p| *p != priority).map(|p| (family, p)));
        }
        predecessors.into_iter().try_for_each(|(family, priority)| pins.unlink(family, priority))
    }

    /// What the kernel enforces now, without labels. Before [`Datapath::settle`] with entries that nothing points to.
    pub fn table(&self) -> Result<Table, Error> {
        let mut table = Table::default();
        let meaning = |slot| self.slots.read(slot).ok_or_else(|| Error::Misfit(format!("there is no slot {slot}")));
        for (key, slot) in self.maps.addresses.entries()? {
            table.addresses.insert(key.into(), Address::from(meaning(slot)?));
        }
        for (ifindex, slot) in self.maps.interfaces.entries()? {
            table.interfaces.insert(ifindex, Address::from(meaning(slot)?).meaning);
        }
        for (key, slot) in self.maps.networks.entries()? {
            if let Some(prefix) = key.prefix() {
                table.networks.insert(prefix, Address::from(meaning(slot)?).meaning);
            }
        }
        for (key, what) in self.maps.admissions.entries()? {
            table.admissions.insert(key.into(), Admission::from(what));
        }
        for (key, rule) in self.maps.ports.entries()? {
            table.ports.insert(key.into(), RuleId(rule));
        }
        for (key, rule) in self.maps.ranges.entries()? {
            table.ports.insert(key.into(), RuleId(rule));
        }
        Ok(table)
    }

    /// The generation that a packet sees which comes now.
    pub fn generation(&self) -> u64 {
        self.slots.generation()
    }

    /// Whether the first packets of accepted connections are reported as events, too.
    pub fn report_accepts(&self, on: bool) {
        self.slots.report_accepts(on);
    }

    /// Break glass: takes the program out of the hook and every pin away. Does nothing where nothing is pinned.
    pub fn detach(bpffs: &Path) -> Result<(), Error> {
        pins::remove_all(bpffs)
    }
}
