//! The listener for those who run the webhook: `/healthz`, `/readyz`, `/metrics` over plain HTTP.
//!
//! Healthy is whoever answers. Ready is whoever takes reviews and lacks nothing that it takes: from when the HTTPS listener is
//! up until shutdown begins.

use crate::telemetry;
use axum::{
    Router,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use prometheus_client::registry::Registry;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Whether reviews are taken, and what is lacking. Clones are one.
#[derive(Debug, Clone)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, String>>>);

impl Default for Readiness {
    fn default() -> Self {
        let readiness = Self(Arc::default());
        readiness.set(false);
        readiness
    }
}

impl Readiness {
    /// Reviews are taken, or not, from now on.
    pub fn set(&self, ready: bool) {
        self.lacks("server", (!ready).then(|| "not taking reviews".to_owned()));
    }

    /// Why this part is not ready, if it is not. What changes is logged.
    pub fn lacks(&self, part: &'static str, why: Option<String>) {
        let mut lacking = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match why {
            Some(why) if lacking.get(part) != Some(&why) => {
                tracing::info!("not ready: {why}");
                lacking.insert(part, why);
            }
            Some(_) => {}
            None => {
                if lacking.remove(part).is_some() && lacking.is_empty() {
                    tracing::info!("ready");
                }
            }
        }
    }

    /// What is lacking now; nothing when it is ready.
    pub fn lacking(&self) -> Option<String> {
        let lacking = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: Vec<&str> = lacking.values().map(String::as_str).collect();
        (!lines.is_empty()).then(|| lines.join("; "))
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
    match readiness.lacking() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
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
