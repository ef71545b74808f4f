//! The peers of a rule: `{podSelector, namespaceSelector}` or `{ipBlock}` -> [`Peer`].

use super::{
    cidr,
    reader::{Reader, Shape, field},
    selector,
};
use crate::{
    finding::place::Place,
    policy::model::{Block, Peer},
};
use serde_json::Value;

const PEER: Shape = Shape {
    what: "a peer",
    fields: &["podSelector", "namespaceSelector", "ipBlock"],
    example: "a peer: {podSelector: {matchLabels: {app: web}}}",
};
const BLOCK: Shape = Shape {
    what: "an ipBlock",
    fields: &["cidr", "except"],
    example: "an ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}",
};

/// One peer. Whoever calls looks at `reader.unreadable`.
pub(super) fn read(reader: &mut Reader, value: &Value, path: &Place<'_>) -> Option<Peer> {
    let fields = match value {
        Value::Null => None,
        other => Some(reader.mapping(other, path, &PEER)?),
    };
    let of = |name| fields.and_then(|fields| field(fields, name)).map(|value| (value, path.field(name)));
    let pods = of("podSelector").map(|(value, path)| selector::read(reader, value, &path));
    let namespaces = of("namespaceSelector").map(|(value, path)| selector::read(reader, value, &path));
    let block = of("ipBlock").map(|(value, path)| block(reader, value, &path));
    match (pods, namespaces, block) {
        (None, None, None) => {
            // An unknown field has been told already, and may be the peer that was meant.
            if fields.is_none_or(|fields| fields.keys().all(|name| PEER.fields.contains(&name.as_str()))) {
                let help = "write podSelector, namespaceSelector or ipBlock (podSelector: {} is every pod of the namespace); to mean anybody, leave the list out";
                reader.refuse("empty-peer", path, "a peer that names nobody".to_owned(), help);
            }
            None
        }
        (pods, namespaces, Some(block)) => {
            if pods.is_some() || namespaces.is_some() {
                let message = "a peer is an ipBlock or pods, not both".to_owned();
                reader.refuse("ip-block-with-peer", path, message, "write two peers, each with a dash of its own");
            }
            block.map(Peer::Block)
        }
        (pods, namespaces, None) => Some(Peer::Pods { namespaces, pods: pods.unwrap_or_default() }),
    }
}

fn block(reader: &mut Reader, value: &Value, path: &Place<'_>) -> Option<Block> {
    if let Value::String(text) = value {
        reader.wrong_type(value, path, "a mapping", format!("write ipBlock: {{cidr: {text}}}"));
        return None;
    }
    let fields = reader.mapping(value, path, &BLOCK)?;
    let at = path.field("cidr");
    let cidr = match reader.string(fields.get("cidr").unwrap_or(&Value::Null), &at) {
        Some("") => {
            let message = "an ipBlock without cidr".to_owned();
            reader.refuse(
                "cidr-missing",
                &at,
                message,
                "write cidr: 10.0.0.0/8 (cidr: 0.0.0.0/0 is every IPv4 address)",
            );
            None
        }
        Some(text) => cidr::read(reader, text, &at),
        None => None,
    };
    let mut except = Vec::new();
    if let Some(list) = field(fields, "except") {
        let path = path.field("except");
        for (at, item) in reader.list(list, &path, "a list: except: [10.1.0.0/16]")?.iter().enumerate() {
            let path = path.index(at);
            let Some(hole) = reader.string(item, &path).and_then(|text| cidr::read(reader, text, &path)) else {
                continue;
            };
            if let Some(cidr) = cidr
                && !(cidr.contains(&hole) && cidr.prefix_len() < hole.prefix_len())
            {
                let message = format!("except {hole} is not a smaller part of {cidr}");
                let help = if hole == cidr {
                    "leave the peer out: it admits nobody"
                } else {
                    "write a range inside cidr, or leave it out"
                };
                reader.refuse("except-outside", &path, message, help);
            }
            except.push(hole);
        }
    }
    Some(Block { cidr: cidr?, except })
}
