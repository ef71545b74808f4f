//! Who may connect, where client certificates are asked for.

use super::{DAY, Running, allowed, client, serve_with, settings};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use ringfence::tls::{Clients, self_signed::issue};
use std::{fs, path::Path};
use tempfile::{TempDir, tempdir};
use ureq::tls::{Certificate, ClientCert, PrivateKey};

/// An authority in PEM, and a certificate of it for this use.
fn authority(usage: ExtendedKeyUsagePurpose) -> (String, ClientCert) {
    let (key, leaf_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&key).unwrap();
    let mut leaf = CertificateParams::new(vec!["kube-apiserver".to_owned()]).unwrap();
    leaf.extended_key_usages = vec![usage];
    let leaf = leaf.signed_by(&leaf_key, &Issuer::new(params, key)).unwrap();
    let certificate = Certificate::from_pem(leaf.pem().as_bytes()).unwrap().to_owned();
    let private = PrivateKey::from_pem(leaf_key.serialize_pem().as_bytes()).unwrap();
    (ca.pem(), ClientCert::new_with_certs(&[certificate], private))
}

/// A server that asks for certificates of these authorities, and what its clients trust.
fn asking(authorities: &str) -> (Running, String, TempDir) {
    let (directory, pair) = (tempdir().unwrap(), issue(&["localhost"], DAY).unwrap());
    pair.write(directory.path()).unwrap();
    let file = directory.path().join("clients.crt");
    fs::write(&file, authorities).unwrap();
    let mut settings = settings(directory.path());
    settings.clients = Some(Clients::load(&file).unwrap());
    (serve_with(settings), pair.ca, directory)
}

#[test]
fn who_shows_a_certificate_of_the_authority_is_answered_and_nobody_else() {
    let (ca, api_server) = authority(ExtendedKeyUsagePurpose::ClientAuth);
    let (_, stranger) = authority(ExtendedKeyUsagePurpose::ClientAuth);
    let (server, trust, _directory) = asking(&ca);
    assert!(allowed(&server.ask_by(&client(&trust, Some(api_server)), "db").unwrap()));
    server.ask_by(&client(&trust, Some(stranger)), "db").expect_err("another authority's");
    server.ask_by(&client(&trust, None), "db").expect_err("no certificate at all");
    assert_eq!(server.get_ops("/readyz").0, 200, "probes show none");
}

#[test]
fn a_certificate_that_is_for_servers_is_none_for_clients() {
    let (ca, server_s) = authority(ExtendedKeyUsagePurpose::ServerAuth);
    let (server, trust, _directory) = asking(&ca);
    server.ask_by(&client(&trust, Some(server_s)), "db").expect_err("it is for a server");
}

#[test]
fn of_two_authorities_either_will_do_so_that_one_can_follow_the_other() {
    let (old, by_old) = authority(ExtendedKeyUsagePurpose::ClientAuth);
    let (new, by_new) = authority(ExtendedKeyUsagePurpose::ClientAuth);
    let (server, trust, _directory) = asking(&format!("{old}{new}"));
    for shown in [by_old, by_new] {
        assert!(allowed(&server.ask_by(&client(&trust, Some(shown)), "db").unwrap()));
    }
}

#[test]
fn a_file_without_an_authority_is_named_in_one_line_with_what_to_do() {
    let directory = tempdir().unwrap();
    let file = directory.path().join("clients.crt");
    let said = |path: &Path| Clients::load(path).unwrap_err().to_string();
    assert!(said(&file).ends_with("give a PEM file that this process may read"), "{}", said(&file));
    fs::write(&file, "no PEM").unwrap();
    assert!(said(&file).contains("holds no authority") && said(&file).lines().count() == 1, "{}", said(&file));
}
