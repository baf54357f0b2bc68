//! Making a number unpayable before another may be opened: for another payer, or another wallet.

use std::sync::Arc;

use super::{
    Change, StepError,
    budget::Permit,
    hold::Held,
    prepay::{Round, Run},
    query::Answer,
    registry::Channel,
};
use crate::domain::{
    attempt::Retirement,
    id::AttemptNo,
    order::{Order, OrderEvent},
    outcome::Outcome,
};

/// Whether the wallet's word lets another number be opened.
enum Shut {
    /// Committed: decide again, the order is free or paid.
    Settled,
    /// The wallet does not know the number.
    NotExist(Box<Order>),
    /// Not now: the phone asks again.
    NotYet(Box<Order>),
}

impl Run<'_> {
    /// The open number belongs to somebody else. Only the wallet's "closed" frees the order; "paid" wins.
    pub(super) async fn retire(&self, order: &Order, no: AttemptNo) -> Result<Round, StepError> {
        let Held { order, channel, permit } = match self.hold(order, no).await? {
            Ok(held) => held,
            Err(round) => return Ok(round),
        };
        match self.shut(&order, no, &channel, &permit).await? {
            Shut::Settled => Ok(Round::Again),
            Shut::NotYet(order) => self.leave_open(&order, Outcome::Processing).await,
            Shut::NotExist(order) => self.make_exist_then_shut(&order, no, &channel, &permit).await,
        }
    }

    /// Query, then close.
    async fn shut(
        &self,
        order: &Order,
        no: AttemptNo,
        channel: &Arc<Channel>,
        permit: &Permit,
    ) -> Result<Shut, StepError> {
        match self.steps.ask(order, no, channel, permit).await? {
            Answer::Settled => Ok(Shut::Settled),
            Answer::NotExist(order) => Ok(Shut::NotExist(order)),
            Answer::Unknown { order, .. } => Ok(Shut::NotYet(order)),
            Answer::Unpaid(order) => self.close(&order, no, channel, permit).await,
        }
    }

    /// A payment may win the race against the close: whatever is not "closed" is asked about again.
    async fn close(
        &self,
        order: &Order,
        no: AttemptNo,
        channel: &Arc<Channel>,
        permit: &Permit,
    ) -> Result<Shut, StepError> {
        // A close that would begin past the deadline is left to whoever asks next.
        if self.overdue() {
            return Ok(Shut::NotYet(Box::new(order.clone())));
        }
        if self.steps.close_number(order, no, channel, permit).await? {
            return Ok(Shut::Settled);
        }
        match self.steps.ask(order, no, channel, permit).await? {
            Answer::Settled => Ok(Shut::Settled),
            Answer::NotExist(order) => Ok(Shut::NotExist(order)),
            Answer::Unpaid(order) | Answer::Unknown { order, .. } => Ok(Shut::NotYet(order)),
        }
    }

    /// The number is made to exist, then closed; one whose every send was refused outright needs none of this.
    async fn make_exist_then_shut(
        &self,
        order: &Order,
        no: AttemptNo,
        channel: &Arc<Channel>,
        permit: &Permit,
    ) -> Result<Round, StepError> {
        let Some(attempt) = order.attempt(no) else { return Ok(Round::Again) };
        if attempt.refused_outright() {
            let retired = OrderEvent::AttemptRetired { attempt: no, how: Retirement::Refused };
            return match self.steps.change(order, [retired], None).await? {
                Change::Done(_) | Change::Stale => Ok(Round::Again),
            };
        }
        if self.overdue() {
            return self.leave_open(order, Outcome::Processing).await;
        }
        let Some(order) = self.steps.make_exist(order, no, channel, permit).await? else { return Ok(Round::Again) };
        match self.shut(&order, no, channel, permit).await? {
            Shut::Settled => Ok(Round::Again),
            Shut::NotExist(order) | Shut::NotYet(order) => self.leave_open(&order, Outcome::Processing).await,
        }
    }
}
