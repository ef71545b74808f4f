//! `certs/make.sh`: what it makes can be served. Needs openssl.

use super::{allowed, serve};
use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};
use tempfile::tempdir;

fn make(directory: &Path, names: &[&str]) -> std::process::Output {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/certs/make.sh");
    Command::new("sh").arg(script).arg(directory).args(names).output().unwrap()
}

#[test]
fn certificates_made_by_hand_are_served() {
    let directory = tempdir().unwrap();
    let made = make(directory.path(), &[]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let ca = fs::read_to_string(directory.path().join("ca.crt")).unwrap();
    let server = serve(directory.path());
    assert!(allowed(&server.ask(&ca, "db").unwrap()));
    let mode = fs::metadata(directory.path().join("tls.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "the key is its owner's: {mode:o}");
}

#[test]
fn a_certificate_holds_the_names_it_was_asked_for_and_no_others() {
    let directory = tempdir().unwrap();
    let made = make(directory.path(), &["ringfence.ringfence-system.svc"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let ca = fs::read_to_string(directory.path().join("ca.crt")).unwrap();
    serve(directory.path()).ask(&ca, "db").expect_err("localhost is not among the names");
}

#[test]
fn whoever_gives_no_directory_is_told_what_to_give() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/certs/make.sh");
    let made = Command::new("sh").arg(script).output().unwrap();
    assert_eq!(made.status.code(), Some(2));
    assert_eq!(String::from_utf8_lossy(&made.stderr), "usage: make.sh DIR [DNS-NAME|IP...]\n");
}
