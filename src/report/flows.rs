//! A flow that the kernel decided about, as text and as JSON.
//!
//! An agent names addresses and ids as it knows them when the event comes. `ringfence flows` and the demo read the same
//! value back: a line for people, or JSON for machines.

use serde::{Deserialize, Serialize};
use std::{fmt, net::IpAddr};

/// So many policies or rules a line names: hundreds can isolate one pod. JSON has all of them.
const NAMED: usize = 5;

/// What an agent answers who asks for flows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flows {
    /// Tells an agent from the one before it: numbers are its own.
    pub agent: u64,
    /// How many came after the last one that the reader has, and were given up before he asked.
    pub lost: u64,
    /// In order.
    pub flows: Vec<Flow>,
}

/// One packet that was decided about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Flow {
    /// Counts the flows of an agent, from 1.
    pub number: u64,
    /// When, in milliseconds since 1970.
    pub time_ms: u64,
    /// `allow`, `deny`, or `audit`: it passed, and would not if the policies were enforced.
    pub verdict: String,
    /// The side that decided: `ingress`, `egress`, or none.
    pub direction: Option<String>,
    /// Who opened the connection that the packet belongs to.
    pub source: End,
    /// Who was asked.
    pub destination: End,
    /// `TCP`, `UDP`, `SCTP`, or the number of another protocol.
    pub protocol: String,
    /// The packet was a reply.
    pub reply: bool,
    /// Why, in a word: `policy`, or what was decided without asking one. The same words as in the metrics.
    pub reason: String,
    /// The policies that isolate the end that decided, where none of their rules admitted; with the verdict `audit`, those
    /// that would.
    pub isolated_by: Vec<String>,
    /// The rules that admitted.
    pub allowed_by: Vec<Rule>,
}

/// A rule, as `ringfence explain` writes it, with the list that it stands in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// `namespace/name`.
    pub policy: String,
    /// `ingress` or `egress`.
    pub direction: String,
    /// The place in the list, from 0.
    pub rule: usize,
}

/// One end of a flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Its address.
    pub address: IpAddr,
    /// Its port; 0 for a protocol without ports.
    pub port: u16,
    /// Whose the address is, where the cluster has it.
    #[serde(flatten)]
    pub owner: Option<Owner>,
}

/// Whose an address is: a member `pod` or `node` of the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Owner {
    /// `namespace/name`.
    Pod(String),
    /// A node's name.
    Node(String),
}

impl End {
    /// The pod, if it is one.
    pub fn pod(&self) -> Option<&str> {
        match &self.owner {
            Some(Owner::Pod(pod)) => Some(pod),
            _ => None,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.owner {
            Some(Owner::Pod(pod)) => write!(f, "{pod} ")?,
            Some(Owner::Node(node)) => write!(f, "node {node} ")?,
            None => {}
        }
        match (self.address, self.port) {
            (address, 0) => write!(f, "{address}"),
            (IpAddr::V4(address), port) => write!(f, "{address}:{port}"),
            (IpAddr::V6(address), port) => write!(f, "[{address}]:{port}"),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}[{}]", self.policy, self.direction, self.rule)
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reply = if self.reply { " (reply)" } else { "" };
        write!(
            f,
            "{} {} {} -> {}{reply}: {}",
            self.verdict,
            self.protocol,
            self.source,
            self.destination,
            self.sentence()
        )?;
        let named: Vec<String> =
            self.isolated_by.iter().cloned().chain(self.allowed_by.iter().map(ToString::to_string)).collect();
        if !named.is_empty() {
            write!(f, " {}", named[..named.len().min(NAMED)].join(", "))?;
        }
        if named.len() > NAMED {
            write!(f, " and {} more", named.len() - NAMED)?;
        }
        Ok(())
    }
}

impl Flow {
    /// The reason as a sentence, to be followed by policies or rules.
    fn sentence(&self) -> &str {
        match (self.reason.as_str(), self.verdict.as_str(), self.direction.as_deref()) {
            ("policy", "allow", _) => "admitted by",
            ("policy", "audit", Some("egress")) => {
                "in audit, so it passes: no rule admits it at its source, which would be isolated for egress by"
            }
            ("policy", "audit", _) => {
                "in audit, so it passes: no rule admits it at its destination, which would be isolated for ingress by"
            }
            ("policy", _, Some("egress")) => "no rule admits it at its source, which is isolated for egress by",
            ("policy", ..) => "no rule admits it at its destination, which is isolated for ingress by",
            ("malformed", ..) => "its headers can not be read",
            ("fragment", ..) => "a fragment that was not put together",
            ("closed", ..) => "an address of this node's pod ranges that is no pod that is known",
            ("redirect", ..) => "a router's message that a pod sent",
            ("node", ..) => "the node itself sent it",
            ("neighbour", ..) => "neighbour discovery",
            ("open", ..) => "neither end is isolated here",
            ("self", ..) => "a pod to itself",
            ("spoofed", ..) => "its source is no address of the interface that it came in by",
            ("astray", ..) => "its destination is no address of the interface that it would leave by",
            ("tagged", ..) => "it has a VLAN tag, with which nobody could judge it",
            // An agent that is newer than this reader.
            (word, ..) => word,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn flow() -> Flow {
        Flow {
            number: 1,
            time_ms: 0,
            verdict: "deny".to_owned(),
            direction: Some("ingress".to_owned()),
            source: End {
                address: [10, 244, 0, 5].into(),
                port: 40000,
                owner: Some(Owner::Pod("shop/stranger".to_owned())),
            },
            destination: End {
                address: "fd00::4".parse().unwrap(),
                port: 3306,
                owner: Some(Owner::Pod("shop/db".to_owned())),
            },
            protocol: "TCP".to_owned(),
            reply: false,
            reason: "policy".to_owned(),
            isolated_by: vec!["shop/db".to_owned()],
            allowed_by: vec![],
        }
    }

    #[test]
    fn a_line_says_who_whom_and_why() {
        assert_eq!(
            flow().to_string(),
            "deny TCP shop/stranger 10.244.0.5:40000 -> shop/db [fd00::4]:3306: \
             no rule admits it at its destination, which is isolated for ingress by shop/db"
        );
        let rule = Rule { policy: "shop/db".to_owned(), direction: "ingress".to_owned(), rule: 1 };
        let node = End { owner: Some(Owner::Node("n1".to_owned())), ..flow().source };
        let allowed = Flow {
            verdict: "allow".to_owned(),
            isolated_by: vec![],
            allowed_by: vec![rule],
            source: node,
            reply: true,
            ..flow()
        };
        assert_eq!(
            allowed.to_string(),
            "allow TCP node n1 10.244.0.5:40000 -> shop/db [fd00::4]:3306 (reply): admitted by shop/db ingress[1]"
        );
        assert!(Flow { reason: "later".to_owned(), ..flow() }.to_string().contains("3306: later"));
        let isolated_by = (1..=8).map(|n| format!("shop/p{n}")).collect();
        let many = Flow { isolated_by, ..flow() }.to_string();
        assert!(many.ends_with("by shop/p1, shop/p2, shop/p3, shop/p4, shop/p5 and 3 more"), "{many}");
    }

    #[test]
    fn json_has_the_fields_that_machines_rely_on_and_is_read_back() {
        let stranger = End { owner: None, ..flow().source };
        let flow = Flow { source: stranger, ..flow() };
        let written = serde_json::to_value(&flow).unwrap();
        assert_eq!(
            written,
            json!({
                "number": 1, "timeMs": 0, "verdict": "deny", "direction": "ingress",
                "source": {"address": "10.244.0.5", "port": 40000},
                "destination": {"address": "fd00::4", "port": 3306, "pod": "shop/db"},
                "protocol": "TCP", "reply": false, "reason": "policy", "isolatedBy": ["shop/db"], "allowedBy": [],
            })
        );
        assert_eq!(serde_json::from_value::<Flow>(written).unwrap(), flow);
    }
}
