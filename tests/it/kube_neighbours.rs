//! Agents of two nodes that tell each other of pods whose addresses the API does not say yet.

use crate::{
    agent::{Agent, connects, listen},
    kube::{
        fake::{CONFIG_MAPS, Fake, Fault, PODS},
        objects,
    },
    packets::in_lab,
    root::root_or_return,
};
use ringfence::{
    demo::lab::{Host, Lab},
    policy::model::{Key, Labels, Pod, Uid},
};
use serde_json::{Value, json};
use std::{ffi::OsStr, net::TcpListener, path::Path, thread, time::Duration};

const CLIENT: u128 = 0xc11e;

fn pod(name: &str, node: u8, uid: u128, addresses: &[Host]) -> Value {
    let pod = Pod {
        labels: Labels::from_iter([("app", name)]),
        node: Some(format!("node{node}").into()),
        addresses: addresses.iter().flat_map(Host::addresses).collect(),
        uid: Some(Uid(uid)),
        ..Pod::default()
    };
    objects::pod(&Key::new("shop", name), &pod)
}

/// `web` on node1 takes connections on 53 from `client` on node2. The API knows no address of the client.
fn two_nodes(lab: &mut Lab) -> (Fake, [Host; 2]) {
    lab.node(1).unwrap();
    lab.node(2).unwrap();
    let hosts = [lab.pod(1, "web").unwrap(), lab.pod(2, "client").unwrap()];
    let fake = Fake::on(lab.within("node1", || TcpListener::bind("192.168.77.1:0").unwrap()).unwrap());
    fake.put(json!({"kind": "Namespace", "metadata": {"name": "shop"}}));
    for number in [1, 2] {
        fake.put(json!({"kind": "Node", "metadata": {"name": format!("node{number}")},
            "spec": {"podCIDRs": [format!("10.244.{number}.0/24"), format!("fd00:{number}::/64")]},
            "status": {"addresses": [{"type": "InternalIP", "address": format!("192.168.77.{number}")}]}}));
    }
    fake.put(pod("web", 1, 1, &hosts[..1]));
    fake.put(pod("client", 2, CLIENT, &[]));
    fake.put(json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"], "ingress": [{
            "from": [{"podSelector": {"matchLabels": {"app": "client"}}}], "ports": [{"port": 53}]}]}}));
    (fake, hosts)
}

fn agent<'a>(lab: &'a Lab, node: &str, kubeconfig: &Path) -> Agent<'a> {
    agent_in(lab, node, &format!("agent-{node}/0b5e-{node}"), kubeconfig)
}

/// In a pod, by its name and uid.
fn agent_in<'a>(lab: &'a Lab, node: &str, pod: &str, kubeconfig: &Path) -> Agent<'a> {
    let [kube, neighbours, namespace, owner, pod] =
        ["--kubeconfig", "--neighbours", "ringfence", "--pod", pod].map(OsStr::new);
    let agent = Agent::start_with(lab, node, &[kube, kubeconfig.as_os_str(), neighbours, namespace, owner, pod]);
    agent.until("ready", |agent| agent.get("readyz").0 == 200);
    agent
}

/// As the agent of a node writes it: `client` has these addresses.
fn told(node: &str, uid: u128, addresses: &str) -> Value {
    json!({"kind": "ConfigMap", "metadata": {"name": format!("ringfence-node-{node}")},
        "data": {format!("{uid:032x}"): format!("shop/client {addresses}")}})
}

#[test]
fn a_new_pod_is_admitted_on_other_nodes_before_the_api_says_its_address() {
    root_or_return!();
    in_lab(|mut lab| {
        let (fake, [web, client]) = two_nodes(&mut lab);
        let directory = tempfile::tempdir().unwrap();
        let kubeconfig = fake.kubeconfig(directory.path());
        let _listener = listen(&lab, "web", 53);
        let here = agent(&lab, "node1", &kubeconfig);
        assert!(!connects(&lab, "client", (web.ipv4, 53)));
        let there = agent(&lab, "node2", &kubeconfig);
        here.until("told", |_| web.addresses().iter().all(|address| connects(&lab, "client", (*address, 53))));
        let object = fake.objects(CONFIG_MAPS).remove(0);
        assert_eq!(object["metadata"]["name"], "ringfence-node-node2");
        let line = format!("shop/client {} {}", client.ipv4, client.ipv6);
        assert_eq!(object["data"], json!({format!("{CLIENT:032x}"): line}));
        // Once the API says it there is nothing to tell. But a node may hear that later than what is taken back.
        fake.put(pod("client", 2, CLIENT, &[client]));
        thread::sleep(Duration::from_millis(800));
        assert_eq!(fake.objects(CONFIG_MAPS).len(), 1);
        here.until("taken back", |_| fake.objects(CONFIG_MAPS).is_empty());
        assert!(connects(&lab, "client", (web.ipv4, 53)));
        assert_eq!([here.status(), there.status()].map(|status| status["neighbourMistakes"].clone()), [0, 0]);
    });
}

#[test]
fn what_an_agent_tells_belongs_to_its_pod_and_to_no_former_one() {
    root_or_return!();
    in_lab(|mut lab| {
        let (fake, _) = two_nodes(&mut lab);
        let directory = tempfile::tempdir().unwrap();
        let kubeconfig = fake.kubeconfig(directory.path());
        // Killed, so that nothing is taken back.
        for pod in [["agent-x", "0b5e-1"], ["agent-y", "0b5e-2"]] {
            let agent = agent_in(&lab, "node2", &pod.join("/"), &kubeconfig);
            let owners = json!([{"apiVersion": "v1", "kind": "Pod", "name": pod[0], "uid": pod[1]}]);
            let belongs = |object: &Value| object["metadata"]["ownerReferences"] == owners;
            agent.until("told", |_| fake.objects(CONFIG_MAPS).first().is_some_and(belongs));
            agent.kill();
        }
        // Of what is applied, API servers take out what the same manager applied before and does not any more.
        let applied = fake.requests("/configmaps/ringfence-node-node2?");
        assert!(
            applied.len() >= 2
                && applied.iter().all(|(_, request)| request.ends_with("?fieldManager=ringfence&force=true"))
        );
        assert!(fake.requests("/api/v1/nodes/").is_empty(), "no right to get nodes is needed");
    });
}

#[test]
fn of_what_a_node_says_only_its_own_pods_and_ranges_count_and_the_rest_is_counted_and_ignored() {
    root_or_return!();
    in_lab(|mut lab| {
        let (fake, [web, client]) = two_nodes(&mut lab);
        let directory = tempfile::tempdir().unwrap();
        let agent = agent(&lab, "node1", &fake.kubeconfig(directory.path()));
        let _listener = listen(&lab, "web", 53);
        let own = client.ipv4.to_string();
        let reached = || connects(&lab, "client", (web.ipv4, 53));
        for (object, what) in [
            (told("node3", CLIENT, &own), "a node that the pod is not bound to"),
            (told("node2", CLIENT + 1, &own), "another pod of the name"),
            (told("node2", CLIENT, "10.244.9.9"), "an address out of its ranges"),
            (told("node2", CLIENT, "192.168.77.1"), "the address of a node"),
            (told("node2", CLIENT, "nowhere"), "no address"),
        ] {
            agent.after(|| fake.put(object));
            assert!(!reached(), "{what}");
        }
        agent.until("counted", |agent| agent.status()["neighbourMistakes"] == 3);
        assert!(agent.get("metrics").1.contains("ringfence_neighbour_mistakes_total 3"));
        // The API says that the address is somebody else's.
        agent.after(|| fake.put(pod("other", 2, 9, &[client])));
        agent.after(|| fake.put(told("node2", CLIENT, &own)));
        assert!(!reached());
        agent.after(|| fake.remove(PODS, "shop", "other"));
        assert!(reached());
        agent.after(|| fake.remove(CONFIG_MAPS, "", "ringfence-node-node2"));
        assert!(!reached());
    });
}

#[test]
fn without_the_right_to_tell_and_to_hear_an_agent_enforces_as_ever() {
    root_or_return!();
    in_lab(|mut lab| {
        let (fake, [web, client]) = two_nodes(&mut lab);
        let directory = tempfile::tempdir().unwrap();
        let refuse = |verb, path| fake.always(verb, path, Some(Fault::Status(403, "configmaps is forbidden", None)));
        refuse("list", CONFIG_MAPS);
        refuse("patch", "/api/v1/namespaces/ringfence/configmaps/ringfence-node-node2");
        let _listener = listen(&lab, "web", 53);
        let kubeconfig = fake.kubeconfig(directory.path());
        let agents = ["node1", "node2"].map(|node| agent(&lab, node, &kubeconfig));
        thread::sleep(Duration::from_secs(1));
        assert!(!connects(&lab, "client", (web.ipv4, 53)));
        agents[0].after(|| fake.put(pod("client", 2, CLIENT, &[client])));
        assert!(connects(&lab, "client", (web.ipv4, 53)));
        // With it, the one that tells and the one that hears go on by themselves.
        fake.always("list", CONFIG_MAPS, None);
        fake.always("patch", "/api/v1/namespaces/ringfence/configmaps/ringfence-node-node2", None);
        fake.put(pod("client", 2, CLIENT, &[]));
        agents[0].until("told", |_| connects(&lab, "client", (web.ipv4, 53)));
    });
}
