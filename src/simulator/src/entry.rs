//! One line of the ledger.

use serde::{Deserialize, Serialize};

use crate::ground::{Call, Wallet};

/// What a line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A request arrived. Later lines of the same call say what it did.
    Request,
    /// It was refused; `error` says with which code.
    Refused,
    /// A code was exchanged, and is burnt.
    Exchanged,
    /// A code was burnt without a payer to show for it.
    Burnt,
    /// An order came to be; its number is payable.
    Created,
    /// The same order was asked for again and is still payable.
    Repeated,
    /// An order was looked up; `note` is the state told.
    Queried,
    /// An order is no longer payable.
    Closed,
    /// A payer paid; `amount_fen` says how much.
    Paid,
    /// A payer turned away at the payment page, or was turned away; `note` says why.
    NotPaid,
    /// A refund was accepted: the money will go back, or come to grief on its way.
    RefundAccepted,
    /// Money went back; `amount_fen` says how much of it this refund is.
    Refunded,
    /// A refund ended without its money; `note` is the state told.
    RefundFailed,
    /// A bill was made or fetched.
    Billed,
    /// A notification leaves.
    NoticeSent,
    /// The merchant's side took it.
    NoticeAccepted,
    /// The merchant's side did not take it; `status` is 0 when there was no answer.
    NoticeFailed,
    /// A notification was lost on purpose.
    NoticeLost,
    /// No further delivery will be tried.
    NoticeGivenUp,
    /// A probe with an invalid signature was refused, as it must be.
    ProbeRefused,
    /// A probe with an invalid signature was taken: a defect of the merchant's side.
    ProbeAccepted,
    /// A fault struck; `note` is its kind.
    Fault,
}

/// One line.
///
/// Shape: one JSON object, keys without a value left out. Never an openid, secret or signature; `payer` is the start of
/// the SHA-256 of the payer's identity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// From 0, without gaps.
    pub sequence: u64,
    /// Unix milliseconds of the machine's clock (not the wallets').
    pub at_ms: i64,
    pub wallet: Wallet,
    pub call: Call,
    pub event: Event,
    /// mchid, sp_mchid or app_id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merchant: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_trade_no: Option<String>,
    /// The wallet's number of the payment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trade_no: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_refund_no: Option<String>,
    /// The login code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount_fen: Option<i64>,
    /// SHA-256 of the business bytes: WeChat's body, Alipay's `biz_content`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_sha256: Option<String>,
    /// HTTP status of the answer, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Error code told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Entry {
    /// A line to be filled in; sequence and time are given when it is recorded.
    pub fn new(wallet: Wallet, call: Call, event: Event) -> Self {
        Self {
            sequence: 0,
            at_ms: 0,
            wallet,
            call,
            event,
            merchant: None,
            out_trade_no: None,
            trade_no: None,
            out_refund_no: None,
            code: None,
            payer: None,
            amount_fen: None,
            body_sha256: None,
            status: None,
            error: None,
            note: None,
        }
    }

    pub fn merchant(mut self, merchant: impl Into<String>) -> Self {
        self.merchant = Some(merchant.into());
        self
    }

    pub fn out_trade_no(mut self, out_trade_no: impl Into<String>) -> Self {
        self.out_trade_no = Some(out_trade_no.into());
        self
    }

    pub fn trade_no(mut self, trade_no: impl Into<String>) -> Self {
        self.trade_no = Some(trade_no.into());
        self
    }

    pub fn out_refund_no(mut self, out_refund_no: impl Into<String>) -> Self {
        self.out_refund_no = Some(out_refund_no.into());
        self
    }

    pub fn code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// The payer's identity; only the start of its SHA-256 is kept.
    pub fn payer(mut self, identity: &str) -> Self {
        let mut masked = crate::chance::sha256(identity.as_bytes());
        masked.truncate(12);
        self.payer = Some(masked);
        self
    }

    pub fn amount_fen(mut self, amount_fen: i64) -> Self {
        self.amount_fen = Some(amount_fen);
        self
    }

    /// The business bytes; only their SHA-256 is kept.
    pub fn body(mut self, body: &[u8]) -> Self {
        self.body_sha256 = Some(crate::chance::sha256(body));
        self
    }

    pub fn status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    pub fn error(mut self, error: impl Into<String>) -> Self {
        self.error = Some(error.into());
        self
    }

    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }
}
