//! The baseline: what fences a namespace that has no policy of its own yet.
//!
//! A setting of the process, overridden by the label `ringfence.dev/baseline` of a namespace. It acts as one more
//! NetworkPolicy of the namespace, [`POLICY_NAME`], so policies of people add up with it.

use super::{
    model::{Labels, Name, Namespace, NetworkPolicy, Rule},
    resolver,
    selector::Selector,
};

/// The label by which a namespace chooses its baseline.
pub const LABEL: &str = "ringfence.dev/baseline";
/// The name under which a baseline acts, and under which it is shown.
pub const POLICY_NAME: &str = "ringfence-baseline";
/// Namespaces that never get a baseline: the cluster could not start in them.
pub const EXEMPT: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];
/// The label that every API server puts on a Namespace.
pub const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// What a baseline denies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Baseline {
    /// Nothing.
    #[default]
    Off,
    /// Everything in.
    DenyIngress,
    /// Everything in, and everything out but DNS to the cluster's resolver.
    DenyAll,
}

impl Baseline {
    /// As the label and the command line write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Baseline::Off => "off",
            Baseline::DenyIngress => "deny-ingress",
            Baseline::DenyAll => "deny-all",
        }
    }

    /// The policy that it comes to; none when it is off. DNS is let out to the pods that are labelled as the resolver's, and by these
    /// rules beyond them.
    pub fn policy(self, beyond: &[Rule]) -> Option<NetworkPolicy> {
        let egress = match self {
            Baseline::Off => return None,
            Baseline::DenyIngress => None,
            Baseline::DenyAll => Some([resolver::by_labels()].into_iter().chain(beyond.iter().cloned()).collect()),
        };
        Some(NetworkPolicy { selector: Selector::everything(), ingress: Some(vec![]), egress, mode: None })
    }
}

impl std::str::FromStr for Baseline {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        [Baseline::Off, Baseline::DenyIngress, Baseline::DenyAll]
            .into_iter()
            .find(|b| b.as_str() == text)
            .ok_or_else(|| format!("no baseline is called {text:?}: write deny-all, deny-ingress or off"))
    }
}

/// The baseline of a namespace: its label if it has a valid one, else the setting, unless it is older than that. A label that means nothing denies all,
/// because whoever set it meant to fence.
pub fn of_namespace(name: &Name, namespace: Option<&Namespace>, setting: Baseline) -> Baseline {
    if EXEMPT.contains(&name.as_ref()) {
        return Baseline::Off;
    }
    match namespace.and_then(|n| n.labels.get(LABEL)) {
        Some(label) => label.parse().unwrap_or(Baseline::DenyAll),
        None if namespace.is_some_and(|namespace| namespace.older) => Baseline::Off,
        None => setting,
    }
}

/// The labels of a namespace with the one that every API server adds.
pub fn with_name_label(name: &Name, labels: Labels) -> Labels {
    labels.iter().map(|(k, v)| (k.clone(), v.clone())).chain([(Name::from(NAMESPACE_NAME), name.clone())]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labelled(value: &str) -> Namespace {
        Namespace { labels: Labels::from_iter([(LABEL, value)]), ..Namespace::default() }
    }

    #[test]
    fn the_label_of_a_namespace_overrides_the_setting() {
        let name = Name::from("shop");
        assert_eq!(of_namespace(&name, Some(&labelled("off")), Baseline::DenyAll), Baseline::Off);
        assert_eq!(of_namespace(&name, Some(&labelled("deny-ingress")), Baseline::Off), Baseline::DenyIngress);
        assert_eq!(of_namespace(&name, Some(&Namespace::default()), Baseline::DenyAll), Baseline::DenyAll);
        assert_eq!(of_namespace(&name, None, Baseline::DenyAll), Baseline::DenyAll);
    }

    #[test]
    fn a_namespace_that_is_older_than_the_setting_has_what_its_label_says() {
        let (name, older) = (Name::from("shop"), |namespace| Namespace { older: true, ..namespace });
        assert_eq!(of_namespace(&name, Some(&older(Namespace::default())), Baseline::DenyAll), Baseline::Off);
        let fenced = older(labelled("deny-ingress"));
        assert_eq!(of_namespace(&name, Some(&fenced), Baseline::Off), Baseline::DenyIngress);
    }

    #[test]
    fn a_label_that_means_nothing_denies_all() {
        assert_eq!(of_namespace(&"shop".into(), Some(&labelled("deny")), Baseline::Off), Baseline::DenyAll);
    }

    #[test]
    fn the_namespaces_of_the_cluster_itself_have_none() {
        for name in EXEMPT {
            assert_eq!(of_namespace(&name.into(), Some(&labelled("deny-all")), Baseline::DenyAll), Baseline::Off);
        }
    }

    #[test]
    fn deny_all_lets_dns_out_and_nothing_in() {
        let policy = Baseline::DenyAll.policy(&[]).expect("a policy");
        assert_eq!(policy.ingress, Some(vec![]));
        assert_eq!(policy.egress.expect("isolated"), [resolver::by_labels()]);
        let policy = Baseline::DenyAll.policy(&[Rule::default()]).expect("a policy");
        assert_eq!(policy.egress.expect("isolated"), [resolver::by_labels(), Rule::default()]);
        assert_eq!(Baseline::DenyIngress.policy(&[]).expect("a policy").egress, None);
        assert_eq!(Baseline::Off.policy(&[]), None);
    }
}
