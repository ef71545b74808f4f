//! Raw JSON of the API -> model and findings.
//!
//! `Value -> Converted {value, findings}`, by [`object`] or by kind. Reading never fails: it gives a value and everything
//! for which a kube-apiserver refuses the object. What cannot be read closes: the value then isolates more and admits less
//! than anybody could have meant. What a server lets in and should not be written is the catalogue's (`lint`).

pub mod answer;
mod cidr;
mod metadata;
mod names;
mod peer;
mod pod;
mod policy;
mod port;
mod reader;
mod rules;
mod selector;
mod service;
mod slice;
mod unknown;

pub use rules::RULES;

use crate::{
    finding::{FieldPath, Finding, place::Place, rule::ALLOW},
    policy::{
        baseline,
        cluster::Event,
        model::{Key, Name, Namespace, NetworkPolicy, Node, Pod},
        service::Fact,
    },
};
use serde_json::Value;

/// The rules that speak of a key, not of its value: a report points there.
pub const ABOUT_KEYS: [&str; 4] = ["unknown-field", "invalid-label-key", "duplicate-key", "ignored-rules"];

/// The rules of strict validation, which a server before Kubernetes 1.36 does not have.
pub const STRICT_CIDRS: [&str; 3] = ["cidr-host-bits", "cidr-ipv4-mapped", "cidr-leading-zeros"];

/// The rules that leave an object its one meaning: the rest of it can be judged.
pub const AMBIGUOUS: [&str; 2] = ["cidr-host-bits", "cidr-ipv4-mapped"];

/// What `kubectl apply` was given, as it notes it on the object; older than the object if somebody else changed that.
pub fn last_applied(object: &Value) -> Option<Value> {
    let noted = &object["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"];
    serde_json::from_str(noted.as_str()?).ok()
}

/// A value, and what was wrong with the object that it was read from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Converted<T> {
    /// The value, defaults applied.
    pub value: T,
    /// What is wrong with the object.
    pub findings: Vec<Finding>,
}

impl<T> Converted<T> {
    fn map<U>(self, make: impl FnOnce(T) -> U) -> Converted<U> {
        Converted { value: make(self.value), findings: self.findings }
    }
}

/// What an object does not say itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The namespace of objects that name none.
    pub namespace: Name,
    /// Whether the templates of workloads count as pods.
    pub templates: bool,
    /// Namespaces that were made before are older than what is set for all, in seconds since 1970; `None` = none is.
    pub since: Option<i64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { namespace: "default".into(), templates: false, since: None }
    }
}

/// Reads an object of a kind that matters here, as the event of its being there. `None` for other kinds. An object without
/// a readable name has the empty one, and a finding.
pub fn object(object: &Value, settings: &Settings) -> Option<Converted<Event>> {
    let name = metadata::name_of(object).unwrap_or_default();
    let key = |name: &str| {
        let namespace = object["metadata"]["namespace"].as_str().filter(|text| !text.is_empty());
        Key::new(namespace.map_or_else(|| settings.namespace.clone(), Name::from), name)
    };
    let kind = object["kind"].as_str()?;
    Some(match (group(object), kind) {
        ("", "Namespace") => namespace(object, settings.since).map(|value| Event::Namespace(name.into(), Some(value))),
        ("", "Node") => read(|reader| {
            metadata::check_key(reader, object);
            Event::Node(name.into(), Some(node(object)))
        }),
        ("", "Pod") => pod(object).map(|value| Event::Pod(key(name), Some(value))),
        ("discovery.k8s.io", "EndpointSlice") => {
            let key = key(name);
            let slice = slice::of_resolver(&key, object)?;
            read(|_| Event::Resolver(key, slice))
        }
        ("apps" | "batch" | "extensions", kind) if settings.templates => {
            let (template, path) = pod::template(kind, object)?;
            let name = format!("{}/{name}", kind.to_lowercase());
            read(|reader| {
                metadata::check_key(reader, object);
                Event::Pod(key(&name), Some(pod::read(reader, template, &Place::At(&path))))
            })
        }
        _ if is_network_policy(object) => network_policy(object).map(|value| Event::Policy(key(name), Some(value))),
        _ => return None,
    })
}

/// What an object says that explains policies: a Service, the labels of a workload, what API servers are told to call. `None`
/// for other kinds.
pub fn around(object: &Value, settings: &Settings) -> Option<Fact> {
    service::read(object, &settings.namespace)
}

/// The pod template of a workload, and where it stands.
pub fn template(object: &Value) -> Option<(&Value, FieldPath)> {
    matches!(group(object), "apps" | "batch").then(|| pod::template(object["kind"].as_str()?, object))?
}

/// Whether an object is a NetworkPolicy of Kubernetes or was meant to be one: other projects have kinds of that name in
/// groups of their own.
pub fn is_network_policy(object: &Value) -> bool {
    let kind = object["kind"].as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("NetworkPolicy"));
    let known = matches!(group(object), "" | "networking.k8s.io" | "networking" | "extensions");
    // A group that is misspelt: theirs have no podSelector.
    kind && (known || !object["spec"]["podSelector"].is_null())
}

/// Reads a NetworkPolicy. Findings say what a kube-apiserver refuses; the policy is fail closed where there are some.
pub fn network_policy(object: &Value) -> Converted<NetworkPolicy> {
    read(|reader| policy::read(reader, object))
}

/// Reads a Pod. Findings say which labels and addresses cannot be read: the pod goes without them, and what fences it may
/// not know it, so whoever enforces does not take it.
pub fn pod(object: &Value) -> Converted<Pod> {
    read(|reader| {
        metadata::check_key(reader, object);
        pod::read(reader, object, &Place::Root)
    })
}

/// Reads a Namespace. Its name is among its labels, as every API server writes it there. Findings as of a Pod.
pub fn namespace(object: &Value, since: Option<i64>) -> Converted<Namespace> {
    let name = Name::from(metadata::name_of(object).unwrap_or_default());
    read(|reader| {
        metadata::check_key(reader, object);
        let labels = metadata::labels(reader, &object["metadata"], &Place::Root.field("metadata"));
        let metadata = &object["metadata"];
        Namespace {
            labels: baseline::with_name_label(&name, labels),
            older: matches!((metadata::created(metadata), since), (Some(created), Some(since)) if created < since),
            terminating: !metadata["deletionTimestamp"].is_null(),
            allow: metadata["annotations"][ALLOW].as_str().map(Name::from),
        }
    })
}

/// An address as the API takes it.
pub fn address(text: &str) -> Option<std::net::IpAddr> {
    cidr::address(text)
}

/// When an object was made, in seconds since 1970.
pub fn created(object: &Value) -> Option<i64> {
    metadata::created(&object["metadata"])
}

fn read<T>(by: impl FnOnce(&mut reader::Reader) -> T) -> Converted<T> {
    let mut reader = reader::Reader::default();
    let value = by(&mut reader);
    Converted { value, findings: reader.findings }
}

/// Reads a Node.
pub fn node(object: &Value) -> Node {
    let texts = |value: &Value, field: Option<&str>| -> Vec<String> {
        let items = value.as_array().into_iter().flatten();
        items.filter_map(|item| field.map_or(item, |field| &item[field]).as_str().map(str::to_owned)).collect()
    };
    let mut ranges = texts(&object["spec"]["podCIDRs"], None);
    if ranges.is_empty() {
        ranges.extend(object["spec"]["podCIDR"].as_str().map(str::to_owned));
    }
    let addresses = texts(&object["status"]["addresses"], Some("address"));
    Node {
        addresses: addresses.iter().filter_map(|text| cidr::address(text)).collect(),
        pod_ranges: ranges.iter().filter_map(|text| cidr::range(text)).collect(),
    }
}

/// The API group of an object; empty for the core group, and where there is no apiVersion.
fn group(object: &Value) -> &str {
    object["apiVersion"].as_str().and_then(|version| version.split_once('/')).map_or("", |(group, _)| group)
}

#[cfg(test)]
mod tests;
