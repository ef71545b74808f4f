//! Pods, and the pods that templates of workloads will make.

use super::{cidr, metadata};
use crate::policy::model::{Name, NamedPort, Pod, Protocol};
use serde_json::Value;

/// Where the template of a kind of workload stands.
pub(super) fn template<'a>(kind: &str, object: &'a Value) -> Option<&'a Value> {
    let spec = &object["spec"];
    let template = match kind {
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "Job" => &spec["template"],
        "CronJob" => &spec["jobTemplate"]["spec"]["template"],
        _ => return None,
    };
    template.is_object().then_some(template)
}

/// A pod, or the template of one, which has no status.
pub(super) fn read(object: &Value) -> Pod {
    let (spec, status) = (&object["spec"], &object["status"]);
    let mut addresses = Vec::new();
    let listed = items(&status["podIPs"]).filter_map(|entry| entry["ip"].as_str());
    for address in listed.chain(status["podIP"].as_str()).filter_map(cidr::address) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    let sidecars = items(&spec["initContainers"]).filter(|container| container["restartPolicy"] == "Always");
    let containers = items(&spec["containers"]).chain(sidecars);
    Pod {
        labels: metadata::labels(&object["metadata"]),
        node: spec["nodeName"].as_str().filter(|name| !name.is_empty()).map(Name::from),
        addresses,
        ports: containers.flat_map(|container| items(&container["ports"])).filter_map(named_port).collect(),
        host_network: spec["hostNetwork"] == true,
        finished: matches!(status["phase"].as_str(), Some("Succeeded" | "Failed")),
    }
}

fn named_port(port: &Value) -> Option<NamedPort> {
    let name = port["name"].as_str().filter(|name| !name.is_empty())?;
    let protocol = match &port["protocol"] {
        Value::Null => Protocol::Tcp,
        other => other.as_str()?.parse().ok()?,
    };
    let number = port["containerPort"].as_u64().and_then(|number| u16::try_from(number).ok())?;
    Some(NamedPort { name: name.into(), protocol, number })
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
