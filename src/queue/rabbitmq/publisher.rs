//! Publishing with a definite answer: a pool of confirm channels, one publish under way on each.
//!
//! One at a time, because RabbitMQ returns an unroutable message with no number in it, and lapin hands it to whichever
//! confirm completes next. A publish runs in a task that owns its channel, so a caller that gives up (its patience is
//! over, its client hung up) disturbs nobody: the channel is not used again before its confirm has come.
//!
//! What a caller was told is *unknown* may still arrive, at once or after an alarm: lapin keeps unwritten messages
//! while the broker blocks, and cannot take them back. At most `publish_channels` such ghosts exist at a time, and
//! `not_after` makes a late one harmless.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use lapin::{
    BasicProperties, Channel as AmqpChannel, Confirmation,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, oneshot, watch},
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};
use tracing::{debug, error, warn};

use super::{
    declare,
    settings::RabbitSettings,
    supervisor::{Role, Wire},
};
use crate::queue::{Health, Published, RefusedBecause};

/// How long after the loss of a queue it is declared again.
///
/// The broker cancels the consumers of a deleted queue, unless one of its name stands by then: that one takes them over without
/// a word, counts messages as delivered to them, and nothing arrives (RabbitMQ 3.10.8). Cancelled consumers declare the queue
/// themselves within milliseconds; a publisher comes after them.
const CONSUMERS_FIRST: Duration = Duration::from_secs(1);

/// One message, ready to go.
pub(super) struct Letter {
    /// A queue, addressed through the default exchange: exactly one takes the message or refuses it.
    pub(super) queue: String,
    pub(super) body: Vec<u8>,
    /// With a `message_id`.
    pub(super) properties: BasicProperties,
}

/// The publishing side of one process.
pub(super) struct Publisher {
    settings: Arc<RabbitSettings>,
    pool: ArcSwapOption<Pool>,
    health: watch::Sender<Health>,
    /// Replies on their way to the socket.
    replies: Arc<Semaphore>,
    redeclaring: AtomicBool,
}

/// The channels of one connection.
struct Pool {
    wire: Wire,
    idle: Mutex<VecDeque<AmqpChannel>>,
    slots: Arc<Semaphore>,
    /// Without confirms: replies are hints.
    plain: AmqpChannel,
}

impl Publisher {
    pub(super) fn new(settings: Arc<RabbitSettings>) -> Self {
        let replies = Arc::new(Semaphore::new(usize::from(settings.replies_in_flight_max.max(1))));
        Self {
            settings,
            pool: ArcSwapOption::empty(),
            health: watch::Sender::new(Health::Down),
            replies,
            redeclaring: AtomicBool::new(false),
        }
    }

    pub(super) fn health(&self) -> Health {
        *self.health.borrow()
    }

    pub(super) fn health_changes(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// Safe to drop at any await: see above.
    pub(super) async fn publish(self: &Arc<Self>, letter: Letter, patience: Duration) -> Published {
        let begun = Instant::now();
        let slot = match self.slot(begun + patience / 2).await {
            Ok(slot) => slot,
            Err(because) => return Published::Refused(because),
        };
        let (answer, heard) = oneshot::channel();
        tokio::spawn(Arc::clone(self).send(slot, letter, answer));
        match timeout_at(begun + patience, heard).await {
            Ok(Ok(published)) => published,
            Ok(Err(_)) | Err(_) => Published::Unknown,
        }
    }

    /// Room for one publish. Half of the caller's patience is for this, the other half for the confirm: without room by
    /// then, nothing was sent and we can say so.
    async fn slot(&self, until: Instant) -> Result<Slot, RefusedBecause> {
        refused_by(self.health())?;
        let pool = self.pool.load_full().ok_or(RefusedBecause::NotConnected)?;
        let permit = match Arc::clone(&pool.slots).try_acquire_owned() {
            Ok(permit) => permit,
            Err(TryAcquireError::Closed) => return Err(RefusedBecause::NotConnected),
            Err(TryAcquireError::NoPermits) => {
                let mut health = self.health.subscribe();
                let permit = tokio::select! {
                    biased;
                    // Down closes the slots; blocked leaves them taken, so it is watched.
                    changed = health.wait_for(|health| *health != Health::Ready) => {
                        let health = changed.map_or(Health::Down, |health| *health);
                        return Err(refused_by(health).err().unwrap_or(RefusedBecause::NotConnected));
                    }
                    permit = Arc::clone(&pool.slots).acquire_owned() => permit,
                    () = sleep_until(until) => return Err(RefusedBecause::Full),
                };
                permit.map_err(|_| RefusedBecause::NotConnected)?
            }
        };
        Ok(Slot { pool, _permit: permit })
    }

    async fn send(self: Arc<Self>, slot: Slot, letter: Letter, answer: oneshot::Sender<Published>) {
        let Some(channel) = slot.pool.channel(&self.settings).await else {
            let _ = answer.send(Published::Refused(RefusedBecause::NotConnected));
            return;
        };
        if answer.is_closed() {
            // Nobody waits any more and nothing was sent: it stays so.
            slot.pool.give_back(channel);
            return;
        }
        let queue = letter.queue.clone();
        let (published, channel) = self.send_on(channel, letter).await;
        match channel {
            Afterwards::Clean(channel) => slot.pool.give_back(channel),
            Afterwards::Spent => {}
            Afterwards::Stuck => slot.pool.wire.cut(),
        }
        let is_gone = published == Published::Refused(RefusedBecause::Unroutable);
        let wire = slot.pool.wire.clone();
        // Room first: who hears the answer may publish at once.
        drop(slot);
        let _ = answer.send(published);
        if is_gone {
            error!(queue, "the queue is gone; declaring it again");
            self.redeclare(&wire).await;
        }
    }

    async fn send_on(&self, channel: AmqpChannel, letter: Letter) -> (Published, Afterwards) {
        let message_id = letter.properties.message_id().clone();
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let mut written = false;
        let confirmed = {
            let mut publish = std::pin::pin!(async {
                let confirm = channel
                    .basic_publish("".into(), letter.queue.into(), options, &letter.body, letter.properties)
                    .await?;
                written = true;
                confirm.await
            });
            let mut health = self.health.subscribe();
            loop {
                match timeout(Duration::from_millis(self.settings.confirm_max_ms), &mut publish).await {
                    Ok(confirmed) => break Some(confirmed),
                    // Under an alarm no confirm is due; the channel waits it out.
                    Err(_) if *health.borrow_and_update() == Health::Blocked => {}
                    Err(_) => break None,
                }
            }
        };
        match confirmed {
            Some(Ok(Confirmation::Ack(None))) => (Published::Kept, Afterwards::Clean(channel)),
            // The broker returns what it cannot route and acknowledges it all the same.
            Some(Ok(Confirmation::Ack(Some(returned)))) if *returned.properties.message_id() == message_id => {
                (Published::Refused(RefusedBecause::Unroutable), Afterwards::Clean(channel))
            }
            Some(Ok(Confirmation::Nack(None))) => {
                (Published::Refused(RefusedBecause::Full), Afterwards::Clean(channel))
            }
            Some(Ok(_)) => {
                error!("a confirm came with somebody else's message");
                (Published::Unknown, Afterwards::Spent)
            }
            Some(Err(error)) => {
                debug!(%error, "the channel ended with a publish under way");
                (Published::Unknown, Afterwards::Spent)
            }
            None => {
                warn!(written, "no confirm came; its channel is given up");
                // Unwritten for so long without an alarm: the socket is stuck, and all on it with it. Closing the one
                // channel would not do, for lapin sends `channel.close` before a message that still waits, and for a
                // message on a channel it has forgotten the broker closes the whole connection (504).
                (Published::Unknown, if written { Afterwards::Spent } else { Afterwards::Stuck })
            }
        }
    }

    /// One at a time is enough: every publisher that meets the gap comes here.
    async fn redeclare(&self, wire: &Wire) {
        if self.redeclaring.swap(true, Ordering::AcqRel) {
            return;
        }
        sleep(CONSUMERS_FIRST).await;
        let declared = timeout(Duration::from_millis(self.settings.connect_timeout_ms), async {
            let channel = wire.connection.create_channel().await?;
            declare::all(&channel, &self.settings.topology).await
        })
        .await;
        if let Ok(Err(error)) = declared {
            error!(%error, "the queues cannot be declared");
        }
        self.redeclaring.store(false, Ordering::Release);
    }

    /// Sends without confirm and without being missed: dropped when it cannot leave at once.
    pub(super) async fn send_plain(&self, letter: Letter, patience: Duration) {
        if self.health() != Health::Ready {
            return;
        }
        let Some(pool) = self.pool.load_full() else { return };
        let Ok(permit) = Arc::clone(&self.replies).try_acquire_owned() else { return };
        // In a task, so that the count of replies under way is true: lapin keeps what it has not written yet.
        let sent = tokio::spawn(async move {
            let options = BasicPublishOptions::default();
            let sent =
                pool.plain.basic_publish("".into(), letter.queue.into(), options, &letter.body, letter.properties);
            if let Err(error) = sent.await {
                debug!(%error, "a reply was not sent");
            }
            if !pool.plain.status().connected() {
                // Nothing we send closes it, so this is the end of its connection, or nearly: begin anew.
                pool.wire.cut();
            }
            drop(permit);
        });
        let _ = timeout(patience, sent).await;
    }
}

fn refused_by(health: Health) -> Result<(), RefusedBecause> {
    match health {
        Health::Ready => Ok(()),
        Health::Blocked => Err(RefusedBecause::Blocked),
        Health::Down => Err(RefusedBecause::NotConnected),
    }
}

struct Slot {
    pool: Arc<Pool>,
    _permit: OwnedSemaphorePermit,
}

/// What a publish leaves behind.
enum Afterwards {
    /// Nothing is under way on it.
    Clean(AmqpChannel),
    /// Something may still arrive on it; it was dropped, which closes it.
    Spent,
    /// Its message is not even written: the connection must go.
    Stuck,
}

impl Pool {
    /// An idle channel, or one more: there are never more than slots.
    async fn channel(&self, settings: &RabbitSettings) -> Option<AmqpChannel> {
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop_back();
            match idle {
                Some(channel) if channel.status().connected() => return Some(channel),
                Some(_) => {}
                None => break,
            }
        }
        let opened = timeout(Duration::from_millis(settings.connect_timeout_ms), async {
            let channel = self.wire.connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok::<_, lapin::Error>(channel)
        })
        .await;
        match opened {
            Ok(Ok(channel)) => Some(channel),
            Ok(Err(error)) => {
                debug!(%error, "no channel to publish on");
                None
            }
            Err(_) => None,
        }
    }

    fn give_back(&self, channel: AmqpChannel) {
        if channel.status().connected() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push_back(channel);
        }
    }
}

#[async_trait]
impl Role for Publisher {
    fn name(&self) -> &'static str {
        "publishing"
    }

    async fn up(&self, wire: Wire) -> Result<(), lapin::Error> {
        let plain = wire.connection.create_channel().await?;
        declare::all(&plain, &self.settings.topology).await?;
        let slots = Arc::new(Semaphore::new(usize::from(self.settings.publish_channels.clamp(1, 1000))));
        self.pool.store(Some(Arc::new(Pool { wire, idle: Mutex::default(), slots, plain })));
        self.health.send_replace(Health::Ready);
        Ok(())
    }

    fn blocked(&self, blocked: bool) {
        self.health.send_replace(if blocked { Health::Blocked } else { Health::Ready });
    }

    fn down(&self) {
        self.health.send_replace(Health::Down);
        if let Some(pool) = self.pool.swap(None) {
            pool.slots.close();
        }
    }
}
