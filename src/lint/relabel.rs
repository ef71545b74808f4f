//! A pod that runs and gets other labels, and a namespace: which policies it leaves, and whose peer it becomes.

use super::view::{LOOKS, View};
use crate::{
    finding::{FieldPath, Finding, Severity, rule::Rule},
    policy::{
        mode::Mode,
        model::{Direction, Key, Labels, NetworkPolicy, Peer, Pod},
    },
};
use std::collections::BTreeSet;

pub(super) const RULES: &[Rule] = &[LAST, LEAVES, JOINS, NAMESPACE_JOINS, NAMESPACE_LEAVES];

const WRONG: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db-debug}}
spec: {containers: [{name: db, image: db}]}
";
const RIGHT: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
spec: {containers: [{name: db, image: db}]}
";

/// The rule that says so of the last policy.
pub const LEAVES_FENCE: &str = "pod-leaves-fence";

const LAST: Rule = Rule {
    id: LEAVES_FENCE,
    severity: Some(Severity::Error),
    title: "A running pod is relabelled out of the last policy that isolates it",
    why: "Labels decide which policies hold for a pod. Whoever may change the labels of a pod that runs can take it out of all of \
          them. The webhook judges an update by the policies that it knows; who may do it all the same is a setting \
          (`--may-relabel`). In files nothing is updated.",
    wrong: WRONG,
    right: RIGHT,
};

const LEAVES: Rule = Rule {
    id: "pod-leaves-policy",
    severity: Some(Severity::Warning),
    title: "A running pod is relabelled out of a policy",
    why: "Other policies still isolate the pod, but what this one admitted no longer holds. Said by the webhook only.",
    wrong: WRONG,
    right: RIGHT,
};

const JOINS: Rule = Rule {
    id: "pod-joins-peer",
    severity: Some(Severity::Warning),
    title: "A running pod is relabelled into what others admit",
    why: "Policies of others admit pods by their labels. With the new ones this pod is among them. Said by the webhook only.",
    wrong: WRONG,
    right: RIGHT,
};

const NAMESPACE_WRONG: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: lab, labels: {team: shop}}\n";
const NAMESPACE_RIGHT: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: lab, labels: {team: lab}}\n";

const NAMESPACE_JOINS: Rule = Rule {
    id: "namespace-joins-peer",
    severity: Some(Severity::Warning),
    title: "A namespace is relabelled into what policies admit",
    why: "A namespaceSelector admits the pods of every namespace that has its labels. With the new ones the pods of this \
          namespace are among them, at once and without a change of any policy. Said by the webhook only.",
    wrong: NAMESPACE_WRONG,
    right: NAMESPACE_RIGHT,
};

const NAMESPACE_LEAVES: Rule = Rule {
    id: "namespace-leaves-peer",
    severity: Some(Severity::Warning),
    title: "A namespace is relabelled out of what policies admit",
    why: "A namespaceSelector admits the pods of every namespace that has its labels. Without them the connections of the pods of \
          this namespace end at once. Said by the webhook only.",
    wrong: NAMESPACE_WRONG,
    right: NAMESPACE_RIGHT,
};

/// What new labels of a namespace change.
pub fn namespace_relabelled(before: &Labels, after: &Labels, view: &View<'_>) -> Vec<Finding> {
    if before == after {
        return vec![];
    }
    let admits = |value: &NetworkPolicy, labels: &Labels| {
        let rules = Direction::BOTH.into_iter().filter_map(|direction| value.rules(direction)).flatten();
        rules
            .flat_map(|rule| &rule.peers)
            .any(|peer| matches!(peer, Peer::Pods { namespaces: Some(selector), .. } if selector.matches(labels)))
    };
    let place = FieldPath::root().field("metadata").field("labels");
    let changed = |without: &Labels, with: &Labels| -> BTreeSet<Key> {
        let all = view.cluster.policies.iter().take(LOOKS);
        all.filter(|(_, value)| admits(value, with) && !admits(value, without)).map(|(key, _)| key.clone()).collect()
    };
    let (joined, left) = (changed(before, after), changed(after, before));
    let mut findings = Vec::new();
    if !joined.is_empty() {
        let message =
            format!("with these labels pods of this namespace are among those that {} admits", named(&joined));
        findings.push(NAMESPACE_JOINS.at(&place, message, "keep the labels if that is not meant"));
    }
    if !left.is_empty() {
        let message = format!("with these labels {} admits no pod of this namespace by them any more", named(&left));
        findings.push(NAMESPACE_LEAVES.at(&place, message, "keep the labels if that is not meant"));
    }
    findings
}

/// What new labels of a running pod change.
pub fn relabelled(key: &Key, before: &Pod, after: &Pod, view: &View<'_>) -> Vec<Finding> {
    if before.labels == after.labels || !after.is_endpoint() {
        return vec![];
    }
    let place = FieldPath::root().field("metadata").field("labels");
    let isolating = |pod: &Pod, direction| -> BTreeSet<Key> {
        let isolating = view.cluster.isolating(key, pod, direction);
        // What is in audit changes nothing of what passes.
        isolating.filter(|(.., mode)| *mode == Mode::Enforce).map(|(key, ..)| key).collect()
    };
    let (mut open, mut left) = (Vec::new(), BTreeSet::new());
    for direction in Direction::BOTH {
        let (was, is) = (isolating(before, direction), isolating(after, direction));
        if !was.is_empty() && is.is_empty() {
            open.push(direction.as_str());
        }
        left.extend(was.difference(&is).cloned());
    }
    let mut findings = Vec::new();
    if !open.is_empty() {
        let message = format!(
            "with these labels no policy isolates the pod for {} any more: it leaves {}",
            open.join(" and "),
            named(&left)
        );
        findings.push(LAST.at(&place, message, "keep the labels, or add a policy that selects the new ones first"));
    } else if !left.is_empty() {
        let message = format!("with these labels the pod leaves {}", named(&left));
        findings.push(LEAVES.at(&place, message, "keep the labels if that is not meant"));
    }
    let joined: BTreeSet<Key> = view
        .cluster
        .policies
        .iter()
        .take(LOOKS)
        .filter(|(policy, value)| {
            peer_of(view, policy, value, key, &after.labels) && !peer_of(view, policy, value, key, &before.labels)
        })
        .map(|(key, _)| key.clone())
        .collect();
    if !joined.is_empty() {
        let message = format!("with these labels the pod is among those that {} admits", named(&joined));
        findings.push(JOINS.at(&place, message, "keep the labels if that is not meant"));
    }
    findings
}

/// Whether a policy admits pods with these labels as a peer.
fn peer_of(view: &View<'_>, policy: &Key, value: &NetworkPolicy, pod: &Key, labels: &Labels) -> bool {
    let namespace = view.cluster.namespaces.get(&pod.namespace);
    let rules = Direction::BOTH.into_iter().filter_map(|direction| value.rules(direction)).flatten();
    rules.flat_map(|rule| &rule.peers).any(|peer| match peer {
        Peer::Pods { namespaces: None, pods } => policy.namespace == pod.namespace && pods.matches(labels),
        Peer::Pods { namespaces: Some(selector), pods } => {
            namespace.is_some_and(|n| selector.matches(&n.labels)) && pods.matches(labels)
        }
        Peer::Block(_) => false,
    })
}

fn named(keys: &BTreeSet<Key>) -> String {
    let some = keys.iter().take(3).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match keys.len().checked_sub(3) {
        Some(more @ 1..) => format!("{some} and {more} more"),
        _ => some,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{
        cluster::{Cluster, Event},
        model::{Namespace, Rule},
        selector::{Requirement, Selector},
    };

    fn selecting(app: &str) -> Selector {
        [Requirement::equals("app", app)].into_iter().collect()
    }

    fn pod(app: &str) -> Pod {
        Pod { labels: Labels::from_iter([("app", app)]), ..Pod::default() }
    }

    fn changed(policies: &[(&str, NetworkPolicy)], from: &str, to: &str) -> Vec<&'static str> {
        let mut cluster = Cluster::default();
        cluster.apply(Event::Namespace("shop".into(), Some(Namespace::default())));
        for (name, policy) in policies {
            cluster.apply(Event::Policy(Key::new("shop", *name), Some(policy.clone())));
        }
        let view = View { cluster: &cluster, live: true };
        relabelled(&Key::new("shop", "p"), &pod(from), &pod(to), &view).into_iter().map(|f| f.rule).collect()
    }

    #[test]
    fn a_pod_that_leaves_the_last_policy_is_told_from_one_that_leaves_one_of_two() {
        let db = NetworkPolicy { selector: selecting("db"), ingress: Some(vec![]), egress: None, mode: None };
        let all = NetworkPolicy { selector: Selector::everything(), ..db.clone() };
        assert_eq!(changed(&[("db", db.clone())], "db", "x"), ["pod-leaves-fence"]);
        assert_eq!(changed(&[("db", db.clone()), ("all", all)], "db", "x"), ["pod-leaves-policy"]);
        assert_eq!(changed(&[("db", db)], "db", "db"), Vec::<&str>::new());
    }

    #[test]
    fn a_namespace_that_becomes_a_peer_or_is_none_any_more_is_told() {
        let team = |team: &str| Labels::from_iter([("team", team)]);
        let namespaces = Some([Requirement::equals("team", "a")].into_iter().collect());
        let rule = Rule { peers: vec![Peer::Pods { namespaces, pods: Selector::everything() }], ports: vec![] };
        let policy = NetworkPolicy { ingress: Some(vec![rule]), ..NetworkPolicy::default() };
        let mut cluster = Cluster::default();
        cluster.apply(Event::Policy(Key::new("shop", "db"), Some(policy)));
        let view = View { cluster: &cluster, live: true };
        let rules = |from: &str, to: &str| -> Vec<&str> {
            namespace_relabelled(&team(from), &team(to), &view).into_iter().map(|finding| finding.rule).collect()
        };
        assert_eq!(rules("b", "a"), ["namespace-joins-peer"]);
        assert_eq!(rules("a", "b"), ["namespace-leaves-peer"]);
        assert_eq!(rules("b", "c"), Vec::<&str>::new());
    }

    #[test]
    fn a_pod_that_becomes_a_peer_is_told() {
        let peers = vec![Peer::Pods { namespaces: None, pods: selecting("api") }];
        let rule = Rule { peers, ports: vec![] };
        let db = NetworkPolicy { selector: selecting("db"), ingress: Some(vec![rule]), egress: None, mode: None };
        assert_eq!(changed(&[("db", db)], "x", "api"), ["pod-joins-peer"]);
    }
}
