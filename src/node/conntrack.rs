//! Keeps conntrack on in this network namespace, for IPv4 and IPv6.
//!
//! The kernel tracks connections only where some rule asks for it, and nobody tells a BPF program that it does not. So a
//! table of our own holds one rule that asks, in a chain without a hook: it judges no packet.

use super::netlink::{Attributes, Batch, attributes, list};
use nix::{errno::Errno, libc, sys::socket::SockProtocol};
use std::os::fd::OwnedFd;

/// Names of the table: one is in use, the other is for a successor that comes before its predecessor has gone.
pub const TABLES: [&str; 2] = ["ringfence", "ringfence-2"];
const CHAIN: &str = "keeps-conntrack-on";

/// Others' `nft flush ruleset` passes it by while its owner lives.
const OWNER: u32 = 2;
/// And it stays when the owner goes (Linux 6.9).
const PERSIST: u32 = 4;

const NFTA_TABLE_NAME: u16 = 1;
const NFTA_TABLE_FLAGS: u16 = 2;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_CT_DREG: u16 = 1;
const NFTA_CT_KEY: u16 = 2;
const NFT_REG32_00: u32 = 8;
const NFT_CT_STATE: u32 = 0;

/// Why conntrack may be off.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No capability, or another agent that still runs.
    #[error(
        "not permitted to keep conntrack on: CAP_NET_ADMIN is needed, or other agents own the nf_tables tables {TABLES:?}"
    )]
    NotPermitted,
    /// The kernel has no nf_tables, or refuses.
    #[error(
        "conntrack can not be kept on through nf_tables ({0}): load the kernel modules nf_tables, nft_ct and nf_conntrack"
    )]
    Refused(Errno),
}

/// Conntrack, kept on, also when this value is gone. On kernels before 6.9 only until somebody flushes the ruleset.
#[derive(Debug)]
pub struct Conntrack {
    _owner: OwnedFd,
}

impl Conntrack {
    /// Turns it on. A table that a predecessor left is replaced in the same batch, so conntrack is never off in between.
    pub fn keep() -> Result<Self, Error> {
        // Owned without persisting it would go with the agent, and replies would be dropped until the next one came.
        Self::keep_by(&[OWNER | PERSIST, 0])
    }

    /// As on kernels before 6.9: anybody can flush it. [`Conntrack::stands`] tells.
    pub fn keep_without_owner() -> Result<Self, Error> {
        Self::keep_by(&[0])
    }

    fn keep_by(flags: &[u32]) -> Result<Self, Error> {
        let mut refused = Errno::EOPNOTSUPP;
        for (name, other) in [(TABLES[0], TABLES[1]), (TABLES[1], TABLES[0])] {
            for flags in flags {
                match batch(name, *flags).send() {
                    Ok(socket) => {
                        // Refused while the predecessor lives; the next one takes it away.
                        let _ = removal(other).send();
                        return Ok(Conntrack { _owner: socket });
                    }
                    Err(error) => refused = error,
                }
                if refused == Errno::EPERM {
                    // Somebody owns this one.
                    break;
                }
            }
        }
        Err(if refused == Errno::EPERM { Error::NotPermitted } else { Error::Refused(refused) })
    }

    /// Whether the rule is where it was put. Who can not be asked has not taken it away.
    pub fn stands() -> bool {
        let kind = (libc::NFNL_SUBSYS_NFTABLES << 8 | libc::NFT_MSG_GETRULE) as u16;
        let Ok(rules) = list(SockProtocol::NetlinkNetFilter, kind, &[0; 4], &Attributes::default()) else {
            return true;
        };
        let is_ours = |rule: &Vec<u8>| {
            let mut names = attributes(rule.get(4..).unwrap_or_default());
            names.any(|(kind, name)| {
                kind == NFTA_RULE_TABLE && TABLES.iter().any(|ours| name == [ours.as_bytes(), &[0]].concat())
            })
        };
        rules.iter().any(is_ours)
    }

    /// Takes away what was left. Conntrack goes on where others' rules ask for it.
    pub fn forget() {
        for name in TABLES {
            // Most of the time there is none.
            let _ = removal(name).send();
        }
    }
}

fn named(table: &str) -> Attributes {
    Attributes::default().text(NFTA_TABLE_NAME, table)
}

fn removal(name: &str) -> Batch {
    Batch::new().message(libc::NFT_MSG_DELTABLE, 0, named(name))
}

fn batch(name: &str, flags: u32) -> Batch {
    let create = libc::NLM_F_CREATE;
    let table = || named(name);
    let chain = Attributes::default().text(NFTA_CHAIN_TABLE, name).text(NFTA_CHAIN_NAME, CHAIN);
    let state = Attributes::default().number(NFTA_CT_DREG, NFT_REG32_00).number(NFTA_CT_KEY, NFT_CT_STATE);
    let expression = Attributes::default().text(NFTA_EXPR_NAME, "ct").nested(NFTA_EXPR_DATA, state);
    let rule = Attributes::default()
        .text(NFTA_RULE_TABLE, name)
        .text(NFTA_RULE_CHAIN, CHAIN)
        .nested(NFTA_RULE_EXPRESSIONS, Attributes::default().nested(NFTA_LIST_ELEM, expression));
    // Creating first means that there is something to delete; both together that rules do not pile up.
    Batch::new()
        .message(libc::NFT_MSG_NEWTABLE, create, table().number(NFTA_TABLE_FLAGS, flags))
        .message(libc::NFT_MSG_DELTABLE, 0, table())
        .message(libc::NFT_MSG_NEWTABLE, create, table().number(NFTA_TABLE_FLAGS, flags))
        .message(libc::NFT_MSG_NEWCHAIN, create, chain)
        .message(libc::NFT_MSG_NEWRULE, create | libc::NLM_F_APPEND, rule)
}
