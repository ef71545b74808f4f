//! `ringfence agent`: enforcement on this node, until somebody stops it, and beyond.

use crate::{
    agent::{
        announce, leave, neighbours,
        source::Source,
        start::{Agent, Settings},
        taint,
    },
    datapath::{Datapath, Sizes},
    k8s::{
        neighbours::Owner,
        watch::{Access, DaemonSet, Named, Standing, daemonset, is_name},
    },
    node::{conntrack::Conntrack, memory},
    policy::{baseline::Baseline, cluster::Unknown, mode::Mode, model::Name},
    telemetry,
};
use anyhow::{Context, anyhow, bail};
use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

/// Enforce the NetworkPolicies of a cluster in the network namespace that it runs in.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The node to enforce for, by its name in the cluster
    #[arg(long, value_name = "NAME", required_unless_present = "detach")]
    node: Option<String>,
    /// A directory of manifests to follow: Namespaces, Nodes, Pods, NetworkPolicies; a file counts once it is closed
    #[arg(long, value_name = "DIR")]
    cluster: Option<PathBuf>,
    /// A kubeconfig whose current context names the cluster to follow; without it and --cluster: the cluster of this pod
    #[arg(long, value_name = "FILE", conflicts_with = "cluster")]
    kubeconfig: Option<PathBuf>,
    /// The DaemonSet that it runs in: once that has been deleted, the agent takes enforcement with it when it is stopped
    #[arg(long, value_name = "NAMESPACE/NAME", conflicts_with = "cluster")]
    daemonset: Option<DaemonSet>,
    /// What fences namespaces that have no label ringfence.dev/baseline: deny-all, deny-ingress or off
    #[arg(long, value_name = "BASELINE", default_value = "off")]
    baseline: Baseline,
    /// What becomes of addresses of this node's pods before it is known whose they are: closed or open
    #[arg(long, value_name = "closed|open", default_value = "closed")]
    unknown_pods: Unknown,
    /// Where libcni writes whose addresses and interfaces are, before they can be used; none: the kernel is asked instead,
    /// which knows the addresses behind its interfaces but not whose they are
    #[arg(long, value_name = "DIR", default_value = "/var/lib/cni/results")]
    cni_results: PathBuf,
    /// The ClusterRole that was made when Ringfence was installed: older namespaces have the --baseline only by their label
    #[arg(long, value_name = "NAME", conflicts_with = "cluster")]
    baseline_since: Option<String>,
    /// The namespace in which the agents of all nodes tell each other of pods whose addresses the API does not say yet
    #[arg(long, value_name = "NAMESPACE", conflicts_with = "cluster", requires = "pod", value_parser = namespace)]
    neighbours: Option<String>,
    /// The pod of that namespace that this agent runs in: what it tells the others goes with it
    #[arg(long, value_name = "NAME/UID", requires = "neighbours")]
    pod: Option<Owner>,
    /// Whether policies are enforced or only watched, where neither their annotation nor the label of their namespace
    /// (both ringfence.dev/mode) says it: enforce or audit
    #[arg(long, value_name = "MODE", default_value = "enforce")]
    mode: Mode,
    /// Take the taint ringfence.dev/agent-not-ready from the node once it is enforced
    #[arg(long, conflicts_with = "cluster")]
    remove_taint: bool,
    /// Where maps and links are pinned: they outlive the agent
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf/ringfence")]
    bpffs: PathBuf,
    /// Entries of maps in the kernel, where the defaults are not enough: addresses=100000,networks=20000; of addresses,
    /// networks, admissions, ports, ranges, counters and interfaces
    #[arg(long, value_name = "MAP=ENTRIES,...", default_value = "", hide_default_value = true)]
    map_sizes: Sizes,
    /// Address and port for /healthz, /readyz, /status, /metrics and /flows over plain HTTP; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9441")]
    ops_listen: SocketAddr,
    /// Break glass: take every pin away, so that nothing is enforced any more
    #[arg(long, conflicts_with_all = ["node", "cluster", "kubeconfig", "daemonset", "remove_taint"])]
    detach: bool,
}

const EXAMPLES: &str = "Examples:
  ringfence agent --cluster manifests/ --node n1
  ringfence agent --cluster manifests/ --node n1 --baseline deny-all --ops-listen 127.0.0.1:0
  ringfence agent --kubeconfig admin.conf --node n1
  ringfence agent --detach

Enforcement outlives the agent: killed, upgraded or stopped, it leaves the kernel as it was. Only --detach ends it, and a
SIGTERM after the DaemonSet that --daemonset names has been deleted.";

fn namespace(text: &str) -> Result<String, String> {
    if is_name(text) { Ok(text.to_owned()) } else { Err("this is no name of a namespace".to_owned()) }
}

/// Enforces until SIGTERM or SIGINT.
///
/// # Errors
/// One line: what this node lacks, and what to do.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args {
        node,
        cluster,
        kubeconfig,
        daemonset,
        baseline,
        unknown_pods,
        cni_results,
        baseline_since,
        neighbours,
        pod,
        mode,
        remove_taint,
        bpffs,
        map_sizes,
        ops_listen,
        detach,
    } = args;
    telemetry::init();
    memory::share();
    if detach {
        Datapath::detach(&bpffs)?;
        // While an agent lives the table is its own and stays.
        Conntrack::forget();
        println!("nothing is enforced any more: {} is empty", bpffs.display());
        return Ok(ExitCode::SUCCESS);
    }
    let node = node.ok_or_else(|| anyhow!("give --node NAME"))?;
    let tainted = node.clone();
    let installed = baseline_since.map(Named::cluster_role);
    let source = match (cluster, kubeconfig) {
        (Some(directory), _) => Source::Directory(directory),
        (None, Some(file)) => Source::Kube(Access::Kubeconfig(file), installed),
        (None, None) if std::env::var_os("KUBERNETES_SERVICE_HOST").is_none() => {
            bail!("this is no pod of a cluster: give --kubeconfig FILE or --cluster DIR")
        }
        (None, None) => Source::Kube(Access::InCluster, installed),
    };
    let access = match &source {
        Source::Kube(access, _) => Some(access.clone()),
        Source::Directory(_) => None,
    };
    let place = match (access.clone(), neighbours, pod) {
        (Some(access), Some(namespace), Some(pod)) => Some(neighbours::Place { access, namespace, pod }),
        _ => None,
    };
    let cni_results = Some(cni_results).filter(|directory| directory.as_os_str() != "none");
    let node: Name = node.into();
    let settings = Settings {
        node: node.clone(),
        source,
        baseline,
        unknown: unknown_pods,
        cni_results,
        neighbours: place,
        mode,
        bpffs: bpffs.clone(),
        sizes: map_sizes,
        ops_listen,
    };
    let mut agent = Agent::start(settings)?;
    eprintln!("probes, metrics and flows on http://{}", agent.address()?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the thread that answers probes")?;
    runtime.block_on(async {
        let stop = super::asked_to_stop()?;
        if let Some(access) = access.clone() {
            tokio::spawn(announce::follow(access, node, agent.status()));
        }
        let (teller, mut standing) = tokio::sync::watch::channel(Standing::default());
        if let Some(access) = access.clone().filter(|_| remove_taint) {
            let ready = agent.ready();
            tokio::spawn(async move {
                ready.await;
                taint::remove(access, &tainted).await;
            });
        }
        let refused = super::refused(access.clone());
        if let Some((own, access)) = daemonset.zip(access) {
            tokio::spawn(daemonset::follow(access, own, move |now| {
                teller.send_replace(now);
            }));
        }
        tokio::select! {
            served = agent.serve(stop) => served.context("the agent can not go on")?,
            error = refused => return Err(error.into()),
        }
        if leave::is_for_good(&mut standing).await {
            agent.end(&bpffs)?;
            eprintln!("the DaemonSet was deleted: nothing is enforced any more");
        }
        Ok(ExitCode::SUCCESS)
    })
}
