//! Pods, workloads and Namespaces at the door, with the real catalogue and a cluster around them.

use ringfence::{
    admission::{Decision, Hook, Manners, Service, Verdict, View, answer::Outcome, review::Review},
    catalogue::Catalogue,
    k8s::{
        convert::{Settings, around, object},
        reading::Reading,
    },
    policy::{
        baseline::Baseline,
        cluster::{Cluster, Event},
    },
};
use serde_json::{Value, json};

/// A cluster of a fenced namespace `shop`, an open one `lab`, and one where a rule is allowed.
fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    let namespace = |name: &str, labels: Value, allow: Option<&str>| {
        let mut one = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        if let Some(allow) = allow {
            one["metadata"]["annotations"] = json!({"ringfence.dev/allow": allow});
        }
        one
    };
    let policy = |name: &str, app: &str, from: &str| {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name, "namespace": "lab"},
            "spec": {"podSelector": {"matchLabels": {"app": app}}, "policyTypes": ["Ingress"],
                "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": from}}}]}]}})
    };
    for one in [
        namespace("shop", json!({"ringfence.dev/baseline": "deny-all"}), None),
        namespace("lab", json!({}), None),
        namespace("net", json!({"ringfence.dev/baseline": "deny-ingress"}), Some("pod-host-network")),
        policy("db", "db", "api"),
    ] {
        cluster.apply(object(&one, &Settings::default()).unwrap().value);
    }
    cluster
}

fn service(manners: Manners) -> Service {
    let view = View::new(Baseline::Off);
    view.take(Reading::Whole(cluster().into()));
    Service::by(Catalogue::default()).with_manners(manners).with_view(view)
}

struct Asked {
    kind: Value,
    part: &'static str,
    namespace: &'static str,
    old: Option<Value>,
    user: &'static str,
}

fn pod(namespace: &'static str) -> Asked {
    let kind = json!({"group": "", "version": "v1", "kind": "Pod"});
    Asked { kind, part: "", namespace, old: None, user: "jane" }
}

fn decided(service: &Service, hook: Hook, asked: &Asked, object: Value) -> Decision {
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {"uid": "u", "kind": asked.kind, "namespace": asked.namespace, "name": "web", "subResource": asked.part,
            "operation": if asked.old.is_some() { "UPDATE" } else { "CREATE" }, "userInfo": {"username": asked.user},
            "object": object, "oldObject": asked.old},
    });
    let body = review.to_string();
    service.decide(hook, &Review::parse(body.as_bytes()).unwrap()).unwrap()
}

fn web(spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "labels": {"app": "db"}}, "spec": spec})
}

fn denial(decision: &Decision) -> &str {
    match &decision.answer.outcome {
        Outcome::Denied(status) => &status.message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_gets_around_the_fence_is_denied_where_there_is_one_and_told_elsewhere() {
    let service = service(Manners::default());
    let wild = web(json!({"hostNetwork": true, "containers": [{"name": "c", "image": "i"}]}));
    let fenced = decided(&service, Hook::Validate, &pod("shop"), wild.clone());
    assert!(denial(&fenced).contains("spec.hostNetwork: the pod is its node"), "{}", denial(&fenced));
    let open = decided(&service, Hook::Validate, &pod("lab"), wild.clone());
    assert_eq!(open.verdict, Verdict::Allowed);
    assert!(open.answer.warnings[0].starts_with("[pod-host-network] spec.hostNetwork: "), "{:?}", open.answer.warnings);
    let allowed = decided(&service, Hook::Validate, &pod("net"), wild);
    assert_eq!((allowed.verdict, allowed.answer.warnings.len()), (Verdict::Allowed, 0));
}

#[test]
fn of_an_ephemeral_container_only_what_is_new_is_judged() {
    let service = service(Manners::default());
    let privileged = |name: &str| json!({"name": name, "image": "i", "securityContext": {"privileged": true}});
    let before = web(json!({"containers": [privileged("old")]}));
    let mut after = before.clone();
    after["spec"]["ephemeralContainers"] = json!([{"name": "plain", "image": "i"}]);
    let asked = Asked { part: "ephemeralcontainers", old: Some(before.clone()), ..pod("shop") };
    let plain = decided(&service, Hook::Validate, &asked, after.clone());
    assert_eq!((plain.verdict, plain.answer.warnings.len()), (Verdict::Allowed, 0));
    after["spec"]["ephemeralContainers"] = json!([privileged("debug")]);
    let debug = decided(&service, Hook::Validate, &asked, after);
    assert!(
        denial(&debug).contains("1 error") && denial(&debug).contains("ephemeralContainers[0]"),
        "{}",
        denial(&debug)
    );
}

#[test]
fn whoever_takes_a_running_pod_out_of_its_last_policy_is_stopped_unless_a_setting_lets_them() {
    let before = web(json!({"containers": [{"name": "c", "image": "i"}]}));
    let mut after = before.clone();
    after["metadata"]["labels"] = json!({"app": "api"});
    let asked = Asked { old: Some(before), ..pod("lab") };
    let denied = decided(&service(Manners::default()), Hook::Validate, &asked, after.clone());
    assert!(denial(&denied).contains("it leaves lab/db"), "{}", denial(&denied));
    let manners = Manners { may_relabel: ["jane".to_owned()].into(), ..Manners::default() };
    let told = decided(&service(manners), Hook::Validate, &asked, after);
    assert_eq!(told.verdict, Verdict::Allowed);
    let rules: Vec<&str> = told.rules.keys().map(|(rule, _)| *rule).collect();
    assert_eq!(rules, ["pod-joins-peer", "pod-leaves-fence"]);
    assert!(told.answer.warnings.iter().all(|warning| warning.chars().count() <= 256));
}

#[test]
fn net_raw_is_dropped_where_a_setting_and_a_fence_want_it() {
    let plain = web(json!({"containers": [{"name": "c", "image": "i"}]}));
    let manners = Manners { drop_net_raw: true, ..Manners::default() };
    for (manners, namespace, verdict) in [
        (manners.clone(), "shop", Verdict::Patched),
        (manners, "lab", Verdict::Allowed),
        (Manners::default(), "shop", Verdict::Allowed),
    ] {
        assert_eq!(decided(&service(manners), Hook::Mutate, &pod(namespace), plain.clone()).verdict, verdict);
    }
}

#[test]
fn a_workload_is_told_and_a_mirror_of_a_static_pod_is_left_alone() {
    let service = service(Manners::default());
    let wild = json!({"hostNetwork": true, "containers": [{"name": "c", "image": "i"}]});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"template": {"metadata": {"labels": {"app": "web"}}, "spec": wild}}});
    let asked = Asked { kind: json!({"group": "apps", "version": "v1", "kind": "Deployment"}), ..pod("shop") };
    let told = decided(&service, Hook::Validate, &asked, deployment);
    assert_eq!(told.verdict, Verdict::Allowed);
    assert!(told.answer.warnings[0].contains("spec.template.spec.hostNetwork"), "{:?}", told.answer.warnings);
    let mut mirror = web(wild);
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    assert_eq!(decided(&service, Hook::Validate, &pod("shop"), mirror).answer.warnings.len(), 0);
}

#[test]
fn a_label_of_ours_that_means_nothing_is_told() {
    let asked = Asked { kind: json!({"group": "", "version": "v1", "kind": "Namespace"}), ..pod("new") };
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "new",
        "labels": {"ringfence.dev/baseline": "denyall"}, "annotations": {"ringfence.dev/allow": "pod-host-network, nonsense"}}});
    let told = decided(&service(Manners::default()), Hook::Validate, &asked, object);
    assert_eq!(told.verdict, Verdict::Allowed);
    let rules: Vec<&str> = told.rules.keys().map(|(rule, _)| *rule).collect();
    assert_eq!(rules, ["allowed-by-annotation", "ringfence-label-value", "unknown-rule"]);
}

#[test]
fn a_policy_is_held_against_the_cluster() {
    let policy = super::policy(json!({"podSelector": {}, "policyTypes": ["Ingress"],
        "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"team": "a"}}}], "ports": [{"port": 80}]}]}));
    let body = super::review("CREATE", Some(policy), None).to_string();
    let decision =
        service(Manners::default()).decide(Hook::Validate, &Review::parse(body.as_bytes()).unwrap()).unwrap();
    assert!(decision.answer.warnings[0].contains("no namespace has team=a"), "{:?}", decision.answer.warnings);
}

fn update(object: Value, old: Value) -> Decision {
    let body = super::review("UPDATE", Some(object), Some(old)).to_string();
    service(Manners::default()).decide(Hook::Validate, &Review::parse(body.as_bytes()).unwrap()).unwrap()
}

#[test]
fn an_annotation_that_keeps_rules_from_speaking_is_told_when_it_comes_and_nothing_else_is_judged() {
    let plain = super::policy(json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}], "egress": [{}]}));
    let mut annotated = plain.clone();
    annotated["metadata"]["annotations"] = json!({"ringfence.dev/allow": "rule-allows-all"});
    let told = update(annotated.clone(), plain);
    assert_eq!(told.verdict, Verdict::Allowed, "its rules are ignored, as they were before");
    let [warning] = &told.answer.warnings[..] else { panic!("{:?}", told.answer.warnings) };
    assert!(warning.starts_with("[allowed-by-annotation] metadata.annotations"), "{warning}");

    let mut other = annotated.clone();
    other["metadata"]["annotations"]["team"] = json!("a");
    assert_eq!(update(other, annotated).answer.warnings, Vec::<String>::new(), "told once");
}

#[test]
fn a_namespace_that_is_relabelled_into_what_others_admit_is_told() {
    let namespace = |team: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "lab", "labels": {"team": team}}});
    let from = json!([{"namespaceSelector": {"matchLabels": {"team": "shop"}}}]);
    let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "db", "namespace": "shop"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"from": from}]}});
    let service = service(Manners::default());
    service.view().take(Reading::Events(vec![object(&policy, &Settings::default()).unwrap().value]));
    let kind = json!({"group": "", "version": "v1", "kind": "Namespace"});
    let asked = Asked { kind, old: Some(namespace("lab")), ..pod("lab") };
    let told = decided(&service, Hook::Validate, &asked, namespace("shop"));
    assert_eq!(told.verdict, Verdict::Allowed);
    assert!(told.answer.warnings[0].contains("that shop/db admits"), "{:?}", told.answer.warnings);
}

#[test]
fn the_webhook_knows_the_services_and_whom_api_servers_call() {
    let service = service(Manners::default());
    let hook = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "hook", "namespace": "shop", "labels": {"app": "hook"}}});
    let mut events = vec![object(&hook, &Settings::default()).unwrap().value];
    for one in [
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hook", "namespace": "shop"},
            "spec": {"selector": {"app": "hook"}, "ports": [{"port": 443, "targetPort": 9443}]}}),
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "h"}, "webhooks": [{"clientConfig": {"service": {"namespace": "shop", "name": "hook"}}}]}),
    ] {
        events.push(Event::Around(around(&one, &Settings::default()).unwrap()));
    }
    service.view().take(Reading::Events(events));
    let spec = json!({"podSelector": {"matchLabels": {"app": "hook"}}, "policyTypes": ["Ingress"],
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "hook"}}}], "ports": [{"port": 443}]}]});
    let body = super::review("CREATE", Some(super::policy(spec)), None).to_string();
    let told = service.decide(Hook::Validate, &Review::parse(body.as_bytes()).unwrap()).unwrap();
    let rules: Vec<&str> = told.rules.keys().map(|(rule, _)| *rule).collect();
    assert!(rules.contains(&"service-port") && rules.contains(&"cuts-api-server"), "{rules:?}");
}
