//! Baselines as people can see them: a NetworkPolicy `ringfence-baseline` in every namespace that has one.
//!
//! `namespaces, objects of that name -> Projection -> Write`. It shows what agents enforce by themselves, so whatever happens
//! to an object opens nothing; it is put right. A namespace that is going takes its objects with it and is left alone.

use super::Owner;
use crate::{
    k8s::{
        convert,
        watch::{Access, Backoff, Error, Named, Told},
        written,
    },
    policy::{
        baseline::{self, Baseline, POLICY_NAME},
        cluster::Cluster,
        model::{Name, NetworkPolicy, Rule},
    },
};
use kube::Client;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::sync::{mpsc, watch};

/// What an object of ours is labelled with.
pub(super) const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "ringfence");
/// Between two writes: a thousand namespaces take a minute, and an API server does not notice.
const PACE: Duration = Duration::from_millis(50);
/// Changes that come together are taken together.
const TOGETHER: Duration = Duration::from_millis(100);

/// What baselines come to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fenced {
    /// That of every namespace; `None` for those that are left alone.
    namespaces: BTreeMap<Name, Option<Baseline>>,
    /// What they say of the resolver beyond its labels.
    resolver: Arc<[Rule]>,
}

/// The baselines of a cluster.
pub fn fenced(cluster: &Cluster) -> Fenced {
    let mut fenced = Fenced::default();
    refence(&mut fenced, cluster, cluster.namespaces.keys());
    fenced
}

/// The baselines of some namespaces, from what they are now, and what all say: `true` when something changed.
pub fn refence<'a>(fenced: &mut Fenced, cluster: &Cluster, namespaces: impl IntoIterator<Item = &'a Name>) -> bool {
    let mut changed = fenced.resolver != *cluster.resolver.beyond();
    fenced.resolver = cluster.resolver.beyond().clone();
    for name in namespaces {
        changed |= match cluster.namespaces.get(name) {
            Some(namespace) => {
                let baseline = (!namespace.terminating).then(|| cluster.baseline_of(name));
                fenced.namespaces.insert(name.clone(), baseline) != Some(baseline)
            }
            None => fenced.namespaces.remove(name).is_some(),
        };
    }
    changed
}

/// Every NetworkPolicy of that name.
pub(super) fn everywhere() -> Named {
    Named::new("/apis/networking.k8s.io/v1/networkpolicies", POLICY_NAME)
}

/// The objects as they were heard of last, by namespace.
#[derive(Debug, Default)]
pub(super) struct Projection {
    objects: BTreeMap<Name, Value>,
    /// Whether they were ever listed.
    heard: bool,
}

/// What a round could not put right.
#[derive(Debug, Default)]
struct Failures {
    /// What, and why.
    reasons: BTreeSet<String>,
    /// How long the server wants to be left alone.
    pause: Option<Duration>,
}

impl Failures {
    fn add(&mut self, what: &str, error: &Error) {
        self.reasons.insert(format!("{what}: {error}"));
        self.pause = self.pause.max(error.pause());
    }
}

/// What to do in one namespace.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    Write(Baseline, NetworkPolicy),
    Remove(Value),
}

impl Projection {
    fn hear(&mut self, told: Told) {
        let namespace = |object: &Value| Name::from(object["metadata"]["namespace"].as_str().unwrap_or_default());
        match told {
            Told::Listed(items) => {
                self.objects = items.into_iter().map(|object| (namespace(&object), object)).collect();
                self.heard = true;
            }
            Told::There(object) => drop(self.objects.insert(namespace(&object), object)),
            Told::Gone(object) => drop(self.objects.remove(&namespace(&object))),
            Told::Lost(error) => tracing::warn!("{POLICY_NAME} can not be followed: {error}"),
        }
    }

    /// What differs from what it should be. Somebody else's policy of that name stays where there is no baseline.
    fn steps(&self, fenced: &Fenced, owner: &Value) -> Vec<(Name, Step)> {
        if !self.heard {
            return Vec::new();
        }
        let step = |(name, baseline): (&Name, &Option<Baseline>)| {
            let found = self.objects.get(name);
            let baseline = (*baseline)?;
            let step = match (baseline.policy(&fenced.resolver), found) {
                (None, Some(object)) if is_ours(object) => Step::Remove(object.clone()),
                (None, _) => return None,
                (Some(policy), Some(object)) if says(object, &policy, owner) => return None,
                (Some(policy), _) => Step::Write(baseline, policy),
            };
            Some((name.clone(), step))
        };
        fenced.namespaces.iter().filter_map(step).collect()
    }

    /// Works for as long as the process lives, and writes while this replica leads.
    pub(super) async fn run(
        mut self,
        access: Access,
        owner: Owner,
        mut fenced: watch::Receiver<Option<Fenced>>,
        mut leads: watch::Receiver<bool>,
    ) {
        let (teller, mut told) = mpsc::unbounded_channel();
        let following = everywhere().follow(access.clone(), move |told| drop(teller.send(told)));
        let working = async {
            let (mut complaints, mut backoff) = (BTreeSet::new(), Backoff::default());
            loop {
                let mut again = None;
                if *leads.borrow() {
                    let known = fenced.borrow_and_update().clone().unwrap_or_default();
                    let failures = self.round(&access, &owner, &known, &leads).await;
                    for why in failures.reasons.difference(&complaints) {
                        tracing::error!("{why}");
                    }
                    match failures.reasons.is_empty() {
                        true => backoff.works(),
                        false => again = Some(backoff.failed(failures.pause)),
                    }
                    complaints = failures.reasons;
                }
                tokio::select! {
                    news = told.recv() => match news {
                        Some(news) => self.hear(news),
                        None => return,
                    },
                    changed = fenced.changed() => if changed.is_err() { return },
                    changed = leads.changed() => if changed.is_err() { return },
                    () = tokio::time::sleep(again.unwrap_or(Duration::MAX)) => {}
                }
                tokio::time::sleep(TOGETHER).await;
                while let Ok(news) = told.try_recv() {
                    self.hear(news);
                }
            }
        };
        tokio::select! {
            () = following => {}
            () = working => {}
        }
    }

    /// Puts right what differs; says what could not be. One namespace that refuses holds up no other.
    async fn round(
        &mut self,
        access: &Access,
        owner: &Owner,
        fenced: &Fenced,
        leads: &watch::Receiver<bool>,
    ) -> Failures {
        let mut failures = Failures::default();
        let begun = async {
            let client = access.connect().await?;
            let reference = owner.reference(&client).await?;
            Ok((client, reference))
        };
        let (client, reference) = match begun.await {
            Ok(begun) => begun,
            Err(error) => {
                failures.add("baselines can not be shown", &error);
                return failures;
            }
        };
        for (namespace, step) in self.steps(fenced, &reference) {
            if !*leads.borrow() {
                break;
            }
            match self.take(&client, &namespace, step, &reference).await {
                // It is going, and the news of that is on its way.
                Err(error) if error.to_string().contains("being terminated") => {}
                Err(error) => failures.add(&format!("{POLICY_NAME} in {namespace} can not be put right"), &error),
                Ok(()) => {}
            }
            tokio::time::sleep(PACE).await;
        }
        failures
    }

    async fn take(&mut self, client: &Client, namespace: &Name, step: Step, owner: &Value) -> Result<(), Error> {
        let place = everywhere().within(namespace);
        match step {
            Step::Remove(object) => {
                place.delete(client, &object).await?;
                tracing::info!("{namespace} has no baseline any more: {POLICY_NAME} was removed");
                self.objects.remove(namespace);
            }
            Step::Write(baseline, policy) => {
                let wanted = projected(namespace, baseline, &policy, owner);
                let mut stored = place.apply(client, &wanted).await?;
                // Fields that somebody has added are theirs, and stay when ours are applied.
                if !says(&stored, &policy, owner) {
                    let mut whole = wanted;
                    whole["metadata"]["resourceVersion"] = stored["metadata"]["resourceVersion"].clone();
                    stored = place.replace(client, &whole).await?;
                }
                tracing::info!("{namespace}: {POLICY_NAME} says {}", baseline.as_str());
                self.objects.insert(namespace.clone(), stored);
            }
        }
        Ok(())
    }
}

fn is_ours(object: &Value) -> bool {
    object["metadata"]["labels"][MANAGED_BY.0] == MANAGED_BY.1
}

/// Whether an object shows a policy, belongs to us and goes with us.
fn says(object: &Value, policy: &NetworkPolicy, owner: &Value) -> bool {
    let owned = object["metadata"]["ownerReferences"].as_array().is_some_and(|owners| owners.contains(owner));
    let convert::Converted { value, findings } = convert::network_policy(&typed(object));
    let meant = findings.is_empty() && value == *policy;
    // Rules of a direction that is not isolated mean nothing, and people would read them.
    let idle = value.egress.is_none() && !object["spec"]["egress"].is_null();
    is_ours(object) && owned && meant && !idle
}

/// Items of a list do not say what they are.
fn typed(object: &Value) -> Value {
    let mut object = object.clone();
    object["apiVersion"] = "networking.k8s.io/v1".into();
    object["kind"] = "NetworkPolicy".into();
    object
}

/// The object of a namespace.
fn projected(namespace: &Name, baseline: Baseline, policy: &NetworkPolicy, owner: &Value) -> Value {
    let says = format!(
        "The baseline of this namespace ({}), as agents enforce it. Editing or deleting this object changes nothing: see the \
         label {} of the Namespace.",
        baseline.as_str(),
        baseline::LABEL
    );
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": POLICY_NAME,
            "namespace": namespace.as_ref(),
            "labels": {MANAGED_BY.0: MANAGED_BY.1, "app.kubernetes.io/name": "ringfence"},
            "annotations": {"kubernetes.io/description": says},
            "ownerReferences": [owner],
        },
        "spec": written::spec(policy),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::model::{Block, Peer, PortMatch, PortSpec, Protocol};

    fn owner() -> Value {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "name": "ringfence", "uid": "u1"})
    }

    fn seen(objects: &[Value]) -> Projection {
        let mut projection = Projection::default();
        projection.hear(Told::Listed(objects.to_vec()));
        projection
    }

    fn shop(baseline: Option<Baseline>) -> Fenced {
        Fenced { namespaces: [("shop".into(), baseline)].into(), ..Fenced::default() }
    }

    fn steps(projection: &Projection, baseline: Option<Baseline>) -> Vec<Step> {
        projection.steps(&shop(baseline), &owner()).into_iter().map(|(_, step)| step).collect()
    }

    fn object(baseline: Baseline) -> Value {
        projected(&"shop".into(), baseline, &baseline.policy(&[]).unwrap(), &owner())
    }

    fn write(baseline: Baseline) -> [Step; 1] {
        [Step::Write(baseline, baseline.policy(&[]).unwrap())]
    }

    #[test]
    fn what_is_shown_is_what_is_enforced() {
        for baseline in [Baseline::DenyIngress, Baseline::DenyAll] {
            let object = object(baseline);
            let read = convert::network_policy(&object);
            assert_eq!((Some(read.value), read.findings), (baseline.policy(&[]), vec![]));
            assert_eq!(steps(&seen(&[object]), Some(baseline)), [], "nothing is written twice");
        }
    }

    #[test]
    fn what_baselines_say_of_the_resolver_beyond_its_labels_is_shown_where_dns_is_let_out() {
        let cidr = "192.0.2.7/32".parse().unwrap();
        let ports = vec![PortMatch { protocol: Protocol::Udp, port: PortSpec::Range(5353, 5353) }];
        let beyond = Rule { peers: vec![Peer::Block(Block { cidr, except: vec![] })], ports };
        for (baseline, rules) in [(Baseline::DenyIngress, 0), (Baseline::DenyAll, 2)] {
            let fenced = Fenced { resolver: [beyond.clone()].into(), ..shop(Some(baseline)) };
            let projection = seen(&[object(baseline)]);
            let steps = projection.steps(&fenced, &owner());
            let Some((_, Step::Write(_, policy))) = steps.first() else {
                assert_eq!((baseline, steps), (Baseline::DenyIngress, vec![]));
                continue;
            };
            let object = projected(&"shop".into(), baseline, policy, &owner());
            assert_eq!(object["spec"]["egress"].as_array().unwrap().len(), rules);
            let said =
                json!({"to": [{"ipBlock": {"cidr": "192.0.2.7/32"}}], "ports": [{"protocol": "UDP", "port": 5353}]});
            assert_eq!(object["spec"]["egress"][1], said);
            assert_eq!(seen(&[object]).steps(&fenced, &owner()), [], "nothing is written twice");
        }
    }

    #[test]
    fn what_is_missing_or_was_edited_is_written() {
        let right = object(Baseline::DenyAll);
        let mut opened = right.clone();
        opened["spec"]["ingress"] = json!([{}]);
        let mut orphaned = right.clone();
        orphaned["metadata"]["ownerReferences"][0]["uid"] = "u0".into();
        let mut bare = right.clone();
        bare["metadata"]["labels"] = json!({});
        let mut idle = object(Baseline::DenyIngress);
        idle["spec"]["egress"] = json!([{}]);
        assert_eq!(steps(&seen(&[idle]), Some(Baseline::DenyIngress)), write(Baseline::DenyIngress));
        assert_eq!(steps(&seen(&[]), Some(Baseline::DenyAll)), write(Baseline::DenyAll));
        for wrong in [opened, orphaned, bare] {
            assert_eq!(steps(&seen(&[wrong]), Some(Baseline::DenyAll)), write(Baseline::DenyAll));
        }
        assert_eq!(steps(&seen(&[right]), Some(Baseline::DenyIngress)), write(Baseline::DenyIngress));
    }

    #[test]
    fn without_a_baseline_ours_goes_and_another_s_stays() {
        let ours = object(Baseline::DenyAll);
        let mut theirs = ours.clone();
        theirs["metadata"]["labels"] = Value::Null;
        assert_eq!(steps(&seen(std::slice::from_ref(&ours)), Some(Baseline::Off)), [Step::Remove(ours)]);
        assert_eq!(steps(&seen(&[theirs]), Some(Baseline::Off)), []);
    }

    #[test]
    fn nothing_is_done_to_a_namespace_that_goes_nor_before_objects_are_known() {
        assert_eq!(steps(&seen(&[]), None), []);
        assert_eq!(steps(&Projection::default(), Some(Baseline::DenyAll)), []);
    }
}
