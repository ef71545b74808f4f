//! Connections: several at a time, of the right protocol, and until the end.

use super::{DAY, Running, allowed, eventually, serve, settings, start};
use ringfence::{
    admission::server::Settings,
    tls::{
        Files, Served,
        self_signed::{SelfSigned, issue},
    },
};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{Arc, Barrier},
    time::{Duration, Instant},
};
use tempfile::{TempDir, tempdir};

fn server() -> (Running, SelfSigned, TempDir) {
    let directory = tempdir().unwrap();
    let pair = issue(&["localhost"], DAY).unwrap();
    pair.write(directory.path()).unwrap();
    (serve(directory.path()), pair, directory)
}

#[test]
fn two_are_answered_at_the_same_time() {
    let (server, pair, _directory) = server();
    let together = Barrier::new(2);
    let started = Instant::now();
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                together.wait();
                // Takes 1.5 s to decide.
                assert!(allowed(&server.ask(&pair.ca, "slow").unwrap()));
            });
        }
    });
    assert!(started.elapsed() < Duration::from_millis(2900), "one after the other: {:?}", started.elapsed());
    assert_eq!(server.get_ops("/readyz"), (200, "ok\n".to_owned()));
}

/// What a server picks from the protocols that a client offers.
fn picked(server: &Running, ca: &str, offers: &[&str]) -> std::io::Result<Option<Vec<u8>>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = offers.iter().map(|offer| offer.as_bytes().to_vec()).collect();
    let name = ServerName::try_from("localhost").unwrap();
    let mut connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut socket = TcpStream::connect(server.address)?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    while connection.is_handshaking() {
        connection.complete_io(&mut socket)?;
    }
    Ok(connection.alpn_protocol().map(<[u8]>::to_vec))
}

#[test]
fn only_http_1_is_spoken() {
    let (server, pair, _directory) = server();
    assert_eq!(picked(&server, &pair.ca, &["h2", "http/1.1"]).unwrap().unwrap(), b"http/1.1");
    assert_eq!(picked(&server, &pair.ca, &[]).unwrap(), None);
    picked(&server, &pair.ca, &["h2"]).expect_err("nothing in common");
}

#[test]
fn whoever_speaks_no_tls_gets_nothing() {
    let (server, pair, _directory) = server();
    let mut socket = TcpStream::connect(server.address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.write_all(b"GET /validate HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    // A reset is as good as an end.
    let _ = socket.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    assert!(allowed(&server.ask(&pair.ca, "db").unwrap()), "and it is no harm to others");
}

#[test]
fn a_review_under_way_is_answered_although_the_end_was_announced() {
    let (mut server, pair, _directory) = server();
    std::thread::scope(|threads| {
        let answer = threads.spawn({
            let (address, ops) = (server.address, server.ops);
            let ca = pair.ca.clone();
            move || Running { address, ops, stop: None, thread: None }.ask(&ca, "slow")
        });
        eventually("the review is under way", || {
            server.get_ops("/metrics").1.contains("ringfence_admission_in_flight 1")
        });
        server.stop();
        assert!(allowed(&answer.join().unwrap().unwrap()));
    });
    let address = server.address;
    server.end().unwrap();
    TcpStream::connect(address).expect_err("nobody listens any more");
}

/// Settings of a server to which somebody else gives its certificate, and the files of one.
fn without_certificate() -> (Settings, Files, SelfSigned, TempDir) {
    let directory = tempdir().unwrap();
    let pair = issue(&["localhost"], DAY).unwrap();
    pair.write(directory.path()).unwrap();
    let files = Files { cert: directory.path().join("tls.crt"), key: directory.path().join("tls.key") };
    let settings = Settings { served: Arc::new(Served::default()), ..settings(directory.path()) };
    (settings, files, pair, directory)
}

#[test]
fn nobody_is_connected_before_there_is_a_certificate() {
    let (settings, files, pair, _directory) = without_certificate();
    let served = settings.served.clone();
    let (server, listening) = start(settings);
    eventually("probes are answered", || server.get_ops("/readyz").0 == 503);
    let refused = TcpStream::connect(server.address).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    served.put(files.load().unwrap());
    assert_eq!(listening.recv_timeout(Duration::from_secs(10)).unwrap(), server.address);
    assert!(allowed(&server.ask(&pair.ca, "web").unwrap()));
    eventually("it is ready", || server.get_ops("/readyz").0 == 200);
}

#[test]
fn a_server_without_a_certificate_ends_when_it_is_told_to() {
    let (settings, _files, _pair, _directory) = without_certificate();
    start(settings).0.end().unwrap();
}
