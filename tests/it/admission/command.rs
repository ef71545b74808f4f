//! `ringfence admission` on the command line: what it says when it cannot run.

use clap::Parser;
use ringfence::{
    cli::admission::{Args, run},
    tls::self_signed::issue,
};
use std::time::Duration;
use tempfile::tempdir;

#[derive(Debug, Parser)]
struct Command {
    #[command(flatten)]
    args: Args,
}

fn said(options: &[&str]) -> String {
    let command = Command::try_parse_from([&["admission"], options].concat()).unwrap();
    let error = format!("{:#}", run(command.args).unwrap_err());
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

#[test]
fn a_certificate_that_is_not_there_is_named() {
    let error = said(&["--no-cluster", "--listen=127.0.0.1:0", "--tls-cert=/nowhere/tls.crt", "--tls-key=b"]);
    assert_eq!(
        error,
        "cannot read the certificate file /nowhere/tls.crt: No such file or directory (os error 2); \
         give a PEM file that this process may read"
    );
}

#[test]
fn a_port_of_the_ops_listener_in_use_is_named_with_its_option() {
    let directory = tempdir().unwrap();
    issue(&["localhost"], Duration::from_secs(3600)).unwrap().write(directory.path()).unwrap();
    let path = |name| directory.path().join(name).to_str().unwrap().to_owned();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (cert, key) = (format!("--tls-cert={}", path("tls.crt")), format!("--tls-key={}", path("tls.key")));
    let ops = format!("--ops-listen={address}");
    let error = said(&["--no-cluster", "--listen=127.0.0.1:0", &cert, &key, &ops]);
    assert!(error.starts_with(&format!("cannot listen on {address} (--ops-listen): ")), "{error}");
}

#[test]
fn what_is_missing_is_named_by_the_parser() {
    let error = Command::try_parse_from(["admission", "--no-cluster"]).unwrap_err().to_string();
    for option in ["--listen <ADDR>", "--tls-cert <FILE>"] {
        assert!(error.contains(option), "{error}");
    }
}
