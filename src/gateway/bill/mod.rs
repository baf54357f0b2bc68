//! Bills: what a wallet says happened on one day, fetched into a file and read row by row.

use std::{fmt, path::PathBuf};

use time::{Date, OffsetDateTime};

use super::{GatewayError, RefundStatus};
use crate::domain::{
    money::{Fen, Sum},
    time::{CHINA, Timestamp},
};

pub(in crate::gateway) mod download;
pub(in crate::gateway) mod text;

/// A day in China, 00:00 to 24:00: what both wallets' bills are made of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BillDate(Date);

impl BillDate {
    /// The day in which a moment falls.
    pub fn of(moment: Timestamp) -> Self {
        let moment = OffsetDateTime::from_unix_timestamp(moment.secs()).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        Self(moment.to_offset(CHINA).date())
    }

    /// Reads `2026-02-28`. Errors: words for whoever wrote it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let moment = (text.len() == 10).then(|| Timestamp::parse_china_text(&format!("{text} 00:00:00"))).flatten();
        moment.map(Self::of).ok_or_else(|| format!("{text:?} is not a day such as 2026-02-28"))
    }

    /// The day before. The first day of all has none and stays.
    pub fn previous(self) -> Self {
        Self(self.0.previous_day().unwrap_or(self.0))
    }

    /// When it began.
    pub fn begin(self) -> Timestamp {
        Timestamp::from_secs(self.0.midnight().assume_offset(CHINA).unix_timestamp())
    }
}

impl fmt::Display for BillDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.0.year(), u8::from(self.0.month()), self.0.day())
    }
}

impl fmt::Debug for BillDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BillDate({self})")
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_one_of_china() {
        let day = BillDate::parse("2026-03-01").unwrap();
        assert_eq!(day.to_string(), "2026-03-01");
        assert_eq!(day.previous().to_string(), "2026-02-28");
        assert_eq!(day.begin(), Timestamp::parse_rfc3339("2026-02-28T16:00:00Z").unwrap());
        assert_eq!(BillDate::of(day.begin()), day);
        assert_eq!(BillDate::of(Timestamp::from_ms(day.begin().ms() - 1)), day.previous());
        for wrong in ["", "2026-02-30", "2026-3-1", "20260301", "2026-03-01 "] {
            assert!(BillDate::parse(wrong).is_err(), "{wrong}");
        }
    }
}
