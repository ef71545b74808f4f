//! Pods that are known from the node itself before the source of the cluster knows their addresses, and those that are not.

use crate::{
    agent::{Agent, connects, listen},
    packets::in_lab,
    root::root_or_return,
};
use ringfence::{
    demo::lab::{Host, Lab},
    node::{interfaces::Interfaces, sight::Eyes},
};
use serde_json::{Value, json};
use std::{
    fs,
    net::UdpSocket,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// As the API says a pod that was just bound: without an address.
fn bound(name: &str, node: u8) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "shop", "labels": {"app": name}},
        "spec": {"nodeName": format!("node{node}")}})
}

fn with_addresses(mut pod: Value, host: Host) -> Value {
    pod["status"] = json!({"podIPs": host.addresses().map(|address| json!({"ip": address}))});
    pod
}

/// `web` takes connections on 53 from `client`.
fn write(directory: &Path, pods: &[Value]) {
    let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"], "ingress": [{
            "from": [{"podSelector": {"matchLabels": {"app": "client"}}}], "ports": [{"port": 53}]}]}});
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node1"},
        "spec": {"podCIDRs": ["10.244.1.0/24", "fd00:1::/64"]},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.168.77.1"}]}});
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}});
    let mut text = String::new();
    for object in [namespace, node, policy].iter().chain(pods) {
        text += &format!("---\n{object}\n");
    }
    // By renaming: half a file is none.
    fs::write(directory.join("new"), text).unwrap();
    fs::rename(directory.join("new"), directory.join("all.yaml")).unwrap();
}

fn ready<'a>(lab: &'a Lab, directory: &Path, more: &[&str]) -> Agent<'a> {
    let mut source = vec!["--cluster".as_ref(), directory.as_os_str()];
    source.extend(more.iter().map(std::ffi::OsStr::new));
    let agent = Agent::start_with(lab, "node1", &source);
    agent.until("ready", |agent| agent.get("readyz").0 == 200);
    agent
}

#[test]
fn a_pod_is_fenced_and_admitted_by_what_libcni_wrote_before_the_api_says_its_address() {
    root_or_return!();
    for routed in [false, true] {
        in_lab(|mut lab| {
            lab.node(1).unwrap();
            let directory = tempfile::tempdir().unwrap();
            write(directory.path(), &["client", "web", "stranger"].map(|name| bound(name, 1)));
            let agent = ready(&lab, directory.path(), &[]);
            assert_eq!(agent.status()["attachments"], 0);
            drop(agent);
            let pod = |lab: &mut Lab, name: &str| {
                if routed { lab.routed_pod(1, name).unwrap() } else { lab.pod(1, name).unwrap() }
            };
            let [_, web, stranger] = ["client", "web", "stranger"].map(|name| pod(&mut lab, name));
            let _listeners = [53, 54].map(|port| listen(&lab, "web", port));
            let agent = ready(&lab, directory.path(), &[]);
            assert_eq!((&agent.status()["attachments"], &agent.status()["remarks"]), (&json!(6), &json!([])));
            for address in web.addresses() {
                assert!(connects(&lab, "client", (address, 53)), "{address} routed: {routed}");
                assert!(!connects(&lab, "client", (address, 54)), "{address} routed: {routed}");
                assert!(!connects(&lab, "stranger", (address, 53)), "{address} routed: {routed}");
            }
            // Of a pod that the API does not know nothing is known; of one that has gone nothing is left.
            agent.after(|| write(directory.path(), &["client", "web"].map(|name| bound(name, 1))));
            let _listener = listen(&lab, "stranger", 53);
            assert!(!connects(&lab, "client", (stranger.ipv4, 53)));
            agent.after(|| fs::remove_file(Lab::results("node1").join("lab-stranger-eth0")).unwrap());
            assert_eq!(agent.status()["attachments"], 4);
            assert!(!connects(&lab, "client", (stranger.ipv4, 53)), "it is in a range of the node's");
        });
    }
}

#[test]
fn without_the_cache_an_address_is_bound_to_its_interface_and_it_is_said_what_is_missing() {
    root_or_return!();
    in_lab(|mut lab| {
        lab.node(1).unwrap();
        let [client, web, late] = ["client", "web", "late"].map(|name| lab.pod(1, name).unwrap());
        fs::remove_dir_all(Lab::results("node1")).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let pods = [("client", client), ("web", web)].map(|(name, host)| with_addresses(bound(name, 1), host));
        write(directory.path(), &pods);
        let agent = ready(&lab, directory.path(), &[]);
        let said = agent.status()["remarks"].to_string();
        assert!(said.contains("/run/cni/node1 can not be read") && said.contains("--cni-results"), "{said}");
        agent.until("seen", |agent| agent.status()["attachments"] == 6);
        let _listeners = [53, 54].map(|port| listen(&lab, "web", port));
        assert_eq!([53, 54].map(|port| connects(&lab, "client", (web.ipv4, port))), [true, false]);
        // Nobody claims this one. The Node's range says that it is a pod's.
        let _listener = listen(&lab, "late", 53);
        assert!(!connects(&lab, "client", (late.ipv4, 53)));
        // The cache comes.
        let result = json!({"kind": "cniCacheV1", "ifName": "eth0",
            "cniArgs": [["K8S_POD_NAMESPACE", "shop"], ["K8S_POD_NAME", "web"]], "result": {
                "interfaces": [{"name": "veth11"}, {"name": "eth0", "sandbox": "/run/netns/web"}],
                "ips": [{"interface": 1, "address": format!("{}/24", web.ipv4)}]}});
        fs::create_dir(Lab::results("node1")).unwrap();
        fs::write(Lab::results("node1").join("lab-broken-eth0"), "{").unwrap();
        fs::write(Lab::results("node1").join("lab-web-eth0"), result.to_string()).unwrap();
        agent.until("seen", |agent| agent.status()["attachments"] == 1);
        let status = agent.status();
        assert_eq!(status["unusedResults"], 1);
        assert!(status["remarks"][0].as_str().unwrap().contains("lab-broken-eth0 is not used"), "{status}");
    });
}

#[test]
fn a_setting_opens_what_is_not_known() {
    root_or_return!();
    in_lab(|mut lab| {
        lab.node(1).unwrap();
        let [client, _] = ["client", "late"].map(|name| lab.pod(1, name).unwrap());
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), &[with_addresses(bound("client", 1), client)]);
        let _listener = listen(&lab, "client", 53);
        let agent = ready(&lab, directory.path(), &["--unknown-pods", "open"]);
        assert!(connects(&lab, "late", (client.ipv4, 53)));
        drop(agent);
        let _agent = ready(&lab, directory.path(), &[]);
        assert!(!connects(&lab, "late", (client.ipv4, 53)));
    });
}

#[test]
fn ranges_are_the_subnets_of_bridges_that_carry_pods() {
    root_or_return!();
    in_lab(|mut lab| {
        lab.node(1).unwrap();
        lab.pod(1, "web").unwrap();
        let see = |cache: Option<&str>| {
            let cache = cache.map(|_| Lab::results("node1"));
            lab.within("node1", || Eyes::new(cache).look(&["10.244.1.0/24".parse().unwrap()])).unwrap().unwrap()
        };
        let seen = see(Some("cache"));
        assert_eq!(seen.ranges, ["10.244.1.0/24", "fd00:1::/64"].map(|net| net.parse().unwrap()).into());
        assert_eq!(seen.attachments.len(), 2);
        let asked = see(None);
        assert_eq!(asked.attachments.keys().map(ToString::to_string).collect::<Vec<_>>(), ["10.244.1.10"]);
        assert!(seen.attachments.values().zip(asked.attachments.values()).all(|(a, b)| a.ifindex == b.ifindex));
        let interfaces = lab.within("node1", || Interfaces::read(true)).unwrap().unwrap();
        assert!(interfaces.all.values().any(|one| one.kind == "bridge" && one.name == "cni0"));
    });
}

#[test]
fn before_the_source_says_anything_an_address_on_another_interface_than_before_is_closed() {
    root_or_return!();
    in_lab(|mut lab| {
        lab.node(1).unwrap();
        let [client, web] = ["client", "web"].map(|name| lab.pod(1, name).unwrap());
        let directory = tempfile::tempdir().unwrap();
        let pods = [("client", client), ("web", web)].map(|(name, host)| with_addresses(bound(name, 1), host));
        write(directory.path(), &pods);
        // Another one, that libcni has not written of yet.
        lab.pod(1, "other").unwrap();
        let file = Lab::results("node1").join("lab-other-eth0");
        let text = fs::read_to_string(&file).unwrap().replace("10.244.1.12", "10.244.1.10");
        fs::remove_file(&file).unwrap();
        drop(ready(&lab, directory.path(), &[]));
        let _listener = listen(&lab, "web", 53);
        let away = directory.path().join("away");
        let source = ["--cluster".as_ref(), away.as_os_str()];
        let agent = Agent::start_with(&lab, "node1", &source);
        agent.until("told", |agent| agent.get("readyz").0 == 503);
        assert!(connects(&lab, "client", (web.ipv4, 53)), "what a predecessor enforced stays");
        // It gets the address of the client.
        fs::remove_file(Lab::results("node1").join("lab-client-eth0")).unwrap();
        fs::write(&file, text).unwrap();
        let begun = Instant::now();
        while connects(&lab, "client", (web.ipv4, 53)) {
            assert!(begun.elapsed() < Duration::from_secs(5), "{}", agent.status());
        }
    });
}

#[test]
fn traffic_that_passes_the_hook_by_is_found_and_told() {
    root_or_return!();
    in_lab(|mut lab| {
        lab.node(1).unwrap();
        let [client, web] = ["client", "web"].map(|name| lab.pod(1, name).unwrap());
        let directory = tempfile::tempdir().unwrap();
        let pods = [("client", client), ("web", web)].map(|(name, host)| with_addresses(bound(name, 1), host));
        write(directory.path(), &pods);
        let agent = ready(&lab, directory.path(), &[]);
        let echo = lab.within("web", || UdpSocket::bind("0.0.0.0:54").unwrap()).unwrap();
        let server = thread::spawn(move || {
            let mut buffer = [0; 8];
            while let Ok((1, from)) = echo.recv_from(&mut buffer) {
                echo.send_to(b"x", from).unwrap();
            }
        });
        let socket = lab.within("client", || UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let asks = |bytes: &[u8]| socket.send_to(bytes, (web.ipv4, 54)).is_ok() && socket.recv(&mut [0; 8]).is_ok();
        assert!(!asks(b"x"), "web does not take it");
        for (from, to) in [("veth10", "veth11"), ("veth11", "veth10")] {
            let tc = |words: String| {
                let status = Command::new("tc").args(["-n", "node1"]).args(words.split(' ')).status().unwrap();
                assert!(status.success(), "{words}");
            };
            tc(format!("qdisc add dev {from} ingress"));
            tc(format!(
                "filter add dev {from} ingress protocol all u32 match u32 0 0 action mirred egress redirect dev {to}"
            ));
        }
        let begun = Instant::now();
        let mut answered = 0;
        while agent.get("readyz").0 == 200 {
            assert!(begun.elapsed() < Duration::from_secs(10), "{answered} answers and no word of it");
            answered += (0..100).filter(|_| asks(b"x")).count();
        }
        let (_, reason) = agent.get("readyz");
        assert!(
            reason.contains("traffic of pods passes the hook by: veth1") && reason.lines().count() == 1,
            "{reason}"
        );
        socket.send_to(b"", (web.ipv4, 54)).unwrap();
        server.join().unwrap();
    });
}

#[test]
fn a_bridge_that_is_made_to_pass_netfilter_by_is_put_right() {
    root_or_return!();
    in_lab(|mut lab| {
        lab.node(1).unwrap();
        let [client, web] = ["client", "web"].map(|name| lab.pod(1, name).unwrap());
        let directory = tempfile::tempdir().unwrap();
        let pods = [("client", client), ("web", web)].map(|(name, host)| with_addresses(bound(name, 1), host));
        write(directory.path(), &pods);
        let agent = ready(&lab, directory.path(), &[]);
        let _listener = listen(&lab, "web", 54);
        let switch = "/proc/sys/net/bridge/bridge-nf-call-iptables";
        lab.within("node1", || fs::write(switch, "0").unwrap()).unwrap();
        agent
            .until("put right", |_| lab.within("node1", || fs::read_to_string(switch).unwrap().trim() == "1").unwrap());
        assert!(!connects(&lab, "client", (web.ipv4, 54)));
        assert_eq!(agent.get("readyz").0, 200);
    });
}
