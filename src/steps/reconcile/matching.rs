//! The rows of a bill, batch by batch, against our rows.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{
    BillProgress, BillRead, compare,
    compare::Compared,
    is_inside,
    read::{self, Reading},
};
use crate::{
    domain::{
        bill::RunState,
        id::{OutRefundNo, OutTradeNo, RefundId},
        refund::Refund,
        time::Timestamp,
    },
    gateway::{BillError, BillFile, BillKind, BillRow, Gateway},
    steps::{StepError, Steps},
    store::{BillKey, BillRun, BillTotals, Found, KnownPayment, RunEnd},
};

/// Numbers of our form that nobody knows are recorded up to so many a look, and counted beyond: a second deployment on the
/// same account would fill the table, and a person looks at the first ones.
const UNKNOWN_RECORDED_MAX: i64 = 1_000;

/// What is known of one batch.
struct Known {
    payments: HashMap<OutTradeNo, KnownPayment>,
    refunds: HashMap<RefundId, Refund>,
}

/// A look in progress.
struct Tally {
    totals: BillTotals,
    unknown: i64,
    first_error: Option<String>,
}

impl Steps {
    /// Compares a bill's rows with ours. `Err`: they did not end well, and nothing follows from what is not among them.
    pub(super) async fn match_file(
        &self,
        run: &BillRun,
        gateway: Arc<dyn Gateway>,
        file: BillFile,
        progress: &dyn BillProgress,
    ) -> Result<Result<BillRead, RunEnd>, StepError> {
        progress.reading(read::lines(file.path.clone()).await);
        let mut tally = Tally { totals: BillTotals::default(), unknown: 0, first_error: None };
        let mut reading = Reading::start(gateway, file);
        while let Some(batch) = reading.next().await {
            let read = batch.len() as u64;
            let mut rows = Vec::with_capacity(batch.len());
            for row in batch {
                match row {
                    Ok(row) => rows.push(row),
                    Err(error) => tally.unreadable(&error),
                }
            }
            self.match_batch(run, &rows, &mut tally).await?;
            progress.compared(read);
        }
        if let Some(error) = tally.first_error {
            // Each row that could be read stands for itself; nothing follows from those that are not there.
            return Ok(Err(self.again(run, tally.totals, error)));
        }
        let unknown_left_out = tally.unknown > UNKNOWN_RECORDED_MAX;
        Ok(Ok(BillRead { state: RunState::Matched, totals: tally.totals, unknown_left_out }))
    }

    async fn match_batch(&self, run: &BillRun, rows: &[BillRow], tally: &mut Tally) -> Result<(), StepError> {
        let known = self.known(rows).await?;
        let mut named: Vec<(BillKey, bool)> = Vec::with_capacity(rows.len());
        let mut row_of: HashMap<BillKey, &BillRow> = HashMap::new();
        let mut found = Vec::new();
        for row in rows {
            tally.count(row);
            match compared(row, run, &known) {
                Compared::OfOthers => tally.totals.of_others += 1,
                Compared::Unknown(unknown) => {
                    tally.unknown += 1;
                    if tally.unknown <= UNKNOWN_RECORDED_MAX {
                        found.push(unknown);
                    } else {
                        tally.totals.discrepancies += 1;
                    }
                }
                Compared::Ours { key, wrong } => {
                    found.extend(wrong);
                    row_of.insert(key.clone(), row);
                    let paid_at = OutTradeNo::parse(&row.out_trade_no).ok();
                    let paid_at = paid_at.and_then(|number| known.payments.get(&number)?.paid_at);
                    named.push((key, is_kept(row, run, paid_at, self.settings.bill_edge)));
                }
            }
        }
        for key in self.store.note_bill_rows(run, &named).await? {
            found.extend(row_of.get(&key).map(|row| compare::twice(row)));
        }
        // Another day may be looked at beside this one, so it is asked for each batch.
        if self.store.lacks_elsewhere(run).await? {
            let numbers: Vec<String> = row_of.values().map(|row| number(row).to_owned()).collect();
            self.store.found_on_another_day(run, &numbers, self.now()).await?;
        }
        self.keep_found(run, &found, &mut tally.totals).await?;
        metrics::counter!("prepay_bill_rows_total").increment(rows.len() as u64);
        Ok(())
    }

    /// One statement for the payments of a batch, one for its refunds.
    async fn known(&self, rows: &[BillRow]) -> Result<Known, StepError> {
        let numbers: Vec<_> = rows.iter().filter_map(|row| OutTradeNo::parse(&row.out_trade_no).ok()).collect();
        let refunds: Vec<_> = rows.iter().filter_map(refund_id).collect();
        let mut known = Known { payments: HashMap::new(), refunds: HashMap::new() };
        if !numbers.is_empty() {
            let payments = self.store.payments_by_number(&numbers).await?;
            known.payments = payments.into_iter().map(|payment| (payment.number, payment)).collect();
        }
        if !refunds.is_empty() {
            let refunds = self.store.refunds_by_id(&refunds).await?;
            known.refunds = refunds.into_iter().map(|refund| (refund.id, refund)).collect();
        }
        Ok(known)
    }

    /// Records what was found, and counts it.
    pub(super) async fn keep_found(
        &self,
        run: &BillRun,
        found: &[Found],
        totals: &mut BillTotals,
    ) -> Result<(), StepError> {
        self.store.record_discrepancies(run, found, self.now()).await?;
        for found in found {
            totals.discrepancies += 1;
            metrics::counter!("prepay_discrepancies_total", "kind" => found.kind.as_str()).increment(1);
        }
        Ok(())
    }
}

fn compared(row: &BillRow, run: &BillRun, known: &Known) -> Compared {
    let payment = OutTradeNo::parse(&row.out_trade_no).ok().and_then(|number| known.payments.get(&number));
    match row.kind {
        BillKind::Pay => compare::payment(row, run.account, payment),
        BillKind::Refund => {
            let refund = refund_id(row).and_then(|id| known.refunds.get(&id));
            compare::refund(row, run.account, refund, payment)
        }
    }
}

fn refund_id(row: &BillRow) -> Option<RefundId> {
    OutRefundNo::parse(row.out_refund_no.as_deref()?).ok().map(|number| number.0)
}

fn number(row: &BillRow) -> &str {
    row.out_refund_no.as_deref().unwrap_or(&row.out_trade_no)
}

/// A refund is named on the day it was accepted and paid back on a later one; a payment near midnight may be ours on the other
/// side of it.
fn is_kept(row: &BillRow, run: &BillRun, paid_at: Option<Timestamp>, edge: Duration) -> bool {
    let inside = |moment| is_inside(run.date, moment, edge);
    row.kind == BillKind::Refund || !inside(row.at) || paid_at.is_some_and(|paid_at| !inside(paid_at))
}

impl Tally {
    fn count(&mut self, row: &BillRow) {
        let fen = row.amount.get();
        match row.kind {
            BillKind::Pay => {
                self.totals.payments += 1;
                self.totals.pay_fen = self.totals.pay_fen.saturating_add(fen);
            }
            BillKind::Refund => {
                self.totals.refunds += 1;
                self.totals.refund_fen = self.totals.refund_fen.saturating_add(fen);
            }
        }
    }

    fn unreadable(&mut self, error: &BillError) {
        self.totals.unreadable += 1;
        self.first_error.get_or_insert_with(|| error.to_string());
    }
}
