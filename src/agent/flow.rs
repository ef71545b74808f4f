//! An event of the kernel with names: of pods and nodes, of policies and rules.

use crate::{
    datapath::Event,
    policy::{decide::Endpoint, model::Protocol, state::State, table::Label},
    report::flows::{End, Flow, Owner, Rule},
};
use std::{
    net::IpAddr,
    time::{SystemTime, UNIX_EPOCH},
};

/// Names an event as the cluster is known now.
pub fn flow(event: &Event, state: &State) -> Flow {
    let protocol = Protocol::from_number(event.protocol);
    let end = |address: IpAddr, port| End {
        address,
        port: if protocol.is_some() { port } else { 0 },
        owner: match state.endpoint(address) {
            Endpoint::Pod(key, _) => Some(Owner::Pod(key.to_string())),
            Endpoint::Node(name, _) => Some(Owner::Node(name.to_string())),
            Endpoint::Address(_) => None,
        },
    };
    let (mut isolated_by, mut allowed_by) = (Vec::new(), Vec::new());
    match state.label(event.id) {
        Some(Label::Policies(_, policies) | Label::Audited(_, policies)) => {
            isolated_by.extend(policies.iter().map(ToString::to_string));
        }
        Some(Label::Rules(rules)) => allowed_by.extend(rules.iter().map(|rule| Rule {
            policy: rule.policy.to_string(),
            direction: rule.direction.as_str().to_owned(),
            rule: rule.rule,
        })),
        None => {}
    }
    Flow {
        number: 0,
        time_ms: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as u64),
        verdict: match (event.audited, event.accepted) {
            (true, _) => "audit",
            (false, true) => "allow",
            (false, false) => "deny",
        }
        .to_owned(),
        direction: event.side.map(|side| side.as_str().to_owned()),
        source: end(event.source, event.source_port),
        destination: end(event.destination, event.destination_port),
        protocol: protocol.map_or_else(|| event.protocol.to_string(), |protocol| protocol.to_string()),
        reply: event.reply,
        reason: event.reason.as_str().to_owned(),
        isolated_by,
        allowed_by,
    }
}
