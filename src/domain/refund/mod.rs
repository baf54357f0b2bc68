//! Money back: one row, one number at the wallet, one door for change (`apply.rs`).

mod apply;
#[cfg(test)]
pub(crate) mod table;

pub use apply::ask_again_in;

use std::time::Duration;

use super::{
    attempt::{Attempt, Frozen},
    event::{MerchantEvent, RefundNews},
    id::{AccountId, AttemptNo, MerchantId, OrderId, OutRefundNo, OutTradeNo, RefundId, RefundNo},
    money::Fen,
    order::Order,
    time::Timestamp,
    wallet::Wallet,
};

/// Who wanted the money back. Wire names: `MERCHANT`, `SYSTEM`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Initiator {
    Merchant,
    /// The merchant's policy for late and second payments, or a person at this deployment.
    System,
}

impl Initiator {
    /// The name in columns and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Merchant => "merchant",
            Self::System => "system",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Merchant, Self::System].into_iter().find(|who| who.as_str() == text)
    }
}

/// Where a refund stands. Wire names (`refundStatus`): `PROCESSING`, `SUCCESS`, `FAIL`, `ABNORMAL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefundState {
    /// Its money is set aside and nothing was sent.
    Waiting,
    /// Sent, or about to be: the wallet may know it.
    Sent,
    /// The wallet has it and is at it.
    Processing,
    /// The payer has the money. Absorbing.
    Succeeded { at: Timestamp },
    /// Surely not paid back, and never will be under this number.
    Failed { why: String },
    /// The wallet could not deliver the money: a person settles it at the wallet. Not failed, because a second refund would
    /// pay twice.
    Abnormal,
}

impl RefundState {
    /// The name in columns and logs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Sent => "sent",
            Self::Processing => "processing",
            Self::Succeeded { .. } => "succeeded",
            Self::Failed { .. } => "failed",
            Self::Abnormal => "abnormal",
        }
    }

    /// The name on the wire.
    pub const fn refund_status(&self) -> &'static str {
        match self {
            Self::Waiting | Self::Sent | Self::Processing => "PROCESSING",
            Self::Succeeded { .. } => "SUCCESS",
            Self::Failed { .. } => "FAIL",
            Self::Abnormal => "ABNORMAL",
        }
    }

    /// Whether it keeps its part of the payment, so that no other refund can have it.
    const fn holds(&self) -> bool {
        !matches!(self, Self::Failed { .. })
    }

    /// Its money may still go back, or come back from where it did not arrive.
    pub const fn is_open(&self) -> bool {
        !matches!(self, Self::Succeeded { .. } | Self::Failed { .. })
    }

    const fn is_paid_back(&self) -> bool {
        matches!(self, Self::Succeeded { .. })
    }
}

/// What is asked for, by a merchant or by its policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundWish {
    pub refund_no: RefundNo,
    pub fingerprint: [u8; 32],
    pub amount: Fen,
    pub reason: Option<String>,
    pub notify_url: Option<String>,
    pub initiator: Initiator,
}

/// One refund of one payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refund {
    pub id: RefundId,
    pub merchant: MerchantId,
    pub refund_no: RefundNo,
    /// SHA-256 over the business fields: the same `refundNo` with another fingerprint is refused (2107).
    pub fingerprint: [u8; 32],
    pub order: OrderId,
    /// The payment that is given back.
    pub attempt: AttemptNo,
    pub wallet: Wallet,
    pub account: AccountId,
    pub amount: Fen,
    /// What was paid: both wallets want or know it.
    pub total: Fen,
    /// Shown to the payer by the wallet.
    pub reason: Option<String>,
    /// Where the merchant hears of it; its order's address without one.
    pub notify_url: Option<String>,
    pub initiator: Initiator,
    pub state: RefundState,
    /// The business bytes, frozen before the first send.
    pub frozen: Option<Frozen>,
    /// How often the bytes were sent, counted before each send.
    pub sends: u32,
    /// How many of the sends surely made nothing.
    pub refusals: u32,
    /// How often the wallet was asked since the last send: the place in the timetable.
    pub asks: u32,
    /// The last send, unless it surely made nothing.
    pub sent_at: Option<Timestamp>,
    /// The last send before that one which may have arrived.
    pub doubtful_at: Option<Timestamp>,
    /// When the wallet answered the last send with words that only a later question confirms as a refusal.
    pub denied_at: Option<Timestamp>,
    /// When the wallet first showed that it has this number. From then on no refusal, and no "not found", ends it.
    pub known_at: Option<Timestamp>,
    /// The wallet's number for it.
    pub wallet_refund_no: Option<String>,
    /// What the wallet last said against it, for people: it waits for money, say.
    pub hint: Option<String>,
    pub created_at: Timestamp,
    /// When the scheduler looks at it next; `None` when there is nothing to do.
    pub next_at: Option<Timestamp>,
    /// Counts the commits of this row; every commit names the one it started from.
    pub version: i64,
}

/// Something that happened to a refund.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefundEvent {
    /// The bytes are about to be sent; the first time they are frozen with it.
    SendRecorded { frozen: Frozen },
    /// This send (its place among the sends, from 1) surely made nothing; the next one is due then.
    SendRefused { send: u32, hint: String, again_in: Duration },
    /// The wallet would not make this send, in words that an earlier send may have caused: a question tells, some time later.
    SendDenied { send: u32, hint: String },
    /// Every send was refused for good and the wallet does not know the number.
    Refused { why: String },
    /// The wallet shows that it has the number, and not what became of it.
    Known { hint: Option<String> },
    /// The wallet was asked about a refund that failed, and does not have it.
    Absent,
    /// The wallet was asked, or sent to, and did not settle it: its next question is put on the timetable.
    Unsettled { hint: Option<String> },
    /// The wallet has it.
    Accepted { wallet_refund_no: Option<String> },
    /// The wallet paid it back.
    PaidBack { at: Timestamp, wallet_refund_no: Option<String> },
    /// The wallet gave it up: nothing is paid back under this number.
    GivenUp { why: String },
    /// The wallet could not deliver the money.
    Undelivered { wallet_refund_no: Option<String> },
    /// A person wants the wallet asked now.
    LookWanted,
    /// A person wants it not made: only while no send of it can have arrived.
    Cancelled,
}

/// How a refund's payment changes with it, in fen; applied in the same transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shift {
    pub reserved: i64,
    pub refunded: i64,
}

/// A change that has not been committed yet.
#[derive(Debug, Clone)]
#[must_use = "a change that is not committed did not happen"]
pub struct RefundMoved {
    pub refund: Refund,
    pub from_state: &'static str,
    pub from_version: i64,
    pub shift: Shift,
    /// The bytes are about to be sent: the payment's spacing is to be kept.
    pub sends: bool,
}

/// What an event did.
#[derive(Debug, Clone)]
#[must_use]
pub enum RefundStep {
    Moved(Box<RefundMoved>),
    /// A repeat, or news that what is known overrides: nothing changes and nothing is wrong.
    AlreadyThere,
}

impl RefundMoved {
    /// Whether the merchant is to hear of it: its wire state is another one, and not merely begun.
    pub fn is_news(&self) -> bool {
        let ended = !matches!(self.refund.state.refund_status(), "PROCESSING");
        ended && self.from_state != self.refund.state.name()
    }

    /// What the merchant is to hear of it, in the same commit.
    pub fn news(&self) -> Option<MerchantEvent> {
        self.is_news().then(|| MerchantEvent::Refunded(RefundNews::of(&self.refund)))
    }
}

impl Refund {
    /// So many refunds may hold a part of one payment (`wechat-pay.md` §8.4).
    pub const PER_PAYMENT_MAX: u32 = 50;
    /// A send that may have arrived is not held against a refusal of the same bytes for longer than this.
    pub const LAPSED_AFTER: Duration = Duration::from_secs(24 * 3600);
    /// Bytes leave within this time of their record, or not at all: the record is what everything later counts from.
    pub const SENT_WITHIN: Duration = Duration::from_secs(5);
    /// The names of refunds by policy; no merchant may use one.
    pub const SYSTEM_PREFIX: &'static str = "SYS-";

    /// A refund of a payment of an order, due at once.
    pub fn new(order: &Order, payment: &Attempt, wish: RefundWish, now: Timestamp) -> Self {
        Self {
            id: RefundId::fresh(),
            merchant: order.merchant,
            refund_no: wish.refund_no,
            fingerprint: wish.fingerprint,
            order: order.id,
            attempt: payment.no,
            wallet: payment.wallet,
            account: payment.account,
            amount: wish.amount,
            total: order.amount,
            reason: wish.reason,
            notify_url: wish.notify_url,
            initiator: wish.initiator,
            state: RefundState::Waiting,
            frozen: None,
            sends: 0,
            refusals: 0,
            asks: 0,
            sent_at: None,
            doubtful_at: None,
            denied_at: None,
            known_at: None,
            wallet_refund_no: None,
            hint: None,
            created_at: now,
            next_at: Some(now),
            version: 1,
        }
    }

    /// Whether no send of it can have arrived: it may be sent without asking first.
    pub fn is_surely_unknown(&self) -> bool {
        self.refusals == self.sends
            && self.known_at.is_none()
            && matches!(self.state, RefundState::Waiting | RefundState::Sent)
    }

    /// Whether the send that was recorded last may leave now. One that was held up may not: somebody counts it as long ago.
    pub fn may_leave(&self, now: Timestamp) -> bool {
        self.sent_at.is_some_and(|recorded| now.since(recorded) <= Self::SENT_WITHIN)
    }

    /// When a denied send may be taken for refused, if the wallet does not have it then: a refund that is being made may not be
    /// found sooner. `None`: nothing was denied.
    pub fn confirmable_at(&self) -> Option<Timestamp> {
        let gap = match self.wallet {
            // Alipay's "not there" is no verdict: a refund may succeed afterwards (`alipay.md` §8.2), and the words may be any that
            // are in no list. WeChat asks for a minute between two tries, and knows at once what it has.
            Wallet::Alipay => 600,
            Wallet::WechatPay => 60,
        };
        self.denied_at.map(|at| at.plus(Duration::from_secs(gap)))
    }

    pub fn out_refund_no(&self) -> OutRefundNo {
        OutRefundNo(self.id)
    }

    pub fn out_trade_no(&self) -> OutTradeNo {
        OutTradeNo { order: self.order, attempt: self.attempt }
    }

    /// The one number of a refund by policy: however often it is wanted, it is made once.
    pub fn system_no(payment: OutTradeNo) -> Option<RefundNo> {
        RefundNo::parse(format!("{}{payment}", Self::SYSTEM_PREFIX)).ok()
    }

    /// The number of the next refund of a payment by a person's hand: the policy's followed by `-2`, `-3` and so on, the first
    /// that none of the payment's refunds has.
    pub fn next_by_hand(payment: OutTradeNo, refunds: &[Self]) -> Option<RefundNo> {
        // Every one that was ever made is counted, failed ones too: more than may hold a part of a payment.
        let numbers = (2..1000).filter_map(|n| RefundNo::parse(format!("{}{payment}-{n}", Self::SYSTEM_PREFIX)).ok());
        numbers.into_iter().find(|number| refunds.iter().all(|refund| refund.refund_no != *number))
    }

    /// What these refunds leave of a payment, in fen: nobody else's part, and not what went back.
    pub fn left_of(total: Fen, attempt: AttemptNo, refunds: &[Self]) -> i64 {
        let held = refunds.iter().filter(|refund| refund.attempt == attempt && refund.state.holds());
        total.get() - held.map(|refund| refund.amount.get()).sum::<i64>()
    }

    /// Whether a wallet that does not know the number never will: every send was refused, or the doubtful ones are long ago.
    pub fn refused_outright(&self, now: Timestamp) -> bool {
        let last_doubt = self.sent_at.max(self.doubtful_at);
        let lapsed = last_doubt.is_some_and(|at| now.since(at) > Self::LAPSED_AFTER);
        self.sends > 0 && self.known_at.is_none() && (self.refusals == self.sends || lapsed)
    }
}

/// Why a refund failed that a person did not want made any more.
pub const CANCELLED: &str = "cancelled";

/// What people read beside a refund that failed, and that its wallet has after all.
pub const HAD_FAILED: &str = "it failed, and the wallet has it after all";
