//! What `alipay.trade.create` asks for: the form of `biz_content`, before anything is looked up.

use std::net::IpAddr;

use serde_json::{Map, Value};

use super::failure::Failure;
use super::{money, time8};

/// The one way a create names its buyer. Source: `alipay.trade.create`, "user_id → open_id".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Buyer {
    /// `buyer_id`, 2088….
    User(String),
    /// `buyer_open_id`: the user's open_id at the calling app.
    OpenId(String),
    /// `op_buyer_open_id`: the user's open_id at the mini-program `op_app_id`.
    OpOpenId(String),
}

/// A create whose form is right.
#[derive(Debug, Clone)]
pub struct Draft {
    pub out_trade_no: String,
    pub amount_fen: u64,
    pub subject: String,
    pub body: Option<String>,
    pub passback_params: Option<String>,
    pub product_code: Option<String>,
    pub op_app_id: Option<String>,
    pub seller_id: Option<String>,
    pub buyer: Buyer,
    /// All of it, for comparison with a repeat.
    pub biz_content: Value,
    time_expire: Option<String>,
    timeout_express: Option<String>,
}

/// Every field the page of `alipay.trade.create` knows; others are a mistake of the caller.
const KNOWN: [&str; 35] = [
    "out_trade_no",
    "total_amount",
    "subject",
    "product_code",
    "op_app_id",
    "buyer_id",
    "buyer_open_id",
    "op_buyer_open_id",
    "buyer_logon_id",
    "seller_id",
    "body",
    "time_expire",
    "timeout_express",
    "passback_params",
    "goods_detail",
    "discountable_amount",
    "undiscountable_amount",
    "store_id",
    "alipay_store_id",
    "operator_id",
    "terminal_id",
    "merchant_order_no",
    "enable_pay_channels",
    "disable_pay_channels",
    "query_options",
    "extend_params",
    "business_params",
    "ext_user_info",
    "sub_merchant",
    "settle_info",
    "royalty_info",
    "agreement_sign_params",
    "bkagent_req_info",
    "logistics_detail",
    "receiver_address_info",
];

/// The text of `biz_content` as an object. Errors: `isv.illegal-json`.
pub fn object(text: Option<&String>) -> Result<Map<String, Value>, Failure> {
    let text = text.ok_or_else(|| Failure::field("biz_content为空"))?;
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        _ => Err(Failure::gateway("40002", "isv.illegal-json", "Json格式错误")),
    }
}

/// A text field; absent and empty are the same, another type is refused.
pub fn field(object: &Map<String, Value>, name: &str, max: usize) -> Result<Option<String>, Failure> {
    match object.get(name) {
        None => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) if text.chars().count() <= max => Ok(Some(text.clone())),
        Some(_) => Err(Failure::field(name)),
    }
}

/// Rows of goods. Source: `alipay.trade.create`, `goods_detail`.
fn check_goods(goods: Option<&Value>) -> Result<(), Failure> {
    let wrong = || Failure::field("goods_detail");
    let Some(goods) = goods else { return Ok(()) };
    let rows = goods.as_array().ok_or_else(wrong)?;
    if rows.len() > 150 {
        return Err(Failure::business("SUB_GOODS_SIZE_MAX_COUNT"));
    }
    for row in rows {
        let row = row.as_object().ok_or_else(wrong)?;
        for (name, max) in [("goods_id", 32), ("goods_name", 256)] {
            field(row, name, max)?.ok_or_else(wrong)?;
        }
        // Numbers, or the same as texts.
        for (name, max) in [("quantity", 10), ("price", 9)] {
            let text = match row.get(name) {
                Some(Value::String(text)) => text.clone(),
                Some(Value::Number(number)) => number.to_string(),
                _ => return Err(wrong()),
            };
            if text.len() > max || text.parse::<f64>().is_err() {
                return Err(wrong());
            }
        }
    }
    Ok(())
}

/// Whether a further parameter's value may be; most are not looked at.
fn is_good(key: &str, value: &Value) -> bool {
    let text = |good: fn(&str) -> bool| value.as_str().is_some_and(good);
    match key {
        "royalty_freeze" => text(|text| matches!(text, "true" | "false")),
        "mc_create_trade_ip" => text(|text| text.parse::<IpAddr>().is_ok()),
        _ => true,
    }
}

fn check_params(object: &Map<String, Value>) -> Result<(), Failure> {
    for name in ["extend_params", "business_params"] {
        let Some(params) = object.get(name) else { continue };
        let params = params.as_object().ok_or_else(|| Failure::field(name))?;
        if let Some((key, _)) = params.iter().find(|(key, value)| !is_good(key, value)) {
            return Err(Failure::field(key));
        }
    }
    Ok(())
}

impl Draft {
    /// Checks the form of a create. Errors: `ACQ.INVALID_PARAMETER` with the field, and `isv.illegal-json`.
    pub fn read(biz_content: Option<&String>) -> Result<Self, Failure> {
        let object = object(biz_content)?;
        if let Some(unknown) = object.keys().find(|name| !KNOWN.contains(&name.as_str())) {
            return Err(Failure::field(unknown));
        }
        if let Some(null) = object.iter().find(|(_, value)| value.is_null()) {
            return Err(Failure::field(null.0));
        }
        let optional = |name: &str, max: usize| field(&object, name, max);
        let required = |name: &str, max: usize| optional(name, max)?.ok_or_else(|| Failure::field(name));

        let out_trade_no = required("out_trade_no", 64)?;
        if !out_trade_no.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err(Failure::field("out_trade_no"));
        }
        let amount = required("total_amount", 11)?;
        let amount_fen = money::fen(&amount).ok_or_else(|| Failure::field("total_amount"))?;
        let subject = required("subject", 256)?;
        if subject.contains(['/', '=', '&']) {
            return Err(Failure::field("subject"));
        }
        let (enabled, disabled) = (optional("enable_pay_channels", 128)?, optional("disable_pay_channels", 128)?);
        if enabled.is_some() && disabled.is_some() {
            return Err(Failure::field("disable_pay_channels"));
        }
        check_goods(object.get("goods_detail"))?;
        check_params(&object)?;

        let buyer = match (
            optional("buyer_id", 28)?,
            optional("buyer_open_id", 128)?,
            optional("op_buyer_open_id", 128)?,
            optional("buyer_logon_id", 100)?,
        ) {
            (Some(id), None, None, None) => Buyer::User(id),
            (None, Some(id), None, None) => Buyer::OpenId(id),
            (None, None, Some(id), None) => Buyer::OpOpenId(id),
            (None, None, None, Some(_)) => return Err(Failure::business("BUYER_NOT_EXIST")),
            _ => return Err(Failure::field("买家标识有且只能有一个")),
        };

        Ok(Self {
            out_trade_no,
            amount_fen,
            subject,
            body: optional("body", 128)?,
            passback_params: optional("passback_params", 512)?,
            product_code: optional("product_code", 64)?,
            op_app_id: optional("op_app_id", 32)?,
            seller_id: optional("seller_id", 28)?,
            buyer,
            time_expire: optional("time_expire", 32)?,
            timeout_express: optional("timeout_express", 6)?,
            biz_content: Value::Object(object),
        })
    }

    /// When a trade made now closes by itself; `time_expire` wins over `timeout_express`.
    ///
    /// Errors: `ACQ.NOW_TIME_AFTER_EXPIRE_TIME_ERROR` for the past, `ACQ.INVALID_PARAMETER` for less than `min_ms`
    /// or more than 15 days ahead. Without either field it is 3 hours, as face to face (JSAPI's own is not published).
    pub fn expires_ms(&self, now_ms: i64, min_ms: i64) -> Result<i64, Failure> {
        const MAX_MS: i64 = 15 * 24 * 3600 * 1000;
        if let Some(text) = &self.time_expire {
            let at_ms = time8::read_loose(text).ok_or_else(|| Failure::field("time_expire"))?;
            return match at_ms - now_ms {
                ahead if ahead <= 0 => Err(Failure::business("NOW_TIME_AFTER_EXPIRE_TIME_ERROR")),
                ahead if ahead < min_ms || ahead > MAX_MS => Err(Failure::field("time_expire")),
                _ => Ok(at_ms),
            };
        }
        let span_ms = match &self.timeout_express {
            Some(text) => time8::timeout_ms(text, now_ms).ok_or_else(|| Failure::field("timeout_express"))?,
            None => 3 * 3600 * 1000,
        };
        Ok(now_ms + span_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn good() -> Value {
        json!({
            "out_trade_no": "T20260301000002",
            "total_amount": "88.88",
            "subject": "测试商品 A+B 100%",
            "product_code": "JSAPI_PAY",
            "op_app_id": "2021000000000009",
            "buyer_open_id": "083luGU2ef8yeC95sroZ9WGyojnYtj3lBoBA6lY_2PlBrU4",
        })
    }

    fn read(value: &Value) -> Result<Draft, Failure> {
        Draft::read(Some(&value.to_string()))
    }

    #[test]
    fn a_good_create_is_read() {
        let draft = read(&good()).unwrap();
        assert_eq!(draft.amount_fen, 8888);
        assert!(matches!(draft.buyer, Buyer::OpenId(_)));
        let mut more = good();
        more["goods_detail"] = json!([{ "goods_id": "1", "goods_name": "n", "quantity": 1, "price": "88.88" }]);
        more["disable_pay_channels"] = json!("credit_group");
        more["extend_params"] = json!({ "royalty_freeze": "true" });
        more["business_params"] = json!({ "mc_create_trade_ip": "2400:3200::1" });
        assert_eq!(read(&more).unwrap().biz_content, more);
    }

    #[test]
    fn each_wrong_field_is_named() {
        let table = [
            ("out_trade_no", json!("T-1")),
            ("out_trade_no", json!("")),
            ("out_trade_no", json!("x".repeat(65))),
            ("out_trade_no", json!(1)),
            ("total_amount", json!("88.8")),
            ("total_amount", json!("0.00")),
            ("total_amount", json!(88.88)),
            ("subject", json!("a/b")),
            ("subject", json!("a=b")),
            ("subject", json!("a&b")),
            ("subject", json!("长".repeat(257))),
            ("buyer_id", json!("2088000000000009")),
            ("op_buyer_open_id", json!("083")),
            ("body", json!("b".repeat(129))),
            ("body", Value::Null),
            ("notify_url", json!("https://x")),
            ("disable_pay_channels", json!(["credit_group"])),
            ("goods_detail", json!({})),
            ("goods_detail", json!([{ "goods_id": "1", "goods_name": "n", "quantity": 1 }])),
            ("goods_detail", json!([{ "goods_id": "1", "goods_name": "n", "quantity": 1, "price": "1000000.00" }])),
            ("extend_params", json!("royalty_freeze")),
            ("extend_params", json!({ "royalty_freeze": true })),
            ("business_params", json!({ "mc_create_trade_ip": "1.1.1" })),
        ];
        for (name, value) in table {
            let mut body = good();
            body[name] = value.clone();
            let failure = read(&body).unwrap_err();
            assert_eq!(failure.sub_code, "ACQ.INVALID_PARAMETER", "{name} {value}");
        }
        let mut nobody = good();
        nobody.as_object_mut().unwrap().remove("buyer_open_id");
        assert_eq!(read(&nobody).unwrap_err().sub_code, "ACQ.INVALID_PARAMETER");
        let broken = Draft::read(Some(&"{".to_owned())).unwrap_err();
        assert_eq!(broken.sub_code, "isv.illegal-json");
    }

    #[test]
    fn expiry_is_within_a_minute_and_fifteen_days() {
        let now = 1_772_337_600_000;
        let at = |text: &str| {
            let mut body = good();
            body["time_expire"] = json!(text);
            read(&body).unwrap().expires_ms(now, 60_000).map_err(|failure| failure.sub_code)
        };
        assert_eq!(at("2026-03-01 12:01:00"), Ok(now + 60_000));
        assert_eq!(at("2026-03-16 12:00:00"), Ok(now + 15 * 24 * 3_600_000));
        assert_eq!(at("2026-03-01 12:00:00").unwrap_err(), "ACQ.NOW_TIME_AFTER_EXPIRE_TIME_ERROR");
        assert_eq!(at("2026-03-01 12:00:59").unwrap_err(), "ACQ.INVALID_PARAMETER");
        assert_eq!(at("2026-03-16 12:00:01").unwrap_err(), "ACQ.INVALID_PARAMETER");
        assert_eq!(at("tomorrow").unwrap_err(), "ACQ.INVALID_PARAMETER");
        assert_eq!(read(&good()).unwrap().expires_ms(now, 60_000), Ok(now + 3 * 3_600_000));
    }
}
