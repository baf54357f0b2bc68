//! Alipay's fields, as they stand in requests and answers. The only place where amounts are texts in yuan.

use std::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize};

use super::settings::OpenIdField;
use crate::{
    domain::{
        id::{AppId, OutTradeNo, TradeNo},
        money::{Fen, Sum},
        payer::PayerKind,
        time::Timestamp,
    },
    gateway::{Extras, PaidTrade, PrepayAsk, TradeState, extras::goods_id},
};

/// `biz_content` of `alipay.trade.create` (`alipay.md` §5.1). The order of the fields here is the order of the bytes.
///
/// `time_expire` is always sent (it wins over `timeout_express`, which is not), `seller_id` never: the contract's account
/// receives.
#[derive(Serialize)]
struct CreateBody<'a> {
    out_trade_no: String,
    total_amount: String,
    subject: String,
    product_code: &'static str,
    op_app_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    buyer_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    buyer_open_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    op_buyer_open_id: Option<&'a str>,
    time_expire: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    goods_detail: Option<[Goods<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disable_pay_channels: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extend_params: Option<ExtendParams>,
    #[serde(skip_serializing_if = "Option::is_none")]
    business_params: Option<BusinessParams>,
}

#[derive(Serialize)]
struct Goods<'a> {
    goods_id: &'a str,
    goods_name: String,
    quantity: u32,
    price: String,
}

#[derive(Serialize)]
struct ExtendParams {
    royalty_freeze: &'static str,
}

#[derive(Serialize)]
struct BusinessParams {
    mc_create_trade_ip: IpAddr,
}

/// Alipay's name for credit cards, Huabei and its instalments together. The reference names no channel; it is that of Alipay's
/// own list of them, and not confirmed (U).
const CREDIT: &str = "credit_group";

/// A line of goods has less room for its price than a trade for its amount: 999999.99 (`alipay.md` §5.1).
const PRICE_MAX: usize = 9;

/// The bytes of a create. Errors: what Alipay would surely refuse, in words for a log.
pub fn create_body(
    ask: &PrepayAsk,
    calling_app: &AppId,
    open_id_field: OpenIdField,
    extras: Extras,
) -> Result<String, String> {
    let subject = plain_words(&ask.good_name);
    if subject.is_empty() {
        return Err("goodName is empty".to_owned());
    }
    let id = ask.payer.expose_id();
    let (mut buyer_id, mut buyer_open_id, mut op_buyer_open_id) = (None, None, None);
    match ask.payer.kind {
        PayerKind::AlipayUserId => buyer_id = Some(id),
        PayerKind::AlipayOpenId => match open_id_field {
            OpenIdField::BuyerOpenId => buyer_open_id = Some(id),
            OpenIdField::OpBuyerOpenId => op_buyer_open_id = Some(id),
            OpenIdField::Auto if ask.app_id == *calling_app => buyer_open_id = Some(id),
            OpenIdField::Auto => op_buyer_open_id = Some(id),
        },
        PayerKind::WechatOpenid => return Err("the payer is not one of Alipay".to_owned()),
    }
    let total_amount = ask.amount.to_yuan();
    let goods = goods_id(ask.good_no.as_deref()).filter(|_| extras.goods_detail && total_amount.len() <= PRICE_MAX);
    let goods_detail = goods
        .map(|goods_id| [Goods { goods_id, goods_name: subject.clone(), quantity: 1, price: total_amount.clone() }]);
    let payer_ip = ask.payer_ip.filter(|_| extras.payer_ip);
    let body = CreateBody {
        out_trade_no: ask.out_trade_no.to_string(),
        total_amount,
        subject,
        product_code: "JSAPI_PAY",
        op_app_id: ask.app_id.as_str(),
        buyer_id,
        buyer_open_id,
        op_buyer_open_id,
        time_expire: ask.expire_at.china_text(),
        goods_detail,
        disable_pay_channels: extras.no_credit.then_some(CREDIT),
        extend_params: extras.profit_sharing.then_some(ExtendParams { royalty_freeze: "true" }),
        business_params: payer_ip.map(|ip| BusinessParams { mc_create_trade_ip: ip.expose() }),
    };
    serde_json::to_string(&body).map_err(|error| error.to_string())
}

/// `subject` and `refund_reason`: at most 256 characters without `/ = &` (full-width ones read the same), control characters as
/// blanks.
pub fn plain_words(words: &str) -> String {
    let plain = words.trim().chars().map(|c| match c {
        '/' => '／',
        '=' => '＝',
        '&' => '＆',
        c if c.is_control() => ' ',
        c => c,
    });
    plain.take(256).collect()
}

/// `biz_content` of a query or a close.
pub fn number_body(number: &OutTradeNo) -> String {
    serde_json::json!({ "out_trade_no": number.to_string() }).to_string()
}

/// `biz_content` of `alipay.open.app.alipaycert.download`.
pub fn certificate_body(sn: &str) -> String {
    serde_json::json!({ "alipay_cert_sn": sn }).to_string()
}

/// What every node may carry. A success of `alipay.system.oauth.token` has neither.
#[derive(Deserialize)]
pub struct Codes {
    #[serde(default)]
    pub code: Option<String>,
    #[serde(default)]
    pub sub_code: Option<String>,
}

/// Answer of `alipay.trade.create`, and of `alipay.trade.close`.
#[derive(Deserialize)]
pub struct Numbers {
    #[serde(default, deserialize_with = "filled")]
    pub trade_no: Option<String>,
    #[serde(default, deserialize_with = "filled")]
    pub out_trade_no: Option<String>,
}

/// Answer of `alipay.open.app.alipaycert.download`.
#[derive(Deserialize)]
pub struct CertificateAnswer {
    /// Base64 of PEM.
    pub alipay_cert_content: String,
}

/// Answer of `alipay.system.oauth.token`. Tokens are not read: collecting a payment needs none.
#[derive(Deserialize)]
pub struct TokenAnswer {
    #[serde(default, deserialize_with = "filled")]
    pub user_id: Option<String>,
    #[serde(default, deserialize_with = "filled")]
    pub open_id: Option<String>,
}

/// Answer of `alipay.trade.query` (`alipay.md` §6.1), as far as it decides anything.
#[derive(Deserialize)]
pub struct QueryAnswer {
    #[serde(default, deserialize_with = "filled")]
    pub trade_no: Option<String>,
    #[serde(default, deserialize_with = "filled")]
    pub out_trade_no: Option<String>,
    #[serde(default, deserialize_with = "filled")]
    pub trade_status: Option<String>,
    #[serde(default, deserialize_with = "filled")]
    pub total_amount: Option<String>,
    #[serde(default, deserialize_with = "filled")]
    pub buyer_pay_amount: Option<String>,
    #[serde(default, deserialize_with = "filled")]
    pub send_pay_date: Option<String>,
    #[serde(default, deserialize_with = "filled")]
    pub refund_fee: Option<String>,
    #[serde(default)]
    fund_bill_list: Option<serde_json::Value>,
}

impl QueryAnswer {
    /// `now` stands in when a paid trade carries no time.
    /// Errors: an answer that says nothing certain, in words for a log.
    pub fn state(&self, now: Timestamp) -> Result<TradeState, String> {
        let funds = match &self.fund_bill_list {
            Some(serde_json::Value::Array(funds)) => !funds.is_empty(),
            Some(serde_json::Value::String(text)) => !matches!(text.as_str(), "" | "[]"),
            _ => false,
        };
        let facts = Facts {
            trade_status: self.trade_status.as_deref(),
            trade_no: self.trade_no.as_deref(),
            total_amount: self.total_amount.as_deref(),
            buyer_pay_amount: self.buyer_pay_amount.as_deref(),
            paid_at: self.send_pay_date.as_deref(),
            money_moved: self.send_pay_date.is_some()
                || funds
                || [&self.buyer_pay_amount, &self.refund_fee].into_iter().flatten().any(|text| is_positive(text)),
        };
        facts.state(now, None)
    }
}

/// What a query's answer and a notice say alike.
pub struct Facts<'a> {
    pub trade_status: Option<&'a str>,
    pub trade_no: Option<&'a str>,
    pub total_amount: Option<&'a str>,
    pub buyer_pay_amount: Option<&'a str>,
    /// `send_pay_date` or `gmt_payment`.
    pub paid_at: Option<&'a str>,
    /// A payment or a refund is on it, whatever its status says.
    pub money_moved: bool,
}

impl Facts<'_> {
    /// TRADE_CLOSED is "closed unpaid" and also "paid, then refunded in full": only marks of money tell them apart
    /// (`alipay.md` §6.1).
    ///
    /// A paid trade without a time is still paid: `otherwise_paid_at` stands in.
    /// Errors: words for a log.
    pub fn state(&self, otherwise_paid_at: Timestamp, foreign: Option<String>) -> Result<TradeState, String> {
        match self.trade_status.unwrap_or_default() {
            "WAIT_BUYER_PAY" => return Ok(TradeState::Unpaid),
            "TRADE_CLOSED" if !self.money_moved => return Ok(TradeState::Closed),
            "TRADE_SUCCESS" | "TRADE_FINISHED" | "TRADE_CLOSED" => {}
            _ => return Err("trade_status is absent or not a known one".to_owned()),
        }
        let trade_no = self.trade_no.ok_or("a paid trade without trade_no")?;
        let amount = match self.total_amount {
            Some(text) => Some(Fen::from_yuan(text).map_err(|error| format!("total_amount: {error}"))?),
            None => None,
        };
        // A payment must not be lost for want of its time.
        let paid_at = self.paid_at.and_then(Timestamp::parse_china_text).unwrap_or(otherwise_paid_at);
        Ok(TradeState::Paid(PaidTrade {
            trade_no: TradeNo::parse(trade_no).map_err(|error| error.to_string())?,
            amount,
            payer_amount: self.buyer_pay_amount.and_then(|text| Sum::from_yuan(text).ok()),
            paid_at,
            foreign,
        }))
    }
}

/// Whether an amount is anything but zero, whatever its form.
pub fn is_positive(amount: &str) -> bool {
    amount.bytes().any(|byte| matches!(byte, b'1'..=b'9'))
}

/// A text, with empty and null as absent.
pub fn filled<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.filter(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::payer::Payer, gateway::alipay::testing};

    fn ask(app_id: &str, payer: Payer) -> PrepayAsk {
        PrepayAsk {
            out_trade_no: testing::number(),
            amount: Fen::new(8888).unwrap(),
            good_name: "测试商品 A/B=C&D 100%".to_owned(),
            good_no: None,
            app_id: AppId::parse(app_id).unwrap(),
            payer,
            payer_ip: None,
            expire_at: Timestamp::from_secs(1_772_337_600),
            notify_url: "https://pay.example.com/notify/alipay/1".to_owned(),
        }
    }

    #[test]
    fn a_create_is_frozen_byte_for_byte() {
        let open_id = Payer::new(PayerKind::AlipayOpenId, "083luGU2ef8yeC95sroZ9WGyojnYtj3lBoBA6lY_2PlBrU4").unwrap();
        let calling = AppId::parse("2021000000000001").unwrap();
        let body =
            create_body(&ask("2021000000000009", open_id), &calling, OpenIdField::Auto, Extras::default()).unwrap();
        assert_eq!(
            body,
            format!(
                r#"{{"out_trade_no":"{}","total_amount":"88.88","subject":"测试商品 A／B＝C＆D 100%","product_code":"JSAPI_PAY","op_app_id":"2021000000000009","op_buyer_open_id":"083luGU2ef8yeC95sroZ9WGyojnYtj3lBoBA6lY_2PlBrU4","time_expire":"2026-03-01 12:00:00"}}"#,
                testing::number()
            )
        );
    }

    #[test]
    fn exactly_one_buyer_field_is_sent() {
        let calling = AppId::parse("2021000000000001").unwrap();
        let user = || Payer::new(PayerKind::AlipayUserId, "2088102146225135").unwrap();
        let open = || Payer::new(PayerKind::AlipayOpenId, "083luGU2ef8yeC95").unwrap();
        use OpenIdField::{Auto, BuyerOpenId, OpBuyerOpenId};
        for (payer, app_id, field, wanted) in [
            (user(), "2021000000000001", Auto, "buyer_id"),
            (user(), "2021000000000009", Auto, "buyer_id"),
            (user(), "2021000000000009", OpBuyerOpenId, "buyer_id"),
            (open(), "2021000000000001", Auto, "buyer_open_id"),
            (open(), "2021000000000009", Auto, "op_buyer_open_id"),
            (open(), "2021000000000009", BuyerOpenId, "buyer_open_id"),
            (open(), "2021000000000001", OpBuyerOpenId, "op_buyer_open_id"),
        ] {
            let body = create_body(&ask(app_id, payer), &calling, field, Extras::default()).unwrap();
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            let sent: Vec<&str> = ["buyer_id", "buyer_open_id", "op_buyer_open_id"]
                .into_iter()
                .filter(|name| body.get(name).is_some())
                .collect();
            assert_eq!(sent, [wanted], "{app_id} {field:?}");
        }
        let wechat = Payer::new(PayerKind::WechatOpenid, "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o").unwrap();
        assert!(create_body(&ask("2021000000000001", wechat), &calling, Auto, Extras::default()).is_err());
    }

    #[test]
    fn a_subject_fits_the_wallet() {
        assert_eq!(plain_words(" a\nb "), "a b");
        assert_eq!(plain_words(&"订".repeat(300)).chars().count(), 256);
        assert_eq!(plain_words("body=1&out_trade_no=2"), "body＝1＆out_trade_no＝2");
    }

    #[test]
    fn a_state_is_read_from_status_and_marks_of_money() {
        let state = |text: &str| {
            let answer: QueryAnswer = serde_json::from_str(text).unwrap();
            answer.state(Timestamp::from_ms(5))
        };
        let kind = |text: &str| match state(text) {
            Ok(TradeState::Paid(_)) => "paid",
            Ok(TradeState::Closed) => "closed",
            Ok(TradeState::Unpaid) => "unpaid",
            Ok(TradeState::NotExist) => "not exist",
            Err(_) => "nothing certain",
        };
        for (text, wanted) in [
            (r#"{"trade_status":"WAIT_BUYER_PAY","buyer_pay_amount":"0.00"}"#, "unpaid"),
            (
                r#"{"trade_status":"TRADE_CLOSED","trade_no":"1","total_amount":"88.88","buyer_pay_amount":"0.00"}"#,
                "closed",
            ),
            (r#"{"trade_status":"TRADE_CLOSED","trade_no":"1","send_pay_date":""}"#, "closed"),
            (r#"{"trade_status":"TRADE_CLOSED","trade_no":"1","send_pay_date":null,"fund_bill_list":[]}"#, "closed"),
            (r#"{"trade_status":"TRADE_CLOSED","trade_no":"1","send_pay_date":"2026-03-01 12:01:30"}"#, "paid"),
            (r#"{"trade_status":"TRADE_CLOSED","trade_no":"1","buyer_pay_amount":"0.01"}"#, "paid"),
            (r#"{"trade_status":"TRADE_CLOSED","trade_no":"1","refund_fee":"88.88"}"#, "paid"),
            (r#"{"trade_status":"TRADE_CLOSED","trade_no":"1","fund_bill_list":[{"amount":"1.00"}]}"#, "paid"),
            (r#"{"trade_status":"TRADE_SUCCESS","trade_no":"1"}"#, "paid"),
            (r#"{"trade_status":"TRADE_FINISHED","trade_no":"1"}"#, "paid"),
            (r#"{"trade_status":"TRADE_SUCCESS"}"#, "nothing certain"),
            (r#"{"trade_status":"TRADE_SUCCESS","trade_no":"1","total_amount":"88.8"}"#, "nothing certain"),
            (r#"{"trade_status":"TRADE_SUCCESS","trade_no":"1","send_pay_date":"yesterday"}"#, "paid"),
            (r#"{"trade_status":"TRADE_PENDING","trade_no":"1"}"#, "nothing certain"),
            (r#"{"trade_no":"1"}"#, "nothing certain"),
        ] {
            assert_eq!(kind(text), wanted, "{text}");
        }
        let paid = state(
            r#"{"trade_status":"TRADE_SUCCESS","trade_no":"2026030122001400000000000001","total_amount":"88.88","buyer_pay_amount":"80.00","send_pay_date":"2026-03-01 12:01:30"}"#,
        );
        assert_eq!(
            paid,
            Ok(TradeState::Paid(PaidTrade {
                trade_no: TradeNo::parse("2026030122001400000000000001").unwrap(),
                amount: Fen::new(8888).ok(),
                payer_amount: Sum::new(8000).ok(),
                paid_at: Timestamp::parse_china_text("2026-03-01 12:01:30").unwrap(),
                foreign: None,
            }))
        );
    }
}
