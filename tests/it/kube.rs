//! A live cluster against an API server that lists in pages, forgets, breaks off, refuses and goes away.

pub(crate) mod fake;
pub(crate) mod objects;

use crate::clusters;
use fake::{Fake, Fault, NAMESPACES, NODES, PODS, POLICIES, SERVICES, SLICES, VALIDATING};
use objects::objects;
use proptest::prelude::*;
use ringfence::{
    k8s::{
        convert::Settings,
        files::File,
        manifests,
        reading::Reading,
        watch::{self, Access, Kind},
    },
    policy::{
        cluster::{Cluster, Event},
        model::{Key, Labels, Protocol},
        resolver::Slice,
    },
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    net::TcpListener,
    path::PathBuf,
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(10);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Somebody who follows a cluster, and what they were told so far.
struct Listener {
    readings: Receiver<Reading>,
    cluster: Option<Cluster>,
    heard: Vec<Reading>,
    _directory: TempDir,
}

impl Listener {
    fn to(fake: &Fake) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let access = Access::Kubeconfig(fake.kubeconfig(directory.path()));
        Self::with(access, &Kind::ENFORCING, directory)
    }

    /// One who is told what explains policies, too.
    fn to_all(fake: &Fake) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let access = Access::Kubeconfig(fake.kubeconfig(directory.path()));
        Self::with(access, &Kind::ALL, directory)
    }

    fn with(access: Access, kinds: &'static [Kind], directory: TempDir) -> Self {
        let (sender, readings) = channel();
        thread::spawn(move || {
            runtime().block_on(watch::follow(access, kinds, None, |reading| sender.send(reading).is_ok()))
        });
        Listener { readings, cluster: None, heard: Vec::new(), _directory: directory }
    }

    /// Listens until it holds; returns how long that took.
    fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) -> Duration {
        let begun = Instant::now();
        while !holds(self) {
            let left = PATIENCE.saturating_sub(begun.elapsed());
            let reading = self.readings.recv_timeout(left).unwrap_or_else(|_| panic!("not {what}: {:?}", self.heard));
            match &reading {
                Reading::Whole(cluster) => self.cluster = Some(Cluster::clone(cluster)),
                Reading::Events(events) => {
                    let cluster = self.cluster.as_mut().expect("the whole comes first");
                    events
                        .iter()
                        .for_each(|event| assert!(cluster.apply(event.clone()).is_some(), "{event:?} changes nothing"));
                }
                _ => {}
            }
            self.heard.push(reading);
        }
        begun.elapsed()
    }

    fn until_whole(&mut self) {
        self.until("whole", |listener| listener.cluster.is_some());
    }

    fn pods(&self) -> BTreeSet<String> {
        self.cluster.iter().flat_map(|cluster| cluster.pods.keys()).map(|key| key.name.to_string()).collect()
    }

    fn until_pods(&mut self, pods: &[&str]) -> Duration {
        let pods: BTreeSet<String> = pods.iter().map(ToString::to_string).collect();
        self.until("the pods", |listener| listener.pods() == pods)
    }

    /// Why the source was away, as it was told last.
    fn away(&self) -> Option<&str> {
        let last = self.heard.iter().rev().find(|reading| !matches!(reading, Reading::Events(_)));
        match last {
            Some(Reading::Away(why)) => Some(why),
            _ => None,
        }
    }

    fn until_away(&mut self, with: &str) {
        self.until(&format!("away with {with}"), |listener| listener.away().is_some_and(|why| why.contains(with)));
        let why = self.away().unwrap();
        assert_eq!(why.lines().count(), 1, "{why}");
    }

    fn until_back(&mut self) {
        self.until("back", |listener| matches!(listener.heard.last(), Some(Reading::Current(_))));
    }
}

fn pod(name: &str) -> Value {
    let pod = ringfence::policy::model::Pod { labels: Labels::from_iter([("app", name)]), ..Default::default() };
    objects::pod(&Key::new("shop", name), &pod)
}

/// A server with a namespace, a node, a policy and these pods.
fn server(pods: &[&str]) -> Fake {
    let fake = Fake::new();
    fake.put(json!({"kind": "Namespace", "metadata": {"name": "shop"}}));
    fake.put(json!({"kind": "Node", "metadata": {"name": "n1"}}));
    fake.put(
        json!({"kind": "NetworkPolicy", "metadata": {"name": "p", "namespace": "shop"}, "spec": {"podSelector": {}}}),
    );
    pods.iter().for_each(|name| fake.put(pod(name)));
    fake
}

#[test]
fn what_explains_policies_is_followed_and_nothing_waits_for_it() {
    let fake = server(&["a"]);
    fake.always("list", VALIDATING, Some(Fault::Status(403, "webhooks are forbidden", None)));
    fake.put(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hook", "namespace": "shop"},
        "spec": {"selector": {"app": "hook"}, "ports": [{"port": 443, "targetPort": 9443}]}}));
    let mut listener = Listener::to_all(&fake);
    listener.until_whole();
    let services = |listener: &Listener| listener.cluster.as_ref().unwrap().around.services.len();
    listener.until("its Services", |listener| services(listener) == 1);
    listener.until_back();

    fake.always("list", VALIDATING, None);
    fake.put(json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "hook"},
        "webhooks": [{"name": "a.b.c", "clientConfig": {"service": {"namespace": "shop", "name": "hook"}, "caBundle": "Q0E="}}]}));
    listener.until("who calls it", |listener| {
        let callers = &listener.cluster.as_ref().unwrap().around.callers;
        callers.get("ValidatingWebhookConfiguration hook").is_some_and(|keys| keys.contains(&Key::new("shop", "hook")))
    });
    fake.remove(SERVICES, "shop", "hook");
    listener.until("no Service", |listener| services(listener) == 0);
    fake.remove(VALIDATING, "", "hook");
    listener.until("nobody who calls", |listener| listener.cluster.as_ref().unwrap().around.callers.is_empty());
}

#[test]
fn slices_of_the_resolver_are_followed_alone_and_who_may_not_list_them_goes_on_without() {
    let fake = server(&["a"]);
    fake.always("list", SLICES, Some(Fault::Status(403, "endpointslices are forbidden", None)));
    let key = Key::new("kube-system", "kube-dns-x");
    let resolver =
        Slice { addresses: [("192.0.2.7".parse().unwrap(), None)].into(), ports: [(Protocol::Udp, 53)].into() };
    let object = objects::slice(&key, &resolver);
    fake.put(object.clone());
    let mut listener = Listener::to(&fake);
    listener.until_whole();
    listener.until_back();
    assert_eq!(listener.away(), None);

    fake.always("list", SLICES, None);
    let known = |listener: &Listener| listener.cluster.as_ref().unwrap().resolver.slices().clone();
    listener.until("the slice", |listener| known(listener) == [(key.clone(), resolver.clone())].into());
    // Nobody waits for the first list, so it may come after everything else is known.
    let asked = fake.requests("/endpointslices?limit");
    assert!(asked[0].1.contains("&labelSelector=kubernetes.io%2Fservice-name%3Dkube-dns"), "{asked:?}");
    assert!(fake.requests("/endpointslices?watch").iter().all(|(_, path)| path.contains("&labelSelector=")));
    // One that is not the Service's any more is gone.
    let mut other = object;
    other["metadata"]["labels"]["kubernetes.io/service-name"] = "another".into();
    fake.put(other);
    listener.until("no slice", |listener| known(listener).is_empty());
}

/// The requests for pods: lists and watches.
fn asked(fake: &Fake) -> (usize, usize) {
    let count = |with: &str| fake.requests(with).len();
    (count("/pods?limit"), count("/pods?watch"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_live_cluster_is_the_one_that_its_objects_make_as_manifests(cluster in clusters::cluster()) {
        let fake = Fake::new();
        let mut files = Vec::new();
        for (at, object) in objects(&cluster).into_iter().enumerate() {
            files.push(File { name: format!("{at}.json"), bytes: object.to_string().into_bytes() });
            fake.put(object);
        }
        let wanted = manifests::from_files(&files, &Settings::default());
        let directory = tempfile::tempdir().unwrap();
        let access = Access::Kubeconfig(fake.kubeconfig(directory.path()));
        let listed = runtime().block_on(watch::once(&access, &Kind::ENFORCING)).unwrap();
        prop_assert_eq!(&listed, &wanted.cluster);
        prop_assert_eq!(&listed.pods, &cluster.pods);
        let modes = |cluster: &Cluster| cluster.policies.values().map(|policy| policy.mode).collect::<Vec<_>>();
        prop_assert_eq!(modes(&wanted.cluster), modes(&cluster));
    }

    #[test]
    fn events_lead_from_one_cluster_to_another(one in clusters::cluster(), other in clusters::cluster()) {
        let fake = Fake::new();
        objects(&one).into_iter().for_each(|object| fake.put(object));
        let mut listener = Listener::to(&fake);
        listener.until_whole();
        let wanted = manifests::from_files(
            &objects(&other).iter().map(|object| File { name: "x".to_owned(), bytes: object.to_string().into_bytes() })
                .collect::<Vec<_>>(),
            &Settings::default(),
        ).cluster;
        for event in one.events_to(other.clone()) {
            match event {
                Event::Namespace(name, None) => fake.remove(NAMESPACES, "", &name),
                Event::Node(name, None) => fake.remove(NODES, "", &name),
                Event::Pod(key, None) => fake.remove(PODS, &key.namespace, &key.name),
                Event::Policy(key, None) => fake.remove(POLICIES, &key.namespace, &key.name),
                Event::Resolver(key, None) => fake.remove(SLICES, &key.namespace, &key.name),
                _ => {}
            }
        }
        objects(&other).into_iter().for_each(|object| fake.put(object));
        listener.until("the other cluster", |listener| listener.cluster.as_ref() == Some(&wanted));
    }
}

#[test]
fn a_cluster_of_more_objects_than_a_page_holds_is_listed_whole() {
    let fake = server(&[]);
    for n in 0..1203 {
        fake.put(pod(&format!("p{n:04}")));
    }
    let mut listener = Listener::to(&fake);
    listener.until_whole();
    assert_eq!(listener.pods().len(), 1203);
    assert_eq!(fake.requests("/pods?limit=500").len(), 3);
    assert_eq!(fake.requests("/pods?limit=500&continue=").len(), 2);
}

#[test]
fn events_are_told_when_they_come_and_those_that_change_nothing_are_not() {
    let fake = server(&["a"]);
    let mut listener = Listener::to(&fake);
    listener.until_whole();
    listener.until_back();
    fake.put(pod("b"));
    let took = listener.until_pods(&["a", "b"]);
    assert!(took < Duration::from_millis(500), "{took:?}");
    let mut changed = pod("a");
    changed["metadata"]["labels"]["app"] = "c".into();
    fake.put(changed);
    listener.until("relabelled", |listener| {
        let pods = &listener.cluster.as_ref().unwrap().pods;
        pods[&Key::new("shop", "a")].labels == Labels::from_iter([("app", "c")])
    });
    // Its status changes all the time, and nothing that a policy could tell apart: the listener asserts that.
    let mut same = pod("b");
    same["status"]["conditions"] = json!([]);
    fake.put(same);
    fake.remove(PODS, "shop", "a");
    listener.until_pods(&["b"]);
}

#[test]
fn half_a_cluster_is_not_handed_over() {
    let fake = server(&["a"]);
    fake.always("list", POLICIES, Some(Fault::Status(503, "etcd is not there", None)));
    let mut listener = Listener::to(&fake);
    listener.until_away("answers 503 to /apis/networking.k8s.io/v1/networkpolicies: etcd is not there");
    thread::sleep(Duration::from_millis(500));
    assert!(listener.heard.iter().all(|reading| matches!(reading, Reading::Away(_))), "{:?}", listener.heard);
    fake.always("list", POLICIES, None);
    listener.until_whole();
    assert_eq!(listener.cluster.as_ref().unwrap().policies.len(), 1);
}

#[test]
fn a_watch_that_ends_goes_on_from_the_last_bookmark_without_a_new_list() {
    let fake = server(&["a"]);
    let mut listener = Listener::to(&fake);
    listener.until_whole();
    listener.until_back();
    let version = fake.bookmark(PODS);
    fake.sent(PODS, version);
    fake.hang_up();
    fake.put(pod("b"));
    listener.until_pods(&["a", "b"]);
    assert_eq!(
        fake.requests(&format!("/pods?watch=true&allowWatchBookmarks=true&resourceVersion={version}&")).len(),
        1
    );
    assert_eq!(asked(&fake), (1, 2));
}

#[test]
fn what_went_in_a_gap_that_the_server_has_forgotten_is_told_as_gone() {
    // Forgotten at once, or only after the watch was accepted.
    for accepted in [false, true] {
        let fake = server(&["a", "b"]);
        let mut listener = Listener::to(&fake);
        listener.until_whole();
        listener.until_back();
        if accepted {
            fake.fault("watch", PODS, Fault::Gone);
        }
        fake.always("watch", PODS, Some(Fault::Slow(Duration::from_millis(200))));
        fake.hang_up();
        thread::sleep(Duration::from_millis(50));
        fake.remove(PODS, "shop", "a");
        fake.put(pod("c"));
        fake.compact();
        listener.until_pods(&["b", "c"]);
        assert_eq!(asked(&fake).0, 2);
        assert!(!listener.heard.iter().any(|reading| matches!(reading, Reading::Away(_))), "{:?}", listener.heard);
    }
}

#[test]
fn a_connection_that_breaks_in_the_middle_of_an_event_costs_neither_the_event_nor_a_list() {
    let fake = server(&["a"]);
    fake.fault("watch", PODS, Fault::Cut);
    let mut listener = Listener::to(&fake);
    listener.until_whole();
    fake.put(pod("b"));
    listener.until_pods(&["a", "b"]);
    assert_eq!(asked(&fake), (1, 2));
}

#[test]
fn lines_that_are_no_events_are_told_and_got_over() {
    for text in ["{\"type\":\"ADDED\",\"object\":{\n", "no json\n", "{\"type\":\"ERROR\",\"object\":{\"code\":500}}\n"]
    {
        let fake = server(&["a"]);
        fake.fault("watch", PODS, Fault::Line(text));
        let mut listener = Listener::to(&fake);
        listener.until_whole();
        listener.until("told", |listener| listener.away().is_some_and(|why| why.contains("pods")));
        listener.until_back();
        fake.put(pod("b"));
        listener.until_pods(&["a", "b"]);
    }
}

#[test]
fn a_server_that_is_overloaded_is_left_alone_for_as_long_as_it_asks() {
    let fake = server(&["a"]);
    fake.fault("list", PODS, Fault::Status(429, "too many requests", Some(1)));
    fake.fault("watch", PODS, Fault::Status(429, "too many requests", Some(1)));
    let mut listener = Listener::to(&fake);
    listener.until_away("answers 429");
    listener.until_whole();
    listener.until_away("answers 429 to /api/v1/pods: too many requests");
    listener.until_back();
    for with in ["/pods?limit", "/pods?watch"] {
        let asked = fake.requests(with);
        let [(first, _), (second, _)] = &asked[..] else { panic!("{asked:?}") };
        assert!(*second - *first >= Duration::from_secs(1), "{asked:?}");
    }
}

#[test]
fn a_server_that_fails_is_asked_less_and_less_and_the_first_answer_is_taken() {
    let fake = server(&["a"]);
    fake.always("list", PODS, Some(Fault::Status(500, "", None)));
    let mut listener = Listener::to(&fake);
    listener.until_away("answers 500 to /api/v1/pods: nothing");
    thread::sleep(Duration::from_secs(2));
    let times: Vec<Instant> = fake.requests("/pods?limit").into_iter().map(|(at, _)| at).collect();
    assert!((3..=8).contains(&times.len()), "{}", times.len());
    fake.always("list", PODS, None);
    listener.until_whole();
}

#[test]
fn a_slow_server_is_waited_for() {
    let fake = server(&["a"]);
    fake.fault("list", PODS, Fault::Slow(Duration::from_secs(2)));
    let mut listener = Listener::to(&fake);
    listener.until_whole();
    assert!(listener.heard.iter().all(|reading| !matches!(reading, Reading::Away(_))), "{:?}", listener.heard);
}

#[test]
fn a_server_that_goes_away_and_comes_back_is_gone_on_with_from_where_it_was() {
    let mut fake = server(&["a", "b"]);
    let mut listener = Listener::to(&fake);
    listener.until_whole();
    listener.until_back();
    fake.away();
    listener.until_away("can not be reached");
    fake.remove(PODS, "shop", "a");
    fake.put(pod("c"));
    fake.back(TcpListener::bind(fake.address()).unwrap());
    listener.until_pods(&["b", "c"]);
    listener.until_back();
    assert_eq!(asked(&fake).0, 1);
}

#[test]
fn a_server_that_is_not_there_yet_is_taken_when_it_comes() {
    let mut fake = server(&["a"]);
    fake.away();
    let mut listener = Listener::to(&fake);
    listener.until_away("can not be reached");
    fake.back(TcpListener::bind(fake.address()).unwrap());
    listener.until_whole();
}

#[test]
fn what_somebody_has_to_mend_is_named_and_taken_once_it_is_mended() {
    let forbidden =
        "networkpolicies.networking.k8s.io is forbidden: User \"system:serviceaccount:r:agent\" cannot list";
    for (verb, path, status, message, said) in [
        ("list", POLICIES, 403, forbidden, "refuses to list networkpolicies.networking.k8s.io"),
        ("watch", NODES, 403, "nodes is forbidden", "refuses to watch nodes"),
        ("list", PODS, 401, "Unauthorized", "does not know who asks (401)"),
    ] {
        let fake = server(&["a"]);
        fake.always(verb, path, Some(Fault::Status(status, message, None)));
        let mut listener = Listener::to(&fake);
        listener.until_away(said);
        fake.always(verb, path, None);
        listener.until_whole();
        listener.until_back();
    }
    let fake = server(&["a"]);
    fake.minor("29");
    let mut listener = Listener::to(&fake);
    listener.until_away("Kubernetes v1.29.0, and 1.30 is the oldest that works: upgrade the cluster");
    fake.minor("30+");
    listener.until_whole();
}

#[test]
fn a_kubeconfig_that_does_not_work_is_named_and_read_again() {
    let fake = server(&["a"]);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("kubeconfig");
    for text in [None, Some("a: ["), Some("apiVersion: v1\nkind: Config\n")] {
        if let Some(text) = text {
            std::fs::write(&file, text).unwrap();
        }
        let error =
            runtime().block_on(watch::once(&Access::Kubeconfig(file.clone()), &Kind::JUDGING)).unwrap_err().to_string();
        assert!(error.starts_with(&format!("the kubeconfig {} does not work: ", file.display())), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    let mut listener = Listener::with(Access::Kubeconfig(file), &Kind::JUDGING, directory);
    listener.until_away("does not work");
    fake.kubeconfig(listener._directory.path());
    listener.until_whole();
}

#[test]
fn out_of_a_pod_there_is_no_cluster_of_this_pod() {
    let error = runtime().block_on(watch::once(&Access::InCluster, &Kind::JUDGING)).unwrap_err().to_string();
    assert!(error.contains("give --kubeconfig FILE or --cluster DIR"), "{error}");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_ringfence")).args(["agent", "--node", "n1"]).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{said}");
    assert!(said.contains("give --kubeconfig FILE or --cluster DIR"), "{said}");
}

#[test]
fn an_object_that_can_not_be_read_is_no_obstacle_for_the_others() {
    let fake = server(&["a"]);
    let mut odd = pod("odd");
    odd["metadata"]["labels"]["app"] = 7.into();
    fake.put(odd.clone());
    fake.put(json!({"kind": "NetworkPolicy", "metadata": {"name": "odd", "namespace": "shop"}, "spec": []}));
    let mut listener = Listener::to(&fake);
    listener.until_pods(&["a"]);
    let policy = &listener.cluster.as_ref().unwrap().policies[&Key::new("shop", "odd")];
    assert_eq!((&policy.ingress, &policy.egress), (&Some(vec![]), &Some(vec![])));
    odd["metadata"]["labels"]["app"] = "seven".into();
    fake.put(odd.clone());
    listener.until_pods(&["a", "odd"]);
    odd["metadata"]["labels"]["app"] = json!([]);
    fake.put(odd);
    listener.until_pods(&["a"]);
}

fn matrix(kubeconfig: &PathBuf) -> (Option<i32>, String, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_ringfence"))
        .args(["matrix", "--port", "80/TCP", "-o", "json", "--kubeconfig"])
        .arg(kubeconfig)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_matrix_of_a_live_cluster_is_the_one_of_its_manifests() {
    let fake = server(&[]);
    let mut with_address = pod("a");
    with_address["status"]["podIPs"] = json!([{"ip": "10.1.0.1"}]);
    fake.put(with_address);
    let directory = tempfile::tempdir().unwrap();
    let file = fake.kubeconfig(directory.path());
    let (code, out, err) = matrix(&file);
    assert_eq!(code, Some(0), "{err}");
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(answer["endpoints"], json!(["shop/a"]));
    fake.always("list", NODES, Some(Fault::Status(403, "nodes is forbidden", None)));
    let (code, _, err) = matrix(&file);
    assert_eq!((code, err.lines().count()), (Some(2), 1), "{err}");
    assert!(err.contains("refuses to list nodes"), "{err}");
}
