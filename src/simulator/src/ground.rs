//! What both wallets stand on.

use std::sync::Arc;

use crate::chance::Chance;
use crate::clock::Clock;
use crate::faults::Faults;
use crate::ledger::Ledger;
use crate::notifier::Notifier;

/// Clock, chance, faults, ledger and notifier, one of each per simulator.
pub(crate) struct Ground {
    pub clock: Arc<Clock>,
    pub chance: Arc<Chance>,
    pub ledger: Arc<Ledger>,
    pub faults: Arc<Faults>,
    pub notifier: Notifier,
}

/// One of the two wallets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wallet {
    Wechat,
    Alipay,
}

/// A call as both wallets know it, by what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// Code to openid or user id: `jscode2session`, `alipay.system.oauth.token`.
    Exchange,
    /// JSAPI order, `alipay.trade.create`.
    Prepay,
    Query,
    Close,
    Refund,
    RefundQuery,
    /// Sending an abnormal refund to a bank card: WeChat's `apply-abnormal-refund`.
    RefundRepair,
    /// Asking for a bill's address.
    Bill,
    /// Fetching the bill itself.
    BillFile,
    /// `GET /v3/certificates`.
    Certificates,
    /// A delivery of a notification of a payment, wallet to merchant.
    Notify,
    /// A delivery of a notification of a refund, wallet to merchant.
    RefundNotify,
    /// The phone's payment page: `wx.requestPayment`, `my.tradePay`.
    Cashier,
    /// Anything else that was asked.
    Other,
}
