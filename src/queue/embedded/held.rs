//! A message in a worker's hands.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::OwnedSemaphorePermit;

use super::shelf::{Shelf, Stored};
use crate::queue::{Delivery, ParkedAs, Settle};

pub(super) struct Held {
    /// Taken when it is settled.
    stored: Option<Box<Stored>>,
    shelf: Arc<Shelf>,
    parked: Arc<Shelf>,
    /// One of the consumer's prefetch.
    _room: OwnedSemaphorePermit,
}

pub(super) fn hand_out(
    mut stored: Box<Stored>,
    shelf: &Arc<Shelf>,
    parked: &Arc<Shelf>,
    room: OwnedSemaphorePermit,
) -> Delivery {
    let body = std::mem::take(&mut stored.body);
    let (reply_to, redelivered, parked_as) = (stored.reply_to.clone(), stored.returns > 0, stored.parked.clone());
    // The body is the worker's to read and ours to keep: it may come back.
    stored.body.clone_from(&body);
    let held = Held { stored: Some(stored), shelf: Arc::clone(shelf), parked: Arc::clone(parked), _room: room };
    Delivery::new(body, reply_to, redelivered, Box::new(held)).parked_as(parked_as)
}

impl Held {
    /// The message itself moves on; whoever waits for it waits for its last acknowledgement.
    fn park_as(&self, mut stored: Box<Stored>, reason: &str) -> Result<(), Box<Stored>> {
        stored.parked = Some(ParkedAs { reason: reason.to_owned(), queue: self.shelf.name.to_owned() });
        stored.returns = 0;
        self.parked.put(stored)
    }
}

#[async_trait]
impl Settle for Held {
    async fn ack(mut self: Box<Self>) -> bool {
        if let Some(settled) = self.stored.take().and_then(|stored| stored.settled) {
            // An error says that nobody waits any more.
            let _ = settled.send(());
        }
        true
    }

    async fn park(mut self: Box<Self>, _body: Vec<u8>, reason: &str) -> bool {
        let Some(stored) = self.stored.take() else { return false };
        match self.park_as(stored, reason) {
            Ok(()) => true,
            Err(mut stored) => {
                stored.parked = None;
                self.stored = Some(stored);
                false
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(mut stored) = self.stored.take() else { return };
        stored.returns += 1;
        let poison = stored.is_poison() && stored.parked.is_none();
        let left = if poison { self.park_as(stored, "delivery_limit").err() } else { Some(stored) };
        if let Some(stored) = left {
            self.shelf.put_back(stored);
        }
    }
}
