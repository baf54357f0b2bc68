//! Yesterday's bills: wanted once their time has come, then matched one after the other.
//!
//! Replicas share them by leases; one at a time each, so that a process holds the memory and the disk of one bill.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::run::SchedulerSettings;
use crate::{
    domain::{
        bill::{BillDate, DiscrepancyKind},
        id::AccountId,
    },
    steps::Steps,
    store::StoreError,
};

/// A scheduler that was away wants the bills of so many days.
const DAYS_BACK: usize = 3;
/// A refund's row in a bill is kept for so long: cards take days, and its money is looked for on the day it was back.
const ROWS_KEPT_DAYS: usize = 40;
const ROWS_AT_ONCE: u64 = 1_000;

/// Wants, matches and measures until `soft`. A bill under way is left then; its lease runs out and it is taken again.
pub async fn match_bills(steps: Steps, settings: SchedulerSettings, soft: CancellationToken) {
    let mut wanted = None;
    while !soft.is_cancelled() {
        match want_bills(&steps, settings.bills_after, wanted.take()).await {
            Ok(now_wanted) => wanted = Some(now_wanted),
            Err(error) => tracing::warn!(%error, "the bills that are due cannot be noted"),
        }
        loop {
            match soft.run_until_cancelled(steps.reconcile_due(&())).await {
                None => return,
                Some(Ok(Some(_))) => {}
                Some(Ok(None)) => break,
                Some(Err(error)) => {
                    tracing::warn!(%error, "a bill was not matched; it is taken again");
                    break;
                }
            }
        }
        if let Err(error) = tidy(&steps).await {
            tracing::warn!(%error, "what is left of bills cannot be tidied");
        }
        if soft.run_until_cancelled(tokio::time::sleep(settings.bills_every)).await.is_none() {
            return;
        }
    }
}

/// What was wanted last: it is wanted again when the day or the accounts are others.
type Wanted = (BillDate, Vec<AccountId>);

/// Has the bills of the last days fetched, for every account that was there on them; `after` is how long after a day's end.
async fn want_bills(steps: &Steps, after: Duration, last: Option<Wanted>) -> Result<Wanted, StoreError> {
    let now = steps.clock.now();
    // The last day whose bill is due by now.
    let newest = BillDate::of(now.minus(after)).previous();
    let rows: Vec<_> = steps.store.accounts().await?.into_iter().filter(|row| row.secrets.is_some()).collect();
    let wanted = (newest, rows.iter().map(|row| row.account.id).collect());
    if last.as_ref() == Some(&wanted) {
        return Ok(wanted);
    }
    for date in days_back(newest).take(DAYS_BACK) {
        for row in rows.iter().filter(|row| row.created_at < date.end()) {
            steps.store.want_bill(row.account.id, date, date.end().plus(after), now).await?;
        }
    }
    Ok(wanted)
}

fn days_back(from: BillDate) -> impl Iterator<Item = BillDate> {
    std::iter::successors(Some(from), |day| Some(day.previous()))
}

/// Sweeps kept rows that have had their time, and tells the gauges how bills stand.
async fn tidy(steps: &Steps) -> Result<(), StoreError> {
    let store = &steps.store;
    let before = days_back(BillDate::of(steps.clock.now())).nth(ROWS_KEPT_DAYS);
    if let Some(before) = before {
        while store.sweep_bill_rows(before, ROWS_AT_ONCE).await? == ROWS_AT_ONCE {}
    }
    // Of the account that is furthest behind: `prepay reconcile days` tells which.
    if let Some(date) = store.last_bill_days().await?.into_iter().map(|(_, date)| date).min() {
        let begin = Duration::from_secs(u64::try_from(date.begin().secs()).unwrap_or(0));
        metrics::gauge!("prepay_bill_last_matched_day_seconds").set(begin);
    }
    let open = store.open_discrepancies().await?;
    for kind in DiscrepancyKind::ALL {
        let count = open.iter().find(|(found, _)| found == kind).map_or(0, |(_, count)| *count);
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        metrics::gauge!("prepay_discrepancies_open", "kind" => kind.as_str()).set(count);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;

    #[test]
    fn a_bill_is_due_half_past_ten_of_the_next_day() {
        let after = Duration::from_secs(10 * 3600 + 1800);
        let newest = |text: &str| BillDate::of(Timestamp::parse_china_text(text).unwrap().minus(after)).previous();
        assert_eq!(newest("2026-03-02 10:29:59").to_string(), "2026-02-28");
        assert_eq!(newest("2026-03-02 10:30:00").to_string(), "2026-03-01");
        assert_eq!(days_back(newest("2026-03-02 10:30:00")).nth(2).unwrap().to_string(), "2026-02-27");
    }
}
