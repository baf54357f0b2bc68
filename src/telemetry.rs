//! Logs and metrics. No secret, openid, code or signature in either: types that hold one print `***`.

use std::sync::{Mutex, OnceLock, PoisonError};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// How logs look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    Text,
    Json,
}

/// lapin logs a returned message with its body, which names a payer: that target is off whatever the filter says.
/// sqlx logs statements, and sea-orm their values.
const ALWAYS_OFF: [&str; 4] = ["lapin=error", "lapin::returned_messages=off", "sqlx=error", "sea_orm=error"];

/// Sets up logging once per process. `filter` is in tracing's syntax: `info,prepay=debug`.
///
/// Errors: the filter cannot be read, in words for the operator.
pub fn log_to_stderr(filter: &str, format: LogFormat) -> Result<(), String> {
    let mut filter: EnvFilter = filter.parse().map_err(|error| format!("log filter {filter:?}: {error}"))?;
    for directive in ALWAYS_OFF {
        filter = filter.add_directive(directive.parse().map_err(|error| format!("log filter {directive}: {error}"))?);
    }
    let text = fmt::layer().with_writer(std::io::stderr).with_target(true);
    let subscriber = tracing_subscriber::registry().with(filter);
    let result = match format {
        LogFormat::Text => subscriber.with(text).try_init(),
        LogFormat::Json => subscriber.with(text.json().flatten_event(true)).try_init(),
    };
    result.map_err(|error| format!("logging is set up already: {error}"))
}

static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();

/// Installs the metrics of this process, once; several calls (tests) share one recorder.
///
/// Errors: another recorder was installed before.
pub fn install_metrics() -> Result<(), String> {
    const SECONDS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 12.0];
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _one = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    if METRICS.get().is_some() {
        return Ok(());
    }
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .map_err(|error| error.to_string())?
        .install_recorder()
        .map_err(|error| error.to_string())?;
    METRICS.set(handle).map_err(|_| "metrics are installed already".to_owned())
}

/// Renders them as Prometheus reads them; `None` before [`install_metrics`].
pub fn metrics() -> Option<PrometheusHandle> {
    METRICS.get().cloned()
}
