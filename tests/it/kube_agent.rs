//! The agent as a process on a node of the lab that follows an API server, which goes away and comes back.

use crate::{
    agent::{Agent, connects, listen},
    kube::{
        fake::{Fake, Fault, NODES, PODS, POLICIES},
        objects,
    },
    packets::in_lab,
    root::root_or_return,
};
use ringfence::{
    demo::lab::{Host, Lab},
    policy::model::{Key, Labels, Pod},
};
use serde_json::{Value, json};
use std::{
    fs,
    net::TcpListener,
    thread,
    time::{Duration, Instant},
};

fn pod(name: &str, host: Host) -> Value {
    let pod = Pod {
        labels: Labels::from_iter([("app", name)]),
        node: Some("node1".into()),
        addresses: host.addresses().to_vec(),
        ..Pod::default()
    };
    objects::pod(&Key::new("shop", name), &pod)
}

/// `web` takes this TCP port from `client`.
fn web_takes(port: u16) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"], "ingress": [{
            "from": [{"podSelector": {"matchLabels": {"app": "client"}}}], "ports": [{"protocol": "TCP", "port": port}]}]}})
}

/// A node with client and web, and the API server on the node that knows them.
pub(crate) fn one_node(lab: &mut Lab) -> (Fake, Host) {
    lab.node(1).unwrap();
    let [client, web] = ["client", "web"].map(|name| lab.pod(1, name).unwrap());
    let fake = Fake::on(lab.within("node1", || TcpListener::bind("127.0.0.1:0").unwrap()).unwrap());
    fake.put(json!({"kind": "Namespace", "metadata": {"name": "shop"}}));
    fake.put(json!({"kind": "Node", "metadata": {"name": "node1"},
        "spec": {"podCIDRs": ["10.244.1.0/24", "fd00:1::/64"]},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.168.77.1"}]}}));
    fake.put(pod("client", client));
    fake.put(pod("web", web));
    fake.put(web_takes(53));
    (fake, web)
}

pub(crate) fn agent<'a>(lab: &'a Lab, fake: &Fake, directory: &std::path::Path) -> Agent<'a> {
    Agent::start_with(lab, "node1", &["--kubeconfig".as_ref(), fake.kubeconfig(directory).as_os_str()])
}

#[test]
fn a_change_that_does_not_fit_is_refused_whole_and_told_on_the_node() {
    root_or_return!();
    in_lab(|mut lab| {
        let (fake, web) = one_node(&mut lab);
        let _listeners = [53, 54].map(|port| listen(&lab, "web", port));
        let directory = tempfile::tempdir().unwrap();
        let kubeconfig = fake.kubeconfig(directory.path());
        let arguments = ["--kubeconfig".as_ref(), kubeconfig.as_os_str(), "--map-sizes".as_ref(), "ports=4".as_ref()];
        let agent = Agent::start_with(&lab, "node1", &arguments);
        agent.until("ready", |agent| agent.get("readyz").0 == 200);
        let reached = |port| connects(&lab, "client", (web.ipv4, port));
        assert_eq!([53, 54].map(reached), [true, false]);

        let mut large = web_takes(54);
        large["spec"]["ingress"][0]["ports"] = (54..74).map(|port| json!({"port": port})).collect();
        fake.put(large);
        agent.until("told", |agent| agent.get("readyz").0 == 503);
        let (_, reason) = agent.get("readyz");
        assert!(reason.contains("the map `ports` is full (4 entries)"), "{reason}");
        assert!(reason.contains("--map-sizes ports=ENTRIES") && reason.lines().count() == 1, "{reason}");
        assert_eq!([53, 54].map(reached), [true, false], "the old state is whole");
        assert!(agent.get("metrics").1.contains("ringfence_changes_refused_total 1"));
        agent.until("told by an event", |_| !fake.posted().is_empty());
        let event = fake.posted().remove(0);
        assert_eq!((&event["type"], &event["involvedObject"]["name"]), (&json!("Warning"), &json!("node1")));
        assert!(event["message"].as_str().unwrap().contains("the map `ports` is full"), "{event}");

        agent.after(|| fake.put(web_takes(54)));
        assert_eq!([53, 54].map(reached), [false, true]);
        assert_eq!(agent.get("readyz").0, 200);
        agent.until("told by an event", |_| fake.posted().len() > 1);
        assert_eq!(fake.posted().remove(1)["type"], "Normal");
        drop(agent);

        // With room it fits, and nobody has to take pins away for that.
        fake.put({
            let mut large = web_takes(54);
            large["spec"]["ingress"][0]["ports"] = (54..74).map(|port| json!({"port": port})).collect();
            large
        });
        let agent = Agent::start_with(&lab, "node1", &arguments[..2]);
        agent.until("ready", |agent| agent.get("readyz").0 == 200);
        assert_eq!([53, 54].map(reached), [false, true]);
    });
}

#[test]
fn an_api_server_that_goes_away_leaves_the_fence_and_what_it_says_later_is_in_force_without_a_restart() {
    root_or_return!();
    in_lab(|mut lab| {
        let (mut fake, web) = one_node(&mut lab);
        let _listeners = [53, 54].map(|port| listen(&lab, "web", port));
        let directory = tempfile::tempdir().unwrap();
        let agent = agent(&lab, &fake, directory.path());
        agent.until("ready", |agent| agent.get("readyz").0 == 200);
        let reached = |port| connects(&lab, "client", (web.ipv4, port));
        assert_eq!([53, 54].map(reached), [true, false]);
        // An event is in force at once.
        agent.after(|| fake.put(web_takes(54)));
        assert_eq!([53, 54].map(reached), [false, true]);

        fake.away();
        agent.until("told", |agent| {
            agent.status()["away"].as_str().is_some_and(|why| why.contains("can not be reached"))
        });
        let age = agent.status()["ageMs"].as_u64().unwrap();
        thread::sleep(Duration::from_millis(300));
        assert!(agent.status()["ageMs"].as_u64().unwrap() >= age + 300);
        assert_eq!(agent.get("readyz").0, 200);
        assert_eq!([53, 54].map(reached), [false, true]);
        assert!(agent.get("metrics").1.contains("ringfence_state_age_seconds "));

        agent.after(|| {
            fake.put(web_takes(53));
            fake.back(lab.within("node1", || TcpListener::bind(fake.address()).unwrap()).unwrap());
        });
        assert_eq!([53, 54].map(reached), [true, false]);
        agent.until("back", |agent| agent.status()["away"].is_null());
        agent.after(|| fake.remove(POLICIES, "shop", "web"));
        assert_eq!([53, 54].map(reached), [true, true]);
    });
}

#[test]
fn an_agent_is_not_ready_before_the_first_list_and_says_why() {
    root_or_return!();
    in_lab(|mut lab| {
        let (fake, web) = one_node(&mut lab);
        let _listeners = [53, 54].map(|port| listen(&lab, "web", port));
        let directory = tempfile::tempdir().unwrap();
        fake.always("list", NODES, Some(Fault::Status(403, "nodes is forbidden: User \"agent\" cannot", None)));
        let agent = agent(&lab, &fake, directory.path());
        agent.until("told", |agent| agent.get("readyz").1.contains("refuses to list nodes"));
        let (status, reason) = agent.get("readyz");
        assert_eq!((status, reason.lines().count()), (503, 1), "{reason}");
        assert!(reason.contains("give the role of agent the verbs list and watch"), "{reason}");
        assert!(connects(&lab, "client", (web.ipv4, 54)), "half a cluster is not enforced");
        fake.always("list", NODES, None);
        agent.until("ready", |agent| agent.get("readyz").0 == 200);
        assert!(!connects(&lab, "client", (web.ipv4, 54)));
    });
}

#[test]
fn ten_thousand_pods_cost_little() {
    root_or_return!();
    in_lab(|mut lab| {
        let (fake, _) = one_node(&mut lab);
        for n in 0..10_000_u16 {
            let [high, low] = n.to_be_bytes();
            let one = Pod {
                labels: Labels::from_iter([
                    ("app", format!("app-{}", n % 500)),
                    ("pod-template-hash", format!("{n:x}")),
                ]),
                node: Some(format!("far-{}", n % 100).into()),
                addresses: vec![[10, 9, high, low].into()],
                ..Pod::default()
            };
            fake.put(objects::pod(&Key::new("many", format!("pod-{n}")), &one));
        }
        let directory = tempfile::tempdir().unwrap();
        let begun = Instant::now();
        let agent = agent(&lab, &fake, directory.path());
        agent.until("ready", |agent| agent.get("readyz").0 == 200);
        let took = begun.elapsed();
        assert_eq!(agent.status()["pods"], 10_002);
        let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        let most: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        println!("10,000 pods: ready after {took:?}, at most {} MB; {}", most / 1024, fake.requests(PODS).len());
        assert!(most < 100 * 1024, "{most} KB");
    });
}
