//! A cluster written out as an API server has it, with everything that nobody here asks for.

use ringfence::policy::{
    cluster::Cluster,
    mode,
    model::{Key, Labels, Name, NetworkPolicy, Peer, Pod, PortMatch, PortSpec, Rule},
    resolver::{self, Slice},
    selector::{Selector, Test},
    service::Service,
};
use serde_json::{Value, json};
use std::net::IpAddr;

fn labels(labels: &Labels) -> Value {
    labels.iter().map(|(key, value)| (key.to_string(), Value::from(value.as_ref()))).collect()
}

/// Metadata with what servers add to it.
fn metadata(namespace: Option<&str>, name: &str) -> Value {
    let manager = json!({"manager": "kubelet", "operation": "Update", "time": "2026-01-01T00:00:00Z",
        "fieldsV1": {"f:metadata": {"f:labels": {".": {}, "f:app": {}}}, "f:status": {"f:podIPs": {}}}});
    let mut metadata = json!({"name": name, "uid": format!("uid-of-{name}"), "generation": 3,
        "creationTimestamp": "2026-01-01T00:00:00Z", "annotations": {"a/b": "c"}, "managedFields": [manager]});
    if let Some(namespace) = namespace {
        metadata["namespace"] = namespace.into();
    }
    metadata
}

fn text(value: &impl ToString) -> Value {
    value.to_string().into()
}

fn texts(values: &[impl ToString]) -> Value {
    values.iter().map(text).collect()
}

fn selector(selector: &Selector) -> Value {
    let expressions: Vec<Value> = selector
        .requirements()
        .map(|requirement| {
            let (operator, values) = match &requirement.test {
                Test::In(values) => ("In", Some(values)),
                Test::NotIn(values) => ("NotIn", Some(values)),
                Test::Exists => ("Exists", None),
                Test::DoesNotExist => ("DoesNotExist", None),
            };
            let mut expression = json!({"key": requirement.key.as_ref(), "operator": operator});
            if let Some(values) = values {
                expression["values"] = values.iter().map(|value| value.as_ref()).collect();
            }
            expression
        })
        .collect();
    json!({"matchExpressions": expressions})
}

fn rule(rule: &Rule, peers: &str) -> Value {
    let all: Vec<Value> = rule
        .peers
        .iter()
        .map(|peer| match peer {
            Peer::Pods { namespaces: None, pods } => json!({"podSelector": selector(pods)}),
            Peer::Pods { namespaces: Some(namespaces), pods } => {
                json!({"namespaceSelector": selector(namespaces), "podSelector": selector(pods)})
            }
            Peer::Block(block) => json!({"ipBlock": {"cidr": text(&block.cidr), "except": texts(&block.except)}}),
        })
        .collect();
    let ports: Vec<Value> = rule
        .ports
        .iter()
        .map(|PortMatch { protocol, port }| {
            let mut written = json!({"protocol": protocol.as_str()});
            match port {
                all if *all == PortSpec::ALL => {}
                PortSpec::Range(from, to) => (written["port"], written["endPort"]) = ((*from).into(), (*to).into()),
                PortSpec::Named(name) => written["port"] = name.as_ref().into(),
            }
            written
        })
        .collect();
    json!({peers: all, "ports": ports})
}

fn policy(key: &Key, policy: &NetworkPolicy) -> Value {
    let mut spec = json!({"podSelector": selector(&policy.selector), "policyTypes": []});
    for (rules, types, field, peers) in
        [(&policy.ingress, "Ingress", "ingress", "from"), (&policy.egress, "Egress", "egress", "to")]
    {
        let Some(rules) = rules else { continue };
        spec[field] = rules.iter().map(|one| rule(one, peers)).collect();
        spec["policyTypes"].as_array_mut().unwrap().push(types.into());
    }
    let mut head = metadata(Some(&key.namespace), &key.name);
    if let Some(mode) = policy.mode {
        head["annotations"][mode::NAME] = mode.as_str().into();
    }
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": head, "spec": spec})
}

/// A pod with the bulk of a real one.
pub(crate) fn pod(key: &Key, pod: &Pod) -> Value {
    let ports: Vec<Value> = pod
        .ports
        .iter()
        .map(|port| {
            json!({"name": port.name.as_ref(), "protocol": port.protocol.as_str(), "containerPort": port.number,
                "hostPort": 0})
        })
        .collect();
    let mut head = metadata(Some(&key.namespace), &key.name);
    head["labels"] = labels(&pod.labels);
    if let Some(uid) = pod.uid {
        head["uid"] = format!("{:032x}", uid.0).into();
    }
    head["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u"}]);
    let environment: Vec<Value> =
        (0..20).map(|n| json!({"name": format!("VARIABLE_{n}"), "value": "a value of some length"})).collect();
    let mut spec = json!({"containers": [{"name": "main", "image": "registry.example/shop/web:1.2.3", "ports": ports,
            "env": environment, "resources": {"requests": {"cpu": "100m"}},
            "volumeMounts": [{"name": "kube-api-access", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}]}],
        "initContainers": [{"name": "once", "ports": [{"name": "never", "containerPort": 9}]}],
        "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}],
        "serviceAccountName": "default", "schedulerName": "default-scheduler"});
    if let Some(node) = &pod.node {
        spec["nodeName"] = node.as_ref().into();
    }
    if pod.host_network {
        spec["hostNetwork"] = true.into();
    }
    let addresses: Vec<Value> = pod.addresses.iter().map(|address| json!({"ip": address})).collect();
    let conditions: Vec<Value> = ["Initialized", "Ready", "ContainersReady", "PodScheduled"]
        .map(|name| json!({"type": name, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}))
        .to_vec();
    let mut status = json!({"phase": if pod.finished { "Succeeded" } else { "Running" }, "conditions": conditions,
        "qosClass": "Burstable", "containerStatuses": [{"name": "main", "imageID": "sha256:0123456789abcdef",
            "containerID": "containerd://0123456789abcdef0123456789abcdef", "ready": true}]});
    if !addresses.is_empty() {
        status["podIP"] = addresses[0]["ip"].clone();
        status["podIPs"] = addresses.into();
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": head, "spec": spec, "status": status})
}

/// A Service as the policies of its pods are explained by it.
fn service(key: &Key, service: &Service) -> Value {
    let labels = service.selector.requirements().filter_map(|requirement| match &requirement.test {
        Test::In(values) => Some((requirement.key.to_string(), Value::from(values.first()?.as_ref()))),
        _ => None,
    });
    let ports: Vec<Value> = service
        .ports
        .iter()
        .map(|port| {
            let target = match &port.target {
                PortSpec::Range(number, _) => Value::from(*number),
                PortSpec::Named(name) => name.as_ref().into(),
            };
            json!({"protocol": port.protocol.as_str(), "port": port.port, "targetPort": target})
        })
        .collect();
    let addresses: Vec<Value> = service.addresses.iter().map(text).collect();
    json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata(Some(&key.namespace), &key.name),
        "spec": {"selector": labels.collect::<Value>(), "ports": ports, "clusterIPs": addresses, "type": "ClusterIP"}})
}

/// A slice of the resolver, as the controller of EndpointSlices writes it.
pub(crate) fn slice(key: &Key, slice: &Slice) -> Value {
    let endpoint = |(address, pod): (&IpAddr, &Option<Name>)| {
        let mut written = json!({"addresses": [address], "conditions": {"ready": true, "serving": true},
            "nodeName": "n1", "zone": "a", "hints": {"forZones": [{"name": "a"}]}});
        if let Some(pod) = pod {
            written["targetRef"] =
                json!({"kind": "Pod", "namespace": key.namespace.as_ref(), "name": pod.as_ref(), "uid": "u"});
        }
        written
    };
    let ports = slice.ports.iter().map(|(protocol, port)| {
        json!({"name": format!("{protocol}-{port}").to_lowercase(), "protocol": protocol.as_str(), "port": port})
    });
    let mut head = metadata(Some(&key.namespace), &key.name);
    head["labels"] = json!({"kubernetes.io/service-name": resolver::SERVICE, "k8s-app": "kube-dns"});
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": head, "addressType": "IPv4",
        "endpoints": slice.addresses.iter().map(endpoint).collect::<Value>(), "ports": ports.collect::<Value>()})
}

/// Every object of a cluster.
pub(crate) fn objects(cluster: &Cluster) -> Vec<Value> {
    let mut objects = Vec::new();
    for (name, namespace) in &cluster.namespaces {
        let mut head = metadata(None, name);
        head["labels"] = labels(&namespace.labels);
        objects.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": head,
            "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}));
    }
    for (name, node) in &cluster.nodes {
        let addresses: Vec<Value> = node
            .addresses
            .iter()
            .map(|address| json!({"type": "InternalIP", "address": address}))
            .chain([json!({"type": "Hostname", "address": name.as_ref()})])
            .collect();
        objects.push(json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata(None, name),
            "spec": {"podCIDRs": texts(&node.pod_ranges), "providerID": "x"},
            "status": {"addresses": addresses, "images": [{"names": ["a"], "sizeBytes": 1}]}}));
    }
    objects.extend(cluster.pods.iter().map(|(key, one)| pod(key, one)));
    objects.extend(cluster.resolver.slices().iter().map(|(key, one)| slice(key, one)));
    objects.extend(cluster.around.services.iter().map(|(key, one)| service(key, one)));
    objects.extend(cluster.policies.iter().map(|(key, one)| policy(key, one)));
    objects
}
