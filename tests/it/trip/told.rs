//! A wallet's notice as it goes over the wire, what it is answered, and the rows that it could change.

use prepay::{
    domain::{event::EventState, id::OrderId, refund::Refund},
    store::EventRow,
};
use reqwest::Method;
use serde_json::Value;
use simulator::{FaultKind, Outgoing};

use super::{
    harness::{World, until},
    sides::Side,
};

/// A delivery of a notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Told {
    /// Where a header stands.
    pub fn at(&self, name: &str) -> usize {
        self.headers.iter().position(|(of, _)| of.eq_ignore_ascii_case(name)).unwrap()
    }

    pub fn with_header(&self, at: usize, values: &[&str]) -> Self {
        let mut told = self.clone();
        let (name, _) = told.headers.remove(at);
        told.headers.extend(values.iter().map(|value| (name.clone(), (*value).to_owned())));
        told
    }

    pub fn with_body(&self, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self.clone() }
    }

    /// One bit of its last byte is another: of the last value of a form, of the bracket that closes a JSON text.
    pub fn bent(&self) -> Self {
        let mut told = self.clone();
        *told.body.last_mut().unwrap() ^= 1;
        told
    }

    pub fn also(&self, name: &str, value: &str) -> Self {
        let mut told = self.clone();
        told.headers.push((name.to_owned(), value.to_owned()));
        told
    }
}

/// Taken, in the words that end the wallet's deliveries.
pub fn received(side: Side) -> (u16, String) {
    match side {
        Side::Wechat => (200, r#"{"code":"SUCCESS","message":"成功"}"#.to_owned()),
        Side::Alipay => (200, "success".to_owned()),
    }
}

/// Failed, so that the wallet comes again: one answer for every reason.
pub fn not_received(side: Side) -> (u16, String) {
    match side {
        Side::Wechat => (500, r#"{"code":"FAIL","message":"失败"}"#.to_owned()),
        Side::Alipay => (500, "fail".to_owned()),
    }
}

/// Everything of an order that money could change.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    order: Value,
    history: Vec<String>,
    refunds: Vec<Refund>,
    /// What is set aside of each of its numbers, and what went back, in fen.
    pub given_back: Vec<(i64, i64)>,
    /// What its merchant is told.
    events: Vec<String>,
    anomalies: i64,
    pub parked: i64,
}

impl World {
    /// The number under which a wallet knows the merchant.
    pub fn merchant_no(&self, side: Side) -> &str {
        match side {
            Side::Wechat => &self.wechat.merchant.mchid,
            Side::Alipay => &self.alipay.app.app_id,
        }
    }

    /// The wallet's genuine word about a paid number, not sent yet.
    pub fn genuine(&self, side: Side, merchant: &str, number: &str) -> Told {
        let outgoing = match side {
            Side::Wechat => self.sim.wechat().notice(merchant, number, &[]),
            Side::Alipay => self.sim.alipay().notice_to_send(merchant, number),
        };
        self.not_sent_yet(outgoing.unwrap())
    }

    /// The same about a refund that the wallet has ended.
    pub fn genuine_of_refund(&self, side: Side, number: &str, out_refund_no: &str) -> Told {
        let merchant = self.merchant_no(side);
        let outgoing = match side {
            Side::Wechat => self.sim.wechat().refund_notice(merchant, out_refund_no, &[]),
            Side::Alipay => self.sim.alipay().refund_notice_to_send(merchant, number, out_refund_no),
        };
        self.not_sent_yet(outgoing.unwrap())
    }

    fn not_sent_yet(&self, outgoing: Outgoing) -> Told {
        Told {
            path: outgoing.url.strip_prefix(&self.settings.front.public_url).unwrap().to_owned(),
            headers: outgoing.headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
            body: outgoing.body.to_vec(),
        }
    }

    pub async fn tell(&self, told: &Told) -> (u16, String) {
        let headers: Vec<(&str, &str)> = told.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        let said = self.ask(Method::POST, &told.path, &headers, told.body.clone()).await;
        (said.status, said.text)
    }

    /// The wallet tells of a refund now, with these lies; what it is answered.
    /// A genuine notice that is a step on the way: a machine that is too slow for it is told again, as a wallet does.
    pub async fn until_taken(&self, side: Side, number: &str) {
        until("the notice is taken", async || self.notify(side, number, &[]).await == received(side)).await;
    }

    pub async fn notify_refund(
        &self,
        side: Side,
        number: &str,
        out_refund_no: &str,
        lies: &[FaultKind],
    ) -> (u16, String) {
        let merchant = self.merchant_no(side);
        let (status, body) = match side {
            Side::Wechat => {
                let told = self.sim.wechat().notify_refund_now(merchant, out_refund_no, lies).await.unwrap();
                (told.status, told.body)
            }
            Side::Alipay => self.sim.alipay().notify_refund_now(merchant, number, out_refund_no, lies).await.unwrap(),
        };
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    /// Why the one notice that is set aside waits for a person.
    pub async fn set_aside_because(&self) -> String {
        until("the notice is set aside", || async { self.place.rows_of("parked").await == 1 }).await;
        let row = self.place.store.list_parked(1).await.unwrap().remove(0);
        assert_eq!(row.kind.as_deref(), Some("notice"), "{row:?}");
        row.reason
    }

    pub async fn rows_about(&self, order: &Value) -> Rows {
        let serial = order["serialNo"].as_str().unwrap();
        let (place, store, id) = (&self.place, &self.place.store, OrderId::parse(serial).unwrap());
        let history = store.history(id).await.unwrap().into_iter().map(|row| row.events.join(","));
        let mut given_back = Vec::new();
        for no in 1..=store.load_order(id).await.unwrap().unwrap().attempts.len() {
            let of = |column: &str| format!("SELECT {column} FROM attempts WHERE order_id = '{serial}' AND no = {no}");
            let set_aside = place.number(&of("refund_reserved_fen")).await;
            given_back.push((set_aside, place.number(&of("refunded_fen")).await));
        }
        Rows {
            order: self.shop.order(order["orderNo"].as_str().unwrap()).await,
            history: history.filter(|events| events != "asked").collect(),
            refunds: store.refunds_of(id).await.unwrap(),
            given_back,
            events: store.events_of_order(id).await.unwrap().iter().map(in_words).collect(),
            anomalies: place.rows_of("anomalies").await,
            parked: place.rows_of("parked").await,
        }
    }
}

/// A merchant that takes nothing is told again and again, or held off: the event is to go, either way.
fn in_words(event: &EventRow) -> String {
    let state = match event.state {
        EventState::Pending | EventState::Held => "to go",
        ended => ended.as_str(),
    };
    format!("{} {:?} {state} {}", event.kind.as_str(), event.refund_no, event.facts)
}
