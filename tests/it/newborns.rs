//! Pods that speak as soon as they run: what gets through before their policy, and when their first packet does.

use crate::{agent::Agent, packets::in_lab, root::root_or_return};
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
use ringfence::demo::lab::{Host, Lab};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, UdpSocket},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Many pods whose processes do not run yet: libcni has not written of them, and the API knows no address of theirs.
struct Nursery {
    pods: Vec<(String, Host)>,
    sink: Host,
    directory: TempDir,
    aside: PathBuf,
    /// When the first packet of a pod came.
    arrivals: Arc<Mutex<BTreeMap<IpAddr, Instant>>>,
}

impl Nursery {
    /// So many of them. `fenced` ones may send nothing.
    fn new(lab: &mut Lab, count: usize, fenced: bool) -> Self {
        lab.node(1).unwrap();
        let sink = lab.pod(1, "sink").unwrap();
        let aside = Path::new("/run/aside").to_owned();
        fs::create_dir(&aside).unwrap();
        let pods: Vec<_> =
            (0..count).map(|n| format!("pod{n}")).map(|name| (name.clone(), lab.pod(1, &name).unwrap())).collect();
        for (name, _) in &pods {
            fs::rename(file(&Lab::results("node1"), name), file(&aside, name)).unwrap();
        }
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("all.yaml"), manifests(&pods, sink, fenced)).unwrap();
        let socket = lab.within("sink", || UdpSocket::bind("0.0.0.0:9").unwrap()).unwrap();
        setsockopt(&socket, RcvBufForce, &(8 << 20)).unwrap();
        let arrivals = Arc::new(Mutex::new(BTreeMap::new()));
        let heard = arrivals.clone();
        thread::spawn(move || {
            while let Ok((_, from)) = socket.recv_from(&mut [0; 8]) {
                heard.lock().unwrap().entry(from.ip()).or_insert_with(Instant::now);
            }
        });
        Nursery { pods, sink, directory, aside, arrivals }
    }

    /// libcni writes of a pod, and so much later its process begins: it sends a packet every millisecond. Returns how long
    /// after that the first one arrived.
    fn born(&self, lab: &Lab, (name, host): &(String, Host), after: Duration) -> Option<Duration> {
        let socket = lab.within(name, || UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
        socket.connect((self.sink.ipv4, 9)).unwrap();
        fs::rename(file(&self.aside, name), file(&Lab::results("node1"), name)).unwrap();
        thread::sleep(after);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(40) {
            let _ = socket.send(b"x");
            thread::sleep(Duration::from_millis(1));
        }
        self.arrivals.lock().unwrap().get(&host.ipv4.into()).map(|came| came.duration_since(begun))
    }

    fn agent<'a>(&self, lab: &'a Lab) -> Agent<'a> {
        let agent = Agent::start_with(lab, "node1", &["--cluster".as_ref(), self.directory.path().as_os_str()]);
        agent.until("ready", |agent| agent.get("readyz").0 == 200);
        agent
    }
}

fn file(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("lab-{name}-eth0"))
}

fn manifests(pods: &[(String, Host)], sink: Host, fenced: bool) -> String {
    let pod = |name: &str, app: &str, addresses: &[IpAddr]| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "shop", "labels": {"app": app}},
            "spec": {"nodeName": "node1"},
            "status": {"podIPs": addresses.iter().map(|ip| json!({"ip": ip})).collect::<Vec<_>>()}})
    };
    let mut objects = vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}),
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node1"},
            "spec": {"podCIDRs": ["10.244.1.0/24", "fd00:1::/64"]}}),
        pod("sink", "sink", &sink.addresses()),
    ];
    objects.extend(pods.iter().map(|(name, _)| pod(name, "pod", &[])));
    let egress: Value =
        if fenced { json!([]) } else { json!([{"to": [{"podSelector": {"matchLabels": {"app": "sink"}}}]}]) };
    objects.push(json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "pods", "namespace": "shop"},
        "spec": {"podSelector": {"matchLabels": {"app": "pod"}}, "policyTypes": ["Egress"], "egress": egress}}));
    objects.iter().map(|object| format!("---\n{object}\n")).collect()
}

#[test]
fn of_200_fenced_pods_that_speak_as_soon_as_they_run_no_packet_gets_through() {
    root_or_return!();
    in_lab(|mut lab| {
        let nursery = Nursery::new(&mut lab, 200, true);
        let agent = nursery.agent(&lab);
        for pod in &nursery.pods {
            assert_eq!(nursery.born(&lab, pod, Duration::ZERO), None, "{}", pod.0);
        }
        agent.until("all of them seen", |agent| agent.status()["attachments"] == 402);
        // They could have been heard: the sink hears who may speak.
        let node = lab.within("node1", || UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
        node.send_to(b"x", (nursery.sink.ipv4, 9)).unwrap();
        thread::sleep(Duration::from_millis(100));
        assert_eq!(nursery.arrivals.lock().unwrap().keys().collect::<Vec<_>>(), [&IpAddr::from([10, 244, 1, 1])]);
    });
}

#[test]
#[ignore = "a measurement"]
fn the_first_packet_of_a_new_pod_that_is_allowed() {
    root_or_return!();
    const EACH: usize = 40;
    in_lab(|mut lab| {
        let delays = [0, 2, 5, 10, 20];
        let nursery = Nursery::new(&mut lab, EACH * delays.len(), false);
        let show = |what: &str, times: Vec<Option<Duration>>| {
            let missing = times.iter().filter(|time| time.is_none()).count();
            let mut times: Vec<Duration> = times.into_iter().flatten().collect();
            times.sort_unstable();
            let at = |tenth: usize| times.get((times.len().max(1) - 1) * tenth / 10).copied().unwrap_or_default();
            println!(
                "{what}: first packet after {:.1?} (median; {:.1?} to {:.1?}, at most {:.1?}), {missing} never in 40 ms",
                at(5),
                at(1),
                at(9),
                at(10)
            );
        };
        let (first, _) = nursery.pods.split_at(EACH);
        show("no engine", first.iter().map(|pod| nursery.born(&lab, pod, Duration::ZERO)).collect());
        for (name, _) in first {
            fs::rename(file(&Lab::results("node1"), name), file(&nursery.aside, name)).unwrap();
        }
        nursery.arrivals.lock().unwrap().clear();
        let _agent = nursery.agent(&lab);
        for (delay, pods) in delays.into_iter().zip(nursery.pods.chunks(EACH)) {
            let times = pods.iter().map(|pod| nursery.born(&lab, pod, Duration::from_millis(delay))).collect();
            show(&format!("{delay} ms after the file"), times);
        }
    });
}
