//! The server on real sockets of the loopback: certificates, connections, the end.

mod certificates;
mod clients;
mod script;
mod serving;

use crate::admission::{findings, policy, review};
use ringfence::{
    admission::{
        ops::Readiness,
        server::{Server, ServerError, Settings},
    },
    tls::{Files, Served},
};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;
use ureq::tls::{Certificate, ClientCert, RootCerts, TlsConfig, TlsProvider};

const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// A server that runs, and ends when this is dropped.
struct Running {
    address: SocketAddr,
    ops: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<(), ServerError>>>,
}

fn settings(directory: &Path) -> Settings {
    Settings {
        listen: ANY_PORT,
        ops_listen: Some(ANY_PORT),
        served: Served::load(Files { cert: directory.join("tls.crt"), key: directory.join("tls.key") }).unwrap(),
        clients: None,
        reload_every: Duration::from_millis(20),
        readiness: Readiness::default(),
    }
}

/// A server on the `tls.crt` and `tls.key` of a directory, once it answers.
fn serve(directory: &Path) -> Running {
    serve_with(settings(directory))
}

fn serve_with(settings: Settings) -> Running {
    let (server, listening) = start(settings);
    listening.recv_timeout(Duration::from_secs(10)).expect("the server answers");
    server
}

/// A server that says when it answers.
fn start(settings: Settings) -> (Running, mpsc::Receiver<SocketAddr>) {
    let server = Server::bind(settings, crate::admission::service(findings)).unwrap();
    let (address, ops) = (server.address().unwrap(), server.ops_address().unwrap().unwrap());
    let (stop, stopped) = oneshot::channel();
    let (listening, heard) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(server.run(
            async {
                let _ = stopped.await;
            },
            move |address| listening.send(address).unwrap(),
        ))
    });
    (Running { address, ops, stop: Some(stop), thread: Some(thread) }, heard)
}

impl Running {
    fn stop(&mut self) {
        drop(self.stop.take());
    }

    fn end(mut self) -> Result<(), ServerError> {
        self.stop();
        self.thread.take().unwrap().join().unwrap()
    }

    /// Asks whether a policy may be created; who trusts `ca` and makes a connection of its own for it.
    fn ask(&self, ca: &str, name: &str) -> Result<Value, ureq::Error> {
        self.ask_by(&client(ca, None), name)
    }

    fn ask_by(&self, client: &ureq::Agent, name: &str) -> Result<Value, ureq::Error> {
        let mut object = policy(json!({"podSelector": {}, "policyTypes": ["Ingress"]}));
        object["metadata"]["name"] = json!(name);
        let body = review("CREATE", Some(object), None);
        let url = format!("https://localhost:{}/validate?timeout=5s", self.address.port());
        let mut response = client.post(&url).send_json(&body)?;
        assert_eq!(response.status(), 200);
        response.body_mut().read_json()
    }

    fn get_ops(&self, path: &str) -> (u16, String) {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
        let mut response = agent.get(format!("http://{}{path}", self.ops)).call().unwrap();
        (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A client that trusts one CA, and shows a certificate if it has one.
fn client(ca: &str, shows: Option<ClientCert>) -> ureq::Agent {
    let roots = RootCerts::new_with_certs(&[Certificate::from_pem(ca.as_bytes()).unwrap()]);
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(roots)
        .client_cert(shows)
        .build();
    ureq::Agent::config_builder().tls_config(tls).timeout_global(Some(Duration::from_secs(10))).build().new_agent()
}

fn allowed(answer: &Value) -> bool {
    answer["response"]["allowed"] == true
}

/// Asks again until it is so, at most ten seconds: less than a holder of a Lease may be silent.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(10), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

const DAY: Duration = Duration::from_secs(24 * 3600);
