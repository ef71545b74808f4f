//! What judging costs, as a process and over TLS: measurements, no verdicts. `make bench` runs them.
//!
//! The real `ringfence admission` follows a cluster of 1,000 namespaces and 10,000 pods; beside it stands the same server,
//! which knows the same cluster, with a judge that finds nothing: this binary once more. Both are asked by the same few connections, in turns.

use super::service;
use crate::{
    kube::{fake::Fake, objects},
    numbers::memory,
    thousand,
};
use ringfence::{
    admission::{
        ops::Readiness,
        router::DECIDING_THREADS,
        server::{Server, Settings},
        view::View,
    },
    k8s::reading::Reading,
    policy::baseline::Baseline,
    telemetry,
    tls::{Files, Served, self_signed::issue},
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// Connections that stay open, as those of an API server do.
const CONNECTIONS: u32 = 4;
/// How often both servers are asked, and for how long each time.
const PAIRS: usize = 11;
const TURN: Duration = Duration::from_secs(1);
/// Reviews a second for the latency, and how many.
const RATE: u32 = 500;
const ASKED: u32 = 5_000;
/// Where the server that allows finds its certificate.
const DIRECTORY: &str = "RINGFENCE_ALLOWING";

/// A server in a process of its own; killed when dropped.
struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    /// Started, once it says where it listens.
    fn start(mut command: Command) -> Self {
        // As the chart sets it.
        let chart = include_str!("../../../charts/ringfence/templates/admission.yaml");
        let tunables = chart.lines().find_map(|line| line.trim().strip_prefix("value: glibc.")).unwrap();
        command.env("GLIBC_TUNABLES", format!("glibc.{tunables}"));
        command.env("RINGFENCE_LOG", "error").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut after = |start: &str| lines.find_map(|line| line.strip_prefix(start)?.parse().ok()).unwrap();
        let (ops, address) = (after("probes and metrics on http://"), after("listening on https://"));
        // Reads on, so that the server never waits for us.
        thread::spawn(move || lines.for_each(|line| println!("{line}")));
        let process = Self { child, address };
        process.until_ready(ops);
        process
    }

    fn until_ready(&self, ops: SocketAddr) {
        let begun = Instant::now();
        while ureq::get(format!("http://{ops}/readyz")).call().is_err() {
            assert!(begun.elapsed() < Duration::from_secs(60), "not ready");
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// The webhook of the catalogue, which follows a cluster.
    fn judging(directory: &Path, kubeconfig: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringfence"));
        command.args(["admission", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"]);
        for (option, file) in [("--tls-cert", "tls.crt"), ("--tls-key", "tls.key")] {
            command.arg(option).arg(directory.join(file));
        }
        Self::start({
            command.arg("--kubeconfig").arg(kubeconfig);
            command
        })
    }

    /// The same server that knows the same cluster, with a judge that finds nothing.
    fn allowing(directory: &Path) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "admission::speed::allowing", "--ignored", "--nocapture"]).env(DIRECTORY, directory);
        Self::start(command)
    }

    /// Time on a processor so far, in hundredths of a second.
    fn worked(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        [11, 12].map(|at| fields[at].parse::<u64>().unwrap()).iter().sum()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "a server that a measurement starts"]
fn allowing() {
    let Some(directory) = env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    let settings = Settings {
        listen: "127.0.0.1:0".parse().unwrap(),
        ops_listen: Some("127.0.0.1:0".parse().unwrap()),
        served: Served::load(Files { cert: directory.join("tls.crt"), key: directory.join("tls.key") }).unwrap(),
        clients: None,
        reload_every: Duration::from_secs(5),
        readiness: Readiness::default(),
    };
    telemetry::init();
    let view = View::new(Baseline::Off);
    view.take(Reading::Whole(Box::new(thousand::cluster())));
    let server = Server::bind(settings, service(|_| Vec::new()).with_view(view)).unwrap();
    eprintln!("probes and metrics on http://{}", server.ops_address().unwrap().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = { runtime }.max_blocking_threads(DECIDING_THREADS).enable_all().build().unwrap();
    let served = server.run(std::future::pending(), |address| eprintln!("listening on https://{address}"));
    runtime.block_on(served).unwrap();
}

/// A connection that stays open.
struct Connection(BufReader<StreamOwned<ClientConnection, TcpStream>>);

impl Connection {
    fn to(address: SocketAddr, trust: &Arc<ClientConfig>) -> Self {
        let tcp = TcpStream::connect(address).unwrap();
        tcp.set_nodelay(true).unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let tls = ClientConnection::new(trust.clone(), ServerName::try_from("localhost").unwrap()).unwrap();
        Self(BufReader::new(StreamOwned::new(tls, tcp)))
    }

    fn ask(&mut self, request: &[u8]) -> Vec<u8> {
        let stream = self.0.get_mut();
        stream.write_all(request).unwrap();
        stream.flush().unwrap();
        let (mut length, mut line) = (0, String::new());
        loop {
            line.clear();
            self.0.read_line(&mut line).unwrap();
            match line.trim_end().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse().unwrap(),
                Some(_) => {}
                None if line.starts_with("HTTP/1.1 ") => assert!(line.starts_with("HTTP/1.1 200"), "{line}"),
                None => break,
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        body
    }
}

/// Who asks: what is trusted, and the question.
struct Client {
    trust: Arc<ClientConfig>,
    request: Vec<u8>,
}

impl Client {
    fn new(ca: &str) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let trust = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
        let body = thousand::review().to_string();
        println!("a review of {} bytes, {CONNECTIONS} connections", body.len());
        let head = "POST /validate?timeout=10s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json";
        let request = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes();
        Self { trust, request }
    }

    fn connections(&self, to: &Process) -> Vec<Connection> {
        (0..CONNECTIONS).map(|_| Connection::to(to.address, &self.trust)).collect()
    }

    /// Reviews a second when every connection asks as soon as it has its answer.
    fn rate(&self, connections: &mut [Connection]) -> f64 {
        let begun = Instant::now();
        let asked: u32 = thread::scope(|scope| {
            let ask = |connection: &mut Connection| {
                let mut asked = 0_u32;
                while begun.elapsed() < TURN {
                    connection.ask(&self.request);
                    asked += 1;
                }
                asked
            };
            let threads: Vec<_> =
                connections.iter_mut().map(|connection| scope.spawn(move || ask(connection))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        f64::from(asked) / begun.elapsed().as_secs_f64()
    }

    /// How long each answer took from when its question was due, at a fixed rate.
    fn latencies(&self, connections: &mut [Connection]) -> Vec<Duration> {
        let begun = Instant::now() + Duration::from_millis(10);
        let due = |number: u32| begun + Duration::from_secs(1) * number / RATE;
        let mut times: Vec<Duration> = thread::scope(|scope| {
            let ask = |connection: &mut Connection, first: u32| -> Vec<Duration> {
                let numbers = (first..ASKED).step_by(CONNECTIONS as usize);
                let one = |number| {
                    thread::sleep(due(number).saturating_duration_since(Instant::now()));
                    connection.ask(&self.request);
                    due(number).elapsed()
                };
                numbers.map(one).collect()
            };
            let threads: Vec<_> = connections
                .iter_mut()
                .zip(0..)
                .map(|(connection, first)| scope.spawn(move || ask(connection, first)))
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        times.sort_unstable();
        times
    }
}

/// Goals: a ratio of 0.8, 5 ms for 99 of 100 answers at 500 a second, 60 MB.
#[test]
#[ignore = "a measurement"]
fn judging_against_allowing() {
    let directory = tempfile::tempdir().unwrap();
    let issued = issue(&["localhost"], Duration::from_secs(3600)).unwrap();
    issued.write(directory.path()).unwrap();
    let fake = Fake::new();
    let cluster = thousand::cluster();
    objects::objects(&cluster).into_iter().for_each(|object| fake.put(object));
    fake.compact();
    let client = Client::new(&issued.ca);
    let judging = Process::judging(directory.path(), &fake.kubeconfig(directory.path()));
    let allowing = Process::allowing(directory.path());
    let (pods, policies) = (cluster.pods.len(), cluster.policies.len());
    let resident = |what: &str| {
        let memory = |line| memory(judging.child.id(), line);
        println!(
            "{pods} pods, {policies} policies, {what}: resident {} MB, at most {} MB",
            memory("VmRSS:"),
            memory("VmHWM:")
        );
    };
    let mut connections = [&judging, &allowing].map(|process| client.connections(process));
    resident("followed");

    let (mut rates, mut worked) = (Vec::new(), [0.0; 2]);
    for pair in 0..PAIRS {
        let mut pair_of = [0.0; 2];
        for turn in [pair % 2, 1 - pair % 2] {
            let process = [&judging, &allowing][turn];
            let before = process.worked();
            pair_of[turn] = client.rate(&mut connections[turn]);
            worked[turn] += (process.worked() - before) as f64 / (pair_of[turn] * TURN.as_secs_f64());
        }
        rates.push(pair_of);
    }
    let sorted = |of: &dyn Fn(&[f64; 2]) -> f64| {
        let mut values: Vec<f64> = rates.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let [judged, allowed, ratio] = [sorted(&|r| r[0]), sorted(&|r| r[1]), sorted(&|r| r[0] / r[1])];
    println!("judging {:.0} reviews/s, allowing {:.0} (medians of {PAIRS})", judged[PAIRS / 2], allowed[PAIRS / 2]);
    println!("  ratio {:.2}, from {:.2} to {:.2}", ratio[PAIRS / 2], ratio[0], ratio[PAIRS - 1]);
    let micros = worked.map(|of| of * 10_000.0 / PAIRS as f64);
    println!("  processor time of a review: judging {:.0} us, allowing {:.0} us", micros[0], micros[1]);
    for (name, connections) in ["judging", "allowing"].iter().zip(&mut connections) {
        let times = client.latencies(connections);
        let at = |of: usize| times[times.len() * of / 1000];
        println!("  {name} at {RATE}/s: median {:?}, p99 {:?}, p99.9 {:?}", at(500), at(990), at(999));
    }
    resident("after that");
}
