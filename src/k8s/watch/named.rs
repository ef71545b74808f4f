//! Objects of one name: followed, read and written as RBAC can allow it by name.
//!
//! `API server -> Told`, by [`Named::follow`]; one object by [`Named::get`], [`Named::apply`] and their like. A name may stand
//! for one object of a namespace, for one of the cluster, or for those of that name in all namespaces.

use super::{
    access::Access,
    backoff::{Backoff, between},
    error::Error,
    request,
    stream::QUIET,
};
use http_body_util::BodyExt;
use kube::client::{Body, Client};
use serde_json::Value;
use std::{fmt, time::Duration};

/// How long a watch lasts before it is opened again.
const LASTING: [Duration; 2] = [Duration::from_secs(300), Duration::from_secs(600)];
/// A line is one object, and etcd takes none of this size.
const LONGEST: usize = 16 << 20;
/// Who is said to own the fields that are written here.
const MANAGER: &str = "fieldManager=ringfence";

/// Objects of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    collection: String,
    name: String,
}

/// What is told of objects of a name.
#[derive(Debug)]
pub enum Told {
    /// These are all.
    Listed(Vec<Value>),
    /// This one is new or has changed.
    There(Value),
    /// This one was deleted.
    Gone(Value),
    /// They can not be followed, and why; it is tried again.
    Lost(Error),
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.resource(), self.name)
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

    /// As RBAC writes it: `networkpolicies.networking.k8s.io`.
    fn resource(&self) -> String {
        let plural = self.collection.rsplit('/').next().unwrap_or_default();
        match self.collection.strip_prefix("/apis/").and_then(|rest| rest.split('/').next()) {
            Some(group) => format!("{plural}.{group}"),
            None => plural.to_owned(),
        }
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
        let answer = request::send(client, request, body, Some((verb, &self.resource()))).await?;
        self.parsed(&request::whole(answer, &self.path()).await?)
    }

    /// Follows them for good, and tells what is heard. Errors are told, and tried again.
    pub async fn follow(self, access: Access, mut tell: impl FnMut(Told)) {
        let mut backoff = Backoff::default();
        loop {
            let wait = match self.round(&access, &mut tell).await {
                Ok(()) => {
                    backoff.works();
                    Duration::ZERO
                }
                Err(error) => {
                    let wait = backoff.failed(error.pause());
                    tell(Told::Lost(error));
                    wait
                }
            };
            // Also after a watch that ended in order, so that it is never asked without end.
            tokio::time::sleep(wait + between(Duration::from_millis(100), Duration::from_millis(500))).await;
        }
    }

    /// Lists them, and watches until the watch ends in order.
    async fn round(&self, access: &Access, tell: &mut impl FnMut(Told)) -> Result<(), Error> {
        let client = access.connect().await?;
        let resource = self.resource();
        let path = format!("{}?fieldSelector=metadata.name%3D{}", self.collection, self.name);
        let list = request::get(&client, &path, Some(("list", &resource))).await?;
        let mut list = self.parsed(&request::whole(list, &path).await?)?;
        let version = list["metadata"]["resourceVersion"].as_str().unwrap_or("0").to_owned();
        let items = match list["items"].take() {
            Value::Array(items) => items,
            _ => Vec::new(),
        };
        tell(Told::Listed(items));
        let seconds = between(LASTING[0], LASTING[1]).as_secs();
        let path =
            format!("{path}&watch=true&allowWatchBookmarks=true&resourceVersion={version}&timeoutSeconds={seconds}");
        let mut body = request::get(&client, &path, Some(("watch", &resource))).await?.into_body();
        let mut buffer = Vec::new();
        loop {
            while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = buffer.drain(..=end).collect();
                if let Some(told) = event(self.parsed(&line)?)? {
                    tell(told);
                }
            }
            if buffer.len() > LONGEST {
                return Err(Error::Unreadable(format!("a line of more than {LONGEST} bytes")));
            }
            let frame = tokio::time::timeout(QUIET, body.frame()).await;
            match frame.map_err(|_| Error::Slow { what: format!("the watch of {self}"), after: QUIET })? {
                None => return Ok(()),
                Some(Err(error)) => return Err(request::broken(&error)),
                Some(Ok(frame)) => buffer.extend(frame.data_ref().into_iter().flatten()),
            }
        }
    }

    fn parsed(&self, text: &[u8]) -> Result<Value, Error> {
        serde_json::from_slice(text).map_err(|error| Error::Unreadable(format!("{self}: {error}")))
    }
}

/// What an event of a watch says; nothing in a bookmark.
fn event(mut event: Value) -> Result<Option<Told>, Error> {
    let object = event["object"].take();
    match event["type"].as_str().unwrap_or_default() {
        "ADDED" | "MODIFIED" => Ok(Some(Told::There(object))),
        "DELETED" => Ok(Some(Told::Gone(object))),
        "BOOKMARK" => Ok(None),
        _ => Err(Error::Gone(object["message"].as_str().unwrap_or_default().to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_resource_is_named_as_rbac_writes_it() {
        let policies = Named::new("/apis/networking.k8s.io/v1/networkpolicies", "p");
        assert_eq!(policies.resource(), "networkpolicies.networking.k8s.io");
        let one = policies.within("shop");
        assert_eq!(one.path(), "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies/p");
        assert_eq!(one.to_string(), "networkpolicies.networking.k8s.io/p");
        assert_eq!(Named::new("/api/v1/namespaces/x/secrets", "s").resource(), "secrets");
    }

    #[test]
    fn events_say_what_became_of_an_object() {
        let say = |kind: &str| event(json!({"type": kind, "object": {"metadata": {"name": "a"}}}));
        assert!(matches!(say("ADDED").unwrap(), Some(Told::There(_))));
        assert!(matches!(say("MODIFIED").unwrap(), Some(Told::There(object)) if object["metadata"]["name"] == "a"));
        assert!(matches!(say("DELETED").unwrap(), Some(Told::Gone(_))));
        assert!(say("BOOKMARK").unwrap().is_none());
        let error = event(json!({"type": "ERROR", "object": {"code": 410, "message": "too old"}}));
        assert!(error.unwrap_err().to_string().contains("too old"));
    }
}
