//! The JSON of WeChat Pay v3, field for field (`wechat-pay.md` §4.1, §6.1, §7.1, §3.4). Unknown keys of answers are ignored:
//! new ones appear.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A prepay's body. Its keys stand in this order, so that the same ask gives the same bytes.
#[derive(Serialize)]
pub(super) struct PrepayBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub appid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mchid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sp_appid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sp_mchid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub_appid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub_mchid: Option<&'a str>,
    pub description: &'a str,
    pub out_trade_no: &'a str,
    pub time_expire: &'a str,
    pub notify_url: &'a str,
    pub amount: AmountBody,
    pub payer: PayerBody<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goods_tag: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_pay: Option<&'static [&'static str]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<DetailBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scene_info: Option<SceneBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settle_info: Option<SettleBody>,
}

#[derive(Serialize)]
pub(super) struct DetailBody<'a> {
    pub goods_detail: [GoodsBody<'a>; 1],
}

#[derive(Serialize)]
pub(super) struct GoodsBody<'a> {
    pub merchant_goods_id: &'a str,
    pub goods_name: &'a str,
    pub quantity: u32,
    pub unit_price: i64,
}

#[derive(Serialize)]
pub(super) struct SceneBody {
    pub payer_client_ip: IpAddr,
}

#[derive(Serialize)]
pub(super) struct SettleBody {
    pub profit_sharing: bool,
}

#[derive(Serialize)]
pub(super) struct AmountBody {
    pub total: i64,
    pub currency: &'static str,
}

#[derive(Default, Serialize)]
pub(super) struct PayerBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub openid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sp_openid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub_openid: Option<&'a str>,
}

#[derive(Default, Serialize)]
pub(super) struct CloseBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mchid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sp_mchid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub_mchid: Option<&'a str>,
}

/// A refund's body (§8.1), its keys in this order.
#[derive(Serialize, Deserialize)]
pub(super) struct RefundBody {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub_mchid: Option<String>,
    pub out_trade_no: String,
    pub out_refund_no: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub notify_url: String,
    pub amount: RefundAmountBody,
}

#[derive(Serialize, Deserialize)]
pub(super) struct RefundAmountBody {
    pub refund: i64,
    pub total: i64,
    pub currency: String,
}

#[derive(Deserialize)]
pub(super) struct PrepayAnswer {
    pub prepay_id: String,
}

/// A query's answer and a notice's decrypted resource, in both modes.
#[derive(Default, Deserialize)]
pub(super) struct Transaction {
    pub appid: Option<String>,
    pub mchid: Option<String>,
    pub sp_appid: Option<String>,
    pub sp_mchid: Option<String>,
    pub sub_appid: Option<String>,
    pub sub_mchid: Option<String>,
    pub out_trade_no: String,
    pub transaction_id: Option<String>,
    pub trade_type: Option<String>,
    pub trade_state: String,
    pub success_time: Option<String>,
    pub amount: Option<AmountAnswer>,
}

#[derive(Default, Deserialize)]
pub(super) struct AmountAnswer {
    pub total: Option<i64>,
    pub payer_total: Option<i64>,
    pub currency: Option<String>,
}

/// An answer about a refund (§8.2) and a notice's decrypted resource (§8.3), which says `refund_status` where the answer says
/// `status`, and names the merchant.
#[derive(Default, Deserialize)]
pub(super) struct RefundAnswer {
    pub mchid: Option<String>,
    pub sp_mchid: Option<String>,
    pub sub_mchid: Option<String>,
    pub out_trade_no: String,
    pub out_refund_no: String,
    pub refund_id: Option<String>,
    pub status: Option<String>,
    pub refund_status: Option<String>,
    pub success_time: Option<String>,
    pub amount: Option<RefundAmountAnswer>,
}

#[derive(Default, Deserialize)]
pub(super) struct RefundAmountAnswer {
    pub total: Option<i64>,
    pub refund: Option<i64>,
    pub currency: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct ErrorBody {
    pub code: String,
    #[serde(default)]
    pub message: Option<String>,
    /// An object in most errors, with `field`, `issue` and (never to be logged) `value`.
    #[serde(default)]
    pub detail: Option<serde_json::Value>,
}

#[derive(Deserialize)]
pub(super) struct Envelope {
    pub event_type: String,
    pub resource: Resource,
}

/// AEAD_AES_256_GCM: a notice's resource, a platform certificate.
#[derive(Deserialize)]
pub(super) struct Resource {
    pub algorithm: String,
    pub ciphertext: String,
    /// May be absent, null or empty: then empty.
    #[serde(default)]
    pub associated_data: Option<String>,
    pub nonce: String,
}

#[derive(Deserialize)]
pub(super) struct CertificatesAnswer {
    pub data: Vec<CertificateEntry>,
}

#[derive(Deserialize)]
pub(super) struct CertificateEntry {
    pub serial_no: String,
    pub encrypt_certificate: Resource,
}

/// code2session answers 200 for errors too; `session_key` is not read at all.
#[derive(Deserialize)]
pub(super) struct SessionAnswer {
    #[serde(default)]
    pub errcode: Option<i64>,
    #[serde(default)]
    pub openid: Option<String>,
}
