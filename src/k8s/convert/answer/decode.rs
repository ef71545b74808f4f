//! The server's decoder: Go's types of a NetworkPolicy, and its words for what does not fit into them.
//!
//! kubectl sends keys in alphabetical order, and the decoder tells the first thing that does not fit; a field that no type
//! has is told only where everything fits.

use crate::finding::FieldPath;
use serde_json::Value;

/// A Go type, with its name in messages.
enum Type {
    Text(&'static str),
    Int32,
    IntOrString,
    /// Values by any key.
    Map,
    List(&'static str, &'static Type),
    /// Its name, how messages call it, its fields.
    Struct(&'static str, &'static str, &'static [(&'static str, Type)]),
    /// What is not looked at here.
    Any,
}

use Type::{Any, Int32, IntOrString, List, Map, Struct, Text};

const STRING: Type = Text("string");
const SELECTOR: Type = Struct(
    "LabelSelector",
    "v1.LabelSelector",
    &[("matchLabels", Map), ("matchExpressions", List("[]v1.LabelSelectorRequirement", &REQUIREMENT))],
);
const REQUIREMENT: Type = Struct(
    "LabelSelectorRequirement",
    "v1.LabelSelectorRequirement",
    &[("key", STRING), ("operator", Text("v1.LabelSelectorOperator")), ("values", List("[]string", &STRING))],
);
const PEER: Type = Struct(
    "NetworkPolicyPeer",
    "v1.NetworkPolicyPeer",
    &[
        ("podSelector", SELECTOR),
        ("namespaceSelector", SELECTOR),
        ("ipBlock", Struct("IPBlock", "v1.IPBlock", &[("cidr", STRING), ("except", List("[]string", &STRING))])),
    ],
);
const PORT: Type = Struct(
    "NetworkPolicyPort",
    "v1.NetworkPolicyPort",
    &[("protocol", Text("v1.Protocol")), ("port", IntOrString), ("endPort", Int32)],
);
const PEERS: Type = List("[]v1.NetworkPolicyPeer", &PEER);
const PORTS: Type = List("[]v1.NetworkPolicyPort", &PORT);
const INGRESS: Type =
    Struct("NetworkPolicyIngressRule", "v1.NetworkPolicyIngressRule", &[("from", PEERS), ("ports", PORTS)]);
const EGRESS: Type =
    Struct("NetworkPolicyEgressRule", "v1.NetworkPolicyEgressRule", &[("to", PEERS), ("ports", PORTS)]);
const SPEC: Type = Struct(
    "NetworkPolicySpec",
    "v1.NetworkPolicySpec",
    &[
        ("podSelector", SELECTOR),
        ("policyTypes", List("[]v1.PolicyType", &Text("v1.PolicyType"))),
        ("ingress", List("[]v1.NetworkPolicyIngressRule", &INGRESS)),
        ("egress", List("[]v1.NetworkPolicyEgressRule", &EGRESS)),
    ],
);
const METADATA: Type = Struct(
    "ObjectMeta",
    "v1.ObjectMeta",
    &[
        ("name", STRING),
        ("generateName", STRING),
        ("namespace", STRING),
        ("labels", Map),
        ("annotations", Map),
        ("ownerReferences", Any),
        ("finalizers", List("[]string", &STRING)),
        ("uid", Any),
        ("resourceVersion", STRING),
        ("generation", Any),
        ("creationTimestamp", Any),
        ("deletionTimestamp", Any),
        ("deletionGracePeriodSeconds", Any),
        ("managedFields", Any),
        ("selfLink", STRING),
    ],
);
const POLICY: Type = Struct(
    "NetworkPolicy",
    "v1.NetworkPolicy",
    &[("apiVersion", STRING), ("kind", STRING), ("metadata", METADATA), ("spec", SPEC)],
);

/// What the decoder says to an object.
pub(super) fn error(object: &Value) -> Option<String> {
    let mut decoder = Decoder::default();
    decoder.read(object, &POLICY, &FieldPath::root(), &Place { inside: "", path: String::new() });
    match decoder {
        Decoder { first: Some(error), .. } => Some(error),
        Decoder { unknown, .. } if !unknown.is_empty() => {
            Some(format!("strict decoding error: {}", unknown.join(", ")))
        }
        _ => None,
    }
}

#[derive(Default)]
struct Decoder {
    first: Option<String>,
    unknown: Vec<String>,
}

/// Where a message says that something stands: the innermost struct, and the fields that lead there.
struct Place {
    inside: &'static str,
    path: String,
}

impl Place {
    fn field(&self, inside: &'static str, name: &str) -> Place {
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        Place { inside, path }
    }
}

impl Decoder {
    fn read(&mut self, value: &Value, wanted: &Type, path: &FieldPath, place: &Place) {
        match (wanted, value) {
            (_, Value::Null) | (Any, _) => {}
            (Text(_) | IntOrString, Value::String(_)) => {}
            (Int32 | IntOrString, Value::Number(number)) => {
                if number.as_i64().and_then(|n| i32::try_from(n).ok()).is_none() {
                    self.told(&format!("number {number}"), "int32", place);
                }
            }
            (Map, Value::Object(fields)) => {
                for value in fields.values().filter(|value| !value.is_string() && !value.is_null()) {
                    self.told(kind(value), "string", place);
                }
            }
            (List(_, item), Value::Array(items)) => {
                for (at, value) in items.iter().enumerate() {
                    self.read(value, item, &path.index(at), place);
                }
            }
            (Struct(name, _, known), Value::Object(fields)) => {
                for (field, value) in fields {
                    match known.iter().find(|(known, _)| known == field) {
                        Some((known, wanted)) => {
                            self.read(value, wanted, &path.field(*known), &place.field(name, field))
                        }
                        None => self.unknown.push(format!("unknown field \"{}\"", path.field(field.clone()))),
                    }
                }
            }
            (Text(go) | List(go, _) | Struct(_, go, _), other) => self.told(kind(other), go, place),
            (Int32 | IntOrString, other) => self.told(kind(other), "int32", place),
            (Map, other) => self.told(kind(other), "map[string]string", place),
        }
    }

    fn told(&mut self, what: &str, go: &str, Place { inside, path }: &Place) {
        let text = format!("json: cannot unmarshal {what} into Go struct field {inside}.{path} of type {go}");
        self.first.get_or_insert(text);
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
