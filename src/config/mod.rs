//! Settings: a file and `PREPAY_` variables, all checked at start. The README lists each with unit and default.

mod rooms;

use std::{
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::{
    front::{AdmissionSettings, FrontSettings, Proxies},
    gateway::http::HttpSettings,
    scheduler::SchedulerSettings,
    steps::{StepSettings, budget::BudgetSettings, deliver::DeliverySettings},
    telemetry::LogFormat,
    worker::WorkerSettings,
};

/// `broker.url` of one process that runs all roles.
const EMBEDDED: &str = "embedded";

/// Everything a deployment may set.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub database: Database,
    pub broker: BrokerChoice,
    pub front: FrontPart,
    pub worker: WorkerPart,
    pub scheduler: SchedulerPart,
    pub operations: Operations,
    pub keys: Keys,
    pub log: Log,
    /// How often each process looks for changed accounts, keys and merchants, in milliseconds.
    pub reload_every_ms: u64,
    /// How long a process that was asked to leave may finish what it holds, in seconds.
    pub shutdown_s: u64,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Database {
    /// `sqlite://FILE`, `postgres://…` or `mysql://…`.
    pub url: SecretString,
    pub max_connections: u32,
    pub acquire_timeout_ms: u64,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BrokerChoice {
    /// `amqp://…`, `amqps://…`, or `embedded` for one process that runs all roles.
    pub url: SecretString,
    /// A file of PEM certificates that `amqps` trusts besides the system's.
    pub ca_file: Option<PathBuf>,
    /// What the queues' names begin with.
    pub prefix: String,
    pub order_queues: u16,
    /// Commands a second that all workers together settle, and how long one may wait and still be of use: their product is
    /// the length of the orders queue.
    pub drain_per_s: u32,
    pub wait_budget_s: u32,
    /// Channels of a front that publish at once.
    pub publish_channels: u16,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FrontPart {
    pub listen: SocketAddr,
    pub public_url: String,
    pub wait_ms: u64,
    pub publish_timeout_ms: u64,
    pub header_timeout_ms: u64,
    pub body_timeout_ms: u64,
    pub result_wait_ms: u64,
    pub connections_max: usize,
    pub in_flight_max: u32,
    pub merchant_per_second: NonZeroU32,
    pub merchant_burst: NonZeroU32,
    pub calls_per_second: NonZeroU32,
    pub calls_burst: NonZeroU32,
    pub order_per_second: NonZeroU32,
    pub order_burst: NonZeroU32,
    pub trusted_proxies: Proxies,
    /// For demo and tests: merchants may be on this machine or network, without TLS. The scheduler reads it too.
    pub allow_private_notify_urls: bool,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkerPart {
    pub order_concurrency: u16,
    pub notice_concurrency: u16,
    pub account_in_flight_max: u32,
    pub account_failures_to_open: u32,
    pub account_open_ms: u64,
    pub wallet_connect_timeout_ms: u64,
    pub wallet_timeout_ms: u64,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SchedulerPart {
    pub look_every_ms: u64,
    pub question_concurrency: usize,
    pub questions_per_s: NonZeroU32,
    pub refund_concurrency: usize,
    /// How far apart two sends of refunds of one payment are.
    pub wechat_refund_spacing_ms: u64,
    pub alipay_refund_spacing_ms: u64,
    /// How often accounts whose keys are due are looked for.
    pub keys_every_ms: u64,
    pub outcomes_kept_s: u64,
    /// How often events for merchants are looked for when nobody says that there are any.
    pub events_every_ms: u64,
    /// Events under way at once: of this process, to one endpoint, to one merchant.
    pub event_concurrency: usize,
    pub events_per_endpoint_max: u32,
    pub events_per_merchant_max: u32,
    /// So many tries in a row that an endpoint did not accept pause it.
    pub endpoint_failures_to_pause: u32,
    /// The first pause of an endpoint, doubled by each failure, and the longest.
    pub endpoint_pause_ms: u64,
    pub endpoint_pause_max_ms: u64,
    /// The schedule of tries is run through so many times as fast: for tests.
    pub events_speed_up: NonZeroU32,
    /// How often due bills are looked for.
    pub bills_every_ms: u64,
    /// How long after the end of a day in China its bills are fetched, in minutes: 630 is 10:30.
    pub bills_after_minutes: u64,
    /// How long after a bill that was not ready it is asked for again.
    pub bill_retry_ms: u64,
    /// Where a bill lies while it is matched; the system's directory for such files by default.
    pub bills_dir: Option<PathBuf>,
    /// What a bill may take there, in MiB: as it is downloaded, and unpacked beside that.
    pub bill_packed_max_mib: u64,
    pub bill_plain_max_mib: u64,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Operations {
    /// `/healthz`, `/readyz`, `/metrics`: never the public address.
    pub listen: SocketAddr,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Keys {
    /// Files with master keys, `<id>:<base64 of 32 bytes>` a line, the first one seals.
    pub front_file: Option<PathBuf>,
    pub back_file: Option<PathBuf>,
    /// The same as text, for deployments that hand secrets over in the environment.
    pub front: Option<SecretString>,
    pub back: Option<SecretString>,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    pub filter: String,
    pub format: LogFormat,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            database: Database::default(),
            broker: BrokerChoice::default(),
            front: FrontPart::default(),
            worker: WorkerPart::default(),
            scheduler: SchedulerPart::default(),
            operations: Operations::default(),
            keys: Keys::default(),
            log: Log::default(),
            reload_every_ms: 5_000,
            shutdown_s: 25,
        }
    }
}

impl Default for Database {
    fn default() -> Self {
        Self { url: "sqlite://prepay.db".into(), max_connections: 16, acquire_timeout_ms: 3_000 }
    }
}

impl Default for BrokerChoice {
    fn default() -> Self {
        Self {
            url: "amqp://guest:guest@127.0.0.1:5672/%2f".into(),
            ca_file: None,
            prefix: "prepay".into(),
            order_queues: 1,
            drain_per_s: 300,
            wait_budget_s: 8,
            publish_channels: 32,
        }
    }
}

impl Default for FrontPart {
    fn default() -> Self {
        let (front, admission) = (FrontSettings::default(), AdmissionSettings::default());
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            public_url: String::new(),
            wait_ms: ms(front.wait),
            publish_timeout_ms: ms(front.publish_patience),
            header_timeout_ms: 10_000,
            body_timeout_ms: ms(front.body_timeout),
            result_wait_ms: ms(front.result_wait),
            connections_max: 10_000,
            in_flight_max: admission.in_flight_max,
            merchant_per_second: admission.merchant_per_second,
            merchant_burst: admission.merchant_burst,
            calls_per_second: admission.calls_per_second,
            calls_burst: admission.calls_burst,
            order_per_second: admission.order_per_second,
            order_burst: admission.order_burst,
            trusted_proxies: Proxies::default(),
            allow_private_notify_urls: false,
        }
    }
}

impl Default for WorkerPart {
    fn default() -> Self {
        let (worker, budget, http) = (WorkerSettings::default(), BudgetSettings::default(), HttpSettings::default());
        Self {
            order_concurrency: worker.order_concurrency,
            notice_concurrency: worker.notice_concurrency,
            account_in_flight_max: budget.in_flight_max,
            account_failures_to_open: budget.failures_to_open,
            account_open_ms: ms(budget.open_for),
            wallet_connect_timeout_ms: ms(http.connect_timeout),
            wallet_timeout_ms: ms(http.timeout),
        }
    }
}

impl Default for SchedulerPart {
    fn default() -> Self {
        let (scheduler, steps) = (SchedulerSettings::default(), StepSettings::default());
        let delivery = DeliverySettings::default();
        Self {
            look_every_ms: ms(scheduler.look_every),
            question_concurrency: scheduler.question_concurrency,
            questions_per_s: scheduler.questions_per_s,
            refund_concurrency: scheduler.refund_concurrency,
            wechat_refund_spacing_ms: ms(steps.wechat_refund_spacing),
            alipay_refund_spacing_ms: ms(steps.alipay_refund_spacing),
            keys_every_ms: ms(scheduler.keys_every),
            outcomes_kept_s: scheduler.outcomes_kept.as_secs(),
            events_every_ms: ms(scheduler.events_every),
            event_concurrency: scheduler.event_concurrency,
            events_per_endpoint_max: delivery.caps.per_endpoint,
            events_per_merchant_max: delivery.caps.per_merchant,
            endpoint_failures_to_pause: delivery.pause.after_failures,
            endpoint_pause_ms: ms(delivery.pause.first),
            endpoint_pause_max_ms: ms(delivery.pause.most),
            events_speed_up: delivery.speed_up,
            bills_every_ms: ms(scheduler.bills_every),
            bills_after_minutes: scheduler.bills_after.as_secs() / 60,
            bill_retry_ms: ms(steps.bill_retry),
            bills_dir: None,
            bill_packed_max_mib: steps.bill_limits.packed_max >> 20,
            bill_plain_max_mib: steps.bill_limits.plain_max >> 20,
        }
    }
}

impl Default for Operations {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9090)) }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { filter: "info".into(), format: LogFormat::Text }
    }
}

fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl Settings {
    /// Reads the file, if one is named, then `PREPAY_…` variables over it (`PREPAY_FRONT__WAIT_MS`).
    ///
    /// Errors: one line that names the setting and what it should be.
    pub fn read(file: Option<&Path>, variables: impl IntoIterator<Item = (String, String)>) -> anyhow::Result<Self> {
        let mut layers = config::Config::builder();
        if let Some(file) = file {
            let text = std::fs::read_to_string(file).with_context(|| format!("settings file {}", file.display()))?;
            layers = layers.add_source(config::File::from_str(&text, config::FileFormat::Toml));
        }
        // PREPAY_TEST_… belongs to the tests, whose servers a developer may have in the same shell.
        let ours = variables.into_iter().filter(|(name, _)| {
            name.starts_with("PREPAY_") && !name.starts_with("PREPAY_TEST_") && name != "PREPAY_SETTINGS"
        });
        let environment = config::Environment::with_prefix("PREPAY")
            .prefix_separator("_")
            .separator("__")
            .try_parsing(true)
            .list_separator(",")
            .with_list_parse_key("front.trusted_proxies")
            .source(Some(ours.collect()));
        let settings = layers.add_source(environment).build().map_err(without_values)?;
        let settings: Self = settings.try_deserialize().map_err(without_values)?;
        settings.check()?;
        Ok(settings)
    }

    /// What no type says. Errors: one line that names the setting.
    fn check(&self) -> anyhow::Result<()> {
        let between = |name: &str, value: u64, min: u64, max: u64| {
            if (min..=max).contains(&value) { Ok(()) } else { bail!("{name} is {value}; it must be {min} to {max}") }
        };
        between("front.wait_ms", self.front.wait_ms, 500, 12_000)?;
        between("front.publish_timeout_ms", self.front.publish_timeout_ms, 100, 12_000)?;
        between("front.header_timeout_ms", self.front.header_timeout_ms, 500, 60_000)?;
        between("front.body_timeout_ms", self.front.body_timeout_ms, 500, 60_000)?;
        between("front.result_wait_ms", self.front.result_wait_ms, 0, 8_000)?;
        between("front.connections_max", self.front.connections_max as u64, 1, 1_000_000)?;
        between("front.in_flight_max", u64::from(self.front.in_flight_max), 1, 1_000_000)?;
        between("worker.order_concurrency", u64::from(self.worker.order_concurrency), 1, 2_000)?;
        between("worker.notice_concurrency", u64::from(self.worker.notice_concurrency), 1, 2_000)?;
        between("worker.account_in_flight_max", u64::from(self.worker.account_in_flight_max), 1, 2_000)?;
        between("worker.account_failures_to_open", u64::from(self.worker.account_failures_to_open), 1, 10_000)?;
        between("worker.account_open_ms", self.worker.account_open_ms, 100, 60_000)?;
        between("worker.wallet_connect_timeout_ms", self.worker.wallet_connect_timeout_ms, 100, 10_000)?;
        between("worker.wallet_timeout_ms", self.worker.wallet_timeout_ms, 500, 15_000)?;
        between("scheduler.look_every_ms", self.scheduler.look_every_ms, 50, 60_000)?;
        between("scheduler.question_concurrency", self.scheduler.question_concurrency as u64, 1, 2_000)?;
        between("scheduler.questions_per_s", u64::from(self.scheduler.questions_per_s.get()), 1, 10_000)?;
        between("scheduler.refund_concurrency", self.scheduler.refund_concurrency as u64, 1, 2_000)?;
        between("scheduler.wechat_refund_spacing_ms", self.scheduler.wechat_refund_spacing_ms, 0, 3_600_000)?;
        between("scheduler.alipay_refund_spacing_ms", self.scheduler.alipay_refund_spacing_ms, 0, 3_600_000)?;
        between("scheduler.keys_every_ms", self.scheduler.keys_every_ms, 100, 3_600_000)?;
        between("scheduler.outcomes_kept_s", self.scheduler.outcomes_kept_s, 60, 86_400)?;
        let scheduler = &self.scheduler;
        between("scheduler.events_every_ms", scheduler.events_every_ms, 20, 1_000)?;
        between("scheduler.event_concurrency", scheduler.event_concurrency as u64, 1, 2_000)?;
        between("scheduler.events_per_endpoint_max", u64::from(scheduler.events_per_endpoint_max), 1, 1_000)?;
        between("scheduler.events_per_merchant_max", u64::from(scheduler.events_per_merchant_max), 1, 1_000)?;
        between("scheduler.endpoint_failures_to_pause", u64::from(scheduler.endpoint_failures_to_pause), 1, 10_000)?;
        between("scheduler.endpoint_pause_ms", scheduler.endpoint_pause_ms, 100, 3_600_000)?;
        between("scheduler.endpoint_pause_max_ms", scheduler.endpoint_pause_max_ms, 100, 3_600_000)?;
        between("scheduler.bills_every_ms", self.scheduler.bills_every_ms, 100, 3_600_000)?;
        between("scheduler.bill_packed_max_mib", self.scheduler.bill_packed_max_mib, 1, 1 << 20)?;
        between("scheduler.bill_plain_max_mib", self.scheduler.bill_plain_max_mib, 1, 1 << 20)?;
        between("scheduler.bills_after_minutes", self.scheduler.bills_after_minutes, 0, 24 * 60)?;
        between("scheduler.bill_retry_ms", self.scheduler.bill_retry_ms, 100, 86_400_000)?;
        between("broker.order_queues", u64::from(self.broker.order_queues), 1, 64)?;
        between("broker.publish_channels", u64::from(self.broker.publish_channels), 1, 1_000)?;
        between("broker.drain_per_s", u64::from(self.broker.drain_per_s), 1, 1_000_000)?;
        between("broker.wait_budget_s", u64::from(self.broker.wait_budget_s), 1, 12)?;
        between("database.max_connections", u64::from(self.database.max_connections), 1, 1_000)?;
        between("database.acquire_timeout_ms", self.database.acquire_timeout_ms, 100, 60_000)?;
        between("reload_every_ms", self.reload_every_ms, 100, 300_000)?;
        between("shutdown_s", self.shutdown_s, 1, 600)?;
        if self.worker.account_in_flight_max >= u32::from(self.worker.order_concurrency) {
            bail!(
                "worker.account_in_flight_max must be below worker.order_concurrency, or one slow wallet holds every place"
            );
        }
        let url = self.database.url.expose_secret();
        if !["sqlite:", "postgres://", "postgresql://", "mysql://"].iter().any(|scheme| url.starts_with(scheme)) {
            bail!("database.url must begin with sqlite:, postgres:// or mysql://");
        }
        let url = self.broker.url.expose_secret();
        if url != EMBEDDED && !["amqp://", "amqps://"].iter().any(|scheme| url.starts_with(scheme)) {
            bail!("broker.url must be `embedded` or begin with amqp:// or amqps://");
        }
        Ok(())
    }
}

impl Keys {
    /// The master keys of the fronts, from the file or the text. Errors: a file that cannot be read, or both set.
    pub fn front_text(&self) -> anyhow::Result<Option<SecretString>> {
        read_key("front", self.front_file.as_deref(), self.front.as_ref())
    }

    /// The master keys of workers and scheduler. Errors: as above.
    pub fn back_text(&self) -> anyhow::Result<Option<SecretString>> {
        read_key("back", self.back_file.as_deref(), self.back.as_ref())
    }
}

/// The library quotes what it met: a secret in the wrong place, or a file's whole line. Only where it was, in backticks or by line
/// and column, and what was wanted are told.
fn without_values(error: config::ConfigError) -> anyhow::Error {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    // What our own types say of a value is theirs to say.
    let quotes = line.starts_with("invalid type") || line.starts_with("invalid value");
    match (line.find('"'), line.rfind('"')) {
        (Some(from), Some(to)) if quotes && from < to => {
            anyhow::anyhow!("settings: {}…{}", &line[..from], &line[to + 1..])
        }
        _ => anyhow::anyhow!("settings: {line}"),
    }
}

fn read_key(name: &str, file: Option<&Path>, text: Option<&SecretString>) -> anyhow::Result<Option<SecretString>> {
    match (file, text) {
        (Some(_), Some(_)) => bail!("keys.{name}_file and keys.{name} are both set: keep one"),
        (None, text) => Ok(text.cloned()),
        (Some(file), None) => {
            let text = std::fs::read_to_string(file).with_context(|| match file.to_string_lossy().contains(':') {
                true => format!("keys.{name}_file is to name a file, not to hold a key; it cannot be read"),
                false => format!("keys.{name}_file: {} cannot be read", file.display()),
            })?;
            Ok(Some(text.into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> anyhow::Result<Settings> {
        Settings::read(None, variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn variables_reach_every_kind_of_setting() {
        let settings = read(&[
            ("PREPAY_FRONT__WAIT_MS", "9000"),
            ("PREPAY_DATABASE__URL", "postgres://u:p@db/prepay"),
            ("PREPAY_FRONT__TRUSTED_PROXIES", "10.0.0.1,10.1.0.0/16"),
            ("PREPAY_FRONT__PUBLIC_URL", "https://pay.example.com/"),
            ("PREPAY_LOG__FORMAT", "json"),
            ("PREPAY_TEST_AMQP_URL", "somebody else's"),
            ("PATH", "/bin"),
        ])
        .unwrap();
        assert_eq!(settings.front.wait_ms, 9_000);
        assert_eq!(settings.database.url.expose_secret(), "postgres://u:p@db/prepay");
        assert_eq!(settings.front.trusted_proxies, Proxies::parse(["10.0.0.1", "10.1.0.0/16"]).unwrap());
        assert_eq!(settings.public_url().unwrap(), "https://pay.example.com");
        assert_eq!(settings.log.format, LogFormat::Json);
    }

    #[test]
    fn what_cannot_be_read_is_not_quoted() {
        let secret = "postgres://prepay:hunter2@db/prepay";
        for (variable, value, says) in [
            ("PREPAY_DATABASE", secret, "database"),
            ("PREPAY_BROKER", "amqp://prepay:\"hunter2\"@broker", "broker"),
            ("PREPAY_KEYS", "k:hunter2", "keys"),
            ("PREPAY_FRONT__WAIT_MS", "hunter2", "wait_ms"),
        ] {
            let error = format!("{:#}", read(&[(variable, value)]).unwrap_err());
            assert!(error.contains(says) && !error.contains("hunter2"), "{variable}: {error}");
        }
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("prepay.toml");
        for text in [format!("[database]\nurl = {secret}\n"), format!("database = \"{secret}\"\n")] {
            std::fs::write(&file, text).unwrap();
            let error = format!("{:#}", Settings::read(Some(&file), []).unwrap_err());
            assert!(error.starts_with("settings") && !error.contains("hunter2"), "{error}");
        }
        let error = read_key("front", Some(Path::new("k1:hunter2")), None).unwrap_err();
        assert!(!format!("{error:#}").contains("hunter2"), "{error:#}");
    }

    #[test]
    fn a_wrong_setting_is_one_clear_line() {
        for (variable, value, says) in [
            ("PREPAY_FRONT__WAIT_MS", "13000", "front.wait_ms is 13000; it must be 500 to 12000"),
            ("PREPAY_FRONT__WAIT_MS", "soon", "wait_ms"),
            ("PREPAY_FRONT__WAIT", "1", "unknown field"),
            ("PREPAY_DATABASE__URL", "oracle://x", "database.url must begin with"),
            ("PREPAY_BROKER__URL", "http://x", "broker.url must be"),
            ("PREPAY_FRONT__TRUSTED_PROXIES", "10.0.0.1,ingress", "front.trusted_proxies: \"ingress\" is neither"),
            ("PREPAY_FRONT__TRUSTED_PROXIES", "0.0.0.0/0", "0.0.0.0/0 holds every address"),
        ] {
            let error = format!("{:#}", read(&[(variable, value)]).unwrap_err());
            assert!(error.contains(says), "{variable}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
        let settings = read(&[("PREPAY_FRONT__PUBLIC_URL", "http://pay.example.com")]).unwrap();
        assert!(settings.public_url().unwrap_err().to_string().contains("must be https"));
    }
}
