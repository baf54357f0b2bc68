//! What a merchant asks us to collect: one row, one state, one door for change.

mod apply;
#[cfg(test)]
pub(in crate::domain) mod table;

use std::time::Duration;

use super::{
    attempt::{Attempt, AttemptState, Dispute, Payment, Retirement, Ticket, ask_again_at_age, ask_again_in},
    id::{AttemptNo, CommandId, KeyId, MerchantId, MiniProgramId, OrderId, OrderNo, OutTradeNo, TradeNo},
    money::Fen,
    payinfo::PayInfo,
    time::Timestamp,
    wallet::Wallet,
};

/// Where an order stands. Wire names (`payStatus`): `WAITPAY`, `PROCESSING`, `SUCCESS`, `CLOSE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderState {
    /// No number of it can be paid.
    Waiting,
    /// One attempt may be payable.
    Open,
    /// Paid by this attempt. Absorbing.
    Paid {
        by: AttemptNo,
    },
    Closed {
        at: Timestamp,
    },
}

impl OrderState {
    /// The name in columns and logs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Open => "open",
            Self::Paid { .. } => "paid",
            Self::Closed { .. } => "closed",
        }
    }

    const fn pay_status(&self) -> &'static str {
        match self {
            Self::Waiting => "WAITPAY",
            Self::Open => "PROCESSING",
            Self::Paid { .. } => "SUCCESS",
            Self::Closed { .. } => "CLOSE",
        }
    }
}

/// Who may call a wallet about this order, until when (database time). It names its command, so that the command's own
/// redelivery goes on at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    pub command: CommandId,
    pub until: Timestamp,
}

/// An order with all its attempts, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    pub id: OrderId,
    pub merchant: MerchantId,
    pub order_no: OrderNo,
    /// SHA-256 over the business fields: the same `orderNo` with another fingerprint is refused (2107).
    pub fingerprint: [u8; 32],
    pub amount: Fen,
    pub good_name: String,
    pub good_no: Option<String>,
    pub attach: Option<String>,
    pub notify_url: String,
    pub wechat_mini_program: Option<MiniProgramId>,
    pub alipay_mini_program: Option<MiniProgramId>,
    pub created_at: Timestamp,
    pub expire_at: Timestamp,
    /// Links of an older generation are revoked.
    pub link_generation: u16,
    /// The payInfo key of the present links: with it the same text can be made again.
    pub link_key: KeyId,
    pub state: OrderState,
    /// Counts the commits of this row; every commit names the one it started from.
    pub version: i64,
    pub lease: Option<Lease>,
    /// When a wallet was last asked on a phone's behalf.
    pub asked_at: Option<Timestamp>,
    /// When its merchant asked to close it. No number is opened any more; those that may be payable are closed at their wallets.
    pub close_wanted_at: Option<Timestamp>,
    pub attempts: Vec<Attempt>,
}

/// What came of a question about a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    Answered,
    /// The wallet was asked and did not tell.
    InVain,
}

/// Something that happened to an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderEvent {
    /// A command takes the right to call the wallets; nothing may be held by another.
    LeaseTaken { command: CommandId, until: Timestamp },
    /// The command frees the order; another command's lease stays.
    LeaseReleased { command: CommandId },
    /// The wallet is about to be asked for a phone: at most once in 10 s.
    WalletAsked,
    /// A new number, its bytes frozen and its first send recorded; the lease is its command's.
    AttemptStarted { attempt: Box<Attempt>, command: CommandId, lease_until: Timestamp },
    /// The frozen bytes are about to be sent once more.
    SentAgain { attempt: AttemptNo },
    /// This send surely made nothing: the wallet refused it outright, or did not execute it.
    SendRefused { attempt: AttemptNo },
    /// The wallet answered with a ticket.
    TicketIssued { attempt: AttemptNo, ticket: Ticket },
    /// Parameters go to the payer.
    HandedOut { attempt: AttemptNo },
    /// The number can no longer be paid.
    AttemptRetired { attempt: AttemptNo, how: Retirement },
    /// The scheduler asked about it and nothing is settled: its next question is put on the timetable.
    Asked { attempt: AttemptNo },
    /// The wallet confirmed a payment of the order's amount to the order's payee.
    PaymentConfirmed { attempt: AttemptNo, payment: Payment },
    /// The wallet confirmed a payment that is not this order's.
    PaymentDisputed { attempt: AttemptNo, trade_no: TradeNo, dispute: Dispute },
    /// A person took a disputed payment for the order's: it is one of the order's amount. The note says who and why.
    DisputeTaken { attempt: AttemptNo, note: String },
    /// A person decided that a disputed payment is not the order's, and what became of it: the order goes on without it.
    DisputeLetGo { attempt: AttemptNo, note: String },
    /// A person ended what waited for one beside a payment, or says otherwise than somebody before: the money stays, or it went back
    /// at the wallet. Nothing else changes.
    AnomalySettled { attempt: AttemptNo, kind: AnomalyKind, stays: bool, note: String },
    /// Every link given out so far stops working.
    LinksRevoked { key: KeyId },
    /// Its merchant wants it closed: at once when nothing may be payable, else when every number is retired. Paid wins.
    CloseRequested,
    /// Nothing of it can be paid any more.
    Closed,
}

impl OrderEvent {
    /// The name in the history and in logs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::LeaseTaken { .. } => "lease_taken",
            Self::LeaseReleased { .. } => "lease_released",
            Self::WalletAsked => "wallet_asked",
            Self::AttemptStarted { .. } => "attempt_started",
            Self::SentAgain { .. } => "sent_again",
            Self::SendRefused { .. } => "send_refused",
            Self::TicketIssued { .. } => "ticket_issued",
            Self::HandedOut { .. } => "handed_out",
            Self::AttemptRetired { .. } => "attempt_retired",
            Self::Asked { .. } => "asked",
            Self::PaymentConfirmed { .. } => "payment_confirmed",
            Self::PaymentDisputed { .. } => "payment_disputed",
            Self::DisputeTaken { .. } => "dispute_taken",
            Self::DisputeLetGo { .. } => "dispute_let_go",
            Self::AnomalySettled { .. } => "anomaly_settled",
            Self::LinksRevoked { .. } => "links_revoked",
            Self::CloseRequested => "close_requested",
            Self::Closed => "closed",
        }
    }
}

/// Money that needs a person's or a policy's eye.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anomaly {
    pub attempt: AttemptNo,
    pub kind: AnomalyKind,
    pub detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnomalyKind {
    /// Paid after the order was closed.
    LatePayment,
    /// Another number of a paid order was paid too.
    SecondPayment,
    /// Paid with another amount or payee.
    Disputed,
    /// A number that the wallet had called closed, or of which a person had let money go, was paid.
    ClosedNumberPaid,
    /// Alipay made a second trade of one number.
    SecondTicket,
}

impl AnomalyKind {
    /// The detail of an anomaly that is a payment.
    pub fn of_payment(trade_no: &TradeNo) -> String {
        format!("trade_no {trade_no}")
    }

    /// ... of one that a person had let go. It may have gone back already, so no policy decides about it.
    pub fn of_payment_let_go(trade_no: &TradeNo) -> String {
        format!("trade_no {trade_no}, which was let go")
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LatePayment => "late_payment",
            Self::SecondPayment => "second_payment",
            Self::Disputed => "disputed",
            Self::ClosedNumberPaid => "closed_number_paid",
            Self::SecondTicket => "second_ticket",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::LatePayment, Self::SecondPayment, Self::Disputed, Self::ClosedNumberPaid, Self::SecondTicket]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }
}

/// What became of an anomaly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handled {
    /// The merchant's policy has not been asked yet.
    Due,
    /// The money stays.
    Kept,
    /// It is given back; the refund tells how that goes.
    Refunded,
    /// Nothing but a person decides.
    Person,
    /// A person decided that it is not the order's.
    LetGo,
}

impl Handled {
    pub const ALL: [Self; 5] = [Self::Due, Self::Kept, Self::Refunded, Self::Person, Self::LetGo];

    /// The name in columns and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Due => "due",
            Self::Kept => "kept",
            Self::Refunded => "refunded",
            Self::Person => "person",
            Self::LetGo => "let_go",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|handled| handled.as_str() == text)
    }

    /// Money of this order is a policy's; what may not be this order's is a person's.
    pub const fn at_first(kind: AnomalyKind) -> Self {
        match kind {
            AnomalyKind::LatePayment | AnomalyKind::SecondPayment | AnomalyKind::ClosedNumberPaid => Self::Due,
            AnomalyKind::Disputed | AnomalyKind::SecondTicket => Self::Person,
        }
    }
}

/// What a person decided about an anomaly, written with the change that it makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub attempt: AttemptNo,
    pub kind: AnomalyKind,
    /// What became of it.
    pub handled: Handled,
    /// Nothing but the anomaly ends with it, so it is not to be written when that was ended in another way meanwhile.
    pub is_settlement: bool,
    /// Who decided and why, for the order's history.
    pub note: String,
}

/// How much of an attempt a change writes. A larger one includes the smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Write {
    /// All but the time of its next question, which a waiting page may have pulled forward since the order was loaded.
    Update,
    /// That too.
    Reschedule,
    /// A new row.
    Insert,
}

/// A change that has not been committed yet: the order as it will be, and the state and version it must still have.
#[derive(Debug, Clone)]
#[must_use = "a change that is not committed did not happen"]
pub struct Moved {
    pub order: Order,
    pub from_state: &'static str,
    pub from_version: i64,
    pub events: Vec<&'static str>,
    /// The attempts to write.
    pub attempts: Vec<(AttemptNo, Write)>,
    pub anomalies: Vec<Anomaly>,
    pub decision: Option<Decision>,
}

impl Moved {
    /// A further event in the same commit.
    pub fn then(mut self, event: OrderEvent, now: Timestamp) -> Result<Self, NotAllowed> {
        match self.order.apply(event, now)? {
            Step::AlreadyThere => {}
            Step::Moved(next) => {
                self.events.extend(next.events);
                for (attempt, write) in next.attempts {
                    match self.attempts.iter_mut().find(|(known, _)| *known == attempt) {
                        Some((_, known)) => *known = write.max(*known),
                        None => self.attempts.push((attempt, write)),
                    }
                }
                self.anomalies.extend(next.anomalies);
                self.decision = next.decision.or(self.decision);
                let version = self.order.version;
                self.order = next.order;
                self.order.version = version;
            }
        }
        Ok(self)
    }
}

impl Moved {
    /// The command that takes the order's lease with this change.
    pub fn taken_by(&self) -> Option<CommandId> {
        let takes = |event: &&str| matches!(*event, "lease_taken" | "attempt_started");
        self.order.lease.filter(|_| self.events.iter().any(takes)).map(|lease| lease.command)
    }
}

/// What an event did.
#[derive(Debug, Clone)]
#[must_use]
pub enum Step {
    Moved(Box<Moved>),
    /// A repeat: nothing changes and nothing is wrong.
    AlreadyThere,
}

/// An event that the order cannot take in its state; whoever meant it decided on something that is no longer so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("order {order} is {state} and cannot take {event}: {why}")]
pub struct NotAllowed {
    pub order: OrderId,
    pub state: &'static str,
    pub event: &'static str,
    pub why: &'static str,
}

impl Order {
    /// Under this much time left no prepay is opened any more (WeChat raises `time_expire` to now + 1 min).
    pub const LAST_PREPAY: Duration = Duration::from_secs(60);
    /// How long after its expiry an order is still asked about before its numbers are closed.
    pub const SETTLED_AFTER_EXPIRY: Duration = Duration::from_secs(90);
    /// A number that its wallet does not know so long after its `time_expire`: no copy of a send is that old.
    pub const LAPSED_AFTER_EXPIRY: Duration = Duration::from_secs(24 * 3600);
    /// Changes of payer in this span are counted ...
    pub const PAYER_CHANGE_SPAN: Duration = Duration::from_secs(600);
    /// ... and this many are allowed (`mini-program.md`, 11).
    pub const PAYER_CHANGES_MAX: usize = 5;

    /// The attempt whose number may be payable.
    pub fn payable_attempt(&self) -> Option<&Attempt> {
        self.attempts.iter().find(|attempt| attempt.may_be_payable())
    }

    pub fn attempt(&self, no: AttemptNo) -> Option<&Attempt> {
        self.attempts.iter().find(|attempt| attempt.no == no)
    }

    pub fn is_disputed(&self) -> bool {
        self.attempts.iter().any(|attempt| matches!(attempt.state, AttemptState::Disputed { .. }))
    }

    /// Whether its merchant's close is under way: nothing of it is opened or handed out any more.
    pub fn is_closing(&self) -> bool {
        self.close_wanted_at.is_some() && matches!(self.state, OrderState::Waiting | OrderState::Open)
    }

    /// How long after a question about a number its wallet is asked again.
    ///
    /// By the number's age while it may be paid: neither a page that asks all the time nor a wallet that says nothing uses the
    /// timetable up. Nobody is to pay it any more beside a payment, a dispute or a close: then it is asked about soon, to be ended,
    /// and less and less often if it cannot be.
    pub fn ask_again_in(&self, attempt: &Attempt, asked: Asked, now: Timestamp) -> Duration {
        const IN_VAIN_LEAST: Duration = Duration::from_secs(10);
        let settled = matches!(self.state, OrderState::Paid { .. } | OrderState::Closed { .. });
        if !settled && !self.is_closing() && !self.is_disputed() {
            return ask_again_at_age(now.since(attempt.prepaid_at()));
        }
        match asked {
            Asked::Answered => ask_again_in(attempt.queries),
            Asked::InVain => ask_again_in(attempt.queries).max(IN_VAIN_LEAST),
        }
    }

    /// The attempt whose payment made the order paid.
    pub fn paying_attempt(&self) -> Option<&Attempt> {
        match self.state {
            OrderState::Paid { by } => self.attempt(by),
            _ => None,
        }
    }

    /// Whether all of the payment that made it paid was paid back.
    pub fn is_refunded_in_full(&self) -> bool {
        self.paying_attempt().is_some_and(|attempt| attempt.refunded.get() >= self.amount.get())
    }

    /// The number of the next attempt; `None` after 99.
    pub fn next_attempt_no(&self) -> Option<AttemptNo> {
        self.attempts.last().map_or(Some(AttemptNo::FIRST), |last| last.no.next())
    }

    pub fn out_trade_no(&self, attempt: AttemptNo) -> OutTradeNo {
        OutTradeNo { order: self.id, attempt }
    }

    /// The mini-program that pays this order in a wallet; `None` when the order was not made for that wallet.
    pub fn mini_program(&self, wallet: Wallet) -> Option<MiniProgramId> {
        match wallet {
            Wallet::WechatPay => self.wechat_mini_program,
            Wallet::Alipay => self.alipay_mini_program,
        }
    }

    /// The payload of this order's present link for a wallet.
    pub fn pay_info(&self, wallet: Wallet) -> PayInfo {
        PayInfo {
            order: self.id,
            merchant: self.merchant,
            wallet,
            expire_at: self.expire_at,
            generation: self.link_generation,
        }
    }

    /// How often the payer (or wallet) changed from one attempt to the next in the last ten minutes.
    pub fn recent_payer_changes(&self, now: Timestamp) -> usize {
        let since = now.minus(Self::PAYER_CHANGE_SPAN);
        self.attempts
            .windows(2)
            .filter(|pair| {
                pair[1].started_at > since && (pair[0].payer != pair[1].payer || pair[0].wallet != pair[1].wallet)
            })
            .count()
    }

    /// Whether another number may follow: whoever makes numbers that the wallet refuses must not use up the order's 99, nor the
    /// account's calls. Asked before a number is closed for the next one, too.
    pub fn may_start_another(&self, now: Timestamp) -> bool {
        self.next_attempt_no().is_some() && self.recent_attempts(now) <= Self::PAYER_CHANGES_MAX
    }

    /// How many numbers were opened in the last ten minutes, for whomever.
    fn recent_attempts(&self, now: Timestamp) -> usize {
        let since = now.minus(Self::PAYER_CHANGE_SPAN);
        self.attempts.iter().filter(|attempt| attempt.started_at > since).count()
    }

    /// The name on the wire (`payStatus`). Money that is disputed is being looked at, not waited for.
    pub fn pay_status(&self) -> &'static str {
        match self.state {
            OrderState::Waiting if self.is_disputed() => OrderState::Open.pay_status(),
            _ => self.state.pay_status(),
        }
    }

    /// Whether a command other than the lease's has to keep away from the wallets.
    pub fn leased_to_another(&self, command: CommandId, now: Timestamp) -> bool {
        self.lease.is_some_and(|lease| lease.command != command && lease.until > now)
    }
}
