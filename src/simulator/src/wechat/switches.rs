//! What differs between sources, or happens both ways: a switch for each.

use serde::{Deserialize, Serialize};

use super::refund::RefundStatus;
use crate::bill::Bills;

/// Answer to the same order asked for again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RepeatedPrepay {
    /// A new prepay_id; the old one stays usable for its two hours.
    New,
    /// The same prepay_id, for as long as it is usable.
    Same,
}

/// Answer to the same number with other parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangedPrepay {
    /// 403 `OUT_TRADE_NO_USED`.
    OutTradeNoUsed,
    /// 400 `INVALID_REQUEST`.
    InvalidRequest,
}

/// Answer to a prepay of a paid number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaidPrepay {
    /// 400 `ORDERPAID`.
    OrderPaid,
    /// 400 `INVALID_REQUEST`.
    InvalidRequest,
}

/// Answer to an openid of another app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForeignOpenid {
    /// 400 `PARAM_ERROR`.
    ParamError,
    /// 500 `OPENID_MISMATCH`.
    OpenidMismatch,
}

/// Answer to closing a number that was never created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownClose {
    /// 404 `ORDER_NOT_EXIST`.
    NotExist,
    /// 204, with no effect.
    NoContent,
}

/// `resource.associated_data` of a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AssociatedData {
    Absent,
    Empty,
    /// `transaction`.
    Transaction,
}

/// What a refund within a minute of the one before, answered 429, has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitedRefund {
    NotExecuted,
    /// The refund exists although it was refused.
    Executed,
}

/// How refunds end that nobody ends by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundEnding {
    Success,
    Abnormal,
    Closed,
    /// They stay on their way.
    Never,
}

impl RefundEnding {
    pub(super) fn status(self) -> Option<RefundStatus> {
        match self {
            Self::Success => Some(RefundStatus::Success),
            Self::Abnormal => Some(RefundStatus::Abnormal),
            Self::Closed => Some(RefundStatus::Closed),
            Self::Never => None,
        }
    }
}

/// The switches of WeChat, all merchants alike. The key mode is a merchant's own (see `KeyMode`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Switches {
    pub repeated_prepay: RepeatedPrepay,
    pub changed_prepay: ChangedPrepay,
    pub paid_prepay: PaidPrepay,
    pub foreign_openid: ForeignOpenid,
    pub unknown_close: UnknownClose,
    /// Whether error answers are signed.
    pub sign_errors: bool,
    /// Whether a query tells `amount` of an unpaid order.
    pub unpaid_amount: bool,
    /// Whether bodies are printed with blanks and line ends.
    pub pretty: bool,
    /// Whether code2session tells a `unionid`.
    pub unionid: bool,
    /// Prepays per second and mchid before 429; `None`: no limit.
    pub prepays_per_second: Option<u32>,
    /// Schedule time from a payment to its first notification, milliseconds (0 to 60,000 in practice).
    pub notice_delay_ms: u64,
    /// Up to this much more, by chance (the simulator's seed).
    pub notice_delay_spread_ms: u64,
    /// Whether payments are notified at all.
    pub notices: bool,
    /// Whether each delivery comes twice at the same time.
    pub notice_doubled: bool,
    /// Whether a probe with a `WECHATPAY/SIGNTEST/` signature goes before the first delivery.
    pub notice_probe: bool,
    pub associated_data: AssociatedData,
    /// How refunds end by themselves.
    pub refund_ending: RefundEnding,
    /// Schedule time from a refund's acceptance to its end, milliseconds (minutes to days in practice).
    pub refund_delay_ms: u64,
    /// Schedule time between two refunds of one order before 429, milliseconds.
    pub refund_spacing_ms: u64,
    pub limited_refund: LimitedRefund,
    /// Whether refunds are notified at all.
    pub refund_notices: bool,
    /// Which days have a bill.
    pub bills: Bills,
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            repeated_prepay: RepeatedPrepay::New,
            changed_prepay: ChangedPrepay::OutTradeNoUsed,
            paid_prepay: PaidPrepay::OrderPaid,
            foreign_openid: ForeignOpenid::ParamError,
            unknown_close: UnknownClose::NotExist,
            sign_errors: true,
            unpaid_amount: true,
            pretty: false,
            unionid: false,
            prepays_per_second: Some(500),
            notice_delay_ms: 0,
            notice_delay_spread_ms: 0,
            notices: true,
            notice_doubled: false,
            notice_probe: false,
            associated_data: AssociatedData::Transaction,
            refund_ending: RefundEnding::Success,
            refund_delay_ms: 0,
            refund_spacing_ms: 60_000,
            limited_refund: LimitedRefund::NotExecuted,
            refund_notices: true,
            bills: Bills::ByClock,
        }
    }
}
