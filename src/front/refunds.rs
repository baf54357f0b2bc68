//! The merchant's refund API. A refund is an intent: its row is written here, and the scheduler carries it to the wallet.

use std::{sync::Arc, time::Duration};

use poem::{Request, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Front,
    auth::authentic,
    error::ApiError,
    orders::{BODY_MAX, check_notify_url, find, read_json, said, text},
};
use crate::{
    domain::{
        id::RefundNo,
        money::Fen,
        order::Order,
        refund::{Initiator, Refund, RefundState, RefundWish},
    },
    keys::mac::sha256,
    store::RefundInserted,
};

/// A call waits for the wallet's first answer at most this long.
const WAIT: Duration = Duration::from_secs(8);
const LOOK_EVERY: Duration = Duration::from_millis(200);
const REASON_MAX: usize = 80;

/// `POST /api/v1/refunds`, as sent.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CreateRefund {
    refund_no: Option<String>,
    order_no: Option<String>,
    refund_amount: Option<i64>,
    reason: Option<String>,
    notify_url: Option<String>,
}

/// Sets money of a paid order aside and gives it back, or answers the stored refund to the same content.
pub async fn create(front: &Arc<Front>, mut request: Request, trace_id: &str) -> Result<Response, ApiError> {
    let call = authentic(front, &mut request, BODY_MAX).await?;
    let asked: CreateRefund = read_json(&call.body)?;
    let order_no = asked.order_no.as_deref().ok_or(ApiError::Missing("orderNo"))?;
    let wish = wish(front, &asked)?;
    let order = find(front, &call.merchant, order_no).await?;
    // Looked for first: the same refund again is answered whatever became of its order.
    if let Some(stored) = front.store.load_refund_by_no(call.merchant.id, &wish.refund_no).await? {
        return again(stored, &wish, &order, trace_id);
    }
    let Some(payment) = order.paying_attempt() else { return Err(ApiError::NotPaid(order.order_no)) };
    let refund = Refund::new(&order, payment, wish.clone(), front.clock.now());
    match front.store.insert_refund(&refund).await? {
        RefundInserted::New => {
            let refund = answered(front, refund).await;
            Ok(said(trace_id, data(&refund, &order, Some(false))))
        }
        RefundInserted::Exists(stored) => again(*stored, &wish, &order, trace_id),
        RefundInserted::Exceeds { left } => Err(ApiError::Exceeds(left)),
        RefundInserted::WentBack => Err(ApiError::Exceeds(0)),
        RefundInserted::TooMany => Err(ApiError::TooManyRefunds),
    }
}

/// How a refund stands.
pub async fn get(
    front: &Arc<Front>,
    refund_no: &str,
    mut request: Request,
    trace_id: &str,
) -> Result<Response, ApiError> {
    let call = authentic(front, &mut request, BODY_MAX).await?;
    let refund_no = RefundNo::parse(refund_no).map_err(|error| ApiError::Invalid(error.to_string()))?;
    // Merchant and number together: another merchant's refund is not there.
    let refund = front.store.load_refund_by_no(call.merchant.id, &refund_no).await?;
    let refund = refund.ok_or(ApiError::NoSuchRefund(refund_no))?;
    let order = front.store.load_order(refund.order).await?;
    let order = order.ok_or_else(|| ApiError::Internal(format!("refund {} has no order", refund.id)))?;
    Ok(said(trace_id, data(&refund, &order, None)))
}

fn again(stored: Refund, wish: &RefundWish, order: &Order, trace_id: &str) -> Result<Response, ApiError> {
    if stored.fingerprint != wish.fingerprint {
        return Err(ApiError::OtherRefund(stored.refund_no));
    }
    Ok(said(trace_id, data(&stored, order, Some(true))))
}

fn wish(front: &Front, asked: &CreateRefund) -> Result<RefundWish, ApiError> {
    let invalid = |error: &dyn std::fmt::Display| ApiError::Invalid(error.to_string());
    let refund_no = asked.refund_no.as_deref().ok_or(ApiError::Missing("refundNo"))?;
    let refund_no = RefundNo::parse(refund_no).map_err(|error| invalid(&error))?;
    if refund_no.as_str().starts_with(Refund::SYSTEM_PREFIX) {
        return Err(ApiError::Invalid(format!("refundNo 不能以 {} 开头", Refund::SYSTEM_PREFIX)));
    }
    let amount = Fen::new(asked.refund_amount.ok_or(ApiError::Missing("refundAmount"))?);
    if let Some(url) = &asked.notify_url {
        check_notify_url(url, front.settings.allow_private_notify_urls)?;
    }
    Ok(RefundWish {
        refund_no,
        fingerprint: fingerprint(asked),
        amount: amount.map_err(|error| invalid(&format!("refundAmount：{error}")))?,
        reason: asked.reason.as_deref().map(|value| text("reason", value, REASON_MAX)).transpose()?,
        notify_url: asked.notify_url.clone(),
        initiator: Initiator::Merchant,
    })
}

/// Of the business fields as sent: the same content again is the same refund.
fn fingerprint(asked: &CreateRefund) -> [u8; 32] {
    let fields = json!([asked.order_no, asked.refund_amount, asked.reason, asked.notify_url]);
    sha256(fields.to_string().as_bytes())
}

/// The refund once its wallet has answered, or as it is when the wait is over; one that has to keep its distance from another
/// is not waited for. It was taken: nothing that goes wrong from here on makes the answer an error.
async fn answered(front: &Front, mut refund: Refund) -> Refund {
    let Some(_place) = front.admission.linger(refund.merchant) else { return refund };
    let deadline = Instant::now() + WAIT;
    while matches!(refund.state, RefundState::Waiting | RefundState::Sent) && Instant::now() < deadline {
        let put_off = refund.state == RefundState::Waiting || refund.hint.is_some();
        if put_off && refund.next_at.is_some_and(|at| at > front.clock.now().plus(WAIT)) {
            break;
        }
        tokio::time::sleep(LOOK_EVERY).await;
        match front.store.load_refund(refund.id).await {
            Ok(Some(fresh)) => refund = fresh,
            Ok(None) | Err(_) => break,
        }
    }
    refund
}

fn data(refund: &Refund, order: &Order, duplicate: Option<bool>) -> Value {
    let mut data = json!({
        "refundNo": refund.refund_no.as_str(),
        "orderNo": order.order_no.as_str(),
        "serialNo": refund.id.to_string(),
        "refundAmount": refund.amount.get(),
        "refundStatus": refund.state.refund_status(),
        "initiator": refund.initiator.as_str().to_uppercase(),
        "createTime": refund.created_at.rfc3339(),
        "outTradeNo": refund.out_trade_no().to_string(),
    });
    if let Some(duplicate) = duplicate {
        data["duplicate"] = json!(duplicate);
    }
    if let Some(reason) = &refund.reason {
        data["reason"] = json!(reason);
    }
    if let Some(number) = &refund.wallet_refund_no {
        data["channelRefundNo"] = json!(number);
    }
    match &refund.state {
        RefundState::Succeeded { at } => data["refundTime"] = json!(at.rfc3339()),
        // The wallet's code, for a person: what to do about it stands in the wallet's own documents.
        RefundState::Failed { why } => data["failReason"] = json!(why),
        _ => {
            if let Some(hint) = &refund.hint {
                data["hint"] = json!(hint);
            }
        }
    }
    data
}

/// How the refunds of an order are told with it.
pub fn of_order(order: &Order, refunds: &[Refund]) -> Value {
    refunds.iter().map(|refund| data(refund, order, None)).collect()
}
