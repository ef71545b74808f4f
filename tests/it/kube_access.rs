//! The programs with a way to the API server that does not work: which, what to do, and what stays.

use crate::{
    agent::{connects, listen},
    kube::fake::{Fake, Fault, NODES, PODS},
    kube_agent::{agent, one_node},
    packets::in_lab,
    root::root_or_return,
};
use ringfence::tls::self_signed::issue;
use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(20);

/// Ways that somebody has to mend, and what is said of each. `too_old` is a kubeconfig for Kubernetes 1.29.
fn for_good(directory: &Path, too_old: PathBuf) -> [(PathBuf, &'static str); 4] {
    let file = |name: &str, text: &str| {
        let file = directory.join(name);
        fs::write(&file, text).unwrap();
        file
    };
    [
        (directory.join("missing"), "missing does not work: "),
        (file("garbage", "a: ["), "garbage does not work: "),
        (file("empty", "apiVersion: v1\nkind: Config\n"), "empty does not work: "),
        (too_old, "the API server is Kubernetes v1.29.0, and 1.30 is the oldest that works: upgrade the cluster"),
    ]
}

/// The last line that it says before it ends with 2.
fn last_words(mut child: Child) -> String {
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > PATIENCE {
            child.kill().unwrap();
        }
        thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    said.lines().last().unwrap_or_default().to_owned()
}

/// A webhook with a certificate, on free ports.
fn webhook(directory: &Path, kubeconfig: &Path) -> Child {
    issue(&["localhost"], Duration::from_secs(3600)).unwrap().write(directory).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringfence"));
    command.args(["admission", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"]).env("RINGFENCE_LOG", "error");
    for (option, file) in [("--tls-cert", "tls.crt"), ("--tls-key", "tls.key")] {
        command.arg(option).arg(directory.join(file));
    }
    command.arg("--kubeconfig").arg(kubeconfig).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

#[test]
fn a_webhook_whose_cluster_can_never_be_followed_says_which_and_exits_with_2() {
    let directory = tempfile::tempdir().unwrap();
    let old = Fake::new();
    old.minor("29");
    for (kubeconfig, with) in for_good(directory.path(), old.kubeconfig(directory.path())) {
        let said = last_words(webhook(directory.path(), &kubeconfig));
        assert!(said.starts_with("ringfence: the ") && said.contains(with), "{said}");
    }
}

#[test]
fn a_webhook_whose_cluster_is_away_or_refuses_waits_for_it_and_says_why_it_is_not_ready() {
    let refused = |status, message| Some(Fault::Status(status, message, None));
    for (fault, with) in [
        (refused(401, "Unauthorized"), "does not know who asks (401): Unauthorized; renew the token"),
        (
            refused(403, "User \"hook\" cannot"),
            "refuses to list pods: User \"hook\" cannot; give the role of hook the verbs list",
        ),
        (None, "the API server can not be reached: "),
    ] {
        let mut fake = Fake::new();
        match fault {
            Some(fault) => fake.always("list", PODS, Some(fault)),
            None => fake.away(),
        }
        let directory = tempfile::tempdir().unwrap();
        let mut child = webhook(directory.path(), &fake.kubeconfig(directory.path()));
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = lines.next().unwrap().unwrap();
        let url = format!("http://{}/readyz", line.rsplit_once("://").unwrap().1);
        let ask = || {
            let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE));
            let mut answer = config.build().new_agent().get(&url).call().unwrap();
            (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
        };
        let begun = Instant::now();
        while !ask().1.contains(with) {
            assert!(begun.elapsed() < PATIENCE, "not {with}: {:?}", ask());
            thread::sleep(Duration::from_millis(50));
        }
        let (status, said) = ask();
        assert_eq!((status, said.lines().count()), (503, 1), "{said}");
        assert!(child.try_wait().unwrap().is_none(), "it waits");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn an_agent_whose_cluster_can_never_be_followed_says_which_exits_with_2_and_leaves_the_fence() {
    root_or_return!();
    in_lab(|mut lab| {
        let (fake, web) = one_node(&mut lab);
        let _listeners = [53, 54].map(|port| listen(&lab, "web", port));
        let reached = || [53, 54].map(|port| connects(&lab, "client", (web.ipv4, port)));
        let directory = tempfile::tempdir().unwrap();
        let kubeconfig = fake.kubeconfig(directory.path());
        let good = agent(&lab, &fake, directory.path());
        good.until("ready", |agent| agent.get("readyz").0 == 200);
        drop(good);
        fake.minor("29");
        for (kubeconfig, with) in for_good(directory.path(), kubeconfig) {
            let mut command = crate::agent::command("node1", &["--kubeconfig".as_ref(), kubeconfig.as_os_str()]);
            let said = last_words(lab.within("node1", || command.spawn().unwrap()).unwrap());
            assert!(said.starts_with("ringfence: the ") && said.contains(with), "{said}");
            assert_eq!(reached(), [true, false], "{said}");
        }
    });
}

#[test]
fn an_agent_that_is_refused_later_keeps_what_it_has_and_says_why() {
    root_or_return!();
    in_lab(|mut lab| {
        let (fake, web) = one_node(&mut lab);
        let _listeners = [53, 54].map(|port| listen(&lab, "web", port));
        let directory = tempfile::tempdir().unwrap();
        let agent = agent(&lab, &fake, directory.path());
        agent.until("ready", |agent| agent.get("readyz").0 == 200);
        for (status, message, with) in [
            (401, "Unauthorized", "does not know who asks (401): Unauthorized; renew the token"),
            (403, "User \"agent\" cannot", "give the role of agent the verbs list and watch on it"),
        ] {
            fake.always("watch", NODES, Some(Fault::Status(status, message, None)));
            fake.hang_up();
            agent.until("told", |agent| agent.status()["away"].as_str().is_some_and(|why| why.contains(with)));
            assert_eq!(agent.get("readyz").0, 200);
            assert_eq!([53, 54].map(|port| connects(&lab, "client", (web.ipv4, port))), [true, false]);
            fake.always("watch", NODES, None);
            agent.until("back", |agent| agent.status()["away"].is_null());
        }
    });
}
