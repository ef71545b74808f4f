//! EndpointSlices of the cluster's resolver; others are nobody's concern.
//!
//! `Value -> Slice`. What cannot be read is left out: that closes.

use super::cidr;
use crate::policy::{
    model::{Key, Name, Protocol},
    resolver::{NAMESPACE, SERVICE, Slice},
};
use serde_json::Value;
use std::net::IpAddr;

/// What a slice of the resolver's namespace says: nothing, if it is not the resolver's (any more). `None` for slices elsewhere.
pub(super) fn of_resolver(key: &Key, object: &Value) -> Option<Option<Slice>> {
    let is_its = object["metadata"]["labels"]["kubernetes.io/service-name"] == SERVICE;
    (key.namespace.as_ref() == NAMESPACE && !key.name.is_empty()).then(|| is_its.then(|| read(object)))
}

fn read(object: &Value) -> Slice {
    let mut slice = Slice { ports: items(&object["ports"]).filter_map(port).collect(), ..Slice::default() };
    for endpoint in items(&object["endpoints"]) {
        let pod = pod(&endpoint["targetRef"]);
        let addresses = items(&endpoint["addresses"]).filter_map(Value::as_str);
        let addresses = addresses.filter_map(cidr::address).filter(is_plain);
        slice.addresses.extend(addresses.map(|address| (address, pod.clone())));
    }
    slice
}

/// The pod that an endpoint is, if it is one that stands where the slice does.
fn pod(target: &Value) -> Option<Name> {
    let namespace = target["namespace"].as_str().unwrap_or(NAMESPACE);
    (target["kind"] == "Pod" && namespace == NAMESPACE).then(|| target["name"].as_str().map(Name::from))?
}

/// Those that an API server takes (ValidateEndpointIP of Kubernetes): nobody else is reached at the others.
fn is_plain(address: &IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !link_local && !address.is_unspecified() && !address.is_loopback() && !address.is_multicast()
}

fn port(port: &Value) -> Option<(Protocol, u16)> {
    let number = port["port"].as_u64().and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0)?;
    let protocol = port["protocol"].as_str().map_or(Some(Protocol::Tcp), |text| text.parse().ok())?;
    Some((protocol, number))
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn slice(name: &str, service: &str, namespace: &str) -> Value {
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": name, "namespace": namespace, "labels": {"kubernetes.io/service-name": service}},
            "endpoints": [
                {"addresses": ["10.0.0.1"], "targetRef": {"kind": "Pod", "name": "a", "namespace": "kube-system"}},
                {"addresses": ["192.0.2.7"], "conditions": {"ready": false}, "nodeName": "n1"},
            ],
            "ports": [{"name": "dns", "port": 5353, "protocol": "UDP"}, {"name": "tcp", "port": 5353}, {"port": null}, {"port": 0}]})
    }

    #[test]
    fn a_slice_of_the_resolver_is_read_ready_or_not() {
        let key = Key::new("kube-system", "s");
        let read = of_resolver(&key, &slice("s", "kube-dns", "kube-system")).flatten().expect("its");
        let addresses = [("10.0.0.1", Some("a")), ("192.0.2.7", None)];
        let addresses = addresses.map(|(address, pod)| (address.parse().unwrap(), pod.map(Name::from)));
        assert_eq!(
            read,
            Slice { addresses: addresses.into(), ports: [(Protocol::Udp, 5353), (Protocol::Tcp, 5353)].into() }
        );
    }

    #[test]
    fn a_slice_of_another_service_is_nothing_and_one_of_another_namespace_is_not_looked_at() {
        let other = of_resolver(&Key::new("kube-system", "s"), &slice("s", "metrics-server", "kube-system"));
        assert_eq!(other, Some(None));
        assert_eq!(of_resolver(&Key::new("shop", "s"), &slice("s", "kube-dns", "shop")), None);
    }

    #[test]
    fn addresses_at_which_nobody_else_is_reached_are_left_out() {
        for address in [
            "127.0.0.1",
            "::1",
            "169.254.20.10",
            "fe80::1",
            "224.0.0.251",
            "ff02::fb",
            "0.0.0.0",
            "::",
            "dns.example",
            "10.0.0.1/32",
        ] {
            let object = json!({"endpoints": [{"addresses": [address]}]});
            assert_eq!(read(&object).addresses.len(), 0, "{address}");
        }
        let object = json!({"endpoints": [{"addresses": ["2001:db8::1", "::ffff:192.0.2.1"]}]});
        assert_eq!(read(&object).addresses.len(), 2);
    }
}
