//! Switches of the simulated wallets that show in one call alone: refunds too soon or without an end, bills, lies.

use prepay::domain::bill::RunState;
use reqwest::StatusCode;
use serde_json::json;
use simulator::{
    BillChange, Bills, Call, Event, FaultKind,
    alipay::{self, BillErrors, EarlyRefund, FundChange, Layout},
    wechat::{LimitedRefund, RefundEnding, RefundStatus},
};

use super::{
    caller::{assert_processing, assert_refused},
    closes::assert_closed,
    harness::{World, until},
    modes::{first_order, merchant_with_certificates},
    shop::pay_info,
    sides::{Side, number},
    switches::{At, assert_nothing_is_left_over},
};

/// Of a wallet's schedule: 36 s here, longer than any of this takes.
const LONG_MS: u64 = 3_600_000;

/// Refused as too soon, made under that refusal, or answered so that nobody knows.
pub async fn a_refund_that_comes_too_soon_is_made_once(world: World) -> World {
    for (position, limited) in [("not_executed", LimitedRefund::NotExecuted), ("executed", LimitedRefund::Executed)] {
        let space = |ms| {
            world.sim.wechat().set_switches(|switches| {
                (switches.limited_refund, switches.refund_spacing_ms) = (limited, ms);
            });
        };
        refunds_too_soon(&world, Side::Wechat, position, space).await;
    }
    for (position, early) in [("limited", EarlyRefund::Limited), ("system_error", EarlyRefund::SystemError)] {
        let space = |ms| {
            world.sim.alipay().set_switches(|switches| {
                (switches.early_refund, switches.refund_spacing_ms) = (early, ms);
            });
        };
        refunds_too_soon(&world, Side::Alipay, position, space).await;
    }
    world
}

/// Two refunds of one payment, the second too soon until its wallet has said so. `space`: how far apart it wants them.
async fn refunds_too_soon(world: &World, side: Side, position: &str, space: impl Fn(u64)) {
    let _at = At(position);
    space(0);
    let order = world.paid_by(position, side).await;
    let [first, second] = [1, 2].map(|n| format!("{position}-{n}"));
    world.refund_taken(&first, position, 700).await;
    world.until_refund(&first, "SUCCESS").await;
    space(LONG_MS);
    let (sent, ledger) = (number(&order, 1), world.sim.ledger());
    let throttled = async {
        let what = format!("{position}: the wallet finds it too soon");
        until(&what, || async { ledger.count(&sent, Call::Refund, Event::Refused) > 0 }).await;
        space(0);
    };
    world.hurried(async { tokio::join!(world.refund_taken(&second, position, 500), throttled) }).await;
    world.hurried(world.until_refund(&second, "SUCCESS")).await;
    let back: Vec<i64> = ledger.refunded(&sent).into_iter().map(|(_, _, fen)| fen).collect();
    assert_eq!(back, [700, 500], "{position}");
    let told = world.shop.order(position).await;
    assert_eq!((&told["payStatus"], &told["refundedAmount"]), (&json!("SUCCESS"), &json!(1200)), "{position}");
    assert_nothing_is_left_over(world, position).await;
}

/// WeChat Pay has it for days; it is asked about, never sent anew, and over when WeChat says so.
pub async fn a_refund_that_nobody_ends_stays_on_its_way(world: World) -> World {
    let position = "never";
    world.sim.wechat().set_switches(|switches| switches.refund_ending = RefundEnding::Never);
    let order = world.paid_by(position, Side::Wechat).await;
    let out_refund_no = world.refund_taken(position, position, 700).await["serialNo"].as_str().unwrap().to_owned();
    let (sent, ledger) = (number(&order, 1), world.sim.ledger());
    let asked = until("the wallet was asked, again and again", || async { ledger.refund_queries_of(&sent) > 2 });
    world.hurried(asked).await;
    world.until_refund(position, "PROCESSING").await;
    let told = world.shop.order(position).await;
    assert_eq!((&told["payStatus"], &told["refundedAmount"]), (&json!("SUCCESS"), &json!(0)), "{told:#}");
    assert_eq!((ledger.refunds_of(&sent), ledger.refunded_fen(&sent)), (1, 0));
    // All of the payment may not go back beside it.
    assert_eq!(world.refund("beside", position, 1999).await.0, StatusCode::CONFLICT);

    assert!(world.sim.wechat().end_refund(&world.wechat.merchant.mchid, &out_refund_no, RefundStatus::Success));
    world.until_refund(position, "SUCCESS").await;
    assert_eq!(world.shop.order(position).await["refundedAmount"], 700);
    assert_eq!(ledger.refunded_fen(&sent), 700);
    assert_nothing_is_left_over(&world, position).await;
    world
}

/// The money moved by a call whose answer was lost; its repeat says "not now", or nothing, and only a question tells.
pub async fn a_refund_that_was_made_before_is_seen_by_asking(world: World) -> World {
    for (position, fund_change) in
        [("told", FundChange::Told), ("absent_for_n", FundChange::AbsentForN), ("never_y", FundChange::NeverY)]
    {
        let _at = At(position);
        let tell_after = |ms| {
            world.sim.alipay().set_switches(|switches| {
                (switches.fund_change, switches.notify_refunds, switches.refund_status_after_ms) =
                    (fund_change, false, ms);
            });
        };
        tell_after(LONG_MS);
        let order = world.paid_by(position, Side::Alipay).await;
        world.fault(Side::Alipay, Call::Refund, &order, FaultKind::LoseAnswer);
        let (sent, ledger) = (number(&order, 1), world.sim.ledger());
        let repeated = async {
            let what = format!("{position}: it is sent again");
            until(&what, || async { ledger.count(&sent, Call::Refund, Event::Repeated) > 0 }).await;
            let (_, told) = world.shop.get(&format!("/api/v1/refunds/{position}")).await;
            assert_eq!(told["data"]["refundStatus"], "PROCESSING", "{position}: nothing told how it ended: {told:#}");
            tell_after(0);
        };
        world.hurried(async { tokio::join!(world.refund_taken(position, position, 700), repeated) }).await;
        world.hurried(world.until_refund(position, "SUCCESS")).await;
        assert_eq!((ledger.refunded(&sent).len(), ledger.refunded_fen(&sent)), (1, 700), "{position}");
        assert_eq!(world.shop.order(position).await["refundedAmount"], 700, "{position}");
        assert_nothing_is_left_over(&world, position).await;
    }
    world
}

/// Alipay has no file for a day without rows, or one that says so, and names its refusals in two ways.
pub async fn a_day_without_rows_is_none_in_every_word(world: World) -> World {
    let (books, account) = (world.books().await, world.alipay.account);
    let order = world.paid_by("A1", Side::Alipay).await;
    let today = world.day_of(&order).await;
    let (out_trade_no, out_refund_no) = (number(&order, 1), None);
    let nothing = BillChange::LeaveOut { out_trade_no, out_refund_no };
    let mut long_ago = today.previous();
    for (empty_bills, bill_errors) in
        [(false, BillErrors::Bare), (false, BillErrors::Live), (true, BillErrors::Bare), (true, BillErrors::Live)]
    {
        let position = format!("empty_bills {empty_bills}, bill_errors {bill_errors:?}");
        let _at = At(&position);
        let set = |bills| {
            world.sim.alipay().set_switches(|switches| {
                (switches.empty_bills, switches.bill_errors, switches.bills) = (empty_bills, bill_errors, bills);
            });
        };
        // A day on which nothing happened is done.
        long_ago = long_ago.previous();
        set(Bills::Ready);
        let run = books.look(account, long_ago).await;
        assert_eq!((run.state, run.next_at, &run.last_error), (RunState::None, None, &None), "{position}: {run:?}");
        // One of which we know better, and that is not long over, says nothing yet.
        world.change_bills(Side::Alipay, nothing.clone());
        let run = books.look(account, today).await;
        assert!(run.last_error.as_ref().is_some_and(|why| why.contains("no bill")), "{position}: {run:?}");
        world.true_bills(Side::Alipay);
        let totals = books.matched(account, today).await.totals;
        assert_eq!((totals.payments, totals.pay_fen, totals.discrepancies), (1, 1999, 0), "{position}");
        // One that is still made, and one that has not begun, are asked for again.
        for (bills, why) in [(Bills::Creating, "no bill"), (Bills::ByClock, "invailid_arguments")] {
            set(bills);
            let run = books.look(account, today.next()).await;
            assert_eq!((run.state, run.next_at.is_some()), (RunState::Due, true), "{position}, {bills:?}: {run:?}");
            let said = run.last_error.as_ref().map(|said| said.to_lowercase()).unwrap_or_default();
            assert!(said.contains(why), "{position}, {bills:?}: {run:?}");
        }
        assert_nothing_is_left_over(&world, &position).await;
    }
    world
}

/// The second node is forged: paid and a success, whatever was asked.
pub async fn answers_of_two_nodes_are_not_believed(world: World) -> World {
    believes_nothing(&world, "doubled_node", |switches| switches.layout = Layout::DoubledNode).await;
    world
}

/// In certificate mode alone answers name what signed them.
pub async fn answers_by_a_certificate_nobody_got_are_not_believed(mut world: World) -> World {
    let (shop, alipay) = merchant_with_certificates(&world, "ALIWRONG").await;
    first_order(&shop).await;
    (world.shop, world.alipay) = (shop, alipay);
    believes_nothing(&world, "wrong_cert_sn", |switches| switches.wrong_cert_sn = true).await;
    world
}

/// While answers lie nobody is told paid, closed or given back, nor handed parameters; once they do not, all is found.
async fn believes_nothing(world: &World, position: &str, lie: fn(&mut alipay::Switches)) {
    let _at = At(position);
    let (side, ledger) = (Side::Alipay, world.sim.ledger());
    let names = ["paid", "closed", "refunded", "opened"].map(|what| format!("{position}-{what}"));
    let [paid_no, closed_no, refunded_no, opened_no] = names.each_ref().map(String::as_str);
    let people = [(); 3].map(|()| world.person(side));
    let [payer, leaver, late] = &people;
    let paid = world.shop.new_order(paid_no).await;
    world.fault_always(side, Call::Notify, &paid, FaultKind::Lose);
    let parameters = world.pay_patiently(&world.login_body(&paid, payer)).await;
    let closed = world.shop.new_order(closed_no).await;
    let left = world.pay_patiently(&world.login_body(&closed, leaver)).await;
    let refunded = world.paid_by(refunded_no, side).await;
    let opened = world.shop.new_order(opened_no).await;

    world.sim.alipay().set_switches(lie);
    assert_eq!(world.press_pay(&parameters, payer).await, Ok(()), "{position}");
    // A login that may have been taken is spent; the merchant's own word about the payer needs none.
    assert_refused(&world.tap(&opened, late).await, "3002");
    let asked = json!({ "payInfo": pay_info(&opened, side.name()), "identifyId": late.identify_id });
    let (synced, told, refund, said) = tokio::join!(
        world.synced(paid_no),
        world.close(closed_no),
        world.refund_taken(refunded_no, refunded_no, 700),
        world.pay(asked.clone()),
    );
    assert_eq!((&synced["payStatus"], &synced["synced"]), (&json!("PROCESSING"), &json!(false)), "{position}");
    assert_eq!((&told["status"], &told["payStatus"]), (&json!("FAIL"), &json!("PROCESSING")), "{position}: {told:#}");
    assert_eq!(refund["refundStatus"], "PROCESSING", "{position}: {refund:#}");
    assert_processing(&said);

    world.sim.alipay().set_switches(|switches| *switches = alipay::Switches::default());
    let what = format!("{position}: the payment is heard of");
    until(&what, || async { world.synced(paid_no).await["payStatus"] == "SUCCESS" }).await;
    assert_closed(&world.close(closed_no).await);
    assert!(world.press_pay(&left, leaver).await.is_err(), "{position}: nobody can pay it");
    world.hurried(world.until_refund(refunded_no, "SUCCESS")).await;
    let sent = number(&refunded, 1);
    assert_eq!((ledger.refunded(&sent).len(), ledger.refunded_fen(&sent)), (1, 700), "{position}");
    let parameters = world.pay_patiently(&asked).await;
    assert_eq!(world.press_pay(&parameters, late).await, Ok(()), "{position}");
    world.until_status(opened_no, "SUCCESS").await;
    for order in [&paid, &opened] {
        assert_eq!(ledger.payments(&number(order, 1)), [(number(order, 1), 1999)], "{position}");
    }
    assert_eq!(ledger.payable_numbers(&number(&closed, 1)), Vec::<String>::new(), "{position}");
    assert_nothing_is_left_over(world, position).await;
}
