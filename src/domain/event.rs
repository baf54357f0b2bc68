//! What a merchant is told, and when it is told again.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};
use url::Url;
use uuid::Uuid;

use super::{
    attempt::AttemptState,
    id::{AttemptNo, CustomerNo, IdError},
    money::{Fen, Sum},
    order::{AnomalyKind, Moved, Order, OrderState},
    refund::{Initiator, Refund},
};

/// The number of one event (`notifyId`, and `webhook-id`): one per order, kind and refund, stable over retries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NotifyId(Uuid);

impl NotifyId {
    pub fn fresh() -> Self {
        Self(Uuid::now_v7())
    }

    /// Errors: [`IdError::Character`].
    pub fn parse(text: &str) -> Result<Self, IdError> {
        Uuid::parse_str(text)
            .map(Self)
            .map_err(|_| IdError::Character { what: "notifyId", allowed: "a hyphenated UUID" })
    }
}

impl fmt::Display for NotifyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for NotifyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NotifyId({})", self.0)
    }
}

/// What an event is about (`eventType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    Pay,
    Refund,
    Close,
}

impl EventKind {
    /// The name on the wire and in columns.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pay => "PAY",
            Self::Refund => "REFUND",
            Self::Close => "CLOSE",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Pay, Self::Refund, Self::Close].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// Where an event stands on its way to the merchant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventState {
    /// It goes out when its time comes and the earlier events of its order are no longer under way.
    Pending,
    /// Its endpoint is paused, or has much to take already: it waits for the endpoint, not for a time.
    Held,
    /// The merchant accepted it.
    Delivered,
    /// A close that was overtaken by a payment before it was delivered.
    Withdrawn,
    /// The last try failed: a person or the merchant sends it again.
    Parked,
}

impl EventState {
    pub const ALL: [Self; 5] = [Self::Pending, Self::Held, Self::Delivered, Self::Withdrawn, Self::Parked];

    /// The name in columns.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Held => "held",
            Self::Delivered => "delivered",
            Self::Withdrawn => "withdrawn",
            Self::Parked => "parked",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// Something that a merchant is told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MerchantEvent {
    /// The order is paid; the anomaly when it was paid in an unexpected way (after its close, by a closed number).
    Paid { anomaly: Option<AnomalyKind> },
    /// The order can no longer be paid.
    Closed,
    /// A refund of the order is settled.
    Refunded(RefundNews),
}

/// How a refund was settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundNews {
    /// The merchant's number for it (`refundNo`), at most 64 ASCII characters.
    pub refund_no: String,
    pub amount: Fen,
    /// `refundStatus` on the wire: `SUCCESS`, `FAIL` or `ABNORMAL`.
    pub status: &'static str,
    /// The refund's own `notifyUrl`; `None`: the order's.
    pub notify_url: Option<String>,
    /// The payment that is given back: the order's, or one beside it.
    pub attempt: AttemptNo,
    pub initiator: Initiator,
}

impl RefundNews {
    pub fn of(refund: &Refund) -> Self {
        Self {
            refund_no: refund.refund_no.to_string(),
            amount: refund.amount,
            status: refund.state.refund_status(),
            notify_url: refund.notify_url.clone(),
            attempt: refund.attempt,
            initiator: refund.initiator,
        }
    }
}

/// The part of an event's body that is fixed when it is written, in the contract's order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Facts<'a> {
    order_no: &'a str,
    serial_no: String,
    pay_status: &'static str,
    order_amount: i64,
    pay_amount: Option<i64>,
    pay_type: Option<&'static str>,
    pay_time: Option<String>,
    channel_trade_no: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refund_no: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refund_amount: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refund_status: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    initiator: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    anomaly: Option<String>,
    attach: Option<&'a str>,
}

impl MerchantEvent {
    /// What a change of an order tells its merchant. A second payment tells nothing: the order was paid already.
    pub fn of(moved: &Moved) -> Option<Self> {
        match moved.order.state {
            OrderState::Paid { .. } if moved.from_state != "paid" => {
                let unexpected = [AnomalyKind::LatePayment, AnomalyKind::ClosedNumberPaid];
                let met = |kind: &AnomalyKind| moved.anomalies.iter().any(|anomaly| anomaly.kind == *kind);
                Some(Self::Paid { anomaly: unexpected.into_iter().find(met) })
            }
            OrderState::Closed { .. } if moved.from_state != "closed" => Some(Self::Closed),
            _ => None,
        }
    }

    pub const fn kind(&self) -> EventKind {
        match self {
            Self::Paid { .. } => EventKind::Pay,
            Self::Closed => EventKind::Close,
            Self::Refunded(_) => EventKind::Refund,
        }
    }

    /// The merchant's number of the refund it is about; empty when it is about none.
    pub fn refund_no(&self) -> &str {
        match self {
            Self::Refunded(news) => &news.refund_no,
            Self::Paid { .. } | Self::Closed => "",
        }
    }

    /// Where it goes.
    pub fn url<'a>(&'a self, order: &'a Order) -> &'a str {
        match self {
            Self::Refunded(RefundNews { notify_url: Some(url), .. }) => url,
            _ => &order.notify_url,
        }
    }

    /// The body without its head (see [`sent_body`]): a JSON object of what is true now. What does not apply is null; what
    /// is about refunds or anomalies alone is absent.
    pub fn facts(&self, order: &Order) -> Result<String, serde_json::Error> {
        let refund = match self {
            Self::Refunded(news) => Some(news),
            _ => None,
        };
        let paying = match order.state {
            OrderState::Paid { by } => Some(by),
            _ => None,
        };
        // Money that goes back is told beside the payment that it came with.
        let paid = refund.map(|news| news.attempt).or(paying).and_then(|no| order.attempt(no));
        let payment = paid.and_then(|attempt| match &attempt.state {
            AttemptState::Paid { payment } => Some((attempt.wallet, payment)),
            _ => None,
        });
        let anomaly = match self {
            Self::Paid { anomaly } => *anomaly,
            Self::Refunded(news) if Some(news.attempt) != paying => Some(AnomalyKind::SecondPayment),
            _ => None,
        };
        serde_json::to_string(&Facts {
            order_no: order.order_no.as_str(),
            serial_no: order.id.to_string(),
            pay_status: order.pay_status(),
            order_amount: order.amount.get(),
            pay_amount: payment.map(|(_, payment)| payment.payer_amount.map_or(order.amount.get(), Sum::get)),
            pay_type: payment.map(|(wallet, _)| wallet.wire_name()),
            pay_time: payment.map(|(_, payment)| payment.paid_at.rfc3339()),
            channel_trade_no: payment.map(|(_, payment)| payment.trade_no.as_str()),
            refund_no: refund.map(|news| news.refund_no.as_str()),
            refund_amount: refund.map(|news| news.amount.get()),
            refund_status: refund.map(|news| news.status),
            initiator: refund.map(|news| news.initiator.as_str().to_uppercase()),
            anomaly: anomaly.map(|kind| kind.as_str().to_uppercase()),
            attach: order.attach.as_deref(),
        })
    }
}

/// The body as it is sent, the same bytes at every try: the event's own number and place first, then its facts.
pub fn sent_body(id: NotifyId, kind: EventKind, sequence: i64, customer: &CustomerNo, facts: &str) -> String {
    // None of the four holds a character that JSON would escape.
    let head = format!(
        r#"{{"notifyId":"{id}","eventType":"{}","sequence":{sequence},"customerNo":"{customer}""#,
        kind.as_str()
    );
    match facts.strip_prefix('{').map(str::trim_start) {
        Some("}") | None => format!("{head}}}"),
        Some(rest) => format!("{head},{rest}"),
    }
}

/// What an address has in common with its neighbours: scheme, host and port, as whoever connects to it reads them.
///
/// For telling endpoints apart, not for judging them: the address was checked before, and is again whenever we connect.
pub fn origin(url: &str) -> String {
    match Url::parse(url) {
        Ok(url) if url.has_host() => url.origin().ascii_serialization(),
        // Nobody connects to it; it is told from others all the same.
        _ => url.to_ascii_lowercase(),
    }
}

/// How long after a failed try the next one comes; `None` after the twelfth, which is the last.
///
/// Source: `merchant-api.md`, notification to the merchant: at once, then 15 s, 15 s, 30 s, 3 m, 10 m, 20 m, 30 m, 1 h,
/// 3 h, 6 h, 12 h; jitter comes on top.
pub fn deliver_again_in(tries: u32) -> Option<Duration> {
    const GAPS_S: [u64; 11] = [15, 15, 30, 180, 600, 1_200, 1_800, 3_600, 10_800, 21_600, 43_200];
    let gap = usize::try_from(tries).ok()?.checked_sub(1).and_then(|at| GAPS_S.get(at))?;
    Some(Duration::from_secs(*gap))
}

/// An event whose endpoint is still paused is given up so long after its schedule began: later than its last try can be, with all
/// the jitter, and a merchant that asked for an hour's rest each time.
pub const GIVEN_UP_AFTER: Duration = Duration::from_secs(32 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_is_twelve_tries_in_a_day() {
        let gaps: Vec<_> = (1..).map_while(deliver_again_in).collect();
        let (s, min, h) = (Duration::from_secs(1), Duration::from_secs(60), Duration::from_secs(3600));
        let ours = [15 * s, 15 * s, 30 * s, 3 * min, 10 * min, 20 * min, 30 * min, h, 3 * h, 6 * h, 12 * h];
        assert_eq!(gaps, ours);
        assert_eq!(deliver_again_in(0), None);
        // A tenth of jitter, an hour's rest on request, and as long under way as a try may be.
        let (rest, under_way) = (Duration::from_secs(3600), Duration::from_secs(10));
        let latest: Duration = gaps.iter().map(|gap| Ord::max(*gap * 11 / 10, rest) + under_way).sum();
        assert!(latest < GIVEN_UP_AFTER, "{latest:?}");
    }

    #[test]
    fn neighbours_share_an_origin() {
        let origins = [
            "https://A.example/n",
            "https://a.example?x=/",
            "https://a.example#",
            "https://a.example\\n",
            // What only a parser sees: the usual port, slashes, blanks, and letters that are written in another way.
            "https://a.example:443/n",
            "https:/a.example/n",
            "https:\\\\a.example/n",
            " https://a.exam\tple/n",
            "https://%61.example/n",
        ];
        assert!(origins.iter().all(|url| origin(url) == "https://a.example"));
        assert_eq!(origin("https://a.example:8443/n"), "https://a.example:8443");
        assert_eq!(origin("https://例子.cn/n"), origin("https://xn--fsqu00a.cn:443/"));
        assert_eq!(origin("nonsense"), "nonsense");
    }

    #[test]
    fn a_body_begins_with_its_number() {
        let id = NotifyId::parse("0198f3a4-0000-7000-8000-000000000001").unwrap();
        let customer = CustomerNo::parse("C1").unwrap();
        let body = sent_body(id, EventKind::Pay, 2, &customer, r#"{"orderNo":"A1"}"#);
        assert_eq!(
            body,
            r#"{"notifyId":"0198f3a4-0000-7000-8000-000000000001","eventType":"PAY","sequence":2,"customerNo":"C1","orderNo":"A1"}"#
        );
        let empty = sent_body(id, EventKind::Close, 1, &customer, "{}");
        assert!(serde_json::from_str::<serde_json::Value>(&empty).is_ok(), "{empty}");
    }

    #[test]
    fn a_refund_is_told_beside_the_payment_it_gives_back() {
        let order = crate::domain::order::table::paid_twice();
        let told = |attempt: u8, initiator| {
            let news = RefundNews {
                refund_no: "R1".into(),
                amount: order.amount,
                status: "SUCCESS",
                notify_url: None,
                attempt: AttemptNo::new(attempt).unwrap(),
                initiator,
            };
            let facts = MerchantEvent::Refunded(news).facts(&order).unwrap();
            let facts: serde_json::Value = serde_json::from_str(&facts).unwrap();
            ["anomaly", "channelTradeNo", "payType", "initiator"]
                .map(|name| facts[name].as_str().unwrap_or("").to_owned())
        };
        assert_eq!(told(2, Initiator::Merchant), ["", "42002", "WECHAT", "MERCHANT"]);
        assert_eq!(told(1, Initiator::System), ["SECOND_PAYMENT", "42001", "WECHAT", "SYSTEM"]);
    }
}
