//! What stays when the agent is gone: maps under `DIR/maps-vN`, links under `DIR/links`, in a BPF file system. Maps whose
//! sizes are settings have these in the name of their directory.

use super::{
    Sizes,
    abi::layout,
    error::Error,
    hook::{Family, PRIORITIES},
    port::Side,
};
use libbpf_rs::Link;
use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sys::{
        stat::Mode,
        statfs::{BPF_FS_MAGIC, statfs},
    },
    unistd::mkdir,
};
use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

/// Where the kernel keeps BPF file systems by convention.
const CONVENTIONAL: &str = "/sys/fs/bpf";

/// A directory of pins.
#[derive(Debug, Clone)]
pub(super) struct Pins {
    dir: PathBuf,
    sizes: Sizes,
}

impl Pins {
    /// Makes the directories, on a BPF file system that is mounted if there is none.
    pub(super) fn prepare(dir: &Path, sizes: Sizes) -> Result<Self, Error> {
        if dir.starts_with(CONVENTIONAL) && Path::new(CONVENTIONAL).exists() && !is_bpffs(Path::new(CONVENTIONAL)) {
            mount_bpffs(Path::new(CONVENTIONAL))?;
        }
        make(dir)?;
        if !is_bpffs(dir) {
            mount_bpffs(dir)?;
        }
        let pins = Pins { dir: dir.to_owned(), sizes };
        make(&pins.maps())?;
        make(&pins.links())?;
        Ok(pins)
    }

    fn maps(&self) -> PathBuf {
        let mut name = maps_of(layout::LAYOUT.0);
        let mut sizes = self.sizes;
        for (map, entries) in sizes.named() {
            if let Some(entries) = entries {
                name += &format!("-{map}={entries}");
            }
        }
        self.dir.join(name)
    }

    fn links(&self) -> PathBuf {
        self.dir.join("links")
    }

    /// The pin of a map.
    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// The pin of the link that holds the program at a place.
    pub(super) fn link(&self, family: Family, priority: i32) -> PathBuf {
        self.links().join(format!("{}-{priority}", family.name()))
    }

    /// The pin of the link that holds the program at a side of an interface.
    pub(super) fn port(&self, ifindex: u32, side: Side) -> PathBuf {
        self.links().join(format!("{}-{ifindex}", side.name()))
    }

    /// The interfaces at which a link is pinned.
    pub(super) fn ports(&self) -> Result<BTreeSet<u32>, Error> {
        let of = |link: PathBuf| {
            let (side, ifindex) = link.file_name()?.to_str()?.split_once('-')?;
            ifindex.parse().ok().filter(|_| Side::BOTH.iter().any(|known| known.name() == side))
        };
        Ok(children(&self.links())?.into_iter().filter_map(of).collect())
    }

    /// The priorities at which a link of a family is pinned.
    pub(super) fn linked(&self, family: Family) -> Vec<i32> {
        PRIORITIES.into_iter().filter(|priority| self.link(family, *priority).exists()).collect()
    }

    /// Detaches what a pin holds, also where another process still has it open, and takes the pin away.
    pub(super) fn unlink(&self, family: Family, priority: i32) -> Result<(), Error> {
        cut(&self.link(family, priority))
    }

    /// Takes away the maps of other layouts. Their programs must be detached.
    pub(super) fn forget_other_layouts(&self) -> Result<(), Error> {
        for other in children(&self.dir)? {
            if is_maps(&other) && other != self.maps() {
                remove_tree(&other)?;
            }
        }
        Ok(())
    }
}

/// Takes every pin away: links first, so that no program runs against maps that are going.
pub(super) fn remove_all(dir: &Path) -> Result<(), Error> {
    let links = dir.join("links");
    for link in children(&links)? {
        cut(&link)?;
    }
    // A file system of its own has files of the kernel's.
    for ours in children(dir)?.iter().filter(|path| **path == links || is_maps(path)) {
        remove_tree(ours)?;
    }
    // Where it is a mount point or somebody else's things are in it, it stays.
    let _ = fs::remove_dir(dir);
    Ok(())
}

/// Detaches what a pin holds, if there is one, and takes the pin away.
pub(super) fn cut(pin: &Path) -> Result<(), Error> {
    if let Ok(link) = Link::open(pin) {
        // Without its network namespace a link is detached already; the pin goes in any case.
        let _ = link.detach();
    }
    match fs::remove_file(pin) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::Pin { path: pin.to_owned(), source }),
        _ => Ok(()),
    }
}

fn maps_of(version: u32) -> String {
    format!("maps-v{version}")
}

fn is_maps(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"maps-v"))
}

fn children(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |source| Error::Pin { path: dir.to_owned(), source };
    match fs::read_dir(dir) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>().map_err(failed),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(failed(e)),
    }
}

/// A file, or a directory and the files in it.
fn remove_tree(path: &Path) -> Result<(), Error> {
    let failed = |source| Error::Pin { path: path.to_owned(), source };
    if !path.is_dir() {
        return fs::remove_file(path).map_err(failed);
    }
    for child in children(path)? {
        remove_tree(&child)?;
    }
    fs::remove_dir(path).map_err(failed)
}

fn make(dir: &Path) -> Result<(), Error> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(parent) = dir.parent().filter(|parent| !parent.is_dir()) {
        make(parent)?;
    }
    match mkdir(dir, Mode::S_IRWXU) {
        Err(Errno::EEXIST) | Ok(()) => Ok(()),
        Err(e) => Err(Error::Pin { path: dir.to_owned(), source: e.into() }),
    }
}

fn is_bpffs(dir: &Path) -> bool {
    statfs(dir).is_ok_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC)
}

fn mount_bpffs(at: &Path) -> Result<(), Error> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("bpf"), at, Some("bpf"), flags, Some("mode=0700"))
        .map_err(|source| Error::NoBpffs { path: at.to_owned(), source })?;
    // As under `ip netns exec`: what is mounted here goes with the last process that is here, and the pins with it.
    let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
    if of("self") != of("1") {
        let at = at.display();
        tracing::warn!(
            "{at} is mounted in a mount namespace of its own: enforcement ends with it; mount a bpffs there first"
        );
    }
    Ok(())
}
