//! What an agent answers on its ops listener: `/healthz`, `/readyz`, `/status`, `/metrics`, `/flows`.
//!
//! Plain HTTP for probes, for Prometheus and for people on the node. Everything is read from what the enforcing thread
//! keeps; nothing here changes anything.

use super::{
    metrics::{self, Measured},
    recent::{Had, Recent},
    status::Status,
};
use crate::telemetry;
use axum::{
    Json, Router,
    extract::{Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;
use std::{sync::Arc, time::Duration};

/// What the answers are read from.
#[derive(Debug, Clone, Default)]
pub struct Shared {
    /// What was read, what is enforced, why the agent is not ready.
    pub status: Arc<Status>,
    /// The flows that were reported last.
    pub recent: Arc<Recent>,
    /// What was counted and timed.
    pub measured: Arc<Measured>,
}

/// The paths.
pub fn router(shared: Shared) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/status", get(|State(shared): State<Shared>| async move { Json(shared.status.report()) }))
        .route("/metrics", get(exposition))
        .route("/flows", get(flows))
        .with_state(shared)
}

async fn ready(State(shared): State<Shared>) -> Response {
    let report = shared.status.report();
    if report.ready {
        return (StatusCode::OK, "ok\n").into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, report.reasons.join("\n") + "\n").into_response()
}

async fn exposition(State(shared): State<Shared>) -> Response {
    let registry = metrics::registry(&shared.status.report(), &shared.measured, shared.recent.told());
    match telemetry::exposition(&registry) {
        Ok(text) => ([(header::CONTENT_TYPE, telemetry::EXPOSITION_TYPE)], text).into_response(),
        Err(error) => {
            let text = format!("the metrics can not be written: {error}\n");
            (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
        }
    }
}

/// The longest that a reader may wait for news by one request.
const LONGEST: Duration = Duration::from_secs(30);
/// How soon a reader asks again that wants to see accepted connections.
const AGAIN: Duration = Duration::from_secs(5);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    /// The number of the flow that the reader had last, and whose number that is; 0 = he has just come.
    after: u64,
    agent: u64,
    /// Seconds to wait for a flow that comes after it.
    wait: u64,
    /// Accepted connections, too, from now on and for as long as such a reader is there.
    accepted: bool,
}

async fn flows(State(shared): State<Shared>, Query(asked): Query<Asked>) -> Response {
    let Asked { after, agent, wait, accepted } = asked;
    let had = (agent > 0).then_some(Had { agent, number: after });
    let wait = Duration::from_secs(wait).min(LONGEST);
    if accepted {
        shared.recent.want_accepted(wait + AGAIN);
    }
    if !wait.is_zero() {
        // In time or not: there is an answer.
        let _ = tokio::time::timeout(wait, shared.recent.news(had)).await;
    }
    Json(shared.recent.after(had)).into_response()
}
