//! `ringfence explain`: may this connection pass, and which policies and rules say so.

use super::{
    cluster,
    matrix::{self, Output},
};
use crate::{
    policy::{
        cluster::Cluster,
        decide::{Endpoint, Flow, decide, endpoint},
        matrix::{Family, end},
        model::{Key, Protocol},
    },
    report::explain::{self, Asked},
};
use anyhow::bail;
use std::{net::IpAddr, process::ExitCode};

/// May this connection pass, and which policies and rules say so: in manifests, pod templates included, or in a live cluster.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    cluster: cluster::Which,
    /// Who opens the connection: a pod, or any address
    #[arg(long, value_name = "NS/POD|ADDRESS")]
    from: String,
    /// Who is asked: a pod, or any address
    #[arg(long, value_name = "NS/POD|ADDRESS")]
    to: String,
    /// The destination port and its protocol
    #[arg(long, value_name = "PORT/PROTOCOL", value_parser = matrix::port)]
    port: (u16, Protocol),
    /// Which of their addresses the pods use
    #[arg(long, value_parser = matrix::family, default_value_t = Family::Ipv4)]
    family: Family,
    /// How to print it
    #[arg(short = 'o', long = "output", value_enum, default_value_t)]
    output: Output,
}

const EXAMPLES: &str = "Exit code: 0 allowed, 1 denied, 2 could not be decided

Examples:
  ringfence explain -f manifests/ --from shop/web --to shop/db --port 3306/TCP
  ringfence explain -f manifests/ --from 192.0.2.7 --to shop/deployment/web --port 80
  ringfence explain -f manifests/ --from shop/api --to 10.0.0.53 --port 53/UDP -o json";

/// Decides and says why.
///
/// # Errors
/// What is no cluster, or a pod that is not in it.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { cluster, from, to, port: (port, protocol), family, output } = args;
    let cluster = cluster.read()?;
    let flow = Flow {
        from: find(&cluster, &from, family)?,
        to: find(&cluster, &to, family)?,
        protocol: protocol.number(),
        port,
    };
    let decision = decide(&cluster, &flow);
    match output {
        Output::Text => print!("{}", explain::text(&Asked { from, to, port: format!("{port}/{protocol}") }, &decision)),
        Output::Json => println!("{}", explain::json(&decision)),
    }
    Ok(if decision.allows() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn find(cluster: &Cluster, text: &str, family: Family) -> anyhow::Result<Endpoint> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(endpoint(cluster, address));
    }
    let Some((namespace, name)) = text.split_once('/') else {
        bail!("{text:?} is neither an address nor a pod: write NAMESPACE/POD, as in shop/web");
    };
    let key = Key::new(namespace, name);
    match cluster.pods.get(&key).filter(|pod| !pod.finished) {
        Some(pod) => Ok(end(&key, pod, family)),
        None => bail!("there is no pod {key}: {}", near(cluster, &key)),
    }
}

/// What there is instead, a few of them.
fn near(cluster: &Cluster, key: &Key) -> String {
    let here: Vec<String> =
        cluster.pods.keys().filter(|k| k.namespace == key.namespace).map(ToString::to_string).collect();
    match here.len() {
        0 => format!("the namespace {} has none; `ringfence matrix` lists all pods", key.namespace),
        1..=8 => format!("there are {}", here.join(", ")),
        many => format!("there are {many} others in its namespace; `ringfence matrix` lists them"),
    }
}
