//! What is due at wallets: leased by turns as far as there are places, and worked on at once. Questions and refunds go this way.

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::SchedulerSettings;
use crate::{
    domain::wallet::Wallet,
    steps::{
        Steps,
        turns::{LeaseTerms, Turns},
    },
    store::{Leased, StoreError},
};

/// How soon is looked again for what an account had no room for, or its number's pace none: well within the pace's burst.
const HELD_FOR: Duration = Duration::from_millis(50);

/// One kind of work.
pub(super) trait Lane: Send + Sync + 'static {
    /// What names one piece of it.
    type Due: Send + 'static;

    /// Leases what may be worked on now.
    fn lease(
        &self,
        steps: &Steps,
        turns: &mut Turns,
        terms: LeaseTerms,
    ) -> impl Future<Output = Result<Leased<Self::Due>, StoreError>> + Send;

    /// Works on one. What goes wrong is told in the log, and its lease runs out.
    fn work(steps: Steps, due: Self::Due) -> impl Future<Output = ()> + Send + 'static;
}

/// Looks for what is due until `soft`, then finishes what is under way; `hard` gives it up, its leases run out.
pub(super) async fn run_lane<L: Lane>(
    lane: L,
    concurrency: usize,
    steps: Steps,
    settings: SchedulerSettings,
    soft: CancellationToken,
    hard: CancellationToken,
) {
    let places = Places::new(concurrency);
    let (tracker, mut turns) = (TaskTracker::new(), Turns::default());
    while !soft.is_cancelled() {
        let next = work_on_some(&lane, &steps, &settings, &places, &tracker, &mut turns).await;
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

/// Leases as much as there are places for, and works on it.
async fn work_on_some<L: Lane>(
    lane: &L,
    steps: &Steps,
    settings: &SchedulerSettings,
    places: &Places,
    tracker: &TaskTracker,
    turns: &mut Turns,
) -> Next {
    // Room first, then lease: what is leased is worked on at once, not queued until its lease is over.
    let Some(room) = places.room().await else { return Next::Later };
    let terms = places.terms(room.len(), settings.question_lease);
    let leased = match lane.lease(steps, turns, terms).await {
        Ok(leased) => leased,
        Err(error) => {
            tracing::warn!(%error, "what is due cannot be looked for");
            return Next::Later;
        }
    };
    let next = Next::after(leased.taken.len(), room.len(), leased.held);
    for ((account, due), place) in leased.taken.into_iter().zip(room) {
        // An account that is gone from here meanwhile is not called.
        let wallet = steps.registry.channel(account).map(|channel| channel.account.wallet);
        let at_wallet = wallet.and_then(|wallet| places.take(wallet));
        let work = L::work(steps.clone(), due);
        tracker.spawn(async move {
            work.await;
            drop((at_wallet, place));
        });
    }
    next
}

/// Where work is done.
struct Places {
    count: usize,
    all: Arc<Semaphore>,
    /// Taken beside a place by work at a wallet, in the order of [`Wallet::ALL`].
    at_wallets: [Arc<Semaphore>; Wallet::ALL.len()],
}

impl Places {
    /// One wallet has three quarters of them at most: one that hangs, however many accounts it has, leaves the other room.
    fn new(count: usize) -> Self {
        let of_one = (count * 3 / 4).max(1);
        Self {
            count,
            all: Arc::new(Semaphore::new(count)),
            at_wallets: Wallet::ALL.map(|_| Arc::new(Semaphore::new(of_one))),
        }
    }

    /// All that are free, at least one; `None`: never.
    async fn room(&self) -> Option<Vec<OwnedSemaphorePermit>> {
        let mut room = vec![self.all.clone().acquire_owned().await.ok()?];
        room.extend(std::iter::from_fn(|| self.all.clone().try_acquire_owned().ok()));
        Some(room)
    }

    /// One account has half of all places at most: one that hangs leaves the others of its wallet room.
    fn terms(&self, limit: usize, lease_for: Duration) -> LeaseTerms {
        LeaseTerms {
            limit,
            wallet_rooms: self.at_wallets.each_ref().map(|places| at_most(places.available_permits())),
            per_account: at_most((self.count / 2).max(1)),
            lease_for,
        }
    }

    /// Never `None` for what was leased by these terms: nobody else takes any.
    fn take(&self, wallet: Wallet) -> Option<OwnedSemaphorePermit> {
        self.at_wallets[wallet as usize].clone().try_acquire_owned().ok()
    }
}

fn at_most(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// When is looked again.
enum Next {
    /// All the room was used: more may be due, and is looked for as soon as there is room.
    AtOnce,
    /// More is due that may be taken soon.
    Soon,
    Later,
}

impl Next {
    fn after(taken: usize, room: usize, held: bool) -> Self {
        match held {
            _ if taken == room => Self::AtOnce,
            true => Self::Soon,
            false => Self::Later,
        }
    }

    /// Waits for it. False: `soft` came first.
    async fn wait(self, settings: &SchedulerSettings, soft: &CancellationToken) -> bool {
        let gap = match self {
            Self::AtOnce => return !soft.is_cancelled(),
            Self::Soon => settings.look_every.min(HELD_FOR),
            Self::Later => settings.look_every,
        };
        soft.run_until_cancelled(tokio::time::sleep(gap)).await.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wallet_that_hangs_leaves_the_other_places() {
        let lease_for = Duration::from_secs(30);
        for (count, of_one) in [(1, 1), (2, 1), (3, 2), (4, 3), (8, 6), (32, 24)] {
            let places = Places::new(count);
            assert_eq!(places.terms(count, lease_for).wallet_rooms, [of_one, of_one]);
            let held: Vec<_> = std::iter::from_fn(|| places.take(Wallet::WechatPay)).collect();
            assert_eq!(held.len(), usize::try_from(of_one).unwrap());
            assert_eq!(places.terms(count, lease_for).wallet_rooms, [0, of_one]);
            drop(held);
            assert_eq!(places.terms(count, lease_for).wallet_rooms, [of_one, of_one], "answered");
        }
    }

    #[test]
    fn each_wallets_places_are_found_by_its_number() {
        assert!(Wallet::ALL.into_iter().enumerate().all(|(at, wallet)| wallet as usize == at));
    }
}
