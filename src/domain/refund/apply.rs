//! The one door through which a refund changes, and when the wallet is asked about it.

use std::time::Duration;

use super::{CANCELLED, HAD_FAILED, Refund, RefundEvent, RefundMoved, RefundState, RefundStep, Shift};
use crate::domain::time::Timestamp;

impl Refund {
    /// The one door for change. The wallet's later word wins over ours; only paid back is absorbing, and only paid back is
    /// believed of a refund that failed: its part of the payment may have been given to another.
    pub fn apply(&self, event: RefundEvent, now: Timestamp) -> RefundStep {
        let mut next = self.clone();
        let mut sends = false;
        let open = matches!(self.state, RefundState::Waiting | RefundState::Sent | RefundState::Processing);
        match event {
            _ if self.state.is_paid_back() => return RefundStep::AlreadyThere,
            RefundEvent::SendRecorded { frozen } => {
                if !open {
                    return RefundStep::AlreadyThere;
                }
                next.frozen.get_or_insert(frozen);
                // What may have arrived often is asked about, and sent, less and less often; what surely did not costs no patience.
                next.asks = next.sends.saturating_sub(next.refusals);
                next.sends = next.sends.saturating_add(1);
                next.doubtful_at = self.sent_at.or(self.doubtful_at);
                next.sent_at = Some(now);
                next.denied_at = None;
                next.state = RefundState::Sent;
                next.next_at = Some(now.plus(ask_again_in(next.asks)));
                sends = true;
            }
            RefundEvent::SendRefused { send, hint, again_in } => {
                if self.state != RefundState::Sent {
                    return RefundStep::AlreadyThere;
                }
                next.refusals = next.sends.min(next.refusals.saturating_add(1));
                // Late word of an earlier send says nothing about the one under way.
                if send == self.sends {
                    next.sent_at = None;
                    next.hint = Some(hint);
                    next.next_at = Some(now.plus(again_in));
                }
            }
            RefundEvent::SendDenied { send, hint } => {
                if self.state != RefundState::Sent || send != self.sends {
                    return RefundStep::AlreadyThere;
                }
                next.denied_at = Some(now);
                next.hint = Some(hint);
                next.next_at = next.confirmable_at();
            }
            RefundEvent::Refused { why } => {
                if self.state != RefundState::Sent {
                    return RefundStep::AlreadyThere;
                }
                let is_confirmed = self.confirmable_at().is_some_and(|at| at <= now);
                if is_confirmed {
                    next.refusals = next.sends.min(next.refusals.saturating_add(1));
                    (next.sent_at, next.denied_at) = (None, None);
                }
                if next.refused_outright(now) {
                    next.settle(RefundState::Failed { why }, None);
                } else if is_confirmed {
                    next.asks = next.asks.saturating_add(1);
                    next.hint = Some(why);
                    next.next_at = Some(now.plus(ask_again_in(next.asks)));
                } else {
                    return RefundStep::AlreadyThere;
                }
            }
            RefundEvent::Unsettled { hint } => {
                if self.next_at.is_none() {
                    return RefundStep::AlreadyThere;
                }
                next.asks = next.asks.saturating_add(1);
                // The words of a denial wait for their confirmation.
                if self.denied_at.is_none() {
                    next.hint = hint.or(next.hint);
                }
                next.next_at = match self.state {
                    // Asked because somebody wanted it; a wallet that never answers is not asked for ever.
                    RefundState::Failed { .. } if next.asks >= FAILED_ASKS_MAX => None,
                    RefundState::Abnormal => Some(now.plus(ABNORMAL_ASKED_EVERY)),
                    _ => Some(now.plus(ask_again_in(next.asks))),
                };
            }
            RefundEvent::Absent => {
                if !matches!(self.state, RefundState::Failed { .. }) || self.next_at.is_none() {
                    return RefundStep::AlreadyThere;
                }
                next.next_at = None;
            }
            RefundEvent::Known { hint } => {
                next.is_known(now);
                next.asks = next.asks.saturating_add(1);
                next.hint = hint.or(next.hint);
                match self.state {
                    RefundState::Failed { .. } => next.doubt_failure(ask_again_in(next.asks), now),
                    RefundState::Abnormal => next.next_at = Some(now.plus(ABNORMAL_ASKED_EVERY)),
                    _ => next.next_at = Some(now.plus(ask_again_in(next.asks))),
                }
            }
            RefundEvent::Accepted { wallet_refund_no } => {
                next.is_known(now);
                next.wallet_refund_no = wallet_refund_no.or(next.wallet_refund_no);
                if matches!(self.state, RefundState::Failed { .. }) {
                    next.asks = next.asks.saturating_add(1);
                    next.doubt_failure(ask_again_in(next.asks), now);
                } else {
                    next.asks = if self.state == RefundState::Processing { next.asks.saturating_add(1) } else { 1 };
                    next.hint = None;
                    next.state = RefundState::Processing;
                    next.next_at = Some(now.plus(ask_again_in(next.asks)));
                }
            }
            RefundEvent::PaidBack { at, wallet_refund_no } => {
                next.is_known(now);
                next.settle(RefundState::Succeeded { at }, wallet_refund_no);
            }
            RefundEvent::GivenUp { why } => match &self.state {
                // As it was, and that is an answer.
                RefundState::Failed { .. } if self.next_at.is_none() => return RefundStep::AlreadyThere,
                RefundState::Failed { .. } => (next.hint, next.next_at) = (None, None),
                _ => next.settle(RefundState::Failed { why }, None),
            },
            RefundEvent::Undelivered { wallet_refund_no } => {
                next.is_known(now);
                next.wallet_refund_no = wallet_refund_no.or(next.wallet_refund_no);
                if matches!(self.state, RefundState::Failed { .. }) {
                    next.doubt_failure(ABNORMAL_ASKED_EVERY, now);
                } else {
                    next.hint = None;
                    next.state = RefundState::Abnormal;
                    next.next_at = Some(now.plus(ABNORMAL_ASKED_EVERY));
                }
            }
            RefundEvent::Cancelled => {
                if !self.is_surely_unknown() {
                    return RefundStep::AlreadyThere;
                }
                next.settle(RefundState::Failed { why: CANCELLED.to_owned() }, None);
            }
            RefundEvent::LookWanted => {
                next.next_at = Some(now);
                if matches!(self.state, RefundState::Failed { .. }) {
                    next.asks = 0;
                }
            }
        }
        next.version = self.version + 1;
        let change = |holds: fn(&RefundState) -> bool| {
            (i64::from(holds(&next.state)) - i64::from(holds(&self.state))) * self.amount.get()
        };
        let shift = Shift { reserved: change(RefundState::holds), refunded: change(RefundState::is_paid_back) };
        RefundStep::Moved(Box::new(RefundMoved {
            from_state: self.state.name(),
            from_version: self.version,
            shift,
            sends,
            refund: next,
        }))
    }

    /// The wallet has the number: what it once denied it has not refused.
    fn is_known(&mut self, now: Timestamp) {
        self.known_at.get_or_insert(now);
        self.denied_at = None;
    }

    /// The wallet tells of a refund that had failed: asked at once, then again and again, until it settles it.
    fn doubt_failure(&mut self, again_in: Duration, now: Timestamp) {
        self.asks = self.asks.min(HOURLY_FROM);
        self.hint = Some(HAD_FAILED.to_owned());
        self.next_at = Some(if self.next_at.is_none() { now } else { now.plus(again_in) });
    }

    fn settle(&mut self, state: RefundState, wallet_refund_no: Option<String>) {
        self.state = state;
        self.wallet_refund_no = wallet_refund_no.or(self.wallet_refund_no.take());
        self.hint = None;
        self.next_at = None;
    }
}

/// A refund that a person has to settle at the wallet is asked about this often: the notice of it may be lost.
const ABNORMAL_ASKED_EVERY: Duration = Duration::from_secs(6 * 3600);

/// From this place in the timetable on, a question an hour.
const HOURLY_FROM: u32 = 11;
/// So many questions about a refund that failed remain without an answer: a day and an hour of them.
const FAILED_ASKS_MAX: u32 = HOURLY_FROM + 24;

/// How long after the last question (or the send, for the first) the wallet is asked about a refund next.
///
/// The first is longer than a call to the wallet may take. Balances are refunded within minutes, cards within three working days (`wechat-pay.md` §8.2; Alipay settles at once, or
/// a query tells 10 s later).
pub fn ask_again_in(asks: u32) -> Duration {
    const GAPS_S: [u64; 11] = [10, 10, 15, 30, 60, 60, 120, 300, 600, 1200, 1800];
    let gap = usize::try_from(asks).ok().and_then(|at| GAPS_S.get(at)).copied().unwrap_or(3600);
    Duration::from_secs(gap)
}
