//! What must hold of any bytes that are reviewed: for the fuzzer, and for the tests that do the same in small.

use super::{Hook, Manners, Service, View, answer::WARNING_LIMIT, review::Review};
use crate::{
    catalogue::Catalogue,
    k8s::reading::Reading,
    policy::{
        baseline::{self, Baseline},
        cluster::{Cluster, Event},
        model::{Key, Labels, Namespace, NetworkPolicy, Pod},
    },
};

/// Reviews bytes by both hooks; what does not hold panics.
///
/// # Panics
/// Where something does not hold.
#[allow(clippy::panic, reason = "whoever calls wants to hear of it")]
pub fn review(bytes: &[u8]) {
    let Ok(review) = Review::parse(bytes) else { return };
    let service = service();
    for hook in [Hook::Validate, Hook::Mutate] {
        let decision = match service.decide(hook, &review) {
            Ok(decision) => decision,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(decision.answer.uid, review.uid);
        for warning in &decision.answer.warnings {
            assert!(!warning.contains(char::is_control) && warning.chars().count() <= WARNING_LIMIT, "{warning:?}");
        }
        let total: usize = decision.answer.warnings.iter().map(|warning| warning.chars().count()).sum();
        assert!(total < 4096, "{total}");
        assert!(serde_json::to_vec(&decision.answer).is_ok());
    }
}

/// The catalogue in a small cluster: a fenced namespace and an open one.
fn service() -> Service {
    let mut cluster = Cluster::default();
    for (name, fence) in [("shop", "deny-all"), ("lab", "off")] {
        let labels = Labels::from_iter([(baseline::LABEL, fence), (baseline::NAMESPACE_NAME, name)]);
        cluster.apply(Event::Namespace(name.into(), Some(Namespace { labels, ..Namespace::default() })));
        let labels = Labels::from_iter([("app", "web")]);
        cluster.apply(Event::Pod(Key::new(name, "web"), Some(Pod { labels, ..Pod::default() })));
        let policy = NetworkPolicy { ingress: Some(vec![]), ..NetworkPolicy::default() };
        cluster.apply(Event::Policy(Key::new(name, "deny"), Some(policy)));
    }
    let view = View::new(Baseline::Off);
    view.take(Reading::Whole(cluster.into()));
    let manners = Manners { drop_net_raw: true, ..Manners::default() };
    Service::by(Catalogue::default()).with_view(view).with_manners(manners)
}
