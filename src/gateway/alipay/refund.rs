//! Refunds: frozen, sent, asked about (`alipay.md` §8).

use serde::{Deserialize, Serialize};

use super::{
    AlipayGateway, Verified, errors, unknown,
    wire::{filled, plain_words},
};
use crate::{
    domain::{
        attempt::Frozen,
        id::{OutRefundNo, OutTradeNo},
        money::Fen,
        time::Timestamp,
        wallet::Wallet,
    },
    gateway::{GatewayError, RefundAsk, RefundFound, RefundSeen, RefundStatus, Refused},
};

/// `biz_content` of `alipay.trade.refund`; the order of the fields is the order of the bytes. No address is sent: extra parameters
/// "may fail or double a refund".
#[derive(Serialize)]
struct RefundBody {
    out_trade_no: String,
    refund_amount: String,
    out_request_no: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    refund_reason: Option<String>,
}

#[derive(Serialize)]
struct QueryBody {
    out_trade_no: String,
    out_request_no: String,
    query_options: [&'static str; 1],
}

/// What of the frozen bytes is looked at again.
#[derive(Deserialize)]
struct Sent {
    out_trade_no: String,
    refund_amount: String,
    out_request_no: String,
}

#[derive(Deserialize)]
struct RefundAnswer {
    #[serde(default, deserialize_with = "filled")]
    out_trade_no: Option<String>,
    #[serde(default, deserialize_with = "filled")]
    fund_change: Option<String>,
    /// The sum of all refunds of the trade.
    #[serde(default, deserialize_with = "filled")]
    refund_fee: Option<String>,
    #[serde(default, deserialize_with = "filled")]
    gmt_refund_pay: Option<String>,
}

#[derive(Deserialize)]
struct QueryAnswer {
    #[serde(default, deserialize_with = "filled")]
    out_trade_no: Option<String>,
    #[serde(default, deserialize_with = "filled")]
    out_request_no: Option<String>,
    #[serde(default, deserialize_with = "filled")]
    refund_status: Option<String>,
    #[serde(default, deserialize_with = "filled")]
    refund_amount: Option<String>,
    #[serde(default, deserialize_with = "filled")]
    total_amount: Option<String>,
    #[serde(default, deserialize_with = "filled")]
    gmt_refund_pay: Option<String>,
}

/// Errors: what Alipay would surely refuse.
pub(super) fn freeze(ask: &RefundAsk) -> Result<Frozen, String> {
    if ask.amount > ask.total {
        return Err(format!("a refund of {} is more than the order's {}", ask.amount, ask.total));
    }
    let body = RefundBody {
        out_trade_no: ask.out_trade_no.to_string(),
        refund_amount: ask.amount.to_yuan(),
        out_request_no: ask.out_refund_no.to_string(),
        refund_reason: ask.reason.as_deref().map(plain_words).filter(|words| !words.is_empty()),
    };
    let body = serde_json::to_string(&body).map_err(|error| error.to_string())?;
    Ok(Frozen { body, notify_url: ask.notify_url.clone() })
}

pub(super) async fn send(
    gateway: &AlipayGateway,
    trade: &OutTradeNo,
    refund: &OutRefundNo,
    frozen: &Frozen,
) -> Result<RefundSeen, GatewayError> {
    let sent: Sent = serde_json::from_str(&frozen.body).map_err(|_| not_these_bytes())?;
    let sent_fen = Fen::from_yuan(&sent.refund_amount).map_err(|_| not_these_bytes())?;
    if sent.out_request_no != refund.to_string() || sent.out_trade_no != trade.to_string() {
        return Err(not_these_bytes());
    }
    let params = [("biz_content", frozen.body.as_str())];
    let answer: Verified<RefundAnswer> =
        gateway.call("alipay.trade.refund", &params).await.map_err(errors::of_refund)?;
    let answer = answer.into_inner();
    super::same_number(answer.out_trade_no.as_deref(), trade)?;
    let mut seen =
        RefundSeen { status: RefundStatus::Processing, wallet_refund_no: None, amount: None, total: None, at: None };
    // `code` 10000 alone is no success, and N is a repeat of what is finished or of what is not begun: a query decides.
    if answer.fund_change.as_deref() != Some("Y") {
        return Ok(seen);
    }
    // All refunds of the trade together are no less than this one.
    if let Some(all) = fen("refund_fee", answer.refund_fee.as_deref())?
        && all < sent_fen
    {
        return Err(unknown("the answer tells of less money than was sent back"));
    }
    seen.status = RefundStatus::Success;
    seen.at = answer.gmt_refund_pay.as_deref().and_then(Timestamp::parse_china_text);
    Ok(seen)
}

/// Bytes that are not this refund's are a fault of ours: nothing is sent, and nobody else's money goes back.
fn not_these_bytes() -> GatewayError {
    GatewayError::Refused { wallet: Wallet::Alipay, code: "NOT_ITS_BYTES".into(), why: Refused::Order }
}

pub(super) async fn query(
    gateway: &AlipayGateway,
    trade: &OutTradeNo,
    refund: &OutRefundNo,
) -> Result<RefundFound, GatewayError> {
    let body = QueryBody {
        out_trade_no: trade.to_string(),
        out_request_no: refund.to_string(),
        // Without it the time is not told.
        query_options: ["gmt_refund_pay"],
    };
    let body = serde_json::to_string(&body).map_err(|error| unknown(&error.to_string()))?;
    let call = gateway.call("alipay.trade.fastpay.refund.query", &[("biz_content", &body)]).await;
    let answer: Verified<QueryAnswer> = match call {
        Ok(answer) => answer,
        Err(error) => return errors::of_refund_query(error),
    };
    read(answer.into_inner(), trade, refund).map(RefundFound::Seen)
}

fn read(answer: QueryAnswer, trade: &OutTradeNo, refund: &OutRefundNo) -> Result<RefundSeen, GatewayError> {
    let (trade, refund) = (trade.to_string(), refund.to_string());
    let status = match answer.refund_status.as_deref() {
        // Older pages take the numbers alone for a success; only the word is one here.
        Some("REFUND_SUCCESS") => RefundStatus::Success,
        // Not received, failed, running, or a wrong number: Alipay itself warns that it may succeed yet. `REFUND_PROCESSING` and
        // `REFUND_FAIL` belong to the asynchronous call, which is not used.
        _ => RefundStatus::Processing,
    };
    let numbers = [(&answer.out_trade_no, &trade), (&answer.out_request_no, &refund)];
    for (told, asked) in numbers {
        match told {
            Some(told) if told == asked => {}
            // Where nothing is known, no number is told either.
            None if status == RefundStatus::Processing => {}
            _ => return Err(unknown("the answer is about another refund, or about none")),
        }
    }
    Ok(RefundSeen {
        status,
        wallet_refund_no: None,
        amount: fen("refund_amount", answer.refund_amount.as_deref())?,
        total: fen("total_amount", answer.total_amount.as_deref())?,
        at: answer.gmt_refund_pay.as_deref().and_then(Timestamp::parse_china_text),
    })
}

/// Zero counts as absent: a success never tells it, an answer that knows nothing may.
fn fen(name: &str, text: Option<&str>) -> Result<Option<Fen>, GatewayError> {
    let text = text.filter(|text| super::wire::is_positive(text));
    text.map(Fen::from_yuan).transpose().map_err(|error| unknown(&format!("{name}: {error}")))
}
