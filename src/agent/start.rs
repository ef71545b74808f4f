//! An agent from its settings: takes the pins over, follows the source, enforces, answers.
//!
//! What can be refused is refused before anything changes in the kernel. An agent that ends leaves enforcement as it was.

use super::{
    enforce::Enforcer,
    lookout,
    needs::{Kept, Needs},
    neighbours,
    ops::{self, Shared},
    source::{Source, Told},
    status::Status,
};
use crate::{
    datapath::{self, Datapath, Sizes},
    node::conntrack,
    policy::{
        baseline::Baseline,
        cluster::{Cluster, Unknown},
        mode::Mode,
        model::Name,
    },
};
use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr as UnixAddr, UnixListener},
    },
    path::{Path, PathBuf},
    sync::{Arc, mpsc::channel},
    thread,
    time::{Duration, Instant},
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// How long an agent waits for its predecessor to end.
const HANDOVER: Duration = Duration::from_secs(10);
/// Abstract names of sockets belong to a network namespace, as the hook does.
const LOCK: &str = "ringfence-agent";

/// What an agent needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The node that it enforces for, by its name in the cluster.
    pub node: Name,
    /// Where the cluster comes from.
    pub source: Source,
    /// What fences namespaces without a label of their own.
    pub baseline: Baseline,
    /// What becomes of local pods that are not known yet.
    pub unknown: Unknown,
    /// Where libcni writes what it gave to pods. `None`: interfaces say which address is where, and nobody whose it is.
    pub cni_results: Option<PathBuf>,
    /// Where the agents of all nodes tell each other of new pods.
    pub neighbours: Option<neighbours::Place>,
    /// Whether policies are enforced or only watched, where neither they nor their namespace say it.
    pub mode: Mode,
    /// Where maps and links are pinned.
    pub bpffs: PathBuf,
    /// How many entries maps have.
    pub sizes: Sizes,
    /// Where probes and metrics are answered; port 0 takes any free one.
    pub ops_listen: SocketAddr,
}

/// Why an agent can not start.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the sentences say it")]
pub enum StartError {
    #[error("cannot listen on {address} (--ops-listen): {source}; stop what uses it, or give another address")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("{0}")]
    Datapath(#[from] datapath::Error),
    #[error("{0}")]
    Conntrack(#[from] conntrack::Error),
    #[error("another agent runs in this network namespace: stop it first; there can be only one")]
    Held,
    #[error("{what}: {source}")]
    System { what: &'static str, source: io::Error },
}

/// An agent that is up: where it answers, and what it answers from.
#[derive(Debug)]
pub struct Agent {
    listener: TcpListener,
    shared: Shared,
    /// Says which thread has ended.
    ended: UnboundedReceiver<&'static str>,
    /// Held for as long as the agent lives.
    lock: UnixListener,
    conntrack: Kept,
}

/// Says that its thread has ended, also by a panic.
struct Alive(&'static str, UnboundedSender<&'static str>);

impl Drop for Alive {
    fn drop(&mut self) {
        // Nobody has to know when the agent ends.
        let _ = self.1.send(self.0);
    }
}

impl Agent {
    /// Loads the program, takes over what is pinned, and begins to follow the source.
    ///
    /// # Errors
    /// What is missing on this node, in one line. The kernel is as it was then.
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        let Settings { node, source, baseline, unknown, cni_results, neighbours, mode, bpffs, sizes, ops_listen } =
            settings;
        let listen = |source| StartError::Listen { address: ops_listen, source };
        let listener = TcpListener::bind(ops_listen).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;

        let lock = hold()?;
        let datapath = Datapath::open(&datapath::Config { bpffs: Some(bpffs), sizes, ..datapath::Config::default() })?;
        let conntrack = Kept::on()?;

        let shared = Shared::default();
        shared.status.mode(mode);
        let empty = Cluster { baseline, mode, unknown, ..Cluster::default() };
        let (sender, told) = channel();
        let system = |what| move |source| StartError::System { what, source };
        let (teller, ended) = unbounded_channel();
        let alive = |what| Alive(what, teller.clone());
        // What it sees comes before what the source says.
        let looking = lookout::follow(cni_results, sender.clone(), shared.status.clone(), alive("looks at the node"));
        let lookout = looking.map_err(system("the thread that looks at the node can not be started"))?;
        let talking = neighbours.map(|place| {
            let alive = alive("talks with other nodes");
            neighbours::follow(place, node.clone(), sender.clone(), shared.status.clone(), alive)
        });
        let neighbours =
            talking.transpose().map_err(system("the thread that talks with other nodes can not be started"))?;
        let needs = Needs::new(conntrack.clone());
        let enforcer = Enforcer::new(node, empty, datapath, shared.clone(), lookout, neighbours, needs)?;
        let enforces = alive("enforces");
        let enforce = move || {
            let _enforces = enforces;
            enforcer.run(&told);
        };
        let enforcing = thread::Builder::new().name("enforce".to_owned()).spawn(enforce);
        enforcing.map_err(system("the enforcing thread can not be started"))?;
        let follows = alive("follows the cluster");
        let tell = move |reading| {
            let _follows = &follows;
            sender.send(Told::Cluster(reading)).is_ok()
        };
        source.follow(tell).map_err(system("the thread that follows the cluster can not be started"))?;
        Ok(Self { listener, shared, ended, lock, conntrack })
    }

    /// Where it answers.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// What it says of itself.
    pub fn status(&self) -> Arc<Status> {
        self.shared.status.clone()
    }

    /// Done when the agent enforces what it knows, looked at every now and then.
    pub fn ready(&self) -> impl Future<Output = ()> + use<> {
        let shared = self.shared.clone();
        async move {
            while !shared.status.report().ready {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    /// Answers until `stop` is done. Enforcement stays as it is.
    ///
    /// # Errors
    /// A listener that fails, or a thread that is no more: an agent that can not follow changes must not say that it is
    /// ready.
    pub async fn serve(&mut self, stop: impl Future<Output = ()>) -> io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(self.listener.try_clone()?)?;
        let router = ops::router(self.shared.clone());
        tokio::select! {
            ended = async { axum::serve(listener, router).await } => ended,
            Some(what) = self.ended.recv() => {
                Err(io::Error::other(format!("the thread that {what} has ended; start the agent again")))
            }
            () = stop => Ok(()),
        }
    }

    /// Ends enforcement: nothing of it stays in the kernel. No other agent starts here meanwhile.
    ///
    /// # Errors
    /// A pin that can not be taken away.
    pub fn end(self, bpffs: &Path) -> Result<(), datapath::Error> {
        let Agent { listener: _, shared: _, ended: _, lock, conntrack } = self;
        Datapath::detach(bpffs)?;
        conntrack.forget();
        drop(lock);
        Ok(())
    }
}

/// Two agents must not write the same maps. A name in the network namespace, which goes with the process, is the lock.
fn hold() -> Result<UnixListener, StartError> {
    let failed = |source| StartError::System { what: "the lock of the network namespace can not be taken", source };
    let name = UnixAddr::from_abstract_name(LOCK).map_err(failed)?;
    let begun = Instant::now();
    loop {
        match UnixListener::bind_addr(&name) {
            Ok(held) => return Ok(held),
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => return Err(failed(error)),
            Err(_) if begun.elapsed() < HANDOVER => thread::sleep(Duration::from_millis(20)),
            Err(_) => return Err(StartError::Held),
        }
    }
}
