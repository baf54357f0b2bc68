//! Where Alipay's own sources differ, or both happen: a switch for each.

use serde::{Deserialize, Serialize};

use super::answer::Layout;
use crate::bill::Bills;

/// What refuses a close that comes too late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseRefusal {
    /// `ACQ.TRADE_STATUS_ERROR`.
    #[default]
    TradeStatusError,
    /// `ACQ.REASON_TRADE_STATUS_INVALID`.
    ReasonTradeStatusInvalid,
}

/// Empty values in notices. Alipay's pages contradict each other about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmptyValues {
    /// Sent and signed as `body=`.
    #[default]
    Signed,
    /// Sent, but signed without them.
    Unsigned,
    /// Not sent.
    Absent,
}

/// What refuses a refund that comes too soon after the one before. Alipay's pages name the pause and no code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EarlyRefund {
    /// 40005 `isv.method-call-limited`.
    #[default]
    Limited,
    /// `ACQ.SYSTEM_ERROR`: its outcome is unknown to the caller; it had no effect.
    SystemError,
}

/// What a refund's answer says of the money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FundChange {
    /// `Y` once, then `N`.
    #[default]
    Told,
    /// `Y` once, then nothing.
    AbsentForN,
    /// `N` even by the call that moved it: it was not known yet.
    NeverY,
}

/// How failures about bills are named; the pages and the live gateway differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BillErrors {
    /// `BILL_NOT_EXIST`.
    #[default]
    Bare,
    /// `isp.bill_not_exist`.
    Live,
}

/// All switches; the default is what is seen most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Switches {
    /// How answers are written.
    pub layout: Layout,
    /// Failures carry a signature (`isv.invalid-app-id` never does; successes always do).
    pub sign_failures: bool,
    /// Certificate mode: answers name an SN that nobody ever got, and no download offers.
    pub wrong_cert_sn: bool,
    /// A repeated create answers a new trade_no; both can be paid, together once.
    pub repeat_makes_new_trade_no: bool,
    /// For how long a create whose answer was lost is `TRADE_NOT_EXIST` to queries and closes.
    pub lost_create_hidden_ms: u64,
    pub close_refusal: CloseRefusal,
    /// Notices go out at all.
    pub notify: bool,
    /// Each delivery leaves twice, at the same time.
    pub notify_doubled: bool,
    /// A notice goes out when a trade closes unpaid, too.
    pub notify_closed: bool,
    pub empty_values: EmptyValues,
    /// Provider mode: notices carry the merchant's app in `app_id`, not the provider's.
    pub notify_as_merchant: bool,
    /// `expires_in` and `re_expires_in` of a token answer are texts.
    pub numbers_as_text: bool,
    /// How long an auth code lasts; published bounds are 3 minutes and 24 hours.
    pub auth_code_ttl_s: u64,
    /// How far a request's timestamp may be off. Gateway v2 publishes nothing; v3 says 10 minutes.
    pub timestamp_tolerance_s: u64,
    /// How far ahead `time_expire` must be at least.
    pub time_expire_min_s: u64,
    /// Schedule time from a payment to the first delivery of its notice.
    pub notify_after_ms: u64,
    /// A notice goes out for each refund, to the trade's `notify_url`.
    pub notify_refunds: bool,
    /// Schedule time between two refunds of one trade.
    pub refund_spacing_ms: u64,
    pub early_refund: EarlyRefund,
    pub fund_change: FundChange,
    /// Schedule time from a refund until a query tells its `refund_status`.
    pub refund_status_after_ms: u64,
    /// Which days have a bill.
    pub bills: Bills,
    /// A day without rows has a file all the same, with `EMPTY_DATA_WITH_BILL_FILE`.
    pub empty_bills: bool,
    pub bill_errors: BillErrors,
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            layout: Layout::Plain,
            sign_failures: true,
            wrong_cert_sn: false,
            repeat_makes_new_trade_no: false,
            lost_create_hidden_ms: 0,
            close_refusal: CloseRefusal::default(),
            notify: true,
            notify_doubled: false,
            notify_closed: false,
            empty_values: EmptyValues::default(),
            notify_as_merchant: false,
            numbers_as_text: false,
            auth_code_ttl_s: 180,
            timestamp_tolerance_s: 600,
            time_expire_min_s: 60,
            notify_after_ms: 0,
            notify_refunds: true,
            refund_spacing_ms: 3_000,
            early_refund: EarlyRefund::default(),
            fund_change: FundChange::default(),
            refund_status_after_ms: 10_000,
            bills: Bills::ByClock,
            empty_bills: false,
            bill_errors: BillErrors::default(),
        }
    }
}
