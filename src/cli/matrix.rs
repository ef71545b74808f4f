//! `ringfence matrix`: who reaches whom, from manifests or in a live cluster.

use crate::{
    k8s::{
        convert::Settings,
        manifests,
        watch::{self, Access},
    },
    policy::{
        baseline::Baseline,
        cluster::Cluster,
        matrix::{Family, Question, matrix},
        model::Protocol,
    },
    report, telemetry,
};
use anyhow::bail;
use std::{net::IpAddr, path::PathBuf, process::ExitCode};

/// Who reaches whom: pods, and of manifests also the pod templates of workloads.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A file or directory of manifests; more than one may be given
    #[arg(short = 'f', long = "file", value_name = "PATH", required_unless_present = "kubeconfig", num_args = 1..)]
    files: Vec<PathBuf>,
    /// A kubeconfig whose current context names a live cluster, instead of manifests
    #[arg(long, value_name = "FILE", conflicts_with = "files")]
    kubeconfig: Option<PathBuf>,
    /// The destination port and its protocol
    #[arg(long, value_name = "PORT/PROTOCOL", value_parser = port)]
    port: (u16, Protocol),
    /// Which of their addresses the pods use
    #[arg(long, value_parser = family, default_value_t = Family::Ipv4)]
    family: Family,
    /// Somebody outside the cluster; more than one may be given
    #[arg(long = "with", value_name = "NAME=ADDRESS", value_parser = stranger)]
    strangers: Vec<(String, IpAddr)>,
    /// What fences namespaces that have no label ringfence.dev/baseline: deny-all, deny-ingress or off
    #[arg(long, value_name = "BASELINE", default_value = "off")]
    baseline: Baseline,
    /// How to print it
    #[arg(short = 'o', long = "output", value_enum, default_value_t)]
    output: Output,
}

/// How to print a result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people
    #[default]
    Text,
    /// For machines
    Json,
}

const EXAMPLES: &str = "Examples:
  ringfence matrix -f manifests/ --port 80/TCP
  ringfence matrix -f pods.yaml policies.yaml --port 53/UDP --baseline deny-all
  ringfence matrix --kubeconfig ~/.kube/config --port 80/TCP
  ringfence matrix -f manifests/ --port 80/TCP --with user=192.0.2.1 -o json";

/// Prints the matrix.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { files, kubeconfig, port: (port, protocol), family, strangers, baseline, output } = args;
    if let Some((name, address)) = strangers.iter().find(|(_, address)| Family::of(address) != family) {
        bail!("--with {name}={address} is not an {family} address: give another one, or --family");
    }
    let cluster = match kubeconfig {
        Some(file) => live(file)?,
        None => written(&files)?,
    };
    let answer = matrix(&Cluster { baseline, ..cluster }, Question { port, protocol, family, strangers });
    match output {
        Output::Text => print!("{}", report::matrix::text(&answer)),
        Output::Json => println!("{}", report::matrix::json(&answer)),
    }
    Ok(ExitCode::SUCCESS)
}

fn written(files: &[PathBuf]) -> anyhow::Result<Cluster> {
    let settings = Settings { templates: true, ..Settings::default() };
    let (cluster, findings) = manifests::read(files, &settings).whole()?;
    for finding in &findings {
        eprintln!("ringfence: taken as closed: {finding}");
    }
    Ok(cluster)
}

fn live(kubeconfig: PathBuf) -> anyhow::Result<Cluster> {
    telemetry::init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(watch::once(&Access::Kubeconfig(kubeconfig)))?)
}

fn port(text: &str) -> Result<(u16, Protocol), String> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "TCP"));
    let number = number.parse().ok().filter(|number| *number > 0);
    let protocol = protocol.to_ascii_uppercase().parse().ok();
    number.zip(protocol).ok_or_else(|| "write a port from 1 to 65535 and TCP, UDP or SCTP, as in 80/TCP".to_owned())
}

fn family(text: &str) -> Result<Family, String> {
    [Family::Ipv4, Family::Ipv6].into_iter().find(|f| f.as_str() == text).ok_or_else(|| "write ipv4 or ipv6".to_owned())
}

fn stranger(text: &str) -> Result<(String, IpAddr), String> {
    let read = text.split_once('=').and_then(|(name, address)| Some((name.to_owned(), address.parse().ok()?)));
    read.filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| "write a name and an address, as in user=192.0.2.1".to_owned())
}
