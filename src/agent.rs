//! The agent of one node: `source -> Cluster -> State -> changes -> datapath`, and what the kernel tells on the way back.
//!
//! [`start::Agent`] is the entry. One thread follows the source, one looks at the node, one talks with the agents of other nodes,
//! one enforces and owns all state, one answers probes.
//! Nothing here decides about packets: killed or stopped, the agent leaves the kernel enforcing what it had, unless
//! [`leave`] says that nobody comes after it.

pub mod accounts;
pub mod announce;
pub mod enforce;
pub mod flow;
pub mod leave;
pub mod lookout;
pub mod metrics;
pub mod needs;
pub mod neighbours;
pub mod ops;
pub mod recent;
pub mod source;
pub mod start;
pub mod status;
pub mod taint;
