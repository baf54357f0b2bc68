//! The same road inside one process: for `demo`, one-box `serve`, and simulation tests.
//!
//! It is memory. So a notification counts as kept only when its worker has acknowledged it, for a wallet sends it again
//! otherwise; an order command that dies with the process is posted again by its phone.

mod held;
mod settings;
mod shelf;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::{Semaphore, mpsc, oneshot, watch},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

pub use self::settings::{EmbeddedFaults, EmbeddedSettings};
use self::shelf::{Shelf, Stored};
use super::{
    Broker, Deliveries, Depth, Envelope, Health, Heard, Message, Published, QueueName, RefusedBecause, Reply,
    dice::Dice,
};

/// How long a notification waits for its worker: a wallet counts an answer after three to five seconds as failed.
const NOTICE_MAX: Duration = Duration::from_secs(3);
const PREFETCH_MAX: u16 = 2_000;

/// Who listens for replies, and whether some of them were lost.
struct Ear {
    out: mpsc::Sender<Heard>,
    missed: bool,
}

/// A broker in memory.
pub struct EmbeddedBroker {
    orders: Arc<Shelf>,
    notifications: Arc<Shelf>,
    parked: Arc<Shelf>,
    ears: Arc<Mutex<HashMap<String, Ear>>>,
    /// The reply address of this process' front.
    address: Mutex<Option<String>>,
    replies_max: usize,
    faults: EmbeddedFaults,
    dice: Mutex<Dice>,
    numbers: AtomicU64,
    health: watch::Sender<Health>,
    stop_consuming: CancellationToken,
}

/// What the seed has in store for one message.
struct Fate {
    refused: bool,
    dropped: bool,
    lost: bool,
    doubled: bool,
    reordered: Option<u64>,
    delay: Option<Duration>,
}

impl EmbeddedBroker {
    pub fn new(settings: EmbeddedSettings) -> Self {
        Self {
            orders: Shelf::new("orders", settings.orders_max),
            notifications: Shelf::new("notifications", settings.notifications_max),
            parked: Shelf::new("parked", settings.parked_max),
            ears: Arc::default(),
            address: Mutex::default(),
            replies_max: settings.replies_max.max(1),
            faults: settings.faults,
            dice: Mutex::new(Dice::seeded(settings.faults.seed)),
            numbers: AtomicU64::new(1),
            health: watch::Sender::new(Health::Ready),
            stop_consuming: CancellationToken::new(),
        }
    }

    fn shelf(&self, queue: QueueName) -> &Arc<Shelf> {
        match queue {
            QueueName::Orders => &self.orders,
            QueueName::Notifications => &self.notifications,
            QueueName::Parked => &self.parked,
        }
    }

    /// Every roll is made, whatever the one before says: the dice stay in step when a fault is switched off.
    fn fate(&self) -> Fate {
        let faults = self.faults;
        let mut dice = lock(&self.dice);
        let refused = dice.happens(faults.refuse);
        let dropped = dice.happens(faults.drop);
        let lost = dice.happens(500);
        let doubled = dice.happens(faults.double);
        let (reordered, place) = (dice.happens(faults.reorder), dice.roll());
        let (delayed, share) = (dice.happens(faults.delay), dice.below(1001));
        let delay = faults.delay_max.mul_f64(share as f64 / 1000.0);
        Fate {
            refused,
            dropped,
            lost: dropped && lost,
            doubled,
            reordered: reordered.then_some(place),
            delay: delayed.then_some(delay),
        }
    }

    /// False: full.
    fn put(&self, shelf: &Arc<Shelf>, stored: Box<Stored>, fate: &Fate) -> bool {
        if let Some(delay) = fate.delay {
            let has_room = shelf.reserve();
            if has_room {
                let shelf = Arc::clone(shelf);
                tokio::spawn(async move {
                    sleep(delay).await;
                    shelf.put_reserved(stored);
                });
            }
            return has_room;
        }
        let place = match fate.reordered {
            Some(place) => usize::try_from(place).unwrap_or(usize::MAX) % (shelf.len() + 1),
            None => usize::MAX,
        };
        shelf.put_at(stored, place).is_ok()
    }
}

#[async_trait]
impl Broker for EmbeddedBroker {
    async fn publish(&self, envelope: &Envelope, patience: Duration) -> Published {
        if self.health() != Health::Ready {
            return Published::Refused(RefusedBecause::NotConnected);
        }
        let fate = self.fate();
        if fate.refused {
            return Published::Refused(RefusedBecause::Full);
        }
        let is_notice = matches!(envelope.message, Message::Notice(_));
        let (shelf, reply_to) =
            if is_notice { (&self.notifications, None) } else { (&self.orders, lock(&self.address).clone()) };
        let (settled, acked) = oneshot::channel();
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let stored = |settled| {
            Box::new(Stored {
                number,
                body: envelope.encode(),
                reply_to: reply_to.clone(),
                returns: 0,
                parked: None,
                settled,
            })
        };
        if !fate.lost {
            if !self.put(shelf, stored(is_notice.then_some(settled)), &fate) {
                return Published::Refused(RefusedBecause::Full);
            }
            if fate.doubled {
                // The copy has no place of its own: it is dropped when there is none.
                let _ = shelf.put(stored(None));
            }
        }
        if fate.dropped {
            return Published::Unknown;
        }
        if !is_notice {
            return Published::Kept;
        }
        match timeout(patience.min(NOTICE_MAX), acked).await {
            Ok(Ok(())) => Published::Kept,
            // Still where nobody has seen it: it is taken back, and surely not taken.
            Err(_) if shelf.take_away(number) => Published::Refused(RefusedBecause::Full),
            Ok(Err(_)) | Err(_) => Published::Unknown,
        }
    }

    async fn consume(&self, queue: QueueName, prefetch: u16) -> Deliveries {
        let (out, deliveries) = mpsc::channel(1);
        let (shelf, parked) = (Arc::clone(self.shelf(queue)), Arc::clone(&self.parked));
        let prefetch = Arc::new(Semaphore::new(usize::from(prefetch.clamp(1, PREFETCH_MAX))));
        let stop = self.stop_consuming.clone();
        shelf.add_consumer();
        tokio::spawn(async move {
            let taking = async {
                while let (Ok(place), Ok(room)) = (out.reserve().await, Arc::clone(&prefetch).acquire_owned().await) {
                    place.send(held::hand_out(shelf.take().await, &shelf, &parked, room));
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = out.closed() => {}
                () = taking => {}
            }
            shelf.remove_consumer();
        });
        deliveries
    }

    async fn listen(&self) -> mpsc::Receiver<Heard> {
        let (out, heard) = mpsc::channel(self.replies_max);
        let address = format!("embedded.reply.{}", self.numbers.fetch_add(1, Ordering::Relaxed));
        let mut ears = lock(&self.ears);
        if let Some(earlier) = lock(&self.address).replace(address.clone()) {
            ears.remove(&earlier);
        }
        ears.insert(address, Ear { out, missed: false });
        heard
    }

    async fn reply(&self, reply_to: &str, reply: &Reply, _patience: Duration) {
        let fate = self.fate();
        if fate.dropped {
            return;
        }
        match fate.delay {
            None => tell(&self.ears, reply_to, reply.clone()),
            Some(delay) => {
                let (ears, address, reply) = (Arc::clone(&self.ears), reply_to.to_owned(), reply.clone());
                tokio::spawn(async move {
                    sleep(delay).await;
                    tell(&ears, &address, reply);
                });
            }
        }
    }

    fn health(&self) -> Health {
        *self.health.borrow()
    }

    fn health_changes(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    async fn depth(&self, queue: QueueName) -> Option<Depth> {
        Some(self.shelf(queue).depth())
    }

    async fn stop_consuming(&self) {
        self.stop_consuming.cancel();
    }

    async fn close(&self) {
        self.stop_consuming.cancel();
        self.health.send_replace(Health::Down);
        lock(&self.ears).clear();
    }
}

/// A front that is gone is forgotten; one that does not keep up hears that it missed something.
fn tell(ears: &Mutex<HashMap<String, Ear>>, address: &str, reply: Reply) {
    let mut ears = lock(ears);
    let Some(ear) = ears.get_mut(address) else { return };
    if ear.out.is_closed() {
        ears.remove(address);
        return;
    }
    if ear.missed {
        ear.missed = ear.out.try_send(Heard::Interrupted).is_err();
    }
    ear.missed |= ear.out.try_send(Heard::Reply(reply)).is_err();
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
