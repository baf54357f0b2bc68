//! The front: it takes calls of phones, merchants and wallets, publishes what they ask for, and waits for the answer.
//!
//! It holds no wallet secret. Between a phone's call and its answer it touches neither the database nor a wallet.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    clock::Clock,
    domain::{
        id::{AccountId, CommandId},
        time::Timestamp,
    },
    queue::SharedBroker,
    store::Store,
};

mod admission;
mod answer;
mod auth;
mod bills;
mod close;
mod downloads;
mod error;
mod fields;
pub mod keyring;
mod links;
mod notifications;
mod notify;
mod orders;
mod page;
mod pay;
mod proxies;
mod refunds;
mod request;
mod routes;
mod wait;

pub use admission::AdmissionSettings;
pub use keyring::Keyring;
pub use proxies::{Proxies, ProxyError};

/// Bounds and addresses of a front.
#[derive(Debug, Clone)]
pub struct FrontSettings {
    /// Where phones and wallets reach it: `https://pay.example.com`. `interfaceUrl` is `{this}/pay`.
    pub public_url: String,
    /// The long poll of a phone; at most 12 s.
    pub wait: Duration,
    /// How long a confirm is waited for before a publish counts as unknown.
    pub publish_patience: Duration,
    /// How long a request's body may take to arrive.
    pub body_timeout: Duration,
    /// How long `/result` waits for the wallet's answer.
    pub result_wait: Duration,
    pub admission: AdmissionSettings,
    /// Whether merchants' notify URLs may be http or point to private addresses (demo and tests).
    pub allow_private_notify_urls: bool,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Proxies,
}

impl Default for FrontSettings {
    fn default() -> Self {
        Self {
            public_url: String::new(),
            wait: Duration::from_secs(8),
            publish_patience: Duration::from_secs(3),
            body_timeout: Duration::from_secs(5),
            result_wait: Duration::from_secs(3),
            admission: AdmissionSettings::default(),
            allow_private_notify_urls: false,
            trusted_proxies: Proxies::default(),
        }
    }
}

/// One front.
pub struct Front {
    settings: FrontSettings,
    broker: SharedBroker,
    store: Store,
    clock: Clock,
    keyring: Arc<ArcSwap<Keyring>>,
    admission: admission::Admission,
    downloads: Arc<downloads::Downloads>,
    waiters: Arc<wait::Waiters>,
    looks: mpsc::Sender<CommandId>,
    /// When a key refresh was last asked for; one entry per enrolled account at most.
    key_checks: Mutex<HashMap<AccountId, Timestamp>>,
    /// Waits that outlive their callers: a phone that hangs up does not stop its order.
    tracker: TaskTracker,
}

impl Front {
    /// Starts listening for replies and the tasks that go with it; they end with `soft`, waits under way are finished.
    pub async fn start(
        settings: FrontSettings,
        broker: SharedBroker,
        store: Store,
        clock: Clock,
        keyring: Arc<ArcSwap<Keyring>>,
        soft: CancellationToken,
    ) -> Arc<Self> {
        const LOOKS_QUEUED: usize = 20_000;
        let (looks, looked_for) = mpsc::channel(LOOKS_QUEUED);
        let waiters = Arc::new(wait::Waiters::default());
        let heard = broker.listen().await;
        tokio::spawn(wait::hear(waiters.clone(), heard, looks.clone()));
        tokio::spawn(wait::look(waiters.clone(), store.clone(), looked_for));
        let front = Arc::new(Self {
            admission: admission::Admission::new(&settings.admission),
            downloads: Arc::default(),
            settings,
            broker,
            store,
            clock,
            keyring,
            waiters,
            looks,
            key_checks: Mutex::default(),
            tracker: TaskTracker::new(),
        });
        tokio::spawn({
            let front = front.clone();
            async move {
                while soft.run_until_cancelled(tokio::time::sleep(admission::TIDY_EVERY)).await.is_some() {
                    front.admission.tidy(front.clock.now());
                }
            }
        });
        front
    }

    /// Every route of the public listener.
    pub fn endpoint(self: &Arc<Self>) -> impl poem::Endpoint + 'static {
        routes::endpoint(self.clone())
    }

    /// Whether a refresh of an account's keys may be asked for again: once a minute.
    fn key_check_is_due(&self, account: AccountId) -> bool {
        let now = self.clock.now();
        let mut asked = self.key_checks.lock().unwrap_or_else(PoisonError::into_inner);
        let due = asked.get(&account).is_none_or(|at| now.since(*at) >= Duration::from_secs(60));
        if due {
            asked.insert(account, now);
        }
        due
    }

    /// After the listener stopped: waits until every order under way has its answer.
    pub async fn finished(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}
