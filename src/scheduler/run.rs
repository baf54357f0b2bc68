//! The scheduler's loops.

use std::{num::NonZeroU32, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{
    ask::ask_due,
    deliver::deliver_due,
    reconcile::match_bills,
    refresh::refresh_keys,
    refund::{decide_anomalies, refund_due},
    sweep::{close_expired, sweep},
};
use crate::steps::{Steps, deliver::Deliverer};

/// Unexpected money is looked for this often at most: seldom there, and nobody waits for it.
const ANOMALIES_EVERY: Duration = Duration::from_secs(1);

/// Bounds of a scheduler.
#[derive(Debug, Clone)]
pub struct SchedulerSettings {
    /// How often due questions are looked for.
    pub look_every: Duration,
    /// Questions in flight at once.
    pub question_concurrency: usize,
    /// Questions a second about one number's payments, over all schedulers.
    pub questions_per_s: NonZeroU32,
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
            // No wallet says how many it takes. WeChat's prepay is throttled past some 500/s of one mchid (`wallet-behaviour.md`,
            // 13); a fifth of that leaves the payers' calls theirs, and asks a sale's 10,000 silent numbers within two minutes.
            questions_per_s: NonZeroU32::new(100).unwrap_or(NonZeroU32::MIN),
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
