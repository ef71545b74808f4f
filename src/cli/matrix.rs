//! `ringfence matrix`: who reaches whom, from manifests.

use crate::{
    k8s::{convert::Settings, manifests},
    policy::{
        baseline::{Baseline, with_name_label},
        cluster::Cluster,
        matrix::{Family, Question, matrix},
        model::{Labels, Name, Namespace, Protocol},
    },
    report,
};
use anyhow::bail;
use std::{collections::BTreeSet, net::IpAddr, path::PathBuf, process::ExitCode};

/// Who reaches whom, from manifests: pods, and the pod templates of workloads.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A file or directory of manifests; more than one may be given
    #[arg(short = 'f', long = "file", value_name = "PATH", required = true, num_args = 1..)]
    files: Vec<PathBuf>,
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
  ringfence matrix -f manifests/ --port 80/TCP --with user=192.0.2.1 -o json";

/// Prints the matrix.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { files, port: (port, protocol), family, strangers, baseline, output } = args;
    if let Some((name, address)) = strangers.iter().find(|(_, address)| Family::of(address) != family) {
        bail!("--with {name}={address} is not an {family} address: give another one, or --family");
    }
    let answer = matrix(&cluster(&files, baseline)?, Question { port, protocol, family, strangers });
    match output {
        Output::Text => print!("{}", report::matrix::text(&answer)),
        Output::Json => println!("{}", report::matrix::json(&answer)),
    }
    Ok(ExitCode::SUCCESS)
}

/// Manifests as a cluster, pod templates included. Policies with mistakes are named on stderr. Repositories rarely hold the
/// Namespaces of what they hold: those that no file has are taken as an API server makes them, and named, too.
pub(super) fn cluster(files: &[PathBuf], baseline: Baseline) -> anyhow::Result<Cluster> {
    let settings = Settings { templates: true, ..Settings::default() };
    let (cluster, findings) = manifests::read(files, &settings).whole()?;
    for finding in &findings {
        eprintln!("ringfence: taken as closed: {finding}");
    }
    let mut cluster = Cluster { baseline, ..cluster };
    let missing: BTreeSet<Name> = cluster
        .pods
        .keys()
        .map(|key| &key.namespace)
        .filter(|name| !cluster.namespaces.contains_key(*name))
        .cloned()
        .collect();
    if !missing.is_empty() {
        let names = missing.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
        eprintln!("ringfence: no file has the Namespace of some pods ({names}): taken to have no labels but its name");
    }
    for name in missing {
        let labels = with_name_label(&name, Labels::default());
        cluster.namespaces.insert(name, Namespace { labels });
    }
    Ok(cluster)
}

/// `80/TCP`; TCP where no protocol is given.
pub(super) fn port(text: &str) -> Result<(u16, Protocol), String> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "TCP"));
    let number = number.parse().ok().filter(|number| *number > 0);
    let protocol = protocol.to_ascii_uppercase().parse().ok();
    number.zip(protocol).ok_or_else(|| "write a port from 1 to 65535 and TCP, UDP or SCTP, as in 80/TCP".to_owned())
}

/// `ipv4` or `ipv6`.
pub(super) fn family(text: &str) -> Result<Family, String> {
    [Family::Ipv4, Family::Ipv6].into_iter().find(|f| f.as_str() == text).ok_or_else(|| "write ipv4 or ipv6".to_owned())
}

fn stranger(text: &str) -> Result<(String, IpAddr), String> {
    let read = text.split_once('=').and_then(|(name, address)| Some((name.to_owned(), address.parse().ok()?)));
    read.filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| "write a name and an address, as in user=192.0.2.1".to_owned())
}
