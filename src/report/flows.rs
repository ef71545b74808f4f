//! A flow that the kernel decided about, as text and as JSON.
//!
//! An agent names addresses and ids as it knows them when the event comes; whoever asks gets the same value as a line for
//! people or as JSON.

use serde::{Deserialize, Serialize};
use std::{fmt, net::IpAddr};

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
    /// Why: one sentence.
    pub reason: String,
    /// The policies that isolate or would, or the rules that admitted.
    pub by: Vec<String>,
}

/// One end of a flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Its address.
    pub address: IpAddr,
    /// Its port; 0 for a protocol without ports.
    pub port: u16,
    /// `namespace/name` of the pod that it belongs to.
    pub pod: Option<String>,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(pod) = &self.pod {
            write!(f, "{pod} ")?;
        }
        match (self.address, self.port) {
            (address, 0) => write!(f, "{address}"),
            (IpAddr::V4(address), port) => write!(f, "{address}:{port}"),
            (IpAddr::V6(address), port) => write!(f, "[{address}]:{port}"),
        }
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reply = if self.reply { " (reply)" } else { "" };
        write!(
            f,
            "{} {} {} -> {}{reply}: {}",
            self.verdict, self.protocol, self.source, self.destination, self.reason
        )?;
        if !self.by.is_empty() {
            write!(f, " {}", self.by.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_who_whom_and_why() {
        let end = |pod: Option<&str>, address: &str, port| End {
            address: address.parse().unwrap(),
            port,
            pod: pod.map(str::to_owned),
        };
        let flow = Flow {
            number: 1,
            time_ms: 0,
            verdict: "deny".to_owned(),
            direction: Some("ingress".to_owned()),
            source: end(Some("shop/stranger"), "10.244.0.5", 40000),
            destination: end(Some("shop/db"), "fd00::4", 3306),
            protocol: "TCP".to_owned(),
            reply: false,
            reason: "no rule admits it at the destination, which is isolated by".to_owned(),
            by: vec!["shop/db".to_owned()],
        };
        assert_eq!(
            flow.to_string(),
            "deny TCP shop/stranger 10.244.0.5:40000 -> shop/db [fd00::4]:3306: \
             no rule admits it at the destination, which is isolated by shop/db"
        );
    }
}
