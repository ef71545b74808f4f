//! Files of manifests as a cluster.
//!
//! `paths -> Manifests {cluster, findings, errors}`, by [`read`]. Other kinds are skipped. A NetworkPolicy with findings is
//! in the cluster, fail closed, if its name and namespace can be read; everything else that cannot be read is left out and
//! an error, and whoever enforces does not take a cluster with errors.

use super::{
    convert::{self, Converted, Settings},
    files::{self, File},
    yaml,
};
use crate::{
    finding::{
        FieldPath,
        located::{Located, Span},
        printable,
    },
    policy::{
        cluster::{Cluster, Event},
        model::Key,
    },
};
use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

/// What files of manifests come to.
#[derive(Debug, Default)]
pub struct Manifests {
    /// Every object of a kind that matters. Its baseline setting is off.
    pub cluster: Cluster,
    /// What is wrong with its NetworkPolicies.
    pub findings: Vec<Located>,
    /// What is missing from the cluster, or twice in it.
    pub errors: Vec<Error>,
}

/// Why a manifest is not in the cluster as it was written. One line: where, what and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] files::Error),
    /// A file is no YAML.
    #[error("{file}:{}:{}: {message}", .span.line, .span.column)]
    Syntax {
        /// The file.
        file: String,
        /// Where it stops being YAML.
        span: Span,
        /// What is wrong there.
        message: String,
    },
    /// An object other than a NetworkPolicy cannot be read.
    #[error("{0}")]
    Object(Box<Located>),
    /// Two objects of one kind and name.
    #[error("{object} stands twice, at {first} and at {again}: rename or remove one")]
    Twice {
        /// The object.
        object: String,
        /// File and line of the one that counts.
        first: String,
        /// File and line of the other one.
        again: String,
    },
    /// Two pods with one address.
    #[error("the pods {first} and {second} both have the address {address}: correct one status.podIPs")]
    Address {
        /// The address.
        address: IpAddr,
        /// A pod.
        first: Key,
        /// Another pod.
        second: Key,
    },
}

/// Why files do not make a whole cluster. Displays as one line: the first error, and how many more there are.
#[derive(Debug)]
pub struct Mistakes(pub Vec<Error>);

impl std::fmt::Display for Mistakes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0[..] {
            [] => f.write_str("no error"),
            [one] => one.fmt(f),
            [first, more @ ..] => write!(f, "{first} (and {} more)", more.len()),
        }
    }
}

impl std::error::Error for Mistakes {}

/// Reads files, and directories recursively, as a cluster.
pub fn read(paths: &[PathBuf], settings: &Settings) -> Manifests {
    let (files, errors) = files::read(paths);
    let mut manifests = from_files(&files, settings);
    manifests.errors.splice(0..0, errors.into_iter().map(Error::from));
    manifests
}

/// The same, of files that have been read.
pub fn from_files(files: &[File], settings: &Settings) -> Manifests {
    let mut manifests = Manifests::default();
    let mut places = BTreeMap::new();
    for file in files {
        let parsed = yaml::parse_bytes(&file.bytes);
        for error in parsed.errors {
            manifests.errors.push(Error::Syntax { file: file.name.clone(), span: error.span, message: error.message });
        }
        for object in &parsed.objects {
            manifests.take(object, file, settings, &mut places);
        }
    }
    manifests.addresses();
    manifests
}

impl Manifests {
    /// The cluster and what is wrong with its policies, if nothing is missing from it.
    ///
    /// # Errors
    /// What is missing, or twice in it.
    pub fn whole(self) -> Result<(Cluster, Vec<Located>), Mistakes> {
        if self.errors.is_empty() { Ok((self.cluster, self.findings)) } else { Err(Mistakes(self.errors)) }
    }

    fn take(&mut self, object: &yaml::Object, file: &File, settings: &Settings, places: &mut BTreeMap<String, String>) {
        let Some(Converted { value, findings }) = convert::object(&object.value, settings) else { return };
        // A policy with mistakes is closed, if anybody knows where it stands.
        let closes = matches!(value, Event::Policy(..)) && !findings.iter().any(|finding| is_key(&finding.path));
        let refused = !findings.is_empty() && !closes;
        let located = findings.into_iter().map(|finding| object.located(finding, &file.name, &settings.namespace));
        match refused {
            true => return self.errors.extend(located.map(|located| Error::Object(Box::new(located)))),
            false => self.findings.extend(located),
        }
        let name = name(&value);
        let here = format!("{}:{}", file.name, object.place(&FieldPath::root()).value.line);
        if let Some(first) = places.get(&name) {
            self.errors.push(Error::Twice { object: name, first: first.clone(), again: here });
            return;
        }
        places.insert(name, here);
        self.cluster.apply(value);
    }

    /// No two pods of the pod network have one address.
    fn addresses(&mut self) {
        let mut owners: BTreeMap<IpAddr, &Key> = BTreeMap::new();
        for (key, pod) in self.cluster.pods.iter().filter(|(_, pod)| pod.is_endpoint()) {
            for address in &pod.addresses {
                if let Some(first) = owners.insert(*address, key) {
                    let (first, second) = (first.clone(), key.clone());
                    self.errors.push(Error::Address { address: *address, first, second });
                }
            }
        }
    }
}

/// Whether a field says what an object is called and where it stands, or is all of metadata.
fn is_key(path: &FieldPath) -> bool {
    let metadata = FieldPath::root().field("metadata");
    *path == metadata || *path == metadata.field("name") || *path == metadata.field("namespace")
}

fn name(event: &Event) -> String {
    let name = match event {
        Event::Namespace(name, _) => format!("Namespace {name}"),
        Event::Node(name, _) => format!("Node {name}"),
        Event::Pod(key, _) => format!("Pod {key}"),
        Event::Policy(key, _) => format!("NetworkPolicy {key}"),
        Event::Attachment(address, _) => format!("the interface of {address}"),
        Event::Neighbour(name, _) => format!("what {name} sees"),
        Event::Ranges(_) => "the node's pod ranges".to_owned(),
        Event::Resolver(key, _) => format!("EndpointSlice {key}"),
        Event::Around(_) => "what explains policies".to_owned(),
    };
    one_line(&name)
}

fn one_line(text: &str) -> String {
    printable(&text.replace('\n', " ")).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::selector::Selector;

    fn cluster(texts: &[&str]) -> Manifests {
        let files: Vec<File> = texts
            .iter()
            .enumerate()
            .map(|(at, text)| File { name: format!("{at}.yaml"), bytes: text.as_bytes().to_vec() })
            .collect();
        from_files(&files, &Settings { templates: true, ..Settings::default() })
    }

    fn pod(name: &str, address: &str) -> String {
        format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nstatus: {{podIP: {address}}}\n---\n")
    }

    const POLICY: &str =
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: shop}\nspec:\n";

    #[test]
    fn objects_of_several_files_make_one_cluster_and_other_kinds_are_skipped() {
        let read = cluster(&[
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\nkind: Service\napiVersion: v1\nmetadata: {name: s}\n",
            &format!("{}{POLICY}  podSelector: {{}}\n", pod("a", "10.0.0.1")),
            "apiVersion: v1\nkind: Node\nmetadata: {name: node1}\n---\nfoo: bar\n",
        ]);
        assert!(read.errors.is_empty() && read.findings.is_empty(), "{:?}", read.errors);
        let c = &read.cluster;
        assert_eq!((c.namespaces.len(), c.pods.len(), c.policies.len(), c.nodes.len()), (1, 1, 1, 1));
        assert!(c.pods.contains_key(&Key::new("default", "a")));
    }

    #[test]
    fn a_policy_with_findings_is_there_and_closed() {
        let read = cluster(&[&format!("{POLICY}  podSelector: {{}}\n  policyTypes:\n  - Ingress:\n")]);
        assert!(read.errors.is_empty());
        let [found] = &read.findings[..] else { panic!("{:?}", read.findings) };
        assert_eq!((found.file.as_str(), found.span.line, found.span.column), ("0.yaml", 7, 5));
        assert_eq!(found.object, "NetworkPolicy/shop/p");
        let policy = &read.cluster.policies[&Key::new("shop", "p")];
        assert_eq!(
            (&policy.selector, &policy.ingress, &policy.egress),
            (&Selector::everything(), &Some(vec![]), &Some(vec![]))
        );
    }

    #[test]
    fn errors_say_where_and_what() {
        let text = |texts: &[&str]| cluster(texts).errors.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            text(&[&(pod("a", "10.0.0.1") + &pod("b", "'::ffff:10.0.0.1'"))]),
            ["the pods default/a and default/b both have the address 10.0.0.1: correct one status.podIPs"]
        );
        assert_eq!(
            text(&[&pod("a", "10.0.0.1"), &pod("a", "10.0.0.2")]),
            ["Pod default/a stands twice, at 0.yaml:1 and at 1.yaml:1: rename or remove one"]
        );
        assert!(text(&[&pod("y", "10.0.0.1")])[0].contains("quote it: \"true\""));
        assert_eq!(text(&["a:\n\tb: 1\n"]), ["0.yaml:2:1: a tab where YAML wants spaces: indent with spaces"]);
        assert!(
            text(&[&pod("a", "10.0.0.300")])[0].starts_with("0.yaml:4:17: Pod/default/a: \"10.0.0.300\" is no address")
        );
    }

    #[test]
    fn an_object_of_which_nobody_knows_the_namespace_is_an_error_and_not_in_default() {
        let policy = POLICY.replace("namespace: shop", "namespace: 123");
        let pod = pod("a", "10.0.0.1").replace("name: a", "name: a, namespace: on");
        let read = cluster(&[&pod, &policy]);
        assert_eq!((read.errors.len(), read.cluster.pods.len(), read.cluster.policies.len()), (2, 0, 0));
        assert!(read.errors[1].to_string().contains("metadata.namespace must be a string"), "{}", read.errors[1]);
    }

    #[test]
    fn pods_of_the_node_s_network_share_its_address() {
        let host = |name: &str| pod(name, "192.0.2.1").replace("status:", "spec: {hostNetwork: true}\nstatus:");
        assert!(cluster(&[&(host("a") + &host("b"))]).errors.is_empty());
    }
}
