//! NetworkPolicy: `spec` -> [`NetworkPolicy`], closed where it cannot be read.
//!
//! What is left without a meaning admits nothing: such a rule is left out, such a podSelector selects every pod of the
//! namespace, such policyTypes isolate in both directions.

use super::{
    metadata, peer, port,
    reader::{Reader, Shape, cut, describe, there},
    selector,
};
use crate::{
    finding::place::Place,
    policy::{
        mode::{self, Mode},
        model::{Direction, NetworkPolicy, Rule},
        selector::Selector,
    },
};
use serde_json::Value;

const POLICY: Shape<4> = Shape {
    what: "a NetworkPolicy",
    fields: ["apiVersion", "kind", "metadata", "spec"],
    example: "a NetworkPolicy: {apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: web}, spec: {podSelector: {}}}",
};
const SPEC: Shape<4> = Shape {
    what: "the spec of a NetworkPolicy",
    fields: ["podSelector", "policyTypes", "ingress", "egress"],
    example: "spec: {podSelector: {}, policyTypes: [Ingress]}",
};
/// The rules of a direction.
struct Form {
    rule: Shape<2>,
    /// The field of a rule that holds its peers.
    peers: &'static str,
    /// Right lists: of rules, of peers.
    examples: [&'static str; 2],
}

const INGRESS: Form = Form {
    rule: Shape { what: "an ingress rule", fields: ["from", "ports"], example: "a rule:\n- from: …\n  ports: …" },
    peers: "from",
    examples: ["a list:\ningress:\n- from: …\n  ports: …", "a list:\nfrom:\n- podSelector: …"],
};
const EGRESS: Form = Form {
    rule: Shape { what: "an egress rule", fields: ["to", "ports"], example: "a rule:\n- to: …\n  ports: …" },
    peers: "to",
    examples: ["a list:\negress:\n- to: …\n  ports: …", "a list:\nto:\n- podSelector: …"],
};

/// Reads the whole object.
pub(super) fn read(reader: &mut Reader, object: &Value) -> NetworkPolicy {
    let annotation = object["metadata"]["annotations"].get(mode::NAME);
    let mode = annotation.map(|value| Mode::of_label(value.as_str().unwrap_or_default()));
    NetworkPolicy { mode, ..rules_of(reader, object) }
}

fn rules_of(reader: &mut Reader, object: &Value) -> NetworkPolicy {
    let closed = NetworkPolicy { ingress: Some(vec![]), egress: Some(vec![]), ..NetworkPolicy::default() };
    let fields = there(object).and_then(|object| reader.mapping(object, &Place::Root, &POLICY));
    let Some([api_version, kind, metadata, value]) = fields else { return closed };
    metadata::check(reader, api_version, kind, metadata);
    let path = Place::Root.field("spec");
    let before = reader.unreadable;
    // No spec is an empty one: every pod, isolated for ingress.
    let fields = reader.mapping(value, &path, &SPEC);
    let strange = reader.unreadable > before;
    fields.map_or(closed, |fields| spec(reader, fields, strange, &path))
}

/// `strange`: it has fields that the API does not know, which may be the ones that say what is isolated.
fn spec(reader: &mut Reader, fields: [&Value; 4], strange: bool, path: &Place<'_>) -> NetworkPolicy {
    let [selector, types, ingress, egress] = fields;
    let before = reader.unreadable;
    let selector = selector::read(reader, selector, &path.field("podSelector"));
    let selector = if reader.unreadable > before { Selector::everything() } else { selector };
    let types = policy_types(reader, types, &path.field("policyTypes"));
    let ingress = rules(reader, there(ingress), &INGRESS, &path.field("ingress"));
    let egress = rules(reader, there(egress), &EGRESS, &path.field("egress"));
    let isolates = |direction| match &types {
        Types::Unreadable => true,
        Types::Absent => strange || direction == Direction::Ingress || egress.written,
        Types::These(these) => these.contains(&direction),
    };
    NetworkPolicy {
        selector,
        ingress: isolates(Direction::Ingress).then_some(ingress.readable),
        egress: isolates(Direction::Egress).then_some(egress.readable),
        mode: None,
    }
}

enum Types {
    Absent,
    These(Vec<Direction>),
    Unreadable,
}

fn policy_types(reader: &mut Reader, value: &Value, path: &Place<'_>) -> Types {
    let before = reader.unreadable;
    let items = match value {
        Value::Null => return Types::Absent,
        Value::Array(items) => &items[..],
        Value::Object(fields) => {
            let message = format!("policyTypes is {}, and a list is wanted", describe(value));
            let lines: String = fields.keys().map(|key| format!("\n- {key}")).collect();
            reader.refuse(
                "policy-types-mapping",
                path,
                message,
                format!("write dashes, without the colons:\npolicyTypes:{lines}"),
            );
            &[]
        }
        Value::String(text) => {
            reader.wrong_type(
                value,
                path,
                "a list",
                format!("write policyTypes: [{}]", near(text).unwrap_or("Ingress")),
            );
            &[]
        }
        other => {
            reader.wrong_type(other, path, "a list", "write policyTypes: [Ingress, Egress]");
            &[]
        }
    };
    if items.len() > 2 {
        let message = format!("policyTypes has {} items, and there are two directions", items.len());
        reader.refuse("policy-types-too-many", path, message, "write each once: policyTypes: [Ingress, Egress]");
    }
    let directions =
        items.iter().enumerate().filter_map(|(at, item)| policy_type(reader, item, &path.index(at))).collect();
    match reader.unreadable > before {
        true => Types::Unreadable,
        false if items.is_empty() => Types::Absent,
        false => Types::These(directions),
    }
}

fn policy_type(reader: &mut Reader, value: &Value, path: &Place<'_>) -> Option<Direction> {
    match value {
        Value::Object(fields) if fields.len() == 1 => {
            let key = fields.keys().next().map(String::as_str).unwrap_or_default();
            let word = near(key).unwrap_or(key);
            let message =
                format!("this item of policyTypes is a mapping with the key {}, and a word is wanted", cut(key));
            reader.refuse("policy-types-mapping", path, message, format!("write `- {word}`, without the colon"));
            None
        }
        Value::String(_) | Value::Null => {
            let text = value.as_str().unwrap_or_default();
            let found = match text {
                "Ingress" => Some(Direction::Ingress),
                "Egress" => Some(Direction::Egress),
                _ => None,
            };
            if found.is_none() {
                let help =
                    near(text).map_or_else(|| "write Ingress or Egress".to_owned(), |word| format!("write {word}"));
                let message = if value.is_null() {
                    "this item of policyTypes is empty".to_owned()
                } else {
                    format!("{} is no policy type", cut(text))
                };
                reader.refuse("policy-types-value", path, message, help);
            }
            found
        }
        other => {
            reader.wrong_type(other, path, "a word", "write Ingress or Egress");
            None
        }
    }
}

/// The policy type that a word was meant to be.
fn near(word: &str) -> Option<&'static str> {
    match word.trim().to_lowercase() {
        word if word.starts_with("ing") || word.starts_with("in") => Some("Ingress"),
        word if word.starts_with("eg") || word.starts_with("out") => Some("Egress"),
        _ => None,
    }
}

#[derive(Default)]
struct Rules {
    /// There is at least one, or something that was meant to be one.
    written: bool,
    readable: Vec<Rule>,
}

fn rules(reader: &mut Reader, value: Option<&Value>, form: &Form, path: &Place<'_>) -> Rules {
    let Some(value) = value else { return Rules::default() };
    let [example, _] = form.examples;
    let Some(items) = reader.list(value, path, example) else { return Rules { written: true, readable: vec![] } };
    let mut readable = Vec::with_capacity(items.len());
    for (at, item) in items.iter().enumerate() {
        let before = reader.unreadable;
        let rule = rule(reader, item, form, &path.index(at));
        readable.extend(rule.filter(|_| reader.unreadable == before));
    }
    Rules { written: !items.is_empty(), readable }
}

/// One rule; null is an empty one, which admits everything.
fn rule(reader: &mut Reader, value: &Value, form: &Form, path: &Place<'_>) -> Option<Rule> {
    if value.is_null() {
        return Some(Rule::default());
    }
    let [peers, ports] = reader.mapping(value, path, &form.rule)?;
    let [_, example] = form.examples;
    Some(Rule {
        peers: each(reader, peers, &path.field(form.peers), example, peer::read),
        ports: each(reader, ports, &path.field("ports"), port::EXAMPLE, port::read),
    })
}

/// The items of a list that can be read.
fn each<T>(
    reader: &mut Reader,
    list: &Value,
    path: &Place<'_>,
    example: &str,
    read: impl Fn(&mut Reader, &Value, &Place<'_>) -> Option<T>,
) -> Vec<T> {
    let items = reader.list(list, path, example).unwrap_or_default();
    // Mostly one; of very many perhaps none can be read.
    let mut readable = Vec::with_capacity(items.len().min(4));
    readable.extend(items.iter().enumerate().filter_map(|(at, item)| read(reader, item, &path.index(at))));
    readable
}
