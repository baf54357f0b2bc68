//! The merchant's view of what it was told: the events of an order, and sending them again.

use std::sync::Arc;

use poem::{Request, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Front,
    auth::authentic,
    error::ApiError,
    orders::{find, read_json, said},
};
use crate::{
    domain::{
        event::{EventState, NotifyId},
        time::Timestamp,
    },
    store::{EventRow, ResendMany, Resent},
};

const BODY_MAX: usize = 4 * 1024;
/// Events that one call sends again.
const RESEND_MAX: u64 = 1_000;

/// `POST /api/v1/notifications/resend`, as sent.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ResendBody {
    from: Option<String>,
    to: Option<String>,
    state: Option<String>,
}

/// The events of an order, in sequence: how often each was tried, what was answered last, when it is tried next.
pub async fn of_order(
    front: &Arc<Front>,
    order_no: &str,
    mut request: Request,
    trace_id: &str,
) -> Result<Response, ApiError> {
    let call = authentic(front, &mut request, BODY_MAX).await?;
    let order = find(front, &call.merchant, order_no).await?;
    let events = front.store.events_of_order(order.id).await?;
    let notifications: Vec<_> = events.iter().map(notification).collect();
    Ok(said(trace_id, json!({ "orderNo": order.order_no.as_str(), "notifications": notifications })))
}

/// Sends one again, delivered or not, under its own `notifyId`.
pub async fn resend(front: &Arc<Front>, id: &str, mut request: Request, trace_id: &str) -> Result<Response, ApiError> {
    let call = authentic(front, &mut request, BODY_MAX).await?;
    // What is no number of ours is a number of nobody.
    let id = NotifyId::parse(id).map_err(|_| ApiError::NoSuchNotification)?;
    match front.store.resend_event(call.merchant.id, id, front.clock.now()).await? {
        Resent::Done => Ok(said(trace_id, json!({ "notifyId": id.to_string() }))),
        Resent::Withdrawn => Err(ApiError::Withdrawn),
        Resent::NoSuch => Err(ApiError::NoSuchNotification),
    }
}

/// Sends those of a span of time again, at most 1000 a call: parked ones, or, when asked for, delivered ones.
pub async fn resend_many(front: &Arc<Front>, mut request: Request, trace_id: &str) -> Result<Response, ApiError> {
    let call = authentic(front, &mut request, BODY_MAX).await?;
    let asked: ResendBody = read_json(&call.body)?;
    let state = match asked.state.as_deref() {
        None | Some("PARKED") => EventState::Parked,
        Some("DELIVERED") => EventState::Delivered,
        Some(_) => return Err(ApiError::Invalid("state 须为 PARKED 或 DELIVERED".into())),
    };
    let (from, to) = (moment("from", asked.from)?, moment("to", asked.to)?);
    if from >= to {
        return Err(ApiError::Invalid("from 须早于 to".into()));
    }
    let which = ResendMany { merchant: call.merchant.id, state, from, to, limit: RESEND_MAX };
    let (resent, more) = front.store.resend_events(which, front.clock.now()).await?;
    Ok(said(trace_id, json!({ "resent": resent, "more": more })))
}

fn moment(name: &'static str, text: Option<String>) -> Result<Timestamp, ApiError> {
    let text = text.ok_or(ApiError::Missing(name))?;
    let at = Timestamp::parse_rfc3339(&text);
    at.ok_or_else(|| ApiError::Invalid(format!("{name} 须为带时区的 RFC 3339 时间")))
}

fn notification(event: &EventRow) -> Value {
    let mut data = json!({
        "notifyId": event.id.to_string(),
        "eventType": event.kind.as_str(),
        "sequence": event.sequence,
        "notifyUrl": event.url,
        "state": event.state.as_str().to_uppercase(),
        "tries": event.tries,
        "lastStatus": event.last_status,
        "lastTrouble": event.last_trouble.as_deref().map(str::to_uppercase),
        "lastTime": event.last_at.map(Timestamp::rfc3339),
        "nextTime": event.next_at.map(Timestamp::rfc3339),
        "createTime": event.created_at.rfc3339(),
    });
    if let Some(refund_no) = &event.refund_no {
        data["refundNo"] = json!(refund_no);
    }
    data
}
