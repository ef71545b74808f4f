//! The kinds of objects that are judged.

use super::review::Review;

/// A kind of object that is judged. What is none of these passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// NetworkPolicies.
    Policy,
    /// Pods, their ephemeral containers included.
    Pod,
    /// What makes pods of a template.
    Workload,
    /// Namespaces.
    Namespace,
}

impl Kind {
    /// The kind that a review is about, if it is about the object itself.
    pub(super) fn of(review: &Review<'_>) -> Option<Self> {
        let kind = &review.kind;
        let part = review.sub_resource.as_ref();
        match (kind.group.as_ref(), kind.version.as_ref(), kind.kind.as_ref()) {
            ("networking.k8s.io", "v1", "NetworkPolicy") if part.is_empty() => Some(Kind::Policy),
            ("", "v1", "Pod") if part.is_empty() || part == "ephemeralcontainers" => Some(Kind::Pod),
            ("", "v1", "Namespace") if part.is_empty() => Some(Kind::Namespace),
            ("apps", "v1", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet") if part.is_empty() => {
                Some(Kind::Workload)
            }
            ("batch", "v1", "Job" | "CronJob") if part.is_empty() => Some(Kind::Workload),
            _ => None,
        }
    }

    /// As metrics name it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Kind::Policy => "NetworkPolicy",
            Kind::Pod => "Pod",
            Kind::Workload => "workload",
            Kind::Namespace => "Namespace",
        }
    }
}
