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

/// One part of so many of the places is what tries of paused endpoints may take, at least one: most of them end in a timeout.
const PROBES_PART: usize = 4;

/// Where tries are made.
struct Places {
    all: Arc<Semaphore>,
    /// Taken beside a place by a try of a paused endpoint.
    probes: Arc<Semaphore>,
}

impl Places {
    fn new(count: usize) -> Self {
        let probes = Ord::max(count / PROBES_PART, 1);
        Self { all: Arc::new(Semaphore::new(count)), probes: Arc::new(Semaphore::new(probes)) }
    }
}

/// Works until `soft`, then finishes the tries under way; `hard` gives them up, and their leases run out.
pub async fn deliver_due(
    deliverer: Deliverer,
    settings: SchedulerSettings,
    soft: CancellationToken,
    hard: CancellationToken,
) {
    let places = Places::new(settings.event_concurrency);
    let (tracker, done) = (TaskTracker::new(), Arc::new(Notify::new()));
    while !soft.is_cancelled() {
        let began = Instant::now();
        let sent = send_some(&deliverer, &places, &tracker, &done).await;
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
async fn send_some(deliverer: &Deliverer, places: &Places, tracker: &TaskTracker, done: &Arc<Notify>) -> bool {
    // Room first, then lease: what is leased is sent at once, not queued until its lease is over.
    let Ok(first) = places.all.clone().acquire_owned().await else { return false };
    let mut room = vec![first];
    room.extend(free(&places.all));
    let mut for_probes = free(&places.probes);
    for_probes.truncate(Ord::max(room.len() / PROBES_PART, 1));
    let found = async {
        let probes = deliverer.lease_probes(for_probes.len()).await?;
        let due = deliverer.lease(room.len() - probes.len()).await?;
        Ok::<_, crate::store::StoreError>((probes, due))
    };
    match found.await {
        Ok((probes, due)) => {
            let sent = !(probes.is_empty() && due.is_empty());
            let mut room = room.into_iter();
            for ((event, place), of_probes) in probes.into_iter().zip(room.by_ref()).zip(for_probes) {
                send(deliverer.clone(), event, (place, Some(of_probes)), tracker, done.clone());
            }
            for (event, place) in due.into_iter().zip(room) {
                send(deliverer.clone(), event, (place, None), tracker, done.clone());
            }
            sent
        }
        Err(error) => {
            tracing::warn!(%error, "due events cannot be looked for");
            false
        }
    }
}

/// All that are free now.
fn free(places: &Arc<Semaphore>) -> Vec<OwnedSemaphorePermit> {
    std::iter::from_fn(|| places.clone().try_acquire_owned().ok()).collect()
}

fn send(
    deliverer: Deliverer,
    event: DueEvent,
    place: (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>),
    tracker: &TaskTracker,
    done: Arc<Notify>,
) {
    tracker.spawn(async move {
        deliverer.deliver(event).await;
        drop(place);
        done.notify_one();
    });
}
