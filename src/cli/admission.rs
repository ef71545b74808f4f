//! `ringfence admission`: the webhook on its sockets, until somebody stops it.
//!
//! Prints `listening on https://ADDRESS` on stderr once reviews are answered, so that port 0 can be given and whoever started
//! it can wait for that line.

use crate::{
    admission::{
        Service, catalogue,
        router::DECIDING_THREADS,
        server::{Server, Settings},
    },
    telemetry,
    tls::Files,
};
use anyhow::Context;
use clap::Args as ClapArgs;
use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

/// A mounted Secret changes some ten seconds after the Secret; this adds little to that.
const RELOAD_EVERY: Duration = Duration::from_secs(5);

/// Check NetworkPolicies when they are written to a cluster: the admission webhook
#[derive(Debug, Clone, ClapArgs)]
#[command(after_help = "\
Ends on SIGTERM and SIGINT, when the reviews that are under way have an answer.
RINGFENCE_LOG filters the log: error, warn, info, debug, trace.

Example, with certificates from certs/make.sh:
  ringfence admission --no-cluster --listen 127.0.0.1:8443 --ops-listen 127.0.0.1:8080 \\
      --tls-cert tls.crt --tls-key tls.key")]
pub struct Args {
    /// Address and port for reviews over HTTPS; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,
    /// The certificate chain in PEM, the server's own first; read again when it changes
    #[arg(long, value_name = "FILE")]
    tls_cert: PathBuf,
    /// Its private key in PEM; read again when it changes
    #[arg(long, value_name = "FILE")]
    tls_key: PathBuf,
    /// Address and port for /healthz, /readyz and /metrics over plain HTTP
    #[arg(long, value_name = "ADDR")]
    ops_listen: Option<SocketAddr>,
    /// Judge by the objects alone and follow no cluster
    #[arg(long)]
    no_cluster: bool,
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// One line: what is missing or taken, and what to do.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { listen, tls_cert, tls_key, ops_listen, no_cluster } = args;
    telemetry::init();
    if !no_cluster {
        tracing::info!("no cluster is followed: objects are judged by themselves alone, as with --no-cluster");
    }
    let certificate = Files { cert: tls_cert, key: tls_key };
    let settings = Settings { listen, ops_listen, certificate, reload_every: RELOAD_EVERY };
    let server = Server::bind(settings, Service::new(catalogue))?;
    if let Some(address) = server.ops_address()? {
        eprintln!("probes and metrics on http://{address}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .max_blocking_threads(DECIDING_THREADS)
        .enable_all()
        .build()
        .context("cannot start the threads that serve; is a limit on threads too low?")?;
    runtime.block_on(async {
        let stop = super::asked_to_stop()?;
        server.run(stop, |address| eprintln!("listening on https://{address}")).await?;
        Ok(ExitCode::SUCCESS)
    })
}
