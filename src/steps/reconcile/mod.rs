//! One account's bill of one day: fetched, read in bounded memory, and matched with our rows.
//!
//! A bill is in no order of ours, so it cannot be merged with our rows; and it may have millions of rows, so it is not held. Each
//! batch of rows is looked up by number in one statement, and the numbers of ours that it named are noted in the narrow table
//! `bill_rows`; what it lacks is then an anti-join with that table, page by page. Turned down: a mark in the rows of `attempts`
//! themselves (a second write of every wide, hot row a day) and a sorted file of our own beside the bill (another
//! format on a disk that may be small).

use std::{path::PathBuf, time::Duration};

use super::{StepError, Steps};
use crate::{
    domain::{
        bill::{BillDate, RunState},
        id::AccountId,
        time::Timestamp,
    },
    gateway::BillError,
    store::{BillRun, BillTotals, LeaseToken, RunEnd},
};

mod compare;
mod matching;
mod missing;
mod read;
mod repair;

pub use repair::Repaired;

/// A look is held for this long and held anew while it goes on; after a crash somebody else takes it then.
const LEASE: Duration = Duration::from_secs(120);
/// A bill that came to nothing for so long after its day is left to people.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(7 * 24 * 3600);
/// Before noon of the next day, *no bill* may mean *not yet* (`wechat-pay.md` §9.1).
const NONE_MEANS_NONE_AFTER: Duration = Duration::from_secs(12 * 3600);
/// Rows of a bill that has ended are deleted so many at once.
const FORGOTTEN_AT_ONCE: u64 = 10_000;

/// Somebody watches a bill being matched. Every call returns at once.
pub trait BillProgress: Send + Sync {
    /// The wallet is asked for the bill.
    fn fetching(&self) {}
    /// It is here and has about so many lines.
    fn reading(&self, _lines: u64) {}
    /// So many rows more were compared.
    fn compared(&self, _rows: u64) {}
    /// What the bill lacks is looked for.
    fn looking(&self) {}
}

/// Nobody watches.
impl BillProgress for () {}

/// What became of a look at a bill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reconciled {
    /// This is how the run stands after it.
    Done(BillRun),
    /// Somebody else is at it.
    Held,
}

/// Gone with its owner: a bill names payers.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // It may never have come about.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Steps {
    /// Matches the bill that is due for longest. `None`: none is due.
    ///
    /// Dropped half-way, it ends at once; the bill is taken again when its lease has run out. Errors: [`StepError`].
    pub async fn reconcile_due(&self, progress: &dyn BillProgress) -> Result<Option<BillRun>, StepError> {
        let token = LeaseToken::fresh();
        let Some(run) = self.store.lease_due_bill(self.now(), LEASE, token).await? else { return Ok(None) };
        self.look(run, token, progress).await.map(Some)
    }

    /// Matches an account's bill of a day now, whether it was matched before or not. Errors: [`StepError`].
    pub async fn reconcile(
        &self,
        account: AccountId,
        date: BillDate,
        progress: &dyn BillProgress,
    ) -> Result<Reconciled, StepError> {
        let (now, token) = (self.now(), LeaseToken::fresh());
        self.store.want_bill(account, date, now, now).await?;
        let Some(run) = self.store.lease_bill(account, date, now, LEASE, token).await? else {
            return Ok(Reconciled::Held);
        };
        self.look(run, token, progress).await.map(Reconciled::Done)
    }

    async fn look(&self, run: BillRun, token: LeaseToken, progress: &dyn BillProgress) -> Result<BillRun, StepError> {
        let matched = tokio::select! {
            matched = self.matched(&run, progress) => matched,
            () = self.held_until_lost(&run, token) => {
                return Err(StepError::NotYet(format!("somebody else took the bill of {}", run.date)));
            }
        };
        // What the store could not do is tried again at the next look; the bill is let go for it, if the store takes that.
        let (end, failed) = match matched {
            Ok(end) => (end, None),
            Err(error) => (self.again(&run, BillTotals::default(), error.to_string()), Some(error)),
        };
        let written = self.store.end_bill(run.id, end.clone(), self.now(), token).await;
        if let Some(error) = failed {
            return Err(error);
        }
        if !written? {
            return Err(StepError::NotYet(format!("somebody else took the bill of {}", run.date)));
        }
        self.tell(&run, &end);
        if end.state.is_done() {
            while self.store.forget_bill_rows(run.id, run.tries, FORGOTTEN_AT_ONCE).await? == FORGOTTEN_AT_ONCE {}
        }
        let run = self.store.bill_run(run.account, run.date).await?;
        run.ok_or_else(|| StepError::NotYet("the run of a bill is gone".to_owned()))
    }

    /// Returns when the bill is somebody else's.
    async fn held_until_lost(&self, run: &BillRun, token: LeaseToken) {
        loop {
            tokio::time::sleep(LEASE / 4).await;
            match self.store.hold_bill(run.id, self.now().plus(LEASE), token).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => tracing::warn!(date = %run.date, %error, "a bill cannot be held; tried again"),
            }
        }
    }

    async fn matched(&self, run: &BillRun, progress: &dyn BillProgress) -> Result<RunEnd, StepError> {
        let nothing = BillTotals::default();
        let Some(channel) = self.registry.channel(run.account) else {
            return Ok(self.again(run, nothing, "the channel account is not known here".to_owned()));
        };
        let gateway = match channel.gateway() {
            Ok(gateway) => gateway.clone(),
            Err(reason) => return Ok(self.again(run, nothing, reason.to_owned())),
        };
        let name = format!("prepay-bill-{}-{}-{}", run.account, run.date, uuid::Uuid::now_v7().simple());
        let scratch = Scratch(self.settings.bills_dir.join(name));
        progress.fetching();
        match gateway.bill(run.date, &scratch.0).await {
            Ok(file) => self.match_file(run, gateway, file, progress).await,
            Err(BillError::None) if self.now() >= run.date.end().plus(NONE_MEANS_NONE_AFTER) => {
                // The wallet says that nothing happened; what we say did is missing there.
                let totals = self.missing_there(run, nothing, progress).await?;
                Ok(RunEnd { state: RunState::None, totals, next_at: None, last_error: None })
            }
            Err(error) => Ok(self.again(run, nothing, error.to_string())),
        }
    }

    /// Due again later, unless its day is long past.
    fn again(&self, run: &BillRun, totals: BillTotals, why: String) -> RunEnd {
        let now = self.now();
        let over = now > run.date.end().plus(GIVEN_UP_AFTER);
        RunEnd {
            state: if over { RunState::Failed } else { RunState::Due },
            totals,
            next_at: (!over).then(|| now.plus(self.settings.bill_retry)),
            last_error: Some(why),
        }
    }

    fn tell(&self, run: &BillRun, end: &RunEnd) {
        let BillTotals { payments, refunds, of_others, unreadable, discrepancies, .. } = end.totals;
        let account = run.account;
        match (&end.last_error, end.state) {
            (Some(error), RunState::Failed) => {
                tracing::error!(%account, date = %run.date, error, "a bill came to nothing; a person has to look");
            }
            (Some(error), _) => tracing::warn!(%account, date = %run.date, error, "a bill is asked for again later"),
            (None, _) => {
                tracing::info!(%account, date = %run.date, payments, refunds, of_others, unreadable, discrepancies, "a bill is matched");
            }
        }
        if discrepancies > 0 {
            tracing::warn!(%account, date = %run.date, discrepancies, "a bill and our rows do not agree: `prepay reconcile list`");
        }
    }

    /// The account's bills of the days beside: whether what is near midnight can be looked for on both sides of it.
    async fn is_done(&self, account: AccountId, date: BillDate) -> Result<bool, StepError> {
        Ok(self.store.bill_run(account, date).await?.is_some_and(|run| run.state.is_done()))
    }
}

/// Whether a moment is so far inside a day that no other day's bill can name it.
fn is_inside(date: BillDate, moment: Timestamp, edge: Duration) -> bool {
    moment >= date.begin().plus(edge) && moment < date.end().minus(edge)
}
