//! A document as a tree of values with their places.
//!
//! `Node {span, kind}`, shared where an alias points, so that a small text stays small. [`Node::value`] writes it out.

use super::{Place, Repeated};
use crate::finding::{FieldPath, Step, located::Span};
use serde_json::Value;
use std::sync::Arc;

/// One value of a document.
#[derive(Debug)]
pub(super) struct Node {
    /// Where it stands.
    pub(super) span: Span,
    /// How many values it comes to, itself included.
    pub(super) size: usize,
    /// How deep it nests, itself included.
    pub(super) depth: usize,
    /// What it is.
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    Scalar(Value),
    List(Vec<Arc<Node>>),
    /// Its fields, and the keys that were replaced: name, the lost place, the place that counts.
    Map(Vec<Field>, Vec<(String, Span, Span)>),
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) key: Span,
    pub(super) value: Arc<Node>,
    /// It came by a merge key.
    pub(super) merged: bool,
}

impl Node {
    pub(super) fn new(span: Span, kind: Kind) -> Self {
        let (mut size, mut depth) = (1, 0);
        let mut count = |child: &Node| {
            size += child.size;
            depth = depth.max(child.depth);
        };
        match &kind {
            Kind::Scalar(_) => {}
            Kind::List(items) => items.iter().for_each(|item| count(item)),
            Kind::Map(fields, _) => fields.iter().for_each(|field| count(&field.value)),
        }
        Self { span, size, depth: depth + 1, kind }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self.kind, Kind::Scalar(Value::Null))
    }

    pub(super) fn get(&self, name: &str) -> Option<&Node> {
        self.field(name).map(|field| &*field.value)
    }

    pub(super) fn items(&self) -> Option<&[Arc<Node>]> {
        match &self.kind {
            Kind::List(items) => Some(items),
            _ => None,
        }
    }

    fn field(&self, name: &str) -> Option<&Field> {
        match &self.kind {
            Kind::Map(fields, _) => fields.iter().find(|field| field.name == name),
            _ => None,
        }
    }

    /// It as JSON. No deeper than MAX_DEPTH, no larger than MAX_NODES: whoever builds a node sees to that.
    pub(super) fn value(&self) -> Value {
        match &self.kind {
            Kind::Scalar(value) => value.clone(),
            Kind::List(items) => items.iter().map(|item| item.value()).collect(),
            Kind::Map(fields, _) => fields.iter().map(|field| (field.name.clone(), field.value.value())).collect(),
        }
    }
}

/// Where a field stands, or the nearest thing above it that is there.
pub(super) fn place(root: &Node, path: &FieldPath) -> Place {
    let (mut node, mut key) = (root, None);
    for step in &path.0 {
        match step {
            Step::Field(name) => match node.field(name) {
                Some(field) => (node, key) = (&field.value, Some(field.key)),
                None => break,
            },
            Step::Index(at) => match node.items().and_then(|items| items.get(*at)) {
                Some(item) => (node, key) = (item, None),
                None => break,
            },
        }
    }
    Place { key, value: node.span, scalar: matches!(node.kind, Kind::Scalar(_)) }
}

/// Keys that come twice, in the order of the text.
pub(super) fn repeated(node: &Node, path: &FieldPath, found: &mut Vec<Repeated>) {
    match &node.kind {
        Kind::Scalar(_) => {}
        Kind::List(items) => {
            items.iter().enumerate().for_each(|(at, item)| repeated(item, &path.index(at), found));
        }
        Kind::Map(fields, replaced) => {
            for (name, first, again) in replaced {
                found.push(Repeated { path: path.field(name.clone()), first: *first, again: *again });
            }
            fields.iter().for_each(|field| repeated(&field.value, &path.field(field.name.clone()), found));
        }
    }
}
