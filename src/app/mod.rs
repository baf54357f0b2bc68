//! Putting the rooms together: which roles run in this process, on what, and how they leave.

mod time;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use arc_swap::ArcSwap;
use poem::{Endpoint, EndpointExt, Request, Response, endpoint::BoxEndpoint};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    config::Settings,
    front::{Front, Keyring},
    gateway::http,
    keys::Vault,
    listen::{ListenSettings, Listening},
    operations::{self, Ready},
    queue::{
        SharedBroker,
        embedded::{EmbeddedBroker, EmbeddedSettings},
        rabbitmq::RabbitBroker,
    },
    scheduler,
    steps::{Registry, Steps, deliver::Deliverer},
    store::Store,
    webhook::WebhookClient,
    worker,
};

/// Which roles this process plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    pub front: bool,
    pub worker: bool,
    pub scheduler: bool,
}

impl Roles {
    pub const FRONT: Self = Self { front: true, worker: false, scheduler: false };
    pub const WORKER: Self = Self { front: false, worker: true, scheduler: false };
    pub const SCHEDULER: Self = Self { front: false, worker: false, scheduler: true };
    pub const ALL: Self = Self { front: true, worker: true, scheduler: true };

    const fn steps(self) -> bool {
        self.worker || self.scheduler
    }

    fn name(self) -> &'static str {
        match self {
            Self::FRONT => "front",
            Self::WORKER => "worker",
            Self::SCHEDULER => "scheduler",
            _ => "serve",
        }
    }
}

/// What a process puts beside its front on the public listener, so that the front need not know of it.
pub struct Beside {
    /// Bound already; `front.listen` is not looked at.
    pub listener: TcpListener,
    /// The path of its own, `/demo`, and everything below it.
    pub prefix: &'static str,
    pub endpoint: BoxEndpoint<'static, Response>,
}

/// A process at work. Dropped, its tasks go on; [`App::stop`] ends them in order.
pub struct App {
    /// The public listener's address, when this process is a front.
    pub public_addr: Option<SocketAddr>,
    pub operations_addr: SocketAddr,
    store: Store,
    broker: SharedBroker,
    front: Option<(Arc<Front>, Listening)>,
    operations: Listening,
    /// Intake of phones, merchants and wallets.
    front_soft: CancellationToken,
    /// Intake of workers and scheduler.
    soft: CancellationToken,
    /// Everything that still runs.
    hard: CancellationToken,
    /// Workers and scheduler: they end by themselves when asked to.
    work: Vec<JoinHandle<()>>,
    /// What only keeps caches and the clock fresh.
    keepers: Vec<JoinHandle<()>>,
    shutdown: Duration,
}

impl App {
    /// Starts the roles. Returns when they are at work; a broker that is not there yet is waited for in the background.
    ///
    /// Errors: a setting, a key or a database that cannot be used, each in words that say what to do.
    pub async fn start(settings: &Settings, roles: Roles) -> anyhow::Result<Self> {
        Self::start_beside(settings, roles, None).await
    }

    /// As [`App::start`], with something beside the front when this process is one.
    pub async fn start_beside(settings: &Settings, roles: Roles, beside: Option<Beside>) -> anyhow::Result<Self> {
        if settings.broker_is_embedded() && roles != Roles::ALL {
            bail!(
                "broker.url is `embedded`: that is for `serve`, where all roles share one process; set an amqp:// address"
            );
        }
        let vault = Arc::new(open_vault(settings, roles)?);
        let store = Store::connect(&settings.store_settings()).await.context("database.url: cannot connect")?;
        let pending = store.pending_migrations().await.context("database: the state of its tables cannot be read")?;
        if !pending.is_empty() {
            bail!("the database lacks migrations ({}): run `prepay migrate`", pending.join(", "));
        }
        let later = store.later_migrations().await.context("database: the state of its tables cannot be read")?;
        if !later.is_empty() {
            tracing::warn!(
                migrations = later.join(", "),
                "a later release has migrated this database; this one works on it"
            );
        }
        let clock = Clock::system();
        time::begin(&clock, &store).await?;
        let broker: SharedBroker = if settings.broker_is_embedded() {
            let topology = settings.topology_settings();
            let orders_max = usize::try_from(topology.orders_max()).unwrap_or(usize::MAX);
            Arc::new(EmbeddedBroker::new(EmbeddedSettings { orders_max, ..EmbeddedSettings::default() }))
        } else {
            Arc::new(RabbitBroker::start(settings.rabbit_settings(&format!("prepay {}", roles.name()))?))
        };
        let (front_soft, soft, hard) = (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        let reload_every = Duration::from_millis(settings.reload_every_ms);
        let mut keepers = vec![tokio::spawn(time::keep(clock.clone(), store.clone()))];
        let mut work = Vec::new();

        let parts = Parts { settings, vault, store: store.clone(), clock, broker: broker.clone() };
        if roles.steps() {
            let registry = parts.registry().await?;
            keepers.push(tokio::spawn(keep_registry(registry.clone(), reload_every)));
            work = parts.start_work(roles, registry, &soft, &hard).await?;
        }
        let front = if roles.front {
            let keyring = parts.keyring().await?;
            keepers.push(tokio::spawn(parts.keep_keyring(keyring.clone(), reload_every)));
            Some(parts.start_front(keyring, beside, &front_soft).await?)
        } else {
            None
        };

        let ready = Ready {
            broker: broker.clone(),
            store: store.clone(),
            needs_store: roles.steps(),
            needs_broker_always: roles.steps(),
            was_connected: Arc::default(),
            leaving: front_soft.clone(),
        };
        let addr = settings.operations.listen;
        let operations = Listening::start(ListenSettings::on(addr), operations::endpoint(ready), hard.clone());
        let operations = operations.await.with_context(|| format!("operations.listen: {addr} cannot be bound"))?;
        Ok(Self {
            public_addr: front.as_ref().map(|(_, listening)| listening.addr),
            operations_addr: operations.addr,
            store,
            broker,
            front,
            operations,
            front_soft,
            soft,
            hard,
            work,
            keepers,
            shutdown: Duration::from_secs(settings.shutdown_s),
        })
    }

    /// Leaves in order: no new calls; phones under way get their answer; no new messages; what is held is finished; then
    /// broker and database are closed. What is not done in time is given up: unacknowledged messages come back by
    /// themselves, leases run out.
    pub async fn stop(self) {
        let Self { store, broker, front, operations, front_soft, soft, hard, work, keepers, shutdown, .. } = self;
        let deadline = tokio::time::Instant::now() + shutdown;
        front_soft.cancel();
        let calls_answered = async {
            if let Some((front, listening)) = front {
                listening.finished().await;
                front.finished().await;
            }
        };
        if tokio::time::timeout_at(deadline, calls_answered).await.is_err() {
            tracing::warn!("calls still under way were given up; the same payInfo sent again resumes them");
        }
        soft.cancel();
        let work_done = async {
            for task in work {
                if let Err(error) = task.await {
                    tracing::error!(%error, "a role ended badly");
                }
            }
        };
        tokio::pin!(work_done);
        if tokio::time::timeout_at(deadline, &mut work_done).await.is_err() {
            tracing::warn!("steps still under way are given up");
            hard.cancel();
            work_done.await;
        }
        hard.cancel();
        for keeper in keepers {
            keeper.abort();
        }
        operations.finished().await;
        broker.close().await;
        store.close().await;
    }

    pub fn store(&self) -> &Store {
        &self.store
    }
}

/// Two endpoints on one listener, told apart by the start of the path.
///
/// Not poem's `Route::nest`: it adds a path parameter of its own, and both sides read theirs by position.
struct Forked {
    prefix: &'static str,
    below: BoxEndpoint<'static, Response>,
    others: BoxEndpoint<'static, Response>,
}

impl Endpoint for Forked {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let rest = request.uri().path().strip_prefix(self.prefix);
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            self.below.call(request).await
        } else {
            self.others.call(request).await
        }
    }
}

/// What every role of this process stands on.
struct Parts<'a> {
    settings: &'a Settings,
    vault: Arc<Vault>,
    store: Store,
    clock: Clock,
    broker: SharedBroker,
}

impl Parts<'_> {
    async fn registry(&self) -> anyhow::Result<Registry> {
        let http = http::client(&self.settings.http_settings()).context("TLS cannot be set up")?;
        let (store, vault, clock) = (self.store.clone(), self.vault.clone(), self.clock.clone());
        let registry = Registry::new(store, vault, http, clock, self.settings.budget_settings());
        registry.reload().await.context("channel accounts cannot be read")?;
        Ok(registry)
    }

    /// Worker and scheduler, as the roles have them.
    async fn start_work(
        &self,
        roles: Roles,
        registry: Registry,
        soft: &CancellationToken,
        hard: &CancellationToken,
    ) -> anyhow::Result<Vec<JoinHandle<()>>> {
        let settings = self.settings.step_settings()?;
        let steps = Steps { store: self.store.clone(), registry, clock: self.clock.clone(), settings };
        if self.settings.broker_is_embedded() {
            // The queue died with the process before this one, and every command of a lease with it.
            let freed = steps.free_leases().await.context("orders that were left half-way cannot be freed")?;
            tracing::info!(freed, "orders that the process before this one held are free");
        }
        let mut work = Vec::new();
        if roles.worker {
            let (broker, worker_settings) = (self.broker.clone(), self.settings.worker_settings());
            let worker = worker::run(steps.clone(), broker, worker_settings, soft.clone(), hard.clone());
            work.push(tokio::spawn(worker));
        }
        if roles.scheduler {
            let scheduler_settings = self.settings.scheduler_settings();
            let client = WebhookClient::new(&self.settings.webhook_settings()).context("TLS cannot be set up")?;
            let deliverer = Deliverer::new(&steps, client, self.settings.delivery_settings());
            let scheduler = scheduler::run(steps, deliverer, scheduler_settings, soft.clone(), hard.clone());
            work.push(tokio::spawn(scheduler));
        }
        Ok(work)
    }

    async fn keyring(&self) -> anyhow::Result<Arc<ArcSwap<Keyring>>> {
        let keyring = Keyring::load(&self.store, &self.vault, self.clock.now()).await;
        Ok(Arc::new(ArcSwap::from_pointee(keyring.context("keys of the fronts cannot be read")?)))
    }

    fn keep_keyring(&self, keyring: Arc<ArcSwap<Keyring>>, every: Duration) -> impl Future<Output = ()> + use<> {
        keep_keyring(keyring, self.store.clone(), self.vault.clone(), self.clock.clone(), every)
    }

    async fn start_front(
        &self,
        keyring: Arc<ArcSwap<Keyring>>,
        beside: Option<Beside>,
        soft: &CancellationToken,
    ) -> anyhow::Result<(Arc<Front>, Listening)> {
        let (broker, store, clock) = (self.broker.clone(), self.store.clone(), self.clock.clone());
        let front = Front::start(self.settings.front_settings()?, broker, store, clock, keyring, soft.clone()).await;
        let listen = ListenSettings {
            connections_max: self.settings.front.connections_max,
            header_timeout: Duration::from_millis(self.settings.front.header_timeout_ms),
            ..ListenSettings::on(self.settings.front.listen)
        };
        let listening = match beside {
            None => Listening::start(listen, front.endpoint(), soft.clone()).await,
            Some(Beside { listener, prefix, endpoint }) => {
                let both = Forked { prefix, below: endpoint, others: front.endpoint().map_to_response().boxed() };
                Listening::on(listener, listen, both, soft.clone())
            }
        };
        let addr = self.settings.front.listen;
        Ok((front, listening.with_context(|| format!("front.listen: {addr} cannot be bound"))?))
    }
}

/// The master keys that these roles need, and no others. Errors: what to set.
fn open_vault(settings: &Settings, roles: Roles) -> anyhow::Result<Vault> {
    let front = if roles.front { settings.keys.front_text()? } else { None };
    let back = if roles.steps() { settings.keys.back_text()? } else { None };
    if roles.front && front.is_none() {
        bail!("keys.front_file is not set: the fronts' master key (`prepay key master` makes one)");
    }
    if roles.steps() && back.is_none() {
        bail!("keys.back_file is not set: the master key of worker and scheduler (`prepay key master` makes one)");
    }
    Vault::new(front.as_ref(), back.as_ref()).context("keys")
}

async fn keep_registry(registry: Registry, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        if let Err(error) = registry.reload().await {
            tracing::warn!(%error, "channel accounts cannot be read; the known ones go on");
        }
    }
}

async fn keep_keyring(keyring: Arc<ArcSwap<Keyring>>, store: Store, vault: Arc<Vault>, clock: Clock, every: Duration) {
    let mut known = None;
    loop {
        tokio::time::sleep(every).await;
        let fresh = async {
            let stamp = store.registry_stamp().await?;
            if known == Some(stamp) {
                return Ok(None);
            }
            let ring = Keyring::load(&store, &vault, clock.now()).await?;
            Ok::<_, crate::front::keyring::KeyringError>(Some((stamp, ring)))
        };
        match fresh.await {
            Ok(None) => {}
            Ok(Some((stamp, ring))) => {
                known = Some(stamp);
                keyring.store(Arc::new(ring));
            }
            Err(error) => tracing::warn!(%error, "the fronts' keys cannot be read; the known ones go on"),
        }
    }
}
