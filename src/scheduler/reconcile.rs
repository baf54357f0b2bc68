//! Yesterday's bills: wanted once their time has come, then matched one after the other.
//!
//! Replicas share them by leases; one at a time each, so that a process holds the memory and the disk of one bill.

use std::{
    collections::HashMap,
    time::{Duration, Instant, SystemTime},
};

use tokio_util::sync::CancellationToken;

use super::run::SchedulerSettings;
use crate::{
    domain::{
        bill::{BillDate, DiscrepancyKind, RunState},
        id::AccountId,
    },
    steps::{
        Steps,
        reconcile::{ROWS_KEPT_DAYS, sweep_left_over},
    },
    store::{Account, StoreError},
};

/// Days of so long ago are still wanted, each of them: a scheduler may have been away, and a person may have matched a later one.
const DAYS_BACK: usize = 35;
const ROWS_AT_ONCE: u64 = 1_000;
/// Questions about discrepancies each time bills are looked for, and between bills not before as long again.
const ASKED_AT_ONCE: u64 = 100;

/// Wants, matches, asks and measures until `soft`. A bill under way is left then, and due again later.
pub async fn match_bills(steps: Steps, settings: SchedulerSettings, soft: CancellationToken) {
    sweep_folder(&steps).await;
    let (mut wanted, mut asked_at) = (None, Instant::now());
    while !soft.is_cancelled() {
        match want_bills(&steps, settings.bills_after, wanted.take()).await {
            Ok(now_wanted) => wanted = Some(now_wanted),
            Err(error) => tracing::warn!(%error, "the bills that are due cannot be noted"),
        }
        loop {
            let Some(matched) = soft.run_until_cancelled(steps.reconcile_due(&())).await else { return };
            let was_last = !matches!(matched, Ok(Some(_)));
            if was_last || asked_at.elapsed() >= settings.bills_every {
                match soft.run_until_cancelled(steps.ask_about_bills(ASKED_AT_ONCE)).await {
                    None => return,
                    Some(Ok(_)) => {}
                    Some(Err(error)) => tracing::warn!(%error, "what bills brought to light is not asked about"),
                }
                asked_at = Instant::now();
            }
            match matched {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%error, "a bill was not matched; it is taken again");
                    break;
                }
            }
        }
        if let Err(error) = tidy(&steps, settings.bills_after).await {
            tracing::warn!(%error, "what is left of bills cannot be tidied");
        }
        if soft.run_until_cancelled(tokio::time::sleep(settings.bills_every)).await.is_none() {
            return;
        }
    }
}

/// A process that was killed could not delete its bill, which names payers.
async fn sweep_folder(steps: &Steps) {
    let folder = steps.settings.bills_dir.clone();
    match tokio::task::spawn_blocking(move || sweep_left_over(&folder, SystemTime::now())).await {
        Ok(Ok(0)) => {}
        Ok(Ok(swept)) => tracing::info!(swept, "bills of a killed process are deleted"),
        Ok(Err(error)) => tracing::warn!(%error, "the folder of bills cannot be read"),
        Err(error) => tracing::warn!(%error, "the folder of bills was not swept"),
    }
}

/// What was wanted last: it is wanted again when the day or the accounts are others.
type Wanted = (BillDate, Vec<AccountId>);

/// Has the bills of the last days fetched, for every account that was there on them; `after` is how long after a day's end.
async fn want_bills(steps: &Steps, after: Duration, last: Option<Wanted>) -> Result<Wanted, StoreError> {
    let now = steps.clock.now();
    let newest = newest_due(steps, after);
    let rows = usable_accounts(steps).await?;
    let wanted = (newest, rows.iter().map(|row| row.account.id).collect());
    if last.as_ref() == Some(&wanted) {
        return Ok(wanted);
    }
    let known = steps.store.bill_states_since(oldest_wanted(newest)).await?;
    for date in days_back(newest).take(DAYS_BACK) {
        for row in days_of(&rows, date).filter(|row| !known.contains_key(&(row.account.id, date))) {
            steps.store.want_bill(row.account.id, date, date.end().plus(after), now).await?;
        }
    }
    Ok(wanted)
}

/// The last day whose bill is due by now.
fn newest_due(steps: &Steps, after: Duration) -> BillDate {
    BillDate::of(steps.clock.now().minus(after)).previous()
}

fn oldest_wanted(newest: BillDate) -> BillDate {
    days_back(newest).nth(DAYS_BACK - 1).unwrap_or(newest)
}

async fn usable_accounts(steps: &Steps) -> Result<Vec<Account>, StoreError> {
    Ok(steps.store.accounts().await?.into_iter().filter(|row| row.secrets.is_some()).collect())
}

/// The accounts that were there on a day.
fn days_of(rows: &[Account], date: BillDate) -> impl Iterator<Item = &Account> {
    rows.iter().filter(move |row| row.created_at < date.end())
}

/// The oldest day that is not done for every account that was there on it; the day after `newest` when all are.
fn oldest_open(rows: &[Account], states: &HashMap<(AccountId, BillDate), RunState>, newest: BillDate) -> BillDate {
    let is_done = |row: &Account, date| states.get(&(row.account.id, date)).is_some_and(|state| state.is_done());
    let open = days_back(newest).take(DAYS_BACK).filter(|date| !days_of(rows, *date).all(|row| is_done(row, *date)));
    open.min().unwrap_or_else(|| newest.next())
}

fn days_back(from: BillDate) -> impl Iterator<Item = BillDate> {
    std::iter::successors(Some(from), |day| Some(day.previous()))
}

/// Sweeps kept rows that have had their time, and tells the gauges how bills stand.
async fn tidy(steps: &Steps, after: Duration) -> Result<(), StoreError> {
    let (store, now) = (&steps.store, steps.clock.now());
    if let Some(before) = days_back(BillDate::of(now)).nth(ROWS_KEPT_DAYS) {
        while store.sweep_bill_rows(before, now, ROWS_AT_ONCE).await? == ROWS_AT_ONCE {}
    }
    // Of the account that is furthest behind: `prepay reconcile days` tells which.
    let newest = newest_due(steps, after);
    let states = store.bill_states_since(oldest_wanted(newest)).await?;
    let open = oldest_open(&usable_accounts(steps).await?, &states, newest);
    let begin = Duration::from_secs(u64::try_from(open.begin().secs()).unwrap_or(0));
    metrics::gauge!("prepay_bill_oldest_open_day_seconds").set(begin);
    let failed = states.values().filter(|state| **state == RunState::Failed).count();
    metrics::gauge!("prepay_bills_failed").set(u32::try_from(failed).unwrap_or(u32::MAX));
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
    use crate::domain::{account::ChannelAccount, id::MerchantId, time::Timestamp, wallet::Wallet};

    #[test]
    fn a_bill_is_due_half_past_ten_of_the_next_day() {
        let after = Duration::from_secs(10 * 3600 + 1800);
        let newest = |text: &str| BillDate::of(Timestamp::parse_china_text(text).unwrap().minus(after)).previous();
        assert_eq!(newest("2026-03-02 10:29:59").to_string(), "2026-02-28");
        assert_eq!(newest("2026-03-02 10:30:00").to_string(), "2026-03-01");
        assert_eq!(days_back(newest("2026-03-02 10:30:00")).nth(2).unwrap().to_string(), "2026-02-27");
    }

    #[test]
    fn the_oldest_day_that_is_not_done_shows_whatever_came_after_it() {
        let newest = BillDate::parse("2026-03-20").unwrap();
        let day = |text: &str| BillDate::parse(text).unwrap();
        let account = |id, since: &str| Account {
            account: ChannelAccount {
                id: AccountId(id),
                merchant: MerchantId(1),
                wallet: Wallet::Alipay,
                number: String::new(),
                enabled: true,
            },
            settings: String::new(),
            public_keys: String::new(),
            secrets: None,
            version: 1,
            keys_checked_at: None,
            created_at: day(since).begin(),
        };
        let mut states = HashMap::new();
        for date in days_back(newest).take(10) {
            states.insert((AccountId(1), date), RunState::Matched);
        }
        let old = [account(1, "2026-03-11")];
        assert_eq!(oldest_open(&old, &states, newest), newest.next(), "all are done");
        states.insert((AccountId(1), day("2026-03-15")), RunState::Failed);
        assert_eq!(oldest_open(&old, &states, newest), day("2026-03-15"), "one between two that are");
        let young = [account(1, "2026-03-11"), account(2, "2026-03-13")];
        assert_eq!(oldest_open(&young, &states, newest), day("2026-03-13"), "an account without rows");
        let ancient = [account(3, "2020-01-01")];
        assert_eq!(oldest_open(&ancient, &states, newest), day("2026-02-14"), "35 days");
    }
}
