//! A merchant's side for one application, written for these tests alone: it signs as the documents say and verifies raw bytes.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use simulator::alipay::{AlipayApp, AppOptions, Mode};
use simulator::{Options, PublicKey, RsaKey, Simulator};

pub struct Client {
    pub app: AlipayApp,
    pub app_auth_token: Option<String>,
    gateway: String,
    pub key: RsaKey,
    http: reqwest::Client,
}

/// An answer whose node was cut out of the raw body.
pub struct Answered {
    pub raw: String,
    pub node_name: String,
    pub node: Value,
    /// `None` when unsigned.
    pub verified: Option<bool>,
    pub cert_sn: Option<String>,
}

impl Answered {
    pub fn sub_code(&self) -> &str {
        self.node["sub_code"].as_str().unwrap_or_default()
    }

    #[track_caller]
    pub fn ok(self) -> Value {
        assert_eq!(self.verified, Some(true), "{}", self.raw);
        assert_eq!(self.sub_code(), "", "{}", self.raw);
        self.node
    }

    #[track_caller]
    pub fn refused(&self, sub_code: &str) {
        assert_eq!(self.sub_code(), sub_code, "{}", self.raw);
        assert_ne!(self.verified, Some(false), "{}", self.raw);
    }
}

pub async fn start() -> Simulator {
    Simulator::start(Options::default()).await.unwrap()
}

/// The present time as Alipay writes it, moved by some seconds.
pub fn gmt8(offset_s: i64) -> String {
    let at = time::OffsetDateTime::now_utc().to_offset(time::macros::offset!(+8)) + time::Duration::seconds(offset_s);
    let format = time::macros::format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    at.format(format).unwrap()
}

impl Client {
    pub fn new(simulator: &Simulator, options: AppOptions) -> Self {
        let app = simulator.alipay().new_app(options);
        Self {
            key: RsaKey::from_pkcs8_pem(&app.app_private_key_pem).unwrap(),
            gateway: format!("{}/gateway.do", simulator.base_url()),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            app_auth_token: None,
            app,
        }
    }

    /// All parameters of a call but `sign`.
    pub fn params(&self, method: &str) -> BTreeMap<String, String> {
        let mut params = BTreeMap::from(
            [
                ("app_id", self.app.app_id.as_str()),
                ("method", method),
                ("format", "JSON"),
                ("charset", "UTF-8"),
                ("sign_type", "RSA2"),
                ("timestamp", &gmt8(0)),
                ("version", "1.0"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        let optional = [
            ("app_cert_sn", &self.app.app_cert_sn),
            ("alipay_root_cert_sn", &self.app.alipay_root_cert_sn),
            ("app_auth_token", &self.app_auth_token),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                params.insert(name.to_owned(), value.clone());
            }
        }
        params
    }

    pub fn sign(&self, params: &mut BTreeMap<String, String>) {
        let text: Vec<String> = params
            .iter()
            .filter(|(name, value)| *name != "sign" && !value.is_empty())
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        params.insert("sign".to_owned(), self.key.sign(text.join("&").as_bytes()));
    }

    /// Sends as official SDKs do: all but `biz_content` in the query.
    pub async fn send(&self, params: &BTreeMap<String, String>) -> reqwest::Result<reqwest::Response> {
        let (body, query): (Vec<_>, Vec<_>) = params.iter().partition(|(name, _)| *name == "biz_content");
        self.http.post(&self.gateway).query(&query).form(&body).send().await
    }

    pub async fn answered(&self, response: reqwest::Response) -> Answered {
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/html;charset=utf-8");
        self.read(response.text().await.unwrap())
    }

    pub fn read(&self, raw: String) -> Answered {
        let json: Value = serde_json::from_str(&raw).unwrap();
        let node_name = json.as_object().unwrap().keys().find(|name| name.ends_with("_response")).unwrap().clone();
        let node_text = node_of(&raw, &node_name);
        let key = match self.app.mode {
            Mode::PublicKey => PublicKey::from_pem(&self.app.alipay_public_key).unwrap(),
            Mode::Certificate => {
                let pem = self.app.alipay_cert_pem.as_ref().unwrap();
                let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
                let spki = block.parse_x509().unwrap().public_key().raw.to_vec();
                use base64::Engine as _;
                PublicKey::from_pem(&base64::engine::general_purpose::STANDARD.encode(spki)).unwrap()
            }
        };
        Answered {
            verified: json["sign"].as_str().map(|sign| key.verifies(node_text.as_bytes(), sign)),
            cert_sn: json["alipay_cert_sn"].as_str().map(str::to_owned),
            node: serde_json::from_str(node_text).unwrap(),
            node_name,
            raw,
        }
    }

    pub async fn signed(&self, mut params: BTreeMap<String, String>) -> Answered {
        self.sign(&mut params);
        self.answered(self.send(&params).await.unwrap()).await
    }

    pub async fn call(&self, method: &str, biz: &Value) -> Answered {
        let mut params = self.params(method);
        params.insert("biz_content".to_owned(), biz.to_string());
        self.signed(params).await
    }

    pub async fn token(&self, code: &str) -> Answered {
        let mut params = self.params("alipay.system.oauth.token");
        params.insert("grant_type".to_owned(), "authorization_code".to_owned());
        params.insert("code".to_owned(), code.to_owned());
        self.signed(params).await
    }

    pub async fn create(&self, biz: &Value, notify_url: Option<&str>) -> Answered {
        let mut params = self.params("alipay.trade.create");
        params.insert("biz_content".to_owned(), biz.to_string());
        if let Some(url) = notify_url {
            params.insert("notify_url".to_owned(), url.to_owned());
        }
        self.signed(params).await
    }

    pub async fn query(&self, number: &str) -> Answered {
        self.call("alipay.trade.query", &json!({ "out_trade_no": number })).await
    }

    pub async fn close(&self, number: &str) -> Answered {
        self.call("alipay.trade.close", &json!({ "out_trade_no": number })).await
    }

    /// A good create for an open_id of this very application.
    pub fn order(&self, number: &str, open_id: &str) -> Value {
        json!({
            "out_trade_no": number,
            "total_amount": "88.88",
            "subject": "测试商品 A+B 100%",
            "product_code": "JSAPI_PAY",
            "op_app_id": self.app.app_id,
            "buyer_open_id": open_id,
            "time_expire": gmt8(1800),
        })
    }
}

/// The raw value of the node: from its first brace to the matching one, strings and escapes respected.
fn node_of<'a>(raw: &'a str, name: &str) -> &'a str {
    let after_name = raw.find(&format!("\"{name}\"")).unwrap() + name.len() + 2;
    let start = after_name + raw[after_name..].find('{').unwrap();
    let (mut depth, mut in_text, mut escaped) = (0, false, false);
    for (at, byte) in raw[start..].bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' if !in_text => depth += 1,
            b'}' if !in_text => {
                depth -= 1;
                if depth == 0 {
                    return &raw[start..=start + at];
                }
            }
            _ => {}
        }
    }
    panic!("no end of the node: {raw}");
}
