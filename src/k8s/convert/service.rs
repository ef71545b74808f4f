//! What stands around policies: Services, workloads' own labels, and the Services that API servers call.
//!
//! `Value -> Surroundings`. What cannot be read is left out: nothing is enforced by it.

use super::{cidr, metadata, pod};
use crate::policy::{
    model::{Key, Labels, Name, PortSpec, Protocol},
    service::{Service, ServicePort, Surroundings},
};
use serde_json::Value;

/// Takes an object in, if it is of a kind that stands around policies. Says whether it is.
pub(super) fn take(object: &Value, default: &Name, into: &mut Surroundings) -> bool {
    let namespace = object["metadata"]["namespace"].as_str().filter(|text| !text.is_empty());
    let namespace = namespace.map_or_else(|| default.clone(), Name::from);
    let name = metadata::name_of(object).unwrap_or_default();
    let kind = object["kind"].as_str().unwrap_or_default();
    match (super::group(object), kind) {
        ("", "Service") => {
            into.services.insert(Key::new(namespace, name), service(object));
        }
        ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration") => {
            let services = items(&object["webhooks"]).map(|webhook| &webhook["clientConfig"]["service"]);
            called(services, &format!("{kind} {name}"), into);
        }
        ("apiregistration.k8s.io", "APIService") => {
            called([&object["spec"]["service"]].into_iter(), &format!("{kind} {name}"), into);
        }
        ("apps" | "batch", kind) if pod::template(kind, object).is_some() => {
            let labels = object["metadata"]["labels"].as_object().into_iter().flatten();
            let labels: Labels = labels.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?))).collect();
            into.workloads.insert(Key::new(namespace, format!("{}/{name}", kind.to_lowercase())), labels);
        }
        _ => return false,
    }
    true
}

fn called<'a>(services: impl Iterator<Item = &'a Value>, by: &str, into: &mut Surroundings) {
    for service in services {
        if let (Some(namespace), Some(name)) = (service["namespace"].as_str(), service["name"].as_str()) {
            into.called.insert(Key::new(namespace, name), by.to_owned());
        }
    }
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
