//! One process of ours: what it has in memory, and how it ends and begins again.

use std::{sync::Arc, time::Duration};

use prepay::{
    queue::{
        Broker, Deliveries, Heard, Published, QueueName,
        embedded::{EmbeddedBroker, EmbeddedFaults, EmbeddedSettings},
    },
    steps::{
        Steps,
        deliver::{Deliverer, DeliverySettings},
    },
    store::PauseRule,
    worker::{Worker, WorkerSettings},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{deployment::Deployment, engine::Kind, history::History, shops::SimulatedShops, wallet::Wallets};

/// What is gone when a process ends: registry, budgets, places, what its consumers hold.
pub struct Process {
    /// On a store whose connection breaks at times.
    pub steps: Steps,
    pub worker: Arc<Worker>,
    pub deliverer: Deliverer,
    pub orders_in: Deliveries,
    pub notices_in: Deliveries,
    pub heard: mpsc::Receiver<Heard>,
}

impl Process {
    pub async fn begins(deployment: &Deployment, wallets: &Wallets, broker: &Arc<EmbeddedBroker>) -> Self {
        let steps = deployment.steps(wallets, wallets.failing(&deployment.store)).await;
        let pause = PauseRule { after_failures: 3, first: Duration::from_secs(15), most: Duration::from_secs(600) };
        let settings = DeliverySettings { pause, ..DeliverySettings::default() };
        let shops = SimulatedShops { wallets: wallets.clone() };
        let heard = broker.listen().await;
        let orders_in = broker.consume(QueueName::Orders, 4).await;
        let notices_in = broker.consume(QueueName::Notifications, 4).await;
        let worker = Worker::new(steps.clone(), broker.clone(), WorkerSettings::default(), CancellationToken::new());
        let deliverer = Deliverer::new(&steps, shops, settings);
        Self { steps, worker: Arc::new(worker), deliverer, orders_in, notices_in, heard }
    }
}

/// A queue whose seed says what is lost, doubled and reordered.
pub fn broker(seed: u64) -> Arc<EmbeddedBroker> {
    let faults = EmbeddedFaults { seed, refuse: 30, drop: 60, double: 180, reorder: 200, ..EmbeddedFaults::default() };
    Arc::new(EmbeddedBroker::new(EmbeddedSettings { faults, ..EmbeddedSettings::default() }))
}

impl History<'_> {
    /// Everything that runs is dropped at one moment; another process begins with nothing in memory. What it held of a queue comes
    /// again; a queue that was part of it is gone too, as in `serve` with the embedded broker.
    pub async fn restart(&mut self) {
        let queue_dies = self.dice.percent(25);
        self.say(|| format!("THE PROCESS ENDS{}", if queue_dies { ", its queue too" } else { "" }));
        let stays = |kind: Kind| kind == Kind::Merchant || (kind == Kind::Tell && !queue_dies);
        {
            let mut books = self.wallets.books();
            books.count(if queue_dies { "restarts without the queue" } else { "restarts beside the queue" });
            for actor in self.actors.iter().filter(|actor| !stays(actor.kind)) {
                books.forget(actor.number);
                books.count("steps dropped by a restart");
            }
        }
        self.actors.retain(|actor| stays(actor.kind));
        self.hear();
        if queue_dies {
            self.broker = broker(self.dice.roll());
            // Kept until the process dies.
            for issued in self.issued.values_mut().filter(|issued| issued.published == Published::Kept) {
                issued.published = Published::Unknown;
            }
        }
        self.gate.settle(&self.wallets).await;
        self.gate.open();
        self.process = Process::begins(self.deployment, &self.wallets, &self.broker).await;
        if queue_dies {
            self.steps.free_leases().await.unwrap();
        }
        self.gate.settle(&self.wallets).await;
    }
}
