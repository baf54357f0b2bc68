//! One queue in memory: a bound, consumers with a prefetch, and what is dropped unsettled comes back first.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, oneshot};

use crate::queue::{Depth, ParkedAs};

/// After so many returns a message is parked, as on RabbitMQ.
const DELIVERY_LIMIT: u32 = 20;

/// One message that waits or is held.
pub(super) struct Stored {
    /// Tells messages apart when one is taken back.
    pub(super) number: u64,
    pub(super) body: Vec<u8>,
    pub(super) reply_to: Option<String>,
    pub(super) returns: u32,
    pub(super) parked: Option<ParkedAs>,
    /// Whoever waits until a worker has acknowledged it.
    pub(super) settled: Option<oneshot::Sender<()>>,
}

impl Stored {
    pub(super) fn is_poison(&self) -> bool {
        self.returns > DELIVERY_LIMIT
    }
}

#[derive(Default)]
struct Inner {
    ready: VecDeque<Box<Stored>>,
    /// Kept, and on their way here.
    delayed: usize,
    consumers: u32,
}

pub(super) struct Shelf {
    pub(super) name: &'static str,
    max: usize,
    inner: Mutex<Inner>,
    /// Rung once for each message that becomes ready; a consumer that finds more rings on.
    bell: Notify,
}

impl Shelf {
    pub(super) fn new(name: &'static str, max: usize) -> Arc<Self> {
        Arc::new(Self { name, max: max.max(1), inner: Mutex::default(), bell: Notify::new() })
    }

    /// Takes a message at the end, or gives it back when the shelf is full.
    pub(super) fn put(&self, stored: Box<Stored>) -> Result<(), Box<Stored>> {
        self.put_at(stored, usize::MAX)
    }

    /// The same, at any place among those that wait.
    pub(super) fn put_at(&self, stored: Box<Stored>, place: usize) -> Result<(), Box<Stored>> {
        let mut inner = self.lock();
        if inner.ready.len() + inner.delayed >= self.max {
            return Err(stored);
        }
        let place = place.min(inner.ready.len());
        inner.ready.insert(place, stored);
        drop(inner);
        self.bell.notify_one();
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.lock().ready.len()
    }

    /// Room for a message that comes later. False: full.
    pub(super) fn reserve(&self) -> bool {
        let mut inner = self.lock();
        let has_room = inner.ready.len() + inner.delayed < self.max;
        inner.delayed += usize::from(has_room);
        has_room
    }

    /// The message whose room was reserved.
    pub(super) fn put_reserved(&self, stored: Box<Stored>) {
        let mut inner = self.lock();
        inner.delayed -= 1;
        inner.ready.push_back(stored);
        drop(inner);
        self.bell.notify_one();
    }

    /// Comes back: first in the queue, bound or not, for it was kept once.
    pub(super) fn put_back(&self, stored: Box<Stored>) {
        self.lock().ready.push_front(stored);
        self.bell.notify_one();
    }

    /// Waits for the next message. Safe to drop.
    pub(super) async fn take(&self) -> Box<Stored> {
        loop {
            let rung = self.bell.notified();
            if let Some(stored) = self.take_ready() {
                return stored;
            }
            rung.await;
        }
    }

    fn take_ready(&self) -> Option<Box<Stored>> {
        let mut inner = self.lock();
        let stored = inner.ready.pop_front()?;
        if !inner.ready.is_empty() {
            self.bell.notify_one();
        }
        Some(stored)
    }

    /// Takes a message away before anybody has it. False: too late.
    pub(super) fn take_away(&self, number: u64) -> bool {
        let mut inner = self.lock();
        let before = inner.ready.len();
        inner.ready.retain(|stored| stored.number != number);
        inner.ready.len() < before
    }

    pub(super) fn add_consumer(&self) {
        self.lock().consumers += 1;
    }

    pub(super) fn remove_consumer(&self) {
        let mut inner = self.lock();
        inner.consumers = inner.consumers.saturating_sub(1);
    }

    pub(super) fn depth(&self) -> Depth {
        let inner = self.lock();
        Depth { ready: u32::try_from(inner.ready.len()).unwrap_or(u32::MAX), consumers: inner.consumers }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
