//! Logs and metrics. No secret, openid, payer's address, code or signature in either: types that hold one print `***`.

use std::sync::{Mutex, OnceLock, PoisonError};

use metrics::{describe_counter, describe_gauge, describe_histogram};
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
    set_up(filter, format)
}

/// As [`log_to_stderr`] for a command: our own errors alone. What a library calls an error (lapin: a channel that was closed
/// because a queue is missing) is the command's to tell, in its one line.
///
/// Errors: logging is set up already.
pub fn log_errors_to_stderr(format: LogFormat) -> Result<(), String> {
    set_up(EnvFilter::new("prepay=error"), format)
}

fn set_up(filter: EnvFilter, format: LogFormat) -> Result<(), String> {
    let text = fmt::layer().with_writer(std::io::stderr).with_target(true);
    let subscriber = tracing_subscriber::registry().with(filter);
    let result = match format {
        LogFormat::Text => subscriber.with(text).try_init(),
        LogFormat::Json => subscriber.with(text.json().flatten_event(true)).try_init(),
    };
    result.map_err(|error| format!("logging is set up already: {error}"))
}

static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();

/// What a metric is to Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// One metric, as operators know it.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    /// Never an id, a number or anything else that a caller chooses: each value of a label is a series for ever.
    pub labels: &'static [&'static str],
    /// Told to Prometheus as HELP.
    pub help: &'static str,
}

const fn metric(kind: Kind, name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind, labels, help }
}

/// Every metric there is. Dashboards and alarms are made of these names; one that is not here is a test that fails.
pub const METRICS: &[Metric] = &[
    metric(Kind::Counter, "prepay_accepted_total", &["wallet"], "Phones' calls the broker confirmed (front)"),
    metric(Kind::Counter, "prepay_shed_total", &["reason"], "Phones' calls not let in, 429, 503 or 3005 (front)"),
    metric(Kind::Gauge, "prepay_waiting", &[], "Phones' calls that wait for an answer now (front)"),
    metric(
        Kind::Counter,
        "prepay_published_total",
        &["outcome"],
        "Order commands: kept, unknown, or why refused (front)",
    ),
    metric(
        Kind::Counter,
        "prepay_answers_total",
        &["wallet", "class"],
        "What waits ended in, joined calls once (front)",
    ),
    metric(Kind::Counter, "prepay_notices_total", &["wallet", "verdict"], "Wallets' notifications (front)"),
    metric(Kind::Counter, "prepay_replies_total", &["waited"], "Replies heard, and whether one still waited (front)"),
    metric(Kind::Counter, "prepay_looked_up_total", &[], "Outcomes found in the store, their reply lost (front)"),
    metric(Kind::Counter, "prepay_outcomes_total", &["wallet", "class"], "What commands ended in (worker)"),
    metric(Kind::Counter, "prepay_parked_total", &[], "Messages set aside for a person (worker)"),
    metric(Kind::Histogram, "prepay_exchange_seconds", &["wallet"], "Login code to payer, at the wallet (worker)"),
    metric(Kind::Histogram, "prepay_prepay_seconds", &["wallet"], "A payment opened, at the wallet (worker)"),
    metric(Kind::Histogram, "prepay_query_seconds", &["wallet"], "A number asked about (worker, scheduler)"),
    metric(
        Kind::Gauge,
        "prepay_question_due_age_seconds",
        &["wallet"],
        "Age of the oldest question that is due, held back by its number's pace or not (scheduler)",
    ),
    metric(
        Kind::Counter,
        "prepay_questions_postponed_total",
        &["wallet"],
        "Questions put off because their account had no room after all (scheduler)",
    ),
    metric(Kind::Counter, "prepay_refunds_total", &["wallet", "status"], "How refunds ended (worker, scheduler)"),
    metric(Kind::Counter, "prepay_anomalies_total", &["kind", "handled"], "Unexpected money decided on (scheduler)"),
    metric(
        Kind::Counter,
        "prepay_events_total",
        &["outcome"],
        "Tries to tell a merchant, by how they ended (scheduler)",
    ),
    metric(Kind::Histogram, "prepay_event_seconds", &[], "From an event's writing to its acceptance (scheduler)"),
    metric(Kind::Histogram, "prepay_event_late_seconds", &[], "From an event's time to its try (scheduler)"),
    metric(
        Kind::Gauge,
        "prepay_event_due_age_seconds",
        &[],
        "Age of the oldest event that could be sent now (scheduler)",
    ),
    metric(
        Kind::Gauge,
        "prepay_event_held_age_seconds",
        &[],
        "Age of the oldest event that is put aside at an address that is not paused (scheduler)",
    ),
    metric(Kind::Counter, "prepay_bill_rows_total", &[], "Rows of bills that were matched (scheduler)"),
    metric(Kind::Counter, "prepay_discrepancies_total", &["kind"], "What bills and rows disagreed on (scheduler)"),
    metric(Kind::Gauge, "prepay_discrepancies_open", &["kind"], "... and nobody has settled (scheduler)"),
    metric(
        Kind::Gauge,
        "prepay_bill_oldest_open_day_seconds",
        &[],
        "Begin of the oldest of 35 days not matched for each account, or of the next one (scheduler)",
    ),
    metric(Kind::Gauge, "prepay_bills_failed", &[], "Bills of 35 days that came to nothing (scheduler)"),
    metric(Kind::Gauge, "prepay_queue_ready", &["queue"], "Messages that wait, asked at each scrape (every role)"),
    metric(Kind::Gauge, "prepay_queue_consumers", &["queue"], "Consumers of a queue (every role)"),
    metric(Kind::Gauge, "prepay_clock_offset_ms", &[], "Database time less this machine's (every role)"),
];

/// Installs the metrics of this process, once; several calls (tests) share one recorder.
///
/// Errors: another recorder was installed before.
pub fn install_metrics() -> Result<(), String> {
    const SECONDS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 12.0];
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _one = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    if HANDLE.get().is_some() {
        return Ok(());
    }
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .map_err(|error| error.to_string())?
        .install_recorder()
        .map_err(|error| error.to_string())?;
    for Metric { name, kind, help, .. } in METRICS.iter().copied() {
        match kind {
            Kind::Counter => describe_counter!(name, help),
            Kind::Gauge => describe_gauge!(name, help),
            Kind::Histogram => describe_histogram!(name, help),
        }
    }
    HANDLE.set(handle).map_err(|_| "metrics are installed already".to_owned())
}

/// Renders them as Prometheus reads them; `None` before [`install_metrics`].
pub fn metrics() -> Option<PrometheusHandle> {
    HANDLE.get().cloned()
}
