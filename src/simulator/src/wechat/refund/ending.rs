//! How a refund ends, and who is told: notifications like a payment's, to the refund's own address.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use super::{Refund, RefundStatus};
use crate::faults::FaultKind;
use crate::ground::{Call, Wallet};
use crate::ledger::Event;
use crate::notifier::{Delivery, Incoming, Outgoing};
use crate::wechat::Wechat;
use crate::wechat::notice::{Envelope, RETRIES, accepts};
use crate::wechat::state::TradeState;
use crate::wechat::switches::RefundEnding;

impl Wechat {
    /// Ends a refund after the time of the switches.
    pub(super) fn end_in_time(&self, refund: &Refund, ending: RefundEnding) {
        let Some(status) = ending.status() else { return };
        let (this, mchid, number) = (self.this.clone(), refund.mchid.clone(), refund.out_refund_no.clone());
        let notice_id = refund.notice_id.clone();
        self.ground.notifier.later(Duration::from_millis(self.switches().refund_delay_ms), move || {
            // A hand may have been faster: what ends is this try, not a later one.
            if let Some(wechat) = this.upgrade()
                && wechat
                    .refund_of(&mchid, &number)
                    .is_some_and(|refund| refund.notice_id == notice_id && refund.status == RefundStatus::Processing)
            {
                wechat.end_refund(&mchid, &number, status);
            }
        });
    }

    /// Ends a refund now: one on its way in any end, an abnormal one in success or closed; schedules its notification.
    ///
    /// False when there is no such refund or it ended before.
    pub fn end_refund(&self, mchid: &str, out_refund_no: &str, status: RefundStatus) -> bool {
        let now_ms = self.ground.clock.now_ms();
        let mut state = self.state();
        let Some(refund) = state.refunds.get_mut(&(mchid.to_owned(), out_refund_no.to_owned())) else {
            return false;
        };
        if !refund.status.leads_to(status) || status == RefundStatus::Processing {
            return false;
        }
        refund.status = status;
        refund.notice_id = crate::wechat::prepay::new_notice_id();
        refund.success_ms = (status == RefundStatus::Success).then_some(now_ms);
        let refund = refund.clone();
        let line = |event| refund.line(Call::Refund, event).note(status.name());
        match status {
            RefundStatus::Success => self.ground.ledger.record(line(Event::Refunded)),
            _ => self.ground.ledger.record(line(Event::RefundFailed)),
        }
        if status == RefundStatus::Closed
            && let Some(balance) = state.balances.get_mut(refund.payee())
        {
            *balance += refund.refund_fen;
        }
        // The order was paid and asked back: that a refund failed does not make it SUCCESS again.
        debug_assert!(
            state.orders.get(&refund.order_key()).is_none_or(|order| order.state == TradeState::Refund),
            "a refund's order says REFUND"
        );
        drop(state);
        self.announce_refund(&refund);
        true
    }

    fn announce_refund(&self, refund: &Refund) {
        let switches = self.switches();
        if !switches.refund_notices || self.refund_url(refund).is_none() {
            return;
        }
        let spread_ms = self.ground.chance.bits() % switches.notice_delay_spread_ms.saturating_add(1).max(1);
        let probe = if switches.notice_probe { self.refund_notice_of(refund, &[FaultKind::SignTest]) } else { None };
        let (this, told) = (self.this.clone(), refund.clone());
        self.ground.notifier.schedule(Delivery {
            wallet: Wallet::Wechat,
            call: Call::RefundNotify,
            merchant: refund.mchid.clone(),
            out_trade_no: refund.out_trade_no.clone(),
            out_refund_no: Some(refund.out_refund_no.clone()),
            first_after: Duration::from_millis(switches.notice_delay_ms.saturating_add(spread_ms)),
            retries: RETRIES,
            doubled: switches.notice_doubled,
            probe,
            make: Box::new(move |plan| this.upgrade()?.refund_notice_of(&told, &plan.0)),
            accepts,
        });
    }

    /// Its own address, else the one of the merchant platform.
    fn refund_url(&self, refund: &Refund) -> Option<String> {
        refund.notify_url.clone().or_else(|| self.state().refund_urls.get(&refund.mchid).cloned())
    }

    /// One notification of an ended refund, freshly signed, with the lies of `kinds`; `None` while it is on its way, or
    /// without an address.
    ///
    /// `AnswerOf` tells the first refund of another order under this one's address.
    pub fn refund_notice(&self, mchid: &str, out_refund_no: &str, kinds: &[FaultKind]) -> Option<Outgoing> {
        self.refund_notice_of(&self.refund_of(mchid, out_refund_no)?, kinds)
    }

    fn refund_notice_of(&self, refund: &Refund, kinds: &[FaultKind]) -> Option<Outgoing> {
        let (event_type, summary) = match refund.status {
            RefundStatus::Processing => return None,
            RefundStatus::Success => ("REFUND.SUCCESS", "退款成功"),
            RefundStatus::Closed => ("REFUND.CLOSED", "退款关闭"),
            RefundStatus::Abnormal => ("REFUND.ABNORMAL", "退款异常"),
        };
        let told = kinds.iter().find_map(|kind| match kind {
            FaultKind::AnswerOf { out_trade_no } => self.refunds_of(&refund.mchid, out_trade_no).into_iter().next(),
            _ => None,
        });
        let envelope = Envelope {
            id: &refund.notice_id,
            created_ms: refund.success_ms.unwrap_or(refund.created_ms),
            event_type,
            summary,
            original_type: "refund",
            plain: json!(told.as_ref().unwrap_or(refund).told(kinds)),
        };
        let merchant = self.merchant(&refund.mchid)?;
        let (headers, body) = self.sealed_notice(&merchant, &envelope, kinds);
        Some(Outgoing { url: self.refund_url(refund)?, headers, body: Bytes::from(body) })
    }

    /// Delivers one notification of a refund now, besides the schedule, and tells what came back.
    ///
    /// Errors: no such ended refund or no address; no answer within 5 s.
    pub async fn notify_refund_now(
        self: &Arc<Self>,
        mchid: &str,
        out_refund_no: &str,
        kinds: &[FaultKind],
    ) -> Result<Incoming, String> {
        let refund = self.refund_of(mchid, out_refund_no).ok_or_else(|| "no such refund".to_owned())?;
        let outgoing = self.refund_notice_of(&refund, kinds).ok_or_else(|| "nothing to tell, or nobody".to_owned())?;
        self.ground.ledger.record(refund.line(Call::RefundNotify, Event::NoticeSent).note("by hand"));
        let answer = self.ground.notifier.send(&outgoing).await;
        let taken = answer.as_ref().is_ok_and(accepts);
        let event = if taken { Event::NoticeAccepted } else { Event::NoticeFailed };
        let status = answer.as_ref().map_or(0, |answer| answer.status);
        self.ground.ledger.record(refund.line(Call::RefundNotify, event).status(status));
        answer
    }
}
