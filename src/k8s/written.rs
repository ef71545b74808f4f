//! A NetworkPolicy as the API has it: the way back from what `convert` makes of one.
//!
//! `NetworkPolicy -> spec`. Labels that must have one value stand as people write them, under `matchLabels`.

use crate::policy::{
    model::{NetworkPolicy, Peer, PortMatch, PortSpec, Rule},
    selector::{Requirement, Selector, Test},
};
use serde_json::{Map, Value, json};

/// The `spec` of a policy.
pub fn spec(policy: &NetworkPolicy) -> Value {
    let mut spec = json!({"podSelector": selector(&policy.selector), "policyTypes": []});
    let directions = [("Ingress", "ingress", "from", &policy.ingress), ("Egress", "egress", "to", &policy.egress)];
    let mut types = Vec::new();
    for (of_type, field, peers, rules) in directions {
        let Some(rules) = rules else { continue };
        types.push(of_type);
        // Without rules nothing is admitted, and nobody has to read that twice.
        if !rules.is_empty() {
            spec[field] = rules.iter().map(|one| rule(one, peers)).collect();
        }
    }
    spec["policyTypes"] = types.into();
    spec
}

fn rule(rule: &Rule, field: &str) -> Value {
    let mut written = json!({});
    if !rule.peers.is_empty() {
        written[field] = rule.peers.iter().map(peer).collect();
    }
    if !rule.ports.is_empty() {
        written["ports"] = rule.ports.iter().map(port).collect();
    }
    written
}

fn peer(peer: &Peer) -> Value {
    match peer {
        Peer::Pods { namespaces: None, pods } => json!({"podSelector": selector(pods)}),
        Peer::Pods { namespaces: Some(namespaces), pods } => {
            json!({"namespaceSelector": selector(namespaces), "podSelector": selector(pods)})
        }
        Peer::Block(block) => {
            let mut written = json!({"cidr": block.cidr.to_string()});
            if !block.except.is_empty() {
                written["except"] = block.except.iter().map(ToString::to_string).collect();
            }
            json!({"ipBlock": written})
        }
    }
}

fn port(PortMatch { protocol, port }: &PortMatch) -> Value {
    match port {
        all if *all == PortSpec::ALL => json!({"protocol": protocol.as_str()}),
        PortSpec::Range(from, to) if from == to => json!({"protocol": protocol.as_str(), "port": from}),
        PortSpec::Range(from, to) => json!({"protocol": protocol.as_str(), "port": from, "endPort": to}),
        PortSpec::Named(name) => json!({"protocol": protocol.as_str(), "port": name.as_ref()}),
    }
}

fn selector(selector: &Selector) -> Value {
    let mut labels = Map::new();
    let mut expressions = Vec::new();
    for Requirement { key, test } in selector.requirements() {
        let (operator, values) = match test {
            Test::In(values) => ("In", Some(values)),
            Test::NotIn(values) => ("NotIn", Some(values)),
            Test::Exists => ("Exists", None),
            Test::DoesNotExist => ("DoesNotExist", None),
        };
        let values: Option<Vec<&str>> = values.map(|values| values.iter().map(AsRef::as_ref).collect());
        match (operator, values.as_deref()) {
            ("In", Some([value])) if !labels.contains_key(key.as_ref()) => {
                labels.insert(key.to_string(), (*value).into());
            }
            (_, Some(values)) => expressions.push(json!({"key": key.as_ref(), "operator": operator, "values": values})),
            (_, None) => expressions.push(json!({"key": key.as_ref(), "operator": operator})),
        }
    }
    let mut written = json!({});
    if !labels.is_empty() {
        written["matchLabels"] = labels.into();
    }
    if !expressions.is_empty() {
        written["matchExpressions"] = expressions.into();
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::k8s::convert;

    #[test]
    fn what_is_written_is_read_as_what_it_was() {
        let spec_of = json!({
            "podSelector": {"matchLabels": {"app": "web"}, "matchExpressions": [
                {"key": "app", "operator": "NotIn", "values": ["db"]},
                {"key": "tier", "operator": "In", "values": ["a", "b"]},
                {"key": "x", "operator": "Exists"},
                {"key": "y", "operator": "DoesNotExist"},
            ]},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{}, {
                "from": [{"podSelector": {}}, {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}],
                "ports": [{"protocol": "TCP", "port": "http"}, {"protocol": "UDP"}],
            }],
            "egress": [{
                "to": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "db"}}}],
                "ports": [{"protocol": "TCP", "port": 80}, {"protocol": "SCTP", "port": 80, "endPort": 90}],
            }],
        });
        let object = |spec: Value| {
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": "p", "namespace": "shop"}, "spec": spec})
        };
        let read = convert::network_policy(&object(spec_of.clone()));
        assert_eq!(read.findings, []);
        assert_eq!(spec(&read.value), spec_of);
        let closed = NetworkPolicy { ingress: Some(vec![]), egress: Some(vec![]), ..NetworkPolicy::default() };
        assert_eq!(convert::network_policy(&object(spec(&closed))).value, closed);
    }
}
