//! What can go wrong between the agent and the kernel, each in one line: what failed, why, what to do.

use nix::errno::Errno;
use std::{io, path::PathBuf};

/// Why the kernel does not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program type or its attachment is unknown to the kernel.
    #[error("this kernel has no netfilter BPF hook (Linux 6.6 or later with CONFIG_NETFILTER_BPF_LINK is needed): {0}")]
    NoHook(Errno),
    /// Programs at interfaces are unknown to the kernel.
    #[error(
        "this kernel can not look at what leaves by the ports of a bridge (tcx, Linux 6.6 or later, is needed): {0}"
    )]
    NoPorts(Errno),
    /// As many programs at an interface as the kernel allows.
    #[error("the interface {0} has as many programs as the kernel allows: detach one of them")]
    Crowded(u32),
    /// A capability is missing.
    #[error("{0} is not permitted: run as root, or with the capabilities CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON")]
    NotPermitted(String),
    /// Pins need a BPF file system.
    #[error("no BPF file system at {path} ({source}): mount one with `mount -t bpf bpf {path}`")]
    NoBpffs {
        /// Where.
        path: PathBuf,
        /// Why it can not be mounted.
        source: Errno,
    },
    /// Nothing was changed: the state before is whole.
    #[error(
        "the map `{map}` is full ({entries} entries): raise its size (--map-sizes {map}=ENTRIES), or use fewer policies or shorter lists"
    )]
    Full {
        /// Its name in `ringfence.h`.
        map: &'static str,
        /// How many entries it can hold.
        entries: u32,
    },
    /// Somebody else's program stands where ours should.
    #[error(
        "both priorities {priorities:?} of POST_ROUTING ({family}) are taken by other programs: detach one of them"
    )]
    Taken {
        /// The ones that were tried.
        priorities: [i32; 2],
        /// IPv4 or IPv6.
        family: &'static str,
    },
    /// `membarrier` is refused; without it nobody knows when no packet reads the old state any more.
    #[error("the kernel refuses membarrier(MEMBARRIER_CMD_GLOBAL) ({0}): boot without nohz_full")]
    NoGracePeriod(Errno),
    /// There is nobody to wait for grace periods.
    #[error("no thread can be started ({0}): raise the limit of processes (pids.max, or ulimit -u)")]
    NoThread(io::Error),
    /// The kernel refused a step.
    #[error("{what}: {source}")]
    Refused {
        /// What was tried.
        what: String,
        /// Its answer.
        source: Errno,
    },
    /// A file or directory of pins.
    #[error("{path}: {source}")]
    Pin {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A list of changes that does not fit the state that it is applied to. A bug in its maker.
    #[error("the changes do not fit the kernel's state: {0}; restart the agent, which begins with what is there")]
    Misfit(String),
}

impl Error {
    /// From the error number that libbpf leaves behind when one of its functions fails; call it at once.
    pub(super) fn last(what: impl Into<String>) -> Self {
        match Errno::last() {
            Errno::EPERM => Error::NotPermitted(what.into()),
            source => Error::Refused { what: what.into(), source },
        }
    }
}
