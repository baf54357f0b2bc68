//! Notices that wait for what this process does not know of their account yet: one of each account, and a few in all.
//!
//! The wallet was told "received", so such a notice is not set aside at once: a key may be entered in the next minutes. But an account
//! that stays unusable must not take the places in which every other account's news of payments is worked on.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use crate::domain::id::AccountId;

#[derive(Debug)]
pub struct Waits {
    most: usize,
    /// At most `most`.
    accounts: Mutex<HashSet<AccountId>>,
}

/// A place to wait in; dropping it gives it back.
#[derive(Debug)]
pub struct Wait {
    of: Arc<Waits>,
    account: AccountId,
}

impl Waits {
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, accounts: Mutex::default() })
    }

    /// `None`: a notice of this account waits already, or too many do.
    pub fn take(self: &Arc<Self>, account: AccountId) -> Option<Wait> {
        let mut accounts = self.accounts();
        let taken = accounts.len() < self.most && accounts.insert(account);
        taken.then(|| Wait { of: self.clone(), account })
    }

    fn accounts(&self) -> std::sync::MutexGuard<'_, HashSet<AccountId>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.of.accounts().remove(&self.account);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_each_account_waits_and_a_few_in_all() {
        let waits = Waits::new(2);
        let first = waits.take(AccountId(1));
        assert!(first.is_some());
        assert!(waits.take(AccountId(1)).is_none(), "one of an account");
        let second = waits.take(AccountId(2));
        assert!(second.is_some());
        assert!(waits.take(AccountId(3)).is_none(), "two in all");
        drop(first);
        assert!(waits.take(AccountId(2)).is_none());
        assert!(waits.take(AccountId(1)).is_some());
    }
}
