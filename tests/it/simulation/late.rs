//! Requests that nobody waits for any more, and that arrive all the same: seconds, minutes or most of a day later.

use std::time::Duration;

use prepay::domain::{
    attempt::Frozen,
    id::{OutRefundNo, OutTradeNo},
    time::Timestamp,
};

use super::wallet::Books;

/// A request that may still arrive although nobody waits for its answer.
#[derive(Clone)]
pub enum Copied {
    Prepay(OutTradeNo, Frozen),
    Close(OutTradeNo),
    Refund(OutTradeNo, OutRefundNo, Frozen),
    /// Nothing of it matters later.
    Question,
}

impl Copied {
    /// The number that a call opens or closes.
    pub fn number(&self) -> Option<OutTradeNo> {
        match self {
            Self::Prepay(number, _) | Self::Close(number) => Some(*number),
            Self::Refund(..) | Self::Question => None,
        }
    }
}

/// A request on its way, with nobody waiting.
pub struct Late {
    request: Copied,
    /// When it arrives; `None`: whenever the history wants it to.
    pub arrives_at: Option<Timestamp>,
}

/// Copies of refunds take so long. Within a day of their send, the longest that our side reckons with.
const AFTER_S: [u64; 8] = [1, 4, 11, 45, 90, 900, 3 * 3600, 23 * 3600];

impl Books {
    /// Nobody waits for a request any more: it is gone, or arrives later.
    pub fn abandon(&mut self, request: Copied, now: Timestamp) {
        let likely = if self.is_rough && matches!(request, Copied::Refund(..)) { 85 } else { 50 };
        if !self.is_calm && !matches!(request, Copied::Question) && self.dice.percent(likely) {
            self.copy_follows(request, now);
        }
    }

    pub fn copy_follows(&mut self, request: Copied, now: Timestamp) {
        let arrives_at = match request {
            Copied::Refund(..) => Some(now.plus(Duration::from_secs(*self.dice.pick(&AFTER_S)))),
            _ => None,
        };
        self.late.push(Late { request, arrives_at });
    }

    /// The next copy that has its time: its place, and when it arrives.
    pub fn next_copy(&self) -> Option<(usize, Timestamp)> {
        let timed = self.late.iter().enumerate().filter_map(|(at, late)| late.arrives_at.map(|when| (at, when)));
        timed.min_by_key(|(_, when)| *when)
    }

    /// A copy that has no time of its own.
    pub fn any_copy(&mut self) -> Option<usize> {
        let untimed: Vec<usize> = (0..self.late.len()).filter(|at| self.late[*at].arrives_at.is_none()).collect();
        (!untimed.is_empty()).then(|| *self.dice.pick(&untimed))
    }

    pub fn copy_arrives(&mut self, at: usize, now: Timestamp) {
        match self.late.remove(at).request {
            Copied::Prepay(no, bytes) => {
                let made = self.prepay_arrives(no, &bytes, now).is_ok();
                self.say(|| {
                    format!("a late copy of prepay {no} arrives: {}", if made { "payable" } else { "refused" })
                });
            }
            Copied::Close(no) => {
                let answer = self.close_arrives(no, now);
                self.say(|| format!("a late copy of close {no} arrives: {answer:?}"));
            }
            Copied::Refund(number, no, bytes) => {
                self.say(|| format!("a late copy of refund {no} arrives"));
                let known = self.backs.contains_key(&no);
                let made = self.refund_arrives(number, &no, &bytes, now).is_ok();
                self.count(match (known, made) {
                    (true, _) => "late copies of refunds that were made before",
                    (false, true) => "refunds made by a late copy",
                    (false, false) => "late copies of refunds that were refused",
                });
            }
            Copied::Question => {}
        }
    }
}
