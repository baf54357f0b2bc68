//! One try of an order at a wallet, under its own number.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    id::{AccountId, AppId, AttemptNo, MiniProgramId, TradeNo},
    money::Sum,
    payer::Payer,
    time::Timestamp,
    wallet::Wallet,
};

/// The business part of a prepay, fixed before its first send; every send of the number carries these bytes.
///
/// WeChat Pay: `body` is the JSON body, `notify_url` stands inside it. Alipay: `body` is `biz_content`, `notify_url` is the
/// common parameter of that name. Time, nonce and signature are fresh for each send.
#[derive(Clone, PartialEq, Eq)]
pub struct Frozen {
    pub body: String,
    pub notify_url: String,
}

impl std::fmt::Debug for Frozen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The body names the payer.
        write!(f, "Frozen({} bytes, {})", self.body.len(), self.notify_url)
    }
}

/// What a wallet answers a prepay with: WeChat's `prepay_id` (2 hours, whatever `time_expire` says) or Alipay's `trade_no`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ticket(pub String);

impl Ticket {
    /// Signed anew while younger than this; later the same bytes are sent again under the same number (`mini-program.md`, 10).
    pub const REUSED_FOR: Duration = Duration::from_secs(110 * 60);
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ticket(***)")
    }
}

/// How long after the last question (or the prepay, for the first) the wallet is asked next.
///
/// The questions fall at 5, 15, 30 s, 1, 2, 3, 5, 10 min after the prepay, then every 10 min: as if every notice were lost.
pub fn ask_again_in(questions_asked: u32) -> Duration {
    const GAPS_S: [u64; 8] = [5, 10, 15, 30, 60, 60, 120, 300];
    let gap = usize::try_from(questions_asked).ok().and_then(|at| GAPS_S.get(at)).copied().unwrap_or(600);
    Duration::from_secs(gap)
}

/// A payment that a wallet confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    pub trade_no: TradeNo,
    /// What the payer paid, lower than the order's amount with coupons, or nothing; told to the merchant, never compared.
    pub payer_amount: Option<Sum>,
    pub paid_at: Timestamp,
}

/// Why a number can no longer be paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retirement {
    /// The wallet said closed.
    Closed,
    /// Every send was refused outright and the wallet does not know the number.
    Refused,
    /// The wallet does not know the number a day after its `time_expire`: nothing of it is under way any more.
    Lapsed,
}

/// Where one number stands at the wallet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptState {
    /// Sent, or about to be: the wallet may know it. Nothing was answered that could be handed out.
    Sent,
    /// The wallet answered with a ticket.
    Open {
        ticket: Ticket,
        ticket_at: Timestamp,
    },
    /// It can no longer be paid.
    Retired {
        how: Retirement,
    },
    Paid {
        payment: Payment,
    },
    /// The wallet calls it paid, with another amount or payee. A person decides; no new number meanwhile.
    Disputed {
        trade_no: TradeNo,
        what: String,
    },
}

impl AttemptState {
    /// The name in columns and logs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Open { .. } => "open",
            Self::Retired { how: Retirement::Closed } => "closed",
            Self::Retired { how: Retirement::Refused } => "refused",
            Self::Retired { how: Retirement::Lapsed } => "lapsed",
            Self::Paid { .. } => "paid",
            Self::Disputed { .. } => "disputed",
        }
    }
}

/// One try of an order at a wallet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    pub no: AttemptNo,
    pub wallet: Wallet,
    pub account: AccountId,
    pub mini_program: MiniProgramId,
    pub app_id: AppId,
    pub payer: Payer,
    pub frozen: Frozen,
    pub state: AttemptState,
    pub started_at: Timestamp,
    /// How often the bytes were sent, counted before each send.
    pub sends: u32,
    /// How many of the sends the wallet refused outright.
    pub refusals: u32,
    /// When parameters were last handed to the payer.
    pub handed_out_at: Option<Timestamp>,
    /// When the wallet is asked about it next; `None` once it is settled.
    pub next_query_at: Option<Timestamp>,
    /// How often the scheduler asked since the last prepay: the place in its timetable.
    pub queries: u32,
    /// What was paid back of this payment. Read with the order; only a refund's own commit writes it.
    pub refunded: Sum,
}

impl Attempt {
    /// Whether the number could be paid, as far as we know. At most one attempt of an order is.
    pub fn may_be_payable(&self) -> bool {
        matches!(self.state, AttemptState::Sent | AttemptState::Open { .. })
    }

    /// Alipay's trade of this number, when `other` is not it: the stored one is re-used (`wallet-behaviour.md`, safest
    /// defaults). WeChat's prepay_ids of one number are all of one payment, and the newest is kept.
    pub fn ticket_to_keep(&self, other: &Ticket) -> Option<&Ticket> {
        match &self.state {
            AttemptState::Open { ticket, .. } if self.wallet == Wallet::Alipay && ticket != other => Some(ticket),
            _ => None,
        }
    }

    /// Whether every send was refused outright, so that a wallet which does not know the number never will.
    pub fn refused_outright(&self) -> bool {
        self.sends > 0 && self.refusals == self.sends
    }
}
