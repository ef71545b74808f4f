//! A cluster that webhooks are measured in, and what they are asked there. The benches use them, too.

use ringfence::policy::{
    baseline::with_name_label,
    cluster::{Cluster, Event},
    model::{Key, Labels, Namespace, NetworkPolicy, Node, Pod, PortSpec, Protocol},
    service::{Fact, Service, ServicePort},
};
use serde_json::{Value, json};
use std::net::Ipv4Addr;

/// A thousand namespaces with ten pods, one policy and one Service each, on a hundred nodes.
pub(crate) fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    for node in 0..100 {
        let (addresses, pod_ranges) =
            (vec![Ipv4Addr::new(192, 168, 0, node).into()], vec![format!("10.0.{node}.0/24").parse().unwrap()]);
        cluster.apply(Event::Node(format!("node-{node}").into(), Some(Node { addresses, pod_ranges })));
    }
    for namespace in 0..1000_u32 {
        let name = format!("team-{namespace}");
        let labels = with_name_label(&name.as_str().into(), Labels::from_iter([("team", "a")]));
        cluster.apply(Event::Namespace(name.as_str().into(), Some(Namespace { labels, ..Namespace::default() })));
        for pod in 0..10 {
            let labels = Labels::from_iter([("app", format!("app-{pod}")), ("pod", format!("{namespace}-{pod}"))]);
            let key = Key::new(name.as_str(), format!("app-{pod}"));
            let place = namespace * 10 + pod;
            let addresses = vec![Ipv4Addr::from(0x0a00_0000 + (place % 100) * 256 + place / 100).into()];
            let node = Some(format!("node-{}", place % 100).into());
            cluster.apply(Event::Pod(key, Some(Pod { labels, addresses, node, ..Pod::default() })));
        }
        let policy = NetworkPolicy { ingress: Some(vec![]), ..NetworkPolicy::default() };
        cluster.apply(Event::Policy(Key::new(name.as_str(), "deny"), Some(policy)));
        let service = Service {
            selector: Service::selecting([("app".to_owned(), "app-1".to_owned())]),
            ports: vec![ServicePort { protocol: Protocol::Tcp, port: 80, target: PortSpec::Range(8080, 8080) }],
            addresses: [Ipv4Addr::from(0x0a60_0000 + namespace).into()].into(),
            ..Service::default()
        };
        cluster.apply(Event::Around(Fact::Service(Key::new(name.as_str(), "app-1"), Some(service))));
    }
    cluster
}

/// The review of a policy of two kilobytes, as people write them and an API server sends it.
pub(crate) fn review() -> Value {
    let rule = |app: usize, port: u16| {
        json!({"from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "team-7"}},
            "podSelector": {"matchLabels": {"app": format!("app-{app}")}}}], "ports": [{"protocol": "TCP", "port": port}]})
    };
    let rules: Vec<Value> = (0..8).map(|n| rule(n, 8000 + u16::try_from(n).unwrap())).collect();
    let object = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "db", "namespace": "team-3"},
        "spec": {"podSelector": {"matchLabels": {"app": "app-1"}}, "policyTypes": ["Ingress"], "ingress": rules}});
    let kind = json!({"group": "networking.k8s.io", "version": "v1", "kind": "NetworkPolicy"});
    let resource = json!({"group": "networking.k8s.io", "version": "v1", "resource": "networkpolicies"});
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "kind": kind, "resource": resource, "requestKind": kind, "requestResource": resource,
        "name": "db", "namespace": "team-3", "operation": "CREATE", "userInfo": {"username": "jane", "groups": ["system:authenticated"]},
        "object": object, "oldObject": null, "dryRun": false, "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"}}})
}
