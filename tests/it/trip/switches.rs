//! The simulated wallets' switches, position after position: what is paid, given back and closed is the same in each.
//!
//! Switches that show only in a trip of their own are in `switches_apart.rs`.

use serde_json::{Value, json};
use simulator::{
    Bills, Call, Event, FaultKind,
    alipay::{self, CloseRefusal, FundChange, Layout},
    wechat::{self, ChangedPrepay, UnknownClose},
};

use super::{
    books::Books,
    caller::is_processing,
    closes::assert_closed,
    harness::{World, until},
    modes::{first_order, merchant_of_a_provider},
    sides::{Side, number},
};

/// A switch by its name, and what turns it. The name is part of every number that an order of it has.
type Position<S> = (&'static str, fn(&mut S));

const WECHAT: [Position<wechat::Switches>; 9] = [
    ("as_usual", |_| {}),
    ("changed_prepay", |switches| switches.changed_prepay = ChangedPrepay::InvalidRequest),
    ("unknown_close", |switches| switches.unknown_close = UnknownClose::NoContent),
    ("sign_errors", |switches| switches.sign_errors = false),
    ("unpaid_amount", |switches| switches.unpaid_amount = false),
    ("pretty", |switches| switches.pretty = true),
    ("unionid", |switches| switches.unionid = true),
    // A minute at the wallet is 0.6 s here.
    ("notice_delay_ms", |switches| switches.notice_delay_ms = 60_000),
    ("notice_delay_spread_ms", |switches| {
        (switches.notice_delay_ms, switches.notice_delay_spread_ms) = (5_000, 55_000);
    }),
];

const ALIPAY: [Position<alipay::Switches>; 13] = [
    ("as_usual", |_| {}),
    ("escaped_slashes", |switches| switches.layout = Layout::EscapedSlashes),
    ("escaped_after_signing", |switches| switches.layout = Layout::EscapedAfterSigning),
    ("blanks", |switches| switches.layout = Layout::Blanks),
    ("decoys", |switches| switches.layout = Layout::Decoys),
    ("sign_first", |switches| switches.layout = Layout::SignFirst),
    ("sign_failures", |switches| switches.sign_failures = false),
    ("close_refusal", |switches| switches.close_refusal = CloseRefusal::ReasonTradeStatusInvalid),
    ("notify_closed", |switches| switches.notify_closed = true),
    ("numbers_as_text", |switches| switches.numbers_as_text = true),
    ("notify_after_ms", |switches| switches.notify_after_ms = 60_000),
    ("fund_change_absent_for_n", |switches| switches.fund_change = FundChange::AbsentForN),
    ("fund_change_never_y", |switches| switches.fund_change = FundChange::NeverY),
];

/// Says in which position it was when something panics below it, in a helper that does not know.
pub(super) struct At<'a>(pub &'a str);

impl Drop for At<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("it was in position {}", self.0);
        }
    }
}

pub async fn wechats_switches_move_no_money(world: World) -> World {
    let books = world.books().await;
    for (position, turn) in WECHAT {
        world.sim.wechat().set_switches(|switches| {
            *switches = wechat::Switches { bills: Bills::Ready, ..wechat::Switches::default() };
            turn(switches);
        });
        assert_all_is_right(&world, &books, Side::Wechat, position).await;
    }
    assert_nothing_is_left_over(&world, "after all").await;
    world
}

pub async fn alipays_switches_move_no_money(world: World) -> World {
    let books = world.books().await;
    for (position, turn) in ALIPAY {
        world.sim.alipay().set_switches(|switches| {
            *switches = alipay::Switches { bills: Bills::Ready, ..alipay::Switches::default() };
            turn(switches);
        });
        assert_all_is_right(&world, &books, Side::Alipay, position).await;
    }
    assert_nothing_is_left_over(&world, "after all").await;
    world
}

/// Whose application a provider's notices name is not confirmed: either is taken.
pub async fn a_providers_notices_may_name_its_merchant(mut world: World) -> World {
    let (shop, alipay) = merchant_of_a_provider(&world, "ALINAMED").await;
    first_order(&shop).await;
    (world.shop, world.alipay) = (shop, alipay);
    let books = world.books().await;
    for (position, as_merchant) in [("notify_as_provider", false), ("notify_as_merchant", true)] {
        world.sim.alipay().set_switches(|switches| {
            (switches.notify_as_merchant, switches.bills) = (as_merchant, Bills::Ready);
        });
        assert_all_is_right(&world, &books, Side::Alipay, position).await;
    }
    assert_nothing_is_left_over(&world, "after all").await;
    world
}

/// One order of each end, side by side, then the bill of their day.
async fn assert_all_is_right(world: &World, books: &Books, side: Side, position: &str) {
    let _at = At(position);
    let (paid, ..) = tokio::join!(
        is_paid_and_given_back(world, side, position),
        is_closed_unpaid(world, side, position),
        is_paid_against_its_close(world, side, position),
        is_closed_though_it_never_arrived(world, side, position),
    );
    let date = world.day_of(&paid).await;
    let totals = books.matched(world.account(side), date).await.totals;
    assert!(totals.payments > 0, "{position}: {totals:?}");
    assert_eq!((totals.discrepancies, totals.unreadable), (0, 0), "{position}: {totals:?}");
    assert_nothing_is_left_over(world, position).await;
}

pub(super) async fn assert_nothing_is_left_over(world: &World, position: &str) {
    let _at = At(position);
    world.place.assert_nothing_parked().await;
    assert_eq!(world.place.rows_of("anomalies").await, 0, "{position}");
    let found = world.place.store.list_discrepancies(true, 10).await.unwrap();
    assert!(found.is_empty(), "{position}: {found:?}");
}

/// Its first prepay goes unanswered, a notice tells of its payment, and a part of it goes back.
async fn is_paid_and_given_back(world: &World, side: Side, position: &str) -> Value {
    let (order_no, person) = (format!("{position}-paid"), world.person(side));
    let order = world.shop.new_order(&order_no).await;
    let (sent, ledger) = (number(&order, 1), world.sim.ledger());
    world.fault(side, Call::Prepay, &order, FaultKind::LoseAnswer);
    let data = world.pay_patiently(&world.login_body(&order, &person)).await;
    // Whatever a wallet says to other content under a number of ours, it has no occasion.
    let prepays = |event| ledger.count(&sent, Call::Prepay, event);
    assert_eq!((prepays(Event::Created), prepays(Event::Refused)), (1, 0), "{position}");
    assert_eq!(world.press_pay(&data, &person).await, Ok(()), "{position}");
    world.until_status(&order_no, "SUCCESS").await;
    let what = format!("{position}: a notice is taken");
    until(&what, || async { ledger.count(&sent, Call::Notify, Event::NoticeAccepted) > 0 }).await;

    world.hurried(world.refund_taken(&order_no, &order_no, 700)).await;
    world.hurried(world.until_refund(&order_no, "SUCCESS")).await;
    let told = world.synced(&order_no).await;
    let [status, synced, refunded] = ["payStatus", "synced", "refundedAmount"].map(|name| &told[name]);
    assert_eq!((status, synced, refunded), (&json!("SUCCESS"), &json!(true), &json!(700)), "{position}: {told:#}");
    assert_eq!(told["anomalies"], json!([]), "{position}");
    assert_eq!(ledger.payments(&sent), [(sent.clone(), 1999)], "{position}");
    assert_eq!((ledger.refunded(&sent).len(), ledger.refunded_fen(&sent)), (1, 700), "{position}");
    order
}

/// Prepaid, asked about, and closed by its merchant.
async fn is_closed_unpaid(world: &World, side: Side, position: &str) {
    let (order_no, person) = (format!("{position}-closed"), world.person(side));
    let order = world.shop.new_order(&order_no).await;
    let data = world.pay_patiently(&world.login_body(&order, &person)).await;
    let told = async || {
        let told = world.synced(&order_no).await;
        told["payStatus"] == "PROCESSING" && told["synced"] == true
    };
    until(&format!("{position}: the wallet says how it stands"), told).await;
    assert_closed(&world.close(&order_no).await);
    let (sent, ledger) = (number(&order, 1), world.sim.ledger());
    assert_eq!(ledger.count(&sent, Call::Close, Event::Closed), 1, "{position}");
    assert!(world.press_pay(&data, &person).await.is_err(), "{position}: nobody can pay it");
    assert_eq!(ledger.payable_numbers(&sent), Vec::<String>::new(), "{position}");
    if side == Side::Alipay && world.sim.alipay().switches().notify_closed {
        let what = format!("{position}: the notice of its close is taken");
        until(&what, || async { ledger.count(&sent, Call::Notify, Event::NoticeAccepted) == 1 }).await;
    }
    let told = world.synced(&order_no).await;
    assert_eq!((&told["payStatus"], &told["anomalies"]), (&json!("CLOSE"), &json!([])), "{position}: {told:#}");
}

/// Paid while its close is on its way, and heard of by asking alone: the refused close is looked into.
async fn is_paid_against_its_close(world: &World, side: Side, position: &str) {
    let (order_no, person) = (format!("{position}-won"), world.person(side));
    let order = world.shop.new_order(&order_no).await;
    world.fault_always(side, Call::Notify, &order, FaultKind::Lose);
    let race = world.fault(side, Call::Close, &order, FaultKind::PaidMeanwhile);
    world.pay_patiently(&world.login_body(&order, &person)).await;
    let told = world.close(&order_no).await;
    assert_eq!((&told["status"], &told["payStatus"]), (&json!("FAIL"), &json!("SUCCESS")), "{position}: {told:#}");
    assert_eq!(world.sim.faults().struck(race), 1, "{position}");
    let (sent, ledger) = (number(&order, 1), world.sim.ledger());
    assert_eq!(ledger.count(&sent, Call::Close, Event::Refused), 1, "{position}");
    assert_eq!(ledger.payments(&sent), [(sent.clone(), 1999)], "{position}");
    assert_eq!(world.shop.order(&order_no).await["anomalies"], json!([]), "{position}");
}

/// No prepay arrived. What a wallet says to closing a number that it does not know is no close: it exists first.
async fn is_closed_though_it_never_arrived(world: &World, side: Side, position: &str) {
    let (order_no, person) = (format!("{position}-late"), world.person(side));
    let order = world.shop.new_order(&order_no).await;
    let lost = world.fault_always(side, Call::Prepay, &order, FaultKind::CloseBefore);
    let (status, answer) = world.tap(&order, &person).await;
    assert!(is_processing(status, &answer), "{position}: {status} {answer:#}");
    assert!(world.sim.faults().remove(lost), "{position}");
    assert_closed(&world.close(&order_no).await);
    let (sent, ledger) = (number(&order, 1), world.sim.ledger());
    let made = ledger.count(&sent, Call::Prepay, Event::Created);
    let closed = ledger.count(&sent, Call::Close, Event::Closed);
    assert_eq!((made, closed, ledger.closes_of(&sent)), (1, 1, 1), "{position}");
    assert_eq!(ledger.payable_numbers(&sent), Vec::<String>::new(), "{position}");
    assert_eq!(world.shop.order(&order_no).await["anomalies"], json!([]), "{position}");
}
