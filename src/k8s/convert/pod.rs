//! Pods, and the pods that templates of workloads will make.

use super::{
    cidr, metadata,
    reader::{Reader, cut},
};
use crate::{
    finding::{FieldPath, place::Place},
    policy::model::{Name, NamedPort, Pod, Protocol, Uid},
};
use serde_json::Value;
use std::net::IpAddr;

/// The template of a kind of workload, and where it stands.
pub(super) fn template<'a>(kind: &str, object: &'a Value) -> Option<(&'a Value, FieldPath)> {
    let fields: &[&str] = match kind {
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "Job" => &["spec", "template"],
        "CronJob" => &["spec", "jobTemplate", "spec", "template"],
        _ => return None,
    };
    let template = fields.iter().fold(object, |value, field| &value[*field]);
    let path = fields.iter().fold(FieldPath::root(), |path, field| path.field(*field));
    template.is_object().then_some((template, path))
}

/// A pod, or the template of one (which has no status), that stands at this path of its object. What decides whether a
/// policy selects it is looked at closely: a label that is left out would open the pod.
pub(super) fn read(reader: &mut Reader, object: &Value, path: &Place<'_>) -> Pod {
    let (spec, status) = (&object["spec"], &object["status"]);
    let labels = metadata::labels(reader, &object["metadata"], &path.field("metadata"));
    let sidecars = items(&spec["initContainers"]).filter(|container| container["restartPolicy"] == "Always");
    let containers = items(&spec["containers"]).chain(sidecars);
    let host_network = &spec["hostNetwork"];
    if !host_network.is_boolean() && !host_network.is_null() {
        let spec = path.field("spec");
        reader.wrong_type(
            host_network,
            &spec.field("hostNetwork"),
            "true or false",
            "write hostNetwork: true, or leave it out",
        );
    }
    Pod {
        labels,
        node: spec["nodeName"].as_str().filter(|name| !name.is_empty()).map(Name::from),
        addresses: addresses(reader, status, &path.field("status")),
        ports: containers.flat_map(|container| items(&container["ports"])).filter_map(named_port).collect(),
        host_network: *host_network == true,
        finished: matches!(status["phase"].as_str(), Some("Succeeded" | "Failed")),
        uid: uid(&object["metadata"]),
    }
}

/// A container runtime knows a static pod by the hash of its manifest, and the pod that the API shows is only its mirror.
fn uid(metadata: &Value) -> Option<Uid> {
    let hash = &metadata["annotations"]["kubernetes.io/config.hash"];
    hash.as_str().or(metadata["uid"].as_str())?.parse().ok()
}

/// `podIPs`, and `podIP` for objects that have only that.
fn addresses(reader: &mut Reader, status: &Value, path: &Place<'_>) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    let mut take = |value: &Value, path: &Place<'_>| {
        let Some(text) = reader.string(value, path).filter(|text| !text.is_empty()) else { return };
        match cidr::address(text) {
            Some(address) if addresses.contains(&address) => {}
            Some(address) => addresses.push(address),
            None => {
                let message = format!("{} is no address", cut(text));
                reader.refuse("invalid-address", path, message, "write an address: 10.9.8.7 or 2001:db8::7");
            }
        }
    };
    let list = path.field("podIPs");
    for (at, entry) in items(&status["podIPs"]).enumerate() {
        take(&entry["ip"], &list.index(at).field("ip"));
    }
    take(&status["podIP"], &path.field("podIP"));
    addresses
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
