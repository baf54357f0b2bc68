//! Refunds whose time has come, and unexpected money that waits for its merchant's policy.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    SchedulerSettings,
    ask::{Next, room, terms},
};
use crate::steps::{Steps, turns::Turns};

/// So many anomalies are decided on at one look.
const ANOMALIES_AT_ONCE: u64 = 100;

/// Looks for due refunds until `soft`, then finishes those under way; `hard` gives them up, their leases run out.
pub async fn refund_due(steps: Steps, settings: SchedulerSettings, soft: CancellationToken, hard: CancellationToken) {
    let places = Arc::new(Semaphore::new(settings.refund_concurrency));
    let (tracker, mut turns) = (TaskTracker::new(), Turns::default());
    while !soft.is_cancelled() {
        let next = refund_some(&steps, &settings, &places, &tracker, &mut turns).await;
        if !next.wait(&settings, &soft).await {
            break;
        }
    }
    tracker.close();
    tokio::select! {
        () = tracker.wait() => {}
        () = hard.cancelled() => {}
    }
}

/// Leases as many due refunds as there is room for, and works on them.
async fn refund_some(
    steps: &Steps,
    settings: &SchedulerSettings,
    places: &Arc<Semaphore>,
    tracker: &TaskTracker,
    turns: &mut Turns,
) -> Next {
    // Room first, then lease: what is leased is worked on at once.
    let Some(room) = room(places, settings.refund_concurrency).await else { return Next::Later };
    let terms = terms(room.len(), settings.refund_concurrency, settings);
    let due = match steps.lease_refunds(turns, terms).await {
        Ok(due) => due,
        Err(error) => {
            tracing::warn!(%error, "due refunds cannot be looked for");
            return Next::Later;
        }
    };
    let next = Next::after(due.taken.len(), room.len(), due.held);
    for ((_, refund), place) in due.taken.into_iter().zip(room) {
        let steps = steps.clone();
        tracker.spawn(async move {
            if let Err(error) = steps.refund(refund).await {
                tracing::warn!(refund.id = %refund, %error, "a refund was not worked on; its lease runs out and it is looked at again");
            }
            drop(place);
        });
    }
    next
}

/// Puts late and second money to its merchants' policies. Replicas may do it beside each other: a refund by policy has one number.
///
/// What stays due, because others' refunds of it are under way, does not keep later money waiting.
pub async fn decide_anomalies(steps: &Steps) {
    let mut after = 0;
    loop {
        let due = match steps.store.due_anomalies(after, ANOMALIES_AT_ONCE).await {
            Ok(due) => due,
            Err(error) => return tracing::warn!(%error, "unexpected money cannot be looked for"),
        };
        let Some(last) = due.last() else { return };
        after = last.id;
        for anomaly in due {
            if let Err(error) = steps.decide_anomaly(&anomaly).await {
                tracing::warn!(order.id = %anomaly.order, %error, "unexpected money was not decided on; it stays due");
            }
        }
    }
}
