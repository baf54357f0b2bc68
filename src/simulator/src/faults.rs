//! Lies and faults on demand: by order, merchant, code or call, or by chance.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::chance::Chance;
use crate::ground::{Call, Wallet};
use crate::stream::Pieces;
use crate::wire::{Answer, Reply};

/// What goes wrong.
///
/// *Before* kinds keep the call from having an effect; *after* kinds let the effect happen and spoil the answer.
/// Shape as JSON: `{"kind":"delay","ms":250}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum FaultKind {
    /// Wait, then do as usual.
    Delay { ms: u64 },
    /// Do as usual at once, answer late.
    DelayAnswer { ms: u64 },
    /// Refuse without an effect.
    FailBefore { status: u16, code: String },
    /// Take effect, and say it failed.
    FailAfter { status: u16, code: String },
    /// Close the connection without an effect.
    CloseBefore,
    /// Take effect, close the connection instead of an answer.
    LoseAnswer,
    /// No effect, no answer, connection held for this long.
    HangBefore { ms: u64 },
    /// Take effect, no answer, connection held for this long.
    HangAfter { ms: u64 },
    /// The gateway's HTML 502, without an effect.
    HtmlBefore,
    /// The gateway's HTML 502, after the effect.
    HtmlAfter,
    /// 429 `FREQUENCY_LIMITED` (Alipay: the like of it), without an effect.
    FrequencyLimited,
    /// The effect, then 429 as if there was none.
    FrequencyLimitedAfter,
    /// Half of the JSON, properly signed where the wallet signs bodies.
    TruncatedJson,
    /// The connection dies in the middle of the body.
    CutBody,
    /// A signature by another key.
    WrongSignature,
    /// WeChat's probe: `WECHATPAY/SIGNTEST/` and what follows.
    SignTest,
    /// A signature that is no Base64.
    UndecodableSignature,
    /// A key id that was never handed out.
    UnknownSerial,
    /// A validly signed timestamp this many seconds off (±301 is outside the window).
    TimestampShift { seconds: i64 },
    /// A header that is missing.
    MissingHeader { name: String },
    /// No signature at all.
    Unsigned,
    /// The validly signed answer for another order.
    AnswerOf { out_trade_no: String },
    /// Another amount than was paid or asked for, in an answer or a notification, in fen.
    WrongAmount { fen: i64 },
    /// Another merchant than the one paid, in an answer or a notification.
    WrongMerchant { merchant: String },
    /// The order is paid just before the call takes effect (a close that lost its race).
    PaidMeanwhile,
    /// The answer about a bill names the hash of another file.
    WrongHash,
    /// Notifications: this delivery never leaves.
    Lose,
    /// Notifications: this delivery leaves twice at the same time.
    Double,
}

/// Which calls a fault strikes; what is `None` matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Match {
    /// mchid, sp_mchid or app_id.
    pub merchant: Option<String>,
    pub out_trade_no: Option<String>,
    /// Start of the out_trade_no: all attempts of one order.
    pub prefix: Option<String>,
    pub code: Option<String>,
    pub out_refund_no: Option<String>,
    /// How many matching calls pass before the first is struck.
    pub skip: u32,
}

impl Match {
    /// Everything.
    pub fn any() -> Self {
        Self::default()
    }

    /// One number.
    pub fn number(out_trade_no: impl Into<String>) -> Self {
        Self { out_trade_no: Some(out_trade_no.into()), ..Self::default() }
    }

    /// All numbers with this start.
    pub fn prefix(prefix: impl Into<String>) -> Self {
        Self { prefix: Some(prefix.into()), ..Self::default() }
    }

    /// One merchant.
    pub fn merchant(merchant: impl Into<String>) -> Self {
        Self { merchant: Some(merchant.into()), ..Self::default() }
    }

    /// One refund: its request, queries and notifications.
    pub fn refund(out_refund_no: impl Into<String>) -> Self {
        Self { out_refund_no: Some(out_refund_no.into()), ..Self::default() }
    }

    /// One login code.
    pub fn code(code: impl Into<String>) -> Self {
        Self { code: Some(code.into()), ..Self::default() }
    }

    fn fits(&self, keys: &Keys<'_>) -> bool {
        let same =
            |wanted: &Option<String>, given: Option<&str>| wanted.as_deref().is_none_or(|wanted| given == Some(wanted));
        same(&self.merchant, keys.merchant)
            && same(&self.out_trade_no, keys.out_trade_no)
            && same(&self.code, keys.code)
            && same(&self.out_refund_no, keys.out_refund_no)
            && self
                .prefix
                .as_deref()
                .is_none_or(|prefix| keys.out_trade_no.is_some_and(|number| number.starts_with(prefix)))
    }
}

/// A fault to come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    pub wallet: Wallet,
    pub call: Call,
    #[serde(default)]
    pub when: Match,
    /// How many calls it strikes; `u32::MAX` is all of them.
    #[serde(default = "once")]
    pub times: u32,
    /// Probability that a matching call is struck, by the simulator's seed.
    #[serde(default = "certain")]
    pub probability: f64,
    #[serde(rename = "fault")]
    pub kind: FaultKind,
}

fn once() -> u32 {
    1
}

fn certain() -> f64 {
    1.0
}

impl Fault {
    /// The next such call, whatever it is about.
    pub fn once(wallet: Wallet, call: Call, kind: FaultKind) -> Self {
        Self { wallet, call, when: Match::any(), times: 1, probability: 1.0, kind }
    }

    pub fn when(mut self, when: Match) -> Self {
        self.when = when;
        self
    }

    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    pub fn always(self) -> Self {
        self.times(u32::MAX)
    }

    pub fn probability(mut self, probability: f64) -> Self {
        self.probability = probability;
        self
    }
}

/// Names a fault that was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FaultId(pub u64);

/// What a call is about.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Keys<'a> {
    pub merchant: Option<&'a str>,
    pub out_trade_no: Option<&'a str>,
    pub code: Option<&'a str>,
    pub out_refund_no: Option<&'a str>,
}

struct Armed {
    id: FaultId,
    fault: Fault,
    left: u32,
    skip: u32,
    struck: u64,
}

/// The faults to come and how often each struck.
pub struct Faults {
    chance: Arc<Chance>,
    armed: Mutex<(u64, Vec<Armed>)>,
    /// Most calls meet no faults at all; they should not meet the lock either.
    any: AtomicBool,
}

impl Faults {
    pub(crate) fn new(chance: Arc<Chance>) -> Self {
        Self { chance, armed: Mutex::new((0, Vec::new())), any: AtomicBool::new(false) }
    }

    fn armed(&self) -> MutexGuard<'_, (u64, Vec<Armed>)> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Arms a fault. Several may strike one call, in the order they were added.
    pub fn add(&self, fault: Fault) -> FaultId {
        let mut armed = self.armed();
        armed.0 += 1;
        let id = FaultId(armed.0);
        let (left, skip) = (fault.times, fault.when.skip);
        armed.1.push(Armed { id, fault, left, skip, struck: 0 });
        self.any.store(true, Ordering::Release);
        id
    }

    /// Disarms a fault; false when it is unknown.
    pub fn remove(&self, id: FaultId) -> bool {
        let mut armed = self.armed();
        let before = armed.1.len();
        armed.1.retain(|one| one.id != id);
        before != armed.1.len()
    }

    /// Disarms all.
    pub fn clear(&self) {
        self.armed().1.clear();
        self.any.store(false, Ordering::Release);
    }

    /// How many calls a fault struck so far; 0 for an unknown one. Spent faults are remembered until `clear`.
    pub fn struck(&self, id: FaultId) -> u64 {
        self.armed().1.iter().find(|one| one.id == id).map_or(0, |one| one.struck)
    }

    /// Every fault with how often it struck.
    pub fn list(&self) -> Vec<(FaultId, Fault, u64)> {
        self.armed().1.iter().map(|one| (one.id, one.fault.clone(), one.struck)).collect()
    }

    /// What strikes this call.
    pub(crate) fn take(&self, wallet: Wallet, call: Call, keys: Keys<'_>) -> Plan {
        if !self.any.load(Ordering::Acquire) {
            return Plan(Vec::new());
        }
        let mut kinds = Vec::new();
        for one in &mut self.armed().1 {
            if one.left == 0 || one.fault.wallet != wallet || one.fault.call != call || !one.fault.when.fits(&keys) {
                continue;
            }
            if one.skip > 0 {
                one.skip -= 1;
                continue;
            }
            if self.chance.hits(one.fault.probability) {
                one.left = if one.left == u32::MAX { u32::MAX } else { one.left - 1 };
                one.struck += 1;
                kinds.push(one.fault.kind.clone());
            }
        }
        Plan(kinds)
    }
}

/// The faults of one call.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plan(pub Vec<FaultKind>);

impl Plan {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The kinds' names, for the ledger.
    pub(crate) fn names(&self) -> String {
        let name = |kind: &FaultKind| {
            let value = serde_json::to_value(kind).unwrap_or_default();
            value.get("kind").and_then(|kind| kind.as_str()).unwrap_or_default().to_owned()
        };
        self.0.iter().map(name).collect::<Vec<_>>().join(",")
    }

    /// What happens before the effect; `Some` ends the call without one. `refusal` builds the wallet's error answer.
    pub(crate) async fn before(&self, refusal: impl Fn(u16, &str) -> Reply) -> Option<Reply> {
        for kind in &self.0 {
            match kind {
                FaultKind::Delay { ms } => tokio::time::sleep(Duration::from_millis(*ms)).await,
                FaultKind::FailBefore { status, code } => return Some(refusal(*status, code)),
                FaultKind::FrequencyLimited => return Some(refusal(429, "FREQUENCY_LIMITED")),
                FaultKind::CloseBefore => return Some(Reply::Close),
                FaultKind::HangBefore { ms } => {
                    return Some(Reply::Hang(Duration::from_millis(*ms)));
                }
                FaultKind::HtmlBefore => return Some(Answer::bad_gateway().into()),
                _ => {}
            }
        }
        None
    }

    /// What becomes of the answer after the effect.
    pub(crate) async fn after(&self, mut reply: Reply, refusal: impl Fn(u16, &str) -> Reply) -> Reply {
        for kind in &self.0 {
            reply = match kind {
                FaultKind::DelayAnswer { ms } => {
                    tokio::time::sleep(Duration::from_millis(*ms)).await;
                    reply
                }
                FaultKind::FailAfter { status, code } => refusal(*status, code),
                FaultKind::FrequencyLimitedAfter => refusal(429, "FREQUENCY_LIMITED"),
                FaultKind::LoseAnswer => Reply::Close,
                FaultKind::HangAfter { ms } => Reply::Hang(Duration::from_millis(*ms)),
                FaultKind::HtmlAfter => Answer::bad_gateway().into(),
                FaultKind::CutBody => match reply {
                    Reply::Answer(answer) => Reply::CutBody(answer),
                    Reply::Pieces(head, pieces) => Reply::Pieces(head, Pieces { cut: true, ..pieces }),
                    other => other,
                },
                _ => reply,
            };
        }
        reply
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults() -> Faults {
        Faults::new(Arc::new(Chance::new(1)))
    }

    fn keys(number: &str) -> Keys<'_> {
        Keys { merchant: Some("m"), out_trade_no: Some(number), ..Keys::default() }
    }

    #[test]
    fn a_fault_strikes_what_it_names_as_often_as_it_says() {
        let faults = faults();
        let id = faults.add(
            Fault::once(Wallet::Wechat, Call::Prepay, FaultKind::LoseAnswer)
                .when(Match { skip: 1, ..Match::prefix("A") })
                .times(2),
        );
        for (call, number, strikes) in [
            (Call::Prepay, "A1", false), // skipped
            (Call::Query, "A1", false),
            (Call::Prepay, "B1", false),
            (Call::Prepay, "A1", true),
            (Call::Prepay, "A2", true),
            (Call::Prepay, "A2", false),
        ] {
            assert_eq!(!faults.take(Wallet::Wechat, call, keys(number)).is_empty(), strikes, "{call:?} {number}");
        }
        assert_eq!(faults.struck(id), 2);
        assert!(faults.remove(id) && !faults.remove(id));
    }

    #[test]
    fn a_fault_reads_from_json() {
        let fault: Fault = serde_json::from_str(
            r#"{"wallet":"wechat","call":"prepay","when":{"out_trade_no":"A1"},"fault":{"kind":"delay","ms":5}}"#,
        )
        .expect("valid");
        assert_eq!(
            fault,
            Fault::once(Wallet::Wechat, Call::Prepay, FaultKind::Delay { ms: 5 }).when(Match::number("A1"))
        );
    }
}
