//! The listener for those who run the webhook: `/healthz`, `/readyz`, `/metrics` over plain HTTP.
//!
//! Healthy is whoever answers. Ready is whoever takes reviews: from when the HTTPS listener is up until shutdown begins.

use crate::telemetry;
use axum::{
    Router,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use prometheus_client::registry::Registry;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Whether reviews are taken. Clones are the same flag.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// From now on.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Relaxed);
    }

    /// Now.
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The three paths.
pub fn router(readiness: Readiness, registry: Arc<Registry>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(move || async move { ready(&readiness) }))
        .route("/metrics", get(move || async move { metrics(&registry) }))
}

fn ready(readiness: &Readiness) -> impl IntoResponse + use<> {
    if readiness.get() { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "not taking reviews\n") }
}

fn metrics(registry: &Registry) -> impl IntoResponse + use<> {
    match telemetry::exposition(registry) {
        Ok(text) => (StatusCode::OK, [(header::CONTENT_TYPE, telemetry::EXPOSITION_TYPE)], text),
        Err(error) => {
            let text = format!("cannot write the metrics: {error}\n");
            (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "text/plain")], text)
        }
    }
}
