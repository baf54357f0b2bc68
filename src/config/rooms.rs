//! What each room is handed: its own settings, in its own units.

use std::time::Duration;

use anyhow::{Context, bail};
use secrecy::ExposeSecret;

use super::{EMBEDDED, Settings};
use crate::{
    front::{AdmissionSettings, FrontSettings},
    gateway::{
        BillLimits,
        http::{HttpSettings, check_base_url},
    },
    queue::{
        rabbitmq::{BrokerUrl, RabbitSettings},
        topology::TopologySettings,
    },
    scheduler::SchedulerSettings,
    steps::{StepSettings, budget::BudgetSettings, deliver::DeliverySettings},
    store::{DeliveryCaps, PauseRule, StoreSettings},
    webhook::WebhookSettings,
    worker::WorkerSettings,
};

impl Settings {
    /// Where phones and wallets reach the fronts; every role that makes links or notify URLs needs it.
    ///
    /// Errors: it is not set, or no address that a phone or wallet could be given.
    pub fn public_url(&self) -> anyhow::Result<String> {
        let url = &self.front.public_url;
        if url.is_empty() {
            bail!("front.public_url is not set: the https address under which phones and wallets reach the fronts");
        }
        let url = check_base_url(url).map_err(|why| anyhow::anyhow!("front.public_url: {why}"))?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || ".:/-".contains(c);
        if !url.chars().all(allowed) {
            bail!("front.public_url may hold only A-Z a-z 0-9 . : / - (it rides in links)");
        }
        Ok(url)
    }

    pub fn front_settings(&self) -> anyhow::Result<FrontSettings> {
        let front = &self.front;
        Ok(FrontSettings {
            public_url: self.public_url()?,
            wait: Duration::from_millis(front.wait_ms),
            publish_patience: Duration::from_millis(front.publish_timeout_ms),
            body_timeout: Duration::from_millis(front.body_timeout_ms),
            result_wait: Duration::from_millis(front.result_wait_ms),
            admission: AdmissionSettings {
                in_flight_max: front.in_flight_max,
                merchant_per_second: front.merchant_per_second,
                merchant_burst: front.merchant_burst,
                calls_per_second: front.calls_per_second,
                calls_burst: front.calls_burst,
                order_per_second: front.order_per_second,
                order_burst: front.order_burst,
            },
            allow_private_notify_urls: front.allow_private_notify_urls,
            trusted_proxies: front.trusted_proxies.clone(),
        })
    }

    pub fn step_settings(&self) -> anyhow::Result<StepSettings> {
        // After a command's deadline no send or close begins; three questions may follow the last one.
        let lease_margin = Duration::from_millis(3 * self.worker.wallet_timeout_ms + 5_000);
        let defaults = StepSettings::default();
        Ok(StepSettings {
            public_url: self.public_url()?,
            lease_margin,
            wechat_refund_spacing: Duration::from_millis(self.scheduler.wechat_refund_spacing_ms),
            alipay_refund_spacing: Duration::from_millis(self.scheduler.alipay_refund_spacing_ms),
            bills_dir: self.scheduler.bills_dir.clone().unwrap_or(defaults.bills_dir),
            bill_limits: self.bill_limits(),
            bill_retry: Duration::from_millis(self.scheduler.bill_retry_ms),
            ..StepSettings::default()
        })
    }

    /// What a bill may take on the disk.
    pub fn bill_limits(&self) -> BillLimits {
        BillLimits {
            packed_max: self.scheduler.bill_packed_max_mib << 20,
            plain_max: self.scheduler.bill_plain_max_mib << 20,
            ..BillLimits::default()
        }
    }

    pub fn worker_settings(&self) -> WorkerSettings {
        WorkerSettings {
            order_concurrency: self.worker.order_concurrency,
            notice_concurrency: self.worker.notice_concurrency,
            ..WorkerSettings::default()
        }
    }

    pub fn scheduler_settings(&self) -> SchedulerSettings {
        SchedulerSettings {
            look_every: Duration::from_millis(self.scheduler.look_every_ms),
            question_concurrency: self.scheduler.question_concurrency,
            questions_per_s: self.scheduler.questions_per_s,
            refund_concurrency: self.scheduler.refund_concurrency,
            keys_every: Duration::from_millis(self.scheduler.keys_every_ms),
            outcomes_kept: Duration::from_secs(self.scheduler.outcomes_kept_s),
            events_every: Duration::from_millis(self.scheduler.events_every_ms),
            event_concurrency: self.scheduler.event_concurrency,
            bills_every: Duration::from_millis(self.scheduler.bills_every_ms),
            bills_after: Duration::from_secs(self.scheduler.bills_after_minutes * 60),
            ..SchedulerSettings::default()
        }
    }

    pub fn delivery_settings(&self) -> DeliverySettings {
        let scheduler = &self.scheduler;
        DeliverySettings {
            caps: DeliveryCaps {
                per_endpoint: scheduler.events_per_endpoint_max,
                per_merchant: scheduler.events_per_merchant_max,
            },
            pause: PauseRule {
                after_failures: scheduler.endpoint_failures_to_pause,
                first: Duration::from_millis(scheduler.endpoint_pause_ms),
                most: Duration::from_millis(scheduler.endpoint_pause_max_ms),
            },
            speed_up: scheduler.events_speed_up,
            ..DeliverySettings::default()
        }
    }

    pub fn webhook_settings(&self) -> WebhookSettings {
        WebhookSettings { allow_private: self.front.allow_private_notify_urls, ..WebhookSettings::default() }
    }

    pub fn budget_settings(&self) -> BudgetSettings {
        BudgetSettings {
            in_flight_max: self.worker.account_in_flight_max,
            failures_to_open: self.worker.account_failures_to_open,
            open_for: Duration::from_millis(self.worker.account_open_ms),
        }
    }

    pub fn store_settings(&self) -> StoreSettings {
        StoreSettings {
            url: self.database.url.expose_secret().to_owned(),
            max_connections: self.database.max_connections,
            acquire_timeout_ms: self.database.acquire_timeout_ms,
            ..StoreSettings::default()
        }
    }

    /// Queue names and lengths, as both kinds of broker and `prepay queue definitions` take them.
    pub fn topology_settings(&self) -> TopologySettings {
        TopologySettings {
            prefix: self.broker.prefix.clone(),
            order_queues: self.broker.order_queues,
            drain_per_s: self.broker.drain_per_s,
            wait_budget_s: self.broker.wait_budget_s,
            ..TopologySettings::default()
        }
    }

    pub fn broker_is_embedded(&self) -> bool {
        self.broker.url.expose_secret() == EMBEDDED
    }

    /// Errors: an address that is none.
    pub fn rabbit_settings(&self, connection_name: &str) -> anyhow::Result<RabbitSettings> {
        Ok(RabbitSettings {
            url: BrokerUrl::parse(self.broker.url.expose_secret()).context("broker.url")?,
            ca_file: self.broker.ca_file.clone(),
            connection_name: connection_name.to_owned(),
            topology: self.topology_settings(),
            publish_channels: self.broker.publish_channels,
            ..RabbitSettings::default()
        })
    }

    pub fn http_settings(&self) -> HttpSettings {
        HttpSettings {
            connect_timeout: Duration::from_millis(self.worker.wallet_connect_timeout_ms),
            timeout: Duration::from_millis(self.worker.wallet_timeout_ms),
            ..HttpSettings::default()
        }
    }
}
