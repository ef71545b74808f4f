//! What an agent answers on its ops listener: `/healthz`, `/readyz`, `/status`, `/metrics`, `/flows`.
//!
//! Plain HTTP for probes, for Prometheus and for people on the node. Everything is read from what the enforcing thread
//! keeps; nothing here changes anything.

use super::{
    metrics::{self, Counted},
    recent::Recent,
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
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What the answers are read from.
#[derive(Debug, Clone, Default)]
pub struct Shared {
    /// What was read, what is enforced, why the agent is not ready.
    pub status: Arc<Status>,
    /// The flows that were reported last.
    pub recent: Arc<Recent>,
    /// Packets and bytes as they were counted last.
    pub counted: Arc<Counted>,
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
    let registry = metrics::registry(&shared.status.report(), &shared.counted.get());
    match telemetry::exposition(&registry) {
        Ok(text) => ([(header::CONTENT_TYPE, telemetry::EXPOSITION_TYPE)], text).into_response(),
        Err(error) => {
            let text = format!("the metrics can not be written: {error}\n");
            (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
        }
    }
}

#[derive(Debug, Deserialize)]
struct After {
    #[serde(default)]
    after: u64,
}

#[derive(Debug, Serialize)]
struct Flows {
    flows: Vec<crate::report::flows::Flow>,
}

async fn flows(State(shared): State<Shared>, Query(After { after }): Query<After>) -> Response {
    Json(Flows { flows: shared.recent.after(after) }).into_response()
}
