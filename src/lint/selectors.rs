//! Selectors, by themselves.

use super::{Meaning, spec, view::shown};
use crate::{
    finding::{FieldPath, Finding, Severity, rule::Rule},
    policy::{
        model::{Direction, Name, Peer},
        selector::{Requirement, Selector, Test},
    },
};

pub(super) const RULES: &[Rule] = &[ABSENT, GENERATED, SWITCH];

const ABSENT: Rule = Rule {
    id: "not-in-matches-absent",
    severity: Some(Severity::Hint),
    title: "NotIn matches objects without the label, too",
    why: "`NotIn` and `DoesNotExist` hold for every pod or namespace that lacks the key: the unlabelled ones are in.",
    wrong: "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from:
  - namespaceSelector:
      matchExpressions: [{key: env, operator: NotIn, values: [prod]}]
",
    right: "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from:
  - namespaceSelector:
      matchExpressions: [{key: env, operator: NotIn, values: [prod]}, {key: env, operator: Exists}]
",
};

const GENERATED: Rule = Rule {
    id: "generated-label",
    severity: Some(Severity::Warning),
    title: "A selector asks for a label that a controller makes up",
    why: "Labels such as `pod-template-hash` are another value after the next rollout: the selector then matches nothing.",
    wrong: "podSelector: {matchLabels: {pod-template-hash: 6d4cf56db6}}\npolicyTypes: [Ingress]\n",
    right: "podSelector: {matchLabels: {app: web}}\npolicyTypes: [Ingress]\n",
};

/// The selector of a Deployment can not be changed (Kubernetes docs, Deployments, "Label selector updates").
const SWITCH: Rule = Rule {
    id: "selects-by-switch",
    severity: Some(Severity::Hint),
    title: "Nothing but a switch decides which pods are meant",
    why: "A label such as `access: \"true\"` is a switch: whoever may label pods turns it on or off, of any of them, and the workload \
          goes on as before, as nothing else depends on it. A label that the workload's own selector has, such as `app: web`, can not \
          be changed there, and a pod that loses it leaves its workload. It is no secret, either: whoever creates pods may give them \
          that one, too, so those who do not trust each other want a namespace each. Of running pods that get other labels the \
          webhook tells: `pod-leaves-fence`, `pod-joins-peer`.",
    wrong: "podSelector: {matchLabels: {access: \"true\"}}\npolicyTypes: [Ingress]\n",
    right: "podSelector: {matchLabels: {app: web}}\npolicyTypes: [Ingress]\n",
};

/// Values that say yes or no, in any case.
const SWITCHES: [&str; 16] = [
    "true", "false", "yes", "no", "on", "off", "enabled", "disabled", "enable", "disable", "allow", "allowed", "deny",
    "denied", "1", "0",
];

const MADE_UP: [&str; 7] = [
    "pod-template-hash",
    "controller-revision-hash",
    "pod-template-generation",
    "controller-uid",
    "batch.kubernetes.io/controller-uid",
    "job-name",
    "batch.kubernetes.io/job-name",
];

pub(super) fn rules(policy: &Meaning<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut judge = |selector: &Selector, path: &dyn Fn() -> FieldPath| {
        let keys = |key: &str| selector.requirements().filter(move |r| r.key.as_ref() == key).count();
        for Requirement { key, test } in selector.requirements() {
            if let Test::NotIn(values) = test
                && keys(key) == 1
            {
                let values = values.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
                let message = format!("{key} NotIn ({values}) matches whatever has no label {key}, too");
                let help = format!("if that is not meant add {{key: {key}, operator: Exists}}");
                findings.push(ABSENT.at(&path(), message, help));
            }
            if MADE_UP.contains(&key.as_ref()) && matches!(test, Test::In(_)) {
                let message = format!("{key} is made up by a controller and changes with the next rollout");
                findings.push(GENERATED.at(&path(), message, "select a label of the pod template instead"));
            }
        }
    };
    judge(&policy.value.selector, &|| spec().field("podSelector"));
    for (_, path, peer) in policy.peers() {
        if let Peer::Pods { namespaces, pods } = peer {
            judge(pods, &|| path.field("podSelector"));
            if let Some(namespaces) = namespaces {
                judge(namespaces, &|| path.field("namespaceSelector"));
            }
        }
    }
    findings.extend(switches(policy));
    findings
}

fn switches(policy: &Meaning<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let own = &policy.value.selector;
    if is_switch(own) {
        let message = format!(
            "{} names no workload: whoever may take it from a pod takes the pod out of this policy",
            shown(own)
        );
        let help = "select by a label that the workload's own selector has, as in podSelector: {matchLabels: {app: web}}, or \
                    fence the whole namespace in a policy of its own: podSelector: {}";
        findings.push(SWITCH.at(&spec().field("podSelector"), message, help));
    }
    for (direction, path, peer) in policy.peers() {
        let Peer::Pods { namespaces, pods } = peer else { continue };
        let (place, everywhere) = match namespaces {
            None => ("this namespace", false),
            Some(namespaces) => ("the namespaces that are meant", namespaces.is_empty()),
        };
        // Of who gets in from every namespace `admits-by-label-alone` speaks.
        let is_told = everywhere && direction == Direction::Ingress;
        if is_told || !is_switch(pods) {
            continue;
        }
        let way = match direction {
            Direction::Ingress => "lets that pod in",
            Direction::Egress => "makes that pod reachable",
        };
        let message = format!("{} names no workload: whoever may give it to a pod of {place} {way}", shown(pods));
        let help = "ask for a label that the workload's own selector has, beside it or instead: podSelector: {matchLabels: {app: web}}";
        findings.push(SWITCH.at(&path.field("podSelector"), message, help));
    }
    findings
}

/// Whether a selector asks for yes or no, and for nothing else. A key that has to be there may name a workload, as
/// `role.example.com/db` does; of what may not be there `not-in-matches-absent` speaks.
fn is_switch(selector: &Selector) -> bool {
    let switch = |value: &Name| SWITCHES.iter().any(|word| word.eq_ignore_ascii_case(value));
    let switches = |test: &Test| matches!(test, Test::In(values) if values.iter().all(switch));
    !selector.is_empty() && selector.requirements().all(|requirement| switches(&requirement.test))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lint::{Policy, network_policy},
        policy::{
            baseline::NAMESPACE_NAME,
            model::{Key, NetworkPolicy, Rule},
            selector::Values,
        },
    };
    use serde_json::json;

    fn labels(labels: &[(&str, &str)]) -> Selector {
        labels.iter().map(|&(key, value)| Requirement::equals(key, value)).collect()
    }

    fn one(test: Test) -> Selector {
        [Requirement { key: "access".into(), test }].into_iter().collect()
    }

    fn values(values: &[&str]) -> Values {
        values.iter().map(|&value| Name::from(value)).collect()
    }

    /// What the rules about labels alone say of a policy: the rule, where and of what.
    fn said(selector: Selector, direction: Direction, peers: Vec<Peer>) -> Vec<(&'static str, String, String)> {
        let rules = Some(vec![Rule { peers, ports: vec![] }]);
        let value = match direction {
            Direction::Ingress => NetworkPolicy { selector, ingress: rules, ..NetworkPolicy::default() },
            Direction::Egress => NetworkPolicy { selector, egress: rules, ..NetworkPolicy::default() },
        };
        let key = &Key::new("shop", "web");
        let policy = Policy { key, object: &json!({}), written: None, value: Some(&value), view: None };
        let found = network_policy(&policy).into_iter();
        let found = found.filter(|finding| ["selects-by-switch", "admits-by-label-alone"].contains(&finding.rule));
        found.map(|finding| (finding.rule, finding.path.to_string(), finding.message)).collect()
    }

    fn peer(namespaces: Option<Selector>, pods: Selector) -> Vec<Peer> {
        vec![Peer::Pods { namespaces, pods }]
    }

    #[test]
    fn a_selector_of_switches_alone_is_one_and_with_a_name_beside_them_it_is_none() {
        for value in SWITCHES {
            assert!(is_switch(&labels(&[("access", value)])), "{value}");
            assert!(is_switch(&labels(&[("access", &value.to_uppercase())])), "{value} in capitals");
        }
        assert!(is_switch(&labels(&[("access", "true"), ("debug", "off")])));
        assert!(!is_switch(&labels(&[("access", "true"), ("app", "web")])));
        assert!(!is_switch(&labels(&[("app", "web")])));
        assert!(!is_switch(&labels(&[("access", "")])));
        assert!(!is_switch(&Selector::everything()));
    }

    #[test]
    fn one_of_several_values_is_a_switch_where_all_of_them_are() {
        assert!(is_switch(&one(Test::In(values(&["true", "Yes"])))));
        assert!(!is_switch(&one(Test::In(values(&["true", "web"])))));
    }

    #[test]
    fn a_key_that_is_there_or_not_is_no_switch() {
        for test in [Test::Exists, Test::DoesNotExist, Test::NotIn(values(&["true"]))] {
            assert!(!is_switch(&one(test.clone())), "{test:?}");
        }
    }

    #[test]
    fn what_a_switch_does_is_told_by_where_it_stands() {
        let (web, on) = (|| labels(&[("app", "web")]), || labels(&[("access", "true")]));
        let shop = || Some(labels(&[(NAMESPACE_NAME, "shop")]));
        for (selector, direction, peers, path, message) in [
            (
                on(),
                Direction::Ingress,
                peer(None, web()),
                "spec.podSelector",
                "access=true names no workload: whoever may take it from a pod takes the pod out of this policy",
            ),
            (
                web(),
                Direction::Ingress,
                peer(None, on()),
                "spec.ingress[0].from[0].podSelector",
                "access=true names no workload: whoever may give it to a pod of this namespace lets that pod in",
            ),
            (
                web(),
                Direction::Ingress,
                peer(shop(), on()),
                "spec.ingress[0].from[0].podSelector",
                "access=true names no workload: whoever may give it to a pod of the namespaces that are meant lets that pod in",
            ),
            (
                web(),
                Direction::Egress,
                peer(None, on()),
                "spec.egress[0].to[0].podSelector",
                "access=true names no workload: whoever may give it to a pod of this namespace makes that pod reachable",
            ),
        ] {
            assert_eq!(
                said(selector, direction, peers),
                [("selects-by-switch", path.to_owned(), message.to_owned())],
                "{path}"
            );
        }
        assert_eq!(said(web(), Direction::Ingress, peer(shop(), web())), []);
    }

    #[test]
    fn a_peer_that_is_told_to_get_in_from_every_namespace_is_not_told_twice() {
        let rules = |direction| -> Vec<&str> {
            let peers = peer(Some(Selector::everything()), labels(&[("access", "true")]));
            said(labels(&[("app", "web")]), direction, peers).into_iter().map(|(rule, ..)| rule).collect()
        };
        assert_eq!(rules(Direction::Ingress), ["admits-by-label-alone"]);
        assert_eq!(rules(Direction::Egress), ["selects-by-switch"]);
    }

    #[test]
    fn the_labels_of_namespaces_are_no_switches_that_anybody_turns() {
        let injected = labels(&[("istio-injection", "enabled")]);
        assert_eq!(said(Selector::everything(), Direction::Ingress, peer(Some(injected), Selector::everything())), []);
    }
}
