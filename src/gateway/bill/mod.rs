//! Bills: what a wallet says happened on one day, fetched into a file and read row by row.

use std::path::PathBuf;

use super::{GatewayError, RefundStatus};
pub use crate::domain::bill::BillDate;
use crate::domain::{
    money::{Fen, Sum},
    time::Timestamp,
};

pub(in crate::gateway) mod download;
pub(in crate::gateway) mod text;

/// A day without a bill that can be used.
#[derive(Debug, thiserror::Error)]
pub enum BillError {
    /// The wallet is still making it: ask again later. WeChat Pay is ready after 10:00 of the next day, Alipay after 09:00.
    #[error("the bill is not ready")]
    NotReady,
    /// The wallet has none for that day: nothing happened, or (before noon of the next day) it is not begun yet.
    #[error("the wallet has no bill for this day")]
    None,
    /// It came and cannot be believed or read; another download may be better. As an item of the rows: that row alone, or the
    /// totals. The reason names lines and columns, never what stands in them.
    #[error("the bill cannot be used: {0}")]
    Unusable(String),
    #[error(transparent)]
    Gateway(#[from] GatewayError),
}

pub(in crate::gateway) fn unusable(why: impl Into<String>) -> BillError {
    BillError::Unusable(why.into())
}

/// A bill on disk, unpacked, its checksum right. It names payers: its owner deletes it after reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BillFile {
    pub path: PathBuf,
    /// Unpacked.
    pub bytes: u64,
}

/// What a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BillKind {
    Pay,
    Refund,
}

/// One payment or refund of a day. Numbers are texts, because other systems may use the same account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BillRow {
    pub kind: BillKind,
    pub out_trade_no: String,
    pub out_refund_no: Option<String>,
    /// WeChat's `transaction_id`, Alipay's `trade_no`.
    pub wallet_trade_no: String,
    /// WeChat's `refund_id`; Alipay has none.
    pub wallet_refund_no: Option<String>,
    /// The order's amount, or for a refund what was asked to go back.
    pub amount: Fen,
    /// What the merchant's account received, or gave back (WeChat 应结订单金额, 退款金额; Alipay 商家实收), before fees. Neither wallet
    /// tells what the payer paid.
    pub received: Option<Sum>,
    /// A refund's state as of that day, never updated (WeChat); Alipay lists finished refunds alone. `None` for a payment.
    pub refund_status: Option<RefundStatus>,
    /// WeChat: when it was paid, or the refund accepted. Alipay: when it was finished.
    pub at: Timestamp,
    pub app_id: Option<String>,
    /// WeChat's 商户号, Alipay's account.
    pub mchid: Option<String>,
    /// WeChat, provider mode: 特约商户号.
    pub sub_mchid: Option<String>,
}

/// The rows of a bill, then nothing. A row that cannot be read is an error item and the next follows it; an error about the end of
/// the file or its totals is the last item. Blocking: for a thread that may block.
pub type BillRows = Box<dyn Iterator<Item = Result<BillRow, BillError>> + Send>;
