//! The kinds that a cluster is made of, and those that explain it: where the API has them, what of them is used, and the event
//! of each.
//!
//! `Value (trimmed) -> Event`, by [`Kind::event`]. An object that can not be read is a line in the log: a NetworkPolicy is
//! taken closed, anything else is left out, which closes a pod and makes a namespace match nothing.

use super::trim::Keep;
use crate::{
    finding::{printable, rule::ALLOW},
    k8s::convert::{self, Converted, Settings},
    policy::{cluster::Event, mode, model::Key, service::Fact},
};
use serde_json::Value;

/// A kind of object that is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Namespaces.
    Namespace,
    /// Nodes.
    Node,
    /// Pods, of all nodes: a policy speaks of pods elsewhere, too.
    Pod,
    /// NetworkPolicies.
    NetworkPolicy,
    /// EndpointSlices of the cluster's resolver, and no others.
    EndpointSlice,
    /// Services.
    Service,
    /// What API servers ask about objects.
    ValidatingWebhook,
    /// What API servers have objects changed by.
    MutatingWebhook,
    /// The APIs that others serve for API servers.
    ApiService,
}

const METADATA: Keep = Keep::Fields(&[
    ("name", Keep::All),
    ("namespace", Keep::All),
    ("labels", Keep::All),
    ("resourceVersion", Keep::All),
    ("uid", Keep::All),
    ("annotations", Keep::Fields(&[("kubernetes.io/config.hash", Keep::All), (mode::NAME, Keep::All)])),
]);
const NAMESPACE_METADATA: Keep = Keep::Fields(&[
    ("name", Keep::All),
    ("labels", Keep::All),
    ("resourceVersion", Keep::All),
    ("creationTimestamp", Keep::All),
    ("annotations", Keep::Fields(&[(ALLOW, Keep::All)])),
    ("deletionTimestamp", Keep::All),
]);
const CONTAINERS: Keep = Keep::Fields(&[
    ("restartPolicy", Keep::All),
    ("ports", Keep::Fields(&[("name", Keep::All), ("protocol", Keep::All), ("containerPort", Keep::All)])),
]);
const POD_SPEC: Keep = Keep::Fields(&[
    ("nodeName", Keep::All),
    ("hostNetwork", Keep::All),
    ("containers", CONTAINERS),
    ("initContainers", CONTAINERS),
]);
const POD_STATUS: Keep = Keep::Fields(&[("phase", Keep::All), ("podIP", Keep::All), ("podIPs", Keep::All)]);
const NODE_SPEC: Keep = Keep::Fields(&[("podCIDR", Keep::All), ("podCIDRs", Keep::All)]);
const NODE_STATUS: Keep = Keep::Fields(&[("addresses", Keep::Fields(&[("address", Keep::All)]))]);

const ENDPOINTS: Keep = Keep::Fields(&[
    ("addresses", Keep::All),
    ("targetRef", Keep::Fields(&[("kind", Keep::All), ("namespace", Keep::All), ("name", Keep::All)])),
]);
const SERVICE_METADATA: Keep =
    Keep::Fields(&[("name", Keep::All), ("namespace", Keep::All), ("resourceVersion", Keep::All)]);
const SERVICE: Keep = Keep::Fields(&[("name", Keep::All), ("namespace", Keep::All)]);
const NAME: Keep = Keep::Fields(&[("name", Keep::All), ("resourceVersion", Keep::All)]);
const WEBHOOKS: Keep = Keep::Fields(&[
    ("metadata", NAME),
    ("webhooks", Keep::Fields(&[("clientConfig", Keep::Fields(&[("service", SERVICE)]))])),
]);

impl Kind {
    /// Those by which packets are judged.
    pub const JUDGING: [Kind; 4] = [Kind::Namespace, Kind::Node, Kind::NetworkPolicy, Kind::Pod];
    /// Those, and what baselines say besides.
    pub const ENFORCING: [Kind; 5] = [Kind::Namespace, Kind::Node, Kind::NetworkPolicy, Kind::Pod, Kind::EndpointSlice];
    /// Those, and what explains policies.
    pub const ALL: [Kind; 9] = [
        Kind::Namespace,
        Kind::Node,
        Kind::NetworkPolicy,
        Kind::Pod,
        Kind::EndpointSlice,
        Kind::Service,
        Kind::ValidatingWebhook,
        Kind::MutatingWebhook,
        Kind::ApiService,
    ];

    /// As RBAC writes it.
    pub fn resource(self) -> &'static str {
        match self {
            Kind::Namespace => "namespaces",
            Kind::Node => "nodes",
            Kind::Pod => "pods",
            Kind::NetworkPolicy => "networkpolicies.networking.k8s.io",
            Kind::EndpointSlice => "endpointslices.discovery.k8s.io",
            Kind::Service => "services",
            Kind::ValidatingWebhook => "validatingwebhookconfigurations.admissionregistration.k8s.io",
            Kind::MutatingWebhook => "mutatingwebhookconfigurations.admissionregistration.k8s.io",
            Kind::ApiService => "apiservices.apiregistration.k8s.io",
        }
    }

    /// Where all of them are that are followed.
    pub fn path(self) -> &'static str {
        match self {
            Kind::Namespace => "/api/v1/namespaces",
            Kind::Node => "/api/v1/nodes",
            Kind::Pod => "/api/v1/pods",
            Kind::NetworkPolicy => "/apis/networking.k8s.io/v1/networkpolicies",
            Kind::EndpointSlice => "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices",
            Kind::Service => "/api/v1/services",
            Kind::ValidatingWebhook => "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
            Kind::MutatingWebhook => "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
            Kind::ApiService => "/apis/apiregistration.k8s.io/v1/apiservices",
        }
    }

    /// Which of those that are there are asked for, as a part of a query.
    pub(super) fn which(self) -> &'static str {
        match self {
            Kind::EndpointSlice => "&labelSelector=kubernetes.io%2Fservice-name%3Dkube-dns",
            _ => "",
        }
    }

    fn name(self) -> (&'static str, &'static str) {
        match self {
            Kind::Namespace => ("v1", "Namespace"),
            Kind::Node => ("v1", "Node"),
            Kind::Pod => ("v1", "Pod"),
            Kind::NetworkPolicy => ("networking.k8s.io/v1", "NetworkPolicy"),
            Kind::EndpointSlice => ("discovery.k8s.io/v1", "EndpointSlice"),
            Kind::Service => ("v1", "Service"),
            Kind::ValidatingWebhook => ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"),
            Kind::MutatingWebhook => ("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration"),
            Kind::ApiService => ("apiregistration.k8s.io/v1", "APIService"),
        }
    }

    /// What is kept of an object.
    pub(super) fn keep(self) -> &'static Keep {
        match self {
            Kind::Namespace => &Keep::Fields(&[("metadata", NAMESPACE_METADATA)]),
            Kind::Node => &Keep::Fields(&[("metadata", METADATA), ("spec", NODE_SPEC), ("status", NODE_STATUS)]),
            Kind::Pod => &Keep::Fields(&[("metadata", METADATA), ("spec", POD_SPEC), ("status", POD_STATUS)]),
            Kind::NetworkPolicy => &Keep::Fields(&[("metadata", METADATA), ("spec", Keep::All)]),
            Kind::EndpointSlice => {
                &Keep::Fields(&[("metadata", METADATA), ("endpoints", ENDPOINTS), ("ports", Keep::All)])
            }
            Kind::Service => &Keep::Fields(&[
                ("metadata", SERVICE_METADATA),
                ("spec", Keep::All),
                ("status", Keep::Fields(&[("loadBalancer", Keep::All)])),
            ]),
            Kind::ValidatingWebhook | Kind::MutatingWebhook => &WEBHOOKS,
            Kind::ApiService => &Keep::Fields(&[("metadata", NAME), ("spec", Keep::Fields(&[("service", SERVICE)]))]),
        }
    }

    /// The event of an object's being there, or of its being gone.
    pub(super) fn event(self, mut object: Value, there: bool, settings: &Settings) -> Option<Event> {
        let (version, kind) = self.name();
        // The items of a list do not say it, and the list was asked for by its path.
        let fields = object.as_object_mut()?;
        fields.insert("apiVersion".to_owned(), version.into());
        fields.insert("kind".to_owned(), kind.into());
        let Some(Converted { value, findings }) = convert::object(&object, settings) else {
            let event = Event::Around(convert::around(&object, settings)?);
            return Some(if there { event } else { gone(event) });
        };
        if !there {
            return Some(gone(value));
        }
        let name = |field: &str| printable(object["metadata"][field].as_str().unwrap_or_default()).into_owned();
        for finding in &findings {
            let (namespace, name) = (name("namespace"), name("name"));
            tracing::warn!("{kind} {namespace}/{name}: {}: {}", finding.path, finding.message);
        }
        Some(if findings.is_empty() || self == Kind::NetworkPolicy { value } else { gone(value) })
    }

    /// The event of an object's being gone. Objects that are in no namespace have an empty one.
    pub(super) fn gone(self, key: Key) -> Event {
        match self {
            Kind::Namespace => Event::Namespace(key.name, None),
            Kind::Node => Event::Node(key.name, None),
            Kind::Pod => Event::Pod(key, None),
            Kind::NetworkPolicy => Event::Policy(key, None),
            Kind::EndpointSlice => Event::Resolver(key, None),
            Kind::Service => Event::Around(Fact::Service(key, None)),
            Kind::ValidatingWebhook | Kind::MutatingWebhook | Kind::ApiService => {
                Event::Around(Fact::Caller(key.name, None))
            }
        }
    }
}

fn gone(event: Event) -> Event {
    match event {
        Event::Namespace(name, _) => Event::Namespace(name, None),
        Event::Node(name, _) => Event::Node(name, None),
        Event::Pod(key, _) => Event::Pod(key, None),
        Event::Policy(key, _) => Event::Policy(key, None),
        Event::Resolver(key, _) => Event::Resolver(key, None),
        Event::Around(Fact::Service(key, _)) => Event::Around(Fact::Service(key, None)),
        Event::Around(Fact::Workload(key, _)) => Event::Around(Fact::Workload(key, None)),
        Event::Around(Fact::Caller(name, _)) => Event::Around(Fact::Caller(name, None)),
        of_nodes @ (Event::Attachment(..) | Event::Neighbour(..) | Event::Ranges(_)) => of_nodes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_policy_with_a_mistake_is_closed_and_a_pod_with_one_is_left_out() {
        let policy = json!({"metadata": {"name": "p", "namespace": "shop"}, "spec": {"podSelector": 7}});
        let Some(Event::Policy(key, Some(policy))) = Kind::NetworkPolicy.event(policy, true, &Settings::default())
        else {
            panic!()
        };
        assert_eq!((key, policy.ingress), (Key::new("shop", "p"), Some(vec![])));
        let pod = json!({"metadata": {"name": "p", "namespace": "shop", "labels": {"a": 1}}});
        assert_eq!(Kind::Pod.event(pod, true, &Settings::default()), Some(Event::Pod(Key::new("shop", "p"), None)));
        assert_eq!(Kind::Pod.event(json!("text"), true, &Settings::default()), None);
    }
}
