//! Who may come in: everything that is shed is told so in milliseconds, before anything was accepted.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    num::NonZeroU32,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::{
    domain::{
        id::{CustomerNo, MerchantId, OrderId},
        time::Timestamp,
    },
    queue::Health,
};

/// Bounds of one front.
#[derive(Debug, Clone)]
pub struct AdmissionSettings {
    /// Calls of phones waiting at once.
    pub in_flight_max: u32,
    /// Calls of one merchant's phones per second, and how many may come at once.
    pub merchant_per_second: NonZeroU32,
    pub merchant_burst: NonZeroU32,
    /// Calls of one merchant's own server per second, and how many may come at once.
    pub calls_per_second: NonZeroU32,
    pub calls_burst: NonZeroU32,
    /// Calls for one order per second, and how many may come at once.
    pub order_per_second: NonZeroU32,
    pub order_burst: NonZeroU32,
}

impl Default for AdmissionSettings {
    fn default() -> Self {
        let n = |n| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        Self {
            in_flight_max: 5_000,
            merchant_per_second: n(1_000),
            merchant_burst: n(2_000),
            calls_per_second: n(500),
            calls_burst: n(1_000),
            order_per_second: n(2),
            order_burst: n(10),
        }
    }
}

/// Why a call was not let in. The label of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shed {
    /// This merchant's phones, too many: 429.
    MerchantRate,
    /// This merchant's wallet has no room, as a worker told: 503 for this merchant alone.
    MerchantBusy {
        retry_after_s: u32,
    },
    /// This order, too often: 200 / 3005.
    OrderRate,
    /// The front is full: 503.
    InFlight,
    BrokerFull,
    BrokerBlocked,
    BrokerDown,
    BrokerUnroutable,
}

impl Shed {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MerchantRate => "merchant_rate",
            Self::MerchantBusy { .. } => "merchant_busy",
            Self::OrderRate => "order_rate",
            Self::InFlight => "in_flight",
            Self::BrokerFull => "broker_full",
            Self::BrokerBlocked => "broker_blocked",
            Self::BrokerDown => "broker_down",
            Self::BrokerUnroutable => "broker_unroutable",
        }
    }
}

/// The gates of one front, in the order of their cost.
#[derive(Debug)]
pub struct Admission {
    in_flight: Arc<AtomicU32>,
    in_flight_max: u32,
    merchants: DefaultKeyedRateLimiter<MerchantId>,
    orders: DefaultKeyedRateLimiter<OrderId>,
    /// What pages ask for, apart from what they pay: polling must not use up an order's tries.
    pages: DefaultKeyedRateLimiter<OrderId>,
    /// Calls of merchants' own servers.
    calls: DefaultKeyedRateLimiter<MerchantId>,
    /// Calls that name a merchant and are not signed by it, by a hash of the name: anybody may think up names without end, and
    /// which of them share a place nobody can foresee.
    unsigned: DefaultKeyedRateLimiter<u64>,
    names: RandomState,
    /// Calls of merchants' own servers that wait for a wallet's word, looking at the store again and again.
    lingering: Arc<Mutex<HashMap<MerchantId, u32>>>,
    /// Merchants whose wallet has no room, until when. One entry per enrolled merchant at most.
    busy: Mutex<HashMap<MerchantId, Timestamp>>,
}

/// A place inside; dropping it gives it back.
#[derive(Debug)]
pub struct Place(Arc<AtomicU32>);

impl Drop for Place {
    fn drop(&mut self) {
        let left = self.0.fetch_sub(1, Ordering::AcqRel) - 1;
        metrics::gauge!("prepay_waiting").set(f64::from(left));
    }
}

/// A merchant's call that waits; dropping it gives its place back.
#[derive(Debug)]
pub struct Lingering {
    merchant: MerchantId,
    all: Arc<Mutex<HashMap<MerchantId, u32>>>,
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = all.get_mut(&self.merchant) {
            *own -= 1;
            if *own == 0 {
                all.remove(&self.merchant);
            }
        }
    }
}

impl Admission {
    pub fn new(settings: &AdmissionSettings) -> Self {
        Self {
            in_flight: Arc::default(),
            in_flight_max: settings.in_flight_max,
            merchants: RateLimiter::keyed(
                Quota::per_second(settings.merchant_per_second).allow_burst(settings.merchant_burst),
            ),
            orders: RateLimiter::keyed(Quota::per_second(settings.order_per_second).allow_burst(settings.order_burst)),
            pages: RateLimiter::keyed(
                Quota::per_second(settings.order_per_second).allow_burst(settings.order_burst.saturating_mul(TWICE)),
            ),
            calls: RateLimiter::keyed(Quota::per_second(settings.calls_per_second).allow_burst(settings.calls_burst)),
            unsigned: RateLimiter::keyed(Quota::per_second(UNSIGNED_PER_SECOND).allow_burst(UNSIGNED_BURST)),
            names: RandomState::new(),
            lingering: Arc::default(),
            busy: Mutex::default(),
        }
    }

    /// Whether a merchant's call may wait for its wallet's word. Without a place it is answered at once with what is stored:
    /// one merchant's waiting calls must not take the database from everybody.
    pub fn linger(&self, merchant: MerchantId) -> Option<Lingering> {
        let mut lingering = self.lingering.lock().unwrap_or_else(PoisonError::into_inner);
        if lingering.values().sum::<u32>() >= LINGERING_MAX {
            return None;
        }
        let own = lingering.entry(merchant).or_default();
        if *own >= LINGERING_PER_MERCHANT {
            return None;
        }
        *own += 1;
        Some(Lingering { merchant, all: self.lingering.clone() })
    }

    /// Lets a page's call in, or says why not. Errors: [`Shed`].
    pub fn admit_page(&self, order: OrderId) -> Result<Place, Shed> {
        self.pages.check_key(&order).map_err(|_| Shed::OrderRate)?;
        self.take_place()
    }

    /// Whether one more call that names this merchant without its signature is told so; past that it is told to come later.
    /// Errors: [`Shed::MerchantRate`].
    pub fn admit_unsigned(&self, name: &CustomerNo) -> Result<(), Shed> {
        let place = self.names.hash_one(name.as_str()) % UNSIGNED_PLACES;
        self.unsigned.check_key(&place).map_err(|_| Shed::MerchantRate)
    }

    /// Lets a merchant's own call in, once its signature is verified. Errors: [`Shed::MerchantRate`].
    pub fn admit_call(&self, merchant: MerchantId) -> Result<(), Shed> {
        self.calls.check_key(&merchant).map_err(|_| Shed::MerchantRate)
    }

    /// Lets a call in, or says why not. Errors: [`Shed`].
    pub fn admit(&self, merchant: MerchantId, order: OrderId, health: Health, now: Timestamp) -> Result<Place, Shed> {
        self.orders.check_key(&order).map_err(|_| Shed::OrderRate)?;
        if let Some(until) = self.busy().get(&merchant).filter(|until| **until > now) {
            let retry_after_s = u32::try_from(until.since(now).as_secs() + 1).unwrap_or(1);
            return Err(Shed::MerchantBusy { retry_after_s });
        }
        self.merchants.check_key(&merchant).map_err(|_| Shed::MerchantRate)?;
        match health {
            Health::Ready => {}
            Health::Blocked => return Err(Shed::BrokerBlocked),
            Health::Down => return Err(Shed::BrokerDown),
        }
        self.take_place()
    }

    fn take_place(&self) -> Result<Place, Shed> {
        let taken = self
            .in_flight
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |held| (held < self.in_flight_max).then_some(held + 1));
        let held = taken.map_err(|_| Shed::InFlight)?;
        metrics::gauge!("prepay_waiting").set(f64::from(held + 1));
        Ok(Place(self.in_flight.clone()))
    }

    /// A worker told that this merchant's wallet has no room for so long.
    pub fn merchant_busy(&self, merchant: MerchantId, until: Timestamp) {
        self.busy().insert(merchant, until);
    }

    /// Forgets what no longer limits anybody; the maps would grow for ever otherwise. Called every few seconds.
    pub fn tidy(&self, now: Timestamp) {
        self.merchants.retain_recent();
        self.orders.retain_recent();
        self.orders.shrink_to_fit();
        self.pages.retain_recent();
        self.pages.shrink_to_fit();
        self.calls.retain_recent();
        self.unsigned.retain_recent();
        self.busy().retain(|_, until| *until > now);
    }

    fn busy(&self) -> std::sync::MutexGuard<'_, HashMap<MerchantId, Timestamp>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Each looks at the store a few times a second.
const LINGERING_MAX: u32 = 256;
const LINGERING_PER_MERCHANT: u32 = 32;

/// Enough for a merchant's developer who looks for a mistake, too few for who tries keys.
const UNSIGNED_PER_SECOND: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);
const UNSIGNED_BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(99);

const UNSIGNED_PLACES: u64 = 65_536;

const TWICE: NonZeroU32 = NonZeroU32::MIN.saturating_add(1);

/// How often [`Admission::tidy`] runs.
pub const TIDY_EVERY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> AdmissionSettings {
        let one = NonZeroU32::MIN;
        AdmissionSettings { in_flight_max: 2, order_per_second: one, order_burst: one, ..AdmissionSettings::default() }
    }

    #[test]
    fn a_full_front_sheds_and_a_freed_place_is_taken_again() {
        let (gate, now) = (Admission::new(&settings()), Timestamp::from_secs(0));
        let admit = || gate.admit(MerchantId(1), OrderId::fresh(), Health::Ready, now);
        let held = (admit().unwrap(), admit().unwrap());
        assert_eq!(admit().unwrap_err(), Shed::InFlight);
        drop(held);
        assert!(admit().is_ok());
    }

    #[test]
    fn one_orders_excess_is_its_own() {
        let (gate, now) = (Admission::new(&settings()), Timestamp::from_secs(0));
        let order = OrderId::fresh();
        drop(gate.admit(MerchantId(1), order, Health::Ready, now).unwrap());
        // One a second: a machine that stands still for a while lets one more in.
        let again = || gate.admit(MerchantId(1), order, Health::Ready, now);
        assert!((0..10).any(|_| matches!(again(), Err(Shed::OrderRate))));
        assert!(gate.admit(MerchantId(1), OrderId::fresh(), Health::Ready, now).is_ok());
    }

    #[test]
    fn calls_that_a_merchant_did_not_sign_use_up_none_of_its_own() {
        let gate = Admission::new(&AdmissionSettings { calls_burst: NonZeroU32::MIN, ..settings() });
        let name = |n: u32| CustomerNo::parse(format!("C{n}")).unwrap();
        let refused = (0..1_000).filter(|_| gate.admit_unsigned(&name(1)).is_err()).count();
        assert!(refused > 800, "{refused}");
        assert!(gate.admit_call(MerchantId(1)).is_ok());
        let others = (2..12).filter(|n| gate.admit_unsigned(&name(*n)).is_ok()).count();
        assert!(others >= 9, "names share a place by chance alone: {others}");
    }

    #[test]
    fn one_merchants_waiting_calls_leave_room_for_the_others() {
        let gate = Admission::new(&settings());
        let held: Vec<_> = (0..1_000).filter_map(|_| gate.linger(MerchantId(1))).collect();
        assert_eq!(held.len(), 32);
        assert!(gate.linger(MerchantId(2)).is_some());
        let all: Vec<_> =
            (2..100).flat_map(|id| (0..32).filter_map(|_| gate.linger(MerchantId(id))).collect::<Vec<_>>()).collect();
        assert_eq!(held.len() + all.len(), 256);
        drop((held, all));
        assert!(gate.linger(MerchantId(1)).is_some() && gate.lingering.lock().unwrap().len() <= 1);
    }

    #[test]
    fn a_busy_wallet_sheds_its_merchant_alone_and_for_its_time() {
        let (gate, now) = (Admission::new(&settings()), Timestamp::from_secs(100));
        gate.merchant_busy(MerchantId(1), now.plus(Duration::from_secs(3)));
        let admit = |merchant, now| gate.admit(merchant, OrderId::fresh(), Health::Ready, now);
        assert_eq!(admit(MerchantId(1), now).unwrap_err(), Shed::MerchantBusy { retry_after_s: 4 });
        assert!(admit(MerchantId(2), now).is_ok());
        assert!(admit(MerchantId(1), now.plus(Duration::from_secs(3))).is_ok());
    }

    #[test]
    fn a_broker_that_cannot_take_sheds_at_once() {
        let (gate, now) = (Admission::new(&settings()), Timestamp::from_secs(0));
        let admit = |health| gate.admit(MerchantId(1), OrderId::fresh(), health, now).unwrap_err();
        assert_eq!(admit(Health::Down), Shed::BrokerDown);
        assert_eq!(admit(Health::Blocked), Shed::BrokerBlocked);
    }
}
