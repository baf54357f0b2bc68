//! Notifications of payments: encrypted, signed, delivered on WeChat's schedule.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::orders::{lie_about, view};
use super::seal;
use super::state::{Merchant, OrderKey};
use super::switches::AssociatedData;
use super::{Wechat, print};
use crate::chance;
use crate::faults::FaultKind;
use crate::ground::{Call, Wallet};
use crate::ledger::{Entry, Event};
use crate::notifier::{Delivery, Incoming, Outgoing};

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// 15 redeliveries, 24 h 4 min in all.
pub(super) const RETRIES: &[Duration] = &[
    seconds(15),
    seconds(15),
    seconds(30),
    seconds(180),
    seconds(600),
    seconds(1200),
    seconds(1800),
    seconds(1800),
    seconds(1800),
    seconds(3600),
    seconds(3 * 3600),
    seconds(3 * 3600),
    seconds(3 * 3600),
    seconds(6 * 3600),
    seconds(6 * 3600),
];

/// What is said about one event, before it is encrypted.
pub(super) struct Envelope<'a> {
    pub id: &'a str,
    pub created_ms: i64,
    pub event_type: &'a str,
    pub summary: &'a str,
    /// `transaction` or `refund`; the associated data as well, where there is any.
    pub original_type: &'a str,
    pub plain: Value,
}

impl Wechat {
    /// Schedules the notification of a payment.
    pub(super) fn announce(&self, key: &OrderKey) {
        let switches = self.switches();
        if !switches.notices {
            return;
        }
        let probe = if switches.notice_probe { self.notice(&key.0, &key.1, &[FaultKind::SignTest]) } else { None };
        let spread_ms = self.ground.chance.bits() % switches.notice_delay_spread_ms.saturating_add(1).max(1);
        let (this, wanted) = (self.this.clone(), key.clone());
        self.ground.notifier.schedule(Delivery {
            wallet: Wallet::Wechat,
            call: Call::Notify,
            merchant: key.0.clone(),
            out_trade_no: key.1.clone(),
            out_refund_no: None,
            first_after: Duration::from_millis(switches.notice_delay_ms.saturating_add(spread_ms)),
            retries: RETRIES,
            doubled: switches.notice_doubled,
            probe,
            make: Box::new(move |plan| this.upgrade()?.notice(&wanted.0, &wanted.1, &plan.0)),
            accepts,
        });
    }

    /// One notification of a paid order, freshly signed, with the lies of `kinds`; `None` unless it was paid.
    ///
    /// `AnswerOf` tells another order under this one's address; of a number that this merchant does not have it tells
    /// that it is what was paid here.
    pub fn notice(&self, mchid: &str, out_trade_no: &str, kinds: &[FaultKind]) -> Option<Outgoing> {
        let merchant = self.merchant(mchid)?;
        let (url, notice_id, success_ms, mut plain) = {
            let state = self.state();
            let order = state.orders.get(&(mchid.to_owned(), out_trade_no.to_owned()))?;
            let told = kinds.iter().find_map(|kind| match kind {
                FaultKind::AnswerOf { out_trade_no } => Some(out_trade_no.clone()),
                _ => None,
            });
            let plain = match told {
                Some(told) => match state.orders.get(&(mchid.to_owned(), told.clone())) {
                    Some(other) => view(other, true),
                    None => {
                        let mut misnamed = view(order, true);
                        misnamed["out_trade_no"] = json!(told);
                        misnamed
                    }
                },
                None => view(order, true),
            };
            (order.notify_url.clone(), order.notice_id.clone(), order.success_ms?, plain)
        };
        // What was paid was paid: a later refund is not told here.
        plain["trade_state"] = json!("SUCCESS");
        plain["trade_state_desc"] = json!("支付成功");
        if plain.get("attach").is_none() {
            plain["attach"] = json!("");
        }
        let envelope = Envelope {
            id: &notice_id,
            created_ms: success_ms,
            event_type: "TRANSACTION.SUCCESS",
            summary: "支付成功",
            original_type: "transaction",
            plain: lie_about(plain, kinds),
        };
        let (headers, body) = self.sealed_notice(&merchant, &envelope, kinds);
        Some(Outgoing { url, headers, body: Bytes::from(body) })
    }

    /// Headers and body of a notification: encrypted, wrapped, signed, with the lies of `kinds`.
    pub(super) fn sealed_notice(
        &self,
        merchant: &Merchant,
        envelope: &Envelope<'_>,
        kinds: &[FaultKind],
    ) -> (Vec<(&'static str, String)>, Vec<u8>) {
        let switches = self.switches();
        let plain = print(&envelope.plain, switches.pretty);
        let original_type = envelope.original_type;
        let nonce = chance::text(12);
        let associated_data = if switches.associated_data == AssociatedData::Transaction { original_type } else { "" };
        let mut resource = json!({
            "original_type": original_type,
            "algorithm": "AEAD_AES_256_GCM",
            "ciphertext": seal::encrypt(&merchant.apiv3_key, &nonce, associated_data, &plain),
            "nonce": nonce,
        });
        if switches.associated_data != AssociatedData::Absent {
            resource["associated_data"] = json!(associated_data);
        }
        let body: Value = json!({
            "id": envelope.id,
            "create_time": super::rfc3339(envelope.created_ms),
            "resource_type": "encrypt-resource",
            "event_type": envelope.event_type,
            "summary": envelope.summary,
            "resource": resource,
        });
        let mut body = print(&body, switches.pretty);
        if kinds.contains(&FaultKind::TruncatedJson) {
            body.truncate(body.len() / 2);
        }
        let mut headers = vec![
            ("Content-Type", "application/json".to_owned()),
            ("Accept", "*/*".to_owned()),
            ("User-Agent", "Mozilla/4.0".to_owned()),
        ];
        headers.extend(self.signature(merchant, None, &body, kinds));
        (headers, body)
    }

    /// Delivers one notification now, besides the schedule, and tells what came back.
    ///
    /// Errors: no such paid order; no answer within 5 s.
    pub async fn notify_now(
        self: &Arc<Self>,
        mchid: &str,
        out_trade_no: &str,
        kinds: &[FaultKind],
    ) -> Result<Incoming, String> {
        let outgoing = self.notice(mchid, out_trade_no, kinds).ok_or_else(|| "no such paid order".to_owned())?;
        let line = |event| Entry::new(Wallet::Wechat, Call::Notify, event).merchant(mchid).out_trade_no(out_trade_no);
        self.ground.ledger.record(line(Event::NoticeSent).note("by hand"));
        let answer = self.ground.notifier.send(&outgoing).await;
        let taken = answer.as_ref().is_ok_and(accepts);
        let event = if taken { Event::NoticeAccepted } else { Event::NoticeFailed };
        self.ground.ledger.record(line(event).status(answer.as_ref().map_or(0, |answer| answer.status)));
        answer
    }
}

/// 200 and 204 end the deliveries; a redirect or anything else is a failure.
pub(super) fn accepts(answer: &Incoming) -> bool {
    matches!(answer.status, 200 | 204)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_is_fifteen_redeliveries_in_a_day_and_four_minutes() {
        assert_eq!(RETRIES.len(), 15);
        assert_eq!(RETRIES.iter().sum::<Duration>(), seconds(24 * 3600 + 4 * 60));
    }
}
