//! Texts, labels and selectors that many objects have, once in memory.
//!
//! Each object comes with texts of its own: the pods of a ReplicaSet with the same labels, those of a node with its name,
//! the policies of many namespaces with the same peers.

use crate::policy::{
    cluster::Event,
    model::{Labels, Name, Peer},
    selector::Selector,
};
use std::{collections::HashSet, sync::Arc};

/// What was seen of them.
#[derive(Debug, Default)]
pub(super) struct Shared {
    names: HashSet<Name>,
    labels: HashSet<Labels>,
    selectors: HashSet<Selector>,
    /// So many there were when those were let go that nobody has any more.
    swept: usize,
}

impl Shared {
    /// The same event, of texts that are here already.
    pub(super) fn event(&mut self, event: Event) -> Event {
        let event = match event {
            Event::Pod(mut key, Some(mut pod)) => {
                key.namespace = self.name(key.namespace);
                pod.node = pod.node.map(|node| self.name(node));
                for port in &mut pod.ports {
                    port.name = self.name(port.name.clone());
                }
                pod.labels = self.labels(pod.labels);
                Event::Pod(key, Some(pod))
            }
            Event::Namespace(name, Some(mut namespace)) => {
                namespace.labels = self.labels(namespace.labels);
                Event::Namespace(self.name(name), Some(namespace))
            }
            Event::Policy(mut key, Some(mut policy)) => {
                key.namespace = self.name(key.namespace);
                self.selector(&mut policy.selector);
                for rule in policy.ingress.iter_mut().chain(&mut policy.egress).flatten() {
                    for peer in &mut rule.peers {
                        if let Peer::Pods { namespaces, pods } = peer {
                            namespaces.iter_mut().for_each(|namespaces| self.selector(namespaces));
                            self.selector(pods);
                        }
                    }
                }
                Event::Policy(key, Some(policy))
            }
            other => return other,
        };
        self.sweep();
        event
    }

    fn name(&mut self, name: Name) -> Name {
        if let Some(known) = self.names.get(&name) {
            return known.clone();
        }
        self.names.insert(name.clone());
        name
    }

    fn labels(&mut self, labels: Labels) -> Labels {
        if let Some(known) = self.labels.get(&labels) {
            return known.clone();
        }
        let labels: Labels =
            labels.iter().map(|(key, value)| (self.name(key.clone()), self.name(value.clone()))).collect();
        self.labels.insert(labels.clone());
        labels
    }

    fn selector(&mut self, selector: &mut Selector) {
        match self.selectors.get(selector) {
            Some(known) => *selector = known.clone(),
            None => drop(self.selectors.insert(selector.clone())),
        }
    }

    fn sweep(&mut self) {
        if self.len() > 2 * self.swept + 1000 {
            self.labels.retain(Labels::are_shared);
            self.selectors.retain(Selector::is_shared);
            self.names.retain(|name| Arc::strong_count(name) > 1);
            self.swept = self.len();
        }
    }

    fn len(&self) -> usize {
        self.names.len() + self.labels.len() + self.selectors.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::model::{Key, Pod};

    fn pod(number: usize, app: &str) -> Event {
        let labels = Labels::from_iter([("app", app)]);
        let pod = Pod { labels, node: Some("n1".into()), ..Pod::default() };
        Event::Pod(Key::new("shop", format!("pod-{number}")), Some(pod))
    }

    #[test]
    fn an_event_says_the_same_and_has_its_texts_in_common_with_others() {
        let mut shared = Shared::default();
        let [first, second] = [1, 2].map(|number| {
            let event = shared.event(pod(number, "web"));
            assert_eq!(event, pod(number, "web"));
            let Event::Pod(key, Some(pod)) = event else { panic!() };
            (key, pod)
        });
        assert!(Arc::ptr_eq(&first.0.namespace, &second.0.namespace));
        assert!(Arc::ptr_eq(first.1.node.as_ref().unwrap(), second.1.node.as_ref().unwrap()));
        assert!(second.1.labels.are_shared());
    }

    #[test]
    fn what_nobody_has_any_more_is_let_go() {
        let mut shared = Shared::default();
        let kept = shared.event(pod(0, "kept"));
        (1..5000).for_each(|number| drop(shared.event(pod(number, &format!("app-{number}")))));
        assert!(shared.labels.len() < 1000 && shared.names.len() < 1000);
        let Event::Pod(_, Some(kept)) = kept else { panic!() };
        assert!(shared.labels.contains(&kept.labels));
    }
}
