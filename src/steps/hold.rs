//! What a command holds while it calls a wallet: places at channel accounts, and its order's lease.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{
    Change, StepError,
    budget::{NoRoom, Permit},
    prepay::{Round, Run},
    registry::Channel,
};
use crate::domain::{
    id::{AccountId, AttemptNo},
    order::{Order, OrderEvent},
    outcome::Refusal,
    time::Timestamp,
};

/// The right to call an order's wallet.
pub(super) struct Held {
    pub order: Box<Order>,
    pub channel: Arc<Channel>,
    pub permit: Arc<Permit>,
}

/// The places that a command has taken, one an account.
#[derive(Default)]
pub(super) struct Rooms(Mutex<Vec<(AccountId, Arc<Permit>)>>);

impl Rooms {
    /// A place at an account's payments: the one in hand, if there is one. Errors: [`NoRoom`].
    fn take(&self, channel: &Channel, now: Timestamp) -> Result<Arc<Permit>, NoRoom> {
        let mut places = self.places();
        if let Some((_, held)) = places.iter().find(|(account, _)| *account == channel.account.id) {
            return Ok(held.clone());
        }
        let permit = Arc::new(channel.payments.admit(now)?);
        places.push((channel.account.id, permit.clone()));
        Ok(permit)
    }

    /// Whoever waits for another calls no wallet, and leaves its places to those who do.
    pub fn leave(&self) {
        self.places().clear();
    }

    fn places(&self) -> MutexGuard<'_, Vec<(AccountId, Arc<Permit>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Run<'_> {
    pub(super) fn room(&self, channel: &Channel) -> Result<Arc<Permit>, NoRoom> {
        self.rooms.take(channel, self.steps.now())
    }

    /// Room at the number's channel account and the order's lease, or what the command comes to without them.
    pub(super) async fn hold(&self, order: &Order, no: AttemptNo) -> Result<Result<Held, Round>, StepError> {
        let Some(channel) = self.channel_of(order, no) else {
            return Ok(Err(self.refuse(Refusal::InternalError).await?));
        };
        let permit = match self.room(&channel) {
            Ok(permit) => permit,
            Err(no_room) => return Ok(Err(self.busy(no_room.retry_in).await?)),
        };
        match self.steps.change(order, [self.lease(self.steps.now()), OrderEvent::WalletAsked], None).await? {
            Change::Stale => Ok(Err(Round::Again)),
            Change::Done(order) => {
                self.calls_wallet();
                Ok(Ok(Held { order, channel, permit }))
            }
        }
    }

    pub(super) fn channel_of(&self, order: &Order, no: AttemptNo) -> Option<Arc<Channel>> {
        self.steps.registry.channel(order.attempt(no)?.account)
    }

    pub(super) fn lease(&self, now: Timestamp) -> OrderEvent {
        OrderEvent::LeaseTaken { command: self.command.id, until: self.lease_until(now) }
    }

    pub(super) fn lease_released(&self) -> OrderEvent {
        OrderEvent::LeaseReleased { command: self.command.id }
    }

    pub(super) fn lease_until(&self, now: Timestamp) -> Timestamp {
        now.max(self.command.not_after).plus(self.steps.settings.lease_margin)
    }

    pub(super) fn holds_lease(&self, order: &Order) -> bool {
        order.lease.is_some_and(|lease| lease.command == self.command.id)
    }
}
