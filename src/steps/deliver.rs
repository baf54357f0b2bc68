//! Telling a merchant: one try of one event, and what becomes of the event and of its endpoint.

use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{
    Steps,
    registry::{Addressee, Registry},
};
use crate::{
    clock::Clock,
    domain::{
        event::{GIVEN_UP_AFTER, deliver_again_in, sent_body},
        id::MerchantId,
        time::Timestamp,
    },
    keys::mac::sha256,
    store::{DeliveryCaps, DueEvent, EndpointId, PauseRule, Store, StoreError, Tried, TryEnd},
    webhook::{Delivery, Tells, Told, Trouble},
};

/// Bounds of deliveries.
#[derive(Debug, Clone)]
pub struct DeliverySettings {
    pub caps: DeliveryCaps,
    pub pause: PauseRule,
    /// How long an event belongs to who sends it: longer than a try and its writing down can take. None begins
    /// that may outlast it.
    pub lease: Duration,
    /// The schedule of tries is run through so many times as fast: for tests.
    pub speed_up: NonZeroU32,
}

impl Default for DeliverySettings {
    fn default() -> Self {
        Self {
            caps: DeliveryCaps { per_endpoint: 8, per_merchant: 32 },
            pause: PauseRule { after_failures: 10, first: Duration::from_secs(15), most: Duration::from_secs(600) },
            lease: Duration::from_secs(10),
            speed_up: NonZeroU32::MIN,
        }
    }
}

/// Rows that one statement moves.
const ROWS_AT_ONCE: u64 = 1_000;

/// Sends events. Cheap to clone.
#[derive(Clone)]
pub struct Deliverer {
    pub store: Store,
    registry: Registry,
    clock: Clock,
    client: Arc<dyn Tells>,
    settings: DeliverySettings,
    /// The last endpoint that held events were let out for: the next look goes on from there.
    let_out_to: Arc<Mutex<Option<EndpointId>>>,
}

impl Deliverer {
    /// How often what is due for paused endpoints is put aside, and what may go out again is.
    pub const TENDED_EVERY: Duration = Duration::from_secs(1);

    pub fn new(steps: &Steps, client: impl Tells + 'static, settings: DeliverySettings) -> Self {
        let Steps { store, registry, clock, .. } = steps.clone();
        Self { store, registry, clock, client: Arc::new(client), settings, let_out_to: Arc::default() }
    }

    /// Takes events that are to be sent now, at most `limit`; each must be [delivered](Self::deliver) at once.
    ///
    /// Errors: [`StoreError`]; nothing is lost, the leases run out.
    pub async fn lease(&self, limit: usize) -> Result<Vec<DueEvent>, StoreError> {
        let (now, limit) = (self.clock.now(), u64::try_from(limit).unwrap_or(u64::MAX));
        self.store.lease_due_events(now, self.settings.lease, limit, self.settings.caps).await
    }

    /// Takes the events that try paused endpoints again.
    ///
    /// Errors: as [`Deliverer::lease`].
    pub async fn lease_probes(&self, limit: usize) -> Result<Vec<DueEvent>, StoreError> {
        let (now, limit) = (self.clock.now(), u64::try_from(limit).unwrap_or(u64::MAX));
        self.store.lease_probes(now, self.settings.lease, limit, self.settings.caps.probes_per_merchant()).await
    }

    /// One try. What cannot be written down is sent again when its lease is over: a merchant hears of everything at least
    /// once, and knows a repeat by its `webhook-id`.
    ///
    /// None is made that may outlast the event's lease: somebody else may send it, or what comes after it, by then.
    pub async fn deliver(&self, event: DueEvent) {
        let addressee = self.addressee(event.merchant).await;
        let began = self.clock.now();
        if began.plus(self.client.timeout()) > event.lease_until {
            return tracing::warn!(notify_id = %event.id, "an event's lease was almost over before it could be sent; it is leased again");
        }
        metrics::histogram!("prepay_event_late_seconds").record(began.since(event.due_at));
        let told = self.tell(&event, addressee.as_deref(), began).await;
        let now = self.clock.now();
        let written = match told {
            Told::Accepted { status } => {
                metrics::counter!("prepay_events_total", "outcome" => "delivered").increment(1);
                metrics::histogram!("prepay_event_seconds").record(now.since(event.created_at));
                self.accepted(&event, status, now).await
            }
            Told::Not { trouble: Trouble::Crowded, .. } => self.not_made(&event, now).await,
            Told::Not { trouble, status, retry_after } => {
                self.not_accepted(&event, trouble, status, retry_after, now).await
            }
        };
        if let Err(error) = written {
            tracing::warn!(notify_id = %event.id, %error, "what became of an event is not written down; it is sent again");
        }
    }

    async fn tell(&self, event: &DueEvent, addressee: Option<&Addressee>, now: Timestamp) -> Told {
        let Some((addressee, signer)) = addressee.and_then(|to| Some((to, to.signer.as_ref()?))) else {
            return Told::Not { trouble: Trouble::NoSecret, status: None, retry_after: None };
        };
        let body = sent_body(event.id, event.kind, event.sequence, &addressee.customer_no, &event.facts);
        let (id, timestamp) = (event.id.to_string(), now.secs());
        let signature = signer.sign(&id, timestamp, &body);
        let (merchant, url) = (event.merchant, event.url.as_str());
        self.client.tell(Delivery { merchant, url, id: &id, timestamp, signature: &signature, body: &body }).await
    }

    /// A merchant or a secret that this process does not know yet is looked for once.
    async fn addressee(&self, merchant: MerchantId) -> Option<Arc<Addressee>> {
        let known = self.registry.addressee(merchant);
        if known.as_ref().is_some_and(|to| to.signer.is_some()) {
            return known;
        }
        if let Err(error) = self.registry.reload().await {
            tracing::warn!(%error, "merchants' secrets cannot be read");
        }
        self.registry.addressee(merchant)
    }

    async fn accepted(&self, event: &DueEvent, status: u16, now: Timestamp) -> Result<(), StoreError> {
        let tried = Tried { status: Some(status), end: TryEnd::Accepted };
        self.store.record_try(event, tried, now).await?;
        self.store.endpoint_answered(&event.endpoint, now).await
    }

    /// There was no room here to look its name up. That counts as no try, and says nothing about the merchant's server.
    async fn not_made(&self, event: &DueEvent, now: Timestamp) -> Result<(), StoreError> {
        const AGAIN_IN: Duration = Duration::from_secs(3);
        metrics::counter!("prepay_events_total", "outcome" => "crowded").increment(1);
        tracing::info!(notify_id = %event.id, "too many merchants' names are looked up; an event waits");
        let tried = Tried { status: None, end: TryEnd::NotMade { again_at: now.plus(AGAIN_IN) } };
        self.store.record_try(event, tried, now).await
    }

    async fn not_accepted(
        &self,
        event: &DueEvent,
        trouble: Trouble,
        status: Option<u16>,
        retry_after: Option<Duration>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let again_at = next_try(event.tries, share(event), retry_after, self.settings.speed_up, now);
        let outcome = if again_at.is_some() { "failed" } else { "parked" };
        metrics::counter!("prepay_events_total", "outcome" => outcome).increment(1);
        let trouble_name = trouble.as_str();
        if again_at.is_some() {
            tracing::info!(notify_id = %event.id, order.id = %event.order, trouble = trouble_name, status, "an event was not accepted");
        } else {
            tracing::error!(notify_id = %event.id, order.id = %event.order, trouble = trouble_name, status, "an event is parked: `prepay event resend` sends it again");
        }
        let tried = Tried { status, end: TryEnd::Not { trouble: trouble_name, again_at } };
        self.store.record_try(event, tried, now).await?;
        // A secret that we lack says nothing about the merchant's server.
        if trouble != Trouble::NoSecret && self.store.endpoint_failed(event, self.settings.pause, now).await? {
            tracing::warn!(merchant = %event.merchant, "a merchant's endpoint is paused; one event at a time tries it again");
        }
        Ok(())
    }

    /// Puts aside what is due for paused endpoints, and lets out what waits for one that answers again. Each by itself: what goes
    /// wrong with the one does not keep the other from being done.
    pub async fn tend_endpoints(&self) {
        let now = self.clock.now();
        for tended in [self.put_aside(now).await, self.let_out(now).await, self.tell_ages(now).await] {
            if let Err(error) = tended {
                tracing::warn!(%error, "merchants' endpoints cannot be looked after");
            }
        }
    }

    async fn put_aside(&self, now: Timestamp) -> Result<(), StoreError> {
        while self.store.hold_paused_events(now, ROWS_AT_ONCE).await? == ROWS_AT_ONCE {}
        self.store.hold_excess_events(now, ROWS_AT_ONCE, ROWS_AT_ONCE).await.map(drop)
    }

    async fn let_out(&self, now: Timestamp) -> Result<(), StoreError> {
        let after = self.let_out_to();
        let (released, to) = self.store.release_held_events(now, ROWS_AT_ONCE / 2, after.as_ref()).await?;
        *self.let_out_to.lock().unwrap_or_else(PoisonError::into_inner) = to;
        if released > 0 {
            self.store.wake_senders();
        }
        Ok(())
    }

    async fn tell_ages(&self, now: Timestamp) -> Result<(), StoreError> {
        let age = |oldest: Option<Timestamp>| {
            let age = oldest.map_or(Duration::ZERO, |due_at| now.since(due_at));
            u32::try_from(age.as_secs()).unwrap_or(u32::MAX)
        };
        metrics::gauge!("prepay_event_due_age_seconds").set(age(self.store.oldest_due_event(now).await?));
        metrics::gauge!("prepay_event_held_age_seconds").set(age(self.store.oldest_held_event().await?));
        Ok(())
    }

    fn let_out_to(&self) -> Option<EndpointId> {
        self.let_out_to.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Parks what waits for a paused endpoint longer than its schedule lasts.
    pub async fn give_up_overdue(&self) {
        let now = self.clock.now();
        let overdue = now.minus(GIVEN_UP_AFTER / self.settings.speed_up.get());
        loop {
            match self.store.park_overdue_events(overdue, now, ROWS_AT_ONCE).await {
                Ok(0) => return,
                Ok(parked) => {
                    metrics::counter!("prepay_events_total", "outcome" => "parked").increment(parked);
                    tracing::error!(parked, "events are parked whose endpoints did not answer for a day");
                }
                Err(error) => return tracing::warn!(%error, "overdue events cannot be looked for"),
            }
        }
    }
}

/// When an event is tried again after a try beside `tries` others: by the timetable, up to a tenth later by its `share` so that a
/// crowd that failed together comes back apart, and not before the merchant asked, within an hour.
fn next_try(
    tries: u32,
    share: u64,
    retry_after: Option<Duration>,
    speed_up: NonZeroU32,
    now: Timestamp,
) -> Option<Timestamp> {
    const ASKED_MAX: Duration = Duration::from_secs(3600);
    let gap = deliver_again_in(tries.saturating_add(1))? / speed_up.get();
    let most = u64::try_from(gap.as_millis() / 10).unwrap_or(0);
    let jittered = gap + Duration::from_millis(share % (most + 1));
    let asked = retry_after.unwrap_or_default().min(ASKED_MAX) / speed_up.get();
    Some(now.plus(jittered.max(asked)))
}

/// Anything, another for each event and try, the same for the same one: a simulation tells the same again.
fn share(event: &DueEvent) -> u64 {
    let hash = sha256(format!("{} {} {}", event.order, event.sequence, event.tries).as_bytes());
    hash.iter().take(8).fold(0, |share, byte| share << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_try_is_followed_by_the_next_of_twelve() {
        let now = Timestamp::from_secs(1_800_000_000);
        let next = |tries, share, asked_s: u64, speed_up| {
            let asked = Some(Duration::from_secs(asked_s)).filter(|asked| !asked.is_zero());
            next_try(tries, share, asked, NonZeroU32::new(speed_up).unwrap(), now).map(|at| at.since(now).as_millis())
        };
        // After the first try and the last but one, and none after the twelfth.
        assert_eq!([0, 10, 11].map(|tries| next(tries, 0, 0, 1)), [Some(15_000), Some(43_200_000), None]);
        // A tenth later at most, whatever the event.
        assert_eq!([1_500, 1_501, 777].map(|share| next(0, share, 0, 1)), [16_500, 15_000, 15_777].map(Some));
        assert!((0..11).all(|tries| next(tries, u64::MAX, 0, 1).unwrap() <= next(tries, 0, 0, 1).unwrap() * 11 / 10));
        // What the merchant asked for, within an hour; less than the timetable's gap changes nothing.
        assert_eq!([1, 40, 7_200].map(|asked| next(0, 0, asked, 1)), [15_000, 40_000, 3_600_000].map(Some));
        assert_eq!(next(0, 0, 7_200, 1_000), Some(3_600), "a test's speed is that of both");
    }
}
