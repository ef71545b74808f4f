//! What Ringfence keeps in a cluster by itself: its certificates, and baselines as NetworkPolicies that people can see.
//!
//! ```text
//! Lease ──leader──▶ leads ──▶ certificates   Secret, webhook configurations ─▶ Served
//! Lease ──leader──▶ leads ──▶ projection     namespaces ─▶ ringfence-baseline
//! ```
//! [`Controller::run`] is the entry. Every replica follows; one writes, for each duty the one that holds its Lease. All that is
//! written belongs to a cluster-scoped object of the chart, so that it goes with the chart by garbage collection. Nothing here
//! stands in the way of a packet or a review.

mod certificates;
mod leader;
mod projection;

pub use projection::{Fenced, fenced, refence};

use crate::{
    k8s::watch::{Access, Error, Named},
    tls::{Served, Times},
};
use certificates::{Certificates, Places};
use kube::Client;
use leader::Candidate;
use projection::Projection;
use serde_json::{Value, json};
use std::{str::FromStr, sync::Arc};
use tokio::sync::watch;

/// The release that the controller belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Its namespace.
    pub namespace: String,
    /// The name of its Service, with which the names of what it keeps begin.
    pub name: String,
}

impl FromStr for Release {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |part: &&str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
        };
        match text.split_once('/') {
            Some((namespace, name)) if [namespace, name].iter().all(plain) => {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err(format!("{text:?} is no NAMESPACE/NAME of a release")),
        }
    }
}

/// What a controller needs to know.
#[derive(Debug)]
pub struct Controller {
    /// How to reach the API server.
    pub access: Access,
    /// Whose it is.
    pub release: Release,
    /// The name of the release's objects without a namespace: webhook configurations, and the ClusterRole that owns what is
    /// written.
    pub cluster_name: String,
    /// What no other replica is called.
    pub identity: String,
    /// For how long certificates are valid.
    pub times: Times,
    /// Where the server certificate goes; without, somebody else makes certificates.
    pub served: Option<Arc<Served>>,
    /// The baseline of every namespace, once it is known.
    pub fenced: watch::Receiver<Option<Fenced>>,
}

impl Controller {
    /// Works until `stop` says true, then lets another replica lead. `lacks` is told why API servers would not trust what is
    /// served.
    ///
    /// Certificates are led by a replica that keeps some: in a rollout from certificates of somebody else, those that are to go
    /// hold the other Lease until the new ones are ready, which are ready once somebody has written their caBundle. A release
    /// that knows one Lease for both leads in certificates by the other one while it is replaced. Two who write them do no harm:
    /// both write what the Secret says, and into the version that they have heard of.
    pub async fn run(self, lacks: impl Fn(Option<String>), stop: watch::Receiver<bool>) {
        let Self { access, release, cluster_name, identity, times, served, fenced } = self;
        let Release { namespace, name } = release;
        let authorities = format!("{name}-authorities");
        let owner = |name: &str| Owner {
            role: Named::cluster_role(cluster_name.clone()),
            namespace: namespace.clone(),
            name: name.to_owned(),
        };
        let candidate = |duty, lease: &str| {
            let leases = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases");
            Candidate { duty, identity: identity.clone(), lease: Named::new(leases, lease), owner: owner(lease) }
        };

        let certificates = async {
            let Some(served) = served else { return };
            let service = format!("{name}.{namespace}.svc");
            let names = vec![service.clone(), format!("{service}.cluster.local")];
            let configurations =
                |kind| Named::new(format!("/apis/admissionregistration.k8s.io/v1/{kind}"), cluster_name.clone());
            let places = Places {
                secret: Named::new(format!("/api/v1/namespaces/{namespace}/secrets"), &authorities),
                mutating: configurations("mutatingwebhookconfigurations"),
                validating: configurations("validatingwebhookconfigurations"),
            };
            let (leading, leads) = watch::channel(false);
            let candidate = candidate("certificates", &authorities);
            let certificates = Certificates::new(names, times);
            tokio::select! {
                () = candidate.run(access.clone(), leading, stop.clone()) => {}
                () = certificates.run(access.clone(), places, owner(&authorities), served, lacks, leads) => {}
            }
        };
        let baselines = async {
            let (leading, leads) = watch::channel(false);
            tokio::select! {
                () = candidate("baselines", &name).run(access.clone(), leading, stop.clone()) => {}
                () = Projection::default().run(access.clone(), owner(&name), fenced, leads) => {}
            }
        };
        tokio::join!(certificates, baselines);
    }
}

/// Whom an object belongs to that is written here: a ClusterRole of the chart, with which it goes.
#[derive(Debug)]
struct Owner {
    role: Named,
    /// Of the object.
    namespace: String,
    /// Of the object.
    name: String,
}

impl Owner {
    /// The reference, as objects carry it.
    async fn reference(&self, client: &Client) -> Result<Value, Error> {
        let role = self.role.get(client).await?.unwrap_or_default();
        let metadata = &role["metadata"];
        match metadata["uid"].as_str() {
            Some(uid) => Ok(json!({
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRole",
                "name": metadata["name"],
                "uid": uid,
            })),
            None => Err(Error::Unreadable(format!("{} is not there; install the chart again", self.role))),
        }
    }

    /// The head of an object that is to be made.
    async fn object(&self, client: &Client, version: &str, kind: &str) -> Result<Value, Error> {
        Ok(json!({
            "apiVersion": version,
            "kind": kind,
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "labels": {projection::MANAGED_BY.0: projection::MANAGED_BY.1, "app.kubernetes.io/name": "ringfence"},
                "ownerReferences": [self.reference(client).await?],
            },
        }))
    }
}
