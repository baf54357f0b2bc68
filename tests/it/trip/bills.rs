//! The wallets' bills against our rows: every difference is found, once; nothing is concluded from half a bill; a repair asks.

use std::time::Duration;

use prepay::{
    domain::{
        bill::{BillDate, DiscrepancyKind, DiscrepancyState, Repair, RunState},
        id::{AttemptNo, OrderId, OutTradeNo},
        order::OrderState,
    },
    steps::reconcile::Repaired,
};
use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::json;
use simulator::{BillChange, BillKind, BillRow, Bills, Call, Event, Fault, FaultKind, Match};

use super::{
    books::of_another_system,
    harness::{World, until},
    shop::{Shop, order_body},
    sides::{Side, number},
};

pub async fn a_day_without_differences_agrees(world: World) -> World {
    world.set_bills(Bills::Ready);
    let books = world.books().await;
    for (side, [one, two]) in [(Side::Wechat, ["A1", "A2"]), (Side::Alipay, ["B1", "B2"])] {
        let order = world.paid_by(one, side).await;
        world.paid_by(two, side).await;
        world.refund_taken(&format!("{two}-R"), two, 500).await;
        world.until_refund(&format!("{two}-R"), "SUCCESS").await;
        let date = world.day_of(&order).await;
        world.change_bills(side, of_another_system(date));
        // Again and again: a look changes nothing but its own count.
        for tries in 1..=2 {
            let run = books.matched(world.account(side), date).await;
            let totals = run.totals;
            assert_eq!(run.tries, tries);
            assert_eq!((totals.payments, totals.pay_fen, totals.of_others), (3, 3999, 1), "{side:?}");
            assert_eq!((totals.refunds, totals.refund_fen), (1, 500), "{side:?}");
            assert_eq!((totals.discrepancies, totals.unreadable), (0, 0), "{side:?}");
        }
    }
    assert!(world.place.store.list_discrepancies(true, 10).await.unwrap().is_empty());
    assert_eq!(world.place.number("SELECT COUNT(*) FROM bill_rows WHERE NOT kept").await, 0, "rows stay no longer");
    world
}

pub async fn every_planted_difference_is_found_once(world: World) -> World {
    use DiscrepancyKind::{AmountDiffers, MissingThere, StatusDiffers, UnknownNumber};
    world.set_bills(Bills::Ready);
    let books = world.books().await;
    for side in Side::BOTH {
        let name = |n: usize| format!("{}{n}", side.name());
        let mut orders = Vec::new();
        for n in 0..5 {
            orders.push(world.paid_by(&name(n), side).await);
        }
        let refund = world.refund_taken(&name(4), &name(4), 500).await["serialNo"].as_str().unwrap().to_owned();
        world.until_refund(&name(4), "SUCCESS").await;
        let numbers: Vec<String> = orders.iter().map(|order| number(order, 1)).collect();
        let lost = OutTradeNo { order: OrderId::fresh(), attempt: AttemptNo::FIRST }.to_string();
        let date = world.day_of(&orders[0]).await;
        let of = |n: usize| (numbers[n].clone(), None);
        let (out_trade_no, out_refund_no) = of(0);
        world.change_bills(side, BillChange::LeaveOut { out_trade_no, out_refund_no });
        let (out_trade_no, out_refund_no) = of(1);
        world.change_bills(side, BillChange::Amount { out_trade_no, out_refund_no, fen: 1 });
        let (out_trade_no, out_refund_no) = of(2);
        world.change_bills(side, BillChange::Twice { out_trade_no, out_refund_no });
        let BillChange::Add { row } = of_another_system(date) else { unreachable!() };
        world.change_bills(
            side,
            BillChange::Add { row: Box::new(BillRow { out_trade_no: lost.clone(), ..*row.clone() }) },
        );
        let by_hand = BillRow {
            kind: BillKind::Refund,
            out_trade_no: numbers[3].clone(),
            out_refund_no: "BY-HAND".into(),
            refund_id: "50000000000000000000000000001".into(),
            ..*row
        };
        world.change_bills(side, BillChange::Add { row: Box::new(by_hand) });
        let (out_trade_no, out_refund_no) = (numbers[4].clone(), Some(refund.clone()));
        let of_the_refund = if side == Side::Wechat {
            world.change_bills(side, BillChange::Status { out_trade_no, out_refund_no, status: "CLOSED".into() });
            StatusDiffers
        } else {
            // Its bills have no status, and list what is done alone.
            world.change_bills(side, BillChange::LeaveOut { out_trade_no, out_refund_no });
            MissingThere
        };

        let mut expected = vec![
            (MissingThere, numbers[0].clone()),
            (AmountDiffers, numbers[1].clone()),
            (StatusDiffers, numbers[2].clone()),
            (UnknownNumber, lost),
            (UnknownNumber, "BY-HAND".to_owned()),
            (of_the_refund, refund),
        ];
        expected.sort();
        for _ in 0..2 {
            let run = books.matched(world.account(side), date).await;
            assert_eq!(run.totals.discrepancies, 6, "{side:?}");
            assert_eq!(world.open_kinds().await, expected, "{side:?}");
        }

        // A person says that one is nothing, and the wallet makes a true bill: all is settled, each in its way.
        let open = world.found(DiscrepancyState::Open).await;
        let amount = open.iter().find(|row| row.found.kind == AmountDiffers).unwrap();
        let by_hand = open.iter().find(|row| row.found.number() == "BY-HAND").unwrap();
        assert_eq!(amount.found.repair, Repair::Person);
        assert_eq!(books.steps.repair(amount.id).await.unwrap(), Repaired::ForAPerson);
        let (to, now) = (DiscrepancyState::Dismissed, world.clock.now());
        assert!(world.place.store.note_discrepancy(by_hand.id, to, "the shop did it", now).await.unwrap());
        let run = books.matched(world.account(side), date).await;
        assert_eq!((run.totals.discrepancies, world.open_kinds().await.len()), (6, 5), "dismissed stays dismissed");
        world.true_bills(side);
        assert_eq!(books.matched(world.account(side), date).await.totals.discrepancies, 0);
        assert_eq!(world.open_kinds().await, []);
        assert_eq!(world.place.store.discrepancy(by_hand.id).await.unwrap().unwrap().state, to);
    }
    world
}

pub async fn a_payment_that_was_missed_is_repaired_by_asking(mut world: World) -> World {
    world.set_bills(Bills::Ready);
    world.lose_all_notices();
    let mut unheard = Vec::new();
    for (order_no, side) in [("A1", Side::Wechat), ("A2", Side::Alipay)] {
        let (order, person) = (world.shop.new_order(order_no).await, world.person(side));
        unheard.push((order.clone(), side, person.clone(), world.tap_ready(&order, &person).await));
    }
    // Nobody asks from here on.
    world.stop_roles().await;
    let books = world.books().await;
    for (order, side, person, data) in unheard {
        let date = BillDate::of(world.clock.now());
        world.press_pay(&data, &person).await.unwrap();
        books.matched(world.account(side), date).await;
        let open = world.found(DiscrepancyState::Open).await;
        assert_eq!(open.len(), 1, "{open:?}");
        let row = &open[0];
        assert_eq!((row.found.kind, row.found.repair), (DiscrepancyKind::MissingHere, Repair::AskPayment));
        assert_eq!(row.found.number(), number(&order, 1));

        // The wallet that does not tell leaves it open.
        let id = OrderId::parse(order["serialNo"].as_str().unwrap()).unwrap();
        let fault = world.fault(side, Call::Query, &order, FaultKind::HtmlBefore);
        assert!(matches!(books.steps.repair(row.id).await.unwrap(), Repaired::No(_)));
        assert_eq!(world.sim.faults().struck(fault), 1);
        assert_eq!(world.place.store.load_order(id).await.unwrap().unwrap().state, OrderState::Open);
        assert!(matches!(books.steps.repair(row.id).await.unwrap(), Repaired::Yes(_)));
        let paid = world.place.store.load_order(id).await.unwrap().unwrap();
        assert!(matches!(paid.state, OrderState::Paid { .. }), "{:?}", paid.state);
        // Twice changes nothing.
        let again = books.steps.repair(row.id).await.unwrap();
        assert_eq!(again, Repaired::NotOpen(DiscrepancyState::Repaired));
        assert_eq!(world.place.store.load_order(id).await.unwrap().unwrap().version, paid.version);
        assert_eq!(books.matched(world.account(side), date).await.totals.discrepancies, 0);
    }
    world
}

pub async fn what_the_bill_lacks_is_asked_about_and_kept_open_if_the_wallet_insists(world: World) -> World {
    world.set_bills(Bills::Ready);
    let books = world.books().await;
    for (side, order_no) in [(Side::Wechat, "A1"), (Side::Alipay, "A2")] {
        let order = world.paid_by(order_no, side).await;
        let date = world.day_of(&order).await;
        world.change_bills(side, of_another_system(date));
        let out_trade_no = number(&order, 1);
        world.change_bills(side, BillChange::LeaveOut { out_trade_no, out_refund_no: None });
        books.matched(world.account(side), date).await;
        let row = world.found(DiscrepancyState::Open).await.remove(0);
        assert_eq!((row.found.kind, row.found.repair), (DiscrepancyKind::MissingThere, Repair::AskPayment));
        let _no_answer = world.fault(side, Call::Query, &order, FaultKind::HtmlBefore);
        assert!(matches!(books.steps.repair(row.id).await.unwrap(), Repaired::No(_)));
        assert!(world.place.store.discrepancy(row.id).await.unwrap().unwrap().note.is_some(), "for the next person");
        assert!(matches!(books.steps.repair(row.id).await.unwrap(), Repaired::Yes(_)));
    }
    world
}

pub async fn a_bill_that_cannot_be_believed_concludes_nothing(world: World) -> World {
    world.set_bills(Bills::Ready);
    let books = world.books().await;
    for (side, order_no, call, kind) in [
        (Side::Wechat, "A1", Call::Bill, FaultKind::WrongHash),
        (Side::Wechat, "A2", Call::BillFile, FaultKind::TruncatedJson),
        (Side::Wechat, "A3", Call::BillFile, FaultKind::CutBody),
        (Side::Alipay, "A4", Call::BillFile, FaultKind::TruncatedJson),
        (Side::Alipay, "A5", Call::BillFile, FaultKind::CutBody),
        (Side::Alipay, "A6", Call::Bill, FaultKind::WrongSignature),
    ] {
        let order = world.paid_by(order_no, side).await;
        let date = world.day_of(&order).await;
        // Nothing of the day is known yet: what is known would stay so.
        world.place.sql("DELETE FROM bill_runs").await;
        let fault = world.sim.faults().add(Fault::once(side.sim(), call, kind.clone()).when(Match::any()));
        let run = books.look(world.account(side), date).await;
        assert_eq!(world.sim.faults().struck(fault), 1, "{kind:?}");
        assert_eq!(run.state, RunState::Due, "{kind:?}: {run:?}");
        assert!(run.last_error.is_some() && run.next_at.is_some_and(|at| at > world.clock.now()), "{run:?}");
        assert_eq!(world.open_kinds().await, [], "{kind:?}");
        books.matched(world.account(side), date).await;
    }
    world
}

pub async fn a_bill_that_is_not_ready_is_asked_for_again(world: World) -> World {
    let books = world.books().await;
    let order = world.paid_by("A1", Side::Wechat).await;
    let date = world.day_of(&order).await;
    world.set_bills(Bills::Creating);
    let run = books.look(world.wechat.account, date).await;
    assert_eq!(run.state, RunState::Due);
    let later = run.next_at.unwrap().since(world.clock.now());
    assert!(later > Duration::from_secs(29 * 60) && later <= Duration::from_secs(30 * 60), "{later:?}");
    // Not due before; once it is, it is matched.
    assert_eq!(books.steps.reconcile_due(&()).await.unwrap(), None);
    world.set_bills(Bills::Ready);
    world.place.sql("UPDATE bill_runs SET next_at = 1").await;
    let run = books.steps.reconcile_due(&()).await.unwrap().unwrap();
    assert_eq!((run.state, run.totals.payments, run.next_at), (RunState::Matched, 1, None));
    world
}

pub async fn a_day_without_a_bill_is_none_after_noon_and_misses_what_we_have(world: World) -> World {
    let books = world.books().await;
    let long_ago = BillDate::of(world.clock.now()).previous().previous();
    for side in Side::BOTH {
        let run = books.look(world.account(side), long_ago).await;
        assert_eq!((run.state, run.totals.discrepancies, run.next_at), (RunState::None, 0, None), "{side:?}");
    }
    world.paid_by("A1", Side::Wechat).await;
    let noon = long_ago.begin().plus(Duration::from_secs(12 * 3600)).ms();
    world.place.sql(&format!("UPDATE attempts SET paid_at = {noon} WHERE state = 'paid'")).await;
    // The day was done, and stays so; that something is missing there is told all the same.
    let run = books.look(world.wechat.account, long_ago).await;
    assert_eq!(run.state, RunState::None);
    assert!(run.last_error.is_some());
    assert_eq!(world.open_kinds().await.len(), 1);
    // A day that just ended may not have one yet.
    let run = books.look(world.wechat.account, BillDate::of(world.clock.now()).next()).await;
    assert_eq!(run.state, RunState::Due);
    world
}

pub async fn a_payment_near_midnight_is_looked_for_on_both_sides(world: World) -> World {
    world.set_bills(Bills::Ready);
    let mut books = world.books().await;
    books.steps.settings.bill_edge = Duration::from_secs(300);
    let account = world.wechat.account;
    let (named, left_out) = (world.paid_by("A1", Side::Wechat).await, world.paid_by("A2", Side::Wechat).await);
    let date = world.day_of(&named).await;
    world.change_bills(Side::Wechat, of_another_system(date));
    let out_trade_no = number(&left_out, 1);
    world.change_bills(Side::Wechat, BillChange::LeaveOut { out_trade_no, out_refund_no: None });
    // We say a minute past midnight; the bill of the day before has one of them, no bill has the other.
    let past = date.end().plus(Duration::from_secs(60)).ms();
    world.place.sql(&format!("UPDATE attempts SET paid_at = {past} WHERE state = 'paid'")).await;
    assert_eq!(books.matched(account, date).await.totals.discrepancies, 0, "the next day may have it");
    // The next day's bill names neither.
    let out_trade_no = number(&named, 1);
    let run = books.matched(account, date.next()).await;
    assert_eq!(
        world.open_kinds().await,
        [(DiscrepancyKind::MissingThere, number(&left_out, 1))],
        "{run:?} {out_trade_no}"
    );
    world
}

pub async fn a_bill_of_another_day_settles_what_was_missing(world: World) -> World {
    world.set_bills(Bills::Ready);
    let books = world.books().await;
    let order = world.paid_by("A1", Side::Wechat).await;
    let date = world.day_of(&order).await;
    world.change_bills(Side::Wechat, of_another_system(date));
    let noon = date.begin().minus(Duration::from_secs(12 * 3600)).ms();
    world.place.sql(&format!("UPDATE attempts SET paid_at = {noon} WHERE state = 'paid'")).await;
    books.matched(world.wechat.account, date.previous()).await;
    assert_eq!(world.open_kinds().await, [(DiscrepancyKind::MissingThere, number(&order, 1))]);
    books.matched(world.wechat.account, date).await;
    assert_eq!(world.open_kinds().await, []);
    world
}

pub async fn schedulers_match_each_bill_once(world: World) -> World {
    world.set_bills(Bills::Ready);
    let order = world.paid_by("A1", Side::Wechat).await;
    let date = world.day_of(&order).await;
    let bills = |world: &World| {
        let entries = world.sim.ledger().entries();
        entries.iter().filter(|line| line.call == Call::Bill && line.event == Event::Billed).count()
    };
    let (one, two) = (world.books().await, world.books().await);
    let now = world.clock.now();
    assert!(world.place.store.want_bill(world.wechat.account, date, now, now).await.unwrap());
    assert!(!world.place.store.want_bill(world.wechat.account, date, now, now).await.unwrap());
    let (one, two) = tokio::join!(one.steps.reconcile_due(&()), two.steps.reconcile_due(&()));
    let done: Vec<_> = [one.unwrap(), two.unwrap()].into_iter().flatten().collect();
    assert_eq!((done.len(), done[0].state), (1, RunState::Matched));
    assert_eq!(bills(&world), 1);

    // The scheduler itself finds what is due.
    let world = world.restart(|settings| settings.scheduler.bills_every_ms = 100).await;
    world.place.sql("UPDATE bill_runs SET next_at = 1").await;
    until("the scheduler matches the bill", || async {
        let run = world.place.store.bill_run(world.wechat.account, date).await.unwrap().unwrap();
        run.tries == 2 && run.state == RunState::Matched && run.next_at.is_none()
    })
    .await;
    assert_eq!(bills(&world), 2);
    world
}

/// What a merchant downloads.
pub(super) async fn csv(shop: &Shop, target: &str) -> (StatusCode, HeaderMap, String) {
    let call = shop.call(Method::GET, target, b"");
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = client.get(format!("{}{}", shop.base_url, call.target));
    for (name, value) in call.headers {
        request = request.header(name, value);
    }
    let answer = request.send().await.unwrap();
    (answer.status(), answer.headers().clone(), answer.text().await.unwrap())
}

pub async fn a_merchant_gets_its_own_bill_and_nobody_elses(world: World) -> World {
    let (other, ..) = world.another_shop("C2").await;
    let mut body = order_body("A1");
    body["goodName"] = json!("=cmd|' /C calc'!A0,\"x\"");
    let (order, person) = (world.shop.create(&body).await, world.person(Side::Wechat));
    let data = world.tap_ready(&order, &person).await;
    world.press_pay(&data, &person).await.unwrap();
    world.until_status("A1", "SUCCESS").await;
    world.paid_by("A2", Side::Alipay).await;
    world.refund_taken("R1", "A2", 500).await;
    world.until_refund("R1", "SUCCESS").await;

    let date = world.day_of(&order).await;
    for (target, status, code) in [
        (format!("/api/v1/bills/{date}"), StatusCode::CONFLICT, "2110"),
        (format!("/api/v1/bills/{}?type=REFUND", date.next()), StatusCode::CONFLICT, "2110"),
        ("/api/v1/bills/2026-02-30".to_owned(), StatusCode::BAD_REQUEST, "1008"),
        (format!("/api/v1/bills/{}?type=pay", date.previous()), StatusCode::BAD_REQUEST, "1008"),
    ] {
        let (told, answer) = world.shop.get(&target).await;
        assert_eq!((told, &answer["errCode"]), (status, &json!(code)), "{target}: {answer:#}");
    }

    // A day later. Its own day, because a test does not wait for midnight.
    let yesterday = date.previous();
    world.place.sql("UPDATE attempts SET paid_at = paid_at - 86400000 WHERE state = 'paid'").await;
    world.place.sql("UPDATE refunds SET refunded_at = refunded_at - 86400000 WHERE state = 'succeeded'").await;
    let target = format!("/api/v1/bills/{yesterday}?type=PAY");
    let (status, headers, text) = csv(&world.shop, &target).await;
    assert_eq!(
        (status, &headers["content-type"]),
        (StatusCode::OK, &"text/csv; charset=utf-8; header=present".parse().unwrap())
    );
    let lines: Vec<&str> = text.split_terminator("\r\n").collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert_eq!(
        lines[0],
        "orderNo,serialNo,payType,outTradeNo,channelTradeNo,orderAmount,payAmount,payTime,goodNo,goodName,attach"
    );
    let serial = order["serialNo"].as_str().unwrap();
    assert!(lines[1].starts_with(&format!("A1,{serial},WECHAT,{serial}01,")), "{}", lines[1]);
    assert!(lines[1].contains(",1999,1999,"), "{}", lines[1]);
    assert!(lines[1].ends_with(",\"'=cmd|' /C calc'!A0,\"\"x\"\"\","), "{}", lines[1]);
    assert!(lines[2].starts_with("A2,") && lines[2].contains(",ALIPAY,"), "{}", lines[2]);
    let (_, _, refunds) = csv(&world.shop, &format!("/api/v1/bills/{yesterday}?type=REFUND")).await;
    let lines: Vec<&str> = refunds.split_terminator("\r\n").collect();
    assert_eq!(lines.len(), 2, "{refunds}");
    assert!(lines[1].starts_with("R1,") && lines[1].contains(",500,1999,MERCHANT,"), "{}", lines[1]);

    // Another merchant has the heading and nothing more, and so has another day.
    let (status, _, others) = csv(&other, &target).await;
    assert_eq!((status, others.lines().count()), (StatusCode::OK, 1), "{others}");
    let (_, _, empty) = csv(&world.shop, &format!("/api/v1/bills/{}", yesterday.previous())).await;
    assert_eq!(empty.lines().count(), 1);
    let unsigned = world.phone.get(format!("{}{target}", world.shop.base_url)).send().await.unwrap();
    assert_eq!(unsigned.status(), StatusCode::UNAUTHORIZED);
    world
}
