//! A front's ear: one reply queue per connection, on a channel of its own beside the consumers.
//!
//! Taken without acknowledgement. What the front does not take fast enough is dropped at once and told as
//! [`Heard::Interrupted`], so nothing piles up here: a reply is a hint, the store has every outcome.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use futures_util::StreamExt;
use lapin::{
    Channel as AmqpChannel, Consumer,
    options::BasicConsumeOptions,
    types::{FieldTable, ShortString},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    consumer::Consuming,
    declare,
    settings::RabbitSettings,
    supervisor::{Pauses, Wire},
};
use crate::queue::{Heard, Reply};

const ANSWER_MAX: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_secs(2);

pub(super) struct Ear {
    pub(super) consuming: Arc<Consuming>,
    pub(super) settings: Arc<RabbitSettings>,
    /// What the next command carries as its reply address; none while there is no queue.
    pub(super) address: Arc<ArcSwapOption<ShortString>>,
    pub(super) out: mpsc::Sender<Heard>,
    pub(super) stop: CancellationToken,
}

impl Ear {
    /// `standing` is told when the first queue stands.
    pub(super) async fn run(self, standing: oneshot::Sender<()>) {
        let mut standing = Some(standing);
        let mut pauses = Pauses::new(PAUSE_MAX);
        loop {
            let wire = tokio::select! {
                biased;
                () = self.over() => return,
                wire = self.consuming.connected() => wire,
            };
            match timeout(ANSWER_MAX, self.open(&wire)).await {
                Ok(Ok((channel, consumer, name))) => {
                    pauses.begin_again();
                    let name = Arc::new(name);
                    self.address.store(Some(Arc::clone(&name)));
                    // Whoever published before this queue stood gets no reply through it.
                    let missed = standing.take().is_none_or(|standing| standing.send(()).is_err());
                    let stopped = self.hear(consumer, missed).await;
                    // Ours only: a later listener may have put its own there.
                    self.address.compare_and_swap(&Some(name), None);
                    drop(channel);
                    if stopped {
                        return;
                    }
                    warn!("the reply queue is lost; making another");
                }
                Ok(Err(error)) => warn!(%error, "no reply queue"),
                Err(_) => warn!("no reply queue: the broker does not answer"),
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

    async fn open(&self, wire: &Wire) -> Result<(AmqpChannel, Consumer, ShortString), lapin::Error> {
        let channel = wire.connection.create_channel().await?;
        let queue = self.settings.topology.reply_queue();
        let name = ShortString::from(queue.name.as_str());
        declare::one(&channel, queue).await?;
        let options = BasicConsumeOptions { no_ack: true, exclusive: true, ..BasicConsumeOptions::default() };
        let consumer = channel.basic_consume(name.clone(), "".into(), options, FieldTable::default()).await?;
        Ok((channel, consumer, name))
    }

    /// Passes replies on. True when we are to stop, false when the queue is lost.
    async fn hear(&self, mut stream: Consumer, mut missed: bool) -> bool {
        loop {
            let next = tokio::select! {
                biased;
                () = self.over() => return true,
                room = self.out.reserve(), if missed => {
                    let Ok(room) = room else { return true };
                    room.send(Heard::Interrupted);
                    missed = false;
                    continue;
                }
                next = stream.next() => next,
            };
            let Some(Ok(delivery)) = next else { return false };
            match Reply::decode(&delivery.data) {
                Ok(reply) => missed |= self.out.try_send(Heard::Reply(reply)).is_err(),
                Err(error) => debug!(%error, "a reply cannot be read"),
            }
        }
    }
}
