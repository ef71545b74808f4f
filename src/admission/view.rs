//! What the webhook knows of the cluster around an object.
//!
//! `Reading -> View`, fed by whoever follows the cluster; a decision reads it and asks nobody. Before the whole is known, and
//! where no cluster is followed, there is none.

use crate::{
    k8s::reading::Reading,
    policy::{baseline::Baseline, cluster::Cluster, mode::Mode},
};
use std::sync::{Arc, PoisonError, RwLock};

/// The cluster as it was told last. Clones are the same view.
#[derive(Debug, Clone, Default)]
pub struct View {
    cluster: Arc<RwLock<Option<Cluster>>>,
    baseline: Baseline,
    mode: Mode,
}

impl View {
    /// Of nothing yet; namespaces without a label of their own have this baseline.
    pub fn new(baseline: Baseline) -> Self {
        Self { baseline, ..Self::default() }
    }

    /// The same; policies and namespaces without a mode of their own have this one.
    pub fn with_mode(self, mode: Mode) -> Self {
        Self { mode, ..self }
    }

    /// Takes a reading in: `true` when something changed.
    pub fn take(&self, reading: Reading) -> bool {
        // An event is taken whole or not at all, so what a panicking thread left behind is a cluster.
        let mut held = self.cluster.write().unwrap_or_else(PoisonError::into_inner);
        match (reading, held.as_mut()) {
            (Reading::Whole(cluster), _) => {
                *held = Some(Cluster { baseline: self.baseline, mode: self.mode, ..*cluster });
                true
            }
            (Reading::Events(events), Some(cluster)) => {
                // Each is taken in, whether or not one before it changed something.
                events.into_iter().filter_map(|event| cluster.apply(event)).count() > 0
            }
            _ => false,
        }
    }

    /// Reads it; changes wait meanwhile.
    pub fn read<T>(&self, by: impl FnOnce(Option<&Cluster>) -> T) -> T {
        by(self.cluster.read().unwrap_or_else(PoisonError::into_inner).as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{cluster::Event, model::Namespace};

    #[test]
    fn a_view_is_what_was_told_with_the_setting_of_this_process() {
        let view = View::new(Baseline::DenyAll);
        let namespace = |name: &str| Event::Namespace(name.into(), Some(Namespace::default()));
        assert!(!view.take(Reading::Events(vec![namespace("early")])), "the whole comes first");
        assert!(view.read(|cluster| cluster.is_none()));
        assert!(view.take(Reading::Whole(Box::default())));
        assert!(view.take(Reading::Events(vec![namespace("shop")])));
        assert!(!view.clone().take(Reading::Events(vec![namespace("shop")])), "nothing new");
        let baseline = view.read(|cluster| cluster.unwrap().baseline_of(&"shop".into()));
        assert_eq!(baseline, Baseline::DenyAll);
    }
}
