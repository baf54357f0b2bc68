//! What a bill lacks: paid, or paid back, at the account on that day, and named by no bill.

use std::{collections::HashSet, time::Duration};

use super::{BillProgress, BillRead, ROWS_KEPT_DAYS, compare};
use crate::{
    domain::{
        bill::{BillDate, RunState},
        id::{OutRefundNo, OutTradeNo, RefundId},
        refund::{Refund, RefundState},
        time::Timestamp,
    },
    steps::{StepError, Steps},
    store::{BillRun, BillTotals, Found},
};

/// Rows of ours that are looked at by one statement.
const PAGE: u64 = 1_000;
/// A refund of a bank card takes days, and its bill is that of the day it was accepted; older ones are not looked for.
const ACCEPTED_WITHIN_DAYS: u64 = 35;

/// What of a day without a bill is recorded, and counted beyond: a person looks at the first ones.
const RECORDED_MAX: i64 = 1_000;

/// The part of time that a bill, and those of the days beside it that are known, tell everything about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    from: Timestamp,
    /// Of payments.
    until: Timestamp,
    /// Of refunds, by when their money was back: later days that are known wait for this one, because a refund stands in the bill
    /// of the day it was accepted on.
    refunds_until: Timestamp,
}

impl Steps {
    /// Looks for what the bill lacks. Only for a bill whose rows have all been noted, or of which the wallet says there is none.
    ///
    /// The minutes around a midnight belong to two bills and are looked at once both are known, by whichever is second: a row
    /// whose two times lie on either side of it is not called missing.
    pub(super) async fn missing_there(
        &self,
        run: &BillRun,
        window: &Window,
        read: &BillRead,
        progress: &dyn BillProgress,
    ) -> Result<BillTotals, StepError> {
        progress.looking();
        let mut totals = read.totals;
        let most = if read.state == RunState::None { totals.discrepancies + RECORDED_MAX } else { i64::MAX };
        let mut after = None;
        loop {
            let page = self.store.unbilled_payments(run, window.from, window.until, after.take(), PAGE).await?;
            let found = page.iter().map(compare::payment_missing_there).collect();
            self.keep_missing(run, found, most, &mut totals).await?;
            match page.last().and_then(|last| Some((last.paid_at?, last.number))) {
                Some((at, number)) if page.len() as u64 == PAGE => {
                    after = Some((at.ms(), number.order.to_string(), i32::from(number.attempt.get())));
                }
                _ => break,
            }
        }
        let mut after = None;
        loop {
            let page = self.store.unbilled_refunds(run, window.from, window.refunds_until, after.take(), PAGE).await?;
            let mut found = Vec::new();
            for refund in &page {
                if self.would_be_named(run, window, refund).await? {
                    found.push(compare::refund_missing_there(refund));
                }
            }
            self.keep_missing(run, found, most, &mut totals).await?;
            match page.last().and_then(|last| Some((paid_back_at(last)?, last.id))) {
                Some((at, id)) if page.len() as u64 == PAGE => after = Some((at.ms(), id.to_string(), 0)),
                _ => break,
            }
        }
        Ok(totals)
    }

    /// Records what is missing up to `most`, each under one day only, and counts it.
    async fn keep_missing(
        &self,
        run: &BillRun,
        mut found: Vec<Found>,
        most: i64,
        totals: &mut BillTotals,
    ) -> Result<(), StepError> {
        let numbers: Vec<String> = found.iter().map(|found| found.number().to_owned()).collect();
        let known = self.store.missed_elsewhere(run, &numbers).await?;
        found.retain(|found| !known.contains(found.number()));
        let room = usize::try_from(most.saturating_sub(totals.discrepancies)).unwrap_or(0);
        let beyond = found.split_off(found.len().min(room));
        self.keep_found(run, &found, totals).await?;
        totals.discrepancies += i64::try_from(beyond.len()).unwrap_or(i64::MAX);
        Ok(())
    }

    /// What an earlier look missed, and this one could have missed and did not, is there after all. What it could not look for, because a
    /// day beside it is not known any more, stays as it was. Answers how many were settled.
    pub(super) async fn settle_missing(&self, run: &BillRun, window: &Window) -> Result<u64, StepError> {
        let (mut after, mut settled) = (0, 0);
        loop {
            let page = self.store.unseen_missing(run, after, PAGE).await?;
            let payments: Vec<OutTradeNo> = page
                .iter()
                .filter(|row| row.found.out_refund_no.is_none())
                .filter_map(|row| OutTradeNo::parse(&row.found.out_trade_no).ok())
                .collect();
            let refunds: Vec<RefundId> = page
                .iter()
                .filter_map(|row| OutRefundNo::parse(row.found.out_refund_no.as_deref()?).ok())
                .map(|number| number.0)
                .collect();
            let mut looked_for = HashSet::new();
            if !payments.is_empty() {
                for payment in self.store.payments_by_number(&payments).await? {
                    let at = payment.paid_at.filter(|_| payment.state == "paid");
                    if at.is_some_and(|at| window.from <= at && at < window.until) {
                        looked_for.insert(payment.number.to_string());
                    }
                }
            }
            if !refunds.is_empty() {
                for refund in self.store.refunds_by_id(&refunds).await? {
                    let at = paid_back_at(&refund);
                    if at.is_some_and(|at| window.from <= at && at < window.refunds_until)
                        && self.would_be_named(run, window, &refund).await?
                    {
                        looked_for.insert(refund.out_refund_no().to_string());
                    }
                }
            }
            let ids: Vec<i64> =
                page.iter().filter(|row| looked_for.contains(row.found.number())).map(|row| row.id).collect();
            if !ids.is_empty() {
                settled += self.store.settle_missing(run, &ids, self.now()).await?;
            }
            match page.last() {
                Some(last) if page.len() as u64 == PAGE => after = last.id,
                _ => return Ok(settled),
            }
        }
    }

    pub(super) async fn window(&self, run: &BillRun) -> Result<Window, StepError> {
        let (begin, end) = (run.date.begin(), run.date.end());
        let mut last = run.date;
        for _ in 0..ACCEPTED_WITHIN_DAYS {
            last = last.next();
        }
        let done = self.known_days(run, run.date.previous(), last).await?;
        // An account that began on this day has no bill before it.
        let is_first = self.store.account(run.account).await?.is_some_and(|row| row.created_at >= begin);
        let edge = self.settings.bill_edge;
        let is_known_before = is_first || done.contains(&run.date.previous());
        let from = if is_known_before { begin.minus(edge) } else { begin.plus(edge) };
        let until = if done.contains(&run.date.next()) { end.plus(edge) } else { end.minus(edge) };
        let mut newest = run.date;
        while done.contains(&newest.next()) && newest < last {
            newest = newest.next();
        }
        let refunds_until = until.max(newest.end().minus(edge));
        Ok(Window { from, until, refunds_until })
    }

    /// Those of an account's days that are known, and whose rows are still kept.
    async fn known_days(&self, run: &BillRun, from: BillDate, to: BillDate) -> Result<HashSet<BillDate>, StepError> {
        let kept = Duration::from_secs(24 * 3600 * (ROWS_KEPT_DAYS as u64 - 1));
        let from = from.max(BillDate::of(self.now().minus(kept)));
        Ok(self.store.done_bill_days(run.account, from, to).await?)
    }

    /// Whether this bill or another one that is known would name a refund that is paid back: the bills of all days from the one it was
    /// made on are known, this one among them. It may stand in any of them.
    async fn would_be_named(&self, run: &BillRun, window: &Window, refund: &Refund) -> Result<bool, StepError> {
        let Some(back_at) = paid_back_at(refund) else { return Ok(false) };
        let first = BillDate::of(refund.created_at.minus(self.settings.bill_edge));
        if first > run.date && back_at >= window.until {
            // This day has nothing to do with it.
            return Ok(false);
        }
        let (first, last) = (first.min(run.date), BillDate::of(back_at).max(run.date));
        let mut others = Vec::new();
        let mut day = first;
        loop {
            if day != run.date {
                others.push(day);
            }
            if day >= last {
                break;
            }
            if others.len() as u64 > ACCEPTED_WITHIN_DAYS {
                return Ok(false);
            }
            day = day.next();
        }
        if others.is_empty() {
            return Ok(true);
        }
        let known = self.known_days(run, first, last).await?;
        Ok(others.iter().all(|day| known.contains(day)))
    }
}

fn paid_back_at(refund: &Refund) -> Option<Timestamp> {
    match refund.state {
        RefundState::Succeeded { at } => Some(at),
        _ => None,
    }
}
