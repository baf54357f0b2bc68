//! The scheduler's loops.

use std::{sync::Arc, time::Duration};

use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    deliver::deliver_due,
    reconcile::match_bills,
    refresh::refresh_keys,
    refund::{decide_anomalies, refund_due},
    sweep::{close_expired, sweep},
};
use crate::{
    steps::{Steps, deliver::Deliverer},
    store::LeaseToken,
};

/// Unexpected money is looked for this often at most: seldom there, and nobody waits for it.
const ANOMALIES_EVERY: Duration = Duration::from_secs(1);

/// Bounds of a scheduler.
#[derive(Debug, Clone)]
pub struct SchedulerSettings {
    /// How often due questions are looked for.
    pub look_every: Duration,
    /// Questions in flight at once.
    pub question_concurrency: usize,
    /// Refunds in flight at once.
    pub refund_concurrency: usize,
    /// How long a leased question or refund belongs to this replica: longer than a wallet call can take.
    pub question_lease: Duration,
    /// How often keys are looked after, and outcomes and nonces swept.
    pub keys_every: Duration,
    pub sweep_every: Duration,
    /// How often expired orders are looked for.
    pub expiries_every: Duration,
    /// How often due events are looked for when nobody says that there are any, and how many are under way at once.
    pub events_every: Duration,
    pub event_concurrency: usize,
    /// How long an outcome is kept for a front that missed its reply.
    pub outcomes_kept: Duration,
    /// How often due bills are looked for.
    pub bills_every: Duration,
    /// How long after the end of a day, in China, its bills are due.
    pub bills_after: Duration,
}

impl Default for SchedulerSettings {
    fn default() -> Self {
        Self {
            look_every: Duration::from_millis(500),
            question_concurrency: 32,
            refund_concurrency: 8,
            question_lease: Duration::from_secs(30),
            keys_every: Duration::from_secs(30),
            sweep_every: Duration::from_secs(60),
            expiries_every: Duration::from_secs(10),
            events_every: Duration::from_millis(100),
            event_concurrency: 128,
            outcomes_kept: Duration::from_secs(3600),
            bills_every: Duration::from_secs(60),
            bills_after: Duration::from_secs(10 * 3600 + 1800),
        }
    }
}

/// Works until `soft` is cancelled, then finishes the questions under way; `hard` gives them up, their leases run out.
pub async fn run(
    steps: Steps,
    deliverer: Deliverer,
    settings: SchedulerSettings,
    soft: CancellationToken,
    hard: CancellationToken,
) {
    let questions = ask_due(steps.clone(), settings.clone(), soft.clone(), hard.clone());
    let refunds = refund_due(steps.clone(), settings.clone(), soft.clone(), hard.clone());
    let anomalies = every(settings.look_every.max(ANOMALIES_EVERY), &soft, || decide_anomalies(&steps));
    let events = deliver_due(deliverer.clone(), settings.clone(), soft.clone(), hard.clone());
    let endpoints = every(Deliverer::TENDED_EVERY, &soft, || deliverer.tend_endpoints());
    let keys = every(settings.keys_every, &soft, || refresh_keys(&steps));
    let sweeps = every(settings.sweep_every, &soft, || async {
        sweep(&steps, settings.outcomes_kept).await;
        deliverer.give_up_overdue().await;
    });
    let expiries = every(settings.expiries_every, &soft, || close_expired(&steps));
    let bills = match_bills(steps.clone(), settings.clone(), soft.clone());
    let all = async { tokio::join!(questions, refunds, anomalies, events, endpoints, keys, sweeps, expiries, bills) };
    tokio::select! {
        _ = all => {}
        () = hard.cancelled() => {}
    }
}

/// Runs `work` again and again, a gap in between, until `soft`.
async fn every<F: Future<Output = ()>>(gap: Duration, soft: &CancellationToken, work: impl Fn() -> F) {
    loop {
        work().await;
        if soft.run_until_cancelled(tokio::time::sleep(gap)).await.is_none() {
            return;
        }
    }
}

async fn ask_due(steps: Steps, settings: SchedulerSettings, soft: CancellationToken, hard: CancellationToken) {
    let places = Arc::new(Semaphore::new(settings.question_concurrency));
    let tracker = TaskTracker::new();
    while !soft.is_cancelled() {
        let more = ask_some(&steps, &settings, &places, &tracker).await;
        // All the room was used: more may be due, and are looked for as soon as there is room.
        if !more && soft.run_until_cancelled(tokio::time::sleep(settings.look_every)).await.is_none() {
            break;
        }
    }
    tracker.close();
    tokio::select! {
        () = tracker.wait() => {}
        () = hard.cancelled() => {}
    }
}

/// Leases as many due questions as there is room for, and asks them. Answers whether all the room was used.
async fn ask_some(steps: &Steps, settings: &SchedulerSettings, places: &Arc<Semaphore>, tracker: &TaskTracker) -> bool {
    // Room first, then lease: what is leased is asked at once, not queued until its lease is over.
    let Ok(first) = places.clone().acquire_owned().await else { return false };
    let mut room = vec![first];
    while room.len() < settings.question_concurrency {
        match places.clone().try_acquire_owned() {
            Ok(place) => room.push(place),
            Err(_) => break,
        }
    }
    let limit = u64::try_from(room.len()).unwrap_or(1);
    let due = match steps
        .store
        .lease_due_queries(steps.clock.now(), settings.question_lease, limit, LeaseToken::fresh())
        .await
    {
        Ok(due) => due,
        Err(error) => {
            tracing::warn!(%error, "due questions cannot be looked for");
            return false;
        }
    };
    let all_used = due.len() == room.len();
    for ((order, attempt), place) in due.into_iter().zip(room) {
        let steps = steps.clone();
        tracker.spawn(async move {
            if let Err(error) = steps.question(order, attempt).await {
                tracing::warn!(order.id = %order, %error, "a question was not asked; its lease runs out and it is asked again");
            }
            drop(place);
        });
    }
    all_used
}
