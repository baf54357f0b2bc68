//! Money back, as both wallets tell it.

use super::TradeState;
use crate::domain::{
    id::{OutRefundNo, OutTradeNo},
    money::Fen,
    time::Timestamp,
};

/// What a refund is made of, before its bytes are frozen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundAsk {
    /// The number that was paid.
    pub out_trade_no: OutTradeNo,
    pub out_refund_no: OutRefundNo,
    /// What goes back, at most `total`.
    pub amount: Fen,
    /// The amount of the paid order at the wallet.
    pub total: Fen,
    /// Shown to the payer: at most 80 characters at WeChat Pay, 256 at Alipay; a longer one is cut, characters that a wallet
    /// refuses are left out.
    pub reason: Option<String>,
    /// Where WeChat Pay tells us. Alipay tells of a refund, if at all, where the order was told: it is not sent there.
    pub notify_url: String,
}

/// How far a refund is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefundStatus {
    /// Not decided yet: ask again.
    ///
    /// Alipay has no other word for "not received" and "failed" either (`alipay.md` §8.2): what stays so is sent again, the same
    /// bytes, which is safe at both wallets.
    Processing,
    /// The wallet says that the money went back.
    Success,
    /// WeChat Pay could not reach the payer: a person settles it in the merchant platform, under this number.
    Abnormal,
    /// Ended and definitely not paid back; a new refund needs a new number.
    Closed,
}

/// A refund as the wallet tells it; the caller compares what is there with its row.
///
/// Its numbers were compared already: an answer about another refund never becomes one of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundSeen {
    pub status: RefundStatus,
    /// WeChat's `refund_id`; Alipay has no number of its own for a refund.
    pub wallet_refund_no: Option<String>,
    /// What goes back, where it is told. Alipay's `refund_fee` is the sum of all refunds of the trade and never stands here.
    pub amount: Option<Fen>,
    /// The amount of the order, where it is told.
    pub total: Option<Fen>,
    /// When the money went back, where it is told.
    pub at: Option<Timestamp>,
}

/// What became of a question about a refund.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefundFound {
    Seen(RefundSeen),
    /// The wallet does not know it, which is not "refused": a late copy of a send may still make it, so the same bytes may be
    /// sent again and no others.
    NotExist,
}

/// A wallet's notice about a refund of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundNotice {
    pub out_trade_no: OutTradeNo,
    pub out_refund_no: OutRefundNo,
    /// Alipay's notice carries no amount of this refund: a reason to ask, more than news.
    pub seen: RefundSeen,
    /// What the notice says about the payment beside it (Alipay; WeChat Pay says nothing): it was paid.
    pub trade: Option<TradeState>,
}
