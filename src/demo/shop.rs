//! The demo merchant's own server: it knows our address, its number and its key, and signs its calls like any merchant.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::{Method, StatusCode};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::enrolment::Enrolled;
use crate::{
    domain::wallet::Wallet,
    keys::mac::{MacKey, nonce_text, sha256_hex},
};

/// What is on the menu, with its price in fen.
const MENU: [(&str, i64); 4] =
    [("拿铁咖啡（大杯）", 2_600), ("手冲咖啡 耶加雪菲", 3_800), ("抹茶拿铁", 2_900), ("一杯美式", 1_990)];
const PATIENCE: Duration = Duration::from_secs(10);

pub struct Shop {
    base_url: String,
    customer_no: String,
    key_id: String,
    key: MacKey,
    client: reqwest::Client,
}

impl Shop {
    /// Errors: none that a caller causes.
    pub fn new(base_url: &str, enrolled: &Enrolled) -> anyhow::Result<Self> {
        let secret = STANDARD.decode(enrolled.secret.expose_secret()).context("the merchant's secret is no base64")?;
        Ok(Self {
            base_url: base_url.to_owned(),
            customer_no: enrolled.customer_no.to_string(),
            key_id: enrolled.key_id.to_string(),
            key: MacKey::new(&secret),
            client: reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().context("an HTTP client")?,
        })
    }

    /// Makes an order for one wallet; answers what the merchant is told, with one link.
    ///
    /// Errors: the API's own words.
    pub async fn new_order(&self, wallet: Wallet) -> anyhow::Result<Value> {
        let id = uuid::Uuid::now_v7();
        let (good_name, fen) = MENU[usize::from(id.as_bytes()[15]) % MENU.len()];
        let order = json!({
            "orderNo": format!("CAFE-{}", id.simple()),
            "orderAmount": fen,
            "goodName": good_name,
            "notifyUrl": format!("{}/demo/notified", self.base_url),
            "wallets": [wallet.wire_name()],
        });
        let (status, answer) = self.call(Method::POST, "/api/v1/orders", order.to_string()).await?;
        if status != StatusCode::OK {
            bail!("the order was refused: {answer}");
        }
        Ok(answer["data"].clone())
    }

    /// An order as the merchant sees it. `None`: there is none of this number.
    ///
    /// Errors: the API's own words.
    pub async fn order(&self, order_no: &str) -> anyhow::Result<Option<Value>> {
        match self.call(Method::GET, &format!("/api/v1/orders/{order_no}"), String::new()).await? {
            (StatusCode::OK, answer) => Ok(Some(answer["data"].clone())),
            (StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST, _) => Ok(None),
            (_, answer) => bail!("the merchant API refused: {answer}"),
        }
    }

    /// Gives this much of an order back, in fen; answers status and body of the merchant API.
    ///
    /// A call whose answer was lost is made once more: the same `refundNo` is the same refund.
    ///
    /// Errors: no answer, twice.
    pub async fn refund(&self, order_no: &str, amount_fen: i64) -> anyhow::Result<(StatusCode, Value)> {
        let refund = json!({
            "refundNo": format!("BACK-{}", uuid::Uuid::now_v7().simple()),
            "orderNo": order_no,
            "refundAmount": amount_fen,
            "reason": "演示退款",
        });
        match self.call(Method::POST, "/api/v1/refunds", refund.to_string()).await {
            Ok(answer) => Ok(answer),
            Err(_) => self.call(Method::POST, "/api/v1/refunds", refund.to_string()).await,
        }
    }

    /// Makes an unpaid order unpayable; answers status and body of the merchant API.
    ///
    /// Errors: no answer.
    pub async fn close(&self, order_no: &str) -> anyhow::Result<(StatusCode, Value)> {
        self.call(Method::POST, &format!("/api/v1/orders/{order_no}/close"), String::new()).await
    }

    /// Signed as `merchant-api.md` says: method, target, seconds, nonce, hash of the body, a line each.
    async fn call(&self, method: Method, target: &str, body: String) -> anyhow::Result<(StatusCode, Value)> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let nonce = nonce_text();
        let text = format!("{method}\n{target}\n{now}\n{nonce}\n{}\n", sha256_hex(body.as_bytes()));
        let answer = self
            .client
            .request(method, format!("{}{target}", self.base_url))
            .header("x-customer-no", &self.customer_no)
            .header("x-key-id", &self.key_id)
            .header("x-timestamp", now)
            .header("x-nonce", nonce)
            .header("x-signature", self.key.sign(text.as_bytes()))
            .header("content-type", "application/json; charset=utf-8")
            .body(body)
            .send()
            .await
            .context("the merchant API does not answer")?;
        let status = answer.status();
        Ok((status, answer.json().await.context("the merchant API's answer cannot be read")?))
    }
}
