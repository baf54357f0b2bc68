//! `POST /pay/info` and `POST /pay/result`: what the page inside the mini-program shows before and after paying.

use std::{sync::Arc, time::Duration};

use poem::{Request, Response, http::StatusCode};
use serde_json::json;
use tokio::time::Instant;

use super::{
    Front, answer,
    pay::{read_link, shed},
};
use crate::{
    domain::{
        id::AttemptNo,
        order::{Order, OrderState},
        outcome::Refusal,
        payinfo::PayInfo,
    },
    store::StoreError,
};

/// A `/result` asks the wallet at most this often per order.
const ASK_GAP: Duration = Duration::from_secs(3);
/// A `/result` pulls questions forward until so long after the order's expiry.
const ASKED_AFTER_EXPIRY: Duration = Duration::from_secs(600);
/// How often a waiting `/result` looks at the row.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What is being paid, so that nobody pays a stranger's forwarded link unaware.
pub async fn info(front: &Arc<Front>, mut request: Request) -> Response {
    answer_with_order(front, &mut request, |order| {
        json!({
            "goodName": order.good_name,
            "orderAmount": order.amount.get(),
            "payStatus": order.pay_status(),
        })
    })
    .await
}

/// How it stands, the wallet asked anew: the page's own callback proves nothing.
pub async fn result(front: &Arc<Front>, mut request: Request) -> Response {
    let info = match read_link(front, &mut request).await {
        Ok((_, info)) => info,
        Err(refusal) => return answer::refusal(refusal),
    };
    let _place = match front.admission.admit_page(info.order) {
        Ok(place) => place,
        Err(why) => return shed(why),
    };
    match settled_order(front, &info).await {
        Ok(order) => answer::success(json!({ "payStatus": order.pay_status() })),
        Err(said) => said.into_response(),
    }
}

async fn answer_with_order(
    front: &Front,
    request: &mut Request,
    data: impl Fn(&Order) -> serde_json::Value,
) -> Response {
    let info = match read_link(front, request).await {
        Ok((_, info)) => info,
        Err(refusal) => return answer::refusal(refusal),
    };
    let _place = match front.admission.admit_page(info.order) {
        Ok(place) => place,
        Err(why) => return shed(why),
    };
    match linked_order(front, &info).await {
        Ok(order) => answer::success(data(&order)),
        Err(said) => said.into_response(),
    }
}

/// Why there is no order to tell about.
enum Said {
    Refused(Refusal),
    StoreDown,
}

impl Said {
    fn into_response(self) -> Response {
        match self {
            Self::Refused(refusal) => answer::refusal(refusal),
            Self::StoreDown => answer::busy(StatusCode::SERVICE_UNAVAILABLE, 1),
        }
    }
}

impl From<StoreError> for Said {
    fn from(error: StoreError) -> Self {
        tracing::warn!(%error, "an order cannot be read for its page");
        Self::StoreDown
    }
}

/// The order behind a link that is not revoked.
async fn linked_order(front: &Front, info: &PayInfo) -> Result<Order, Said> {
    let order = front.store.load_order(info.order).await?;
    let order = order.filter(|order| order.merchant == info.merchant && order.mini_program(info.wallet).is_some());
    let Some(order) = order else { return Err(Said::Refused(Refusal::InvalidLink)) };
    // A paid order's link tells so, whatever its generation, as the call itself does.
    if order.link_generation != info.generation && !matches!(order.state, OrderState::Paid { .. }) {
        return Err(Said::Refused(Refusal::InvalidLink));
    }
    Ok(order)
}

/// The order after its next question was pulled forward and answered, or as it is when the wait is over.
async fn settled_order(front: &Front, info: &PayInfo) -> Result<Order, Said> {
    let order = linked_order(front, info).await?;
    Ok(asked_anew(front, order).await?.order)
}

/// An order, and whether the wallet answered about it just now (or had nothing to add).
pub struct Asked {
    pub order: Order,
    pub synced: bool,
}

/// Pulls the next question forward, at most once in 3 s, and waits for its answer in the order's row. The front itself asks
/// no wallet.
///
/// Errors: the store cannot be read.
pub async fn asked_anew(front: &Front, order: Order) -> Result<Asked, StoreError> {
    let Some(mut questions) = questions(&order) else { return Ok(Asked { order, synced: true }) };
    // Long after its expiry the scheduler has the last word, not a page that is still open somewhere.
    if front.clock.now() > order.expire_at.plus(ASKED_AFTER_EXPIRY)
        || !front.store.pull_query_forward(order.id, front.clock.now(), ASK_GAP).await?
    {
        return Ok(Asked { order, synced: false });
    }
    let deadline = Instant::now() + front.settings.result_wait;
    let mut order = order;
    while Instant::now() < deadline {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(fresh) = front.store.load_order(order.id).await? else { break };
        order = fresh;
        match self::questions(&order) {
            // A prepay or a close meanwhile: the timetable begins anew, and nobody was asked.
            Some((no, asked)) if no == questions.0 && asked < questions.1 => questions = (no, asked),
            fresh if fresh == Some(questions) => {}
            _ => return Ok(Asked { order, synced: true }),
        }
    }
    Ok(Asked { order, synced: false })
}

/// The number that may be payable, and how often its wallet answered since the last prepay: another number, or more, means an
/// answer. `None`: nothing to ask.
fn questions(order: &Order) -> Option<(AttemptNo, u32)> {
    order.payable_attempt().map(|attempt| (attempt.no, attempt.queries))
}
