//! What is read and what is found, by kind.

use super::*;
use crate::{
    finding::Severity,
    policy::{
        mode::Mode,
        model::{Labels, Peer, PortMatch, PortSpec, Protocol, Rule},
        selector::{Requirement, Selector},
    },
};
use proptest::prelude::*;
use serde_json::json;

fn policy(spec: Value) -> Converted<NetworkPolicy> {
    network_policy(&json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "web"}, "spec": spec
    }))
}

fn sound(spec: Value) -> NetworkPolicy {
    let Converted { value, findings } = policy(spec);
    assert_eq!(findings, vec![]);
    value
}

/// Rule and path of every finding.
fn found(spec: Value) -> Vec<(&'static str, String)> {
    policy(spec).findings.into_iter().map(|f| (f.rule, f.path.to_string())).collect()
}

fn closed() -> NetworkPolicy {
    NetworkPolicy { ingress: Some(vec![]), egress: Some(vec![]), ..NetworkPolicy::default() }
}

#[test]
fn a_policy_in_audit_says_so_and_a_word_that_means_nothing_enforces_it() {
    let of = |annotations: Value| {
        let object = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": "p", "namespace": "x", "annotations": annotations}, "spec": {"podSelector": {}}});
        network_policy(&object).value.mode
    };
    assert_eq!(of(json!({"ringfence.dev/mode": "audit"})), Some(Mode::Audit));
    assert_eq!(of(json!({"ringfence.dev/mode": "off"})), Some(Mode::Enforce));
    assert_eq!(of(json!({"other": "audit"})), None);
    assert_eq!(of(Value::Null), None);
}

#[test]
fn policy_types_that_are_absent_follow_the_rules() {
    assert_eq!(sound(json!({"podSelector": {}})), NetworkPolicy { egress: None, ..closed() });
    assert_eq!(sound(json!({"egress": []})).egress, None);
    let both = sound(json!({"egress": [{}]}));
    assert_eq!((both.ingress, both.egress), (Some(vec![]), Some(vec![Rule::default()])));
    assert_eq!(sound(json!({"policyTypes": ["Egress"], "ingress": [{}]})), NetworkPolicy { ingress: None, ..closed() });
    assert_eq!(sound(Value::Null), NetworkPolicy { egress: None, ..closed() });
}

#[test]
fn a_rule_is_read_whole() {
    let read = sound(json!({
        "podSelector": {"matchLabels": {"app": "db"}},
        "ingress": [{
            "from": [
                {"podSelector": {"matchLabels": {"app": "api"}}},
                {"namespaceSelector": {}},
                {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}
            ],
            "ports": [{"port": 3306}, {"port": "sql", "protocol": "UDP"}, {"port": 80, "endPort": 90}, {}]
        }]
    }));
    let app = |name: &str| Selector::from_iter([Requirement::equals("app", name)]);
    let tcp = |port| PortMatch { protocol: Protocol::Tcp, port };
    assert_eq!(read.selector, app("db"));
    let rule = &read.ingress.expect("isolated")[0];
    assert_eq!(
        rule.peers[..2],
        [
            Peer::Pods { namespaces: None, pods: app("api") },
            Peer::Pods { namespaces: Some(Selector::everything()), pods: Selector::everything() },
        ]
    );
    assert!(matches!(&rule.peers[2], Peer::Block(block) if block.except.len() == 1));
    assert_eq!(
        rule.ports,
        [
            tcp(PortSpec::Range(3306, 3306)),
            PortMatch { protocol: Protocol::Udp, port: PortSpec::Named("sql".into()) },
            tcp(PortSpec::Range(80, 90)),
            tcp(PortSpec::ALL),
        ]
    );
}

#[test]
fn the_colon_behind_ingress_is_told_in_words() {
    let Converted { value, findings } = policy(json!({"podSelector": {}, "policyTypes": [{"Ingress": null}]}));
    let [finding] = &findings[..] else { panic!("{findings:?}") };
    assert_eq!((finding.rule, finding.severity, finding.server), ("policy-types-mapping", Severity::Error, true));
    assert_eq!(finding.path.to_string(), "spec.policyTypes[0]");
    assert_eq!(finding.help, "write `- Ingress`, without the colon");
    assert_eq!(value, closed());
}

#[test]
fn an_unreadable_pod_selector_selects_the_whole_namespace() {
    for selector in [
        json!([]),
        json!("web"),
        json!({"app": "web"}),
        json!({"matchLabels": {"app": 1}}),
        json!({"matchLabels": {"app": "my app"}}),
    ] {
        let Converted { value, findings } = policy(json!({"podSelector": selector}));
        assert_eq!(findings.len(), 1, "{selector}");
        assert!(value.selector.is_empty());
    }
}

#[test]
fn an_unreadable_rule_admits_nothing_and_the_others_stay() {
    for rule in [
        json!({"form": [{"podSelector": {}}]}),
        json!({"from": {"podSelector": {}}}),
        json!({"from": [{}]}),
        json!({"from": [{"podSelector": {"app": "web"}}, {"podSelector": {}}]}),
        json!({"from": [{"ipBlock": {"cidr": "10.0.0.0"}}]}),
        json!({"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["all"]}}]}),
        json!({"ports": [80]}),
        json!({"ports": [{"port": "80"}, {"port": 81}]}),
        json!({"ports": 80}),
        json!("all"),
    ] {
        let Converted { value, findings } = policy(json!({"ingress": [rule, {"ports": [{"port": 81}]}]}));
        assert!(findings.iter().all(|f| f.server) && !findings.is_empty(), "{rule}");
        assert_eq!(value.ingress.expect("isolated").len(), 1, "{rule}");
    }
}

#[test]
fn what_cannot_be_read_isolates_in_both_directions() {
    for spec in [
        json!({"policyTypes": ["ingress"]}),
        json!({"policyTypes": "Ingress"}),
        json!({"policyTypes": {"Ingress": null}}),
        json!({"policyTypes": [null]}),
        json!({"policytypes": ["Egress"]}),
        json!({"egres": []}),
        json!({"egress": {"to": []}}),
        json!([]),
    ] {
        assert_eq!(policy(spec.clone()).value, closed(), "{spec}");
    }
    assert_eq!(network_policy(&json!([1])).value, closed());
}

#[test]
fn a_range_that_older_servers_took_keeps_its_meaning() {
    let Converted { value, findings } = policy(json!({"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.1/8"}}]}]}));
    assert_eq!(findings[0].rule, "cidr-host-bits");
    assert_eq!(value.egress.expect("isolated").len(), 1);
}

#[test]
fn findings_say_where() {
    assert_eq!(
        found(json!({"ingress": [{"ports": [{"port": 90, "endPort": 80}, {"protocol": "tcp"}]}]})),
        [
            ("end-port-below-port", "spec.ingress[0].ports[0].endPort".to_owned()),
            ("invalid-protocol", "spec.ingress[0].ports[1].protocol".to_owned()),
        ]
    );
    assert_eq!(
        found(json!({"podSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}})),
        [("selector-values-missing", "spec.podSelector.matchExpressions[0].values".to_owned())]
    );
}

#[test]
fn help_is_the_text_to_write() {
    let help = |spec: Value| policy(spec).findings.remove(0).help;
    assert_eq!(help(json!({"policyTypes": ["ingress"]})), "write Ingress");
    assert_eq!(help(json!({"ingress": [{"ports": [{"protocol": "tcp"}]}]})), "write TCP, in capitals");
    assert_eq!(help(json!({"ingres": []})), "write ingress");
    assert!(help(json!({"podSelector": {"role": "web"}})).contains("matchLabels: {role: \"web\"}"));
    assert!(help(json!({"ingress": [{"ports": [{"port": "80"}]}]})).contains("port: 80, without quotes"));
    assert!(
        help(json!({"ingress": [{"from": [{"podSelector": null, "matchLabels": {}}]}]})).contains("indent matchLabels")
    );
    assert!(help(json!({"podSelector": {"matchLabels": {"on": true}}})).contains("quote it: \"true\""));
    assert!(help(json!({"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.1"}}]}]})).contains("10.0.0.1/32"));
}

#[test]
fn a_pod_has_the_names_of_its_ports_and_its_sidecars_and_addresses_of_both_families() {
    let pod = |object: &Value| super::pod(object).value;
    let read = pod(&json!({
        "metadata": {"name": "web", "labels": {"app": "web", "version": "1"}},
        "spec": {
            "nodeName": "node1",
            "containers": [{"ports": [{"name": "http", "containerPort": 8080}, {"containerPort": 1}]}],
            "initContainers": [
                {"restartPolicy": "Always", "ports": [{"name": "dns", "containerPort": 53, "protocol": "UDP"}]},
                {"ports": [{"name": "once", "containerPort": 2}]}
            ]
        },
        "status": {"podIP": "10.0.0.1", "podIPs": [{"ip": "::ffff:10.0.0.1"}, {"ip": "fd00::1"}], "phase": "Running"}
    }));
    assert_eq!(read.labels, Labels::from_iter([("app", "web"), ("version", "1")]));
    assert_eq!(read.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.1", "fd00::1"]);
    assert_eq!(read.named_ports("http", Protocol::Tcp).collect::<Vec<_>>(), [8080]);
    assert_eq!(read.named_ports("dns", Protocol::Udp).collect::<Vec<_>>(), [53]);
    assert_eq!(read.ports.len(), 2);
    assert!(read.is_endpoint());
    assert!(!pod(&json!({"spec": {"hostNetwork": true}})).is_endpoint());
    assert!(pod(&json!({"status": {"phase": "Failed"}})).finished);
    assert_eq!(pod(&json!({"status": {"podIP": "10.0.0.1"}})).addresses.len(), 1);
}

#[test]
fn what_may_hide_a_pod_from_its_policy_is_found() {
    let findings = pod(&json!({
        "metadata": {"name": true, "labels": {"version": 1}}, "spec": {"hostNetwork": "yes"}, "status": {"podIP": "10.0.0.300"}
    }));
    let found: Vec<_> = findings.findings.iter().map(|f| (f.rule, f.path.to_string())).collect();
    assert_eq!(
        found,
        [
            ("wrong-type", "metadata.name".to_owned()),
            ("wrong-type", "metadata.labels.version".to_owned()),
            ("wrong-type", "spec.hostNetwork".to_owned()),
            ("invalid-address", "status.podIP".to_owned()),
        ]
    );
}

#[test]
fn templates_are_pods_where_they_are_wanted() {
    let labels = json!({"metadata": {"labels": {"app": "web"}}, "spec": {}});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"template": labels}});
    let cron = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"jobTemplate": {"spec": {"template": labels}}}});
    assert_eq!(object(&deployment, &Settings::default()), None);
    let settings = Settings { templates: true, ..Settings::default() };
    let key = |value: &Value| match object(value, &settings).expect("a pod").value {
        Event::Pod(key, Some(pod)) if pod.labels.get("app").is_some() => key.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!((key(&deployment).as_str(), key(&cron).as_str()), ("default/deployment/web", "shop/cronjob/web"));
}

#[test]
fn a_namespace_is_older_than_what_was_made_after_it_and_says_when_it_goes() {
    let made = |time: &str| json!({"metadata": {"name": "shop", "creationTimestamp": time}});
    let since = created(&made("2026-11-24T10:00:00Z"));
    assert_eq!(since, Some(1_795_514_400));
    for (time, older) in [("2026-11-24T09:59:59Z", true), ("2026-11-24T10:00:00Z", false), ("yesterday", false)] {
        assert_eq!(namespace(&made(time), since).value.older, older, "{time}");
        assert!(!namespace(&made(time), None).value.older);
    }
    let going = json!({"metadata": {"name": "shop", "deletionTimestamp": "2026-11-24T10:00:00Z"}});
    assert!(namespace(&going, None).value.terminating);
}

#[test]
fn a_namespace_has_its_name_among_its_labels() {
    let read = namespace(&json!({"metadata": {"name": "shop", "labels": {"team": "a"}}}), None).value;
    assert_eq!(read.labels, Labels::from_iter([("team", "a"), ("kubernetes.io/metadata.name", "shop")]));
}

#[test]
fn a_node_has_addresses_and_ranges() {
    let read = node(&json!({
        "spec": {"podCIDR": "10.1.0.0/24"},
        "status": {"addresses": [{"type": "Hostname", "address": "node1"}, {"type": "InternalIP", "address": "192.0.2.1"}]}
    }));
    assert_eq!((read.addresses.len(), read.pod_ranges.len()), (1, 1));
}

#[test]
fn a_static_pod_has_the_uid_that_its_node_knows_it_by() {
    let uid = "6f2b1c9e-1d2f-4a3b-8c4d-5e6f7a8b9c0d";
    let hash = "0123456789abcdef0123456789abcdef";
    let of = |metadata: Value| pod(&json!({"metadata": metadata})).value.uid;
    assert_eq!(of(json!({"uid": uid})), uid.parse().ok());
    assert_eq!(of(json!({"uid": uid, "annotations": {"kubernetes.io/config.hash": hash}})), hash.parse().ok());
    assert_eq!((of(json!({"uid": "x"})), of(json!({}))), (None, None));
}

#[test]
fn network_policies_of_other_projects_are_not_ours() {
    let of = |version: &str, kind: &str| is_network_policy(&json!({"apiVersion": version, "kind": kind}));
    assert!(
        of("networking.k8s.io/v1", "NetworkPolicy")
            && of("extensions/v1beta1", "NetworkPolicy")
            && of("v1", "Networkpolicy")
    );
    assert!(is_network_policy(
        &json!({"apiVersion": "networking.k8s.oi/v1", "kind": "NetworkPolicy", "spec": {"podSelector": {}}})
    ));
    assert!(!of("projectcalico.org/v3", "NetworkPolicy") && !of("networking.k8s.io/v1", "Ingress"));
}

/// JSON that is near enough to a policy to get deep into the code.
fn near_policy() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "podSelector",
        "policyTypes",
        "ingress",
        "egress",
        "from",
        "to",
        "ports",
        "port",
        "endPort",
        "protocol",
        "ipBlock",
        "cidr",
        "except",
        "matchLabels",
        "matchExpressions",
        "key",
        "operator",
        "values",
        "In",
        "Exists",
        "TCP",
        "10.0.0.0/8",
        "Ingress",
        "",
        "\u{1b}\n",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2i64..70_000).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
        "[\n\u{1b}a]{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(8, 64, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec((word.clone(), inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_object_panics_and_messages_have_one_line(spec in near_policy()) {
        let read = policy(spec);
        for finding in &read.findings {
            prop_assert!(!finding.message.is_empty() && !finding.message.contains(char::is_control) && !finding.help.is_empty(), "{finding:?}");
        }
        object(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": read.findings.len()}), &Settings::default());
    }
}
