//! Which policies isolate the pods of this node.

use super::{
    super::{
        change::Before,
        cluster::Cluster,
        mode::Mode,
        model::{Direction, Key, Name, NetworkPolicy, Pod},
        policy_set::{PolicySet, member},
        table::PolicyId,
    },
    Again, Compiled, Ids,
};
use std::{borrow::Cow, sync::Arc};

/// What a policy is now, if it is there.
type Policy<'a> = (Key, Option<(Cow<'a, NetworkPolicy>, Mode)>);

impl Compiled {
    /// Asks again which policies isolate the pods that were touched. What they bring into use and out of it is touched,
    /// and so are the addresses of pods to which it makes a difference.
    pub(super) fn isolate(&mut self, cluster: &Cluster, ids: &mut Ids, before: &mut Before) {
        let mut of_namespace: Option<(Name, Vec<Policy<'_>>)> = None;
        let mut left = Vec::new();
        for (key, again) in std::mem::take(&mut self.touched.pods) {
            let old = self.isolation.remove(&key);
            let pod = cluster.pods.get(&key).filter(|pod| pod.is_endpoint() && pod.node.as_ref() == Some(&self.node));
            let new = pod.map(|pod| match &again {
                Again::All => {
                    let all =
                        || cluster.policies_in(&key.namespace).map(|(key, policy, mode)| (key, Some((policy, mode))));
                    let (_, policies) = match of_namespace.take() {
                        Some(known) if known.0 == key.namespace => of_namespace.insert(known),
                        _ => of_namespace.insert((key.namespace.clone(), all().collect())),
                    };
                    self.isolate_pod(pod, None, policies, ids, before)
                }
                Again::Only(keys) => {
                    let policies: Vec<_> = keys.iter().map(|key| (key.clone(), cluster.policy(key))).collect();
                    self.isolate_pod(pod, old, &policies, ids, before)
                }
            });
            if new != old {
                self.touched.addresses.extend(pod.into_iter().flat_map(|pod| &pod.addresses));
                self.touched.addresses.extend(self.attached.get(&key).into_iter().flatten());
            }
            left.extend(old.into_iter().flatten());
            if let Some(new) = new {
                self.isolation.insert(key, new);
            }
        }
        // Not before now: what one pod leaves another one may have taken.
        left.into_iter().for_each(|id| self.leave_set(id, ids, before));
    }

    /// The policies that isolate a pod, for ingress and for egress: those that did, but for what some say now.
    fn isolate_pod(
        &mut self,
        pod: &Pod,
        were: Option<[PolicyId; 2]>,
        now: &[Policy<'_>],
        ids: &mut Ids,
        before: &mut Before,
    ) -> [PolicyId; 2] {
        let were = were.unwrap_or_default();
        let both = [(Direction::Ingress, were[0]), (Direction::Egress, were[1])];
        both.map(|(direction, was)| {
            let known = self.sets.get(&was).map(|(set, _)| PolicySet::clone(set));
            let mut set = known.unwrap_or_else(|| PolicySet::none(direction));
            for (key, policy) in now {
                let said = policy
                    .as_ref()
                    .and_then(|(policy, mode)| Some((*mode, member(pod, key, policy, direction, &self.named, ids)?)));
                set.put(key, said, &ids.members);
            }
            if set.members().is_empty() { PolicyId(0) } else { self.take_set(Arc::new(set), ids, before) }
        })
    }

    /// Notes what port names mean on a pod. Says whether a name has a number more or less than before.
    pub(super) fn name_ports(&mut self, old: Option<&Pod>, new: Option<&Pod>) -> bool {
        let mut changed = false;
        for port in new.iter().flat_map(|pod| &pod.ports) {
            changed |= self.named.entry((port.name.clone(), port.protocol)).or_default().take(port.number);
        }
        for port in old.iter().flat_map(|pod| &pod.ports) {
            if let Some(numbers) = self.named.get_mut(&(port.name.clone(), port.protocol)) {
                changed |= numbers.leave(&port.number);
            }
        }
        changed
    }
}
