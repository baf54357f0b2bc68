//! Making an order's numbers unpayable because it is over, or because its merchant wants it closed.

use std::sync::Arc;

use super::{Change, StepError, Steps, budget::Permit, query::Answer, registry::Channel};
use crate::{
    domain::{
        attempt::{Attempt, Retirement},
        id::{AttemptNo, OrderId},
        order::{Order, OrderEvent, OrderState},
    },
    gateway::{CloseAnswer, GatewayError},
};

impl Steps {
    /// An order past its expiry, or closed by its merchant, with nothing payable and nothing disputed, is closed. Answers whether
    /// it was closed now.
    pub async fn close_when_over(&self, id: OrderId) -> Result<bool, StepError> {
        let Some(order) = self.order(id).await? else { return Ok(false) };
        let over = self.now() > order.expire_at.plus(Order::SETTLED_AFTER_EXPIRY) || order.is_closing();
        if over && order.state == OrderState::Waiting && !order.is_disputed() {
            return Ok(matches!(self.change(&order, [OrderEvent::Closed], None).await?, Change::Done(_)));
        }
        Ok(false)
    }

    /// What the answer about a number of an order that is over comes to. True: the number is settled.
    pub(super) async fn end_number(
        &self,
        answer: Answer,
        no: AttemptNo,
        channel: &Arc<Channel>,
        permit: &Permit,
    ) -> Result<bool, StepError> {
        match answer {
            Answer::Settled => Ok(true),
            Answer::Unpaid(order) => self.close_or_hear(&order, no, channel, permit).await,
            Answer::NotExist(order) => self.end_unknown_number(&order, no, channel, permit).await,
            Answer::Unknown { .. } => Ok(false),
        }
    }

    async fn end_unknown_number(
        &self,
        order: &Order,
        no: AttemptNo,
        channel: &Arc<Channel>,
        permit: &Permit,
    ) -> Result<bool, StepError> {
        if order.attempt(no).is_some_and(Attempt::refused_outright) {
            let refused = OrderEvent::AttemptRetired { attempt: no, how: Retirement::Refused };
            return Ok(matches!(self.change(order, [refused], None).await?, Change::Done(_)));
        }
        if self.now() > order.expire_at.plus(Order::LAPSED_AFTER_EXPIRY) {
            let lapsed = OrderEvent::AttemptRetired { attempt: no, how: Retirement::Lapsed };
            return Ok(self.record(order.id, || vec![lapsed.clone()], None).await?.is_some());
        }
        // Past its expiry nothing can be made to exist; it lapses.
        if order.is_closing() && order.expire_at.since(self.now()) >= Order::LAST_PREPAY {
            let Some(order) = self.make_exist(order, no, channel, permit).await? else { return Ok(false) };
            return match self.ask(&order, no, channel, permit).await? {
                Answer::Settled => Ok(true),
                Answer::Unpaid(order) => self.close_or_hear(&order, no, channel, permit).await,
                Answer::NotExist(_) | Answer::Unknown { .. } => Ok(false),
            };
        }
        Ok(false)
    }

    /// *Not exist* is not closed: a late copy of a send could still make it payable. So it is made to exist, to be closed then;
    /// the late copy meets a closed number. The order as it is after the send; `None` when somebody else moved it before.
    pub(super) async fn make_exist(
        &self,
        order: &Order,
        no: AttemptNo,
        channel: &Arc<Channel>,
        permit: &Permit,
    ) -> Result<Option<Box<Order>>, StepError> {
        let Change::Done(order) = self.change(order, [OrderEvent::SentAgain { attempt: no }], None).await? else {
            return Ok(None);
        };
        let Some(attempt) = order.attempt(no) else { return Ok(None) };
        if let Err(GatewayError::Refused { code, .. } | GatewayError::Busy { code, .. }) =
            self.send_frozen(&order, attempt, channel, permit).await
        {
            tracing::warn!(out_trade_no = %order.out_trade_no(no), code, "a number that may exist cannot be made to exist");
            self.record(order.id, || vec![OrderEvent::SendRefused { attempt: no }], None).await?;
        }
        Ok(self.order(order.id).await?.map(Box::new))
    }

    /// A payment may win against the close, or the close's answer be lost: whatever is not "closed" is asked about once more.
    async fn close_or_hear(
        &self,
        order: &Order,
        no: AttemptNo,
        channel: &Arc<Channel>,
        permit: &Permit,
    ) -> Result<bool, StepError> {
        Ok(self.close_number(order, no, channel, permit).await?
            || matches!(self.ask(order, no, channel, permit).await?, Answer::Settled))
    }

    /// Closes a number at its wallet. False: the wallet did not say closed, and only a question can tell why.
    pub(crate) async fn close_number(
        &self,
        order: &Order,
        no: AttemptNo,
        channel: &Arc<Channel>,
        permit: &Permit,
    ) -> Result<bool, StepError> {
        let Ok(gateway) = channel.gateway() else { return Ok(false) };
        let number = order.out_trade_no(no);
        let answer = gateway.close(&number).await;
        self.report(permit, answer.as_ref().err());
        match answer {
            Ok(CloseAnswer::Closed) => {
                let retired = OrderEvent::AttemptRetired { attempt: no, how: Retirement::Closed };
                self.record(order.id, || vec![retired.clone()], None).await?;
                Ok(true)
            }
            Ok(CloseAnswer::NotExist | CloseAnswer::AskFirst) => Ok(false),
            Err(error) => {
                tracing::warn!(out_trade_no = %number, %error, "the wallet did not close a number");
                Ok(false)
            }
        }
    }
}
