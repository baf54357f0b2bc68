//! Money that came late or a second time: what its merchant's policy makes of it.

use super::{StepError, Steps};
use crate::{
    domain::{
        id::{AttemptNo, OutTradeNo},
        money::Fen,
        order::{AnomalyKind, Handled, Order},
        refund::{Initiator, Refund, RefundState, RefundWish},
    },
    keys::mac::sha256,
    store::{AnomalyRow, RefundInserted},
};

impl Steps {
    /// Decides one anomaly that is due. Safe to repeat: the refund of a payment by policy has one number.
    ///
    /// Errors: [`StepError`]; it stays due.
    pub async fn decide_anomaly(&self, anomaly: &AnomalyRow) -> Result<(), StepError> {
        let handled = match self.decide(anomaly).await {
            // What cannot be read is not read again every second, in the way of the rest.
            Err(StepError::Hopeless(why)) => {
                tracing::error!(order.id = %anomaly.order, why, "unexpected money waits for a person");
                Handled::Person
            }
            decided => decided?,
        };
        if handled == Handled::Due {
            return Ok(());
        }
        if self.note(anomaly, handled).await? {
            let number = OutTradeNo { order: anomaly.order, attempt: anomaly.attempt };
            let kind = anomaly.kind.as_str();
            tracing::warn!(out_trade_no = %number, kind, handled = handled.as_str(), "unexpected money was decided on");
            metrics::counter!("prepay_anomalies_total", "kind" => kind, "handled" => handled.as_str()).increment(1);
        }
        Ok(())
    }

    /// Answers whether it was noted. As given back it is only while nothing of the payment is free; else it stays due.
    async fn note(&self, anomaly: &AnomalyRow, handled: Handled) -> Result<bool, StepError> {
        if handled != Handled::Refunded {
            return Ok(self.store.handle_anomaly(anomaly.id, handled).await?);
        }
        let Some(order) = self.order(anomaly.order).await? else { return Ok(false) };
        Ok(self.store.note_given_back(anomaly, order.amount).await?)
    }

    async fn decide(&self, anomaly: &AnomalyRow) -> Result<Handled, StepError> {
        let Some(order) = self.order(anomaly.order).await? else { return Ok(Handled::Person) };
        let Some(merchant) = self.store.merchant(order.merchant).await? else { return Ok(Handled::Person) };
        let handled = merchant.policies.decide(&order, anomaly.attempt, anomaly.kind, &anomaly.detail);
        match handled {
            Handled::Refunded => self.refund_by_policy(&order, anomaly.attempt, anomaly.kind).await,
            handled => Ok(handled),
        }
    }

    /// Gives back all that is left of a payment, once. A person's: it has had as many refunds as it may, or the one by policy
    /// failed. Still due: others have all of it, and may yet fail.
    async fn refund_by_policy(&self, order: &Order, no: AttemptNo, kind: AnomalyKind) -> Result<Handled, StepError> {
        const ROUNDS: usize = 10;
        let payment = order.attempt(no).zip(Refund::system_no(order.out_trade_no(no)));
        let Some((attempt, refund_no)) = payment else { return Ok(Handled::Person) };
        let mut amount = order.amount;
        for _ in 0..ROUNDS {
            let wish = RefundWish {
                refund_no: refund_no.clone(),
                fingerprint: sha256(refund_no.as_str().as_bytes()),
                amount,
                reason: Some(reason(kind).to_owned()),
                notify_url: None,
                initiator: Initiator::System,
            };
            match self.store.insert_refund(&Refund::new(order, attempt, wish, self.now())).await? {
                RefundInserted::Exists(refund) if matches!(refund.state, RefundState::Failed { .. }) => {
                    return Ok(Handled::Person);
                }
                RefundInserted::New | RefundInserted::Exists(_) => {
                    let refunds = self.store.refunds_of(order.id).await?;
                    return Ok(once_made(Refund::left_of(order.amount, no, &refunds)));
                }
                // The merchant was first with a part of it: the rest.
                RefundInserted::TooMany | RefundInserted::WentBack => return Ok(Handled::Person),
                RefundInserted::Exceeds { left } => match Fen::new(left) {
                    Ok(left) => amount = left,
                    Err(_) => {
                        let mut refunds = self.store.refunds_of(order.id).await?;
                        refunds.retain(|refund| refund.attempt == no);
                        return Ok(when_nothing_is_left(&refunds));
                    }
                },
            }
        }
        Err(StepError::NotYet(format!("the rest of {} changes all the time", order.out_trade_no(no))))
    }
}

/// What becomes of a payment once its refund by policy is made, by what is left of it in fen. The merchant's own part may have
/// failed since: a person gives it back, under another number.
const fn once_made(left: i64) -> Handled {
    if left > 0 { Handled::Person } else { Handled::Refunded }
}

/// What becomes of a payment that is to go back, when others have set all of it aside: noted only once it is known.
fn when_nothing_is_left(refunds_of_it: &[Refund]) -> Handled {
    let is_open =
        |refund: &Refund| matches!(refund.state, RefundState::Waiting | RefundState::Sent | RefundState::Processing);
    // A person settles what the wallet could not deliver, and sees whether all of it went back.
    if refunds_of_it.iter().any(is_open) { Handled::Due } else { Handled::Person }
}

/// What the payer reads in the wallet.
const fn reason(kind: AnomalyKind) -> &'static str {
    match kind {
        AnomalyKind::LatePayment => "订单已关闭，款项退回",
        _ => "重复支付，款项退回",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{refund::table::refund, time::Timestamp};

    #[test]
    fn a_part_that_failed_before_it_was_noted_is_a_persons() {
        assert_eq!(once_made(0), Handled::Refunded);
        assert_eq!(once_made(-1), Handled::Refunded, "over-reserved: people know");
        assert_eq!(once_made(1), Handled::Person);
    }

    #[test]
    fn money_that_others_set_aside_is_decided_once_they_ended() {
        let with = |state| Refund { state, ..refund(1) };
        let done = || with(RefundState::Succeeded { at: Timestamp::from_secs(1) });
        for open in [RefundState::Waiting, RefundState::Sent, RefundState::Processing] {
            assert_eq!(when_nothing_is_left(&[done(), with(open)]), Handled::Due);
        }
        assert_eq!(when_nothing_is_left(&[done(), with(RefundState::Abnormal)]), Handled::Person);
        assert_eq!(when_nothing_is_left(&[done()]), Handled::Person);
    }
}
