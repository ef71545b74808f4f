//! `ringfence admission`: the webhook on its sockets, and what it keeps in the cluster, until somebody stops it.
//!
//! Prints `listening on https://ADDRESS` on stderr once reviews are answered, so that port 0 can be given and whoever started
//! it can wait for that line.

use super::judging;
use crate::{
    admission::{
        Service, View,
        ops::Readiness,
        router::DECIDING_THREADS,
        server::{Server, Settings},
    },
    controller::{Controller, Fenced, Release, fenced, refence},
    k8s::{
        reading::Reading,
        watch::{self as cluster, Access, Kind, Named},
    },
    policy::{baseline::Baseline, cluster::Event, mode::Mode, model::Name},
    telemetry,
    tls::{Clients, Files, Served, Times},
};
use anyhow::{Context, bail};
use clap::Args as ClapArgs;
use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};
use tokio::sync::watch;

/// A mounted Secret changes some ten seconds after the Secret; this adds little to that.
const RELOAD_EVERY: Duration = Duration::from_secs(5);
/// How long the end of the server waits for the controller to leave its place to another one.
const HANDOVER: Duration = Duration::from_secs(3);

/// Check NetworkPolicies when they are written to a cluster: the admission webhook
#[derive(Debug, Clone, ClapArgs)]
#[command(after_help = "\
Ends on SIGTERM and SIGINT, when the reviews that are under way have an answer.
RINGFENCE_LOG filters the log: error, warn, info, debug, trace.

Example, with certificates from certs/make.sh:
  ringfence admission --no-cluster --listen 127.0.0.1:8443 --ops-listen 127.0.0.1:8080 \\
      --tls-cert tls.crt --tls-key tls.key

Example, as the chart does it:
  ringfence admission --listen [::]:8443 --release ringfence-system/ringfence --cluster-name ringfence --identity $POD")]
pub struct Args {
    /// Address and port for reviews over HTTPS; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,
    /// The certificate chain in PEM, the server's own first; read again when it changes. Without: made with --release
    #[arg(long, value_name = "FILE", requires = "tls_key", required_unless_present = "release")]
    tls_cert: Option<PathBuf>,
    /// Its private key in PEM; read again when it changes
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Certificates of authorities in PEM: who shows no certificate of theirs may not connect for reviews. Read once
    #[arg(long, value_name = "FILE")]
    client_ca: Option<PathBuf>,
    /// Address and port for /healthz, /readyz and /metrics over plain HTTP
    #[arg(long, value_name = "ADDR")]
    ops_listen: Option<SocketAddr>,
    /// Judge by the objects alone and follow no cluster
    #[arg(long, conflicts_with_all = ["kubeconfig", "release"])]
    no_cluster: bool,
    /// A kubeconfig whose current context names the cluster to follow; without: the cluster of this pod
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// What fences namespaces that have no label ringfence.dev/baseline: deny-all, deny-ingress or off
    #[arg(long, value_name = "BASELINE", default_value = "off")]
    baseline: Baseline,
    /// The ClusterRole that was made when Ringfence was installed: older namespaces have the --baseline only by their label
    #[arg(long, value_name = "NAME", conflicts_with = "no_cluster")]
    baseline_since: Option<String>,
    /// What becomes of what policies deny where neither they nor their namespace say it: enforce or audit
    #[arg(long, value_name = "MODE", default_value = "enforce")]
    mode: Mode,
    #[command(flatten)]
    judging: judging::Judging,
    /// Keep what the release of this name needs: certificates and their caBundle, and baselines as NetworkPolicies
    #[arg(long, value_name = "NAMESPACE/NAME", requires = "cluster_name", requires = "identity")]
    release: Option<Release>,
    /// The name of the release's objects that have no namespace: webhook configurations, ClusterRole
    #[arg(long, value_name = "NAME", requires = "release")]
    cluster_name: Option<String>,
    /// What no other replica is called
    #[arg(long, value_name = "NAME", requires = "release")]
    identity: Option<String>,
    /// For how long a CA is valid: at least three times --ca-rotation
    #[arg(long, value_name = "TIME", default_value = "365d", value_parser = time)]
    ca_life: Duration,
    /// For how long a CA signs; the next one is known that much before
    #[arg(long, value_name = "TIME", default_value = "90d", value_parser = time)]
    ca_rotation: Duration,
    /// For how long a server certificate is valid; it is renewed after two thirds of that
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = time)]
    certificate_life: Duration,
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// One line: what is missing or taken, and what to do.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args {
        listen,
        tls_cert,
        tls_key,
        client_ca,
        ops_listen,
        no_cluster,
        kubeconfig,
        baseline,
        baseline_since,
        mode,
        judging,
        ..
    } = args.clone();
    let (catalogue, manners) = judging.read();
    telemetry::init();
    let access = match (no_cluster, kubeconfig) {
        (true, _) => None,
        (false, Some(file)) => Some(Access::Kubeconfig(file)),
        (false, None) if std::env::var_os("KUBERNETES_SERVICE_HOST").is_none() => {
            bail!("this is no pod of a cluster: give --kubeconfig FILE, or --no-cluster to judge objects by themselves")
        }
        (false, None) => Some(Access::InCluster),
    };
    let (served, made) = match (tls_cert, tls_key) {
        (Some(cert), Some(key)) => (Served::load(Files { cert, key })?, false),
        _ => (Arc::new(Served::default()), true),
    };
    let clients = client_ca.as_deref().map(Clients::load).transpose()?;
    let readiness = Readiness::default();
    if made {
        readiness.lacks("certificate", Some("there is no certificate to serve yet".to_owned()));
    }
    let view = View::new(baseline).with_mode(mode);
    let (fences, seen) = watch::channel(None);
    let controller = controller(args, access.clone(), made.then(|| served.clone()), seen)?;
    let settings =
        Settings { listen, ops_listen, served, clients, reload_every: RELOAD_EVERY, readiness: readiness.clone() };
    let server = Server::bind(settings, Service::by(catalogue).with_manners(manners).with_view(view.clone()))?;
    if let Some(address) = server.ops_address()? {
        eprintln!("probes and metrics on http://{address}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .max_blocking_threads(DECIDING_THREADS)
        .enable_all()
        .build()
        .context("cannot start the threads that serve; is a limit on threads too low?")?;
    runtime.block_on(async {
        let asked = super::asked_to_stop()?;
        let (stopping, stopped) = watch::channel(false);
        let stop = async move {
            asked.await;
            stopping.send_replace(true);
            // Whoever waits for it hears it as long as this lives.
            tokio::spawn(async move { stopping.closed().await });
        };
        let refused = super::refused(access.clone());
        tokio::pin!(refused);
        if let Some(access) = access {
            let taken = readiness.clone();
            taken.lacks("cluster", Some("the cluster is not known yet".to_owned()));
            let installed = baseline_since.map(Named::cluster_role);
            tokio::spawn(cluster::follow(access, &Kind::ALL, installed, move |reading| {
                take(reading, &view, &fences, &taken);
                true
            }));
        }
        let keeping = async {
            match controller {
                Some(controller) => controller.run(|why| readiness.lacks("certificate", why), stopped).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(keeping);
        let serving = server.run(stop, |address| eprintln!("listening on https://{address}"));
        tokio::pin!(serving);
        let mut kept = false;
        let result = loop {
            tokio::select! {
                result = &mut serving => break result,
                error = &mut refused => return Err(error.into()),
                () = &mut keeping, if !kept => kept = true,
            }
        };
        if !kept {
            let _ = tokio::time::timeout(HANDOVER, keeping).await;
        }
        result?;
        Ok(ExitCode::SUCCESS)
    })
}

/// What is told of the cluster goes to whoever judges by it, and to whoever shows baselines.
fn take(reading: Reading, view: &View, fences: &watch::Sender<Option<Fenced>>, readiness: &Readiness) {
    match &reading {
        Reading::Whole(_) => readiness.lacks("cluster", None),
        Reading::Away(why) => {
            tracing::warn!("what is known of the cluster stays as it is: {why}");
            if view.read(|cluster| cluster.is_none()) {
                readiness.lacks("cluster", Some(format!("the cluster is not known yet: {why}")));
            }
        }
        _ => {}
    }
    let named = namespaces(&reading);
    if view.take(reading) {
        view.read(|cluster| {
            let Some(cluster) = cluster else { return };
            fences.send_if_modified(|known| match (known.as_mut(), named) {
                (Some(known), Some(named)) => refence(known, cluster, &named),
                _ => known.replace(fenced(cluster)) != *known,
            });
        });
    }
}

/// The namespaces that a reading says something of; `None` = of any.
fn namespaces(reading: &Reading) -> Option<Vec<Name>> {
    let named = |event: &Event| match event {
        Event::Namespace(name, _) => Some(name.clone()),
        _ => None,
    };
    match reading {
        Reading::Whole(_) => None,
        Reading::Events(events) => Some(events.iter().filter_map(named).collect()),
        Reading::Current(_) | Reading::Refused(_) | Reading::Away(_) => Some(vec![]),
    }
}

/// What is kept in the cluster, if anything.
fn controller(
    args: Args,
    access: Option<Access>,
    served: Option<Arc<Served>>,
    fenced: watch::Receiver<Option<Fenced>>,
) -> anyhow::Result<Option<Controller>> {
    let Args { release, cluster_name, identity, ca_life, ca_rotation, certificate_life, .. } = args;
    let (Some(release), Some(cluster_name), Some(identity), Some(access)) = (release, cluster_name, identity, access)
    else {
        return Ok(None);
    };
    if ca_life < ca_rotation * 3 {
        bail!("--ca-life is less than three times --ca-rotation: a CA is known, signs, and is trusted afterwards");
    }
    if certificate_life * 2 > ca_life {
        bail!("--certificate-life is more than half of --ca-life: its CA would end before it");
    }
    let times = Times { authority: ca_life, rotation: ca_rotation, leaf: certificate_life };
    Ok(Some(Controller { access, release, cluster_name, identity, times, served, fenced }))
}

/// `90d`, `12h`, `5m`, `30s`.
fn time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time: write 30s, 5m, 12h or 90d");
    let (number, unit) = text.split_at(text.char_indices().last().map_or(0, |(at, _)| at));
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return Err(wrong()),
    };
    let number: u32 = number.parse().map_err(|_| wrong())?;
    if number == 0 { Err(wrong()) } else { Ok(Duration::from_secs(u64::from(number) * seconds)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{
        baseline::LABEL,
        model::{Key, Labels, Namespace, Pod},
    };

    #[test]
    fn baselines_follow_what_is_said_of_namespaces_and_nothing_else() {
        let (view, readiness) = (View::new(Baseline::DenyAll), Readiness::default());
        let (fences, mut seen) = watch::channel(None);
        let mut told = |reading| {
            take(reading, &view, &fences, &readiness);
            let now = view.read(|cluster| cluster.map(fenced));
            assert_eq!(*fences.borrow(), now, "what it would be from scratch");
            std::mem::replace(&mut seen, fences.subscribe()).has_changed().unwrap()
        };
        let namespace = |name: &str, namespace| Reading::Events(vec![Event::Namespace(name.into(), namespace)]);
        let labelled = |value| Namespace { labels: Labels::from_iter([(LABEL, value)]), ..Namespace::default() };
        assert!(!told(namespace("early", Some(Namespace::default()))), "the whole comes first");
        assert!(told(Reading::Whole(Box::default())));
        assert!(told(namespace("shop", Some(Namespace::default()))));
        assert!(!told(Reading::Events(vec![Event::Pod(Key::new("shop", "web"), Some(Pod::default()))])));
        assert!(!told(namespace("shop", Some(labelled("deny-all")))), "another label, the same baseline");
        assert!(told(namespace("shop", Some(labelled("off")))));
        assert!(told(namespace("shop", Some(Namespace { terminating: true, ..labelled("off") }))));
        assert!(told(namespace("shop", None)));
        assert!(!told(Reading::Whole(Box::default())), "the same again");
    }

    #[test]
    fn times_have_a_unit_and_are_not_nothing() {
        assert_eq!(time("90d"), Ok(Duration::from_secs(90 * 24 * 3600)));
        assert_eq!(time("3s"), Ok(Duration::from_secs(3)));
        for wrong in ["", "s", "0s", "3", "3w", "-1s", "1.5h", "3é"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }
}
