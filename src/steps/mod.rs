//! What worker and scheduler share: one wallet step each, every one safe to be the last thing this process does.

use std::{path::PathBuf, time::Duration};

use crate::{
    clock::Clock,
    domain::{
        command::PrepayCommand,
        id::{CommandId, OrderId},
        order::{Moved, NotAllowed, Order, OrderEvent, Step},
        outcome::Outcome,
        time::Timestamp,
    },
    gateway::BillLimits,
    store::{Commit, Committed, Store, StoreError},
};

pub mod budget;
mod close;
pub mod deliver;
mod hold;
pub mod notice;
mod payer;
pub mod plan;
mod policy;
pub mod prepay;
pub mod query;
mod refund;

pub mod reconcile;
pub mod registry;
mod retire;
mod settle;
pub mod turns;

pub use registry::{Channel, Registry};

/// Bounds of the steps.
#[derive(Debug, Clone)]
pub struct StepSettings {
    /// How long a command waits for another that holds the order, before it is settled *processing*.
    pub wait_for_other: Duration,
    /// How long past its command's deadline a lease lives: longer than the questions that may follow the last send.
    pub lease_margin: Duration,
    /// The latest deadline that a command may carry, from now: the longest wait of a front and clocks apart.
    pub deadline_max: Duration,
    /// `notify_url` of an account is `{this}/notify/{wallet}/{account}`.
    pub public_url: String,
    /// How far apart two sends of refunds of one payment are (`wechat-pay.md` §8.4, `alipay.md` §8.1).
    pub wechat_refund_spacing: Duration,
    pub alipay_refund_spacing: Duration,
    /// Where a bill lies while it is matched: room for one unpacked, some 400 bytes a row. It names payers and is gone after.
    pub bills_dir: PathBuf,
    /// What a bill may take there; a larger one comes to nothing, and is told.
    pub bill_limits: BillLimits,
    /// How long after a bill that was not ready, or of no use, it is asked for again.
    pub bill_retry: Duration,
    /// How far apart a wallet's two times of one payment may be, the bill's and the query's: so near a midnight, a payment is
    /// looked for in both days' bills.
    pub bill_edge: Duration,
}

impl Default for StepSettings {
    fn default() -> Self {
        Self {
            wait_for_other: Duration::from_secs(2),
            lease_margin: Duration::from_secs(30),
            deadline_max: Duration::from_secs(15),
            public_url: String::new(),
            wechat_refund_spacing: Duration::from_secs(60),
            alipay_refund_spacing: Duration::from_secs(3),
            bills_dir: std::env::temp_dir(),
            bill_limits: BillLimits::default(),
            bill_retry: Duration::from_secs(30 * 60),
            bill_edge: Duration::from_secs(5 * 60),
        }
    }
}

/// A step that could not be done now or ever; everything else is an [`Outcome`].
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// Keep the message and try again.
    #[error("the store is not available: {0}")]
    StoreUnavailable(#[source] StoreError),
    /// Something this process does not know yet (a fresh account, a fresh key): keep the message and try again for a while.
    #[error("not yet: {0}")]
    NotYet(String),
    /// Others were first, again and again: keep the message and try again.
    #[error("order {0} is changed by others all the time")]
    Contended(OrderId),
    /// A person has to look: park the message.
    #[error("cannot be done: {0}")]
    Hopeless(String),
}

impl From<StoreError> for StepError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Corrupt { .. } => Self::Hopeless(error.to_string()),
            StoreError::Rejected { .. } | StoreError::Conflict { .. } => Self::NotYet(error.to_string()),
            StoreError::Busy { .. } | StoreError::Unavailable { .. } => Self::StoreUnavailable(error),
        }
    }
}

/// The steps with what they stand on.
#[derive(Clone)]
pub struct Steps {
    pub store: Store,
    pub registry: Registry,
    pub clock: Clock,
    pub settings: StepSettings,
}

/// What became of a change.
pub(crate) enum Change {
    /// Committed; this is the order now.
    Done(Box<Order>),
    /// Somebody was first, or the order cannot take it any more: load it again and decide anew.
    Stale,
}

impl Steps {
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Frees every leased order: for a process whose queue died with the one before it, so that no command of a lease is left.
    ///
    /// Errors: [`StepError`].
    pub async fn free_leases(&self) -> Result<usize, StepError> {
        let leased = self.store.leased_orders().await?;
        for id in &leased {
            let freed = async {
                let lease = self.order(*id).await?.and_then(|order| order.lease);
                let Some(lease) = lease else { return Ok(None) };
                self.record(*id, || vec![OrderEvent::LeaseReleased { command: lease.command }], None).await
            };
            if let Err(error) = freed.await {
                // One row that cannot be read must not keep the others waiting; its lease runs out.
                tracing::error!(order.id = %id, %error, "an order that was left half-way cannot be freed");
            }
        }
        Ok(leased.len())
    }

    /// A command as it is worked on: whoever can publish cannot hold an order for longer than a front could.
    pub fn received(&self, mut command: PrepayCommand) -> PrepayCommand {
        command.not_after = command.not_after.min(self.now().plus(self.settings.deadline_max));
        command
    }

    /// Loads an order that a command or an attempt names.
    pub(crate) async fn order(&self, id: OrderId) -> Result<Option<Order>, StepError> {
        Ok(self.store.load_order(id).await?)
    }

    /// Applies events in one commit, with the outcome they settle, if any.
    pub(crate) async fn change(
        &self,
        order: &Order,
        events: impl IntoIterator<Item = OrderEvent>,
        outcome: Option<(CommandId, &Outcome)>,
    ) -> Result<Change, StepError> {
        let now = self.now();
        match chain(order, events, now) {
            Ok(None) => {
                // Nothing moves; the outcome still has to be kept.
                if let Some((command, outcome)) = outcome {
                    self.store.put_outcome(command, order.id, outcome, now).await?;
                }
                Ok(Change::Done(Box::new(order.clone())))
            }
            Ok(Some(moved)) => match self.store.commit(Commit { moved: &moved, outcome, at: now }).await? {
                Committed::Done => Ok(Change::Done(Box::new(moved.order))),
                Committed::Stale => Ok(Change::Stale),
            },
            Err(refused) => {
                tracing::debug!(order.id = %order.id, %refused, "an order moved on meanwhile");
                Ok(Change::Stale)
            }
        }
    }

    /// Applies events to the order as it is by then, however often somebody else is first: for facts, which stay true.
    /// `None`: the order cannot take them any more. An outcome that the command has already stays, and the fact is recorded
    /// without ours: whoever settles a command looks for its outcome again.
    pub(crate) async fn record(
        &self,
        id: OrderId,
        events: impl Fn() -> Vec<OrderEvent>,
        outcome: Option<(CommandId, &Outcome)>,
    ) -> Result<Option<Order>, StepError> {
        const ROUNDS: usize = 20;
        let mut outcome = outcome;
        for _ in 0..ROUNDS {
            let Some(order) = self.order(id).await? else { return Ok(None) };
            if chain(&order, events(), self.now()).is_err() {
                return Ok(None);
            }
            if let Change::Done(order) = self.change(&order, events(), outcome).await? {
                return Ok(Some(*order));
            }
            if let Some((command, _)) = outcome
                && self.store.outcome(command).await?.is_some()
            {
                outcome = None;
            }
        }
        Err(StepError::Contended(id))
    }
}

/// Several events as one change; `None` when all of them are repeats.
fn chain(
    order: &Order,
    events: impl IntoIterator<Item = OrderEvent>,
    now: Timestamp,
) -> Result<Option<Moved>, NotAllowed> {
    let mut moved: Option<Moved> = None;
    for event in events {
        moved = match moved {
            Some(so_far) => Some(so_far.then(event, now)?),
            None => match order.apply(event, now)? {
                Step::Moved(first) => Some(*first),
                Step::AlreadyThere => None,
            },
        };
    }
    Ok(moved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refunds_of_one_payment_keep_the_wallets_distance() {
        let ours = StepSettings::default();
        let [wechat, alipay] = [60, 3].map(Duration::from_secs);
        assert_eq!((ours.wechat_refund_spacing, ours.alipay_refund_spacing), (wechat, alipay));
    }
}
