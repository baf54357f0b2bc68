//! A merchant's endpoint: it hears what it is told, and answers as a test says.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};
use poem::{EndpointExt, Request, Response, endpoint::make, http::StatusCode};
use prepay::{
    domain::id::{CustomerNo, KeyId},
    listen::{ListenSettings, Listening},
};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    harness::{World, until},
    shop::{Shop, order_body},
};

/// One POST.
#[derive(Debug, Clone)]
pub struct Heard {
    pub id: String,
    pub timestamp: String,
    pub signature: String,
    pub body: String,
}

impl Heard {
    pub fn event(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// Whether one of its signatures is of this secret, as the standard says; with nothing of ours.
    pub fn is_signed_with(&self, secret: &str) -> bool {
        let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let text = format!("{}.{}.{}", self.id, self.timestamp, self.body);
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), text.as_bytes());
        let signature = format!("v1,{}", STANDARD.encode(tag.as_ref()));
        self.signature.split(' ').any(|part| part == signature)
    }
}

/// It says yes at first.
pub struct Inbox {
    pub url: String,
    heard: Arc<Mutex<Vec<Heard>>>,
    answer: Arc<AtomicU16>,
    _leaving: tokio_util::sync::DropGuard,
}

/// No status: it takes what it is told and never answers.
const SILENT: u16 = 0;

impl Inbox {
    pub async fn open() -> Self {
        let (heard, answer) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU16::new(200)));
        let (leaving, there, says) = (CancellationToken::new(), heard.clone(), answer.clone());
        let endpoint = make(move |request: Request| {
            let (heard, answer) = (there.clone(), says.clone());
            async move { hear(request, &heard, answer.load(Ordering::SeqCst)).await }
        });
        let settings = ListenSettings::on(SocketAddr::from(([127, 0, 0, 1], 0)));
        let listening = Listening::start(settings, endpoint.map_to_response(), leaving.clone()).await.unwrap();
        Self { url: format!("http://{}/notify", listening.addr), heard, answer, _leaving: leaving.drop_guard() }
    }

    pub fn says(&self, status: u16) {
        self.answer.store(status, Ordering::SeqCst);
    }

    pub fn is_silent(&self) {
        self.says(SILENT);
    }

    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    pub async fn until_heard(&self, count: usize) -> Vec<Heard> {
        until("the merchant hears of it", || async { self.heard().len() >= count }).await;
        self.heard()
    }
}

async fn hear(mut request: Request, heard: &Mutex<Vec<Heard>>, answer: u16) -> Response {
    let body = request.take_body().into_string().await.unwrap();
    let header = |name| request.header(name).unwrap_or_default().to_owned();
    let (id, timestamp, signature) = (header("webhook-id"), header("webhook-timestamp"), header("webhook-signature"));
    heard.lock().unwrap().push(Heard { id, timestamp, signature, body });
    if answer == SILENT {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    Response::builder().status(StatusCode::from_u16(answer.max(200)).unwrap()).body(" ok\n")
}

impl World {
    /// A webhook secret for a merchant; the scheduler looks for it when it needs it.
    pub async fn webhook_secret(&self, shop: &Shop, key_id: &str) -> String {
        let customer_no = CustomerNo::parse(shop.customer_no.clone()).unwrap();
        let merchant = self.place.store.merchant_by_customer_no(&customer_no).await.unwrap().unwrap();
        let secret = self.enroller().webhook_key(merchant.id, &KeyId::parse(key_id).unwrap()).await.unwrap();
        secret.expose_secret().to_owned()
    }

    /// An order that is paid, and whose merchant is told there.
    pub async fn paid_order_telling(&self, order_no: &str, inbox: &Inbox) -> Value {
        let mut body = order_body(order_no);
        body["notifyUrl"] = json!(inbox.url);
        body["attach"] = json!("桌 7");
        let order = self.shop.create(&body).await;
        let person = self.person(super::sides::Side::Wechat);
        let data = self.tap_ready(&order, &person).await;
        self.press_pay(&data, &person).await.unwrap();
        order
    }

    pub async fn notifications(&self, order_no: &str) -> Vec<Value> {
        let (status, answer) = self.shop.get(&format!("/api/v1/orders/{order_no}/notifications")).await;
        assert_eq!(status, StatusCode::OK, "{answer:#}");
        answer["data"]["notifications"].as_array().unwrap().clone()
    }

    pub async fn until_notified(&self, order_no: &str, state: &str) -> Value {
        until(&format!("the event of {order_no} is {state}"), || async {
            self.notifications(order_no).await.first().is_some_and(|event| event["state"] == state)
        })
        .await;
        self.notifications(order_no).await.remove(0)
    }
}
