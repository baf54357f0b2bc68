//! The road over RabbitMQ.
//!
//! Two connections per process, each kept by [`supervisor`]: one publishes (commands, notifications, replies, parked
//! messages), one consumes (deliveries and their acknowledgements, and a front's reply queue on its own channel). The
//! broker stops reading whoever publishes when its memory or disk is short; acknowledgements must still flow then.
//!
//! The user needs `configure`, `write` and `read` on `<prefix>.*`, and `write` on the default exchange.

mod consumer;
mod declare;
mod inspect;
mod publisher;
mod reply;
mod settings;
mod settle;
mod supervisor;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use lapin::{BasicProperties, types::ShortString};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

pub use self::inspect::{InspectError, Inspection, Publishing, Standing, inspect};
pub use self::settings::{BrokerUrl, BrokerUrlError, RabbitSettings};
use self::{
    consumer::{Consuming, PREFETCH_MAX, Taker},
    publisher::{Letter, Publisher},
    reply::Ear,
    supervisor::{Role, supervise},
};
use super::{Broker, Deliveries, Depth, Envelope, Health, Heard, Message, Published, QueueName, Reply};

/// lapin warns about every returned message here, body and all: a log must switch it off.
/// On level `trace` its other targets print frames with their content too, so `lapin` stays at `info` or above.
pub const TARGET_THAT_SHOWS_BODIES: &str = "lapin::returned_messages";

/// How long [`Broker::listen`] waits for the first reply queue before it lets a front start without.
const LISTEN_MAX: Duration = Duration::from_secs(2);
const DEPTH_MAX: Duration = Duration::from_secs(2);

/// One process' use of RabbitMQ.
pub struct RabbitBroker {
    settings: Arc<RabbitSettings>,
    publisher: Arc<Publisher>,
    consuming: Arc<Consuming>,
    reply_address: Arc<ArcSwapOption<ShortString>>,
    /// Ends the ear of an earlier `listen`.
    listening: Mutex<CancellationToken>,
    consumers: TaskTracker,
    connections: TaskTracker,
    stop_consuming: CancellationToken,
    stop: CancellationToken,
}

impl RabbitBroker {
    /// Returns at once and connects in the background, for ever; [`Broker::health_changes`] tells when.
    /// Must be called inside a tokio runtime.
    pub fn start(settings: RabbitSettings) -> Self {
        let settings = Arc::new(settings);
        let publisher = Arc::new(Publisher::new(Arc::clone(&settings)));
        let consuming = Arc::new(Consuming::new());
        let stop = CancellationToken::new();
        let connections = TaskTracker::new();
        let roles: [Arc<dyn Role>; 2] = [Arc::clone(&publisher) as _, Arc::clone(&consuming) as _];
        for role in roles {
            connections.spawn(supervise(Arc::clone(&settings), role, stop.clone()));
        }
        Self {
            settings,
            publisher,
            consuming,
            reply_address: Arc::default(),
            listening: Mutex::default(),
            consumers: TaskTracker::new(),
            connections,
            stop_consuming: CancellationToken::new(),
            stop,
        }
    }

    fn letter(&self, envelope: &Envelope) -> Letter {
        let mut properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_type("application/json".into())
            .with_type(envelope.message.kind().into())
            .with_message_id(envelope.id.to_string().into());
        if matches!(envelope.message, Message::Prepay(_))
            && let Some(address) = self.reply_address.load_full()
        {
            properties = properties.with_reply_to(ShortString::clone(&address));
        }
        Letter { queue: self.settings.topology.queue_of(envelope), body: envelope.encode(), properties }
    }
}

#[async_trait]
impl Broker for RabbitBroker {
    async fn publish(&self, envelope: &Envelope, patience: Duration) -> Published {
        self.publisher.publish(self.letter(envelope), patience).await
    }

    async fn consume(&self, queue: QueueName, prefetch: u16) -> Deliveries {
        let (out, deliveries) = mpsc::channel(1);
        let queues = self.settings.topology.declarations_of(queue);
        let count = u16::try_from(queues.len()).unwrap_or(u16::MAX).max(1);
        let prefetch = prefetch.clamp(1, PREFETCH_MAX);
        for (number, queue) in (0..count).zip(queues) {
            // 10 over 4 queues: 3, 3, 2, 2.
            let share = prefetch / count + u16::from(number < prefetch % count);
            let taker = Taker {
                consuming: Arc::clone(&self.consuming),
                publisher: Arc::clone(&self.publisher),
                settings: Arc::clone(&self.settings),
                queue,
                prefetch: share.max(1),
                out: out.clone(),
                stop: self.stop_consuming.clone(),
            };
            self.consumers.spawn(taker.run());
        }
        deliveries
    }

    async fn listen(&self) -> mpsc::Receiver<Heard> {
        let (out, heard) = mpsc::channel(usize::try_from(self.settings.topology.replies_max.max(1)).unwrap_or(1));
        let stop = self.stop.child_token();
        let earlier =
            std::mem::replace(&mut *self.listening.lock().unwrap_or_else(PoisonError::into_inner), stop.clone());
        earlier.cancel();
        let ear = Ear {
            consuming: Arc::clone(&self.consuming),
            settings: Arc::clone(&self.settings),
            address: Arc::clone(&self.reply_address),
            out,
            stop,
        };
        let (standing, stands) = oneshot::channel();
        self.connections.spawn(ear.run(standing));
        if timeout(LISTEN_MAX, stands).await.is_err() {
            warn!("no reply queue yet; outcomes are found in the store meanwhile");
        }
        heard
    }

    async fn reply(&self, reply_to: &str, reply: &Reply, patience: Duration) {
        if !reply_to.starts_with(&self.settings.topology.reply_prefix()) || reply_to.len() > 255 {
            return;
        }
        let properties = BasicProperties::default()
            .with_delivery_mode(1)
            .with_content_type("application/json".into())
            .with_message_id(reply.command.to_string().into());
        let letter = Letter { queue: reply_to.to_owned(), body: reply.encode(), properties };
        self.publisher.send_plain(letter, patience).await;
    }

    fn health(&self) -> Health {
        self.publisher.health()
    }

    fn health_changes(&self) -> watch::Receiver<Health> {
        self.publisher.health_changes()
    }

    async fn depth(&self, queue: QueueName) -> Option<Depth> {
        let wire = self.consuming.wire()?;
        let asked = async {
            let mut depth = Depth { ready: 0, consumers: 0 };
            for queue in self.settings.topology.queues(queue) {
                // A channel of its own: asking for a queue that is not there closes it.
                let channel = wire.connection.create_channel().await.ok()?;
                let (ready, consumers) = declare::look(&channel, &queue).await.ok()?;
                depth.ready = depth.ready.saturating_add(ready);
                depth.consumers = depth.consumers.saturating_add(consumers);
            }
            Some(depth)
        };
        timeout(DEPTH_MAX, asked).await.ok().flatten()
    }

    async fn stop_consuming(&self) {
        self.stop_consuming.cancel();
    }

    async fn close(&self) {
        self.stop_consuming.cancel();
        self.consumers.close();
        let settled = timeout(Duration::from_millis(self.settings.settle_max_ms), self.consumers.wait()).await;
        if settled.is_err() {
            warn!("deliveries are still held; they come again to another worker");
        }
        self.stop.cancel();
        self.connections.close();
        self.connections.wait().await;
    }
}

impl Drop for RabbitBroker {
    /// Nothing of it may outlive it, also when nobody closed it.
    fn drop(&mut self) {
        self.stop_consuming.cancel();
        self.stop.cancel();
    }
}
