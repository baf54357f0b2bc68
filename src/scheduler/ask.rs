//! Asks wallets about numbers as the questions become due, fairly over accounts and within each number's pace.

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::SchedulerSettings;
use crate::{
    steps::{
        Steps,
        turns::{LeaseTerms, Turns},
    },
    store::Pace,
};

/// How soon is looked again for what an account had no room for, or its number's pace none: well within the pace's burst.
const HELD_FOR: Duration = Duration::from_millis(50);

/// When is looked again.
pub(super) enum Next {
    /// All the room was used: more may be due, and is looked for as soon as there is room.
    AtOnce,
    /// More is due that may be taken soon.
    Soon,
    Later,
}

impl Next {
    pub(super) fn after(taken: usize, room: usize, held: bool) -> Self {
        match held {
            _ if taken == room => Self::AtOnce,
            true => Self::Soon,
            false => Self::Later,
        }
    }

    /// Waits for it. False: `soft` came first.
    pub(super) async fn wait(self, settings: &SchedulerSettings, soft: &CancellationToken) -> bool {
        let gap = match self {
            Self::AtOnce => return !soft.is_cancelled(),
            Self::Soon => settings.look_every.min(HELD_FOR),
            Self::Later => settings.look_every,
        };
        soft.run_until_cancelled(tokio::time::sleep(gap)).await.is_some()
    }
}

/// Looks for due questions until `soft`, then finishes those under way; `hard` gives them up, their leases run out.
pub async fn ask_due(steps: Steps, settings: SchedulerSettings, soft: CancellationToken, hard: CancellationToken) {
    let places = Arc::new(Semaphore::new(settings.question_concurrency));
    let (tracker, mut turns) = (TaskTracker::new(), Turns::default());
    while !soft.is_cancelled() {
        let next = ask_some(&steps, &settings, &places, &tracker, &mut turns).await;
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

/// Leases as many due questions as there is room for, and asks them.
async fn ask_some(
    steps: &Steps,
    settings: &SchedulerSettings,
    places: &Arc<Semaphore>,
    tracker: &TaskTracker,
    turns: &mut Turns,
) -> Next {
    // Room first, then lease: what is leased is asked at once, not queued until its lease is over.
    let Some(room) = room(places, settings.question_concurrency).await else { return Next::Later };
    let terms = terms(room.len(), settings.question_concurrency, settings);
    let pace = Pace { per_second: settings.questions_per_s };
    let due = match steps.lease_questions(turns, terms, pace).await {
        Ok(due) => due,
        Err(error) => {
            tracing::warn!(%error, "due questions cannot be looked for");
            return Next::Later;
        }
    };
    let next = Next::after(due.taken.len(), room.len(), due.held);
    for ((_, (order, attempt)), place) in due.taken.into_iter().zip(room) {
        let steps = steps.clone();
        tracker.spawn(async move {
            if let Err(error) = steps.question(order, attempt).await {
                tracing::warn!(order.id = %order, %error, "a question was not asked; its lease runs out and it is asked again");
            }
            drop(place);
        });
    }
    next
}

/// All places that are free, at least one; `None`: never.
pub(super) async fn room(places: &Arc<Semaphore>, most: usize) -> Option<Vec<OwnedSemaphorePermit>> {
    let mut room = vec![places.clone().acquire_owned().await.ok()?];
    while room.len() < most {
        match places.clone().try_acquire_owned() {
            Ok(place) => room.push(place),
            Err(_) => break,
        }
    }
    Some(room)
}

/// One account takes half of all places at most: a wallet that hangs leaves the others room.
pub(super) fn terms(limit: usize, places: usize, settings: &SchedulerSettings) -> LeaseTerms {
    let per_account = u32::try_from((places / 2).max(1)).unwrap_or(u32::MAX);
    LeaseTerms { limit, per_account, lease_for: settings.question_lease }
}
