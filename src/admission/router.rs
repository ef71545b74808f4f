//! HTTP around the decision: `POST /validate` and `POST /mutate`.
//!
//! [`router`] is a tower service that tests drive in memory. What cannot be answered gets an HTTP status and one line of text;
//! an API server takes each as a failed call, so the webhook's `failurePolicy` decides. Nothing is ever redirected: an API
//! server would follow (CVE-2020-8561).

use super::{
    decide::{Hook, Service},
    metrics::Metrics,
    review::{Malformed, Review},
};
use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequest, Query, Request, State as Shared},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use prometheus_client::metrics::gauge::Gauge;
use serde::Deserialize;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant as Deadline, sleep_until, timeout_at},
};
use tower_http::catch_panic::CatchPanicLayer;

/// A review holds the object twice, each up to the 3 MiB that an API server takes, and an envelope.
pub const BODY_LIMIT: usize = 7 * 1024 * 1024;
/// The longest that an answer may take. An API server that waits longer is not kept waiting.
pub const LONGEST: Duration = Duration::from_secs(10);
/// How many requests are open at a time unless told otherwise; those above are sent away.
pub const CONCURRENCY: usize = 256;
/// Bodies that arrive at a time are together no larger than this; others wait for their turn.
const ARRIVING: usize = 64 * 1024 * 1024;
/// Bodies that are decided at a time are together no larger than this: JSON that is read takes up to sixty times its length, so
/// one that fills the limit is decided alone. Those of a few kilobytes hardly ever wait.
const DECIDED: usize = BODY_LIMIT;
/// Threads that decide: a runtime that serves the router has this many blocking threads. It is work for processors, and each
/// thread keeps the memory of the largest object that it ever read.
pub const DECIDING_THREADS: usize = 2;
/// What a body is weighed in, rounded up.
const WEIGHT: usize = 64 * 1024;

/// What the handlers share.
#[derive(Debug, Clone)]
pub struct State {
    service: Service,
    metrics: Metrics,
    places: Arc<Semaphore>,
    arriving: Arc<Semaphore>,
    decided: Arc<Semaphore>,
}

impl State {
    /// A service, its counters, and how many requests may be open at a time.
    pub fn new(service: Service, metrics: Metrics, concurrency: usize) -> Self {
        let places = Arc::new(Semaphore::new(concurrency));
        let arriving = Arc::new(Semaphore::new(ARRIVING / WEIGHT));
        let decided = Arc::new(Semaphore::new(DECIDED / WEIGHT));
        Self { service, metrics, places, arriving, decided }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{0}")]
    Malformed(#[from] Malformed),
    #[error("the content type must be application/json")]
    ContentType,
    #[error("the body is larger than {BODY_LIMIT} bytes")]
    TooLarge,
    #[error("the body did not arrive as a whole")]
    Cut,
    #[error("the body did not arrive in time")]
    Slow,
    #[error("too many reviews at a time; ask again")]
    Busy,
    #[error("no decision in time")]
    Late,
    #[error("only POST is answered here")]
    Method,
    #[error("nothing is here; ask /validate or /mutate")]
    Path,
    #[error("internal error: {0}")]
    Internal(String),
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Refusal::Malformed(_) | Refusal::Cut => StatusCode::BAD_REQUEST,
            Refusal::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Refusal::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::Slow => StatusCode::REQUEST_TIMEOUT,
            Refusal::Busy | Refusal::Late => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::Method => StatusCode::METHOD_NOT_ALLOWED,
            Refusal::Path => StatusCode::NOT_FOUND,
            Refusal::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn answer(&self, metrics: &Metrics) -> Response {
        let status = self.status();
        metrics.refused(status);
        let code = status.as_u16();
        match self {
            Refusal::Internal(_) => tracing::error!(status = code, "{self}"),
            Refusal::Busy | Refusal::Late => tracing::warn!(status = code, "{self}"),
            _ => tracing::debug!(status = code, "{self}"),
        }
        (status, format!("{self}\n")).into_response()
    }
}

/// The two webhooks.
pub fn router(state: State) -> Router {
    let on_panic = state.metrics.clone();
    Router::new()
        .route("/validate", post(|state, request| review(state, Hook::Validate, request)))
        .route("/mutate", post(|state, request| review(state, Hook::Mutate, request)))
        .method_not_allowed_fallback(|Shared(state): Shared<State>| async move {
            ([(header::ALLOW, "POST")], Refusal::Method.answer(&state.metrics))
        })
        .fallback(|Shared(state): Shared<State>| async move { Refusal::Path.answer(&state.metrics) })
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(CatchPanicLayer::custom(move |_| Refusal::Internal("a decision panicked".to_owned()).answer(&on_panic)))
        .with_state(state)
}

/// How long the API server waits: `?timeout=3s`, rounded up by it to whole seconds.
#[derive(Debug, Deserialize)]
struct Patience {
    timeout: Option<String>,
}

impl Patience {
    fn within_reason(&self) -> Duration {
        let seconds = self.timeout.as_deref().and_then(|text| text.strip_suffix('s')).and_then(|n| n.parse().ok());
        seconds.map_or(LONGEST, Duration::from_secs).clamp(Duration::from_secs(1), LONGEST)
    }
}

async fn review(Shared(state): Shared<State>, hook: Hook, request: Request) -> Response {
    let started = Instant::now();
    let _open = Open::new(&state.metrics);
    let answer = answer(&state, hook, request, started).await;
    state.metrics.took(hook, started.elapsed());
    answer.unwrap_or_else(|refusal| refusal.answer(&state.metrics))
}

/// A request that is counted as long as it is open, also when its client goes away in the middle of it.
struct Open(Gauge);

impl Open {
    fn new(metrics: &Metrics) -> Self {
        metrics.in_flight.inc();
        Self(metrics.in_flight.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

async fn answer(state: &State, hook: Hook, request: Request, started: Instant) -> Result<Response, Refusal> {
    let place = state.places.clone().try_acquire_owned().map_err(|_| Refusal::Busy)?;
    if !is_json(request.headers()) {
        return Err(Refusal::ContentType);
    }
    let patience = Query::<Patience>::try_from_uri(request.uri()).map(|Query(patience)| patience);
    let patience = patience.unwrap_or(Patience { timeout: None }).within_reason();
    let until = Deadline::from_std(started + patience);

    let announced = announced(request.headers())?;
    let arriving = turn(&state.arriving, announced, until).await?;
    let body = timeout_at(until, Bytes::from_request(request, &())).await.map_err(|_| Refusal::Slow)?;
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Refusal::TooLarge,
        _ => Refusal::Cut,
    })?;
    let turn = turn(&state.decided, body.len(), until).await?;

    // Megabytes of JSON are no work for a thread that also serves others. What is taken stays taken until the work is done, also
    // when nobody waits for it any more.
    let (service, metrics) = (state.service.clone(), state.metrics.clone());
    let work = tokio::task::spawn_blocking(move || {
        let _taken = (place, arriving, turn);
        decide(&service, &metrics, hook, &body)
    });
    tokio::select! {
        done = work => match done {
            Ok(json) => Ok((JSON, json?).into_response()),
            Err(_) => Err(Refusal::Internal("a decision panicked".to_owned())),
        },
        () = sleep_until(until) => Err(Refusal::Late),
    }
}

/// How long the body says it is; as long as may be when it does not say.
fn announced(headers: &HeaderMap) -> Result<usize, Refusal> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    match length {
        Some(length) if length > BODY_LIMIT => Err(Refusal::TooLarge),
        length => Ok(length.unwrap_or(BODY_LIMIT)),
    }
}

/// Waits until a body of a length may be worked on.
async fn turn(turns: &Arc<Semaphore>, length: usize, until: Deadline) -> Result<OwnedSemaphorePermit, Refusal> {
    // The longest body is far below what a u32 holds.
    let weight = u32::try_from(length.div_ceil(WEIGHT)).map_err(|_| Refusal::TooLarge)?;
    let turn = timeout_at(until, turns.clone().acquire_many_owned(weight)).await.map_err(|_| Refusal::Late)?;
    turn.map_err(|error| Refusal::Internal(error.to_string()))
}

const JSON: [(HeaderName, &str); 1] = [(header::CONTENT_TYPE, "application/json")];

fn decide(service: &Service, metrics: &Metrics, hook: Hook, body: &[u8]) -> Result<Vec<u8>, Refusal> {
    let review = Review::parse(body)?;
    let decision = service.decide(hook, &review).map_err(|error| Refusal::Internal(error.to_string()))?;
    metrics.answered(hook, &review, &decision);
    tracing::debug!(
        hook = hook.as_str(),
        uid = %review.uid,
        operation = review.operation.as_str(),
        kind = %review.kind.kind,
        namespace = %review.namespace,
        name = %review.name,
        dry_run = review.dry_run,
        verdict = decision.verdict.as_str(),
        "reviewed"
    );
    serde_json::to_vec(&decision.answer).map_err(|error| Refusal::Internal(error.to_string()))
}

fn is_json(headers: &HeaderMap) -> bool {
    let essence = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).and_then(|value| {
        let essence = value.split(';').next()?;
        Some(essence.trim())
    });
    essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("3s", 3)]
    #[case("30s", 10)]
    #[case("0s", 1)]
    #[case("-5s", 10)]
    #[case("99999999999999999999s", 10)]
    #[case("soon", 10)]
    fn patience_is_what_the_server_says_within_reason(#[case] said: &str, #[case] seconds: u64) {
        let patience = Patience { timeout: Some(said.to_owned()) };
        assert_eq!(patience.within_reason(), Duration::from_secs(seconds));
    }
}
