//! Notices: the form a merchant's `notify_url` gets when a trade was paid or closed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use super::app::App;
use super::book::Book;
use super::refund::Refund;
use super::sign::{Params, notice_text};
use super::switches::EmptyValues;
use super::trade::{Trade, TradeStatus};
use super::{Alipay, money, time8};
use crate::chance;
use crate::faults::{FaultKind, Plan};
use crate::ground::{Call, Wallet};
use crate::ledger::Event;
use crate::notifier::{Delivery, Incoming, Outgoing};

const MINUTE: Duration = Duration::from_secs(60);

/// Pauses after each delivery that was not taken. Source: Alipay, "asynchronous notification", 8 deliveries in all.
const RETRIES: [Duration; 7] = [
    MINUTE.saturating_mul(4),
    MINUTE.saturating_mul(10),
    MINUTE.saturating_mul(10),
    MINUTE.saturating_mul(60),
    MINUTE.saturating_mul(120),
    MINUTE.saturating_mul(360),
    MINUTE.saturating_mul(900),
];

/// Only these seven bytes, with HTTP 200, end the deliveries.
fn accepts(answer: &Incoming) -> bool {
    answer.status == 200 && answer.body.as_ref() == b"success"
}

/// What a notice tells, fixed when the trade changed.
struct Notice {
    app: Arc<App>,
    trade: Trade,
    /// Set when it tells of a refund.
    refund: Option<Refund>,
    buyer_id: Option<String>,
    buyer_open_id: Option<String>,
    logon_id: String,
    notify_id: String,
}

impl Alipay {
    /// Starts the deliveries of the trade's present state; nothing happens without a `notify_url`.
    pub(crate) fn notify(&self, book: &mut Book, trade: &Trade) {
        self.start_notice(book, trade, None);
    }

    /// Starts the deliveries about a refund of a trade, to the address of its order.
    pub(super) fn notify_refund(&self, book: &mut Book, trade: &Trade, refund: &Refund) {
        self.start_notice(book, trade, Some(refund.clone()));
    }

    fn start_notice(&self, book: &mut Book, trade: &Trade, refund: Option<Refund>) {
        let Some(url) = trade.notify_url.clone() else {
            return;
        };
        let Some(notice) = self.notice(book, trade, refund) else {
            return;
        };
        let switches = self.switches();
        if !switches.notify {
            return;
        }
        let alipay = self.clone();
        self.ground().notifier.schedule(Delivery {
            wallet: Wallet::Alipay,
            call: if notice.refund.is_some() { Call::RefundNotify } else { Call::Notify },
            merchant: trade.owner.app_id.clone(),
            out_trade_no: trade.out_trade_no.clone(),
            out_refund_no: notice.refund.as_ref().map(|refund| refund.out_request_no.clone()),
            first_after: Duration::from_millis(switches.notify_after_ms),
            retries: &RETRIES,
            doubled: switches.notify_doubled,
            probe: None,
            make: Box::new(move |plan| Some(alipay.outgoing(&notice, &url, plan))),
            accepts,
        });
    }

    /// One notice of the trade's present state, freshly signed, for a test to tamper with; `None` without trade or address.
    pub fn notice_to_send(&self, app_id: &str, out_trade_no: &str) -> Option<Outgoing> {
        self.not_sent_yet(&self.trade(app_id, out_trade_no)?, None)
    }

    /// One notice of a refund, as [`Alipay::notice_to_send`]; `None` without the refund as well.
    pub fn refund_notice_to_send(&self, app_id: &str, out_trade_no: &str, out_request_no: &str) -> Option<Outgoing> {
        let trade = self.trade(app_id, out_trade_no)?;
        let refund = trade.refund_of(out_request_no).cloned()?;
        self.not_sent_yet(&trade, Some(refund))
    }

    fn not_sent_yet(&self, trade: &Trade, refund: Option<Refund>) -> Option<Outgoing> {
        let url = trade.notify_url.clone()?;
        let notice = self.notice(&mut self.book(), trade, refund)?;
        Some(self.outgoing(&notice, &url, &Plan(Vec::new())))
    }

    /// Delivers the notice of a refund at once, with the lies named, and tells what came back.
    ///
    /// Errors: why nothing could be sent or nothing came back, in words.
    pub async fn notify_refund_now(
        &self,
        app_id: &str,
        out_trade_no: &str,
        out_request_no: &str,
        kinds: &[FaultKind],
    ) -> Result<(u16, Bytes), String> {
        let trade = self.trade(app_id, out_trade_no).ok_or_else(|| "no such trade".to_owned())?;
        let refund = trade.refund_of(out_request_no).cloned().ok_or_else(|| "no such refund".to_owned())?;
        self.deliver_now(&trade, Some(refund), kinds).await
    }

    /// Delivers a notice of the trade's present state at once, with the lies named, and tells what came back.
    ///
    /// Errors: why nothing could be sent or nothing came back, in words.
    pub async fn notify_now(
        &self,
        app_id: &str,
        out_trade_no: &str,
        kinds: &[FaultKind],
    ) -> Result<(u16, Bytes), String> {
        let trade = self.trade(app_id, out_trade_no).ok_or_else(|| "no such trade".to_owned())?;
        self.deliver_now(&trade, None, kinds).await
    }

    async fn deliver_now(
        &self,
        trade: &Trade,
        refund: Option<Refund>,
        kinds: &[FaultKind],
    ) -> Result<(u16, Bytes), String> {
        let call = if refund.is_some() { Call::RefundNotify } else { Call::Notify };
        let line = |event| match &refund {
            Some(refund) => trade.line(call, event).out_refund_no(&refund.out_request_no),
            None => trade.line(call, event),
        };
        let url = trade.notify_url.clone().ok_or_else(|| "no notify_url".to_owned())?;
        let notice = self.notice(&mut self.book(), trade, refund.clone()).ok_or_else(|| "no such app".to_owned())?;
        let outgoing = self.outgoing(&notice, &url, &Plan(kinds.to_vec()));
        self.record(line(Event::NoticeSent).note("by hand"));
        let answer = self.ground().notifier.send(&outgoing).await;
        let taken = answer.as_ref().is_ok_and(accepts);
        let event = if taken { Event::NoticeAccepted } else { Event::NoticeFailed };
        let status = answer.as_ref().map_or(0, |answer| answer.status);
        self.record(line(event).status(status));
        answer.map(|answer| (answer.status, answer.body))
    }

    fn notice(&self, book: &mut Book, trade: &Trade, refund: Option<Refund>) -> Option<Notice> {
        let app = book.apps.get(&trade.owner.app_id)?.clone();
        let open_id = book.open_id(&app.app_id, &trade.user_id);
        let day = time8::day(self.ground().clock.now_ms());
        let notify_id = format!("{day}00222{}", chance::digits(32));
        Some(Notice {
            buyer_id: app.id_mode.user_id().then(|| trade.user_id.clone()),
            buyer_open_id: app.id_mode.open_id().then_some(open_id),
            logon_id: book.users.get(&trade.user_id).map(|user| user.logon_id.clone()).unwrap_or_default(),
            app,
            trade: trade.clone(),
            refund,
            notify_id,
        })
    }

    /// One delivery: same `notify_id`, fresh `notify_time` and `sign`.
    fn outgoing(&self, notice: &Notice, url: &str, plan: &Plan) -> Outgoing {
        let switches = self.switches();
        let mut params = notice.params(self.ground().clock.now_ms());
        if switches.notify_as_merchant {
            params.insert("app_id".to_owned(), notice.trade.owner.auth_app_id.clone());
        }
        match switches.empty_values {
            EmptyValues::Absent => params.retain(|_, value| !value.is_empty()),
            EmptyValues::Signed | EmptyValues::Unsigned => {}
        }
        for kind in &plan.0 {
            match kind {
                FaultKind::WrongAmount { fen } => {
                    let yuan = money::yuan(u64::try_from(*fen).unwrap_or(0));
                    let paid = ["total_amount", "receipt_amount", "buyer_pay_amount", "invoice_amount"];
                    let refunded = ["refund_fee", "send_back_fee"];
                    let names: &[&str] = if notice.refund.is_some() { &refunded } else { &paid };
                    for name in names {
                        if let Some(value) = params.get_mut(*name) {
                            value.clone_from(&yuan);
                        }
                    }
                }
                FaultKind::WrongMerchant { merchant } => {
                    params.insert("seller_id".to_owned(), merchant.clone());
                }
                FaultKind::AnswerOf { out_trade_no } => {
                    params.insert("out_trade_no".to_owned(), out_trade_no.clone());
                }
                _ => {}
            }
        }
        let text = notice_text(&params, switches.empty_values != EmptyValues::Unsigned);
        let mut sign = Some(notice.app.alipay_key.sign(text.as_bytes()));
        for kind in &plan.0 {
            match kind {
                FaultKind::WrongSignature => sign = Some(super::app::stranger().sign(text.as_bytes())),
                FaultKind::UndecodableSignature => sign = Some("%%% no base64 %%%".to_owned()),
                FaultKind::Unsigned => sign = None,
                _ => {}
            }
        }
        if let Some(sign) = sign {
            params.insert("sign".to_owned(), sign);
        }
        Outgoing {
            url: url.to_owned(),
            headers: vec![("Content-Type", "application/x-www-form-urlencoded; charset=utf-8".to_owned())],
            body: encode(&params),
        }
    }
}

impl Notice {
    fn params(&self, now_ms: i64) -> Params {
        let trade = &self.trade;
        let amount = money::yuan(trade.amount_fen);
        let mut params = Params::new();
        let mut put = |name: &str, value: &str| {
            params.insert(name.to_owned(), value.to_owned());
        };
        put("notify_time", &time8::write(now_ms));
        put("notify_type", "trade_status_sync");
        put("notify_id", &self.notify_id);
        put("app_id", &trade.owner.app_id);
        put("auth_app_id", &trade.owner.auth_app_id);
        put("charset", "utf-8");
        put("version", "1.0");
        put("sign_type", "RSA2");
        put("trade_no", &trade.trade_no);
        put("out_trade_no", &trade.out_trade_no);
        put("trade_status", trade.status.as_str());
        put("total_amount", &amount);
        put("subject", &trade.subject);
        put("seller_id", &trade.seller_id);
        put("seller_email", "");
        put("buyer_logon_id", &self.logon_id);
        put("gmt_create", &time8::write(trade.created_ms));
        // A parameter no page lists, with characters that two decodings would break.
        put("ext_note", "50%+1 & more=%2B");
        put("body", trade.body.as_deref().unwrap_or_default());
        if let Some(id) = &self.buyer_id {
            put("buyer_id", id);
        }
        if let Some(id) = &self.buyer_open_id {
            put("buyer_open_id", id);
        }
        if let Some(passback) = &trade.passback_params {
            put("passback_params", passback);
        }
        if let Some(paid_ms) = trade.paid_ms {
            put("gmt_payment", &time8::write(paid_ms));
            for name in ["receipt_amount", "invoice_amount", "buyer_pay_amount"] {
                put(name, &amount);
            }
            put("point_amount", "0.00");
            let funds = json!([{ "amount": amount, "fundChannel": "ALIPAYACCOUNT" }]);
            put("fund_bill_list", &funds.to_string());
        }
        if let Some(refund) = &self.refund {
            put("out_biz_no", &refund.out_request_no);
            put("refund_fee", &money::yuan(refund.cumulative_fen));
            put("gmt_refund", &time8::write_ms(refund.at_ms));
        }
        if let (TradeStatus::TradeClosed, Some(closed_ms)) = (trade.status, trade.closed_ms) {
            put("gmt_close", &time8::write(closed_ms));
        }
        params
    }
}

/// The form, in an order of its own: signatures must not depend on it.
fn encode(params: &Params) -> Bytes {
    let mut form = form_urlencoded::Serializer::new(String::new());
    for (name, value) in params.iter().rev() {
        form.append_pair(name, value);
    }
    Bytes::from(form.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{PublicKey, RsaKey};

    fn answer(status: u16, body: &'static [u8]) -> Incoming {
        Incoming { status, body: Bytes::from_static(body) }
    }

    #[test]
    fn only_seven_bytes_end_the_deliveries() {
        assert!(accepts(&answer(200, b"success")));
        for body in [&b"SUCCESS"[..], b"success\n", b"\"success\"", b"fail", b""] {
            assert!(!accepts(&answer(200, body)));
        }
        assert!(!accepts(&answer(204, b"success")));
        assert!(!accepts(&answer(302, b"success")));
    }

    #[test]
    fn the_schedule_is_eight_deliveries_over_a_day() {
        let total: Duration = RETRIES.iter().sum();
        assert_eq!((RETRIES.len() + 1, total.as_secs() / 60), (8, 24 * 60 + 24));
    }

    /// Our way of making the text, against the vectors a merchant's side verifies with.
    #[test]
    fn notice_vectors_agree() {
        let file: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/data/alipay/notify_verify.json")).unwrap();
        let derived =
            RsaKey::from_pkcs8_pem(include_str!("../../tests/data/alipay/keys/derived/alipay_private_pkcs8.pem"))
                .unwrap();
        let published =
            PublicKey::from_pem(include_str!("../../tests/data/alipay/keys/published/node_notify_v1_public.pem"))
                .unwrap();
        let mut checked = 0;
        for case in file["cases"].as_array().unwrap() {
            let name = case["name"].as_str().unwrap();
            let params: Params = serde_json::from_value(case["params"].clone()).unwrap();
            // GBK forms and messages of the application gateway are not made here.
            if case["expect"] != "verified" || params["charset"] != "utf-8" || name.contains("KEPT") {
                continue;
            }
            let expected = case["string_to_verify"].as_str().unwrap();
            let keep_empty = !name.contains("signed without it");
            let text = notice_text(&params, keep_empty);
            assert_eq!(text, expected, "{name}");
            if case["public_key"].as_str().unwrap().contains("derived") {
                assert_eq!(derived.sign(text.as_bytes()), params["sign"], "{name}");
            } else {
                assert!(published.verifies(text.as_bytes(), &params["sign"]), "{name}");
            }
            let again: Params = form_urlencoded::parse(&encode(&params)).into_owned().collect();
            assert_eq!(again, params);
            checked += 1;
        }
        assert!(checked >= 8, "{checked}");
    }
}
