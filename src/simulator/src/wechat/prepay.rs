//! `POST /v3/pay[/partner]/transactions/jsapi`: a number becomes payable, once.

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Wechat;
use super::fields::{self, text};
use super::refusal::Refusal;
use super::state::{Merchant, ORDER_LIFE_MS, Order, PREPAY_LIFE_MS, State, TradeState};
use super::switches::{ChangedPrepay, ForeignOpenid, PaidPrepay, RepeatedPrepay, Switches};
use crate::chance;
use crate::ground::{Call, Wallet};
use crate::ledger::{Entry, Event};

/// A deadline earlier than this from now is raised to it.
const EXPIRE_MIN_MS: i64 = 60 * 1000;
/// A deadline later than this from now is cut to it.
const EXPIRE_MAX_MS: i64 = 90 * 24 * 3600 * 1000;

impl Wechat {
    pub(super) fn prepay(&self, merchant: &Merchant, partner: bool, body: &[u8]) -> Result<Value, Refusal> {
        let fields = if partner { fields::PARTNER_PREPAY } else { fields::PREPAY };
        let value = fields::read(body, fields)?;
        let switches = self.switches();
        let now_ms = self.ground.clock.now_ms();
        let order = read_order(value, partner, now_ms)?;
        if order.mchid != merchant.mchid {
            return Err(Refusal::sign("Http头Authorization中的mchid与body中的mchid不一致"));
        }
        let mut state = self.state();
        if let Some(limit) = switches.prepays_per_second {
            let rate = state.rates.entry(order.mchid.clone()).or_default();
            if rate.second != now_ms / 1000 {
                (rate.second, rate.count) = (now_ms / 1000, 0);
            }
            rate.count += 1;
            if rate.count > limit {
                return Err(Refusal::new(429, "FREQUENCY_LIMITED", "频率超限", "268447840"));
            }
        }
        check_parties(&state, &order, merchant, &switches)?;
        self.open(&mut state, order, &switches, now_ms, body)
    }

    /// The table of re-entry: what a number answers when it is asked for again.
    fn open(
        &self,
        state: &mut State,
        order: Order,
        switches: &Switches,
        now_ms: i64,
        body: &[u8],
    ) -> Result<Value, Refusal> {
        let key = order.key();
        let line = |event| {
            Entry::new(Wallet::Wechat, Call::Prepay, event)
                .merchant(&key.0)
                .out_trade_no(&key.1)
                .amount_fen(order.total_fen)
                .payer(&order.openid)
                .body(body)
        };
        self.settle(state, &key, now_ms);
        let Some(known) = state.orders.get_mut(&key) else {
            self.ground.ledger.record(line(Event::Created));
            let prepay_id = order.prepay_id.clone();
            state.prepays.insert(prepay_id.clone(), (key.clone(), now_ms));
            state.orders.insert(key, order);
            return Ok(json!({ "prepay_id": prepay_id }));
        };
        match known.state {
            TradeState::Success | TradeState::Refund => {
                let code = match switches.paid_prepay {
                    PaidPrepay::OrderPaid => "ORDERPAID",
                    PaidPrepay::InvalidRequest => "INVALID_REQUEST",
                };
                return Err(Refusal::new(400, code, "该订单已支付", "268498689"));
            }
            TradeState::Closed => return Err(Refusal::order_closed()),
            // Still NOTPAY to a query, but past its deadline nothing opens it again.
            TradeState::NotPay if known.expires_ms <= now_ms => return Err(Refusal::order_closed()),
            TradeState::NotPay => {}
        }
        if known.body != order.body {
            return Err(match switches.changed_prepay {
                ChangedPrepay::OutTradeNoUsed => {
                    Refusal::new(403, "OUT_TRADE_NO_USED", "201 商户订单号重复", "268498688")
                }
                ChangedPrepay::InvalidRequest => {
                    Refusal::new(400, "INVALID_REQUEST", "请求重入时，参数与首次请求时不一致。", "268498688")
                }
            });
        }
        self.ground.ledger.record(line(Event::Repeated));
        let usable = now_ms - known.prepay_ms < PREPAY_LIFE_MS;
        if !(usable && switches.repeated_prepay == RepeatedPrepay::Same) {
            known.prepay_id = order.prepay_id;
            known.prepay_ms = now_ms;
            state.prepays.insert(known.prepay_id.clone(), (key, now_ms));
        }
        Ok(json!({ "prepay_id": known.prepay_id }))
    }

    /// Applies what time alone has done to an order.
    pub(super) fn settle(&self, state: &mut State, key: &super::state::OrderKey, now_ms: i64) {
        if let Some(order) = state.orders.get_mut(key)
            && order.state == TradeState::NotPay
            && now_ms - order.created_ms > ORDER_LIFE_MS
        {
            order.state = TradeState::Closed;
            let line = Entry::new(Wallet::Wechat, Call::Other, Event::Closed).merchant(&key.0).out_trade_no(&key.1);
            self.ground.ledger.record(line.note("unpaid for 7 days"));
        }
    }
}

/// Values of a body whose keys were checked.
fn read_order(body: Value, partner: bool, now_ms: i64) -> Result<Order, Refusal> {
    let out_trade_no = text(&body, "/out_trade_no").to_owned();
    if !is_out_trade_no(&out_trade_no) {
        return Err(Refusal::parameter("/body/out_trade_no", "须为6至32位的数字、字母或_-|*"));
    }
    let total_fen = body.pointer("/amount/total").and_then(Value::as_i64).unwrap_or_default();
    if total_fen <= 0 {
        return Err(Refusal::parameter("/body/amount/total", "须大于0").internal("268435464"));
    }
    if !matches!(text(&body, "/amount/currency"), "" | "CNY") {
        return Err(Refusal::parameter("/body/amount/currency", "只支持CNY"));
    }
    let notify_url = text(&body, "/notify_url").to_owned();
    if !is_notify_url(&notify_url) {
        return Err(Refusal::parameter("/body/notify_url", "须为不带参数的绝对地址"));
    }
    let expires_ms = match text(&body, "/time_expire") {
        "" => now_ms + ORDER_LIFE_MS,
        deadline => read_deadline(deadline)?.clamp(now_ms + EXPIRE_MIN_MS, now_ms + EXPIRE_MAX_MS),
    };
    let optional = |pointer: &str| Some(text(&body, pointer)).filter(|text| !text.is_empty()).map(str::to_owned);
    let (mchid, appid, openid, sub_payer) = if partner {
        let (sp_openid, sub_openid) = (text(&body, "/payer/sp_openid"), text(&body, "/payer/sub_openid"));
        let (openid, sub_payer) = match (sp_openid, sub_openid) {
            ("", "") => {
                return Err(
                    Refusal::parameter("/body/payer/sp_openid", "sp_openid与sub_openid须填一个").internal("268501013")
                );
            }
            (sp_openid, "") => (sp_openid, false),
            (_, sub_openid) => (sub_openid, true),
        };
        if sub_payer && text(&body, "/sub_appid").is_empty() {
            return Err(Refusal::parameter("/body/sub_appid", "填写sub_openid时必填"));
        }
        ("/sp_mchid", "/sp_appid", openid, sub_payer)
    } else {
        ("/mchid", "/appid", text(&body, "/payer/openid"), false)
    };
    Ok(Order {
        partner,
        mchid: text(&body, mchid).to_owned(),
        sub_mchid: optional("/sub_mchid"),
        appid: text(&body, appid).to_owned(),
        sub_appid: optional("/sub_appid"),
        out_trade_no,
        attach: optional("/attach"),
        notify_url,
        total_fen,
        openid: openid.to_owned(),
        sub_payer,
        created_ms: now_ms,
        expires_ms,
        state: TradeState::NotPay,
        prepay_id: new_prepay_id(now_ms),
        prepay_ms: now_ms,
        transaction_id: None,
        success_ms: None,
        notice_id: new_notice_id(),
        body,
    })
}

/// App, merchants and payer must belong together.
fn check_parties(state: &State, order: &Order, merchant: &Merchant, switches: &Switches) -> Result<(), Refusal> {
    let mismatch = || Refusal::new(400, "APPID_MCHID_NOT_MATCH", "appid和mchid不匹配", "268445527");
    if !state.is_bound(&order.appid, &order.mchid) {
        return Err(mismatch());
    }
    if let Some(sub_mchid) = &order.sub_mchid {
        if sub_mchid == &order.mchid {
            return Err(Refusal::parameter("/body/sub_mchid", "不能与sp_mchid相同").internal("268443705"));
        }
        if !merchant.subs.contains(sub_mchid) {
            return Err(Refusal::new(403, "NO_AUTH", "商户号未与服务商建立受理关系", "268443701"));
        }
        if let Some(sub_appid) = &order.sub_appid
            && !state.is_bound(sub_appid, sub_mchid)
        {
            return Err(mismatch());
        }
    }
    let payers = if order.partner {
        let sub_appid = order.sub_appid.as_deref().unwrap_or_default();
        vec![
            (order.appid.as_str(), text(&order.body, "/payer/sp_openid")),
            (sub_appid, text(&order.body, "/payer/sub_openid")),
        ]
    } else {
        vec![(order.appid.as_str(), order.openid.as_str())]
    };
    for (appid, openid) in payers {
        if !openid.is_empty() && !state.owns(appid, openid) {
            return Err(match switches.foreign_openid {
                ForeignOpenid::ParamError => Refusal::new(400, "PARAM_ERROR", "无效的openid", "268435461"),
                ForeignOpenid::OpenidMismatch => {
                    Refusal::new(500, "OPENID_MISMATCH", "openid和appid不匹配", "268435461")
                }
            });
        }
    }
    Ok(())
}

fn is_out_trade_no(number: &str) -> bool {
    (6..=32).contains(&number.len())
        && number.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-|*".contains(&byte))
}

pub(super) fn is_notify_url(url: &str) -> bool {
    let Ok(parsed) = url.parse::<http::Uri>() else {
        return false;
    };
    matches!(parsed.scheme_str(), Some("http" | "https"))
        && parsed.host().is_some_and(|host| !host.is_empty())
        && !url.contains(['?', '#'])
}

/// RFC 3339 with an offset and without a fraction, to Unix milliseconds.
fn read_deadline(text: &str) -> Result<i64, Refusal> {
    let wrong = || Refusal::parameter("/body/time_expire", "不符合rfc3339标准格式");
    if text.contains('.') {
        return Err(wrong());
    }
    let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| wrong())?;
    Ok(time.unix_timestamp() * 1000)
}

/// `wx`, 14 digits of Beijing time, 20 hexadecimal digits.
fn new_prepay_id(now_ms: i64) -> String {
    let time = super::beijing(now_ms);
    format!(
        "wx{:04}{:02}{:02}{:02}{:02}{:02}{}",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second(),
        chance::hex(&chance::bytes::<10>())
    )
}

/// In the form of a UUID, as notifications carry it.
pub(super) fn new_notice_id() -> String {
    let digits = chance::hex(&chance::bytes::<16>());
    format!("{}-{}-{}-{}-{}", &digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_urls_and_deadlines_have_their_form() {
        for (number, good) in
            [("T00001", true), ("T0001", false), ("A|B*C_-", true), ("A.B.C.D", false), (&"9".repeat(33), false)]
        {
            assert_eq!(is_out_trade_no(number), good, "{number}");
        }
        for (url, good) in [
            ("https://pay.example.com/notify", true),
            ("http://127.0.0.1:8080/n", true),
            ("https://pay.example.com/n?a=1", false),
            ("https://pay.example.com/n#a", false),
            ("pay.example.com/n", false),
            ("ftp://pay.example.com/n", false),
        ] {
            assert_eq!(is_notify_url(url), good, "{url}");
        }
        for (deadline, good) in [
            ("2025-09-01T16:30:00+08:00", true),
            ("2025-09-01T08:30:00Z", true),
            ("2025-09-01T16:30:00.000+08:00", false),
            ("2025-09-01T16:30:00", false),
            ("2025-09-01T16:30:00 08:00", false),
        ] {
            assert_eq!(read_deadline(deadline).is_ok(), good, "{deadline}");
        }
        assert_eq!(read_deadline("2025-09-01T16:30:00+08:00"), Ok(1_756_715_400_000));
        assert_eq!(new_prepay_id(0).len(), 36);
        assert!(new_prepay_id(0).starts_with("wx19700101080000"));
        assert_eq!(new_notice_id().len(), 36);
    }
}
