//! Certificates: what cannot be served, and what is served after a change.

use super::{DAY, allowed, eventually, serve, settings};
use ringfence::{
    admission::{Service, server::Server},
    tls::{
        Files,
        self_signed::{SelfSigned, issue},
    },
};
use std::{fmt::Write, fs, os::unix::fs::symlink, path::Path};
use tempfile::tempdir;

fn pair() -> SelfSigned {
    issue(&["localhost", "127.0.0.1", "::1"], DAY).unwrap()
}

#[test]
fn a_pair_that_cannot_be_served_is_named_in_one_line_with_what_to_do() {
    let (one, other) = (pair(), pair());
    let good = (Some(one.chain.as_str()), Some(one.key.as_str()));
    let broken = one.chain.replace("-----END CERTIFICATE-----", "");
    let noise = one.chain.lines().next().unwrap().to_owned() + "\nAAAA\n-----END CERTIFICATE-----\n";
    let mut lines = String::new();
    for (what, (chain, key)) in [
        ("no certificate file", (None, good.1)),
        ("no key file", (good.0, None)),
        ("an empty certificate file", (Some(""), good.1)),
        ("an empty key file", (good.0, Some(""))),
        ("exchanged files", (good.1, good.0)),
        ("half a certificate", (Some(broken.as_str()), good.1)),
        ("PEM around nothing", (Some(noise.as_str()), good.1)),
        ("another pair's key", (good.0, Some(other.key.as_str()))),
    ] {
        let directory = tempdir().unwrap();
        let (cert_file, key_file) = (directory.path().join("tls.crt"), directory.path().join("tls.key"));
        if let Some(text) = chain {
            fs::write(&cert_file, text).unwrap();
        }
        if let Some(text) = key {
            fs::write(&key_file, text).unwrap();
        }
        let error = Files { cert: cert_file, key: key_file }.load().unwrap_err().to_string();
        assert_eq!(error.lines().count(), 1, "{error}");
        let error = error.replace(directory.path().to_str().unwrap(), "DIR");
        writeln!(lines, "{what}\n  {error}").unwrap();
    }
    insta::assert_snapshot!("unusable_pairs", lines);
}

#[test]
fn a_port_in_use_is_named_in_one_line_with_what_to_do() {
    let directory = tempdir().unwrap();
    pair().write(directory.path()).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut settings = settings(directory.path());
    settings.listen = taken.local_addr().unwrap();
    let error = Server::bind(settings, Service::new(|_| Vec::new())).unwrap_err().to_string();
    assert_eq!(
        error.replace(&taken.local_addr().unwrap().to_string(), "ADDRESS"),
        "cannot listen on ADDRESS (--listen): Address already in use (os error 98); \
         stop what uses it, or give another address"
    );
}

/// Lays a pair out as the kubelet does with a Secret: files are links through `..data`, which is replaced as a whole.
fn mount(directory: &Path, version: &str, pair: &SelfSigned) {
    let data = directory.join(version);
    fs::create_dir(&data).unwrap();
    pair.write(&data).unwrap();
    symlink(version, directory.join("..data_tmp")).unwrap();
    fs::rename(directory.join("..data_tmp"), directory.join("..data")).unwrap();
    for name in ["tls.crt", "tls.key"] {
        let link = directory.join(name);
        if !link.is_symlink() {
            symlink(Path::new("..data").join(name), link).unwrap();
        }
    }
}

#[test]
fn a_replaced_secret_is_served_without_a_restart() {
    let directory = tempdir().unwrap();
    let (first, second) = (pair(), pair());
    mount(directory.path(), "..1", &first);
    let server = serve(directory.path());
    assert!(allowed(&server.ask(&first.ca, "db").unwrap()));
    server.ask(&second.ca, "db").expect_err("nobody has the second certificate yet");

    mount(directory.path(), "..2", &second);
    eventually("the second certificate is served", || server.ask(&second.ca, "db").is_ok());
    server.ask(&first.ca, "db").expect_err("the first certificate is gone");
    assert!(server.get_ops("/metrics").1.contains("certificate_reloads_total{result=\"replaced\"} 1"));
}

#[test]
fn a_bad_certificate_does_not_replace_a_good_one() {
    let directory = tempdir().unwrap();
    let (first, second) = (pair(), pair());
    first.write(directory.path()).unwrap();
    let server = serve(directory.path());

    let failed = || server.get_ops("/metrics").1.contains("certificate_reloads_total{result=\"failed\"} 1");
    fs::write(directory.path().join("tls.key"), &second.key).unwrap();
    eventually("the mismatch is counted, once", failed);
    assert!(allowed(&server.ask(&first.ca, "db").unwrap()));
    assert_eq!(server.get_ops("/readyz").0, 200);

    fs::write(directory.path().join("tls.crt"), &second.chain).unwrap();
    eventually("the second certificate is served", || server.ask(&second.ca, "db").is_ok());
    assert!(failed(), "complained about once, not every time");
}
