//! The server's validation (`pkg/apis/networking/validation`), in its order and its words.
//!
//! Only what has been decoded comes here, so shapes are right and what is absent is empty.

use crate::{
    finding::{FieldPath, place::Place},
    k8s::convert::{cidr, names, reader::Reader},
};
use serde_json::Value;

const LABEL: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const NAME: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
const PORT: &str = "must be between 1 and 65535, inclusive";

/// What validation says, one line a fault; `None` where its words are not known.
pub(super) fn errors(object: &Value, strict: bool) -> Option<Vec<String>> {
    let mut says = Says { errors: vec![], strict, certain: true };
    let root = FieldPath::root();
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    if names::dns_subdomain(name).is_some() {
        says.certain &= name.len() <= 253;
        says.invalid(&root.field("metadata").field("name"), &object["metadata"]["name"], SUBDOMAIN);
    }
    // Labels and annotations of the policy itself, and its namespace, have words that were not seen.
    let mut reader = Reader::default();
    if object.is_object() {
        super::super::metadata::check(&mut reader, &object["apiVersion"], &object["kind"], &object["metadata"]);
    }
    says.certain &= reader.findings.iter().all(|finding| finding.rule == "invalid-name");
    says.spec(&object["spec"], &root.field("spec"));
    says.certain.then_some(says.errors)
}

struct Says {
    errors: Vec<String>,
    strict: bool,
    certain: bool,
}

impl Says {
    fn invalid(&mut self, path: &FieldPath, value: &Value, why: &str) {
        self.errors.push(format!("{path}: Invalid value: {value}: {why}"));
    }

    fn say(&mut self, path: &FieldPath, text: &str) {
        self.errors.push(format!("{path}: {text}"));
    }

    fn unsupported(&mut self, path: &FieldPath, value: &str, known: &[&str]) {
        let known = known.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ");
        self.errors.push(format!("{path}: Unsupported value: {value:?}: supported values: {known}"));
    }

    fn spec(&mut self, spec: &Value, path: &FieldPath) {
        self.selector(&spec["podSelector"], &path.field("podSelector"));
        for (direction, list) in [("ingress", "from"), ("egress", "to")] {
            for (at, rule) in items(&spec[direction]).enumerate() {
                let path = path.field(direction).index(at);
                for (at, port) in items(&rule["ports"]).enumerate() {
                    self.port(port, &path.field("ports").index(at));
                }
                for (at, peer) in items(&rule[list]).enumerate() {
                    self.peer(peer, &path.field(list).index(at));
                }
            }
        }
        let path = path.field("policyTypes");
        if items(&spec["policyTypes"]).count() > 2 {
            return self.invalid(&path, &spec["policyTypes"], "may not specify more than two policyTypes");
        }
        for (at, word) in items(&spec["policyTypes"]).enumerate() {
            let word = word.as_str().unwrap_or_default();
            if !matches!(word, "Ingress" | "Egress") {
                self.unsupported(&path.index(at), word, &["Ingress", "Egress"]);
            }
        }
    }

    fn selector(&mut self, selector: &Value, path: &FieldPath) {
        let labels = path.field("matchLabels");
        for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
            self.key(key, &labels);
            self.value(value, &labels);
        }
        for (at, requirement) in items(&selector["matchExpressions"]).enumerate() {
            let path = path.field("matchExpressions").index(at);
            let (operator, values) = (requirement["operator"].as_str().unwrap_or_default(), path.field("values"));
            let empty = items(&requirement["values"]).next().is_none();
            match operator {
                "In" | "NotIn" if empty => {
                    self.say(&values, "Required value: must be specified when `operator` is 'In' or 'NotIn'");
                }
                "Exists" | "DoesNotExist" if !empty => {
                    self.say(&values, "Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
                }
                "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
                other => self.invalid(&path.field("operator"), &other.into(), "not a valid selector operator"),
            }
            self.key(requirement["key"].as_str().unwrap_or_default(), &path.field("key"));
            for (at, value) in items(&requirement["values"]).enumerate() {
                self.value(value, &values.index(at));
            }
        }
    }

    fn key(&mut self, key: &str, path: &FieldPath) {
        if names::label_key(key).is_none() {
            return;
        }
        // A prefix, or a length, has words of its own that were not seen.
        self.certain &= !key.contains('/') && !key.is_empty() && key.len() <= 63;
        self.invalid(path, &key.into(), &format!("name part {NAME}"));
    }

    fn value(&mut self, value: &Value, path: &FieldPath) {
        let text = value.as_str().unwrap_or_default();
        if names::label_value(text).is_some() {
            self.certain &= text.len() <= 63;
            self.invalid(path, value, LABEL);
        }
    }

    fn port(&mut self, entry: &Value, path: &FieldPath) {
        if let Some(protocol) = entry["protocol"].as_str().filter(|word| !matches!(*word, "TCP" | "UDP" | "SCTP")) {
            self.unsupported(&path.field("protocol"), protocol, &["TCP", "UDP", "SCTP"]);
        }
        let (port, end) = (path.field("port"), path.field("endPort"));
        let exists = |number: i64| (1..=65535).contains(&number);
        match (&entry["port"], entry["endPort"].as_i64()) {
            (Value::Number(first), last) => {
                let first = first.as_i64().unwrap_or_default();
                if !exists(first) {
                    self.invalid(&port, &entry["port"], PORT);
                }
                if let Some(last) = last {
                    if last < first {
                        self.invalid(&end, &last.into(), "must be greater than or equal to `port`");
                    }
                    if !exists(last) {
                        self.invalid(&end, &last.into(), PORT);
                    }
                }
            }
            (Value::String(name), last) => {
                if let Some(last) = last {
                    self.invalid(&end, &last.into(), "may not be specified when `port` is non-numeric");
                }
                self.port_name(name, &port);
            }
            (_, Some(last)) => self.invalid(&end, &last.into(), "may not be specified when `port` is not specified"),
            (_, None) => {}
        }
    }

    fn port_name(&mut self, name: &str, path: &FieldPath) {
        let inside = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let (begin, end) = (name.starts_with('-'), name.ends_with('-'));
        for (wrong, why) in [
            (name.len() > 15, "must be no more than 15 characters"),
            (
                name.is_empty() || !name.bytes().all(inside),
                "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
            ),
            (!name.bytes().any(|b| b.is_ascii_lowercase()), "must contain at least one letter (a-z)"),
            (name.contains("--"), "must not contain consecutive hyphens"),
            (begin || end, "must not begin or end with a hyphen"),
        ] {
            if wrong {
                self.invalid(path, &name.into(), why);
            }
        }
    }

    fn peer(&mut self, peer: &Value, path: &FieldPath) {
        let there = |field: &str| !peer[field].is_null();
        for field in ["podSelector", "namespaceSelector"] {
            self.selector(&peer[field], &path.field(field));
        }
        if there("ipBlock") {
            self.block(&peer["ipBlock"], &path.field("ipBlock"));
        }
        let pods = there("podSelector") || there("namespaceSelector");
        if !pods && !there("ipBlock") {
            self.say(path, "Required value: must specify a peer");
        } else if pods && there("ipBlock") {
            self.say(path, "Forbidden: may not specify both ipBlock and another peer");
        }
    }

    fn block(&mut self, block: &Value, path: &FieldPath) {
        let at = path.field("cidr");
        if block["cidr"].as_str().unwrap_or_default().is_empty() {
            return self.say(&at, "Required value");
        }
        let Some(cidr) = self.cidr(&block["cidr"], &at) else { return };
        for (n, except) in items(&block["except"]).enumerate() {
            let at = path.field("except").index(n);
            let Some(hole) = self.cidr(except, &at) else { return };
            if !(cidr.contains(&hole) && cidr.prefix_len() < hole.prefix_len()) {
                self.invalid(&at, except, "must be a strict subset of `cidr`");
            }
        }
    }

    fn cidr(&mut self, value: &Value, path: &FieldPath) -> Option<ipnet::IpNet> {
        let mut reader = Reader::default();
        let read = cidr::read(&mut reader, value.as_str().unwrap_or_default(), &Place::At(path));
        let why = match reader.findings.first().map(|finding| finding.rule) {
            None => None,
            Some("cidr-leading-zeros") => Some("must not have leading 0s in IP or prefix length"),
            Some("cidr-host-bits") => Some("must not have bits set beyond the prefix length"),
            Some("cidr-ipv4-mapped") => Some("must not have an IPv4-mapped IPv6 address"),
            Some(_) => {
                self.invalid(path, value, CIDR);
                return None;
            }
        };
        if let Some(why) = why.filter(|_| self.strict) {
            self.invalid(path, value, why);
        }
        read
    }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
