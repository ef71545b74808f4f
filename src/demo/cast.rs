//! Who is in the demo: the three tiers, a stranger among the pods, and users outside.
//!
//! Names and ports, and the cluster as manifests: what an API server would hold, as files that the agent follows.

use std::{collections::BTreeMap, fmt::Write, fs, io, net::IpAddr, path::Path};

/// The node's name.
pub const NODE: &str = "node-1";
/// The namespace of the pods.
pub const NAMESPACE: &str = "shop";
/// The range of the node's pods, as flannel gives each node one.
const POD_RANGE: &str = "10.244.1.0/24";

/// Who takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Actor {
    /// The name; for a pod also its label `app`.
    pub name: &'static str,
    /// The port that it serves, if any.
    pub port: Option<u16>,
}

/// Outside the cluster.
pub const USER: Actor = Actor { name: "user", port: None };

/// The pods: three tiers, and one that has no business with any of them.
pub const PODS: [Actor; 4] = [
    Actor { name: "web", port: Some(80) },
    Actor { name: "api", port: Some(5000) },
    Actor { name: "db", port: Some(3306) },
    Actor { name: "stranger", port: None },
];

/// Everybody who tries to reach a tier.
pub fn callers() -> Vec<Actor> {
    [USER].into_iter().chain(PODS).collect()
}

/// Everybody who serves.
pub fn tiers() -> Vec<Actor> {
    PODS.into_iter().filter(|actor| actor.port.is_some()).collect()
}

/// The policies of the three tiers, as `policies-examples/three-tiers/` has them.
pub const POLICIES: [(&str, &str); 5] = [
    ("default-deny.yaml", include_str!("../../policies-examples/three-tiers/default-deny.yaml")),
    ("allow-dns.yaml", include_str!("../../policies-examples/three-tiers/allow-dns.yaml")),
    ("web.yaml", include_str!("../../policies-examples/three-tiers/web.yaml")),
    ("api.yaml", include_str!("../../policies-examples/three-tiers/api.yaml")),
    ("db.yaml", include_str!("../../policies-examples/three-tiers/db.yaml")),
];

/// The policy with the notorious colon.
pub const MALFORMED: &str = include_str!("../../policies-examples/malformed.yaml");

/// Writes the node, the namespace and the pods with their addresses; the namespace asks for this baseline.
pub fn write_cluster(directory: &Path, addresses: &BTreeMap<&str, IpAddr>, baseline: &str) -> io::Result<()> {
    write_whole(
        &directory.join("namespace.yaml"),
        &format!(
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {NAMESPACE}\n  labels:\n    ringfence.dev/baseline: {baseline}\n"
        ),
    )?;
    write_whole(
        &directory.join("node.yaml"),
        &format!("apiVersion: v1\nkind: Node\nmetadata:\n  name: {NODE}\nspec:\n  podCIDRs: [{POD_RANGE}]\n\n"),
    )?;
    let mut pods = String::new();
    for Actor { name, .. } in PODS {
        let Some(address) = addresses.get(name) else { continue };
        let _ = write!(
            pods,
            "---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  namespace: {NAMESPACE}\n  labels:\n    app: {name}\n\
             spec:\n  nodeName: {NODE}\nstatus:\n  phase: Running\n  podIPs: [{{ip: {address}}}]\n"
        );
    }
    write_whole(&directory.join("pods.yaml"), &pods)
}

/// Writes the policies of the three tiers.
pub fn write_policies(directory: &Path) -> io::Result<()> {
    POLICIES.iter().try_for_each(|(name, text)| write_whole(&directory.join(name), text))
}

/// A file that is never half there for whoever reads it.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(new, path)
}
