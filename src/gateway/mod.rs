//! The wallets as we see them: one object per channel account, no store, no queue.

use std::{path::Path, time::Duration};

use async_trait::async_trait;

use crate::domain::{
    attempt::{Frozen, Ticket},
    id::{AppId, OrderId, OutRefundNo, OutTradeNo, TradeNo},
    money::{Fen, Sum},
    outcome::PayParams,
    payer::{LoginCode, Payer, PayerIp},
    time::Timestamp,
    wallet::Wallet,
};

pub mod alipay;
pub mod bill;
mod extras;
pub mod http;
pub mod open;
pub mod refund;
pub mod verified;
pub mod wechat;

pub use bill::{BillDate, BillError, BillFile, BillKind, BillRow, BillRows, download::Limits as BillLimits};
pub use extras::Extras;
pub use refund::{RefundAsk, RefundFound, RefundNotice, RefundSeen, RefundStatus};
pub use verified::Verified;

/// What a prepay is made of, before its bytes are frozen.
#[derive(Debug, Clone)]
pub struct PrepayAsk {
    pub out_trade_no: OutTradeNo,
    pub amount: Fen,
    /// `goodName`; the gateway fits it to the wallet's alphabet.
    pub good_name: String,
    /// `goodNo`, as the merchant gave it.
    pub good_no: Option<String>,
    /// The mini-program in which the cashier opens.
    pub app_id: AppId,
    pub payer: Payer,
    /// Where the payer's phone called from, as far as it is known.
    pub payer_ip: Option<PayerIp>,
    /// The order's expiry: always sent as `time_expire`, so that repeats are equal and nothing is payable after it.
    pub expire_at: Timestamp,
    /// Where the wallet tells us: https, or loopback http for simulated wallets.
    pub notify_url: String,
}

/// A call that did not end well, by the decision it asks for.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The wallet refused this request outright: nothing was made by it. `code` is the wallet's, safe to log.
    #[error("{wallet} refused: {code}")]
    Refused { wallet: Wallet, code: String, why: Refused },
    /// The wallet says that the number is paid, closed, used, or in any state that only a query can tell.
    ///
    /// Of a refund: it would not make it, and a query tells whether an earlier send did. One that is still not known some time
    /// later is refused (`wechat-pay.md` §10.2: query, then fail); unless it is `taken`: the wallet says that it has this number.
    #[error("{wallet} answered {code}: only a query can tell")]
    AskFirst { wallet: Wallet, code: String, taken: bool },
    /// Throttled, not executed.
    #[error("{wallet} is busy: {code}")]
    Busy { wallet: Wallet, code: String, retry_in: Duration },
    /// It may or may not have happened: a timeout, a 5xx, an answer that did not verify.
    #[error("{wallet}: outcome unknown: {cause}")]
    Unknown { wallet: Wallet, cause: String },
}

/// Whose move it is after a refusal. It speaks of this send alone: where an earlier one may have arrived, a query decides first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The order cannot be paid like this (limits, blocked payer, forbidden words): 2002. Of a refund: these bytes will never be
    /// taken (amount, too old, not permitted, a party's account), a person has to act.
    Order,
    /// The payer's identity is not one of this app: a fresh login, 3002.
    Identity,
    /// Our configuration at the wallet: alarmed, 1001. Once it is right, the same bytes may be taken.
    Configuration,
    /// Refunds only: the merchant's balance at the wallet is too low. Told to people; the same number and bytes again, later.
    NotEnough,
}

/// A login code that did not become a payer.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// Unknown, expired, used or of another app: a fresh code is needed.
    #[error("{wallet} refused the code: {code}")]
    CodeRefused { wallet: Wallet, code: String },
    /// WeChat's 45011: this user, too often.
    #[error("{wallet} says too often: {code}")]
    TooOften { wallet: Wallet, code: String },
    /// WeChat's 40226: the wallet blocked this user.
    #[error("{wallet} blocked the user: {code}")]
    Blocked { wallet: Wallet, code: String },
    #[error("{wallet} refused our configuration: {code}")]
    Configuration { wallet: Wallet, code: String },
    /// Surely not executed (connection refused, wallet busy after its retries): the code is still good.
    #[error("{wallet} is busy: {code}")]
    Busy { wallet: Wallet, code: String },
    /// The answer was lost; the code may be burnt.
    #[error("{wallet}: outcome unknown: {cause}")]
    Unknown { wallet: Wallet, cause: String },
}

/// What a wallet says about one number of ours, verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TradeState {
    /// The wallet does not know the number (which is not "closed": a late copy of a send may still make it).
    NotExist,
    /// Known and not paid; also after `time_expire` at WeChat.
    Unpaid,
    /// Closed without a payment on it: it can never be paid.
    Closed,
    /// Paid, whatever was refunded since.
    Paid(PaidTrade),
}

/// A payment as the wallet tells it; the caller compares it with its row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaidTrade {
    pub trade_no: TradeNo,
    /// The order's amount at the wallet (`amount.total`, `total_amount`); `None` when the answer carries none.
    pub amount: Option<Fen>,
    /// What the payer paid after coupons: nothing, when coupons paid all of it.
    pub payer_amount: Option<Sum>,
    pub paid_at: Timestamp,
    /// The first field that names another app, merchant, currency or kind of trade than this account's; with it, it is not our money.
    pub foreign: Option<String>,
}

/// What a wallet tells about a number, by answer or by notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trade {
    pub out_trade_no: OutTradeNo,
    pub state: TradeState,
}

/// How a close ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseAnswer {
    /// The wallet said closed (WeChat: 204, also on a repeat).
    Closed,
    NotExist,
    /// Not closable now: paid, or already closed (Alipay). A query decides.
    AskFirst,
}

/// A wallet's callback as it arrived: never parsed before it is verified, and carried through the queue like this.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RawNotice {
    /// Lower-case name and value, in order of arrival, `wechatpay-*` and `content-type` only.
    pub headers: Vec<(String, String)>,
    /// The raw body, base64 on the queue.
    #[serde(with = "body_base64")]
    pub body: Vec<u8>,
    /// Judges the five-minute window, also when a worker verifies again later.
    pub received_at: Timestamp,
}

impl std::fmt::Debug for RawNotice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RawNotice({} bytes)", self.body.len())
    }
}

impl RawNotice {
    /// The value of a header that stands exactly once; doubled counts as absent, because two readers could disagree.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Some(value),
            _ => None,
        }
    }
}

mod body_base64 {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(body: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(body))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(from)?).map_err(D::Error::custom)
    }
}

/// A notice that is not to be believed, or not to be read.
#[derive(Debug, thiserror::Error)]
pub enum NoticeError {
    /// Header absent, doubled, window passed, signature wrong, probe: not from the wallet. The reason is safe to log.
    #[error("notice refused: {0}")]
    Forged(&'static str),
    /// Signed with a key that is not pinned (yet): refused, and the wallet's keys are to be refreshed.
    #[error("notice signed with unknown key {0}")]
    UnknownKey(String),
    /// Signed by the wallet, but not to be decrypted or read: parked and alarmed.
    #[error("signed notice cannot be read: {0}")]
    Unreadable(String),
}

/// A wallet's notice about one of our numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// About a payment.
    Payment(Trade),
    /// About a refund of ours.
    Refund(RefundNotice),
    /// About a number that is not of our making (another system on the same account), or a kind that says nothing about a
    /// payment or a refund: acknowledged, and set aside with this reason.
    Other(String),
}

/// Verifies notices with public keys alone: all that a front may hold.
pub trait NoticeVerifier: Send + Sync {
    /// Errors: [`NoticeError::Forged`], [`NoticeError::UnknownKey`].
    fn verify(&self, raw: &RawNotice) -> Result<(), NoticeError>;
    /// What the wallet takes as "received": status and body.
    fn accepted(&self) -> (u16, &'static str);
    /// What the wallet takes as "send it again".
    fn rejected(&self) -> (u16, &'static str);
}

/// One channel account at its wallet, with every mini-program that pays through it.
///
/// No call retries by itself, except that a WeChat call may go once to the backup host when the main one could not be
/// reached. Every answer is verified before it is believed.
#[async_trait]
pub trait Gateway: Send + Sync {
    fn wallet(&self) -> Wallet;

    /// The bytes of a prepay, pure: the same ask gives the same bytes.
    /// Errors: what the wallet would surely refuse, in words for a log.
    fn freeze(&self, ask: &PrepayAsk) -> Result<Frozen, String>;

    /// Sends frozen bytes once.
    async fn prepay(&self, number: &OutTradeNo, frozen: &Frozen) -> Result<Ticket, GatewayError>;

    /// Signs what the phone hands to its wallet. No IO.
    fn pay_params(&self, app_id: &AppId, ticket: &Ticket, now: Timestamp) -> PayParams;

    /// Exchanges a login code, once. An exchange that may have happened is never repeated, except on WeChat's -1.
    async fn exchange(&self, app_id: &AppId, code: &LoginCode) -> Result<Payer, ExchangeError>;

    /// Asks about a number. [`TradeState::NotExist`] is an answer, not an error.
    async fn query(&self, number: &OutTradeNo) -> Result<TradeState, GatewayError>;

    /// Asks the wallet to close an unpaid number.
    async fn close(&self, number: &OutTradeNo) -> Result<CloseAnswer, GatewayError>;

    /// The bytes of a refund, pure: the same ask gives the same bytes.
    /// Errors: what the wallet would surely refuse, in words for a log.
    fn freeze_refund(&self, ask: &RefundAsk) -> Result<Frozen, String>;

    /// Sends the frozen bytes of a refund once. The same number and bytes may be sent again at any time: one number refunds once.
    ///
    /// [`RefundStatus::Processing`] means accepted, or nothing definite at all: a query decides. Throttled at WeChat Pay (429)
    /// is [`GatewayError::Unknown`], because it may have been accepted (`wechat-pay.md` §8.4). Bytes that do not name these numbers
    /// are not sent at all.
    async fn refund(
        &self,
        trade: &OutTradeNo,
        refund: &OutRefundNo,
        frozen: &Frozen,
    ) -> Result<RefundSeen, GatewayError>;

    /// Asks about a refund, at Alipay no sooner than 10 s after it was sent (`alipay.md` §8.2).
    async fn refund_query(&self, trade: &OutTradeNo, refund: &OutRefundNo) -> Result<RefundFound, GatewayError>;

    /// Fetches the bill of one day into the file `into`, unpacked and its checksum proven (WeChat: SHA-1; Alipay: the ZIP's).
    /// What cannot be used leaves no file behind. It takes minutes, and memory for a piece alone. Dropped half-way, it leaves nothing
    /// either once its thread is done.
    async fn bill(&self, date: BillDate, into: &Path, limits: BillLimits) -> Result<BillFile, BillError>;

    /// The rows of a fetched bill; blocking. The last item is an error when the file's own totals are not those of its rows, so
    /// nothing is concluded from what is *not* in a bill before its rows have ended well.
    fn read_bill(&self, file: &BillFile) -> Result<BillRows, BillError>;

    /// Verifies a notice again and opens it (WeChat: decrypts it).
    fn open_notice(&self, raw: &RawNotice) -> Result<Verified<Notice>, NoticeError>;

    /// Fetches the wallet's present public keys where there is such a call; the answer is the account's new `public_keys`
    /// text for the store. `None`: this account's keys do not move by themselves.
    async fn fetch_public_keys(&self) -> Result<Option<String>, GatewayError>;

    /// Calls that cost nothing and prove keys and registration: a query of a number that cannot exist, and a false code for
    /// each mini-program. Each line is a check and what came of it.
    async fn examine(&self, probe: OrderId) -> Vec<Examined>;
}

/// One line of an examination.
#[derive(Debug, Clone)]
pub struct Examined {
    pub check: String,
    /// `Err` says what to do.
    pub result: Result<String, String>,
}
