//! Objects of one name: followed, read and written as RBAC can allow it by name.
//!
//! `API server -> Told`, by [`Named::follow`]; one object by [`Named::get`], [`Named::apply`] and their like. A name may stand
//! for one object of a namespace, for one of the cluster, or for those of that name in all namespaces.

use super::{
    access::Access,
    error::Error,
    request,
    selected::{Selected, Told, resource},
};
use kube::client::{Body, Client};
use serde_json::Value;
use std::fmt;

/// Who is said to own the fields that are written here.
const MANAGER: &str = "fieldManager=ringfence";

/// Objects of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    collection: String,
    name: String,
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", resource(&self.collection), self.name)
    }
}

impl Named {
    /// Objects of a name in a collection, which is a path: `/api/v1/namespaces/shop/secrets`. The name may hold what names of
    /// Kubernetes hold.
    pub fn new(collection: impl Into<String>, name: impl Into<String>) -> Self {
        Self { collection: collection.into(), name: name.into() }
    }

    /// A ClusterRole: of a chart, what is made once and never made again.
    pub fn cluster_role(name: impl Into<String>) -> Self {
        Self::new("/apis/rbac.authorization.k8s.io/v1/clusterroles", name)
    }

    /// The one of a namespace, where the collection is that of all namespaces.
    pub fn within(&self, namespace: &str) -> Self {
        let (version, plural) = self.collection.rsplit_once('/').unwrap_or(("", &self.collection));
        Self::new(format!("{version}/namespaces/{namespace}/{plural}"), &self.name)
    }

    fn path(&self) -> String {
        format!("{}/{}", self.collection, self.name)
    }

    /// The object; `None` when there is none.
    ///
    /// # Errors
    /// Why it can not be had.
    pub async fn get(&self, client: &Client) -> Result<Option<Value>, Error> {
        match self.ask(client, http::Request::get(self.path()), "get", None).await {
            Err(error) if error.status() == Some(404) => Ok(None),
            answer => answer.map(Some),
        }
    }

    /// Makes the object, or takes the fields that are given into one that is there; with a resourceVersion, only into that one.
    ///
    /// # Errors
    /// Why it was not taken.
    pub async fn apply(&self, client: &Client, object: &Value) -> Result<Value, Error> {
        let request = http::Request::patch(format!("{}?{MANAGER}&force=true", self.path()))
            .header(http::header::CONTENT_TYPE, "application/apply-patch+yaml");
        self.ask(client, request, "patch", Some(object)).await
    }

    /// Makes the object, which must not be there.
    ///
    /// # Errors
    /// Why it was not taken.
    pub async fn create(&self, client: &Client, object: &Value) -> Result<Value, Error> {
        let request = http::Request::post(format!("{}?{MANAGER}", self.collection))
            .header(http::header::CONTENT_TYPE, "application/json");
        self.ask(client, request, "create", Some(object)).await
    }

    /// Makes an object that is there what is given, nothing else in it; with a resourceVersion, only if it is that one.
    ///
    /// # Errors
    /// Why it was not taken.
    pub async fn replace(&self, client: &Client, object: &Value) -> Result<Value, Error> {
        let request = http::Request::put(format!("{}?{MANAGER}", self.path()))
            .header(http::header::CONTENT_TYPE, "application/json");
        self.ask(client, request, "update", Some(object)).await
    }

    /// Changes fields of an object that is there, items of lists by their keys.
    ///
    /// # Errors
    /// Why it was not taken.
    pub async fn merge(&self, client: &Client, patch: &Value) -> Result<Value, Error> {
        let request = http::Request::patch(format!("{}?{MANAGER}", self.path()))
            .header(http::header::CONTENT_TYPE, "application/strategic-merge-patch+json");
        self.ask(client, request, "patch", Some(patch)).await
    }

    /// Deletes the object, if it is this one. One that is gone already is no error.
    ///
    /// # Errors
    /// Why it is there still.
    pub async fn delete(&self, client: &Client, object: &Value) -> Result<(), Error> {
        let request = http::Request::delete(self.path()).header(http::header::CONTENT_TYPE, "application/json");
        let options = serde_json::json!({"preconditions": {"uid": object["metadata"]["uid"]}});
        match self.ask(client, request, "delete", Some(&options)).await {
            Err(error) if !matches!(error.status(), Some(404 | 409)) => Err(error),
            _ => Ok(()),
        }
    }

    async fn ask(
        &self,
        client: &Client,
        request: http::request::Builder,
        verb: &'static str,
        body: Option<&Value>,
    ) -> Result<Value, Error> {
        let body = body.map_or_else(Body::empty, |value| Body::from(value.to_string().into_bytes()));
        let answer = request::send(client, request, body, Some((verb, &resource(&self.collection)))).await?;
        self.parsed(&request::whole(answer, &self.path()).await?)
    }

    /// Follows them for good, and tells what is heard. Errors are told, and tried again.
    pub async fn follow(self, access: Access, tell: impl FnMut(Told)) {
        let selector = format!("fieldSelector=metadata.name%3D{}", self.name);
        Selected { collection: self.collection, selector }.follow(access, tell).await;
    }

    fn parsed(&self, text: &[u8]) -> Result<Value, Error> {
        serde_json::from_slice(text).map_err(|error| Error::Unreadable(format!("{self}: {error}")))
    }
}

/// Whether a text can be a name, and so needs no escape in a path.
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_named_as_rbac_writes_it() {
        let policies = Named::new("/apis/networking.k8s.io/v1/networkpolicies", "p");
        assert_eq!(resource(&policies.collection), "networkpolicies.networking.k8s.io");
        let one = policies.within("shop");
        assert_eq!(one.path(), "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies/p");
        assert_eq!(one.to_string(), "networkpolicies.networking.k8s.io/p");
        assert_eq!(resource("/api/v1/namespaces/x/secrets"), "secrets");
    }
}
