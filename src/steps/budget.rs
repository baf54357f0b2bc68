//! How much of a channel account's wallet may be used right now. Nobody waits for it: no room is told at once.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use crate::domain::time::Timestamp;

/// Bounds of one channel account.
#[derive(Debug, Clone)]
pub struct BudgetSettings {
    /// Wallet calls of one account in flight in this process.
    pub in_flight_max: u32,
    /// Calls in a row without a known outcome that open the breaker.
    pub failures_to_open: u32,
    /// How long it stays open before one call probes.
    pub open_for: Duration,
}

impl Default for BudgetSettings {
    fn default() -> Self {
        Self { in_flight_max: 32, failures_to_open: 10, open_for: Duration::from_secs(2) }
    }
}

/// No room now; try again after this long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRoom {
    pub retry_in: Duration,
}

#[derive(Debug, Clone, Copy)]
enum Breaker {
    Closed {
        failures: u32,
    },
    Open {
        until: Timestamp,
    },
    /// One probe is out.
    HalfOpen,
}

/// The in-flight count and breaker of one channel account.
#[derive(Debug)]
pub struct Budget {
    /// Of what is in flight, how many calls are this budget's.
    own: AtomicU32,
    whole: Arc<Whole>,
}

/// What budgets beside each other have in common.
#[derive(Debug)]
struct Whole {
    settings: BudgetSettings,
    in_flight: AtomicU32,
    breaker: Mutex<Breaker>,
}

/// The right to make the calls of one step. Dropped without a report it counts as no news.
#[derive(Debug)]
pub struct Permit {
    budget: Arc<Budget>,
    /// The breaker waits for this one's news. Without any (its step died), the next one probes.
    probes: AtomicBool,
}

impl Budget {
    pub fn new(settings: BudgetSettings) -> Arc<Self> {
        let breaker = Mutex::new(Breaker::Closed { failures: 0 });
        Self::of(Arc::new(Whole { settings, in_flight: AtomicU32::new(0), breaker }))
    }

    /// Another one of the same places and the same breaker, whose own calls are counted apart.
    pub fn beside(&self) -> Arc<Self> {
        Self::of(self.whole.clone())
    }

    fn of(whole: Arc<Whole>) -> Arc<Self> {
        Arc::new(Self { own: AtomicU32::new(0), whole })
    }

    /// Errors: [`NoRoom`].
    pub fn admit(self: &Arc<Self>, now: Timestamp) -> Result<Permit, NoRoom> {
        let Whole { settings, in_flight, .. } = &*self.whole;
        let taken = in_flight.fetch_update(Ordering::AcqRel, Ordering::Acquire, |held| {
            (held < settings.in_flight_max).then_some(held + 1)
        });
        if taken.is_err() {
            return Err(NoRoom { retry_in: Duration::from_secs(1) });
        }
        self.own.fetch_add(1, Ordering::AcqRel);
        // From here on the permit's drop gives the place back.
        let permit = Permit { budget: self.clone(), probes: AtomicBool::new(false) };
        let mut breaker = self.whole.breaker();
        match *breaker {
            Breaker::Closed { .. } => {}
            Breaker::Open { until } if until > now => return Err(NoRoom { retry_in: until.since(now) }),
            Breaker::Open { .. } => {
                *breaker = Breaker::HalfOpen;
                permit.probes.store(true, Ordering::Release);
            }
            Breaker::HalfOpen => return Err(NoRoom { retry_in: settings.open_for }),
        }
        drop(breaker);
        Ok(permit)
    }

    /// How many calls would be let in now, of `at_most` of its own in flight; `None`: the wallet is left alone for a while.
    ///
    /// A place is left to what stands beside it, where there is more than one.
    pub fn room(&self, at_most: u32, now: Timestamp) -> Option<u32> {
        let most = self.whole.settings.in_flight_max;
        let own = at_most.min(most.saturating_sub(1).max(1)).saturating_sub(self.own.load(Ordering::Acquire));
        let room = own.min(most.saturating_sub(self.whole.in_flight.load(Ordering::Acquire)));
        match *self.whole.breaker() {
            Breaker::Closed { .. } => Some(room),
            Breaker::Open { until } if until <= now => Some(room.min(1)),
            Breaker::Open { .. } | Breaker::HalfOpen => None,
        }
    }
}

impl Whole {
    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// The wallet answered, whatever it said. News of a call begun before the breaker opened does not close it.
    pub fn answered(&self) {
        let probes = self.probes.load(Ordering::Acquire);
        self.set(|breaker, _| match breaker {
            Breaker::Open { .. } | Breaker::HalfOpen if !probes => breaker,
            _ => Breaker::Closed { failures: 0 },
        });
    }

    /// No answer that could be believed.
    pub fn silent(&self, now: Timestamp) {
        let probes = self.probes.load(Ordering::Acquire);
        self.set(|breaker, settings| match breaker {
            Breaker::Open { .. } | Breaker::HalfOpen if !probes => breaker,
            Breaker::Closed { failures } if failures + 1 < settings.failures_to_open => {
                Breaker::Closed { failures: failures + 1 }
            }
            _ => Breaker::Open { until: now.plus(settings.open_for) },
        });
    }

    /// The wallet throttles this account.
    pub fn throttled(&self, now: Timestamp, retry_in: Duration) {
        self.set(|_, settings| Breaker::Open { until: now.plus(retry_in.min(settings.open_for * 5)) });
    }

    fn set(&self, next: impl FnOnce(Breaker, &BudgetSettings) -> Breaker) {
        self.probes.store(false, Ordering::Release);
        let whole = &self.budget.whole;
        let mut breaker = whole.breaker();
        *breaker = next(*breaker, &whole.settings);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.probes.load(Ordering::Acquire) {
            *self.budget.whole.breaker() = Breaker::Open { until: Timestamp::from_ms(0) };
        }
        self.budget.own.fetch_sub(1, Ordering::AcqRel);
        self.budget.whole.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_room_is_told_at_once_and_comes_back() {
        let now = Timestamp::from_secs(1000);
        let budget = Budget::new(BudgetSettings { in_flight_max: 1, ..BudgetSettings::default() });
        let held = budget.admit(now).unwrap();
        assert!(budget.admit(now).is_err());
        assert_eq!(budget.room(8, now), Some(0));
        drop(held);
        assert_eq!(budget.room(8, now), Some(1));
        assert!(budget.admit(now).is_ok());
    }

    #[test]
    fn budgets_beside_each_other_have_shares_of_their_own_in_the_same_places() {
        let now = Timestamp::from_secs(1000);
        let settings = BudgetSettings { in_flight_max: 8, failures_to_open: 1, ..BudgetSettings::default() };
        let questions = Budget::new(settings);
        let refunds = questions.beside();
        let mut asked: Vec<_> = (0..4).map(|_| questions.admit(now).unwrap()).collect();
        assert_eq!(refunds.room(4, now), Some(4), "as many questions as a share of refunds take none of it");
        assert_eq!(questions.room(16, now), Some(3), "a place is left");
        asked.extend((0..3).map(|_| questions.admit(now).unwrap()));
        assert_eq!((questions.room(16, now), refunds.room(4, now)), (Some(0), Some(1)));
        let refund = refunds.admit(now).unwrap();
        assert!(questions.admit(now).is_err() && refunds.admit(now).is_err(), "no more than eight in all");
        drop(asked);
        assert_eq!((questions.room(16, now), refunds.room(4, now)), (Some(7), Some(3)));
        refund.silent(now);
        assert_eq!((questions.room(16, now), refunds.room(4, now)), (None, None), "one wallet is silent to both");
    }

    #[test]
    fn a_silent_wallet_opens_the_breaker_and_one_probe_closes_it() {
        let settings = BudgetSettings { failures_to_open: 3, ..BudgetSettings::default() };
        let budget = Budget::new(settings.clone());
        let now = Timestamp::from_secs(1000);
        for _ in 0..3 {
            budget.admit(now).unwrap().silent(now);
        }
        assert_eq!(budget.admit(now).unwrap_err(), NoRoom { retry_in: settings.open_for });
        assert_eq!(budget.room(8, now), None);
        let later = now.plus(settings.open_for);
        assert_eq!(budget.room(8, later), Some(1), "one that probes");
        let probe = budget.admit(later).unwrap();
        assert!(budget.admit(later).is_err(), "one probe at a time");
        assert_eq!(budget.room(8, later), None);
        probe.answered();
        assert!(budget.admit(later).is_ok());
        drop(probe);
        assert_eq!(budget.room(8, later), Some(8), "no more than its caller wants");
    }

    #[test]
    fn a_probe_that_died_does_not_close_the_account_for_ever() {
        let budget = Budget::new(BudgetSettings { failures_to_open: 1, ..BudgetSettings::default() });
        let now = Timestamp::from_secs(1000);
        budget.admit(now).unwrap().silent(now);
        let later = now.plus(Duration::from_secs(3));
        let probe = budget.admit(later).unwrap();
        assert!(budget.admit(later).is_err());
        drop(probe);
        assert!(budget.admit(later).is_ok());
    }
}
