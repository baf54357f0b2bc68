//! One try of an order at a wallet, under its own number.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    id::{AccountId, AppId, AttemptNo, MiniProgramId, TradeNo},
    money::{Fen, Sum},
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

impl fmt::Debug for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(***)")
    }
}

/// So many gaps of the timetable are of their own length.
const GAPS: u32 = 8;

/// How long after the last question (or the prepay, for the first) the wallet is asked next.
///
/// The questions fall at 5, 15, 30 s, 1, 2, 3, 5, 10 min after the prepay, then every 10 min: as if every notice were lost.
pub fn ask_again_in(questions_asked: u32) -> Duration {
    const GAPS_S: [u64; GAPS as usize] = [5, 10, 15, 30, 60, 60, 120, 300];
    let gap = usize::try_from(questions_asked).ok().and_then(|at| GAPS_S.get(at)).copied().unwrap_or(600);
    Duration::from_secs(gap)
}

/// How long after `age` of a number the timetable has its next question: for one that was not answered, and so not counted.
pub fn ask_again_at_age(age: Duration) -> Duration {
    let (mut at, mut questions) = (ask_again_in(0), 1);
    while at <= age && questions <= GAPS {
        at += ask_again_in(questions);
        questions += 1;
    }
    if at > age { at - age } else { ask_again_in(questions) }
}

/// A payment that a wallet confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    pub trade_no: TradeNo,
    /// What the payer paid, lower than the order's amount with coupons, or nothing; told to the merchant, never compared.
    pub payer_amount: Option<Sum>,
    pub paid_at: Timestamp,
}

/// Money that a wallet calls paid under a number, and that is not paid like its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dispute {
    pub what: Mismatch,
    pub payer_amount: Option<Sum>,
    /// The wallet's time. `None`: a release noted it that kept neither this nor compared the amount beside the payee.
    pub paid_at: Option<Timestamp>,
}

/// In what a payment is not the order's.
///
/// Shape: its text stands in columns, in anomalies and before people; [`Mismatch::parse`] reads it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mismatch {
    /// Another amount, whoever was paid.
    Amount { paid: Fen, ordered: Fen },
    /// The order's amount, and this field of the wallet's word names another app, payee, currency or kind of trade.
    Foreign { field: String },
    /// Such a field, in a word that tells no amount.
    ForeignWithoutAmount { field: String },
}

/// Why a disputed payment cannot be taken for the order's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotTakeable {
    #[error("another amount was paid")]
    Amount,
    #[error("its amount is not known")]
    Unknown,
    #[error("it was paid in another currency")]
    Currency,
}

const FOREIGN: &str = " is not this channel account's";
const WITHOUT_AMOUNT: &str = ", and no amount is told";

impl Mismatch {
    /// Reads what [`Display`](fmt::Display) writes. `None`: no release wrote it.
    pub fn parse(text: &str) -> Option<Self> {
        let field = |text: &str| text.strip_suffix(FOREIGN).filter(|field| !field.is_empty()).map(str::to_owned);
        if let Some(field) = text.strip_suffix(WITHOUT_AMOUNT).and_then(field) {
            return Some(Self::ForeignWithoutAmount { field });
        }
        if let Some(field) = field(text) {
            return Some(Self::Foreign { field });
        }
        let (paid, ordered) = text.strip_prefix("paid ")?.strip_suffix(" fen")?.split_once(" fen, ordered ")?;
        let fen = |text: &str| Fen::new(text.parse().ok()?).ok();
        Some(Self::Amount { paid: fen(paid)?, ordered: fen(ordered)? })
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Amount { paid, ordered } => write!(f, "paid {} fen, ordered {} fen", paid.get(), ordered.get()),
            Self::Foreign { field } => write!(f, "{field}{FOREIGN}"),
            Self::ForeignWithoutAmount { field } => write!(f, "{field}{FOREIGN}{WITHOUT_AMOUNT}"),
        }
    }
}

impl Dispute {
    /// The payment that it is once a person takes it for the order's: only one of the order's amount.
    pub fn taken(&self, trade_no: &TradeNo) -> Result<Payment, NotTakeable> {
        match (&self.what, self.paid_at) {
            (Mismatch::Amount { .. }, _) => Err(NotTakeable::Amount),
            // So many of another currency's parts are not so many fen.
            (Mismatch::Foreign { field }, _) if field == "currency" => Err(NotTakeable::Currency),
            (Mismatch::Foreign { .. }, Some(paid_at)) => {
                Ok(Payment { trade_no: trade_no.clone(), payer_amount: self.payer_amount, paid_at })
            }
            (Mismatch::Foreign { .. }, None) | (Mismatch::ForeignWithoutAmount { .. }, _) => Err(NotTakeable::Unknown),
        }
    }
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
        dispute: Dispute,
    },
    /// It was disputed, and a person decided that the money is not this order's: it went back, or was another's all along. The
    /// wallet may go on calling it paid.
    LetGo {
        trade_no: TradeNo,
        dispute: Dispute,
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
            Self::LetGo { .. } => "let_go",
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
    /// How often the wallet answered the scheduler since the last prepay: the place in its timetable.
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

    /// The last prepay, as far as it was answered.
    pub fn prepaid_at(&self) -> Timestamp {
        match self.state {
            AttemptState::Open { ticket_at, .. } => ticket_at,
            _ => self.started_at,
        }
    }

    /// Whether every send was refused outright, so that a wallet which does not know the number never will.
    pub fn refused_outright(&self) -> bool {
        self.sends > 0 && self.refusals == self.sends
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fen(fen: i64) -> Fen {
        Fen::new(fen).unwrap()
    }

    /// Rows of every release hold these texts.
    #[test]
    fn a_mismatch_is_read_as_it_was_written() {
        for (what, text) in [
            (Mismatch::Amount { paid: fen(1), ordered: fen(1999) }, "paid 1 fen, ordered 1999 fen"),
            (Mismatch::Foreign { field: "sub_mchid".into() }, "sub_mchid is not this channel account's"),
            (
                Mismatch::ForeignWithoutAmount { field: "app_id".into() },
                "app_id is not this channel account's, and no amount is told",
            ),
        ] {
            assert_eq!(what.to_string(), text);
            assert_eq!(Mismatch::parse(text), Some(what));
        }
        for text in
            ["", "amount", "paid 0 fen, ordered 1 fen", "paid 1 fen, ordered x fen", " is not this channel account's"]
        {
            assert_eq!(Mismatch::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn questions_fall_when_the_timetable_says() {
        let mut ages = vec![0];
        for _ in 0..11 {
            let age = ages[ages.len() - 1];
            ages.push(age + ask_again_at_age(Duration::from_secs(age)).as_secs());
        }
        assert_eq!(ages, [0, 5, 15, 30, 60, 120, 180, 300, 600, 1_200, 1_800, 2_400]);
        let gaps: Vec<u64> = (0..11).map(|asked| ask_again_in(asked).as_secs()).collect();
        assert!(gaps.iter().eq(ages.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<_>>().iter()), "{gaps:?}");
    }

    #[test]
    fn a_question_without_an_answer_stays_on_the_timetable() {
        for (age, next) in
            [(0, 5), (4, 5), (5, 15), (29, 30), (30, 60), (400, 600), (599, 600), (600, 1200), (4_000, 4_600)]
        {
            let again = ask_again_at_age(Duration::from_secs(age));
            assert_eq!(age + again.as_secs(), next, "at {age} s");
        }
    }

    #[test]
    fn only_money_of_the_orders_amount_can_be_taken() {
        let trade_no = TradeNo::parse("42").unwrap();
        let now = Timestamp::from_secs(1);
        let taken = |what, paid_at| Dispute { what, payer_amount: None, paid_at }.taken(&trade_no);
        let foreign = |field: &str| Mismatch::Foreign { field: field.into() };
        assert_eq!(taken(foreign("appid"), Some(now)).map(|payment| payment.paid_at), Ok(now));
        assert_eq!(taken(foreign("appid"), None), Err(NotTakeable::Unknown));
        assert_eq!(taken(foreign("currency"), Some(now)), Err(NotTakeable::Currency));
        let untold = Mismatch::ForeignWithoutAmount { field: "appid".into() };
        assert_eq!(taken(untold, Some(now)), Err(NotTakeable::Unknown));
        assert_eq!(taken(Mismatch::Amount { paid: fen(1), ordered: fen(2) }, Some(now)), Err(NotTakeable::Amount));
    }
}
