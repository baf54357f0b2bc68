//! One look at a refund: send it, ask about it, and record what the wallet says.
//!
//! Any await may be the last. Every send carries the same number and the same bytes, so a refund happens once however often it
//! is sent; whatever was sent and not answered is asked about before it is sent again.

use std::{sync::Arc, time::Duration};

use super::{StepError, Steps, budget::Permit, registry::Channel};
use crate::{
    domain::{
        attempt::Frozen,
        id::RefundId,
        refund::{HAD_FAILED, Initiator, Refund, RefundEvent, RefundMoved, RefundState, RefundStep, ask_again_in},
        time::Timestamp,
        wallet::Wallet,
    },
    gateway::{Gateway, GatewayError, RefundAsk, RefundFound, RefundSeen, RefundStatus, Refused},
    store::{RefundCommit, RefundCommitted},
};

/// A refund that found no room is looked at again after this long at least.
const POSTPONED_AT_LEAST: Duration = Duration::from_secs(5);
/// Alipay knows nothing about a refund sooner (`alipay.md` §8.2).
const ALIPAY_ASKED_AFTER: Duration = Duration::from_secs(10);
/// A balance that was too low, or a setting that was wrong, is not right a second later.
const PEOPLE_NEED: Duration = Duration::from_secs(60);

/// A wallet that throttles is asked less and less often, at most so seldom.
const BACKED_OFF_MOST: Duration = Duration::from_secs(300);

/// What became of a change of a refund.
enum Change {
    Done(Box<Refund>),
    /// Nothing was written: somebody was first, it was known, or its turn has not come. What stands in the row goes on.
    Left,
}

/// What a refund is worked on with.
struct At<'a> {
    steps: &'a Steps,
    channel: Arc<Channel>,
    gateway: Arc<dyn Gateway>,
    permit: Permit,
}

impl Steps {
    /// Brings a refund one step further. What cannot be done now is due again later, by its row.
    ///
    /// Errors: [`StepError`]; its lease runs out and it is looked at again.
    pub async fn refund(&self, id: RefundId) -> Result<(), StepError> {
        let Some(refund) = self.store.load_refund(id).await? else { return Ok(()) };
        let now = self.now();
        let usable = match self.registry.channel(refund.account) {
            None => Err("it is not known here".to_owned()),
            Some(channel) => {
                channel.gateway().cloned().map(|gateway| (channel.clone(), gateway)).map_err(str::to_owned)
            }
        };
        let (channel, gateway) = match usable {
            Ok(usable) => usable,
            Err(reason) => {
                // Put off, or the refunds of an account that nobody can use stand before everybody's at every look.
                self.store.postpone_refund(id, now.plus(PEOPLE_NEED)).await?;
                return Err(StepError::NotYet(format!("channel account {}: {reason}", refund.account)));
            }
        };
        let permit = match channel.refunds.admit(now) {
            Ok(permit) => permit,
            Err(no_room) => {
                let until = now.plus(no_room.retry_in.max(POSTPONED_AT_LEAST));
                return Ok(self.store.postpone_refund(id, until).await?);
            }
        };
        let at = At { steps: self, channel, gateway, permit };
        if refund.is_surely_unknown() {
            return at.send(refund).await;
        }
        if let Some(sent_at) = refund.sent_at.filter(|_| refund.wallet == Wallet::Alipay)
            && now.since(sent_at) < ALIPAY_ASKED_AFTER
        {
            return Ok(self.store.postpone_refund(id, sent_at.plus(ALIPAY_ASKED_AFTER)).await?);
        }
        at.ask_then_send(refund).await
    }

    /// How far apart two sends about one payment must be.
    pub(super) fn refund_spacing(&self, wallet: Wallet) -> Duration {
        match wallet {
            Wallet::WechatPay => self.settings.wechat_refund_spacing,
            Wallet::Alipay => self.settings.alipay_refund_spacing,
        }
    }

    /// Records what a wallet says about a refund: a fact, however often somebody else is first.
    ///
    /// Errors: [`StepError`].
    pub(super) async fn record_refund(&self, id: RefundId, event: RefundEvent) -> Result<Option<Refund>, StepError> {
        const ROUNDS: usize = 20;
        for _ in 0..ROUNDS {
            let Some(refund) = self.store.load_refund(id).await? else { return Ok(None) };
            let RefundStep::Moved(moved) = refund.apply(event.clone(), self.now()) else { return Ok(Some(refund)) };
            if let RefundCommitted::Done = self.commit_refund(&moved, Duration::ZERO).await? {
                return Ok(Some(moved.refund));
            }
        }
        Err(StepError::NotYet(format!("refund {id} is changed by others all the time")))
    }

    /// Writes a change of a refund, and what its merchant is told of it.
    async fn commit_refund(&self, moved: &RefundMoved, spacing: Duration) -> Result<RefundCommitted, StepError> {
        let refund = &moved.refund;
        let news = moved.news();
        let order = if news.is_some() { self.order(refund.order).await? } else { None };
        let told = order.as_ref().zip(news.as_ref());
        let done = self.store.commit_refund(RefundCommit { moved, spacing, told, at: self.now() }).await?;
        if done == RefundCommitted::Done && moved.is_news() {
            let status = refund.state.refund_status();
            let (wallet, ended) = (refund.wallet.as_str(), status.to_ascii_lowercase());
            metrics::counter!("prepay_refunds_total", "wallet" => wallet, "status" => ended).increment(1);
            tracing::info!(out_refund_no = %refund.out_refund_no(), status, "a refund is settled");
        }
        let fails = matches!(refund.state, RefundState::Failed { .. }) && moved.from_state != refund.state.name();
        if done == RefundCommitted::Done && fails && refund.initiator == Initiator::System {
            let number = refund.out_refund_no();
            tracing::error!(out_refund_no = %number, "a refund of unexpected money failed: a person is to look (`prepay order anomalies`)");
        }
        if done == RefundCommitted::Done && moved.from_state == "failed" && moved.shift.reserved > 0 {
            let number = refund.out_refund_no();
            tracing::error!(out_refund_no = %number, "a refund that had failed is made after all: compare the order's refunds with the wallet");
        }
        if done == RefundCommitted::Done && moved.from_state == "failed" && refund.hint.as_deref() == Some(HAD_FAILED) {
            let number = refund.out_refund_no();
            tracing::error!(out_refund_no = %number, "a refund that failed is at its wallet after all: it is asked about until it settles");
        }
        Ok(done)
    }
}

impl At<'_> {
    /// Whatever may have arrived is asked about first. What the wallet does not have is sent again, the same bytes.
    async fn ask_then_send(&self, refund: Refund) -> Result<(), StepError> {
        match self.ask(&refund).await {
            Ok(RefundFound::Seen(seen)) if is_definite(&refund, &seen) => self.take_in(&refund, &seen).await,
            Ok(RefundFound::Seen(seen)) if is_named(&seen) && refund.known_at.is_none() => {
                self.record(refund.id, RefundEvent::Known { hint: None }).await
            }
            Ok(RefundFound::NotExist) if matches!(refund.state, RefundState::Failed { .. }) => {
                self.record(refund.id, RefundEvent::Absent).await
            }
            Ok(found) if matches!(refund.state, RefundState::Sent | RefundState::Processing) => {
                if refund.known_at.is_some() && found == RefundFound::NotExist {
                    tracing::error!(out_refund_no = %refund.out_refund_no(), "a wallet does not know a refund that it had: it is asked for again under its number, and never called failed");
                }
                match refund.confirmable_at() {
                    None => self.send(refund).await,
                    Some(at) if at > self.steps.now() => Ok(self.steps.store.postpone_refund(refund.id, at).await?),
                    // Not known at the first look, nor at this one.
                    Some(_) => {
                        let why = refund.hint.clone().unwrap_or_else(|| "refused".to_owned());
                        self.record(refund.id, RefundEvent::Refused { why }).await
                    }
                }
            }
            Ok(_) => self.unsettled(&refund, None).await,
            Err(error) => self.unsettled(&refund, Some(error.to_string())).await,
        }
    }

    async fn ask(&self, refund: &Refund) -> Result<RefundFound, GatewayError> {
        let answer = self.gateway.refund_query(&refund.out_trade_no(), &refund.out_refund_no()).await;
        self.steps.report(&self.permit, answer.as_ref().err());
        answer
    }

    /// The send is recorded with its bytes, in the payment's turn, then made.
    async fn send(&self, refund: Refund) -> Result<(), StepError> {
        let frozen = match refund.frozen.clone().map_or_else(|| self.freeze(&refund), Ok) {
            Ok(frozen) => frozen,
            Err(why) => {
                tracing::warn!(out_refund_no = %refund.out_refund_no(), why, "a refund cannot be put to the wallet");
                // A decision about the row as it was loaded, not a fact: whoever sent it meanwhile knows better.
                return self.change(&refund, RefundEvent::GivenUp { why }).await.map(drop);
            }
        };
        let recorded = RefundEvent::SendRecorded { frozen: frozen.clone() };
        let Change::Done(refund) = self.change(&refund, recorded).await? else { return Ok(()) };
        if !refund.may_leave(self.steps.now()) {
            tracing::warn!(out_refund_no = %refund.out_refund_no(), "a refund was held up before its send, and was not sent");
            return self.again(&refund, "held up before its send".to_owned(), POSTPONED_AT_LEAST).await;
        }
        let answer = self.gateway.refund(&refund.out_trade_no(), &refund.out_refund_no(), &frozen).await;
        self.steps.report(&self.permit, answer.as_ref().err());
        match answer {
            Ok(seen) if is_definite(&refund, &seen) => self.take_in(&refund, &seen).await,
            Ok(_) => Ok(()),
            Err(GatewayError::Refused { code, why: Refused::Order, .. }) => self.refused(&refund, code).await,
            Err(GatewayError::AskFirst { code, taken: true, .. }) => {
                tracing::error!(out_refund_no = %refund.out_refund_no(), code, "the wallet says that it has this refund: a person looks there");
                self.record(refund.id, RefundEvent::Known { hint: Some(code) }).await
            }
            Err(GatewayError::AskFirst { code, .. }) => self.denied(&refund, code).await,
            Err(GatewayError::Refused { code, .. }) => {
                tracing::error!(out_refund_no = %refund.out_refund_no(), code, "a refund waits for people: the balance or the account at the wallet");
                self.again(&refund, code, PEOPLE_NEED.max(ask_again_in(refund.refusals))).await
            }
            Err(GatewayError::Busy { code, retry_in, .. }) => {
                self.again(&refund, code, backed_off(retry_in, refund.refusals)).await
            }
            Err(error @ GatewayError::Unknown { .. }) => {
                tracing::warn!(out_refund_no = %refund.out_refund_no(), %error, "a refund's outcome is unknown");
                self.unsettled(&refund, Some(error.to_string())).await
            }
        }
    }

    fn freeze(&self, refund: &Refund) -> Result<Frozen, String> {
        self.gateway.freeze_refund(&RefundAsk {
            out_trade_no: refund.out_trade_no(),
            out_refund_no: refund.out_refund_no(),
            amount: refund.amount,
            total: refund.total,
            reason: refund.reason.clone(),
            notify_url: self.steps.notify_url(&self.channel),
        })
    }

    /// The wallet refused this send. The refund failed only if the wallet does not know it from an earlier one either.
    async fn refused(&self, refund: &Refund, code: String) -> Result<(), StepError> {
        if refund.known_at.is_some() {
            tracing::error!(out_refund_no = %refund.out_refund_no(), code, "the wallet refuses a refund that it had: a person looks there");
        } else {
            tracing::warn!(out_refund_no = %refund.out_refund_no(), code, "the wallet refused a refund");
        }
        self.again(refund, code.clone(), PEOPLE_NEED.max(ask_again_in(refund.refusals))).await?;
        match self.ask(refund).await {
            Ok(RefundFound::Seen(seen)) if is_definite(refund, &seen) => self.take_in(refund, &seen).await,
            Ok(RefundFound::Seen(seen)) if is_named(&seen) => {
                self.record(refund.id, RefundEvent::Known { hint: Some(code) }).await
            }
            Ok(_) => self.record(refund.id, RefundEvent::Refused { why: code }).await,
            Err(_) => Ok(()),
        }
    }

    /// The wallet would not make it, perhaps because it has: looked at now, and before it is called refused once more.
    async fn denied(&self, refund: &Refund, code: String) -> Result<(), StepError> {
        tracing::warn!(out_refund_no = %refund.out_refund_no(), code, "the wallet would not make a refund; a question tells");
        self.record(refund.id, RefundEvent::SendDenied { send: refund.sends, hint: code.clone() }).await?;
        match self.ask(refund).await {
            Ok(RefundFound::Seen(seen)) if is_definite(refund, &seen) => self.take_in(refund, &seen).await,
            Ok(RefundFound::Seen(seen)) if is_named(&seen) => {
                self.record(refund.id, RefundEvent::Known { hint: Some(code) }).await
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    async fn again(&self, refund: &Refund, hint: String, again_in: Duration) -> Result<(), StepError> {
        self.record(refund.id, RefundEvent::SendRefused { send: refund.sends, hint, again_in }).await
    }

    async fn unsettled(&self, refund: &Refund, hint: Option<String>) -> Result<(), StepError> {
        // Not a fact: whoever was first set the next look.
        self.change(refund, RefundEvent::Unsettled { hint }).await.map(drop)
    }

    async fn take_in(&self, refund: &Refund, seen: &RefundSeen) -> Result<(), StepError> {
        match read(refund, seen, self.steps.now()) {
            Ok(event) => self.record(refund.id, event).await,
            Err(why) => {
                tracing::error!(out_refund_no = %refund.out_refund_no(), why, "a wallet tells of another refund under this number");
                // It has the number: no later refusal means that it made nothing.
                self.record(refund.id, RefundEvent::Known { hint: Some(why) }).await
            }
        }
    }

    async fn record(&self, id: RefundId, event: RefundEvent) -> Result<(), StepError> {
        self.steps.record_refund(id, event).await.map(drop)
    }

    /// Whether a refund's payment has not so much left that it could ever be made: others were paid back.
    async fn went_back_otherwise(&self, refund: &Refund) -> Result<bool, StepError> {
        let order = self.steps.order(refund.order).await?;
        let payment = order.as_ref().and_then(|order| order.attempt(refund.attempt));
        Ok(payment.is_some_and(|payment| payment.refunded.get() + refund.amount.get() > refund.total.get()))
    }

    async fn change(&self, refund: &Refund, event: RefundEvent) -> Result<Change, StepError> {
        let RefundStep::Moved(moved) = refund.apply(event, self.steps.now()) else { return Ok(Change::Left) };
        match self.steps.commit_refund(&moved, self.steps.refund_spacing(refund.wallet)).await? {
            RefundCommitted::Done => Ok(Change::Done(Box::new(moved.refund))),
            RefundCommitted::Stale => Ok(Change::Left),
            RefundCommitted::TooSoon { free_at } => {
                self.steps.store.postpone_refund(refund.id, free_at).await?;
                Ok(Change::Left)
            }
            RefundCommitted::OverReserved => {
                let event = if refund.is_surely_unknown() && self.went_back_otherwise(refund).await? {
                    RefundEvent::GivenUp { why: "the payment went back by another refund".to_owned() }
                } else {
                    RefundEvent::Unsettled { hint: Some("more is set aside of its payment than was paid".to_owned()) }
                };
                tracing::error!(out_refund_no = %refund.out_refund_no(), out_trade_no = %refund.out_trade_no(), next = ?event, "more is set aside of a payment than was paid: none of its refunds is sent");
                if let RefundStep::Moved(moved) = refund.apply(event, self.steps.now()) {
                    // Nothing rides on whether somebody was first: what stands in the row goes on.
                    let _left = self.steps.commit_refund(&moved, Duration::ZERO).await?;
                }
                Ok(Change::Left)
            }
        }
    }
}

/// Twice as long after every send that surely made nothing.
fn backed_off(retry_in: Duration, refusals: u32) -> Duration {
    retry_in.saturating_mul(1 << refusals.min(16)).min(BACKED_OFF_MOST.max(retry_in))
}

/// Alipay's *processing* may mean anything, *never received* too; what stays so is sent again.
pub(super) fn is_definite(refund: &Refund, seen: &RefundSeen) -> bool {
    !(refund.wallet == Wallet::Alipay && seen.status == RefundStatus::Processing)
}

/// Whether an answer that settles nothing is about this refund all the same: nobody tells the amount of what is not there.
pub(super) fn is_named(seen: &RefundSeen) -> bool {
    seen.amount.is_some()
}

/// What a wallet's word does to a refund. Errors: it is about other amounts than the row's.
pub(super) fn read(refund: &Refund, seen: &RefundSeen, now: Timestamp) -> Result<RefundEvent, String> {
    if let Some(other) = seen.amount.filter(|amount| *amount != refund.amount) {
        return Err(format!("{} fen go back, {} fen were to", other.get(), refund.amount.get()));
    }
    if let Some(other) = seen.total.filter(|total| *total != refund.total) {
        return Err(format!("of a payment of {} fen, not {} fen", other.get(), refund.total.get()));
    }
    let wallet_refund_no = seen.wallet_refund_no.clone();
    Ok(match seen.status {
        RefundStatus::Processing => RefundEvent::Accepted { wallet_refund_no },
        RefundStatus::Success => RefundEvent::PaidBack { at: seen.at.unwrap_or(now), wallet_refund_no },
        RefundStatus::Abnormal => RefundEvent::Undelivered { wallet_refund_no },
        RefundStatus::Closed => RefundEvent::GivenUp { why: "the wallet closed it".to_owned() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_throttling_wallet_is_asked_less_and_less_often() {
        let second = Duration::from_secs(1);
        let gaps: Vec<u64> = [0, 1, 4, 8, 9, 90].map(|refusals| backed_off(second, refusals).as_secs()).to_vec();
        assert_eq!(gaps, [1, 2, 16, 256, 300, 300]);
        // What the wallet itself asks for is kept, however long.
        assert_eq!(backed_off(Duration::from_secs(900), 0), Duration::from_secs(900));
    }
}
