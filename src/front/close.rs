//! `POST /api/v1/orders/{orderNo}/close`: an intent; the scheduler asks the wallets. Paid wins.

use std::{sync::Arc, time::Duration};

use poem::{Request, Response};
use serde_json::json;
use tokio::time::Instant;

use super::{
    Front,
    auth::authentic,
    error::ApiError,
    orders::{BODY_MAX, apply, find, said},
};
use crate::domain::order::{Order, OrderEvent, OrderState};

/// A call waits for the wallets' word at most this long.
const WAIT: Duration = Duration::from_secs(8);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A close that is asked for again pulls the next question forward at most this often.
const ASK_GAP: Duration = Duration::from_secs(3);

/// Writes the wish and waits for what becomes of it. `FAIL` means not confirmed closed; `payStatus` tells why.
pub async fn close(
    front: &Arc<Front>,
    order_no: &str,
    mut request: Request,
    trace_id: &str,
) -> Result<Response, ApiError> {
    let call = authentic(front, &mut request, BODY_MAX).await?;
    let order = find(front, &call.merchant, order_no).await?;
    if order.is_closing() {
        front.store.pull_query_forward(order.id, front.clock.now(), ASK_GAP).await?;
    }
    let order = apply(front, order, |_| Some(OrderEvent::CloseRequested)).await?;
    let order = settled(front, order).await;
    let closed = matches!(order.state, OrderState::Closed { .. });
    let mut data = json!({
        "orderNo": order.order_no.as_str(),
        "serialNo": order.id.to_string(),
        "status": if closed { "CLOSE" } else { "FAIL" },
        // An order under a close is not waited for any more, whatever its numbers.
        "payStatus": if order.is_closing() { "PROCESSING" } else { order.pay_status() },
    });
    if let OrderState::Closed { at } = order.state {
        data["closeTime"] = json!(at.rfc3339());
    }
    Ok(said(trace_id, data))
}

/// The order once the wallets have answered, or as it is when the wait is over. The wish is written: nothing that goes wrong
/// from here on makes the answer an error.
async fn settled(front: &Front, mut order: Order) -> Order {
    let Some(_place) = front.admission.linger(order.merchant) else { return order };
    let deadline = Instant::now() + WAIT;
    // A disputed payment waits for a person, not for a wallet.
    while order.is_closing() && !order.is_disputed() && Instant::now() < deadline {
        tokio::time::sleep(LOOK_EVERY).await;
        match front.store.load_order(order.id).await {
            Ok(Some(fresh)) => order = fresh,
            Ok(None) | Err(_) => break,
        }
    }
    order
}
