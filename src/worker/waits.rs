//! Notices that wait for what this process does not know of their account yet: a share for each account, and a bound for all.
//!
//! The wallet was told "received", so such a notice is not set aside at once: a key that was changed at the wallet may be entered
//! a moment later. But an account that stays unusable must not take the places in which every other account's news of payments is
//! worked on: past its share its notices are parked at once, and one of them alone waits for long.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::domain::id::AccountId;

/// How long the first waiting notice of an account waits.
const LONG: Duration = Duration::from_secs(300);
/// ... and each beside it: long enough for two reloads.
pub const SHORT: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub struct Waits {
    most: usize,
    per_account: usize,
    /// How many wait, `most` in all.
    accounts: Mutex<HashMap<AccountId, usize>>,
}

/// A place to wait in; dropping it gives it back.
#[derive(Debug)]
pub struct Wait {
    of: Arc<Waits>,
    account: AccountId,
    /// How long it may be kept.
    pub patience: Duration,
}

impl Waits {
    /// Of so many places half may wait for one account, three quarters for all.
    pub fn of_places(places: usize) -> Arc<Self> {
        let share = |quarters: usize| (places * quarters / 4).max(1);
        Arc::new(Self { most: share(3), per_account: share(2), accounts: Mutex::default() })
    }

    /// `None`: too many of this account wait already, or too many in all.
    pub fn take(self: &Arc<Self>, account: AccountId) -> Option<Wait> {
        let mut accounts = self.accounts();
        if accounts.values().sum::<usize>() >= self.most {
            return None;
        }
        let own = accounts.entry(account).or_default();
        if *own >= self.per_account {
            return None;
        }
        *own += 1;
        let patience = if *own == 1 { LONG } else { SHORT };
        Some(Wait { of: self.clone(), account, patience })
    }

    fn accounts(&self) -> std::sync::MutexGuard<'_, HashMap<AccountId, usize>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let mut accounts = self.of.accounts();
        if let Some(own) = accounts.get_mut(&self.account) {
            *own -= 1;
            if *own == 0 {
                accounts.remove(&self.account);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_has_its_share_of_the_places_and_leaves_some_to_all_others() {
        let waits = Waits::of_places(8);
        let take = |id, times: usize| (0..times).filter_map(|_| waits.take(AccountId(id))).collect::<Vec<_>>();
        let one = take(1, 9);
        assert_eq!(one.iter().map(|wait| wait.patience).collect::<Vec<_>>(), [LONG, SHORT, SHORT, SHORT]);
        let two = take(2, 9);
        assert_eq!(two.len(), 2, "six of eight in all");
        assert_eq!((take(3, 1).len(), take(1, 1).len()), (0, 0));
        drop(two);
        assert_eq!(take(3, 1).len(), 1);
        drop(one);
        assert_eq!(take(1, 9).len(), 4);
        assert!(waits.accounts().is_empty());
    }
}
