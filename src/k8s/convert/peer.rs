//! The peers of a rule: `{podSelector, namespaceSelector}` or `{ipBlock}` -> [`Peer`].

use super::{
    cidr,
    reader::{Reader, Shape, there},
    selector,
};
use crate::{
    finding::place::Place,
    policy::model::{Block, Peer},
};
use serde_json::Value;

const PEER: Shape<3> = Shape {
    what: "a peer",
    fields: ["podSelector", "namespaceSelector", "ipBlock"],
    example: "a peer: {podSelector: {matchLabels: {app: web}}}",
};
const BLOCK: Shape<2> = Shape {
    what: "an ipBlock",
    fields: ["cidr", "except"],
    example: "an ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}",
};

/// One peer. Whoever calls looks at `reader.unreadable`.
pub(super) fn read(reader: &mut Reader, value: &Value, path: &Place<'_>) -> Option<Peer> {
    let before = reader.unreadable;
    let [of_pods, of_namespaces, of_addresses] = reader.mapping(value, path, &PEER)?;
    let strange = reader.unreadable > before;
    let pods = there(of_pods).map(|value| selector::read(reader, value, &path.field("podSelector")));
    let namespaces = there(of_namespaces).map(|value| selector::read(reader, value, &path.field("namespaceSelector")));
    let block = there(of_addresses).map(|value| block(reader, value, &path.field("ipBlock")));
    match (pods, namespaces, block) {
        (None, None, None) => {
            // An unknown field has been told already, and may be the peer that was meant.
            if !strange {
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
    let [cidr, holes] = reader.mapping(value, path, &BLOCK)?;
    let at = path.field("cidr");
    let cidr = match reader.string(cidr, &at) {
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
    if let Some(list) = there(holes) {
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
