//! What the process says about itself: log lines on stderr, and metrics for Prometheus.
//!
//! `RINGFENCE_LOG` filters the log (`info` when it is not set; `debug`, `ringfence::admission=trace`, …). The client of the
//! API server is silent unless it is named there: what fails is said once, by us. Colours are for terminals only.
//! Metrics of every module live in one [`Registry`] whose names begin with `ringfence_`.

use prometheus_client::{encoding::text, metrics::info::Info, registry::Registry};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// The environment variable that filters the log.
pub const LOG_VARIABLE: &str = "RINGFENCE_LOG";

/// The content type of [`exposition`].
pub const EXPOSITION_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Sends log lines to stderr from now on. A second call changes nothing, so tests may call it too.
///
/// A filter that does not parse is named on stderr, and `info` is taken.
pub fn init() {
    let wanted = std::env::var(LOG_VARIABLE).unwrap_or_else(|_| "info".to_owned());
    let filter = EnvFilter::try_new(with_silent_client(&wanted)).unwrap_or_else(|error| {
        eprintln!("{LOG_VARIABLE}={wanted} is not a filter ({error}); taking info");
        EnvFilter::new(with_silent_client("info"))
    });
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    // The only error is that somebody was here before.
    let _ = lines.try_init();
}

fn with_silent_client(filter: &str) -> String {
    if filter.contains("kube_client") { filter.to_owned() } else { format!("{filter},kube_client=off") }
}

/// An empty registry; it knows which version of Ringfence runs.
pub fn registry() -> Registry {
    let mut registry = Registry::with_prefix("ringfence");
    registry.register("build", "The version that runs", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
    registry
}

/// All metrics of a registry as text, in the form that [`EXPOSITION_TYPE`] names.
///
/// # Errors
/// When a metric cannot be written, which is a mistake in its labels.
pub fn exposition(registry: &Registry) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    text::encode(&mut out, registry)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_of_the_api_server_is_silent_unless_it_is_named() {
        assert_eq!(with_silent_client("debug"), "debug,kube_client=off");
        assert_eq!(with_silent_client("info,kube_client=debug"), "info,kube_client=debug");
    }

    #[test]
    fn the_exposition_names_the_version_and_ends_as_openmetrics_wants() {
        let text = exposition(&registry()).unwrap();
        assert!(
            text.contains(concat!("ringfence_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1")),
            "{text}"
        );
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
