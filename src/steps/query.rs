//! Asking a wallet about one number, and what its answer does to the order.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Change, StepError, Steps, budget::Permit, registry::Channel};
use crate::{
    domain::{
        attempt::{Attempt, AttemptState, Dispute, Mismatch, Payment, Retirement, Ticket},
        id::{AttemptNo, OrderId, TradeNo},
        money::Fen,
        order::{Asked, Order, OrderEvent, OrderState},
    },
    gateway::{GatewayError, PaidTrade, TradeState},
    store::Postponed,
};

/// What the wallet's answer came to, the order as it is after it.
pub(crate) enum Answer {
    /// Paid, disputed or retired, and committed: the order's row gives the next answer.
    Settled,
    /// Known to the wallet and not paid.
    Unpaid(Box<Order>),
    NotExist(Box<Order>),
    /// The wallet did not tell. `retry_in`: it had no room for the question, and may have by then.
    Unknown {
        order: Box<Order>,
        retry_in: Option<Duration>,
    },
}

impl Steps {
    /// Asks the wallet about an attempt and commits what it says.
    pub(crate) async fn ask(
        &self,
        order: &Order,
        no: AttemptNo,
        channel: &Arc<Channel>,
        permit: &Permit,
    ) -> Result<Answer, StepError> {
        let here = || Box::new(order.clone());
        let unknown = |retry_in| Answer::Unknown { order: here(), retry_in };
        let Ok(gateway) = channel.gateway() else { return Ok(unknown(None)) };
        let number = order.out_trade_no(no);
        let started = Instant::now();
        let answer = gateway.query(&number).await;
        metrics::histogram!("prepay_query_seconds", "wallet" => channel.account.wallet.as_str())
            .record(started.elapsed());
        self.report(permit, answer.as_ref().err());
        match answer {
            Ok(TradeState::Unpaid) => Ok(Answer::Unpaid(here())),
            Ok(TradeState::NotExist) => Ok(Answer::NotExist(here())),
            Ok(state @ (TradeState::Paid(_) | TradeState::Closed)) => {
                if self.take_in(order, no, state, channel).await? { Ok(Answer::Settled) } else { Ok(unknown(None)) }
            }
            Err(error) => {
                tracing::warn!(out_trade_no = %number, %error, "the wallet did not tell a number's state");
                let retry_in = match error {
                    GatewayError::Busy { retry_in, .. } => Some(retry_in),
                    _ => None,
                };
                Ok(unknown(retry_in))
            }
        }
    }

    /// Takes in what a wallet said, verified, about an attempt: by query or by notice. False: it says nothing that settles it.
    ///
    /// Facts are recorded however often somebody else is first. `read_by` is the channel whose gateway read it.
    pub(crate) async fn take_in(
        &self,
        order: &Order,
        no: AttemptNo,
        state: TradeState,
        read_by: &Arc<Channel>,
    ) -> Result<bool, StepError> {
        let event = match state {
            TradeState::Unpaid | TradeState::NotExist => return Ok(false),
            TradeState::Closed => OrderEvent::AttemptRetired { attempt: no, how: Retirement::Closed },
            TradeState::Paid(paid) => match compare(order.amount, &paid) {
                Compared::Ours => OrderEvent::PaymentConfirmed {
                    attempt: no,
                    payment: Payment {
                        trade_no: paid.trade_no,
                        payer_amount: paid.payer_amount,
                        paid_at: paid.paid_at,
                    },
                },
                Compared::NotOurs(what) => {
                    // Looked at by a person already, or waiting for one: the wallet only says it again.
                    if order.attempt(no).is_some_and(|attempt| is_looked_at(&attempt.state, &paid.trade_no)) {
                        return Ok(true);
                    }
                    // A dispute is for a person to end: nobody disputes by what may be out of date.
                    if !self.registry.is_as_stored(read_by).await {
                        tracing::warn!(out_trade_no = %order.out_trade_no(no), %what, "a payment looks foreign to accounts that were read before; it is judged by those read now");
                        return Ok(false);
                    }
                    tracing::error!(out_trade_no = %order.out_trade_no(no), %what, "a wallet calls a number paid that is not paid like the order");
                    let (payer_amount, paid_at) = (paid.payer_amount, Some(paid.paid_at));
                    let dispute = Dispute { what, payer_amount, paid_at };
                    OrderEvent::PaymentDisputed { attempt: no, trade_no: paid.trade_no, dispute }
                }
                Compared::Untold => {
                    tracing::error!(out_trade_no = %order.out_trade_no(no), "a wallet calls a number paid and does not tell the amount; it is asked again");
                    return Ok(false);
                }
            },
        };
        let recorded = self.record(order.id, || vec![event.clone()], None).await?;
        if recorded.is_none() {
            tracing::warn!(out_trade_no = %order.out_trade_no(no), event = event.name(), "the order cannot take what the wallet says");
        }
        Ok(true)
    }

    /// Sends an attempt's frozen bytes once.
    pub(crate) async fn send_frozen(
        &self,
        order: &Order,
        attempt: &Attempt,
        channel: &Arc<Channel>,
        permit: &Permit,
    ) -> Result<Ticket, GatewayError> {
        let wallet = channel.account.wallet;
        let gateway = channel.gateway().map_err(|reason| GatewayError::Unknown { wallet, cause: reason.to_owned() })?;
        let started = Instant::now();
        let answer = gateway.prepay(&order.out_trade_no(attempt.no), &attempt.frozen).await;
        metrics::histogram!("prepay_prepay_seconds", "wallet" => wallet.as_str()).record(started.elapsed());
        self.report(permit, answer.as_ref().err());
        answer
    }

    /// Tells the account's budget how its wallet does.
    pub(crate) fn report(&self, permit: &Permit, error: Option<&GatewayError>) {
        match error {
            None | Some(GatewayError::Refused { .. } | GatewayError::AskFirst { .. }) => permit.answered(),
            Some(GatewayError::Busy { retry_in, .. }) => permit.throttled(self.now(), *retry_in),
            Some(GatewayError::Unknown { .. }) => permit.silent(self.now()),
        }
    }

    /// The scheduler's question about an attempt. An answer that settles nothing puts the next one on the timetable; past the
    /// order's expiry, or beside a payment, an unpaid number is closed.
    pub async fn question(&self, order_id: OrderId, no: AttemptNo) -> Result<(), StepError> {
        let Some(order) = self.order(order_id).await? else { return Ok(()) };
        let Some(attempt) = order.attempt(no).filter(|attempt| attempt.may_be_payable()) else { return Ok(()) };
        let now = self.now();
        let Some(channel) = self.registry.channel(attempt.account) else {
            return Err(StepError::NotYet(format!("channel account {} is not known here", attempt.account)));
        };
        let permit = match channel.questions.admit(now) {
            Ok(permit) => permit,
            Err(no_room) => {
                // Not asked is not asked: the timetable stays where it is, and so does the order.
                metrics::counter!("prepay_questions_postponed_total", "wallet" => channel.account.wallet.as_str())
                    .increment(1);
                let until = now.plus(no_room.retry_in);
                return Ok(self.store.postpone_query(order.id, attempt, until, Postponed::NoRoom).await?);
            }
        };
        let over = now > order.expire_at.plus(Order::SETTLED_AFTER_EXPIRY)
            || matches!(order.state, OrderState::Paid { .. } | OrderState::Closed { .. })
            || order.is_closing();
        let answer = self.ask(&order, no, &channel, &permit).await?;
        let settled = match answer {
            Answer::Settled => true,
            // A page that waits takes a question that is counted for an answer.
            Answer::Unknown { retry_in, .. } => {
                let (again, why) = match retry_in {
                    Some(retry_in) => (retry_in, Postponed::NoRoom),
                    None => (order.ask_again_in(attempt, Asked::InVain, now), Postponed::NoAnswer),
                };
                return Ok(self.store.postpone_query(order.id, attempt, self.now().plus(again), why).await?);
            }
            answer => over && self.end_number(answer, no, &channel, &permit).await?,
        };
        if settled {
            return self.close_when_over(order_id).await.map(drop);
        }
        self.ask_next_in_time(order, no).await
    }

    /// Puts the next question on the timetable, unless whoever moved the order meanwhile did. What closing moved of it is no such move.
    async fn ask_next_in_time(&self, mut order: Order, no: AttemptNo) -> Result<(), StepError> {
        const ROUNDS: usize = 5;
        let place = |order: &Order| order.attempt(no).map(|attempt| (attempt.queries, attempt.next_query_at));
        let seen = place(&order);
        for _ in 0..ROUNDS {
            if let Change::Done(_) = self.change(&order, [OrderEvent::Asked { attempt: no }], None).await? {
                return Ok(());
            }
            match self.order(order.id).await? {
                Some(fresh) if place(&fresh) == seen => order = fresh,
                _ => return Ok(()),
            }
        }
        Ok(())
    }
}

/// Whether this trade of a number is one that was paid unlike the order, and known to be.
fn is_looked_at(state: &AttemptState, trade_no: &TradeNo) -> bool {
    match state {
        AttemptState::Disputed { trade_no: known, .. } | AttemptState::LetGo { trade_no: known, .. } => {
            known == trade_no
        }
        _ => false,
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Compared {
    Ours,
    NotOurs(Mismatch),
    /// The answer does not carry the amount: not enough to believe in money.
    Untold,
}

/// Amount and payee against the row; what the payer paid after coupons is not compared. The amount comes first: only what
/// differs in the payee alone may ever be taken for the order's.
fn compare(ordered: Fen, paid: &PaidTrade) -> Compared {
    match (paid.amount, paid.foreign.clone()) {
        (Some(paid), _) if paid != ordered => Compared::NotOurs(Mismatch::Amount { paid, ordered }),
        (Some(_), Some(field)) => Compared::NotOurs(Mismatch::Foreign { field }),
        (None, Some(field)) => Compared::NotOurs(Mismatch::ForeignWithoutAmount { field }),
        (Some(_), None) => Compared::Ours,
        (None, None) => Compared::Untold,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;

    #[test]
    fn only_a_payee_that_differs_beside_the_right_amount_may_be_taken() {
        let fen = |fen| Fen::new(fen).unwrap();
        let compared = |amount: Option<i64>, foreign: Option<&str>| {
            let paid = PaidTrade {
                trade_no: TradeNo::parse("42").unwrap(),
                amount: amount.map(fen),
                payer_amount: None,
                paid_at: Timestamp::from_secs(1),
                foreign: foreign.map(str::to_owned),
            };
            compare(fen(1999), &paid)
        };
        let other = || Compared::NotOurs(Mismatch::Amount { paid: fen(1), ordered: fen(1999) });
        let field = || "mchid".to_owned();
        assert_eq!(compared(Some(1999), None), Compared::Ours);
        assert_eq!(compared(Some(1), None), other());
        assert_eq!(compared(Some(1), Some("mchid")), other());
        assert_eq!(compared(Some(1999), Some("mchid")), Compared::NotOurs(Mismatch::Foreign { field: field() }));
        assert_eq!(compared(None, Some("mchid")), Compared::NotOurs(Mismatch::ForeignWithoutAmount { field: field() }));
        assert_eq!(compared(None, None), Compared::Untold);
    }
}
