//! What a bill lacks: paid, or paid back, at the account on that day, and named by no bill.

use super::{BillProgress, compare};
use crate::{
    domain::{bill::BillDate, refund::Refund, time::Timestamp},
    steps::{StepError, Steps},
    store::{BillRun, BillTotals},
};

/// Rows of ours that are looked at by one statement.
const PAGE: u64 = 1_000;
/// A refund of a bank card takes days, and its bill is that of the day it was accepted; older ones are not looked for.
const ACCEPTED_WITHIN_DAYS: u64 = 35;

impl Steps {
    /// Looks for what the bill lacks. Only for a bill whose rows have all been noted, or of which the wallet says there is none.
    ///
    /// The minutes around a midnight belong to two bills and are looked at once both are known, by whichever is second: a row
    /// whose two times lie on either side of it is not called missing.
    pub(super) async fn missing_there(
        &self,
        run: &BillRun,
        mut totals: BillTotals,
        progress: &dyn BillProgress,
    ) -> Result<BillTotals, StepError> {
        progress.looking();
        let (from, until) = self.window(run).await?;
        let mut after = None;
        loop {
            let page = self.store.unbilled_payments(run, from, until, after.take(), PAGE).await?;
            let found: Vec<_> = page.iter().map(compare::payment_missing_there).collect();
            self.keep_found(run, &found, &mut totals).await?;
            match page.last().and_then(|last| Some((last.paid_at?, last.number))) {
                Some((at, number)) if found.len() as u64 == PAGE => {
                    after = Some((at.ms(), number.order.to_string(), i32::from(number.attempt.get())));
                }
                _ => break,
            }
        }
        let mut after = None;
        loop {
            let page = self.store.unbilled_refunds(run, from, until, after.take(), PAGE).await?;
            let mut found = Vec::new();
            for refund in &page {
                if self.bills_since(run, refund).await? {
                    found.push(compare::refund_missing_there(refund));
                }
            }
            self.keep_found(run, &found, &mut totals).await?;
            match page.last().and_then(|last| Some((paid_back_at(last)?, last.id))) {
                Some((at, id)) if page.len() as u64 == PAGE => after = Some((at.ms(), id.to_string(), 0)),
                _ => break,
            }
        }
        Ok(totals)
    }

    /// The part of time that this bill and those done before it tell everything about.
    async fn window(&self, run: &BillRun) -> Result<(Timestamp, Timestamp), StepError> {
        let (begin, end) = (run.date.begin(), run.date.end());
        // An account that began on this day has no bill before it.
        let is_first = self.store.account(run.account).await?.is_some_and(|row| row.created_at >= begin);
        let before = is_first || self.is_done(run.account, run.date.previous()).await?;
        let after = self.is_done(run.account, run.date.next()).await?;
        let edge = self.settings.bill_edge;
        let from = if before { begin.minus(edge) } else { begin.plus(edge) };
        let until = if after { end.plus(edge) } else { end.minus(edge) };
        Ok((from, until))
    }

    /// Whether the bills of all days from the one the refund was made on are known: it may stand in any of them.
    async fn bills_since(&self, run: &BillRun, refund: &Refund) -> Result<bool, StepError> {
        let (mut day, mut days) = (BillDate::of(refund.created_at), 0);
        let first = day;
        while day < run.date {
            day = day.next();
            days += 1;
            if days > ACCEPTED_WITHIN_DAYS {
                return Ok(false);
            }
        }
        Ok(days == 0 || self.store.done_bill_days(run.account, first, run.date.previous()).await? == days)
    }
}

fn paid_back_at(refund: &Refund) -> Option<Timestamp> {
    match refund.state {
        crate::domain::refund::RefundState::Succeeded { at } => Some(at),
        _ => None,
    }
}
