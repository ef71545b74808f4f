//! One question to an API server, and its answer or why there is none.
//!
//! `path -> Response`, by [`get`]; every wait has an end. An answer that is an error says what the server said, and when
//! it wants to be asked again.

use super::error::Error;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use kube::client::{Body, Client};
use serde::Deserialize;
use std::time::Duration;

/// How long a server may take for an answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// The longest that a server may ask to be left alone.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The largest answer: 500 objects of the largest size that etcd takes would be larger, but nobody has them.
const LARGEST: usize = 256 << 20;

/// What a question is about, where RBAC has a say in it: the verb and the resource.
pub(super) type About<'a> = Option<(&'static str, &'a str)>;

/// What a server says when it says no.
#[derive(Default, Deserialize)]
struct Status {
    #[serde(default)]
    message: String,
    #[serde(default)]
    details: Option<Details>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Details {
    #[serde(default)]
    retry_after_seconds: u64,
}

/// The head of an answer; its body is still to come.
pub(super) async fn get(client: &Client, path: &str, about: About<'_>) -> Result<http::Response<Body>, Error> {
    send(client, http::Request::get(path), Body::empty(), about).await
}

/// Asks for a change, or for anything else; the head of the answer.
pub(super) async fn send(
    client: &Client,
    request: http::request::Builder,
    body: Body,
    about: About<'_>,
) -> Result<http::Response<Body>, Error> {
    let request = request.header(http::header::ACCEPT, "application/json").body(body);
    let request = request.map_err(|error| Error::Unreadable(error.to_string()))?;
    let path = request.uri().path().to_owned();
    let what = || path.clone();
    let answer = tokio::time::timeout(PATIENCE, client.send(request)).await;
    let answer = answer.map_err(|_| Error::Slow { what: what(), after: PATIENCE })?;
    let answer = answer.map_err(|error| Error::of_client(&error))?;
    if answer.status().is_success() {
        return Ok(answer);
    }
    let status = answer.status().as_u16();
    let after = answer.headers().get(http::header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    // What it says helps, but is not needed.
    let body = whole(answer, &path).await.unwrap_or_default();
    let said = serde_json::from_slice(&body).unwrap_or_else(|_| {
        let message = String::from_utf8_lossy(&body).into_owned();
        Status { message, details: None }
    });
    let after = after.or(said.details.map(|details| details.retry_after_seconds).filter(|seconds| *seconds > 0));
    let retry_after = after.map(|seconds| Duration::from_secs(seconds).min(LONGEST_PAUSE));
    Err(match (status, about) {
        (401, _) => Error::Unauthorized(said.message),
        (403, Some((verb, resource))) => {
            Error::Forbidden { verb, resource: resource.to_owned(), message: said.message }
        }
        (410, _) => Error::Gone(said.message),
        _ => Error::Answer { status, what: what(), message: said.message, retry_after },
    })
}

/// The whole body of an answer.
pub(super) async fn whole(answer: http::Response<Body>, path: &str) -> Result<Vec<u8>, Error> {
    let what = || path.split('?').next().unwrap_or_default().to_owned();
    let collected = tokio::time::timeout(PATIENCE, Limited::new(answer.into_body(), LARGEST).collect()).await;
    let collected = collected.map_err(|_| Error::Slow { what: what(), after: PATIENCE })?;
    let collected = collected.map_err(|error| match error.is::<LengthLimitError>() {
        true => Error::Unreadable(format!("{} is larger than {LARGEST} bytes", what())),
        false => broken(&*error),
    })?;
    Ok(collected.to_bytes().into())
}

/// A connection that broke in the middle.
pub(super) fn broken(error: &(dyn std::error::Error + 'static)) -> Error {
    match error.downcast_ref::<kube::Error>() {
        Some(error) => Error::of_client(error),
        None => Error::Unreachable(super::error::chain(error)),
    }
}
