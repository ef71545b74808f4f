//! Sockets around the router: HTTPS for the API server, plain HTTP for probes and metrics.
//!
//! `Settings -> Server::bind -> Server::run(stop)`. Whatever can be refused is refused by `bind`, before a first connection.
//! `run` re-reads the certificate every few seconds, and when told to stop it takes no new reviews and finishes those it has.

use super::{
    decide::Service,
    metrics::Metrics,
    ops::{self, Readiness},
    router::{CONCURRENCY, State, router},
};
use crate::{
    telemetry,
    tls::{Clients, Served},
};
use axum_server::{Handle, tls_rustls::RustlsConfig};
use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    pin::pin,
    sync::Arc,
    time::Duration,
};
use tokio::{net::TcpSocket, sync::watch};

/// A client that has connected sends its first request within this time.
const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// The head of any later request comes within this time, the idle time before it included; longer than the 90 s after which
/// an API server lets go of an idle connection, so that it is never us who close one that it is about to use.
const NEXT_HEAD: Duration = Duration::from_secs(100);
/// How long reviews that are being decided may go on after the end was announced; no review may take longer.
const DRAIN: Duration = Duration::from_secs(10);

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1024;

/// What a server needs to know.
#[derive(Debug)]
pub struct Settings {
    /// Where reviews come in; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Where probes and metrics are answered, if anywhere.
    pub ops_listen: Option<SocketAddr>,
    /// What is shown to the API server.
    pub served: Arc<Served>,
    /// Who may connect to where reviews come in; everybody if it is not said.
    pub clients: Option<Clients>,
    /// How often certificate files are read again.
    pub reload_every: Duration,
    /// What else it takes to be ready.
    pub readiness: Readiness,
}

/// Why a server cannot start, or had to stop.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the sentences say it")]
pub enum ServerError {
    #[error("TLS cannot be set up: {0}")]
    Tls(rustls::Error),
    #[error("cannot listen on {address} ({option}): {why}; stop what uses it, or give another address")]
    Listen { address: SocketAddr, option: &'static str, why: io::Error },
    #[error("the {what} listener failed: {why}")]
    Serve { what: &'static str, why: io::Error },
}

/// A server whose addresses are taken, and that answers nobody yet.
#[derive(Debug)]
pub struct Server {
    https: TcpSocket,
    ops: Option<TcpListener>,
    served: Arc<Served>,
    clients: Option<Clients>,
    reload_every: Duration,
    readiness: Readiness,
    service: Service,
}

impl Server {
    /// Takes the addresses. Where reviews come in nobody can connect yet.
    ///
    /// # Errors
    /// What is wrong with an address.
    pub fn bind(settings: Settings, service: Service) -> Result<Self, ServerError> {
        let Settings { listen, ops_listen, served, clients, reload_every, readiness } = settings;
        let https = opened(listen, "--listen", bound)?;
        let ops = ops_listen.map(|address| opened(address, "--ops-listen", listening)).transpose()?;
        Ok(Self { https, ops, served, clients, reload_every, readiness, service })
    }

    /// Where reviews come in.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.https.local_addr()
    }

    /// Where probes and metrics are answered.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn ops_address(&self) -> io::Result<Option<SocketAddr>> {
        self.ops.as_ref().map(TcpListener::local_addr).transpose()
    }

    /// Answers from when there is a certificate until `stop` is done, and then until what is under way has an answer, at most
    /// ten seconds. `listening` is called once, when connections are answered.
    ///
    /// # Errors
    /// A listener that fails while it serves.
    pub async fn run(
        self,
        stop: impl Future<Output = ()> + Send,
        listening: impl FnOnce(SocketAddr) + Send,
    ) -> Result<(), ServerError> {
        let Self { https, ops, served, clients, reload_every, readiness, service } = self;
        let mut registry = telemetry::registry();
        let metrics = Metrics::register(&mut registry);
        let reviews = router(State::new(service, metrics.clone(), CONCURRENCY));
        let probes = ops::router(readiness.clone(), Arc::new(registry));
        let config = RustlsConfig::from_config(served.server_config(clients).map_err(ServerError::Tls)?);

        // Whoever waits on it goes on when the sender is gone: after the reviews have ended.
        let (over, _) = watch::channel(());
        let background = Background { served: served.clone(), every: reload_every, metrics };
        let handle = Handle::<SocketAddr>::new();
        let answering = async {
            let mut server = axum_server::from_tcp_rustls(https.listen(BACKLOG)?.into_std()?, config)?
                .handle(handle.clone())
                .http1_only()
                .first_request_timeout(FIRST_REQUEST);
            server.http_builder().http1().header_read_timeout(NEXT_HEAD);
            server.serve(reviews.into_make_service()).await
        };
        let reviews = async {
            let mut stop = pin!(stop);
            tokio::select! {
                () = served.is_there() => {}
                () = &mut stop => return Ok(()),
            }
            let lifetime = async {
                if let Some(address) = handle.listening().await {
                    readiness.set(true);
                    listening(address);
                }
                stop.await;
                readiness.set(false);
                tracing::info!("stopping: finishing {} connections", handle.connection_count());
                handle.graceful_shutdown(Some(DRAIN));
                std::future::pending().await
            };
            // The first to end is the server: it fails, or it has drained.
            let ended = tokio::select! {
                ended = answering => ended,
                never = lifetime => never,
            };
            ended.map_err(|why| ServerError::Serve { what: "HTTPS", why })
        };
        let probing = serve_ops(ops, probes, over.subscribe());
        let reloading = background.reload(over.subscribe());
        let main = async {
            let result = reviews.await;
            drop(over);
            result
        };
        let (result, probed, ()) = tokio::join!(main, probing, reloading);
        result.and(probed)
    }
}

/// A socket with an address, to which nobody can connect.
fn bound(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // As the standard library does: connections of a predecessor may still be ending.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

fn listening(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn opened<T>(
    address: SocketAddr,
    option: &'static str,
    open: impl Fn(SocketAddr) -> io::Result<T>,
) -> Result<T, ServerError> {
    let opened = match open(address) {
        // `[::]` is every address of both families. A kernel without IPv6 has one family.
        Err(error) if address.ip() == Ipv6Addr::UNSPECIFIED && has_no_ipv6(&error) => {
            open(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()))
        }
        opened => opened,
    };
    opened.map_err(|why| ServerError::Listen { address, option, why })
}

fn has_no_ipv6(error: &io::Error) -> bool {
    error.raw_os_error() == Some(nix::errno::Errno::EAFNOSUPPORT as i32)
}

async fn serve_ops(
    ops: Option<TcpListener>,
    probes: axum::Router,
    over: watch::Receiver<()>,
) -> Result<(), ServerError> {
    let Some(listener) = ops else { return Ok(()) };
    let serving = async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        axum::serve(listener, probes).await
    };
    // Probes have nothing to finish: they end with the server.
    tokio::select! {
        ended = serving => ended.map_err(|why| ServerError::Serve { what: "ops", why }),
        () = ended(over) => Ok(()),
    }
}

/// Waits until the sender is gone.
async fn ended(mut over: watch::Receiver<()>) {
    while over.changed().await.is_ok() {}
}

/// Re-reads the certificate as long as the server lives.
struct Background {
    served: Arc<Served>,
    every: Duration,
    metrics: Metrics,
}

impl Background {
    async fn reload(self, over: watch::Receiver<()>) {
        let Self { served, every, metrics } = self;
        let rounds = async {
            let mut complaint = None;
            let mut ticks = tokio::time::interval(every);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let served = served.clone();
                let Ok(read) = tokio::task::spawn_blocking(move || served.reload()).await else { continue };
                match read {
                    Ok(changed) => {
                        if changed {
                            tracing::info!("the certificate was replaced");
                            metrics.reloaded(true);
                        }
                        complaint = None;
                    }
                    Err(error) => {
                        // Once for each reason, not every few seconds.
                        let reason = error.to_string();
                        if complaint.as_ref() != Some(&reason) {
                            tracing::error!("keeping the certificate that is served: {reason}");
                            metrics.reloaded(false);
                            complaint = Some(reason);
                        }
                    }
                }
            }
        };
        tokio::select! {
            () = rounds => {}
            () = ended(over) => {}
        }
    }
}
