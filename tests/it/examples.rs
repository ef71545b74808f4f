//! The examples say what they are for, and are right.

use ringfence::policy::{
    cluster::Cluster,
    compile::{Ids, compile},
    decide::{Flow, decide, endpoint},
    model::{Key, Protocol},
    table::Packet,
};
use ringfence::{
    check::{Options, find},
    finding::{Severity, located::Span},
    k8s::{
        convert::Settings,
        files::{self, File},
        manifests,
    },
};
use rstest::rstest;
use std::{net::IpAddr, path::PathBuf};

fn examples() -> Vec<File> {
    let (files, errors) = files::read(&[PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("policies-examples")]);
    assert!(errors.is_empty(), "{errors:?}");
    files
}

fn is_malformed(file: &File) -> bool {
    file.name.ends_with("/malformed.yaml")
}

#[test]
fn every_example_but_the_malformed_one_is_clean() {
    let files: Vec<File> = examples().into_iter().filter(|file| !is_malformed(file)).collect();
    assert!(files.len() >= 15, "{}", files.len());
    let checked = find(&files, &Options::default());
    // What faces users is open to everybody on purpose: that is a hint.
    let told = checked.findings.iter().filter(|located| located.finding.severity > Severity::Hint);
    assert_eq!(told.map(ToString::to_string).collect::<Vec<_>>(), Vec::<String>::new());
    assert!(checked.objects >= files.len() && checked.skipped == 0, "{} {}", checked.objects, checked.skipped);
}

#[test]
fn the_malformed_example_has_exactly_one_mistake_at_its_place() {
    let files: Vec<File> = examples().into_iter().filter(is_malformed).collect();
    let checked = find(&files, &Options::default());
    let [found] = &checked.findings[..] else { panic!("{:?}", checked.findings) };
    assert_eq!(found.finding.rule, "policy-types-mapping");
    assert_eq!(found.span, Span { line: 11, column: 5, end_line: 11, end_column: 13 });
    assert_eq!(found.finding.help, "write `- Ingress`, without the colon");
}

#[test]
fn every_example_says_in_its_first_line_what_it_does() {
    for file in examples() {
        assert!(file.bytes.starts_with(b"# "), "{}", file.name);
    }
}

#[test]
fn the_three_tiers_are_a_cluster() {
    let files: Vec<File> = examples().into_iter().filter(|file| file.name.contains("/three-tiers/")).collect();
    let read = manifests::from_files(&files, &Settings::default());
    assert!(read.errors.is_empty() && read.findings.is_empty(), "{:?} {:?}", read.errors, read.findings);
    let names: Vec<String> = read.cluster.policies.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["shop/allow-dns", "shop/api", "shop/db", "shop/default-deny", "shop/web"]);
    assert!(read.cluster.namespaces.contains_key("shop"));
}

/// Pods of three namespaces on one node, by name and address; `server-2` calls another port http.
const PODS: &str = include_str!("cases/example-pods.yaml");

fn with_example(name: &str) -> Cluster {
    let pods = File { name: "pods.yaml".to_owned(), bytes: PODS.as_bytes().to_vec() };
    let example = examples().into_iter().find(|file| file.name.ends_with(&format!("/{name}.yaml"))).unwrap();
    manifests::from_files(&[pods, example], &Settings::default()).whole().unwrap().0
}

fn address(cluster: &Cluster, of: &str) -> IpAddr {
    match of.split_once('/') {
        Some((namespace, name)) => cluster.pods[&Key::new(namespace, name)].addresses[0],
        None => of.parse().unwrap(),
    }
}

#[rstest]
#[case::nothing_in("default-deny", "example/client", "example/server", "80/TCP", false)]
#[case::nothing_out("default-deny", "example/client", "192.0.2.1", "80/TCP", false)]
#[case::other_namespaces_are_as_before("default-deny", "other/client", "monitoring/probe", "80/TCP", true)]
#[case::dns_by_udp("allow-dns", "example/client", "kube-system/dns", "53/UDP", true)]
#[case::dns_by_tcp("allow-dns", "example/client", "kube-system/dns", "53/TCP", true)]
#[case::but_nothing_else_there("allow-dns", "example/client", "kube-system/dns", "80/TCP", false)]
#[case::and_no_other_resolver("allow-dns", "example/client", "192.0.2.53", "53/UDP", false)]
#[case::lower_half("ip-block", "example/client", "203.0.113.1", "443/TCP", true)]
#[case::upper_half("ip-block", "example/client", "203.0.113.128", "443/TCP", false)]
#[case::another_port("ip-block", "example/client", "203.0.113.1", "80/TCP", false)]
#[case::another_pod("ip-block", "example/server", "203.0.113.128", "443/TCP", true)]
#[case::in_front("match-expressions", "example/front", "example/server", "80/TCP", true)]
#[case::in_front_but_untrusted("match-expressions", "example/untrusted", "example/server", "80/TCP", false)]
#[case::in_no_tier("match-expressions", "example/client", "example/server", "80/TCP", false)]
#[case::http_is_8080("named-port", "example/client", "example/server", "8080/TCP", true)]
#[case::http_is_9090("named-port", "example/client", "example/server-2", "9090/TCP", true)]
#[case::not_the_other_ones_http("named-port", "example/client", "example/server-2", "8080/TCP", false)]
#[case::not_from_another_namespace("named-port", "other/client", "example/server", "8080/TCP", false)]
#[case::both_hold("namespace-and-pod-selector", "other/client", "example/server", "80/TCP", true)]
#[case::the_pod_alone("namespace-and-pod-selector", "example/client", "example/server", "80/TCP", false)]
#[case::the_namespace_alone("namespace-and-pod-selector", "other/server", "example/server", "80/TCP", false)]
#[case::monitoring("namespace-selector", "monitoring/probe", "example/server", "9090/TCP", true)]
#[case::monitoring_elsewhere("namespace-selector", "monitoring/probe", "example/server", "80/TCP", false)]
#[case::another_namespace("namespace-selector", "other/client", "example/server", "9090/TCP", false)]
#[case::here("pod-selector", "example/client", "example/server", "1234/UDP", true)]
#[case::the_same_label_elsewhere("pod-selector", "other/client", "example/server", "1234/UDP", false)]
#[case::the_first("port-range", "example/client", "example/server", "32000/UDP", true)]
#[case::the_last("port-range", "example/client", "example/server", "32768/UDP", true)]
#[case::one_more("port-range", "example/client", "example/server", "32769/UDP", false)]
#[case::another_protocol("port-range", "example/client", "example/server", "32000/TCP", false)]
#[case::the_malformed_one_is_closed("malformed", "shop/client", "shop/server", "80/TCP", false)]
fn an_example_does_what_its_comment_says(
    #[case] example: &str,
    #[case] from: &str,
    #[case] to: &str,
    #[case] port: &str,
    #[case] passes: bool,
) {
    let cluster = with_example(example);
    let (number, protocol) = port.split_once('/').unwrap();
    let (port, protocol): (u16, Protocol) = (number.parse().unwrap(), protocol.parse().unwrap());
    let (source, destination) = (address(&cluster, from), address(&cluster, to));
    let (from, to) = (endpoint(&cluster, source), endpoint(&cluster, destination));
    assert_eq!(decide(&cluster, &Flow { from, to, protocol: protocol.number(), port }).allows(), passes);
    let packet = Packet {
        from_node: false,
        comes_by: 0,
        leaves_by: 0,
        bridged: false,
        reply: false,
        source,
        destination,
        protocol: protocol.number(),
        source_port: 40000,
        destination_port: port,
    };
    assert_eq!(compile(&cluster, "node-1", &mut Ids::default()).lookup(&packet).accepts(), passes);
}
