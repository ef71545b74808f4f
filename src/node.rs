//! What this node knows by itself and does around the datapath: which address is behind which interface, conntrack that stays
//! on, bridges that call netfilter; and network namespaces for those who need one of their own.
pub mod bridge;
pub mod bypass;
pub mod cni;
pub mod conntrack;
pub mod interfaces;
pub mod memory;
mod netlink;
pub mod sandbox;
pub mod sight;
