//! Which policies isolate the pods of this node.

use super::{
    super::{
        change::Before,
        cluster::Cluster,
        model::{Direction, Name, Pod},
        policy_set::{Policies, PolicySet, policy_set},
        table::PolicyId,
    },
    Compiled, Ids,
};
use std::sync::Arc;

impl Compiled {
    /// Asks again which policies isolate the pods that were touched. What they bring into use and out of it is touched,
    /// and so are the addresses of pods to which it makes a difference.
    pub(super) fn isolate(&mut self, cluster: &Cluster, ids: &mut Ids, before: &mut Before) {
        let mut of_namespace: Option<(Name, Policies<'_>)> = None;
        let mut left = Vec::new();
        for key in std::mem::take(&mut self.touched.pods) {
            let old = self.isolation.remove(&key);
            let pod = cluster.pods.get(&key).filter(|pod| pod.is_endpoint() && pod.node.as_ref() == Some(&self.node));
            let new = pod.map(|pod| {
                let (_, policies) = match of_namespace.take() {
                    Some(known) if known.0 == key.namespace => of_namespace.insert(known),
                    _ => of_namespace.insert((key.namespace.clone(), cluster.policies_in(&key.namespace).collect())),
                };
                self.sets_of(pod, policies, ids)
                    .map(|set| set.map_or(PolicyId(0), |set| self.take_set(set, ids, before)))
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

    /// The policies that isolate a pod: for ingress, for egress.
    fn sets_of(&self, pod: &Pod, policies: &Policies<'_>, ids: &mut Ids) -> [Option<Arc<PolicySet>>; 2] {
        Direction::BOTH.map(|direction| policy_set(pod, policies, direction, &self.named, ids).map(Arc::new))
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
