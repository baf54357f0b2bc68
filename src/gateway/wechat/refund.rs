//! Refunds: frozen, sent, asked about, and read from answers and notices (`wechat-pay.md` §8).

use reqwest::Method;

use super::{
    WALLET, WechatGateway, json, other_success,
    refusal::Refusal,
    settings::Mode,
    trade::Payee,
    unknown,
    wire::{RefundAmountBody, RefundAnswer, RefundBody},
};
use crate::{
    domain::{
        attempt::Frozen,
        id::{OutRefundNo, OutTradeNo},
        money::Fen,
        time::Timestamp,
    },
    gateway::{GatewayError, RefundAsk, RefundFound, RefundSeen, RefundStatus, Refused, http::check_base_url},
};

const PATH: &str = "/v3/refund/domestic/refunds";

/// `reason` is string(80), `notify_url` string(256), `refund_id` string(32).
const REASON_MAX: usize = 80;
const NOTIFY_URL_MAX: usize = 256;
const REFUND_ID_MAX: usize = 64;

/// Errors: what WeChat Pay would surely refuse.
pub(super) fn freeze(mode: &Mode, ask: &RefundAsk) -> Result<Frozen, String> {
    if ask.amount > ask.total {
        return Err(format!("a refund of {} is more than the order's {}", ask.amount, ask.total));
    }
    if ask.total > Fen::WECHAT_MAX {
        return Err(format!("WeChat Pay takes at most {}", Fen::WECHAT_MAX));
    }
    check_base_url(&ask.notify_url).map_err(|error| format!("notify_url: {error}"))?;
    if ask.notify_url.chars().count() > NOTIFY_URL_MAX {
        return Err(format!("notify_url has more than {NOTIFY_URL_MAX} characters"));
    }
    let body = RefundBody {
        sub_mchid: match mode {
            Mode::Direct { .. } => None,
            Mode::Provider { sub_mchid, .. } => Some(sub_mchid.clone()),
        },
        out_trade_no: ask.out_trade_no.to_string(),
        out_refund_no: ask.out_refund_no.to_string(),
        reason: ask.reason.as_deref().and_then(reason),
        notify_url: ask.notify_url.clone(),
        amount: RefundAmountBody { refund: ask.amount.get(), total: ask.total.get(), currency: "CNY".into() },
    };
    Ok(Frozen { body: json(&body), notify_url: ask.notify_url.clone() })
}

/// Words for the payer must not keep money from going back: what WeChat Pay would refuse in them is left out (§0, encoding).
fn reason(words: &str) -> Option<String> {
    let kept: String = words.trim().chars().filter(|c| c.len_utf8() <= 3 && !c.is_control()).take(REASON_MAX).collect();
    (!kept.trim().is_empty()).then_some(kept)
}

pub(super) async fn send(
    gateway: &WechatGateway,
    trade: &OutTradeNo,
    refund: &OutRefundNo,
    frozen: &Frozen,
) -> Result<RefundSeen, GatewayError> {
    let sent: RefundBody = serde_json::from_str(&frozen.body).map_err(|_| not_these_bytes())?;
    if sent.out_refund_no != refund.to_string() || sent.out_trade_no != trade.to_string() {
        return Err(not_these_bytes());
    }
    let answer = gateway.call(Method::POST, PATH, &frozen.body).await?;
    if answer.status != 200 {
        return Err(other_success(&answer)
            .unwrap_or_else(|| Refusal::read(answer.status, &answer.body).of_refund(answer.repeated)));
    }
    let seen = read_answer(trade, refund, &answer.body).map_err(unknown)?;
    let same = |told: Option<Fen>, sent: i64| told.is_none_or(|told| told.get() == sent);
    if !same(seen.amount, sent.amount.refund) || !same(seen.total, sent.amount.total) {
        return Err(unknown("the answer tells another amount than was sent".into()));
    }
    Ok(seen)
}

/// Bytes that are not this refund's are a fault of ours: nothing is sent, and nobody else's money goes back.
fn not_these_bytes() -> GatewayError {
    GatewayError::Refused { wallet: WALLET, code: "NOT_ITS_BYTES".into(), why: Refused::Order }
}

pub(super) async fn query(
    gateway: &WechatGateway,
    trade: &OutTradeNo,
    refund: &OutRefundNo,
) -> Result<RefundFound, GatewayError> {
    // Our numbers are letters and digits, mchids digits: nothing here needs encoding.
    let path = match &gateway.payee.mode {
        Mode::Direct { .. } => format!("{PATH}/{refund}"),
        Mode::Provider { sub_mchid, .. } => format!("{PATH}/{refund}?sub_mchid={sub_mchid}"),
    };
    let answer = gateway.call(Method::GET, &path, "").await?;
    if answer.status != 200 {
        return match other_success(&answer) {
            Some(error) => Err(error),
            None => Refusal::read(answer.status, &answer.body).of_refund_query(),
        };
    }
    read_answer(trade, refund, &answer.body).map(RefundFound::Seen).map_err(unknown)
}

/// Errors: why it cannot be used, safe to log.
fn read_answer(trade: &OutTradeNo, refund: &OutRefundNo, body: &[u8]) -> Result<RefundSeen, String> {
    let answer: RefundAnswer =
        serde_json::from_slice(body).map_err(|_| "a refund's answer cannot be read".to_owned())?;
    if answer.out_refund_no != refund.to_string() || answer.out_trade_no != trade.to_string() {
        return Err("the answer is about another refund".into());
    }
    read(&answer, answer.status.as_deref())
}

/// `status` stands under another name in a notice. Errors: why it cannot be used, safe to log.
pub(super) fn read(answer: &RefundAnswer, status: Option<&str>) -> Result<RefundSeen, String> {
    let status = match status.unwrap_or_default() {
        "PROCESSING" => RefundStatus::Processing,
        "SUCCESS" => RefundStatus::Success,
        "ABNORMAL" => RefundStatus::Abnormal,
        "CLOSED" => RefundStatus::Closed,
        _ => return Err("the refund's status is absent or not a known one".into()),
    };
    let amount = answer.amount.as_ref();
    let currency = amount.and_then(|amount| amount.currency.as_deref());
    if currency.is_some_and(|currency| !currency.is_empty() && currency != "CNY") {
        return Err("the refund is in another currency".into());
    }
    let fen = |name: &str, told: Option<i64>| {
        told.map(Fen::new).transpose().map_err(|_| format!("amount.{name} is out of range"))
    };
    let refund_id = answer.refund_id.as_deref().filter(|id| !id.is_empty());
    if refund_id.is_some_and(|id| id.len() > REFUND_ID_MAX || !id.bytes().all(|byte| byte.is_ascii_graphic())) {
        return Err("an odd refund_id".into());
    }
    Ok(RefundSeen {
        status,
        wallet_refund_no: refund_id.map(str::to_owned),
        amount: fen("refund", amount.and_then(|amount| amount.refund))?,
        total: fen("total", amount.and_then(|amount| amount.total))?,
        at: answer.success_time.as_deref().and_then(Timestamp::parse_rfc3339),
    })
}

impl Payee {
    /// The first merchant number of a refund notice that is not this account's.
    pub fn foreign_refund(&self, answer: &RefundAnswer) -> Option<&'static str> {
        let differs = |name, found: &Option<String>, wanted: &str| (found.as_deref() != Some(wanted)).then_some(name);
        match &self.mode {
            Mode::Direct { mchid } => differs("mchid", &answer.mchid, mchid),
            Mode::Provider { sp_mchid, sub_mchid, .. } => differs("sp_mchid", &answer.sp_mchid, sp_mchid)
                .or_else(|| differs("sub_mchid", &answer.sub_mchid, sub_mchid)),
        }
    }
}
