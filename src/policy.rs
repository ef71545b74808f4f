//! The semantics of NetworkPolicy: pure values and functions, no I/O.
//!
//! `Cluster -> compile -> Table -> changes -> kernel`, and beside it `decide`, which answers the same question the slow
//! way and is what the rest is tested against. The law is the Kubernetes page on network policies:
//!
//! - A pod is isolated in a direction as soon as one policy of that type selects it. Policies add up; both ends must let
//!   a connection pass; replies pass as their connection does.
//! - A pod can not be kept from itself, nor from its own node. Pods of the host network are their node. Pods that have
//!   finished are in no set.
//! - `from`, `to` and `ports` that are empty mean any; a rule list that is empty means none.

pub mod baseline;
pub mod change;
pub mod cluster;
pub mod compile;
pub mod counted;
pub mod decide;
pub mod identity;
pub mod ids;
pub mod labels;
pub mod matrix;
pub mod mode;
pub mod model;
pub mod numbers;
pub mod policy_set;
pub mod prefix;
pub mod resolver;
pub mod selector;
pub mod service;
pub mod state;
pub mod table;
