//! What WeChat remembers.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::bill::BillFile;
use super::refund::Refund;
use crate::bill::{BillChange, SyntheticBill};
use crate::keys::{Certificate, PublicKey, RsaKey};

/// Life of a prepay_id, whatever `time_expire` says.
pub(crate) const PREPAY_LIFE_MS: i64 = 2 * 3600 * 1000;
/// WeChat closes what is unpaid after 7 days.
pub(crate) const ORDER_LIFE_MS: i64 = 7 * 24 * 3600 * 1000;
/// Life of a login code.
pub(crate) const CODE_LIFE_MS: i64 = 5 * 60 * 1000;

/// Which of WeChat's keys signs answers and notifications for a merchant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyMode {
    /// The public key, as for every merchant since late 2024; `/v3/certificates` is 404.
    #[default]
    PublicKey,
    /// The platform certificate.
    Certificate,
    /// In migration: answers follow the request's `Wechatpay-Serial`, notifications come with either.
    Mixed,
}

/// A merchant's own API certificate, as WeChat knows it.
#[derive(Clone)]
pub(crate) struct ApiCertificate {
    pub serial_no: String,
    pub public: PublicKey,
}

#[derive(Clone)]
pub(crate) struct Merchant {
    pub mchid: String,
    pub certificates: Vec<ApiCertificate>,
    pub apiv3_key: String,
    pub public_key_id: String,
    pub key_mode: KeyMode,
    /// Sub-merchants that accepted this service provider.
    pub subs: Vec<String>,
}

pub(crate) struct App {
    pub app_secret: String,
    /// mchids (or sub_mchids) it is bound to.
    pub mchids: Vec<String>,
}

pub(crate) struct Code {
    pub appid: String,
    pub openid: String,
    pub issued_ms: i64,
    pub used: bool,
}

/// State of an order, as a query tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum TradeState {
    NotPay,
    Success,
    Refund,
    Closed,
}

impl TradeState {
    /// As on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotPay => "NOTPAY",
            Self::Success => "SUCCESS",
            Self::Refund => "REFUND",
            Self::Closed => "CLOSED",
        }
    }

    pub(crate) fn description(self) -> &'static str {
        match self {
            Self::NotPay => "订单未支付",
            Self::Success => "支付成功",
            Self::Refund => "订单发生过退款，退款详情请查询退款单",
            Self::Closed => "订单已关闭",
        }
    }
}

/// mchid or sp_mchid, and out_trade_no.
pub(crate) type OrderKey = (String, String);

#[derive(Clone)]
pub(crate) struct Order {
    pub partner: bool,
    /// mchid or sp_mchid.
    pub mchid: String,
    pub sub_mchid: Option<String>,
    /// appid or sp_appid.
    pub appid: String,
    pub sub_appid: Option<String>,
    pub out_trade_no: String,
    pub attach: Option<String>,
    pub notify_url: String,
    pub total_fen: i64,
    /// The payer, under `appid` or, when `sub_payer`, under `sub_appid`.
    pub openid: String,
    pub sub_payer: bool,
    pub body: Value,
    pub created_ms: i64,
    pub expires_ms: i64,
    pub state: TradeState,
    pub prepay_id: String,
    pub prepay_ms: i64,
    pub transaction_id: Option<String>,
    pub success_ms: Option<i64>,
    /// Same on every delivery.
    pub notice_id: String,
}

impl Order {
    pub(crate) fn key(&self) -> OrderKey {
        (self.mchid.clone(), self.out_trade_no.clone())
    }

    /// The app whose payment page may pay it.
    pub(crate) fn paying_appid(&self) -> &str {
        match &self.sub_appid {
            Some(sub_appid) if self.sub_payer => sub_appid,
            _ => &self.appid,
        }
    }
}

/// A platform certificate with its key.
#[derive(Clone)]
pub(crate) struct PlatformCertificate {
    pub certificate: Certificate,
    pub key: Arc<RsaKey>,
}

/// Prepays of one mchid in the second they fell into.
#[derive(Default)]
pub(crate) struct Rate {
    pub second: i64,
    pub count: u32,
}

pub(crate) struct State {
    pub merchants: HashMap<String, Arc<Merchant>>,
    pub apps: HashMap<String, App>,
    /// openid to the appid it belongs to.
    pub openids: HashMap<String, String>,
    pub codes: HashMap<String, Code>,
    pub orders: HashMap<OrderKey, Order>,
    /// prepay_id to its order and the time it was issued.
    pub prepays: HashMap<String, (OrderKey, i64)>,
    pub transactions: HashMap<String, OrderKey>,
    /// By mchid or sp_mchid, and out_refund_no.
    pub refunds: HashMap<OrderKey, Refund>,
    /// out_refund_nos of an order, oldest first.
    pub refunds_by_order: HashMap<OrderKey, Vec<String>>,
    /// Fen a merchant or sub-merchant can refund from, where that is limited.
    pub balances: HashMap<String, i64>,
    /// Where refunds without an address of their own are told.
    pub refund_urls: HashMap<String, String>,
    pub bill_changes: HashMap<String, Vec<BillChange>>,
    /// By mchid and date: the day, and the SHA-1 of its plain file.
    pub synthetic_bills: HashMap<OrderKey, (SyntheticBill, String)>,
    /// By token.
    pub bill_files: HashMap<String, BillFile>,
    pub rates: HashMap<String, Rate>,
    /// Listed ones, oldest first; the one at `signing` signs.
    pub certificates: Vec<PlatformCertificate>,
    pub signing: String,
}

impl State {
    pub(crate) fn new(first: PlatformCertificate) -> Self {
        Self {
            merchants: HashMap::new(),
            apps: HashMap::new(),
            openids: HashMap::new(),
            codes: HashMap::new(),
            orders: HashMap::new(),
            prepays: HashMap::new(),
            transactions: HashMap::new(),
            refunds: HashMap::new(),
            refunds_by_order: HashMap::new(),
            balances: HashMap::new(),
            refund_urls: HashMap::new(),
            bill_changes: HashMap::new(),
            synthetic_bills: HashMap::new(),
            bill_files: HashMap::new(),
            rates: HashMap::new(),
            signing: first.certificate.serial_no.clone(),
            certificates: vec![first],
        }
    }

    pub(crate) fn is_bound(&self, appid: &str, mchid: &str) -> bool {
        self.apps.get(appid).is_some_and(|app| app.mchids.iter().any(|bound| bound == mchid))
    }

    pub(crate) fn owns(&self, appid: &str, openid: &str) -> bool {
        self.openids.get(openid).is_some_and(|owner| owner == appid)
    }
}
