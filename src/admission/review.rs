//! What an API server asks: an AdmissionReview of admission.k8s.io/v1, read in two steps.
//!
//! First the envelope, whose objects stay raw text, so that a review whose object makes no sense is still answered with its
//! uid; then, where it is wanted, [`Object::read`]. Unknown fields are passed over: API servers are upgraded before webhooks.

use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use std::borrow::Cow;

/// The one version of the protocol that is spoken here, and that API servers since 1.16 speak.
pub const API_VERSION: &str = "admission.k8s.io/v1";
/// The kind of both the question and the answer.
pub const KIND: &str = "AdmissionReview";

/// A body that is no AdmissionReview which could be answered. Each says in one line why.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the sentences say it")]
pub enum Malformed {
    #[error("the body is empty; send an AdmissionReview of {API_VERSION}")]
    Empty,
    #[error("the body is not JSON: {0}")]
    Json(serde_json::Error),
    #[error("the body is JSON, but not an {KIND}: {0}")]
    Shape(serde_json::Error),
    #[error("the body is JSON, but not a mapping")]
    NoMapping,
    #[error("the request is not as {API_VERSION} has it: {0}")]
    Request(serde_json::Error),
    #[error(
        "the body says apiVersion \"{api_version}\" and kind \"{kind}\"; only {KIND} of {API_VERSION} is spoken here"
    )]
    Version { api_version: String, kind: String },
    #[error("the review has no request")]
    NoRequest,
    #[error("the request has no uid, so that no answer could name it")]
    NoUid,
    #[error("the request does not say which kind of object it is about")]
    NoKind,
}

/// A question, borrowed from the body that carried it.
#[derive(Debug)]
pub struct Review<'a> {
    /// Echoed by the answer.
    pub uid: Cow<'a, str>,
    /// What is done to the object.
    pub operation: Operation,
    /// The object's kind, in the version that the webhook asked for.
    pub kind: GroupVersionKind<'a>,
    /// `status`, `scale`; empty for the object itself.
    pub sub_resource: Cow<'a, str>,
    /// The object's namespace; empty for objects without.
    pub namespace: Cow<'a, str>,
    /// The object's name; empty where the server has yet to make one up, and for `deletecollection`.
    pub name: Cow<'a, str>,
    /// Who asks for it.
    pub user: User<'a>,
    /// Nothing is stored, whatever the answer is. Answers do not differ: there are no side effects here.
    pub dry_run: bool,
    /// The object as it would be stored.
    pub object: Object<'a>,
    /// The object as it is stored now.
    pub old_object: Object<'a>,
}

/// What is done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// It is created.
    Create,
    /// It is changed.
    Update,
    /// It is deleted.
    Delete,
    /// CONNECT, and whatever comes one day.
    Other,
}

impl Operation {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Other => "other",
        }
    }
}

/// Group, version and kind of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, expecting = "a mapping of group, version and kind")]
pub struct GroupVersionKind<'a> {
    /// The API group; empty for the core group.
    #[serde(borrow)]
    pub group: Cow<'a, str>,
    /// The version.
    #[serde(borrow)]
    pub version: Cow<'a, str>,
    /// The kind.
    #[serde(borrow)]
    pub kind: Cow<'a, str>,
}

/// Who asks for something.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, expecting = "a mapping that says who asks")]
pub struct User<'a> {
    /// The name: `system:serviceaccount:shop:deployer`.
    #[serde(borrow)]
    pub username: Cow<'a, str>,
    /// The groups.
    #[serde(borrow)]
    pub groups: Vec<Cow<'a, str>>,
}

/// An object that nobody has read yet; absent on one side of a CREATE and of a DELETE.
#[derive(Debug, Clone, Copy, Default)]
pub struct Object<'a>(Option<&'a RawValue>);

/// What can be said of an object before it is read whole.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Outline<'a> {
    #[serde(borrow)]
    spec: Option<&'a RawValue>,
    #[serde(borrow)]
    metadata: Option<MetadataOutline<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct MetadataOutline<'a> {
    #[serde(borrow)]
    deletion_timestamp: Option<&'a RawValue>,
    #[serde(borrow)]
    labels: Option<&'a RawValue>,
    #[serde(borrow)]
    annotations: Option<&'a RawValue>,
}

impl Outline<'_> {
    /// Whether somebody has deleted it and finalizers hold it.
    pub fn is_being_deleted(&self) -> bool {
        self.metadata.as_ref().is_some_and(|metadata| metadata.deletion_timestamp.is_some())
    }

    /// Whether both say the same in the same words. An API server writes equal specs alike; whoever does not has them judged.
    pub fn has_spec_of(&self, other: &Outline<'_>) -> bool {
        self.spec.map(RawValue::get) == other.spec.map(RawValue::get)
    }

    /// Whether both have the same annotations.
    pub fn is_annotated_as(&self, other: &Outline<'_>) -> bool {
        fn said<'o>(outline: &'o Outline<'_>) -> Option<&'o str> {
            outline.metadata.as_ref()?.annotations.map(RawValue::get)
        }
        said(self) == said(other)
    }

    /// Whether both have the same labels and annotations.
    pub fn is_called_as(&self, other: &Outline<'_>) -> bool {
        fn said<'o>(outline: &'o Outline<'_>) -> Option<(Option<&'o str>, Option<&'o str>)> {
            let metadata = outline.metadata.as_ref()?;
            Some((metadata.labels.map(RawValue::get), metadata.annotations.map(RawValue::get)))
        }
        said(self) == said(other)
    }
}

impl<'a> Object<'a> {
    /// Its outline; `None` where there is no object, and where it is none that has an outline, which [`Object::read`] explains.
    pub fn outline(&self) -> Option<Outline<'a>> {
        serde_json::from_str(self.0?.get()).ok()
    }

    /// The object; `None` when the review carries none.
    ///
    /// # Errors
    /// One line: it is not a mapping, or is nested deeper than serde_json follows (128).
    pub fn read(&self) -> Result<Option<Value>, String> {
        let Some(raw) = self.0 else { return Ok(None) };
        match serde_json::from_str(raw.get()) {
            Ok(object @ Value::Object(_)) => Ok(Some(object)),
            Ok(_) => Err("it is not a mapping".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "a mapping")]
struct Envelope<'a> {
    #[serde(borrow, default)]
    api_version: Cow<'a, str>,
    #[serde(borrow, default)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    request: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "a mapping")]
struct Request<'a> {
    #[serde(borrow, default)]
    uid: Cow<'a, str>,
    #[serde(borrow, default)]
    operation: Cow<'a, str>,
    #[serde(borrow)]
    kind: Option<GroupVersionKind<'a>>,
    #[serde(borrow, default)]
    sub_resource: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    namespace: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
    #[serde(default)]
    dry_run: Option<bool>,
    #[serde(borrow, default)]
    user_info: Option<User<'a>>,
    #[serde(borrow)]
    object: Option<&'a RawValue>,
    #[serde(borrow)]
    old_object: Option<&'a RawValue>,
}

impl<'a> Review<'a> {
    /// Reads the envelope.
    ///
    /// # Errors
    /// See [`Malformed`]: there is nothing that could be answered.
    pub fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let first = body.iter().find(|byte| !byte.is_ascii_whitespace()).ok_or(Malformed::Empty)?;
        let Envelope { api_version, kind, request } =
            serde_json::from_slice(body).map_err(|error| match (error.is_data(), first) {
                (true, b'{') => Malformed::Shape(error),
                (true, _) => Malformed::NoMapping,
                (false, _) => Malformed::Json(error),
            })?;
        // serde would take a list of the right length for a struct.
        if *first != b'{' {
            return Err(Malformed::NoMapping);
        }
        // The version comes first: what a request of another version looks like is not known here.
        if api_version != API_VERSION || kind != KIND {
            return Err(Malformed::Version { api_version: clipped(&api_version), kind: clipped(&kind) });
        }
        let request = request.ok_or(Malformed::NoRequest)?.get();
        let request: Request<'a> = serde_json::from_str(request).map_err(Malformed::Request)?;
        let Request { uid, operation, kind, sub_resource, namespace, name, dry_run, user_info, object, old_object } =
            request;
        if uid.is_empty() {
            return Err(Malformed::NoUid);
        }
        Ok(Self {
            uid,
            operation: match operation.as_ref() {
                "CREATE" => Operation::Create,
                "UPDATE" => Operation::Update,
                "DELETE" => Operation::Delete,
                _ => Operation::Other,
            },
            kind: kind.filter(|kind| !kind.kind.is_empty()).ok_or(Malformed::NoKind)?,
            sub_resource: sub_resource.unwrap_or_default(),
            namespace: namespace.unwrap_or_default(),
            name: name.unwrap_or_default(),
            user: user_info.unwrap_or_default(),
            dry_run: dry_run.unwrap_or_default(),
            object: Object(object),
            old_object: Object(old_object),
        })
    }
}

/// Enough of somebody's text to recognise it, in one line.
fn clipped(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn review(request: &str) -> String {
        format!(r#"{{"apiVersion":"{API_VERSION}","kind":"{KIND}","request":{request}}}"#)
    }

    const POLICY: &str = r#""kind":{"group":"networking.k8s.io","version":"v1","kind":"NetworkPolicy"}"#;

    #[test]
    fn an_object_that_makes_no_sense_leaves_the_envelope_readable() {
        let body = review(&format!(r#"{{"uid":"u1","operation":"CREATE",{POLICY},"object":[1]}}"#));
        let review = Review::parse(body.as_bytes()).unwrap();
        assert_eq!(review.uid, "u1");
        assert_eq!(review.object.read(), Err("it is not a mapping".to_owned()));
        assert_eq!(review.old_object.read(), Ok(None));
    }

    #[test]
    fn a_deep_object_is_an_error_of_its_own_and_a_deep_envelope_one_of_the_body() {
        let deep = format!("{}{}", "[".repeat(500_000), "]".repeat(500_000));
        let body = review(&format!(r#"{{"uid":"u1",{POLICY},"object":{{"spec":{deep}}},"later":{deep}}}"#));
        let review = Review::parse(body.as_bytes()).unwrap();
        assert!(review.object.read().unwrap_err().contains("recursion limit"));
        assert!(matches!(Review::parse(deep.as_bytes()), Err(Malformed::NoMapping)));
    }

    #[test]
    fn a_list_is_no_mapping_even_where_it_is_as_long() {
        let list = format!(r#"["{API_VERSION}","{KIND}",{{"uid":"u",{POLICY}}}]"#);
        assert!(matches!(Review::parse(list.as_bytes()), Err(Malformed::NoMapping)));
    }

    #[test]
    fn text_with_escapes_is_read_too() {
        let body = review(&format!(r#"{{"uid":"a\u0062c",{POLICY},"name":"\u0077eb","namespace":null}}"#));
        let review = Review::parse(body.as_bytes()).unwrap();
        assert_eq!((review.uid.as_ref(), review.name.as_ref(), review.namespace.as_ref()), ("abc", "web", ""));
    }
}
