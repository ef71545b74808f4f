//! Replicas of the webhook that write to a cluster: who leads in what, and what becomes of it.

use crate::{
    kube::fake::{Fake, Fault, LEASES, MUTATING, POLICIES, SECRETS, VALIDATING},
    tls::eventually,
};
use ringfence::{
    controller::{Controller, Fenced, fenced},
    k8s::watch::Access,
    policy::{
        baseline::{self, POLICY_NAME},
        cluster::Cluster,
        model::{Labels, Namespace},
    },
    tls::{Served, Times},
};
use serde_json::{Value, json};
use std::{
    path::Path,
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// As a chart installs it: what owns the rest, and configurations that no caBundle was written to.
fn installed() -> Fake {
    let fake = Fake::new();
    fake.put(json!({"kind": "ClusterRole", "metadata": {"name": "ringfence", "uid": "role"}}));
    for kind in ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"] {
        let webhooks = json!([{"name": "one", "clientConfig": {}}, {"name": "two", "clientConfig": {}}]);
        fake.put(json!({"kind": kind, "metadata": {"name": "ringfence"}, "webhooks": webhooks}));
    }
    fake
}

struct Replica {
    stop: watch::Sender<bool>,
    /// The baselines that it is to show.
    fences: watch::Sender<Option<Fenced>>,
    /// Why it is not ready, as it says.
    lacks: Arc<Mutex<Option<String>>>,
    thread: JoinHandle<()>,
}

impl Replica {
    /// With certificates that it keeps itself, or with somebody else's.
    fn start(kubeconfig: &Path, identity: &str, keeps: bool) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (fences, fenced) = watch::channel(Some(fenced(&Cluster::default())));
        let controller = Controller {
            access: Access::Kubeconfig(kubeconfig.to_owned()),
            release: "ringfence/ringfence".parse().unwrap(),
            cluster_name: "ringfence".to_owned(),
            identity: identity.to_owned(),
            times: Times::default(),
            served: keeps.then(|| Arc::new(Served::default())),
            fenced,
        };
        let lacks = Arc::new(Mutex::new(keeps.then(|| "it has not begun".to_owned())));
        let said = lacks.clone();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(controller.run(|why| *said.lock().unwrap() = why, stopped));
        });
        Self { stop, fences, lacks, thread }
    }

    fn lacks(&self) -> Option<String> {
        self.lacks.lock().unwrap().clone()
    }

    fn end(self) {
        self.stop.send_replace(true);
        self.thread.join().unwrap();
    }
}

/// Leases, and who holds them.
fn holders(fake: &Fake) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let holder = |lease: &Value| (text(&lease["metadata"]["name"]), text(&lease["spec"]["holderIdentity"]));
    fake.objects(LEASES).iter().map(holder).collect()
}

fn held(baselines: &str, certificates: &str) -> Vec<(String, String)> {
    [("ringfence", baselines), ("ringfence-authorities", certificates)]
        .map(|(lease, holder)| (lease.to_owned(), holder.to_owned()))
        .into()
}

#[test]
fn a_replica_that_keeps_certificates_does_not_wait_for_one_that_keeps_none() {
    let fake = installed();
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = fake.kubeconfig(directory.path());
    let old = Replica::start(&kubeconfig, "old", false);
    eventually("the first one leads", || !fake.objects(LEASES).is_empty());
    assert_eq!(holders(&fake), [("ringfence".to_owned(), "old".to_owned())], "it competes for baselines only");

    let new = Replica::start(&kubeconfig, "new", true);
    eventually("the second one is ready", || new.lacks().is_none());
    assert_eq!(holders(&fake), held("old", "new"));
    for kind in [MUTATING, VALIDATING] {
        for webhook in fake.objects(kind)[0]["webhooks"].as_array().unwrap() {
            assert!(webhook["clientConfig"]["caBundle"].is_string(), "{webhook}");
        }
    }
    old.end();
    eventually("it leads in both when the other one is gone", || holders(&fake) == held("new", "new"));
    new.end();
}

#[test]
fn one_replica_writes_the_others_follow_and_whoever_ends_lets_the_next_one_lead_at_once() {
    let fake = installed();
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = fake.kubeconfig(directory.path());
    let first = Replica::start(&kubeconfig, "first", true);
    eventually("the first one leads in both", || holders(&fake) == held("first", "first"));
    eventually("the first one is ready", || first.lacks().is_none());
    let second = Replica::start(&kubeconfig, "second", true);
    eventually("the second one is ready", || second.lacks().is_none());
    assert_eq!(holders(&fake), held("first", "first"));
    let authorities = fake.objects(SECRETS);
    for object in fake.objects(LEASES).iter().chain(&authorities) {
        assert_eq!(object["metadata"]["ownerReferences"][0]["uid"], "role", "all goes with the chart: {object}");
    }
    first.end();
    eventually("the second one leads in both", || holders(&fake) == held("second", "second"));
    assert_eq!(fake.objects(SECRETS), authorities);
    second.end();
    assert_eq!(holders(&fake), held("", ""));
}

#[test]
fn a_baseline_that_was_refused_once_is_shown_soon() {
    let fake = installed();
    let directory = tempfile::tempdir().unwrap();
    let replica = Replica::start(&fake.kubeconfig(directory.path()), "one", false);
    eventually("it leads", || !fake.objects(LEASES).is_empty());
    // Until nothing is new any more, which would be a reason to look again.
    thread::sleep(Duration::from_millis(500));
    let write = "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies/ringfence-baseline";
    fake.fault("patch", write, Fault::Status(500, "etcd has another leader", None));
    let mut cluster = Cluster::default();
    let labels = Labels::from_iter([(baseline::LABEL, "deny-all")]);
    cluster.namespaces.insert("shop".into(), Namespace { labels, ..Namespace::default() });
    replica.fences.send_replace(Some(fenced(&cluster)));
    eventually("it is refused", || !fake.requests(write).is_empty());
    let refused = Instant::now();
    eventually("it is shown", || fake.objects(POLICIES).iter().any(|object| object["metadata"]["name"] == POLICY_NAME));
    assert!(refused.elapsed() < Duration::from_secs(3), "{:?}", refused.elapsed());
    replica.end();
}
