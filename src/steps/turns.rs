//! Which accounts' questions and refunds are worked on next: whoever was served longest ago, as far as its wallet has room.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{Channel, Steps, budget::Budget};
use crate::{
    domain::{
        id::{AccountId, AttemptNo, OrderId, RefundId},
        time::Timestamp,
        wallet::Wallet,
    },
    store::{DueAccount, Lane, Leased, Pace, Share, StoreError},
};

/// When each account was served last, in this process. One for the questions and one for the refunds.
#[derive(Debug, Default)]
pub struct Turns {
    round: u64,
    served: HashMap<AccountId, u64>,
}

/// What bounds one lease.
#[derive(Debug, Clone, Copy)]
pub struct LeaseTerms {
    /// Of all accounts.
    pub limit: usize,
    /// Of one wallet's accounts together, in the order of [`Wallet::ALL`].
    pub wallet_rooms: [u32; Wallet::ALL.len()],
    /// Under way at once for one account in this process and lane, so that a wallet that hangs does not hold every place.
    pub per_account: u32,
    pub lease_for: Duration,
}

impl Steps {
    /// Leases questions that may be asked now.
    pub async fn lease_questions(
        &self,
        turns: &mut Turns,
        terms: LeaseTerms,
        pace: Pace,
    ) -> Result<Leased<(OrderId, AttemptNo)>, StoreError> {
        let now = self.now();
        let due = self.store.due_accounts(&Lane::QUESTIONS, now).await?;
        tell_age(&due, now);
        let shares = self.shares(due, turns, terms, now, |channel| &channel.questions);
        let leased = self.store.lease_due_questions(&shares, terms.limit, now, terms.lease_for, pace).await?;
        turns.note(&leased);
        Ok(leased)
    }

    /// Leases refunds that may be worked on now.
    pub async fn lease_refunds(&self, turns: &mut Turns, terms: LeaseTerms) -> Result<Leased<RefundId>, StoreError> {
        let now = self.now();
        let due = self.store.due_accounts(&Lane::REFUNDS, now).await?;
        let shares = self.shares(due, turns, terms, now, |channel| &channel.refunds);
        let leased = self.store.lease_due_refunds(&shares, terms.limit, now, terms.lease_for).await?;
        turns.note(&leased);
        Ok(leased)
    }

    /// The accounts in the order of their turns. One whose wallet is left alone, or that is not known here yet, is passed: what is
    /// due for it stays due, for another process or a later look.
    fn shares(
        &self,
        due: Vec<DueAccount>,
        turns: &Turns,
        terms: LeaseTerms,
        now: Timestamp,
        budget: fn(&Channel) -> &Arc<Budget>,
    ) -> Vec<Share> {
        let mut shares: Vec<Share> = due
            .into_iter()
            .filter_map(|due| {
                let channel = self.registry.channel(due.account)?;
                let room = budget(&channel).room(terms.per_account, now)?;
                let wallet_room = terms.wallet_rooms[due.wallet as usize];
                Some(Share { due, room, wallet_room })
            })
            .collect();
        shares.sort_by_key(|share| turns.served.get(&share.due.account).copied());
        shares
    }
}

impl Turns {
    fn note<T>(&mut self, leased: &Leased<T>) {
        self.round += 1;
        self.served.extend(leased.taken.iter().map(|(account, _)| (*account, self.round)));
    }
}

fn tell_age(due: &[DueAccount], now: Timestamp) {
    for wallet in Wallet::ALL {
        let oldest = due.iter().filter(|due| due.wallet == wallet).map(|due| due.since).min();
        let age = oldest.map_or(Duration::ZERO, |oldest| now.since(oldest));
        metrics::gauge!("prepay_question_due_age_seconds", "wallet" => wallet.as_str())
            .set(u32::try_from(age.as_secs()).unwrap_or(u32::MAX));
    }
}
