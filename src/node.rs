//! What this node does around the datapath: conntrack stays on, bridges call netfilter, and network namespaces for those
//! who need one of their own.
pub mod bridge;
pub mod conntrack;
pub mod memory;
mod netlink;
pub mod sandbox;
