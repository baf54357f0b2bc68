//! One account's bill of one day: fetched, read in bounded memory, and matched with our rows.
//!
//! A bill is in no order of ours, so it cannot be merged with our rows; and it may have millions of rows, so it is not held. Each
//! batch of rows is looked up by number in one statement, and the numbers of ours that it named are noted in the narrow table
//! `bill_rows`; what it lacks is then an anti-join with that table, page by page. Turned down: a mark in the rows of `attempts`
//! themselves (a second write of every wide, hot row a day) and a sorted file of our own beside the bill (another
//! format on a disk that may be small).

use std::time::Duration;

use super::{StepError, Steps};
use crate::{
    domain::{
        bill::{BillDate, DiscrepancyKind, RunState},
        id::AccountId,
        time::Timestamp,
    },
    gateway::BillError,
    store::{BillHold, BillRun, BillTotals, LeaseToken, RunEnd},
};

mod asking;
mod compare;
mod matching;
mod missing;
mod read;
mod repair;
mod scratch;

use missing::Window;
pub use repair::Repaired;
use scratch::Scratch;
pub use scratch::sweep_left_over;

/// A look is held for this long and held anew while it goes on; after a crash somebody else takes it then.
const LEASE: Duration = Duration::from_secs(120);
/// A bill that came to nothing for so long after its day is left to people, but not before so many looks: a scheduler that was away
/// begins with old days.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(7 * 24 * 3600);
const LOOKS_AT_LEAST: u32 = 10;
/// A refund's row in a bill is kept for so long: cards take days, and its money is looked for on the day it was back.
pub const ROWS_KEPT_DAYS: usize = 40;
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

impl Steps {
    /// Matches the bill that is due for longest. `None`: none is due.
    ///
    /// Dropped half-way, it ends at once; the bill is due again as after a look that failed. Errors: [`StepError`].
    pub async fn reconcile_due(&self, progress: &dyn BillProgress) -> Result<Option<BillRun>, StepError> {
        let token = LeaseToken::fresh();
        let Some(run) = self.store.lease_due_bill(self.now(), self.hold(), token).await? else { return Ok(None) };
        self.look(run, true, token, progress).await.map(Some)
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
        let was_due = self.store.bill_run(account, date).await?.is_some_and(|run| run.next_at.is_some());
        let Some(run) = self.store.lease_bill(account, date, now, self.hold(), token).await? else {
            return Ok(Reconciled::Held);
        };
        self.look(run, was_due, token, progress).await.map(Reconciled::Done)
    }

    const fn hold(&self) -> BillHold {
        BillHold { lease_for: LEASE, again_after: self.settings.bill_retry }
    }

    async fn look(
        &self,
        run: BillRun,
        was_due: bool,
        token: LeaseToken,
        progress: &dyn BillProgress,
    ) -> Result<BillRun, StepError> {
        let matched = tokio::select! {
            matched = self.matched(&run, token, progress) => matched,
            () = self.held_until_lost(&run, token) => return Err(taken_by_another(&run)),
        };
        // What the store could not do is tried again at the next look; the bill is let go for it, if the store takes that.
        let (mut end, failed) = match matched {
            Ok(end) => (end, None),
            Err(error) => (self.again(&run, BillTotals::default(), error.to_string()), Some(error)),
        };
        if was_due && run.state.is_done() && end.last_error.is_some() {
            // A day that is done is due only because a look never ended that was to see what it means for the days beside it.
            end.next_at = self.next_look(&run);
        }
        let written = self.store.end_bill(run.id, &end, self.now(), token).await;
        if let Some(error) = failed {
            return Err(error);
        }
        if !written? {
            return Err(taken_by_another(&run));
        }
        self.tell(&run, &end);
        self.forget_rows(&run, &end).await?;
        let run = self.store.bill_run(run.account, run.date).await?;
        run.ok_or_else(|| StepError::NotYet("the run of a bill is gone".to_owned()))
    }

    /// Of a look that ended well what other days need stays; of another nothing.
    async fn forget_rows(&self, run: &BillRun, end: &RunEnd) -> Result<(), StepError> {
        loop {
            let gone = if end.is_good() {
                self.store.forget_bill_rows(run.id, run.tries, FORGOTTEN_AT_ONCE).await?
            } else {
                self.store.forget_failed_rows(run.id, run.tries, FORGOTTEN_AT_ONCE).await?
            };
            if gone < FORGOTTEN_AT_ONCE {
                return Ok(());
            }
        }
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

    /// Reads the bill, then looks for what it lacks until no day beside it has changed that.
    ///
    /// Two days that are looked at side by side each take the other for unknown. So a look first writes that its day is done and
    /// only then looks whether others are: whichever is second sees the first, and the minutes between them are looked at.
    async fn matched(
        &self,
        run: &BillRun,
        token: LeaseToken,
        progress: &dyn BillProgress,
    ) -> Result<RunEnd, StepError> {
        let read = match self.read_bill(run, progress).await? {
            Ok(read) => read,
            Err(end) => return Ok(end),
        };
        let mut window = self.window(run).await?;
        loop {
            let end = self.concluded(run, &window, &read, progress).await?;
            if !end.is_good() {
                return Ok(end);
            }
            if !self.store.settle_bill(run.id, &end, self.now(), token).await? {
                return Err(taken_by_another(run));
            }
            let by_now = self.window(run).await?;
            if by_now == window {
                return Ok(end);
            }
            // Days do not become unknown again, so this ends.
            window = by_now;
        }
    }

    /// What the wallet says about the day, or how the look ends without that.
    async fn read_bill(
        &self,
        run: &BillRun,
        progress: &dyn BillProgress,
    ) -> Result<Result<BillRead, RunEnd>, StepError> {
        let nothing = BillTotals::default();
        let Some(channel) = self.registry.channel(run.account) else {
            return Ok(Err(self.again(run, nothing, "the channel account is not known here".to_owned())));
        };
        let gateway = match channel.gateway() {
            Ok(gateway) => gateway.clone(),
            Err(reason) => return Ok(Err(self.again(run, nothing, reason.to_owned()))),
        };
        let scratch = Scratch::of(&self.settings.bills_dir, run);
        progress.fetching();
        match gateway.bill(run.date, scratch.path(), self.settings.bill_limits).await {
            Ok(file) => self.match_file(run, gateway, file, progress).await,
            Err(BillError::None) if self.now() >= run.date.end().plus(NONE_MEANS_NONE_AFTER) => {
                Ok(Ok(BillRead { state: RunState::None, totals: nothing, unknown_left_out: false }))
            }
            Err(error) => Ok(Err(self.again(run, nothing, error.to_string()))),
        }
    }

    /// What follows from a bill whose rows ended well, and from what it lacks.
    async fn concluded(
        &self,
        run: &BillRun,
        window: &Window,
        read: &BillRead,
        progress: &dyn BillProgress,
    ) -> Result<RunEnd, StepError> {
        let is_none = read.state == RunState::None;
        let totals = self.missing_there(run, window, read, progress).await?;
        let missing = totals.discrepancies - read.totals.discrepancies;
        if is_none && missing > 0 {
            // The wallet says that nothing happened, and we say something did: it may have been asked too early.
            return Ok(self.again(
                run,
                totals,
                format!("the wallet has no bill, and {missing} of ours are missing there"),
            ));
        }
        let mut settled = self.settle_missing(run, window).await?;
        if !is_none {
            let mut except = vec![DiscrepancyKind::MissingThere];
            except.extend(read.unknown_left_out.then_some(DiscrepancyKind::UnknownNumber));
            settled += self.store.settle_unseen(run, &except, self.now()).await?;
        }
        if settled > 0 {
            tracing::info!(account = %run.account, date = %run.date, settled, "discrepancies are gone");
        }
        Ok(RunEnd { state: read.state, totals, next_at: None, last_error: None })
    }

    /// Due again later, unless its day is long past. A day that is done stays so, with what was found then, and is not due: whoever
    /// wanted this look is told that it failed.
    fn again(&self, run: &BillRun, totals: BillTotals, why: String) -> RunEnd {
        let last_error = Some(why);
        if run.state.is_done() {
            return RunEnd { state: run.state, totals: run.totals, next_at: None, last_error };
        }
        let next_at = self.next_look(run);
        let state = if next_at.is_some() { RunState::Due } else { RunState::Failed };
        RunEnd { state, totals, next_at, last_error }
    }

    /// When a look that failed is made again. `None`: its day is long past, and it was tried often.
    fn next_look(&self, run: &BillRun) -> Option<Timestamp> {
        let now = self.now();
        let over = now > run.date.end().plus(GIVEN_UP_AFTER) && run.tries >= LOOKS_AT_LEAST;
        (!over).then(|| now.plus(self.settings.bill_retry))
    }

    fn tell(&self, run: &BillRun, end: &RunEnd) {
        let BillTotals { payments, refunds, of_others, unreadable, discrepancies, .. } = end.totals;
        let account = run.account;
        match (&end.last_error, end.state) {
            (Some(error), RunState::Failed) => {
                tracing::error!(%account, date = %run.date, error, "a bill came to nothing; a person has to look");
            }
            (Some(error), _) => tracing::warn!(%account, date = %run.date, error, "a look at a bill came to nothing"),
            (None, _) => {
                tracing::info!(%account, date = %run.date, payments, refunds, of_others, unreadable, discrepancies, "a bill is matched");
            }
        }
        if discrepancies > 0 {
            tracing::warn!(%account, date = %run.date, discrepancies, "a bill and our rows do not agree: `prepay reconcile list`");
        }
    }
}

/// What a bill, read to its end, says before anything is concluded from what it lacks.
struct BillRead {
    /// Matched, or none.
    state: RunState,
    totals: BillTotals,
    /// There were so many unknown numbers that not all were recorded.
    unknown_left_out: bool,
}

fn taken_by_another(run: &BillRun) -> StepError {
    StepError::NotYet(format!("somebody else took the bill of {}", run.date))
}

/// Whether a moment is so far inside a day that no other day's bill can name it.
fn is_inside(date: BillDate, moment: Timestamp, edge: Duration) -> bool {
    moment >= date.begin().plus(edge) && moment < date.end().minus(edge)
}
