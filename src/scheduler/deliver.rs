//! Sends merchants' events as they become due, so many at once and no more.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::SchedulerSettings;
use crate::{steps::deliver::Deliverer, store::DueEvent};

/// A look that takes long is followed by a rest as many times as long, so that a long queue is not all the database does.
const REST: u32 = 4;
const REST_MAX: Duration = Duration::from_secs(1);

/// Works until `soft`, then finishes the tries under way; `hard` gives them up, and their leases run out.
pub async fn deliver_due(
    deliverer: Deliverer,
    settings: SchedulerSettings,
    soft: CancellationToken,
    hard: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(settings.event_concurrency));
    let (tracker, done) = (TaskTracker::new(), Arc::new(Notify::new()));
    while !soft.is_cancelled() {
        let began = Instant::now();
        let sent = send_some(&deliverer, settings.event_concurrency, &places, &tracker, &done).await;
        let rest = (began.elapsed() * REST).min(REST_MAX);
        // Somebody committed an event, or a place at an endpoint is free that others may wait for.
        let woken = async {
            tokio::time::sleep(if sent { Duration::ZERO } else { rest.min(Duration::from_millis(20)) }).await;
            tokio::select! {
                () = deliverer.store.event_written() => {}
                () = done.notified() => {}
                () = tokio::time::sleep(settings.events_every.max(rest)) => {}
            }
        };
        if soft.run_until_cancelled(woken).await.is_none() {
            break;
        }
    }
    tracker.close();
    tokio::select! {
        () = tracker.wait() => {}
        () = hard.cancelled() => {}
    }
}

/// Leases as many events as there is room for, and sends them. Answers whether there were any.
async fn send_some(
    deliverer: &Deliverer,
    most: usize,
    places: &Arc<Semaphore>,
    tracker: &TaskTracker,
    done: &Arc<Notify>,
) -> bool {
    // Room first, then lease: what is leased is sent at once, not queued until its lease is over.
    let Ok(first) = places.clone().acquire_owned().await else { return false };
    let mut room = vec![first];
    while room.len() < most {
        match places.clone().try_acquire_owned() {
            Ok(place) => room.push(place),
            Err(_) => break,
        }
    }
    let found = async {
        let mut due = deliverer.lease_probes(room.len()).await?;
        due.extend(deliverer.lease(room.len() - due.len()).await?);
        Ok::<_, crate::store::StoreError>(due)
    };
    match found.await {
        Ok(due) => {
            let sent = !due.is_empty();
            for (event, place) in due.into_iter().zip(room) {
                send(deliverer.clone(), event, place, tracker, done.clone());
            }
            sent
        }
        Err(error) => {
            tracing::warn!(%error, "due events cannot be looked for");
            false
        }
    }
}

fn send(deliverer: Deliverer, event: DueEvent, place: OwnedSemaphorePermit, tracker: &TaskTracker, done: Arc<Notify>) {
    tracker.spawn(async move {
        deliverer.deliver(event).await;
        drop(place);
        done.notify_one();
    });
}
