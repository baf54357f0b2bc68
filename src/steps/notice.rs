//! A wallet's notice, from the queue to the order's row.

use std::sync::Arc;

use super::{Channel, StepError, Steps, refund, registry::RegistryError};
use crate::{
    domain::{id::AccountId, refund::RefundEvent, wallet::Wallet},
    gateway::{Notice, NoticeError, RawNotice, RefundNotice, Trade, TradeState, Verified},
};

/// What became of a notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Noted {
    /// Applied, or known already.
    Done,
    /// To be set aside with this reason for a person.
    Park(String),
    /// What the store had of its account a moment ago does not read it, and was read anew: to be tried again at once, and then for as
    /// long as nobody else is kept waiting by it.
    NotYet(String),
}

impl Steps {
    /// Verifies a notice again, opens it, and applies it once.
    ///
    /// Errors: [`StepError`]; the message is kept and comes again.
    pub async fn notice(&self, wallet: Wallet, account: AccountId, raw: &RawNotice) -> Result<Noted, StepError> {
        let Some(channel) = self.registry.channel(account).filter(|channel| channel.account.wallet == wallet) else {
            return self.not_yet(format!("channel account {account} is not known here")).await;
        };
        let gateway = match channel.gateway() {
            Ok(gateway) => gateway,
            Err(reason) => return self.not_yet(format!("channel account {account} cannot be used: {reason}")).await,
        };
        match gateway.open_notice(raw) {
            Ok(notice) => self.apply_notice(&channel, notice).await,
            Err(NoticeError::Forged(why)) => {
                // Alipay's notices name no public key: a front may have verified it with one that this process has not read yet.
                if !self.registry.is_as_stored(&channel).await {
                    return Ok(Noted::NotYet(format!("does not verify with the keys known so far: {why}")));
                }
                // The front verified it: a message that fails here was put on the queue by somebody else.
                tracing::error!(%account, why, "a queued notice does not verify");
                Ok(Noted::Park(format!("does not verify: {why}")))
            }
            // The front knew it: the store has it, and this process not yet.
            Err(NoticeError::UnknownKey(serial)) => self.not_yet(format!("signed with unknown key {serial}")).await,
            // A new APIv3 key may be in the store already; what stays unreadable is parked after a while, and alarmed.
            Err(NoticeError::Unreadable(why)) => self.not_yet(format!("signed, but cannot be read: {why}")).await,
        }
    }

    /// The wallet was told "received": news of a payment is not set aside because this process lags behind the store.
    async fn not_yet(&self, reason: String) -> Result<Noted, StepError> {
        match self.registry.reload().await {
            Ok(_) => Ok(Noted::NotYet(reason)),
            Err(RegistryError::Store(error)) if error.is_passing() => Err(StepError::StoreUnavailable(error)),
            Err(error) => Err(StepError::NotYet(format!("{reason}, and channel accounts cannot be read: {error}"))),
        }
    }

    /// Applies what a notice says about a refund of ours. What does not fit its row is a person's.
    async fn refund_notice(&self, account: AccountId, notice: &RefundNotice) -> Result<Noted, StepError> {
        let number = notice.out_refund_no;
        let Some(refund) = self.store.load_refund(number.0).await? else {
            // Its row is committed before its first send: a restore from backup, or a number of somebody else's.
            return Ok(Noted::Park(format!("no refund has the number {number}")));
        };
        if refund.account != account || refund.out_trade_no() != notice.out_trade_no {
            tracing::error!(out_refund_no = %number, %account, "a genuine notice names this refund beside another payment or account");
            return Ok(Noted::Park(format!("refund {number} is of another payment or channel account")));
        }
        let event = match notice.seen.amount {
            // Without the amount it is a reason to ask.
            None => RefundEvent::LookWanted,
            Some(_) => match refund::read(&refund, &notice.seen, self.now()) {
                Ok(event) => event,
                Err(why) => {
                    tracing::error!(out_refund_no = %number, why, "a notice tells of another refund under this number");
                    return Ok(Noted::Park(format!("refund {number}: {why}")));
                }
            },
        };
        self.record_refund(refund.id, event).await?;
        Ok(Noted::Done)
    }

    async fn apply_notice(&self, channel: &Arc<Channel>, notice: Verified<Notice>) -> Result<Noted, StepError> {
        match notice.into_inner() {
            Notice::Payment(trade) => self.apply_trade(channel, trade).await,
            Notice::Refund(mut refund) => {
                // A wallet that tells the payment beside it tells the truth about that too, whatever is wrong with the refund: it
                // may be all we ever hear of the payment.
                let trade = refund.trade.take().map(|state| Trade { out_trade_no: refund.out_trade_no, state });
                let traded = match trade {
                    Some(trade) => self.apply_trade(channel, trade).await?,
                    None => Noted::Done,
                };
                match self.refund_notice(channel.account.id, &refund).await? {
                    Noted::Done => Ok(traded),
                    other => Ok(other),
                }
            }
            Notice::Other(why) => Ok(Noted::Park(why)),
        }
    }

    /// Applies what a notice says about a payment.
    async fn apply_trade(&self, channel: &Arc<Channel>, trade: Trade) -> Result<Noted, StepError> {
        let Trade { out_trade_no: number, state } = trade;
        let account = channel.account.id;
        let Some(order) = self.order(number.order).await? else {
            return Ok(Noted::Park(format!("no order has the number {number}")));
        };
        let Some(attempt) = order.attempt(number.attempt) else {
            // The row of an attempt is committed before its first send; a number without one is a restore from backup.
            return Ok(Noted::Park(format!("order {} has no attempt {}", order.id, number.attempt.get())));
        };
        if attempt.account != account {
            tracing::error!(out_trade_no = %number, %account, "a genuine notice of another channel account names this number");
            return Ok(Noted::Park(format!("{number} belongs to channel account {}", attempt.account)));
        }
        if let TradeState::Paid(paid) = &state
            && paid.amount.is_none()
        {
            return Ok(Noted::Park(format!("{number} is called paid without an amount")));
        }
        let paid = matches!(state, TradeState::Paid(_));
        if !self.take_in(&order, number.attempt, state, channel).await? && paid {
            return Err(StepError::NotYet(format!("{number} is called paid, and its account is to be read anew")));
        }
        Ok(Noted::Done)
    }
}
