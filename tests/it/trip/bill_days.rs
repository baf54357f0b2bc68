//! Bills of days beside each other, looks that end half-way or are made again, and what is asked about without a person.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::Poll,
    time::{Duration, Instant},
};

use prepay::{
    domain::{
        bill::{BillDate, DiscrepancyKind, DiscrepancyState, RunState},
        id::AccountId,
        time::Timestamp,
    },
    steps::reconcile::{BillProgress, Reconciled, Repaired},
    store::{BillHold, LeaseToken},
};
use simulator::{BillChange, Bills, Call, Fault, FaultKind, Match};

use super::{
    bills::csv,
    books::{Books, is_empty, of_another_system},
    harness::{SOON, World, until},
    sides::{Side, number},
};

const DAY_MS: i64 = 24 * 3600 * 1000;

impl World {
    /// A day of both bills that something happened on, of another system alone.
    fn has_a_bill(&self, side: Side, date: BillDate) {
        self.change_bills(side, of_another_system(date));
    }

    fn left_out(&self, side: Side, out_trade_no: String, out_refund_no: Option<String>) {
        self.change_bills(side, BillChange::LeaveOut { out_trade_no, out_refund_no });
    }

    /// A payment two minutes before its day begins, by our rows, that neither day's bill has; its number, and the day after.
    async fn missing_before_midnight(&self) -> (Books, String, BillDate) {
        self.set_bills(Bills::Ready);
        let mut books = self.books().await;
        books.steps.settings.bill_edge = Duration::from_secs(300);
        let order = self.paid_by("A1", Side::Wechat).await;
        let date = self.day_of(&order).await;
        self.has_a_bill(Side::Wechat, date);
        self.has_a_bill(Side::Wechat, date.previous());
        self.left_out(Side::Wechat, number(&order, 1), None);
        let late = date.begin().minus(Duration::from_secs(120)).ms();
        self.place.sql(&format!("UPDATE attempts SET paid_at = {late} WHERE state = 'paid'")).await;
        self.place.sql(&format!("UPDATE channel_accounts SET created_at = created_at - {}", 9 * DAY_MS)).await;
        (books, number(&order, 1), date)
    }

    /// Whether the merchant is told that its bill of a day is whole.
    async fn says_matched(&self, date: BillDate) -> bool {
        let (status, headers, _) = csv(&self.shop, &format!("/api/v1/bills/{date}")).await;
        assert_eq!(status, reqwest::StatusCode::OK);
        headers["x-bill-matched"] == "true"
    }
}

/// A merchant is not told that nothing is missing while something is known to be.
pub async fn a_days_bill_is_whole_once_what_was_missed_was_asked_about(world: World) -> World {
    world.set_bills(Bills::Ready);
    world.lose_all_notices();
    let order = world.shop.new_order("A1").await;
    let person = world.person(Side::Wechat);
    // Nobody is told of the payment, and no question gets an answer.
    let data = world.tap_ready(&order, &person).await;
    world.fault_always(Side::Wechat, Call::Query, &order, FaultKind::HtmlBefore);
    let today = BillDate::of(world.clock.now());
    world.press_pay(&data, &person).await.unwrap();
    let books = world.books().await;
    books.matched(world.wechat.account, today).await;
    books.look(world.alipay.account, today).await;
    assert_eq!(world.open_kinds().await, [(DiscrepancyKind::MissingHere, number(&order, 1))]);

    // A day later, because a test does not wait for midnight. Both bills were matched.
    let yesterday = today.previous();
    for table in ["bill_runs", "discrepancies"] {
        world.place.sql(&format!("UPDATE {table} SET date = '{yesterday}'")).await;
    }
    world.place.sql("UPDATE bill_runs SET state = 'matched', next_at = NULL").await;
    world.place.sql("UPDATE channel_accounts SET created_at = created_at - 86400000").await;
    assert!(!world.says_matched(yesterday).await, "a payment is known to be missing");
    assert!(books.steps.ask_about_bills(10).await.unwrap() <= 1);
    assert!(!world.says_matched(yesterday).await, "the wallet did not answer");
    assert_eq!(books.steps.ask_about_bills(10).await.unwrap(), 0, "not again at once");

    world.sim.faults().clear();
    world.place.sql("UPDATE discrepancies SET ask_at = NULL").await;
    let world = world.restart(|settings| settings.scheduler.bills_every_ms = 100).await;
    until("the scheduler asks by itself", || world.says_matched(yesterday)).await;
    assert_eq!(world.shop.order("A1").await["payStatus"], "SUCCESS");
    assert_eq!(world.open_kinds().await, []);
    world
}

pub async fn a_look_again_that_comes_to_nothing_leaves_a_finished_day_finished(world: World) -> World {
    world.set_bills(Bills::Ready);
    let books = world.books().await;
    let order = world.paid_by("A1", Side::Wechat).await;
    let (account, date) = (world.wechat.account, world.day_of(&order).await);
    let done = books.matched(account, date).await;

    // A process takes it again and is killed.
    let (now, token) = (world.clock.now(), LeaseToken::fresh());
    let hold = BillHold { lease_for: Duration::from_secs(120), again_after: Duration::from_secs(1800) };
    let held = world.place.store.lease_bill(account, date, now, hold, token).await.unwrap().unwrap();
    assert_eq!((held.state, held.tries), (RunState::Matched, 2), "known is known");
    assert!(held.next_at.is_some_and(|at| at >= now.plus(Duration::from_secs(1700))), "{held:?}");
    let came = books.steps.reconcile(account, date, &()).await.unwrap();
    assert_eq!(came, Reconciled::Held, "nobody else is at it");
    assert_eq!(books.steps.reconcile_due(&()).await.unwrap(), None, "nor too soon after that");
    world.place.sql("UPDATE bill_runs SET leased_until = 1").await;
    assert_eq!(books.steps.reconcile_due(&()).await.unwrap(), None, "a killed look waits as a failed one does");
    world.place.sql("UPDATE bill_runs SET next_at = 1").await;
    let fault = || Fault::once(Side::Wechat.sim(), Call::Bill, FaultKind::HtmlBefore).when(Match::any());
    for tries in [3, 4] {
        world.sim.faults().add(fault());
        let failed = if tries == 3 {
            books.steps.reconcile_due(&()).await.unwrap().expect("it is not forgotten")
        } else {
            books.look(account, date).await
        };
        assert_eq!((failed.state, failed.totals, failed.tries), (RunState::Matched, done.totals, tries));
        assert!(failed.last_error.is_some() && failed.matched_at == done.matched_at, "{failed:?}");
        assert!(failed.next_at.is_some_and(|at| at > now), "nor is it after one that fails: {failed:?}");
        world.place.sql("UPDATE bill_runs SET next_at = 1").await;
    }
    let run = books.steps.reconcile_due(&()).await.unwrap().expect("it is still due");
    assert_eq!((run.state, run.tries, run.next_at), (RunState::Matched, 5, None));

    // A person looks again, long after, and the wallet fails.
    let long_ago = BillDate::of(now.minus(Duration::from_secs(30 * 24 * 3600)));
    world.place.sql(&format!("UPDATE bill_runs SET date = '{long_ago}'")).await;
    world.sim.faults().add(fault());
    let failed = books.look(account, long_ago).await;
    assert_eq!((failed.state, failed.totals, failed.next_at), (RunState::Matched, done.totals, None));
    assert_eq!(failed.matched_at, run.matched_at);
    assert!(failed.last_error.is_some());
    world
}

/// Dropped at every point at which it waits: the bill is not lost, nothing of it stays on the disk, and nothing wrong is found.
pub async fn a_look_that_is_dropped_anywhere_is_made_again(world: World) -> World {
    world.set_bills(Bills::Ready);
    let books = world.books().await;
    let order = world.paid_by("A1", Side::Wechat).await;
    world.paid_by("A2", Side::Wechat).await;
    world.refund_taken("R1", "A2", 500).await;
    world.until_refund("R1", "SUCCESS").await;
    let (account, date) = (world.wechat.account, world.day_of(&order).await);
    let now = world.clock.now();
    assert!(world.place.store.want_bill(account, date, now, now).await.unwrap());
    let (mut dropped, mut late) = (0, 0);
    loop {
        world.place.sql("UPDATE bill_runs SET leased_until = 1, next_at = 1").await;
        let ended = {
            let mut look = pin!(books.steps.reconcile_due(&()));
            let mut waits = 0;
            poll_fn(|cx| match look.as_mut().poll(cx) {
                Poll::Ready(ended) => Poll::Ready(Some(ended)),
                Poll::Pending if waits == dropped => Poll::Ready(None),
                Poll::Pending => {
                    waits += 1;
                    Poll::Pending
                }
            })
            .await
        };
        until("no file is left", || async { is_empty(books.folder.path()) }).await;
        assert_eq!(world.open_kinds().await, [], "after {dropped} waits");
        if let Some(ended) = ended {
            // What the store was at when the look was dropped goes on, and may come after ours.
            let Some(run) = ended.unwrap() else {
                late += 1;
                assert!(late < 20, "it is due as often as it was dropped");
                continue;
            };
            assert_eq!((run.state, run.totals.discrepancies), (RunState::Matched, 0));
            break;
        }
        dropped += 1;
    }
    assert!(dropped > 10, "{dropped}");
    // One more, because what was dropped left rows of its own.
    assert_eq!(books.matched(account, date).await.totals.discrepancies, 0);
    assert_eq!(world.place.number("SELECT COUNT(*) FROM bill_rows WHERE NOT kept").await, 0);
    assert_eq!(world.place.number("SELECT COUNT(*) FROM bill_rows").await, 1, "the refund's, of the last try");
    world
}

/// Accepted on one day and paid back on the next, and in the bill of neither; the later bill is matched first.
pub async fn a_refund_in_no_bill_is_missed_whichever_day_is_last(world: World) -> World {
    world.set_bills(Bills::Ready);
    let books = world.books().await;
    let order = world.paid_by("A1", Side::Wechat).await;
    let refund = world.refund_taken("R1", "A1", 500).await["serialNo"].as_str().unwrap().to_owned();
    world.until_refund("R1", "SUCCESS").await;
    let (account, date) = (world.wechat.account, world.day_of(&order).await);
    world.place.sql("UPDATE refunds SET created_at = created_at - 86400000").await;
    world.has_a_bill(Side::Wechat, date);
    world.has_a_bill(Side::Wechat, date.previous());
    world.left_out(Side::Wechat, number(&order, 1), Some(refund.clone()));
    assert_eq!(books.matched(account, date).await.totals.discrepancies, 0, "the day before may have it");
    assert_eq!(books.matched(account, date.previous()).await.totals.discrepancies, 1);
    let missing = [(DiscrepancyKind::MissingThere, refund)];
    assert_eq!(world.open_kinds().await, missing);
    for date in [date, date.previous()] {
        books.matched(account, date).await;
        assert_eq!(world.open_kinds().await, missing, "found once, and again by the look that found it");
    }
    world.true_bills(Side::Wechat);
    world.has_a_bill(Side::Wechat, date.previous());
    books.matched(account, date).await;
    assert_eq!(world.open_kinds().await, [], "the bill of the later day has it after all");
    world
}

/// A row that a bill named stays named while its day is looked at again: another day's look does not miss it.
pub async fn a_refund_named_by_an_earlier_bill_is_kept(world: World) -> World {
    world.set_bills(Bills::Ready);
    let books = world.books().await;
    let order = world.paid_by("A1", Side::Wechat).await;
    world.refund_taken("R1", "A1", 500).await;
    world.until_refund("R1", "SUCCESS").await;
    let (account, date) = (world.wechat.account, world.day_of(&order).await);
    world.has_a_bill(Side::Wechat, date.next());
    books.matched(account, date).await;
    // Its money is back on the day after.
    world.place.sql(&format!("UPDATE refunds SET refunded_at = refunded_at + {DAY_MS}")).await;
    let hold = BillHold { lease_for: Duration::from_secs(120), again_after: Duration::from_secs(1800) };
    let token = LeaseToken::fresh();
    assert!(world.place.store.lease_bill(account, date, world.clock.now(), hold, token).await.unwrap().is_some());
    assert_eq!(books.matched(account, date.next()).await.totals.discrepancies, 0);
    assert_eq!(world.open_kinds().await, []);
    world
}

/// Waits for the other look, once each knows what it knows of the other.
struct Together(AtomicUsize);

struct Half(Arc<Together>, AtomicBool);

impl BillProgress for Half {
    fn looking(&self) {
        if self.1.swap(true, Ordering::SeqCst) {
            return;
        }
        self.0.0.fetch_add(1, Ordering::SeqCst);
        let began = Instant::now();
        // The other one may need this thread to come so far.
        tokio::task::block_in_place(|| {
            while self.0.0.load(Ordering::SeqCst) < 2 {
                assert!(began.elapsed() < SOON, "the other look does not come so far");
                std::thread::yield_now();
            }
        });
    }
}

pub async fn two_days_looked_at_side_by_side_miss_nothing_between_them(world: World) -> World {
    let (books, number, date) = world.missing_before_midnight().await;
    let account = world.wechat.account;
    let together = Arc::new(Together(AtomicUsize::new(0)));
    let looks = [date, date.previous()].map(|date| {
        let (steps, half) = (books.steps.clone(), Half(together.clone(), AtomicBool::new(false)));
        tokio::spawn(async move { steps.reconcile(account, date, &half).await.unwrap() })
    });
    for look in looks {
        let Reconciled::Done(run) = look.await.unwrap() else { panic!("two days are two bills") };
        assert_eq!(run.state, RunState::Matched, "{run:?}");
    }
    let mut open = world.open_kinds().await;
    open.dedup();
    assert_eq!(open, [(DiscrepancyKind::MissingThere, number)]);
    world
}

/// Fewer days are known than before, so a look sees less: what it does not look for is not gone.
pub async fn what_a_later_look_cannot_see_stays_open(world: World) -> World {
    let (books, number, date) = world.missing_before_midnight().await;
    let account = world.wechat.account;
    books.matched(account, date.previous()).await;
    assert_eq!(books.matched(account, date).await.totals.discrepancies, 1);
    let missing = [(DiscrepancyKind::MissingThere, number)];
    let forgotten = format!("UPDATE bill_runs SET state = 'due', matched_at = NULL WHERE date = '{}'", date.previous());
    world.place.sql(&forgotten).await;
    assert_eq!(books.matched(account, date).await.totals.discrepancies, 0, "the day before may have it");
    assert_eq!(world.open_kinds().await, missing);
    books.matched(account, date.previous()).await;
    books.matched(account, date).await;
    assert_eq!(world.open_kinds().await, missing);
    let noon = date.begin().plus(Duration::from_secs(12 * 3600)).ms();
    world.place.sql(&format!("UPDATE attempts SET paid_at = {noon} WHERE state = 'paid'")).await;
    world.true_bills(Side::Wechat);
    books.matched(account, date).await;
    assert_eq!(world.open_kinds().await, [], "a look that could have missed it and did not");
    world
}

/// The wallet is asked, and what it says is not what we have: that settles nothing.
pub async fn a_wallet_that_contradicts_confirms_nothing(world: World) -> World {
    world.set_bills(Bills::Ready);
    let books = world.books().await;
    for (side, order_no) in [(Side::Wechat, "A1"), (Side::Alipay, "A2")] {
        let order = world.paid_by(order_no, side).await;
        let date = world.day_of(&order).await;
        world.has_a_bill(side, date);
        world.left_out(side, number(&order, 1), None);
        books.matched(world.account(side), date).await;
        let id = world.found(DiscrepancyState::Open).await.remove(0).id;
        let asked = || async { books.steps.repair(id).await.unwrap() };
        world.fault(side, Call::Query, &order, FaultKind::WrongAmount { fen: 2000 });
        let said = asked().await;
        assert!(matches!(&said, Repaired::No(why) if why.contains("2000 fen")), "{said:?}");
        let serial = order["serialNo"].as_str().unwrap();
        let other = |from: &str, to: &str| {
            format!("UPDATE attempts SET trade_no = REPLACE(trade_no, '{from}', '{to}') WHERE order_id = '{serial}'")
        };
        world.place.sql(&other("2", "Z")).await;
        let said = asked().await;
        assert!(matches!(&said, Repaired::No(why) if why.contains("paid 1999 fen")), "{said:?}");
        let row = world.place.store.discrepancy(id).await.unwrap().unwrap();
        assert_eq!(row.state, DiscrepancyState::Open);
        assert!(row.note.is_some_and(|note| note.contains("1999 fen")), "the wallet's words are kept");
        world.place.sql(&other("Z", "2")).await;
        assert!(matches!(asked().await, Repaired::Yes(_)));
    }
    world
}

/// A scheduler that was away wants every day since, and a person who matched yesterday's bill by hand changes nothing about that.
pub async fn a_scheduler_that_was_away_wants_every_day(mut world: World) -> World {
    // Away: a look of its own between two statements would want these days first.
    world.stop_roles().await;
    let account = world.wechat.account;
    let now = world.clock.now();
    world.place.sql(&format!("UPDATE channel_accounts SET created_at = created_at - {}", 9 * DAY_MS)).await;
    let newest = BillDate::of(now.minus(Duration::from_secs(10 * 3600 + 1800))).previous();
    world.place.sql("DELETE FROM bill_runs").await;
    // Far off, so that it stays as it is.
    let later = now.plus(Duration::from_secs(9 * 24 * 3600));
    assert!(world.place.store.want_bill(account, newest, later, now).await.unwrap());
    let created = now.minus(Duration::from_secs(9 * 24 * 3600));
    let mut days = Vec::new();
    let mut day = newest;
    while day.end() > created {
        days.push(day);
        day = day.previous();
    }
    assert!(days.len() >= 8);
    let world = world.restart(|settings| settings.scheduler.bills_every_ms = 100).await;
    until("every day is wanted", || async {
        let states = world.place.store.bill_states_since(*days.last().unwrap()).await.unwrap();
        days.iter().all(|day| states.contains_key(&(account, *day)))
    })
    .await;
    assert_eq!(world.place.store.bill_run(account, days.last().unwrap().previous()).await.unwrap(), None);
    world
}

/// The wallet has no bill, and we were paid: that is not the last word, and after a week a person's.
pub async fn a_day_without_a_bill_and_with_payments_is_not_done(world: World) -> World {
    let books = world.books().await;
    world.paid_by("A1", Side::Wechat).await;
    let account: AccountId = world.wechat.account;
    let paid_on = |date: BillDate| {
        let noon: Timestamp = date.begin().plus(Duration::from_secs(12 * 3600));
        format!("UPDATE attempts SET paid_at = {} WHERE state = 'paid'", noon.ms())
    };
    let date = BillDate::of(world.clock.now()).previous().previous();
    world.place.sql(&paid_on(date)).await;
    let run = books.look(account, date).await;
    assert_eq!((run.state, run.totals.discrepancies), (RunState::Due, 1));
    assert!(run.next_at.is_some() && run.last_error.is_some(), "{run:?}");
    assert_eq!(books.steps.ask_about_bills(10).await.unwrap(), 0, "the bill may still come");

    let long_ago = BillDate::of(world.clock.now().minus(Duration::from_secs(10 * 24 * 3600)));
    world.place.sql(&paid_on(long_ago)).await;
    world.place.sql("DELETE FROM discrepancies").await;
    let run = books.look(account, long_ago).await;
    assert_eq!(run.state, RunState::Due, "a scheduler that was away begins with old days");
    world.place.sql("UPDATE bill_runs SET tries = 9").await;
    let run = books.look(account, long_ago).await;
    assert_eq!((run.state, run.totals.discrepancies, run.next_at), (RunState::Failed, 1, None));
    assert_eq!(books.steps.ask_about_bills(10).await.unwrap(), 1, "the wallet confirms it at least");
    assert_eq!(world.open_kinds().await, []);
    world
}
