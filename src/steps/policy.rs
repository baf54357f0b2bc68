//! Money that came late or a second time: what its merchant's policy makes of it.

use super::{StepError, Steps};
use crate::{
    domain::{
        id::{AttemptNo, OutTradeNo},
        money::Fen,
        order::{AnomalyKind, Handled, Order},
        refund::{Initiator, Refund, RefundWish},
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
        if self.store.handle_anomaly(anomaly.id, handled).await? {
            let number = OutTradeNo { order: anomaly.order, attempt: anomaly.attempt };
            let kind = anomaly.kind.as_str();
            tracing::warn!(out_trade_no = %number, kind, handled = handled.as_str(), "unexpected money was decided on");
            metrics::counter!("prepay_anomalies_total", "kind" => kind, "handled" => handled.as_str()).increment(1);
        }
        Ok(())
    }

    async fn decide(&self, anomaly: &AnomalyRow) -> Result<Handled, StepError> {
        let Some(order) = self.order(anomaly.order).await? else { return Ok(Handled::Person) };
        let Some(merchant) = self.store.merchant(order.merchant).await? else { return Ok(Handled::Person) };
        let handled = merchant.policies.decide(&order, anomaly.attempt, anomaly.kind, &anomaly.detail);
        if handled == Handled::Refunded && !self.refund_by_policy(&order, anomaly.attempt, anomaly.kind).await? {
            return Ok(Handled::Person);
        }
        Ok(handled)
    }

    /// Gives back all that is left of a payment, once. False: it has had as many refunds as it may.
    async fn refund_by_policy(&self, order: &Order, no: AttemptNo, kind: AnomalyKind) -> Result<bool, StepError> {
        const ROUNDS: usize = 10;
        let payment = order.attempt(no).zip(Refund::system_no(order.out_trade_no(no)));
        let Some((attempt, refund_no)) = payment else { return Ok(false) };
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
                RefundInserted::New | RefundInserted::Exists(_) => return Ok(true),
                // The merchant was first with a part of it: the rest.
                RefundInserted::Exceeds { left } => match Fen::new(left) {
                    Ok(left) if left < amount => amount = left,
                    Ok(_) => return Ok(false),
                    Err(_) => return Ok(true),
                },
            }
        }
        Err(StepError::NotYet(format!("the rest of {} changes all the time", order.out_trade_no(no))))
    }
}

/// What the payer reads in the wallet.
const fn reason(kind: AnomalyKind) -> &'static str {
    match kind {
        AnomalyKind::LatePayment => "订单已关闭，款项退回",
        _ => "重复支付，款项退回",
    }
}
