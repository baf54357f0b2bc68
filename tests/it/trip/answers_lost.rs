//! Wallets that answer late, wrongly, or not at all: one number, the same bytes, and in the end the phone can pay.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use simulator::{Call, Event, Fault, FaultKind, Match, Reach};
use tokio::{net::TcpStream, time::Instant};

use super::{
    caller::{assert_processing, assert_ready, assert_refused, is_processing},
    harness::{World, until},
    shop::pay_info,
    sides::{Person, Side, number},
};

fn fail_after() -> FaultKind {
    FaultKind::FailAfter { status: 500, code: "SYSTEM_ERROR".into() }
}

/// One number at the wallet, one text sent under it, and its payer can pay.
async fn assert_one_payable(world: &World, order_no: &str, order: &Value, data: &Value, person: &Person) {
    let sent = number(order, 1);
    assert_eq!((world.numbers_created(order), world.sim.ledger().bodies_of(&sent)), (1, 1), "{order_no}");
    world.press_pay(data, person).await.unwrap();
    assert_eq!(world.until_status(order_no, "SUCCESS").await["outTradeNo"], json!(sent));
}

pub async fn a_prepay_whose_answer_was_lost_is_found_under_its_number(world: World) -> World {
    let kinds =
        [FaultKind::LoseAnswer, fail_after(), FaultKind::HtmlAfter, FaultKind::CutBody, FaultKind::TruncatedJson];
    for (n, kind) in kinds.into_iter().enumerate() {
        for side in Side::BOTH {
            let order_no = format!("{}{n}", side.name());
            let (order, person) = (world.shop.new_order(&order_no).await, world.person(side));
            let fault = world.fault(side, Call::Prepay, &order, kind.clone());
            let body = world.login_body(&order, &person);
            let (status, answer) = world.pay(body.clone()).await;
            assert_eq!(world.sim.faults().struck(fault), 1);
            assert!(answer["code"] == "200" || is_processing(status, &answer), "{kind:?} {answer:#}");
            let data = world.pay_patiently(&body).await;
            assert_eq!(world.exchanged(body["code"].as_str().unwrap()), 1);
            assert_one_payable(&world, &order_no, &order, &data, &person).await;
        }
    }
    world
}

pub async fn a_prepay_that_never_arrived_is_sent_again_with_the_same_bytes(world: World) -> World {
    let fail_before = FaultKind::FailBefore { status: 500, code: "SYSTEM_ERROR".into() };
    for (n, kind) in [FaultKind::CloseBefore, fail_before, FaultKind::HtmlBefore].into_iter().enumerate() {
        for side in Side::BOTH {
            let order_no = format!("{}{n}", side.name());
            let (order, person) = (world.shop.new_order(&order_no).await, world.person(side));
            world.fault(side, Call::Prepay, &order, kind.clone());
            let data = world.pay_patiently(&world.login_body(&order, &person)).await;
            assert_one_payable(&world, &order_no, &order, &data, &person).await;
        }
    }
    world
}

/// Alipay may not know a trade for seconds after a lost create, and may name a repeated one anew.
pub async fn a_trade_that_is_seen_late_or_named_twice_is_still_one_payment(world: World) -> World {
    for (n, (hidden_ms, anew)) in [(60_000, false), (0, true), (60_000, true)].into_iter().enumerate() {
        world.sim.alipay().set_switches(|switches| {
            (switches.lost_create_hidden_ms, switches.repeat_makes_new_trade_no) = (hidden_ms, anew);
        });
        let order_no = format!("A{n}");
        let (order, person) = (world.shop.new_order(&order_no).await, world.person(Side::Alipay));
        world.fault(Side::Alipay, Call::Prepay, &order, FaultKind::LoseAnswer);
        let data = world.pay_patiently(&world.login_body(&order, &person)).await;
        assert_one_payable(&world, &order_no, &order, &data, &person).await;
        assert_eq!(world.sim.ledger().payments(order["serialNo"].as_str().unwrap()).len(), 1);
    }
    world
}

/// The wallet holds the line and says nothing: the phone hears of it in its time, and is served when it asks again.
pub async fn a_wallet_that_hangs_ends_in_processing_not_in_silence(world: World) -> World {
    let world =
        world.restart(|settings| (settings.worker.wallet_timeout_ms, settings.front.wait_ms) = (2_000, 6_000)).await;
    let trip = async |side: Side| {
        let (order, person) = (world.shop.new_order(side.name()).await, world.person(side));
        world.fault_always(side, Call::Prepay, &order, FaultKind::HangAfter { ms: 60_000 });
        let body = world.login_body(&order, &person);
        let started = Instant::now();
        assert_processing(&world.pay(body.clone()).await);
        assert!(started.elapsed() < Duration::from_secs(12), "{side:?} {:?}", started.elapsed());
        (order, person, body)
    };
    let trips = tokio::join!(trip(Side::Wechat), trip(Side::Alipay));
    world.sim.faults().clear();
    for (order, person, body) in [trips.0, trips.1] {
        let data = world.pay_patiently(&body).await;
        assert_one_payable(&world, person.side.name(), &order, &data, &person).await;
    }
    world
}

fn unbelievable(side: Side) -> Vec<FaultKind> {
    let mut kinds = vec![
        FaultKind::WrongSignature,
        FaultKind::UndecodableSignature,
        FaultKind::Unsigned,
        FaultKind::TruncatedJson,
        FaultKind::HtmlAfter,
    ];
    if side == Side::Wechat {
        let missing = |name: &str| FaultKind::MissingHeader { name: name.into() };
        kinds.extend([
            FaultKind::SignTest,
            FaultKind::UnknownSerial,
            // One from the future comes nearer until it is read.
            FaultKind::TimestampShift { seconds: 330 },
            FaultKind::TimestampShift { seconds: -302 },
            missing("Wechatpay-Timestamp"),
            missing("Wechatpay-Nonce"),
            missing("Wechatpay-Signature"),
            missing("Wechatpay-Serial"),
        ]);
    }
    kinds
}

pub async fn an_answer_that_does_not_verify_is_never_handed_to_a_phone(world: World) -> World {
    for side in Side::BOTH {
        for (n, kind) in unbelievable(side).into_iter().enumerate() {
            let order_no = format!("{}{n}", side.name());
            let (order, person) = (world.shop.new_order(&order_no).await, world.person(side));
            let fault = world.fault_always(side, Call::Prepay, &order, kind.clone());
            let body = world.login_body(&order, &person);
            for _ in 0..2 {
                let said = world.pay(body.clone()).await;
                assert!(is_processing(said.0, &said.1), "{side:?} {kind:?}: {said:?}");
            }
            assert!(world.sim.faults().struck(fault) > 0);
            world.sim.faults().clear();
            let data = world.pay_patiently(&body).await;
            assert_one_payable(&world, &order_no, &order, &data, &person).await;
        }
    }
    world
}

pub async fn a_query_that_does_not_verify_or_is_about_another_order_pays_nothing(world: World) -> World {
    // Some forty times the page waits in vain, and what was believed late shows the next time.
    let world = world.restart(|settings| settings.front.result_wait_ms = 500).await;
    world.lose_all_notices();
    for side in Side::BOTH {
        let (paid_no, order_no) = (format!("{}paid", side.name()), side.name());
        let (other, order) = (world.shop.new_order(&paid_no).await, world.shop.new_order(order_no).await);
        let (ann, ben) = (world.person(side), world.person(side));
        let data = world.tap_ready(&other, &ann).await;
        world.press_pay(&data, &ann).await.unwrap();
        let data = world.tap_ready(&order, &ben).await;
        let mut kinds = unbelievable(side);
        kinds.push(FaultKind::AnswerOf { out_trade_no: number(&other, 1) });
        for kind in kinds {
            let fault = world.fault_always(side, Call::Query, &order, kind.clone());
            pull_forward(&world, &order).await;
            assert_eq!(status(&world, &order, side).await, "PROCESSING", "{side:?} {kind:?}");
            until("it was asked", || async { world.sim.faults().struck(fault) > 0 }).await;
            world.sim.faults().clear();
            // A true answer in between: a wallet that only lies is not asked for a while.
            pull_forward(&world, &order).await;
            assert_eq!(status(&world, &order, side).await, "PROCESSING");
        }
        world.fault_always(side, Call::Query, &order, FaultKind::WrongSignature);
        world.press_pay(&data, &ben).await.unwrap();
        pull_forward(&world, &order).await;
        assert_eq!(status(&world, &order, side).await, "PROCESSING");
        world.sim.faults().clear();
        until("the truth is asked for and believed", || async {
            pull_forward(&world, &order).await;
            status(&world, &order, side).await == "SUCCESS"
        })
        .await;
        assert_eq!(world.shop.order(order_no).await["payStatus"], "SUCCESS");
    }
    world
}

async fn status(world: &World, order: &Value, side: Side) -> String {
    let (_, answer) = world.post("/pay/result", &json!({ "payInfo": pay_info(order, side.name()) })).await;
    answer["data"]["payStatus"].as_str().unwrap().to_owned()
}

/// Forgets the last question, so that the next `/pay/result` asks at once.
async fn pull_forward(world: &World, order: &Value) {
    let id = order["serialNo"].as_str().unwrap();
    let again = "query_pulled_at = NULL, query_leased_until = NULL, next_query_at = next_query_at + 60000";
    world.place.sql(&format!("UPDATE attempts SET {again} WHERE order_id = '{id}'")).await;
}

pub async fn a_lost_exchange_burns_its_code_and_a_fresh_login_works(world: World) -> World {
    for side in Side::BOTH {
        let mut kinds = vec![FaultKind::LoseAnswer, FaultKind::HtmlAfter, FaultKind::CutBody, FaultKind::TruncatedJson];
        if side == Side::Alipay {
            kinds.extend([FaultKind::WrongSignature, FaultKind::Unsigned]);
        }
        for (n, kind) in kinds.into_iter().enumerate() {
            let (order, person) = (world.shop.new_order(&format!("{}{n}", side.name())).await, world.person(side));
            let body = world.login_body(&order, &person);
            let code = body["code"].as_str().unwrap();
            world.sim.faults().add(Fault::once(side.sim(), Call::Exchange, kind.clone()).when(Match::code(code)));
            for _ in 0..2 {
                assert_refused(&world.pay(body.clone()).await, "3002");
            }
            assert_eq!(world.sim.ledger().exchanges_of(code), 1, "{side:?} {kind:?}: a code is never exchanged twice");
            assert_eq!(world.numbers_created(&order), 0);
            assert_ready(&world.tap(&order, &person).await);
        }
    }
    world
}

pub async fn what_the_login_server_says_is_told_as_published(world: World) -> World {
    for (n, (errcode, told)) in
        [("40029", "3002"), ("40163", "3002"), ("45011", "3005"), ("40226", "2002"), ("40125", "1001")]
            .iter()
            .enumerate()
    {
        let (order, person) = (world.shop.new_order(&format!("A{n}")).await, world.person(Side::Wechat));
        let body = world.login_body(&order, &person);
        let kind = FaultKind::FailBefore { status: 200, code: (*errcode).into() };
        let about = Match::code(body["code"].as_str().unwrap());
        world.sim.faults().add(Fault::once(Side::Wechat.sim(), Call::Exchange, kind).when(about));
        assert_refused(&world.pay(body).await, told);
        assert_ready(&world.tap(&order, &person).await);
    }
    // Busy is not refused: the code stays good.
    let (order, person) = (world.shop.new_order("B1").await, world.person(Side::Wechat));
    let body = world.login_body(&order, &person);
    let code = body["code"].as_str().unwrap();
    let busy = FaultKind::FailBefore { status: 200, code: "-1".into() };
    world.sim.faults().add(Fault::once(Side::Wechat.sim(), Call::Exchange, busy).when(Match::code(code)).times(2));
    assert_processing(&world.pay(body.clone()).await);
    world.pay_patiently(&body).await;
    assert_eq!(world.exchanged(code), 1);
    world
}

pub async fn a_throttling_wallet_sheds_its_merchant_in_milliseconds(world: World) -> World {
    let (other_shop, _, _) = world.another_shop("C2").await;
    for side in Side::BOTH {
        let order = world.shop.new_order(side.name()).await;
        let person = world.person(side);
        let fault = world.fault_always(side, Call::Prepay, &order, FaultKind::FrequencyLimited);
        let body = world.login_body(&order, &person);
        assert_processing(&world.pay(body.clone()).await);
        assert_eq!(world.sim.faults().struck(fault), 1);
        assert_busy_soon(&world, &body).await;
        world.sim.faults().clear();
        let data = world.pay_patiently(&body).await;
        assert_one_payable(&world, side.name(), &order, &data, &person).await;
    }
    // Nobody else was kept waiting for it.
    assert_eq!(other_shop.get("/api/v1/orders/none").await.0, StatusCode::NOT_FOUND);
    world
}

/// Within a few calls one is told *busy*, and then the next one in milliseconds.
async fn assert_busy_soon(world: &World, body: &Value) {
    for _ in 0..5 {
        if world.pay(body.clone()).await.0 != StatusCode::SERVICE_UNAVAILABLE {
            continue;
        }
        let lines = world.wallet_lines();
        let started = Instant::now();
        let said = world.pay_said(body).await;
        let took = started.elapsed();
        if said.status == 503 && took < Duration::from_millis(200) {
            said.assert_busy(503);
            assert_eq!(world.wallet_lines(), lines, "503 means that no wallet was called");
            return;
        }
    }
    panic!("the wallet is away and nobody was told so quickly");
}

pub async fn the_backup_host_serves_while_the_main_one_is_away(world: World) -> World {
    let order = world.shop.new_order("A1").await;
    let person = world.person(Side::Wechat);
    reach(&world, Reach::Refused, Reach::Up).await;
    let said = world.pay(json!({ "payInfo": pay_info(&order, "WECHAT"), "identifyId": person.identify_id })).await;
    assert_ready(&said);
    let lines = world.sim.ledger().of_number(&number(&order, 1));
    assert!(lines.iter().any(|line| line.call == Call::Prepay && line.note.as_deref() == Some("backup")), "{lines:#?}");
    reach(&world, Reach::Up, Reach::Up).await;
    assert_one_payable(&world, "A1", &order, &said.1["data"], &person).await;
    world
}

pub async fn a_wallet_that_is_away_is_told_quickly_and_found_again(world: World) -> World {
    for side in Side::BOTH {
        let (order, person) = (world.shop.new_order(side.name()).await, world.person(side));
        reach(&world, Reach::Refused, Reach::Refused).await;
        let body = json!({ "payInfo": pay_info(&order, side.name()), "identifyId": person.identify_id });
        let started = Instant::now();
        let (status, answer) = world.pay(body.clone()).await;
        assert!(status == StatusCode::SERVICE_UNAVAILABLE || is_processing(status, &answer), "{answer:#}");
        // Not after the eight seconds that a phone waits.
        assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
        assert_busy_soon(&world, &body).await;
        reach(&world, Reach::Up, Reach::Up).await;
        let data = world.pay_patiently(&body).await;
        assert_one_payable(&world, side.name(), &order, &data, &person).await;
    }
    world
}

/// Sets how the wallets can be reached, and waits until it is so.
async fn reach(world: &World, main: Reach, backup: Reach) {
    world.sim.set_main_reach(main);
    world.sim.set_backup_reach(backup);
    for (url, reach) in [(world.sim.base_url(), main), (world.sim.backup_url(), backup)] {
        let addr = url.trim_start_matches("http://").to_owned();
        until("the wallet's door is as it was set", || async {
            TcpStream::connect(&addr).await.is_ok() == (reach != Reach::Refused)
        })
        .await;
    }
}

/// Its payer was faster than our second copy: whatever the wallet calls that, a question settles it.
pub async fn a_number_paid_before_its_prepay_is_answered_is_paid(world: World) -> World {
    use simulator::wechat::PaidPrepay;
    world.lose_all_notices();
    let positions = [
        (Side::Wechat, PaidPrepay::OrderPaid),
        (Side::Wechat, PaidPrepay::InvalidRequest),
        (Side::Alipay, PaidPrepay::OrderPaid),
    ];
    for (n, (side, position)) in positions.into_iter().enumerate() {
        world.sim.wechat().set_switches(|switches| switches.paid_prepay = position);
        let order_no = format!("A{n}");
        let order = world.shop.new_order(&order_no).await;
        world.fault(side, Call::Prepay, &order, FaultKind::LoseAnswer);
        let second = Match { skip: 1, ..Match::prefix(order["serialNo"].as_str().unwrap()) };
        world.sim.faults().add(Fault::once(side.sim(), Call::Prepay, FaultKind::PaidMeanwhile).when(second));
        assert_refused(&world.tap(&order, &world.person(side)).await, "2101");
        assert_eq!(world.until_status(&order_no, "SUCCESS").await["outTradeNo"], json!(number(&order, 1)));
        assert_eq!(world.numbers_created(&order), 1);
    }
    world
}

pub async fn what_the_wallet_refuses_is_told_as_published(world: World) -> World {
    let table = [
        (Side::Wechat, 403, "RULE_LIMIT", "2002"),
        (Side::Wechat, 500, "OPENID_MISMATCH", "3002"),
        (Side::Wechat, 403, "NO_AUTH", "1001"),
        (Side::Alipay, 200, "ACQ.BUYER_ENABLE_STATUS_FORBID", "2002"),
        (Side::Alipay, 200, "ACQ.BUYER_NOT_EXIST", "3002"),
        (Side::Alipay, 200, "isv.insufficient-isv-permissions", "1001"),
    ];
    for (n, (side, status, code, told)) in table.into_iter().enumerate() {
        let order_no = format!("A{n}");
        let (order, person) = (world.shop.new_order(&order_no).await, world.person(side));
        world.fault(side, Call::Prepay, &order, FaultKind::FailBefore { status, code: code.into() });
        assert_refused(&world.tap(&order, &person).await, told);
        let stored = world.shop.order(&order_no).await;
        assert_eq!((&stored["payStatus"], &stored["attempts"][0]["status"]), (&json!("WAITPAY"), &json!("REFUSED")));
        let ledger = world.sim.ledger();
        assert!(ledger.queries_of(&number(&order, 1)) >= 1, "{code}: only the wallet knows that it does not know it");
        assert_eq!(ledger.closes_of(&number(&order, 1)), 0, "{code}: there is nothing to close");
        // The next try is a number of its own.
        let data = world.tap_ready(&order, &person).await;
        world.press_pay(&data, &person).await.unwrap();
        assert_eq!(world.until_status(&order_no, "SUCCESS").await["outTradeNo"], json!(number(&order, 2)));
    }
    world
}

/// The wallet points at a state it then denies: the phone asks again and the same number is sent again. A wallet that goes on so
/// is a refusal, and still no new number is opened.
pub async fn a_refusal_that_a_question_does_not_confirm_leaves_the_number_as_it_is(world: World) -> World {
    let table = [
        (Side::Wechat, 403, "OUT_TRADE_NO_USED"),
        (Side::Wechat, 400, "INVALID_REQUEST"),
        (Side::Wechat, 400, "ORDER_CLOSED"),
        (Side::Wechat, 400, "ORDERPAID"),
        (Side::Wechat, 403, "A_CODE_OF_NEXT_YEAR"),
        (Side::Alipay, 200, "ACQ.CONTEXT_INCONSISTENT"),
        (Side::Alipay, 200, "ACQ.TRADE_HAS_CLOSE"),
        (Side::Alipay, 200, "ACQ.TRADE_HAS_SUCCESS"),
        (Side::Alipay, 200, "ACQ.A_CODE_OF_NEXT_YEAR"),
    ];
    for (n, (side, status, code)) in table.into_iter().enumerate() {
        let order_no = format!("A{n}");
        let (order, person) = (world.shop.new_order(&order_no).await, world.person(side));
        world.fault(side, Call::Prepay, &order, FaultKind::FailBefore { status, code: code.into() });
        assert_processing(&world.tap(&order, &person).await);
        assert!(world.sim.ledger().queries_of(&number(&order, 1)) >= 1, "{code}: a question decides");
        let data = world.pay_patiently(&world.login_body(&order, &person)).await;
        assert_one_payable(&world, &order_no, &order, &data, &person).await;
    }

    let (order, person) = (world.shop.new_order("B1").await, world.person(Side::Wechat));
    let denied = FaultKind::FailBefore { status: 403, code: "OUT_TRADE_NO_USED".into() };
    world.fault_always(Side::Wechat, Call::Prepay, &order, denied);
    for _ in 0..2 {
        assert_processing(&world.tap(&order, &person).await);
    }
    assert_refused(&world.tap(&order, &person).await, "2002");
    assert_eq!(world.sim.ledger().prepays_of(&number(&order, 2)), 0);
    world
}

/// It says no and has made the number all the same: then the number is not given up.
pub async fn a_refused_number_that_the_wallet_knows_stays_the_only_one(world: World) -> World {
    for (side, status, code) in
        [(Side::Wechat, 403, "RULE_LIMIT"), (Side::Alipay, 200, "ACQ.BUYER_ENABLE_STATUS_FORBID")]
    {
        let (order, person) = (world.shop.new_order(side.name()).await, world.person(side));
        world.fault(side, Call::Prepay, &order, FaultKind::FailAfter { status, code: code.into() });
        assert_refused(&world.tap(&order, &person).await, "2002");
        assert_eq!(world.shop.order(side.name()).await["payStatus"], "PROCESSING");
        let data = world.tap_ready(&order, &person).await;
        assert_one_payable(&world, side.name(), &order, &data, &person).await;
        assert_eq!(world.payable_at_once_max(&order), 1);
    }
    world
}

/// The next payer waits for a number that may exist: it is made to exist, closed, and only then another is opened.
pub async fn a_number_that_may_exist_is_closed_before_another_payers_is_opened(world: World) -> World {
    for side in Side::BOTH {
        let (order, ann, ben) = (world.shop.new_order(side.name()).await, world.person(side), world.person(side));
        world.fault_always(side, Call::Prepay, &order, FaultKind::CloseBefore);
        assert_processing(&world.tap(&order, &ann).await);
        assert_eq!(world.numbers_created(&order), 0);
        assert_processing(&world.tap(&order, &ben).await);
        assert_eq!(world.shop.order(side.name()).await["attempts"].as_array().unwrap().len(), 1, "no second number");
        world.sim.faults().clear();
        let data = world.pay_patiently(&world.login_body(&order, &ben)).await;
        let ledger = world.sim.ledger();
        assert_eq!(ledger.count(&number(&order, 1), Call::Prepay, Event::Created), 1, "{side:?}");
        assert_eq!(ledger.count(&number(&order, 1), Call::Close, Event::Closed), 1, "{side:?}");
        assert_eq!(world.payable_at_once_max(&order), 1);
        world.press_pay(&data, &ben).await.unwrap();
        assert_eq!(world.until_status(side.name(), "SUCCESS").await["outTradeNo"], json!(number(&order, 2)));
    }
    world
}

/// A close whose answer is lost frees nothing; the phone is told to ask again, and then gets on.
pub async fn a_lost_close_opens_no_second_number(world: World) -> World {
    for side in Side::BOTH {
        let (order, ann, ben) = (world.shop.new_order(side.name()).await, world.person(side), world.person(side));
        let anns = world.tap_ready(&order, &ann).await;
        world.fault_always(side, Call::Close, &order, FaultKind::CloseBefore);
        assert_processing(&world.tap(&order, &ben).await);
        assert_eq!(world.numbers_created(&order), 1);
        world.sim.faults().clear();
        world.fault(side, Call::Close, &order, FaultKind::LoseAnswer);
        let data = world.pay_patiently(&world.login_body(&order, &ben)).await;
        assert!(world.press_pay(&anns, &ann).await.is_err());
        world.press_pay(&data, &ben).await.unwrap();
        world.until_status(side.name(), "SUCCESS").await;
        assert_eq!(world.payable_at_once_max(&order), 1);
    }
    world
}
