//! Which keys a request may have, of which kind and length; everything else is refused.

use std::net::IpAddr;

use serde_json::{Map, Value};

use super::refusal::Refusal;

/// Kind of one value.
pub(crate) enum Kind {
    /// Text of 1 to this many characters.
    Text(usize),
    /// An address, IPv4 or IPv6.
    Ip,
    /// A list of such texts.
    Texts(usize),
    /// Whole number.
    Int,
    Bool,
    Object(&'static [Field]),
    List(&'static [Field]),
}

/// One key.
pub(crate) struct Field {
    name: &'static str,
    kind: Kind,
    required: bool,
}

const fn must(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, required: true }
}

const fn may(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, required: false }
}

use Kind::{Bool, Int, Ip, List, Object, Text, Texts};

/// Amounts are whole fen, greater than 0; the callers check that.
const AMOUNT: &[Field] = &[must("total", Int), may("currency", Text(16))];

const DETAIL: &[Field] = &[
    may("cost_price", Int),
    may("invoice_id", Text(32)),
    may(
        "goods_detail",
        List(&[
            must("merchant_goods_id", Text(32)),
            may("wechatpay_goods_id", Text(32)),
            may("goods_name", Text(256)),
            must("quantity", Int),
            must("unit_price", Int),
        ]),
    ),
];

const SCENE: &[Field] = &[
    must("payer_client_ip", Ip),
    may("device_id", Text(32)),
    may(
        "store_info",
        Object(&[must("id", Text(32)), may("name", Text(256)), may("area_code", Text(32)), may("address", Text(512))]),
    ),
];

/// `POST /v3/pay/transactions/jsapi`.
pub(crate) const PREPAY: &[Field] = &[
    must("appid", Text(32)),
    must("mchid", Text(32)),
    must("description", Text(127)),
    must("out_trade_no", Text(32)),
    may("time_expire", Text(64)),
    may("attach", Text(128)),
    must("notify_url", Text(255)),
    may("goods_tag", Text(32)),
    // Of the public OpenAPI description, for merchants with permission; here all have it.
    may("limit_pay", Texts(32)),
    may("support_fapiao", Bool),
    must("amount", Object(AMOUNT)),
    must("payer", Object(&[must("openid", Text(128))])),
    may("detail", Object(DETAIL)),
    may("scene_info", Object(SCENE)),
    may("settle_info", Object(&[may("profit_sharing", Bool)])),
];

/// `POST /v3/pay/partner/transactions/jsapi`.
pub(crate) const PARTNER_PREPAY: &[Field] = &[
    must("sp_appid", Text(32)),
    must("sp_mchid", Text(32)),
    may("sub_appid", Text(32)),
    must("sub_mchid", Text(32)),
    must("description", Text(127)),
    must("out_trade_no", Text(32)),
    may("time_expire", Text(64)),
    may("attach", Text(128)),
    must("notify_url", Text(255)),
    may("goods_tag", Text(32)),
    // Of the public OpenAPI description, for merchants with permission; here all have it.
    may("limit_pay", Texts(32)),
    may("support_fapiao", Bool),
    must("amount", Object(AMOUNT)),
    must("payer", Object(&[may("sp_openid", Text(128)), may("sub_openid", Text(128))])),
    may("detail", Object(DETAIL)),
    may("scene_info", Object(SCENE)),
    may("settle_info", Object(&[may("profit_sharing", Bool), may("subsidy_amount", Int)])),
];

/// Close of a direct merchant's order.
pub(crate) const CLOSE: &[Field] = &[must("mchid", Text(32))];

/// Close of a sub-merchant's order.
pub(crate) const PARTNER_CLOSE: &[Field] = &[must("sp_mchid", Text(32)), must("sub_mchid", Text(32))];

/// `POST /v3/refund/domestic/refunds`.
pub(crate) const REFUND: &[Field] = &[
    may("sub_mchid", Text(32)),
    may("transaction_id", Text(32)),
    may("out_trade_no", Text(32)),
    must("out_refund_no", Text(64)),
    may("reason", Text(80)),
    may("notify_url", Text(256)),
    may("funds_account", Text(32)),
    must(
        "amount",
        Object(&[
            must("refund", Int),
            must("total", Int),
            must("currency", Text(16)),
            may("from", List(&[must("account", Text(32)), must("amount", Int)])),
        ]),
    ),
    may(
        "goods_detail",
        List(&[
            must("merchant_goods_id", Text(32)),
            may("wechatpay_goods_id", Text(32)),
            may("goods_name", Text(256)),
            must("unit_price", Int),
            must("refund_amount", Int),
            must("refund_quantity", Int),
        ]),
    ),
];

/// `POST /v3/refund/domestic/refunds/{refund_id}/apply-abnormal-refund`; the last two are encrypted.
pub(crate) const REFUND_REPAIR: &[Field] = &[
    may("sub_mchid", Text(32)),
    must("out_refund_no", Text(64)),
    must("type", Text(32)),
    may("bank_type", Text(16)),
    may("bank_account", Text(1024)),
    may("real_name", Text(1024)),
];

/// Reads a body and checks it against its fields.
pub(crate) fn read(body: &[u8], fields: &[Field]) -> Result<Value, Refusal> {
    let text = std::str::from_utf8(body).map_err(|_| Refusal::parameter("/body", "不是UTF-8"))?;
    if text.chars().any(|letter| letter.len_utf8() > 3) {
        return Err(Refusal::parameter("/body", "含有不支持的字符"));
    }
    let value: Value = serde_json::from_str(text).map_err(|_| Refusal::parameter("/body", "不是合法的JSON"))?;
    // An escaped emoji ("\ud83d\ude00") is the same character.
    let Value::Object(object) = &value else {
        return Err(Refusal::parameter("/body", "不是JSON对象"));
    };
    check_object("/body", object, fields)?;
    Ok(value)
}

fn check_object(path: &str, object: &Map<String, Value>, fields: &[Field]) -> Result<(), Refusal> {
    for key in object.keys() {
        if !fields.iter().any(|field| field.name == key) {
            return Err(Refusal::parameter(&format!("{path}/{key}"), "未定义的参数").internal("270924358"));
        }
    }
    for field in fields {
        let path = format!("{path}/{}", field.name);
        match object.get(field.name) {
            Some(value) => check(&path, value, &field.kind)?,
            None if field.required => {
                // A payer without openid has an internal code of its own.
                let internal = if path.contains("openid") { "268501013" } else { "268435461" };
                return Err(Refusal::parameter(&path, "缺少必填参数").internal(internal));
            }
            None => {}
        }
    }
    Ok(())
}

fn check(path: &str, value: &Value, kind: &Kind) -> Result<(), Refusal> {
    match (kind, value) {
        (Text(max), Value::String(text)) => {
            if text.is_empty() || text.chars().count() > *max {
                return Err(Refusal::parameter(path, "长度不符合要求").internal("268435464"));
            }
            if text.chars().any(|letter| letter.len_utf8() > 3) {
                return Err(Refusal::parameter(path, "含有不支持的字符"));
            }
            Ok(())
        }
        (Ip, Value::String(text)) if text.parse::<IpAddr>().is_ok() => Ok(()),
        (Texts(max), Value::Array(items)) => {
            items.iter().enumerate().try_for_each(|(at, item)| check(&format!("{path}/{at}"), item, &Text(*max)))
        }
        (Int, Value::Number(number)) if number.is_i64() => Ok(()),
        (Bool, Value::Bool(_)) => Ok(()),
        (Object(fields), Value::Object(object)) => check_object(path, object, fields),
        (List(fields), Value::Array(items)) => items.iter().enumerate().try_for_each(|(at, item)| match item {
            Value::Object(object) => check_object(&format!("{path}/{at}"), object, fields),
            _ => Err(Refusal::parameter(&format!("{path}/{at}"), "类型错误")),
        }),
        (_, Value::Null) => Err(Refusal::parameter(path, "不允许为null")),
        _ => Err(Refusal::parameter(path, "类型错误")),
    }
}

/// A text of a body that was checked; empty when absent.
pub(crate) fn text<'a>(body: &'a Value, pointer: &str) -> &'a str {
    body.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn order() -> Value {
        json!({
            "appid": "wx1", "mchid": "1900000109", "description": "咖啡（大杯）", "out_trade_no": "T00001",
            "notify_url": "https://pay.example.com/n", "amount": { "total": 1 }, "payer": { "openid": "o1" },
            "goods_tag": "SPRING", "limit_pay": ["no_credit"], "settle_info": { "profit_sharing": true },
            "scene_info": { "payer_client_ip": "127.0.0.1", "store_info": { "id": "1" } },
            "detail": { "goods_detail": [{ "merchant_goods_id": "1", "quantity": 1, "unit_price": 1 }] }
        })
    }

    #[test]
    fn an_order_with_known_keys_passes() {
        assert_eq!(read(order().to_string().as_bytes(), PREPAY), Ok(order()));
    }

    #[test]
    fn what_is_wrong_with_a_key_is_named() {
        for (pointer, value, field) in [
            ("/attach", json!(null), "/body/attach"),
            ("/attach", json!(""), "/body/attach"),
            ("/unknown", json!(1), "/body/unknown"),
            ("/amount/unknown", json!(1), "/body/amount/unknown"),
            ("/amount/total", json!("1"), "/body/amount/total"),
            ("/amount/total", json!(1.5), "/body/amount/total"),
            ("/payer", json!({}), "/body/payer/openid"),
            ("/description", json!("😀"), "/body"),
            ("/description", json!("字".repeat(128)), "/body/description"),
            ("/detail/goods_detail", json!([1]), "/body/detail/goods_detail/0"),
            ("/support_fapiao", json!("true"), "/body/support_fapiao"),
            ("/scene_info/payer_client_ip", json!("1.1.1"), "/body/scene_info/payer_client_ip"),
            ("/limit_pay", json!("no_credit"), "/body/limit_pay"),
            ("/limit_pay", json!([1]), "/body/limit_pay/0"),
            ("/settle_info", json!({ "profit_sharing": "true" }), "/body/settle_info/profit_sharing"),
            ("/goods_tag", json!("字".repeat(33)), "/body/goods_tag"),
        ] {
            let mut body = order();
            let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
            body.pointer_mut(parent).expect("a parent")[key] = value;
            let refusal = read(body.to_string().as_bytes(), PREPAY).expect_err(pointer);
            assert_eq!((refusal.status, refusal.code.as_str()), (400, "PARAM_ERROR"));
            assert_eq!(refusal.detail.expect("detail")["field"], field);
        }
        let escaped = order().to_string().replace("咖啡", "\\ud83d\\ude00");
        assert!(read(escaped.as_bytes(), PREPAY).is_err());
        assert!(read(b"[]", PREPAY).is_err() && read(b"{", PREPAY).is_err() && read(b"\xff", PREPAY).is_err());
    }

    #[test]
    fn a_description_may_have_127_characters_of_three_bytes() {
        let mut body = order();
        body["description"] = json!("字".repeat(127));
        assert!(read(body.to_string().as_bytes(), PREPAY).is_ok());
    }
}
