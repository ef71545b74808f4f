//! The head of an object: apiVersion, kind, metadata.

use super::{
    names,
    reader::{Reader, Shape, cut, there},
};
use crate::{finding::place::Place, policy::model::Labels};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

const METADATA: Shape<15> = Shape {
    what: "metadata",
    fields: [
        "name",
        "generateName",
        "namespace",
        "labels",
        "annotations",
        "ownerReferences",
        "finalizers",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "managedFields",
        "selfLink",
    ],
    example: "metadata: {name: web, namespace: shop}",
};

/// What a server says about the head of a NetworkPolicy.
pub(super) fn check(reader: &mut Reader, api_version: &Value, kind: &Value, metadata: &Value) {
    let root = Place::Root;
    let expect = |reader: &mut Reader, value: &Value, name: &'static str, wanted: &str, rule| {
        if value.as_str() != Some(wanted) {
            let found = match value {
                Value::String(text) => format!("{name} is {}", cut(text)),
                Value::Null => format!("{name} is missing"),
                other => format!("{name} is {}", super::reader::describe(other)),
            };
            reader.refuse(rule, &root.field(name), found, format!("write {name}: {wanted}"));
        }
    };
    expect(reader, api_version, "apiVersion", "networking.k8s.io/v1", "api-version");
    expect(reader, kind, "kind", "NetworkPolicy", "kind");
    let path = root.field("metadata");
    let fields = reader.mapping(metadata, &path, &METADATA);
    let Some([called, generated, of, labels, annotations, ..]) = fields else { return };
    name(reader, called, generated, &path);
    namespace(reader, of, &path);
    for (list, value, values) in [("labels", labels, true), ("annotations", annotations, false)] {
        let path = path.field(list);
        reader.strings(value, &path, |reader, key, value| {
            // Of annotations the case of the prefix does not matter.
            let checked = if values { key.to_owned() } else { key.to_lowercase() };
            if let Some(why) = names::label_key(&checked) {
                let path = path.field(key);
                reader.refuse("invalid-label-key", &path, format!("{} is no key of {list}", cut(key)), why);
            }
            if let Some(why) = names::label_value(value).filter(|_| values) {
                let path = path.field(key);
                reader.refuse("invalid-label-value", &path, format!("{} is no label value", cut(value)), why);
            }
        });
    }
}

/// What is wrong with the name of an object and of its namespace: where it stands.
pub(super) fn check_key(reader: &mut Reader, object: &Value) {
    let (metadata, path) = (&object["metadata"], Place::Root.field("metadata"));
    name(reader, &metadata["name"], &metadata["generateName"], &path);
    namespace(reader, &metadata["namespace"], &path);
}

fn namespace(reader: &mut Reader, value: &Value, path: &Place<'_>) {
    if let Some(value) = there(value) {
        let path = path.field("namespace");
        let text = reader.string(value, &path).filter(|text| !text.is_empty());
        if let Some((text, why)) = text.and_then(|text| Some((text, names::dns_label(text)?))) {
            reader.refuse("invalid-namespace", &path, format!("{} is no name of a namespace", cut(text)), why);
        }
    }
}

fn name(reader: &mut Reader, value: &Value, generated: &Value, path: &Place<'_>) {
    let generated = there(generated).and_then(|value| reader.string(value, &path.field("generateName")));
    let path = path.field("name");
    let Some(text) = reader.string(value, &path) else { return };
    match names::dns_subdomain(text) {
        _ if text.is_empty() && generated.is_some_and(|prefix| !prefix.is_empty()) => {}
        _ if text.is_empty() => {
            reader.refuse("missing-name", &path, "the object has no name".to_owned(), "write metadata: {name: web}");
        }
        Some(why) => {
            let help = match names::as_dns(text) {
                near if near.is_empty() => why,
                near => format!("write name: {near}\n{why}"),
            };
            reader.refuse("invalid-name", &path, format!("{} is no name of an object", cut(text)), help);
        }
        None => {}
    }
}

/// The name of an object, or what its name will begin with.
pub(super) fn name_of(object: &Value) -> Option<&str> {
    let text = |name: &str| object["metadata"][name].as_str().filter(|text| !text.is_empty());
    text("name").or_else(|| text("generateName"))
}

/// When the object was made, in seconds since 1970.
pub(super) fn created(metadata: &Value) -> Option<i64> {
    let time: Timestamp = metadata["creationTimestamp"].as_str()?.parse().ok()?;
    Some(time.as_second())
}

/// Labels, those that are readable.
pub(super) fn labels(reader: &mut Reader, metadata: &Value, path: &Place<'_>) -> Labels {
    let mut labels = Vec::new();
    reader.strings(&metadata["labels"], &path.field("labels"), |_, key, value| labels.push((key, value)));
    labels.into_iter().collect()
}
