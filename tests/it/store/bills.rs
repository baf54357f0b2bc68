//! Bills: who holds one, what a killed or late look may still write, and which discrepancies are asked about when.

use std::time::Duration;

use prepay::{
    domain::{
        bill::{BillDate, DiscrepancyKind, DiscrepancyState, Repair, RunState},
        id::AccountId,
        time::Timestamp,
    },
    store::{BillHold, BillRun, BillTotals, Discrepancy, Found, LeaseToken, RunEnd, Store},
};

use super::{place::Place, shop::secs};

const ACCOUNT: AccountId = AccountId(7);
const HOLD: BillHold = BillHold { lease_for: Duration::from_secs(120), again_after: Duration::from_secs(1800) };

fn day() -> BillDate {
    BillDate::parse("2026-03-01").unwrap()
}

async fn taken(store: &Store, at: Timestamp) -> (BillRun, LeaseToken) {
    let token = LeaseToken::fresh();
    (store.lease_due_bill(at, HOLD, token).await.unwrap().expect("it is due"), token)
}

fn found(kind: DiscrepancyKind, number: &str, repair: Repair) -> Found {
    Found {
        kind,
        out_trade_no: number.to_owned(),
        out_refund_no: None,
        order: None,
        ours: "ours".to_owned(),
        theirs: "theirs".to_owned(),
        repair,
    }
}

async fn all(store: &Store) -> Vec<Discrepancy> {
    let mut all = store.list_discrepancies(true, 100).await.unwrap();
    all.sort_by_key(|row| row.id);
    all
}

pub async fn a_held_bill_is_nobody_elses_and_a_lost_one_writes_nothing(place: Place) {
    let store = &place.store;
    store.want_bill(ACCOUNT, day(), secs(0), secs(0)).await.unwrap();
    let (run, token) = taken(store, secs(0)).await;
    assert_eq!((run.state, run.tries, run.next_at), (RunState::Fetching, 1, Some(secs(1800))));
    let other = LeaseToken::fresh();
    assert_eq!(store.lease_bill(ACCOUNT, day(), secs(100), HOLD, other).await.unwrap(), None);
    assert!(store.hold_bill(run.id, secs(5000), token).await.unwrap());
    // Past the first lease and past its time, it is still held.
    assert_eq!(store.lease_bill(ACCOUNT, day(), secs(3000), HOLD, other).await.unwrap(), None);
    assert_eq!(store.lease_due_bill(secs(3000), HOLD, other).await.unwrap(), None);

    let (second, second_token) = taken(store, secs(5000)).await;
    assert_eq!(second.tries, 2);
    let end = RunEnd { state: RunState::Matched, totals: BillTotals::default(), next_at: None, last_error: None };
    assert!(!store.hold_bill(run.id, secs(9000), token).await.unwrap());
    assert!(!store.settle_bill(run.id, &end, secs(5001), token).await.unwrap());
    assert!(!store.end_bill(run.id, &end, secs(5001), token).await.unwrap());
    assert_eq!(store.bill_run(ACCOUNT, day()).await.unwrap().unwrap().state, RunState::Fetching);

    // Done is written before the bill is let go, and then kept whatever comes.
    assert!(store.settle_bill(run.id, &end, secs(5002), second_token).await.unwrap());
    let held = store.bill_run(ACCOUNT, day()).await.unwrap().unwrap();
    assert_eq!((held.state, held.matched_at, held.next_at), (RunState::Matched, Some(secs(5002)), Some(secs(6800))));
    assert_eq!(store.lease_bill(ACCOUNT, day(), secs(5003), HOLD, other).await.unwrap(), None);
    assert!(store.end_bill(run.id, &end, secs(5004), second_token).await.unwrap());
    let again = store.lease_bill(ACCOUNT, day(), secs(6000), HOLD, other).await.unwrap().unwrap();
    assert_eq!((again.state, again.tries), (RunState::Matched, 3));
    let failed = RunEnd { last_error: Some("no answer".to_owned()), ..end };
    assert!(store.end_bill(run.id, &failed, secs(6001), other).await.unwrap());
    let stays = store.bill_run(ACCOUNT, day()).await.unwrap().unwrap();
    assert_eq!((stays.state, stays.matched_at), (RunState::Matched, Some(secs(5004))));
    assert_eq!(store.done_bill_days(ACCOUNT, day(), day()).await.unwrap().len(), 1);
}

pub async fn a_look_that_is_late_opens_nothing_again(place: Place) {
    let store = &place.store;
    store.want_bill(ACCOUNT, day(), secs(0), secs(0)).await.unwrap();
    let (first, _) = taken(store, secs(0)).await;
    let (second, _) = taken(store, secs(4000)).await;
    let wrong = [found(DiscrepancyKind::UnknownNumber, "A", Repair::Person)];
    store.record_discrepancies(&first, &wrong, secs(1)).await.unwrap();
    assert_eq!(store.settle_unseen(&first, &[], secs(2)).await.unwrap(), 0, "this look found it");
    assert_eq!(store.settle_unseen(&second, &[DiscrepancyKind::UnknownNumber], secs(2)).await.unwrap(), 0);
    assert_eq!(store.settle_unseen(&second, &[], secs(4001)).await.unwrap(), 1);
    let (third, _) = taken(store, secs(9000)).await;
    store.record_discrepancies(&third, &wrong, secs(9001)).await.unwrap();
    assert_eq!(all(store).await[0].state, DiscrepancyState::Open, "found again, it is open again");
    // The second one goes on without knowing that its bill is somebody else's.
    store.record_discrepancies(&second, &wrong, secs(9002)).await.unwrap();
    assert_eq!(store.settle_unseen(&third, &[], secs(9003)).await.unwrap(), 0, "it is as new as it was");
    store.note_discrepancy(all(store).await[0].id, DiscrepancyState::Repaired, "seen", secs(9004)).await.unwrap();
    store.record_discrepancies(&second, &wrong, secs(9005)).await.unwrap();
    assert_eq!(all(store).await[0].state, DiscrepancyState::Repaired);
}

pub async fn a_discrepancy_is_asked_about_by_one_and_in_its_time(place: Place) {
    let store = &place.store;
    store.want_bill(ACCOUNT, day(), secs(0), secs(0)).await.unwrap();
    let (run, token) = taken(store, secs(0)).await;
    let rows = [
        found(DiscrepancyKind::MissingHere, "A", Repair::AskPayment),
        found(DiscrepancyKind::MissingThere, "B", Repair::AskPayment),
        found(DiscrepancyKind::UnknownNumber, "C", Repair::Person),
    ];
    store.record_discrepancies(&run, &rows, secs(1)).await.unwrap();
    let due = |at| async move {
        let due = store.due_discrepancies(secs(at), 10).await.unwrap();
        due.into_iter().map(|row| row.found.out_trade_no).collect::<Vec<_>>()
    };
    assert_eq!(due(1).await, ["A"], "what is missing there may still come");
    let end = RunEnd { state: RunState::Matched, totals: BillTotals::default(), next_at: None, last_error: None };
    assert!(store.end_bill(run.id, &end, secs(2), token).await.unwrap());
    assert_eq!(due(2).await, ["A", "B"]);
    let row = store.due_discrepancies(secs(2), 1).await.unwrap().remove(0);
    assert!(store.take_discrepancy(&row, secs(600)).await.unwrap());
    assert!(!store.take_discrepancy(&row, secs(600)).await.unwrap(), "one replica asks");
    assert_eq!(due(599).await, ["B"]);
    assert_eq!(due(600).await, ["B", "A"], "what was never asked about goes first");
    // What is found again once more is asked about at once.
    assert!(store.note_discrepancy(row.id, DiscrepancyState::Repaired, "paid", secs(3)).await.unwrap());
    assert_eq!(due(4).await, ["B"]);
    store.record_discrepancies(&run, &rows, secs(5)).await.unwrap();
    assert_eq!(due(5).await, ["A", "B"]);
    // ... and is as old as that, so that its questions do not end before they begin; the others keep their age.
    assert_eq!(all(store).await.iter().map(|row| row.at).collect::<Vec<_>>(), [secs(5), secs(1), secs(1)]);
    assert!(store.is_to_be_asked(ACCOUNT, day()).await.unwrap());
    assert!(!store.is_to_be_asked(ACCOUNT, day().next()).await.unwrap());
    assert!(!store.is_to_be_asked(AccountId(8), day()).await.unwrap());
    for row in all(store).await {
        store.note_discrepancy(row.id, DiscrepancyState::Dismissed, "nothing", secs(6)).await.unwrap();
    }
    assert!(!store.is_to_be_asked(ACCOUNT, day()).await.unwrap());
    assert_eq!(due(9999).await, Vec::<String>::new());
}

/// Accounts whose bills brought something to light, so many rows each.
async fn backlog(store: &Store, rows: &[(AccountId, usize)]) {
    for (account, count) in rows {
        store.want_bill(*account, day(), secs(0), secs(0)).await.unwrap();
        let token = LeaseToken::fresh();
        let run = store.lease_bill(*account, day(), secs(0), HOLD, token).await.unwrap().expect("nobody has it");
        let numbers = (0..*count).map(|number| format!("{account}-{number:02}"));
        let rows: Vec<_> =
            numbers.map(|number| found(DiscrepancyKind::MissingHere, &number, Repair::AskPayment)).collect();
        store.record_discrepancies(&run, &rows, secs(1)).await.unwrap();
    }
}

pub async fn one_accounts_backlog_keeps_no_others_questions_waiting(place: Place) {
    let store = &place.store;
    backlog(store, &[(ACCOUNT, 30), (AccountId(8), 3), (AccountId(9), 1)]).await;
    let of = |rows: &[Discrepancy], account: u32| -> Vec<String> {
        let its = rows.iter().filter(|row| row.account == AccountId(account));
        its.map(|row| row.found.out_trade_no.clone()).collect()
    };
    let due = store.due_discrepancies(secs(2), 5).await.unwrap();
    let each: Vec<_> = [7, 8, 9].iter().map(|account| of(&due, *account).len()).collect();
    // Two for each of three, and never more than five: whoever is last has what is left.
    assert!(due.len() <= 5 && each.iter().all(|count| (1..=2).contains(count)), "{each:?}");
    let due = store.due_discrepancies(secs(2), 9).await.unwrap();
    let first: Vec<_> = (0..3).map(|number| format!("{ACCOUNT}-{number:02}")).collect();
    assert_eq!((of(&due, 7), of(&due, 8).len(), of(&due, 9).len()), (first, 3, 1));

    // Asked and due again, the later one for longer: behind what was never asked about, in the order of their time.
    for (row, at) in due.iter().filter(|row| row.account == AccountId(8)).zip([40, 30, 50]) {
        assert!(store.take_discrepancy(row, secs(at)).await.unwrap());
    }
    assert_eq!(of(&store.due_discrepancies(secs(45), 90).await.unwrap(), 8), ["8-01", "8-00"]);
    for row in due.iter().filter(|row| row.account == ACCOUNT) {
        assert!(store.take_discrepancy(row, secs(20)).await.unwrap());
    }
    let all: Vec<_> = (3..30).chain(0..3).map(|number| format!("{ACCOUNT}-{number:02}")).collect();
    assert_eq!(of(&store.due_discrepancies(secs(45), 90).await.unwrap(), 7), all);
}

pub async fn with_more_accounts_than_questions_everybody_has_a_turn(place: Place) {
    let store = &place.store;
    let accounts: Vec<_> = (1..=5).map(AccountId).collect();
    backlog(store, &accounts.iter().map(|account| (*account, 2)).collect::<Vec<_>>()).await;
    let mut had = std::collections::BTreeSet::new();
    // Nothing is ever settled, and the looks are as far apart as bills are looked for.
    for look in 1..=60 {
        let due = store.due_discrepancies(secs(look * 60), 2).await.unwrap();
        assert_eq!(due.len(), 2);
        assert_ne!(due[0].account, due[1].account, "one each");
        had.extend(due.iter().map(|row| row.account.0));
    }
    assert_eq!(had.len(), accounts.len(), "{had:?}");
}
