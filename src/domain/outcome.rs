//! What a command ended in: exactly what a phone may be told.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::id::AppId;

/// A business answer other than success; number and text are the published table of `mini-program.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    AlreadyPaid,
    Refunded,
    ClosedOrExpired,
    InvalidLink,
    MissingField,
    InvalidField,
    LoginExpired,
    WrongWallet,
    TooOften,
    OrderRefused,
    InternalError,
}

impl Refusal {
    pub const ALL: [Self; 11] = [
        Self::AlreadyPaid,
        Self::Refunded,
        Self::ClosedOrExpired,
        Self::InvalidLink,
        Self::MissingField,
        Self::InvalidField,
        Self::LoginExpired,
        Self::WrongWallet,
        Self::TooOften,
        Self::OrderRefused,
        Self::InternalError,
    ];

    pub const fn err_code(self) -> &'static str {
        match self {
            Self::AlreadyPaid => "2101",
            Self::Refunded => "3102",
            Self::ClosedOrExpired => "3101",
            Self::InvalidLink => "2106",
            Self::MissingField => "1003",
            Self::InvalidField => "1008",
            Self::LoginExpired => "3002",
            Self::WrongWallet => "3004",
            Self::TooOften => "3005",
            Self::OrderRefused => "2002",
            Self::InternalError => "1001",
        }
    }

    /// What old clients show to the payer; never the wallet's own words.
    pub const fn msg(self) -> &'static str {
        match self {
            Self::AlreadyPaid => "订单已支付成功",
            Self::Refunded => "订单已退款",
            Self::ClosedOrExpired => "订单已关闭或过期",
            Self::InvalidLink => "支付链接无效，请重新打开",
            Self::MissingField | Self::InvalidField => "请求参数有误",
            Self::LoginExpired => "登录已失效，请重新进入",
            Self::WrongWallet => "请用正确的应用打开",
            Self::TooOften => "操作过于频繁，请稍后再试",
            Self::OrderRefused => "下单失败",
            Self::InternalError => "系统异常，请稍后重试",
        }
    }

    /// The label of metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AlreadyPaid => "already_paid",
            Self::Refunded => "refunded",
            Self::ClosedOrExpired => "closed_or_expired",
            Self::InvalidLink => "invalid_link",
            Self::MissingField => "missing_field",
            Self::InvalidField => "invalid_field",
            Self::LoginExpired => "login_expired",
            Self::WrongWallet => "wrong_wallet",
            Self::TooOften => "too_often",
            Self::OrderRefused => "order_refused",
            Self::InternalError => "internal_error",
        }
    }
}

/// The signed parameters that the page hands to its wallet.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "wallet", rename_all = "snake_case")]
pub enum PayParams {
    /// For `wx.requestPayment`: exactly the seven keys of the published sample (`codeUrl` is null and added by the front).
    Wechat {
        app_id: AppId,
        time_stamp: String,
        nonce_str: String,
        package: String,
        sign_type: String,
        pay_sign: String,
    },
    /// For `my.tradePay`.
    Alipay { trade_no: String },
}

impl std::fmt::Debug for PayParams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Wechat { app_id, .. } => write!(f, "PayParams::Wechat({app_id}, ***)"),
            Self::Alipay { .. } => f.write_str("PayParams::Alipay(***)"),
        }
    }
}

/// What a command ended in. Stored under the command's id and sent as its reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outcome {
    /// Pay with these.
    Ready { params: PayParams },
    /// The answer is no, for this reason.
    Refused { refusal: Refusal },
    /// Somebody else's step holds the order, or the wallet's answer is not known yet: ask again.
    Processing,
    /// Settled before any wallet was called: the channel account has no room. `retry_after_s` seconds.
    Busy { retry_after_s: u32 },
    /// It lay in the queue past its deadline: nothing was done.
    Expired,
}

impl Outcome {
    pub const fn refused(refusal: Refusal) -> Self {
        Self::Refused { refusal }
    }

    /// No room for now; whole seconds, one at least.
    pub fn busy(retry_in: Duration) -> Self {
        let seconds = retry_in.as_millis().div_ceil(1000);
        Self::Busy { retry_after_s: u32::try_from(seconds).unwrap_or(u32::MAX).max(1) }
    }

    /// The label of metrics and logs.
    pub const fn class(&self) -> &'static str {
        match self {
            Self::Ready { .. } => "ready",
            Self::Refused { refusal } => refusal.as_str(),
            Self::Processing => "processing",
            Self::Busy { .. } => "busy",
            Self::Expired => "expired",
        }
    }
}
