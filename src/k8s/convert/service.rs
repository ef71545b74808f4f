//! What stands around policies: Services, workloads' own labels, and the Services that API servers call.
//!
//! `Value -> Fact`. What cannot be read is left out: nothing is enforced by it.

use super::{cidr, metadata, pod};
use crate::policy::{
    model::{Key, Labels, Name, PortSpec, Protocol},
    service::{Fact, Service, ServicePort},
};
use serde_json::Value;

/// What an object says, if it is of a kind that stands around policies.
pub(super) fn read(object: &Value, default: &Name) -> Option<Fact> {
    let namespace = object["metadata"]["namespace"].as_str().filter(|text| !text.is_empty());
    let namespace = namespace.map_or_else(|| default.clone(), Name::from);
    let name = metadata::name_of(object).unwrap_or_default();
    let kind = object["kind"].as_str().unwrap_or_default();
    Some(match (super::group(object), kind) {
        ("", "Service") => Fact::Service(Key::new(namespace, name), Some(service(object))),
        ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration") => {
            let services = items(&object["webhooks"]).map(|webhook| &webhook["clientConfig"]["service"]);
            caller(kind, name, services)
        }
        ("apiregistration.k8s.io", "APIService") => caller(kind, name, [&object["spec"]["service"]].into_iter()),
        ("apps" | "batch", kind) if pod::template(kind, object).is_some() => {
            let labels = object["metadata"]["labels"].as_object().into_iter().flatten();
            let labels: Labels = labels.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?))).collect();
            Fact::Workload(Key::new(namespace, format!("{}/{name}", kind.to_lowercase())), Some(labels))
        }
        _ => return None,
    })
}

fn caller<'a>(kind: &str, name: &str, services: impl Iterator<Item = &'a Value>) -> Fact {
    let key = |service: &Value| Some(Key::new(service["namespace"].as_str()?, service["name"].as_str()?));
    Fact::Caller(format!("{kind} {name}").into(), Some(services.filter_map(key).collect()))
}

fn service(object: &Value) -> Service {
    let spec = &object["spec"];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let selector = spec["selector"].as_object().into_iter().flatten();
    let addresses = items(&spec["clusterIPs"]).chain([&spec["clusterIP"]]).filter_map(Value::as_str);
    let balancers = items(&object["status"]["loadBalancer"]["ingress"]).map(|entry| &entry["ip"]);
    let external = items(&spec["externalIPs"]).chain([&spec["loadBalancerIP"]]).chain(balancers);
    Service {
        selector: Service::selecting(selector.filter_map(|(key, value)| Some((key.clone(), text(value)?)))),
        ports: items(&spec["ports"]).filter_map(port).collect(),
        addresses: addresses.filter_map(cidr::address).collect(),
        external: external.filter_map(Value::as_str).filter_map(cidr::address).collect(),
        hides_clients: matches!(spec["type"].as_str(), Some("NodePort" | "LoadBalancer"))
            && spec["externalTrafficPolicy"] != "Local",
    }
}

fn port(value: &Value) -> Option<ServicePort> {
    let number = |value: &Value| value.as_u64().and_then(|number| u16::try_from(number).ok());
    let port = number(&value["port"])?;
    let target = match &value["targetPort"] {
        Value::Null => PortSpec::Range(port, port),
        Value::String(name) => PortSpec::Named(name.as_str().into()),
        other => number(other).map(|number| PortSpec::Range(number, number))?,
    };
    let protocol = value["protocol"].as_str().map_or(Some(Protocol::Tcp), |text| text.parse().ok())?;
    Some(ServicePort { protocol, port, target })
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
