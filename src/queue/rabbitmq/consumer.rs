//! Taking deliveries, over as many connections as it takes.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::StreamExt;
use lapin::{
    Channel as AmqpChannel, Consumer,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions},
    types::FieldTable,
};
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

use super::{
    declare,
    publisher::Publisher,
    settings::RabbitSettings,
    settle::Desk,
    supervisor::{Pauses, Role, Wire},
};
use crate::queue::{Delivery, topology::QueueDeclaration};

/// RabbitMQ caps a quorum queue's prefetch here.
pub(super) const PREFETCH_MAX: u16 = 2_000;
/// How long a question to the broker may take before the channel counts as lost.
const ANSWER_MAX: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// The consuming side of one process: a connection of its own, because an alarm stops the broker from reading publishing
/// connections, and acknowledgements with them.
pub(super) struct Consuming {
    wire: watch::Sender<Option<Wire>>,
}

impl Consuming {
    pub(super) fn new() -> Self {
        Self { wire: watch::Sender::new(None) }
    }

    pub(super) fn wire(&self) -> Option<Wire> {
        self.wire.borrow().clone()
    }

    /// The connection, once there is one.
    pub(super) async fn connected(&self) -> Wire {
        let mut wire = self.wire.subscribe();
        loop {
            if let Some(wire) = wire.borrow_and_update().clone() {
                return wire;
            }
            if wire.changed().await.is_err() {
                // The sender is `self`: it cannot be gone while we are here.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Resolves when that connection is no longer the current one.
    pub(super) async fn replaced(&self, wire: &Wire) {
        let mut current = self.wire.subscribe();
        let is_other = |current: &Option<Wire>| {
            current.as_ref().is_none_or(|current| !Arc::ptr_eq(&current.connection, &wire.connection))
        };
        let _ = current.wait_for(is_other).await;
    }
}

#[async_trait]
impl Role for Consuming {
    fn name(&self) -> &'static str {
        "consuming"
    }

    async fn up(&self, wire: Wire) -> Result<(), lapin::Error> {
        self.wire.send_replace(Some(wire));
        Ok(())
    }

    /// Nothing is published here that could be blocked.
    fn blocked(&self, _blocked: bool) {}

    fn down(&self) {
        self.wire.send_replace(None);
    }
}

/// One consumer of one queue, for as long as somebody takes what it brings.
pub(super) struct Taker {
    pub(super) consuming: Arc<Consuming>,
    pub(super) publisher: Arc<Publisher>,
    pub(super) settings: Arc<RabbitSettings>,
    pub(super) queue: QueueDeclaration,
    pub(super) prefetch: u16,
    pub(super) out: mpsc::Sender<Delivery>,
    pub(super) stop: CancellationToken,
}

enum End {
    /// We are to stop: what is held is still settled on this channel.
    Stopped,
    /// The channel, the consumer or the queue is gone: built again.
    Lost,
}

impl Taker {
    pub(super) async fn run(self) {
        let mut pauses = Pauses::new(PAUSE_MAX);
        loop {
            let wire = tokio::select! {
                biased;
                () = self.over() => return,
                wire = self.consuming.connected() => wire,
            };
            match timeout(ANSWER_MAX, self.open(&wire)).await {
                Ok(Ok((channel, consumer))) => {
                    let held = TaskTracker::new();
                    held.close();
                    let desk = Desk {
                        channel: channel.clone(),
                        publisher: Arc::clone(&self.publisher),
                        queue: self.queue.name.clone(),
                        parked_queue: self.settings.topology.parked(),
                    };
                    let mut stream = consumer;
                    match self.pump(&mut stream, &desk, &held, &mut pauses).await {
                        End::Stopped => return self.leave(&wire, channel, stream, desk, held).await,
                        End::Lost => warn!(queue = self.queue.name, "a consumer is lost; building it again"),
                    }
                }
                Ok(Err(error)) => warn!(queue = self.queue.name, %error, "cannot consume"),
                Err(_) => warn!(queue = self.queue.name, "cannot consume: the broker does not answer"),
            }
            tokio::select! {
                biased;
                () = self.over() => return,
                () = sleep(pauses.next_pause()) => {}
            }
        }
    }

    async fn over(&self) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = self.out.closed() => {}
        }
    }

    /// Queue, prefetch, consumer, in this order on a fresh channel. The queue is declared each time: it may be what was lost.
    async fn open(&self, wire: &Wire) -> Result<(AmqpChannel, Consumer), lapin::Error> {
        let channel = wire.connection.create_channel().await?;
        declare::one(&channel, self.queue.clone()).await?;
        channel.basic_qos(self.prefetch.clamp(1, PREFETCH_MAX), BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        let consumer =
            channel.basic_consume(self.queue.name.as_str().into(), "".into(), options, FieldTable::default()).await?;
        Ok((channel, consumer))
    }

    /// Hands on one delivery at a time; the others wait in lapin, no more of them than the prefetch.
    async fn pump(&self, stream: &mut Consumer, desk: &Desk, held: &TaskTracker, pauses: &mut Pauses) -> End {
        loop {
            let next = tokio::select! {
                biased;
                () = self.over() => return End::Stopped,
                next = stream.next() => next,
            };
            // A cancel from the broker ends the stream without an error: its queue was deleted, or has moved.
            let Some(Ok(delivery)) = next else { return End::Lost };
            pauses.begin_again();
            let delivery = desk.hand_out(delivery, held.token());
            tokio::select! {
                biased;
                // Dropped with the branch below, the delivery goes back.
                () = self.over() => return End::Stopped,
                sent = self.out.send(delivery) => if sent.is_err() { return End::Stopped },
            }
        }
    }

    /// Cancels, gives back what nobody has taken, and keeps the channel until the rest is settled.
    async fn leave(self, wire: &Wire, channel: AmqpChannel, mut stream: Consumer, desk: Desk, held: TaskTracker) {
        // Ends the receiver's stream.
        drop(self.out);
        let cancel = channel.basic_cancel(stream.tag(), BasicCancelOptions::default());
        if !matches!(timeout(ANSWER_MAX, cancel).await, Ok(Ok(()))) {
            // The channel is gone or silent, and everything on it comes back by itself.
            return;
        }
        let give_back = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
        while let Ok(Some(Ok(untaken))) = timeout(ANSWER_MAX, stream.next()).await {
            if untaken.acker.nack(give_back).await.is_err() {
                return;
            }
        }
        drop(desk);
        tokio::select! {
            () = held.wait() => {}
            () = self.consuming.replaced(wire) => return,
        }
        // A quorum queue may lose an ack that is followed by the end of its channel (rabbitmq-server#10327): a question
        // that the queue itself answers comes after it and has passed through it.
        let _ = timeout(ANSWER_MAX, declare::look(&channel, &self.queue.name)).await;
        let _ = timeout(ANSWER_MAX, channel.close(200, "OK".into())).await;
    }
}
