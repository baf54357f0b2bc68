//! The simulator met over its wire, by a merchant who signs properly unless told otherwise.

mod bills;
mod calls;
mod entry;
mod notices;
mod payment;
mod refunds;
mod trouble;

use std::sync::Arc;

use serde_json::{Value, json};

use super::seal;
use super::{MerchantOptions, WechatApp, WechatMerchant};
use crate::keys::{PublicKey, RsaKey};
use crate::{Options, Simulator, chance};

/// A merchant with one app and one payer.
pub(super) struct Shop {
    pub simulator: Simulator,
    pub merchant: WechatMerchant,
    pub app: WechatApp,
    pub openid: String,
    pub key: Arc<RsaKey>,
    pub client: reqwest::Client,
    pub notify_url: String,
}

/// An answer as it came.
#[derive(Debug)]
pub(super) struct Got {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Vec<u8>,
}

impl Got {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&self.body)))
    }

    /// Status and error code, for tables.
    pub fn told(&self) -> (u16, String) {
        let code = if self.body.is_empty() { Value::Null } else { self.json()["code"].clone() };
        (self.status, code.as_str().unwrap_or_default().to_owned())
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Whether the signature is by this key.
    pub fn is_signed_by(&self, public_key_pem: &str) -> bool {
        let message =
            seal::answer_message(self.header("Wechatpay-Timestamp"), self.header("Wechatpay-Nonce"), &self.body);
        PublicKey::from_pem(public_key_pem).expect("a key").verifies(&message, self.header("Wechatpay-Signature"))
    }
}

/// How a request differs from a proper one.
pub(super) struct Call<'a> {
    pub method: &'a str,
    pub target: String,
    pub body: String,
    pub base: Option<String>,
    pub timestamp: i64,
    pub mchid: String,
    pub serial_no: String,
    pub signed_body: Option<String>,
    pub asked: Option<String>,
    pub accept: bool,
    pub user_agent: bool,
}

impl Shop {
    pub async fn open() -> Self {
        Self::open_with(Options::default(), MerchantOptions::default()).await
    }

    pub async fn open_with(options: Options, merchant: MerchantOptions) -> Self {
        let simulator = Simulator::start(options).await.expect("starts");
        let merchant = simulator.wechat().new_merchant(merchant).expect("enrols");
        let app = simulator.wechat().new_app(&merchant.mchid);
        let openid = simulator.wechat().new_openid(&app.appid);
        let key = Arc::new(RsaKey::from_pkcs8_pem(&merchant.private_key_pem).expect("a key"));
        let client = reqwest::Client::builder().no_proxy().retry(reqwest::retry::never()).build().expect("a client");
        // Port 9 of this machine: nobody takes notifications there.
        let notify_url = "http://127.0.0.1:9/notify".to_owned();
        Self { simulator, merchant, app, openid, key, client, notify_url }
    }

    pub fn order(&self, out_trade_no: &str) -> Value {
        json!({
            "appid": self.app.appid, "mchid": self.merchant.mchid, "description": "咖啡（大杯）",
            "out_trade_no": out_trade_no, "notify_url": self.notify_url,
            "amount": { "total": 1999, "currency": "CNY" }, "payer": { "openid": self.openid },
        })
    }

    pub fn call<'a>(&self, method: &'a str, target: impl Into<String>, body: impl ToString) -> Call<'a> {
        Call {
            method,
            target: target.into(),
            body: body.to_string(),
            base: None,
            timestamp: self.simulator.clock().now_s(),
            mchid: self.merchant.mchid.clone(),
            serial_no: self.merchant.serial_no.clone(),
            signed_body: None,
            asked: Some(self.merchant.public_key_id.clone()),
            accept: true,
            user_agent: true,
        }
    }

    pub async fn try_send(&self, call: Call<'_>) -> reqwest::Result<Got> {
        let nonce = chance::text(32);
        let signed_body = call.signed_body.as_ref().unwrap_or(&call.body);
        let timestamp = call.timestamp.to_string();
        let message = seal::request_message(call.method, &call.target, &timestamp, &nonce, signed_body.as_bytes());
        let authorization = format!(
            r#"WECHATPAY2-SHA256-RSA2048 mchid="{}",nonce_str="{nonce}",timestamp="{timestamp}",serial_no="{}",signature="{}""#,
            call.mchid,
            call.serial_no,
            self.key.sign(&message),
        );
        let base = call.base.clone().unwrap_or_else(|| self.simulator.base_url());
        let method = call.method.parse().expect("a method");
        let mut request =
            self.client.request(method, format!("{base}{}", call.target)).header("Authorization", authorization);
        if call.accept {
            request = request.header("Accept", "application/json");
        } else {
            // reqwest adds `*/*` of its own; an empty one is as good as none.
            request = request.header("Accept", "");
        }
        if call.user_agent {
            request = request.header("User-Agent", "shop/1");
        }
        if let Some(asked) = call.asked {
            request = request.header("Wechatpay-Serial", asked);
        }
        if call.method == "POST" {
            request = request.header("Content-Type", "application/json").body(call.body);
        }
        let answer = request.send().await?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Ok(Got { status, headers, body: answer.bytes().await?.to_vec() })
    }

    pub async fn send(&self, call: Call<'_>) -> Got {
        self.try_send(call).await.expect("an answer")
    }

    pub async fn prepay(&self, order: &Value) -> Got {
        self.send(self.call("POST", "/v3/pay/transactions/jsapi", order)).await
    }

    /// A prepay_id, or a loud end.
    pub async fn prepay_id(&self, out_trade_no: &str) -> String {
        let got = self.prepay(&self.order(out_trade_no)).await;
        got.json()["prepay_id"].as_str().unwrap_or_else(|| panic!("{got:?}")).to_owned()
    }

    pub async fn query(&self, out_trade_no: &str) -> Got {
        let target = format!("/v3/pay/transactions/out-trade-no/{out_trade_no}?mchid={}", self.merchant.mchid);
        self.send(self.call("GET", target, "")).await
    }

    pub async fn close(&self, out_trade_no: &str) -> Got {
        let target = format!("/v3/pay/transactions/out-trade-no/{out_trade_no}/close");
        self.send(self.call("POST", target, json!({ "mchid": self.merchant.mchid }))).await
    }

    /// A paid order of 1999 fen.
    pub async fn paid(&self, out_trade_no: &str) {
        self.prepay_id(out_trade_no).await;
        self.simulator.wechat().pay(&self.merchant.mchid, out_trade_no).expect("payable");
    }

    /// What asks for a refund of such an order.
    pub fn wanted(&self, out_trade_no: &str, out_refund_no: &str, fen: i64) -> Value {
        json!({
            "out_trade_no": out_trade_no, "out_refund_no": out_refund_no, "reason": "不要了",
            "notify_url": self.notify_url, "amount": { "refund": fen, "total": 1999, "currency": "CNY" },
        })
    }

    pub async fn refund(&self, wanted: &Value) -> Got {
        self.send(self.call("POST", "/v3/refund/domestic/refunds", wanted)).await
    }

    pub async fn refund_query(&self, out_refund_no: &str) -> Got {
        self.send(self.call("GET", format!("/v3/refund/domestic/refunds/{out_refund_no}"), "")).await
    }

    /// What the phone gets for a prepay_id.
    pub fn params(&self, prepay_id: &str) -> Value {
        self.params_of(&self.app.appid, prepay_id)
    }

    pub fn params_of(&self, appid: &str, prepay_id: &str) -> Value {
        let (timestamp, nonce) = (self.simulator.clock().now_s().to_string(), chance::text(32));
        let package = format!("prepay_id={prepay_id}");
        let pay_sign = self.key.sign(&seal::pay_message(appid, &timestamp, &nonce, &package));
        json!({ "appId": appid, "timeStamp": timestamp, "nonceStr": nonce, "package": package, "signType": "RSA", "paySign": pay_sign })
    }

    pub async fn exchange(&self, appid: &str, secret: &str, code: &str) -> Got {
        let pairs = [("appid", appid), ("secret", secret), ("js_code", code), ("grant_type", "authorization_code")];
        let url = format!("{}/sns/jscode2session", self.simulator.base_url());
        let answer = self.client.get(url).query(&pairs).send().await.expect("an answer");
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Got { status, headers, body: answer.bytes().await.expect("a body").to_vec() }
    }
}
