//! A merchant's own server: it signs its calls as `merchant-api.md` says, with nothing of ours.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::{digest, hmac};
use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// Knows its number, its key and where we are.
#[derive(Clone)]
pub struct Shop {
    pub base_url: String,
    pub customer_no: String,
    pub key_id: String,
    pub secret: Vec<u8>,
    client: reqwest::Client,
}

/// One signed call, to be bent by a test before it is sent.
#[derive(Debug, Clone)]
pub struct Call {
    pub method: Method,
    pub target: String,
    pub body: Vec<u8>,
    pub headers: Vec<(&'static str, String)>,
}

impl Shop {
    pub fn new(customer_no: &str, key_id: &str, secret_base64: &str) -> Self {
        Self {
            base_url: String::new(),
            customer_no: customer_no.into(),
            key_id: key_id.into(),
            secret: STANDARD.decode(secret_base64).unwrap(),
            client: reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap(),
        }
    }

    pub fn call(&self, method: Method, target: &str, body: &[u8]) -> Call {
        self.call_at(method, target, body, now_s())
    }

    pub fn call_at(&self, method: Method, target: &str, body: &[u8], unix_s: u64) -> Call {
        self.call_signed(method, target, body, unix_s, &self.key_id, |text| self.hmac(text))
    }

    /// The same call under another nonce, signed anew.
    pub fn with_nonce(&self, mut call: Call, nonce: &str) -> Call {
        let text = to_sign(&call.method, &call.target, &call.headers[2].1, nonce, &call.body);
        call.headers[3].1 = nonce.to_owned();
        call.headers[4].1 = self.hmac(text.as_bytes());
        call
    }

    fn hmac(&self, text: &[u8]) -> String {
        STANDARD.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.secret), text))
    }

    /// A call with a key and a way to sign of the caller's choice.
    pub fn call_signed(
        &self,
        method: Method,
        target: &str,
        body: &[u8],
        unix_s: u64,
        key_id: &str,
        sign: impl Fn(&[u8]) -> String,
    ) -> Call {
        let nonce = uuid::Uuid::now_v7().simple().to_string();
        let text = to_sign(&method, target, &unix_s.to_string(), &nonce, body);
        Call {
            method,
            target: target.into(),
            body: body.to_vec(),
            headers: vec![
                ("x-customer-no", self.customer_no.clone()),
                ("x-key-id", key_id.to_owned()),
                ("x-timestamp", unix_s.to_string()),
                ("x-nonce", nonce),
                ("x-signature", sign(text.as_bytes())),
            ],
        }
    }

    pub async fn send(&self, call: Call) -> (StatusCode, Value) {
        let mut request = self.client.request(call.method, format!("{}{}", self.base_url, call.target)).body(call.body);
        for (name, value) in call.headers {
            request = request.header(name, value);
        }
        let answer = request.send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    /// A call whose answer may never come.
    pub async fn post_unheard(&self, target: &str, body: &Value) {
        let call = self.call(Method::POST, target, body.to_string().as_bytes());
        let mut request = self.client.request(call.method, format!("{}{}", self.base_url, call.target)).body(call.body);
        for (name, value) in call.headers {
            request = request.header(name, value);
        }
        let _ = request.send().await;
    }

    pub async fn get(&self, target: &str) -> (StatusCode, Value) {
        self.send(self.call(Method::GET, target, b"")).await
    }

    pub async fn post(&self, target: &str, body: &Value) -> (StatusCode, Value) {
        self.send(self.call(Method::POST, target, body.to_string().as_bytes())).await
    }

    /// Makes an order of a body's content and answers what the merchant is told.
    pub async fn create(&self, body: &Value) -> Value {
        let (status, answer) = self.post("/api/v1/orders", body).await;
        assert_eq!(status, StatusCode::OK, "{answer:#}");
        answer["data"].clone()
    }

    /// Makes an order of 19.99 yuan and answers what the merchant is told.
    pub async fn new_order(&self, order_no: &str) -> Value {
        let (status, answer) = self.post("/api/v1/orders", &order_body(order_no)).await;
        assert_eq!(status, StatusCode::OK, "{answer:#}");
        answer["data"].clone()
    }

    pub async fn order(&self, order_no: &str) -> Value {
        let (status, answer) = self.send(self.call(Method::GET, &format!("/api/v1/orders/{order_no}"), b"")).await;
        assert_eq!(status, StatusCode::OK, "{answer:#}");
        answer["data"].clone()
    }
}

fn to_sign(method: &Method, target: &str, timestamp: &str, nonce: &str, body: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA256, body);
    let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{method}\n{target}\n{timestamp}\n{nonce}\n{hex}\n")
}

pub fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

pub fn order_body(order_no: &str) -> Value {
    json!({
        "orderNo": order_no,
        "orderAmount": 1999,
        "goodName": "一杯咖啡",
        "notifyUrl": "http://127.0.0.1:9/notify",
    })
}

/// The payInfo of one wallet's link.
pub fn pay_info(order: &Value, wallet: &str) -> String {
    let links = order["links"].as_array().unwrap();
    let link = links.iter().find(|link| link["wallet"] == wallet).unwrap_or_else(|| panic!("no {wallet} link"));
    link["payInfo"].as_str().unwrap().to_owned()
}
