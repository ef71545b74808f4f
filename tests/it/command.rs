//! The binary as people run it: what it prints, and with which code it ends.

use crate::root::root_or_return;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

const WORKLOADS: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec: {template: {metadata: {labels: {app: web}}}}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: report, namespace: shop}
spec: {jobTemplate: {spec: {template: {metadata: {labels: {app: report}}}}}}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - from: [{ipBlock: {cidr: 192.0.2.0/24}}]
    ports: [{port: 80}]
";

fn ringfence(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringfence")).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn kubectl_finds_the_binary_under_its_plugin_name() {
    let directory = tempfile::tempdir().unwrap();
    let plugin = directory.path().join("kubectl-ringfence");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_ringfence"), &plugin).unwrap();
    let help = Command::new(&plugin).args(["check", "--help"]).output().unwrap();
    assert!(text(&help.stdout).contains("Usage: kubectl ringfence check"), "{}", text(&help.stdout));
    let malformed = concat!(env!("CARGO_MANIFEST_DIR"), "/policies-examples/malformed.yaml");
    assert_eq!(Command::new(&plugin).args(["check", malformed]).output().unwrap().status.code(), Some(1));
}

#[test]
fn a_rule_is_explained_and_one_that_there_is_not_is_named() {
    let page = ringfence(&["check", "--explain", "policy-types-mapping"]);
    assert!(text(&page.stdout).starts_with("# policy-types-mapping\n"));
    assert_eq!(ringfence(&["check", "--explain", "nonsense"]).status.code(), Some(2));
    let list = ringfence(&["check", "--explain", "all"]);
    assert!(text(&list.stdout).lines().count() > 80);
}

#[test]
fn a_matrix_of_pod_templates_says_who_reaches_whom() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("all.yaml"), WORKLOADS).unwrap();
    let path = directory.path().to_str().unwrap();
    let output = ringfence(&["matrix", "-f", path, "--port", "80/TCP", "--with", "user=192.0.2.7", "-o", "json"]);
    assert!(output.status.success());
    let (user, report, web) = ("user", "shop/cronjob/report", "shop/deployment/web");
    assert_eq!(
        serde_json::from_slice::<Value>(&output.stdout).unwrap(),
        json!({
            "port": 80, "protocol": "TCP", "family": "ipv4", "endpoints": [user, report, web],
            "allowed": [[user, user], [user, report], [user, web], [report, user], [report, report], [web, user], [web, report], [web, web]],
        })
    );
    let output = ringfence(&["matrix", "-f", path, "--port", "81/TCP", "--baseline", "deny-all"]);
    assert!(text(&output.stdout).ends_with("2 of 4 pairs\n"), "{}", text(&output.stdout));
}

#[test]
fn a_namespace_that_no_file_has_is_taken_as_one_without_labels_and_named() {
    let directory = tempfile::tempdir().unwrap();
    let without = WORKLOADS.replace("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\n", "");
    let policy = without.replace("ipBlock: {cidr: 192.0.2.0/24}", "podSelector: {matchLabels: {app: report}}");
    assert!(policy.len() < WORKLOADS.len() + 20 && !policy.contains("Namespace"));
    fs::write(directory.path().join("all.yaml"), policy).unwrap();
    let path = directory.path().to_str().unwrap();
    let arguments =
        ["explain", "-f", path, "--from", "shop/cronjob/report", "--to", "shop/deployment/web", "--port", "80"];
    let output = ringfence(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("no file has the Namespace of some pods (shop)"), "{}", text(&output.stderr));
}

#[test]
fn a_decision_is_explained_and_its_verdict_is_the_exit_code() {
    let tiers = concat!(env!("CARGO_MANIFEST_DIR"), "/policies-examples/three-tiers");
    let explain = |from: &str, to: &str, port: &str| {
        ringfence(&["explain", "-f", tiers, "--from", from, "--to", to, "--port", port, "-o", "json"])
    };
    let allowed = explain("shop/deployment/api", "shop/deployment/db", "3306/TCP");
    assert_eq!(allowed.status.code(), Some(0));
    assert_eq!(
        serde_json::from_slice::<Value>(&allowed.stdout).unwrap(),
        json!({
            "verdict": "allow",
            "egress": {"isolatedBy": ["shop/allow-dns", "shop/api", "shop/default-deny"], "allowedBy": [{"policy": "shop/api", "rule": 0}]},
            "ingress": {"isolatedBy": ["shop/db", "shop/default-deny"], "allowedBy": [{"policy": "shop/db", "rule": 0}]},
        })
    );
    let denied = explain("192.0.2.7", "shop/deployment/db", "3306/TCP");
    assert_eq!(denied.status.code(), Some(1));
    assert_eq!(serde_json::from_slice::<Value>(&denied.stdout).unwrap()["verdict"], "deny");
    let unknown = explain("shop/nobody", "shop/deployment/db", "3306/TCP");
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown.stderr).contains("there are shop/deployment/api, "), "{}", text(&unknown.stderr));
}

#[test]
fn what_can_not_be_read_is_one_line_and_exit_code_2() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("broken.yaml");
    fs::write(&path, "kind: Pod\nmetadata: {name: a\n").unwrap();
    let path = path.to_str().unwrap();
    for arguments in [
        &["matrix", "-f", "/nowhere", "--port", "80"][..],
        &["matrix", "-f", path, "--port", "80"],
        &["matrix", "-f", path, "--port", "80", "--with", "user=fd00::1"],
        &["check", "/nowhere"],
    ] {
        let output = ringfence(arguments);
        let said = text(&output.stderr);
        assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{arguments:?}: {said}");
    }
}

#[test]
fn the_demo_shows_what_it_promises_and_ends_with_0() {
    root_or_return!();
    let output = ringfence(&["demo"]);
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{shown}{}", text(&output.stderr));
    for line in [
        "[8/8]",
        "write `- Ingress`, without the colon",
        "    stranger    -         -         -             -         -         -",
        "which is isolated for egress by shop/allow-dns, shop/default-deny, shop/ringfence-baseline",
        "Everything measured is what was expected.",
    ] {
        assert!(shown.contains(line), "{line}\n{shown}");
    }
    assert!(!shown.contains('\x1b'), "no colours without a terminal");
}

#[test]
fn the_readme_shows_what_is_printed() {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let mut shown = 0;
    for example in readme.split("```console\n$ ringfence ").skip(1) {
        let (arguments, printed) = example.split_once('\n').unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_ringfence"))
            .args(arguments.split_whitespace())
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        assert_eq!(text(&output.stdout), printed.split_once("```").unwrap().0, "ringfence {arguments}");
        shown += 1;
    }
    assert_eq!(shown, 2);
}

/// A process's children, their children, and so on.
fn descendants(of: u32) -> Vec<u32> {
    let ids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let parents: Vec<(u32, u32)> = ids.filter_map(|id: u32| Some((id, parent(id)?))).collect();
    let mut found = vec![of];
    let mut at = 0;
    while at < found.len() {
        let children = parents.iter().filter(|(_, parent)| *parent == found[at]).map(|(id, _)| *id);
        found.extend(children.collect::<Vec<_>>());
        at += 1;
    }
    found.split_off(1)
}

fn parent(id: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

fn is_ringfence(id: u32) -> bool {
    fs::read_link(format!("/proc/{id}/exe")).is_ok_and(|exe| exe.ends_with("ringfence"))
}

#[test]
fn an_interrupted_demo_leaves_nothing() {
    root_or_return!();
    for signal in [Signal::SIGINT, Signal::SIGKILL] {
        let mut demo =
            Command::new(env!("CARGO_BIN_EXE_ringfence")).arg("demo").stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines().map_while(Result::ok);
        // Its line ends with the step that started the agent; the one after the next kills it.
        assert!(lines.any(|line| line.starts_with("[5/8]")), "the agent runs by now");
        let all = descendants(demo.id());
        assert!(all.len() >= 2, "the demo in its sandbox, and an agent: {all:?}");
        kill(Pid::from_raw(demo.id().cast_signed()), signal).unwrap();
        demo.wait().unwrap();
        let begun = Instant::now();
        while all.iter().any(|id| is_ringfence(*id)) {
            assert!(begun.elapsed() < Duration::from_secs(5), "still running: {all:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
