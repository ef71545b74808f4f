//! Namespaces of one's own, for a demo or a test: nothing outside is touched, and nothing is left, however it ends.
//!
//! A sandbox has its own network and its own mounts: /sys for that network, a BPF file system, and /run/netns, so that
//! `ip netns` has all names for itself. They go with the last thread that is in it.

use nix::{
    errno::Errno,
    libc,
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use std::{
    env,
    ffi::OsString,
    fs, io,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, ExitStatus},
    thread,
};

/// Set inside of [`run_self`].
const INSIDE: &str = "RINGFENCE_SANDBOX";

/// What could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A namespace or mount.
    #[error("no sandbox of namespaces ({what}: {source}): run as root")]
    Namespace {
        /// Which.
        what: &'static str,
        /// Why.
        source: Errno,
    },
    /// Mounts of one's own begin with the root of all of them.
    #[error(
        "no sandbox of namespaces: / is no mount point here, as in a chroot: `mount --bind DIR DIR` before `chroot DIR`"
    )]
    Chroot,
    /// The program itself, again.
    #[error("this program can not be run again in a sandbox: {0}")]
    Run(#[from] io::Error),
}

/// Moves the calling thread into a sandbox, and with it every thread and process that it makes. There is no way back:
/// use a thread for it.
pub fn enter() -> Result<(), Error> {
    // Working directory and umask are shared between threads otherwise, which forbids mounts of one's own.
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).map_err(failed("unshare"))?;
    furnish()
}

/// Whether [`run_self`] started this process. Then [`furnish`] comes first.
pub fn is_inside() -> bool {
    env::var_os(INSIDE).is_some()
}

/// Runs this program with these arguments in a sandbox with process ids of its own, and waits for it. When this process
/// ends or that one, by whatever signal, everything in the sandbox does.
pub fn run_self(arguments: impl IntoIterator<Item = OsString>) -> Result<ExitStatus, Error> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    // Of a thread: the rest of this process goes on making children in the old namespace.
    let run = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWPID).map_err(failed("unshare"))?;
        let mut command = Command::new("/proc/self/exe");
        command.args(arguments).env(INSIDE, "1");
        // SAFETY: between fork and exec only system calls that are safe there, and no memory is allocated.
        unsafe {
            command.pre_exec(|| {
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                    return Err(io::Error::last_os_error());
                }
                unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).map_err(io::Error::from)
            });
        }
        Ok(command.status()?)
    });
    run.join().unwrap_or_else(|_| Err(Error::Run(io::Error::other("the thread that ran it panicked"))))
}

/// The mounts of a sandbox, in the mount namespace of the calling thread, which must be a new one.
pub fn furnish() -> Result<(), Error> {
    let none = None::<&str>;
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let private = mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none);
    private.map_err(|errno| if errno == Errno::EINVAL { Error::Chroot } else { failed("private mounts")(errno) })?;
    if is_inside() {
        mount(Some("proc"), "/proc", Some("proc"), quiet, none).map_err(failed("/proc"))?;
    }
    mount(Some("sysfs"), "/sys", Some("sysfs"), quiet, none).map_err(failed("/sys"))?;
    mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), quiet, Some("mode=0700")).map_err(failed("/sys/fs/bpf"))?;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), quiet, Some("mode=0755")).map_err(failed("/run"))?;
    fs::create_dir_all(Path::new("/run/netns"))?;
    Ok(())
}

fn failed(what: &'static str) -> impl Fn(Errno) -> Error {
    move |source| Error::Namespace { what, source }
}
