//! Money goes back once, whatever becomes of the calls about it, and never more than was paid.

use reqwest::StatusCode;
use serde_json::{Value, json};
use simulator::{
    Call, Event, FaultKind,
    wechat::{RefundEnding, RefundStatus},
};
use tokio::time::{Duration, Instant, sleep};

use super::{
    caller::assert_refused,
    harness::{SOON, World, until},
    sides::{Side, number},
    told::received,
};

/// In 2096: nobody looks at it before.
pub const NEVER_MS: i64 = 4_000_000_000_000;

impl World {
    /// An order that is paid, and whose merchant knows it.
    pub async fn paid_by(&self, order_no: &str, side: Side) -> Value {
        let (order, person) = (self.shop.new_order(order_no).await, self.person(side));
        let data = self.tap_ready(&order, &person).await;
        self.press_pay(&data, &person).await.unwrap();
        self.until_status(order_no, "SUCCESS").await;
        order
    }

    pub async fn refund(&self, refund_no: &str, order_no: &str, fen: i64) -> (StatusCode, Value) {
        let body = json!({ "refundNo": refund_no, "orderNo": order_no, "refundAmount": fen, "reason": "七天无理由" });
        self.shop.post("/api/v1/refunds", &body).await
    }

    pub async fn refund_taken(&self, refund_no: &str, order_no: &str, fen: i64) -> Value {
        let (status, answer) = self.refund(refund_no, order_no, fen).await;
        assert_eq!(status, StatusCode::OK, "{answer:#}");
        answer["data"].clone()
    }

    /// Waits until the merchant sees this status of its refund. Time is short: what is due later is due now.
    pub async fn until_refund(&self, refund_no: &str, status: &str) -> Value {
        let deadline = Instant::now() + SOON;
        loop {
            let (_, answer) = self.shop.get(&format!("/api/v1/refunds/{refund_no}")).await;
            if answer["data"]["refundStatus"] == status {
                return answer["data"].clone();
            }
            assert!(Instant::now() < deadline, "{refund_no} did not become {status}: {answer:#}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits for the one refund that is so, and keeps the scheduler from it.
    pub async fn until_left_alone(&self, so: &str) {
        let count = format!("SELECT COUNT(*) FROM refunds WHERE {so}");
        until("the refund is under way", || async { self.place.number(&count).await == 1 }).await;
        self.place.sql(&format!("UPDATE refunds SET next_at = {NEVER_MS} WHERE {so}")).await;
    }

    /// Does something while the scheduler's timetable for refunds is set to now, again and again.
    pub async fn hurried<T>(&self, work: impl Future<Output = T>) -> T {
        let hurry = async {
            loop {
                let now =
                    "UPDATE refunds SET next_at = 1, sent_at = 1 WHERE next_at IS NOT NULL AND sent_at IS NOT NULL";
                self.place.sql(now).await;
                self.place.sql("UPDATE refunds SET denied_at = 1 WHERE denied_at IS NOT NULL").await;
                sleep(Duration::from_millis(300)).await;
            }
        };
        tokio::select! {
            done = work => done,
            () = hurry => unreachable!(),
        }
    }
}

pub async fn a_paid_order_is_refunded_in_parts_and_no_fen_more(world: World) -> World {
    for (order_no, side) in [("A1", Side::Wechat), ("A2", Side::Alipay)] {
        let order = world.paid_by(order_no, side).await;
        let [one, two, three] = [1, 2, 3].map(|n| format!("{order_no}-R{n}"));
        let first = world.refund_taken(&one, order_no, 500).await;
        assert_eq!((&first["duplicate"], &first["initiator"]), (&json!(false), &json!("MERCHANT")));
        let done = world.until_refund(&one, "SUCCESS").await;
        assert!(done["refundTime"].is_string(), "{done:#}");
        assert_eq!(world.shop.order(order_no).await["refundedAmount"], 500);
        assert_refused(&world.tap(&order, &world.person(side)).await, "2101");

        // The same again is the same refund; other content under its number is none.
        assert_eq!(world.refund_taken(&one, order_no, 500).await["duplicate"], true);
        let (status, answer) = world.refund(&one, order_no, 501).await;
        assert_eq!((status, &answer["errCode"]), (StatusCode::CONFLICT, &json!("2107")));

        let (status, answer) = world.refund(&two, order_no, 1500).await;
        assert_eq!((status, &answer["errCode"]), (StatusCode::CONFLICT, &json!("2109")), "one fen too much");
        // Nothing was set aside by it, and its number is free.
        world.refund_taken(&two, order_no, 1499).await;
        world.until_refund(&two, "SUCCESS").await;
        assert_eq!(world.refund(&three, order_no, 1).await.0, StatusCode::CONFLICT);
        let told = world.shop.order(order_no).await;
        assert_eq!((&told["payStatus"], &told["refundedAmount"]), (&json!("SUCCESS"), &json!(1999)));
        assert_refused(&world.tap(&order, &world.person(side)).await, "3102");
        assert_eq!(world.sim.ledger().refunded_fen(&number(&order, 1)), 1999);
        // One that reached its wallet late makes the next too soon: refused there, and made again under its number.
        let (sent, ledger) = (number(&order, 1), world.sim.ledger());
        let too_soon = ledger.count(&sent, Call::Refund, Event::Refused);
        assert!(too_soon <= 1, "{order_no}: refused {too_soon} times");
        assert_eq!(ledger.refunds_of(&sent) - too_soon, 2, "one send each");
    }
    world
}

pub async fn a_refund_whose_answer_was_lost_happens_once(world: World) -> World {
    for (order_no, side, kind) in [
        ("A1", Side::Wechat, FaultKind::LoseAnswer),
        ("A2", Side::Wechat, FaultKind::FrequencyLimitedAfter),
        ("A3", Side::Wechat, FaultKind::FailAfter { status: 500, code: "SYSTEM_ERROR".into() }),
        ("A6", Side::Wechat, FaultKind::WrongAmount { fen: 1 }),
        ("A4", Side::Alipay, FaultKind::LoseAnswer),
        ("A5", Side::Alipay, FaultKind::WrongSignature),
    ] {
        let order = world.paid_by(order_no, side).await;
        world.sim.wechat().set_switches(|switches| switches.refund_notices = false);
        let fault = world.fault(side, Call::Refund, &order, kind.clone());
        let refund_no = format!("{order_no}-R1");
        let body = json!({ "refundNo": refund_no, "orderNo": order_no, "refundAmount": 700 });
        let (status, answer) = world.hurried(world.shop.post("/api/v1/refunds", &body)).await;
        assert_eq!(status, StatusCode::OK, "{answer:#}");
        world.hurried(world.until_refund(&refund_no, "SUCCESS")).await;
        assert_eq!(world.sim.faults().struck(fault), 1, "{kind:?}");
        let sent = number(&order, 1);
        assert_eq!(world.sim.ledger().refunded(&sent).len(), 1, "{kind:?}");
        let out_refund_no = answer["data"]["serialNo"].as_str().unwrap();
        assert_eq!(world.sim.ledger().refund_bodies_of(&sent, out_refund_no), 1, "{kind:?}");
    }
    world
}

pub async fn a_refund_that_never_arrived_is_sent_again_with_the_same_bytes(world: World) -> World {
    for (order_no, side) in [("A1", Side::Wechat), ("A2", Side::Alipay)] {
        let order = world.paid_by(order_no, side).await;
        let fault = world.fault(side, Call::Refund, &order, FaultKind::HtmlBefore);
        let answer = world.refund_taken(order_no, order_no, 700).await;
        assert_eq!(answer["refundStatus"], "PROCESSING", "{answer:#}");
        assert_eq!(world.sim.faults().struck(fault), 1);
        world.hurried(world.until_refund(order_no, "SUCCESS")).await;
        let out_refund_no = answer["serialNo"].as_str().unwrap();
        let ledger = world.sim.ledger();
        assert_eq!(ledger.refund_bodies_of(&number(&order, 1), out_refund_no), 1);
        assert_eq!(ledger.refunded(&number(&order, 1)).len(), 1);
    }
    world
}

/// Words that may come from an earlier send are looked into twice; what is not there then has failed, once and for all.
pub async fn a_denied_refund_fails_only_after_a_second_look(world: World) -> World {
    for (order_no, side, code) in [("A1", Side::Wechat, "INVALID_REQUEST"), ("A2", Side::Alipay, "TRADE_STATUS_ERROR")]
    {
        let order = world.paid_by(order_no, side).await;
        let fault = FaultKind::FailBefore { status: 400, code: code.to_owned() };
        world.fault_always(side, Call::Refund, &order, fault);
        let answer = world.refund_taken(order_no, order_no, 700).await;
        assert_eq!(answer["refundStatus"], "PROCESSING", "{answer:#}");
        let failed = world.hurried(world.until_refund(order_no, "FAIL")).await;
        assert!(failed["failReason"].as_str().unwrap().contains(code), "{failed:#}");
        assert_eq!(world.sim.ledger().refunded(&number(&order, 1)).len(), 0);
    }
    world
}

/// The wallet took it and says that it does not make it, in every word it has for that.
pub async fn a_refund_that_was_made_under_a_refusal_is_found(world: World) -> World {
    for (order_no, side, code) in [
        ("A1", Side::Wechat, "INVALID_REQUEST"),
        ("A2", Side::Wechat, "RESOURCE_ALREADY_EXISTS"),
        ("A3", Side::Alipay, "TRADE_HAS_CLOSE"),
        ("A4", Side::Alipay, "DISCORDANT_REPEAT_REQUEST"),
    ] {
        let order = world.paid_by(order_no, side).await;
        world.sim.wechat().set_switches(|switches| switches.refund_notices = false);
        world.fault(side, Call::Refund, &order, FaultKind::FailAfter { status: 400, code: code.to_owned() });
        // The first look does not find it yet.
        world.fault(side, Call::RefundQuery, &order, FaultKind::HtmlBefore);
        world.refund_taken(order_no, order_no, 700).await;
        world.hurried(world.until_refund(order_no, "SUCCESS")).await;
        assert_eq!(world.sim.ledger().refunded(&number(&order, 1)).len(), 1, "{code}");
    }
    world
}

pub async fn a_refund_without_balance_waits_and_goes_on(world: World) -> World {
    world.paid_by("A1", Side::Wechat).await;
    let mchid = &world.wechat.merchant.mchid;
    world.sim.wechat().set_balance(mchid, Some(100));
    let answer = world.refund_taken("R1", "A1", 700).await;
    assert_eq!((&answer["refundStatus"], &answer["hint"]), (&json!("PROCESSING"), &json!("NOT_ENOUGH")), "{answer:#}");
    world.sim.wechat().set_balance(mchid, Some(10_000));
    look_wanted(&world, "R1").await;
    world.until_refund("R1", "SUCCESS").await;
    assert_eq!(world.sim.ledger().refunded(answer["outTradeNo"].as_str().unwrap()).len(), 1);
    world
}

/// While it waited, one that had been called failed was paid back after all: nothing is left for it, and it was never made.
pub async fn a_refund_whose_money_went_back_otherwise_is_told_failed(world: World) -> World {
    world.paid_by("A1", Side::Wechat).await;
    world.refund_taken("R1", "A1", 1000).await;
    world.until_refund("R1", "SUCCESS").await;
    // A refusal as too soon would leave R2 in doubt. The wallet's minute, of 0.6 s here, counts from when R1 reached it.
    let reached = Instant::now();
    until("the wallet's minute is over", async || reached.elapsed() > Duration::from_millis(700)).await;
    world.sim.wechat().set_balance(&world.wechat.merchant.mchid, Some(100));
    let answer = world.refund_taken("R2", "A1", 999).await;
    assert_eq!(answer["refundStatus"], "PROCESSING", "{answer:#}");
    until("it waits for money", || async {
        world.shop.get("/api/v1/refunds/R2").await.1["data"]["hint"] == "NOT_ENOUGH"
    })
    .await;
    world.sim.wechat().set_balance(&world.wechat.merchant.mchid, Some(10_000));
    world.place.sql("UPDATE attempts SET refund_reserved_fen = 2998, refunded_fen = 1999").await;
    look_wanted(&world, "R2").await;
    let failed = world.until_refund("R2", "FAIL").await;
    assert!(failed["failReason"].as_str().unwrap().contains("another refund"), "{failed:#}");
    assert_eq!(world.sim.ledger().refunded(answer["outTradeNo"].as_str().unwrap()).len(), 1, "nothing was sent");
    assert_eq!(world.place.number("SELECT refund_reserved_fen FROM attempts").await, 1999, "its part is free again");
    // As the wallet has it, for what is looked at when everything stops.
    world.place.sql("UPDATE attempts SET refund_reserved_fen = 1000, refunded_fen = 1000").await;
    world
}

pub async fn an_abnormal_refund_is_seen_and_repaired(world: World) -> World {
    world.paid_by("A1", Side::Wechat).await;
    world.sim.wechat().set_switches(|switches| switches.refund_ending = RefundEnding::Abnormal);
    let answer = world.refund_taken("R1", "A1", 700).await;
    world.until_refund("R1", "ABNORMAL").await;
    // Its part stays set aside: a second refund would pay twice.
    assert_eq!(world.refund("R2", "A1", 1999).await.0, StatusCode::CONFLICT);
    // A person settles it in the merchant platform; the notice of it is lost, and an operator asks.
    world.sim.wechat().set_switches(|switches| switches.refund_notices = false);
    let out_refund_no = answer["serialNo"].as_str().unwrap();
    assert!(world.sim.wechat().end_refund(&world.wechat.merchant.mchid, out_refund_no, RefundStatus::Success));
    look_wanted(&world, "R1").await;
    world.until_refund("R1", "SUCCESS").await;
    assert_eq!(world.shop.order("A1").await["refundedAmount"], 700);
    world
}

pub async fn a_refund_that_the_wallet_closed_fails_and_gives_its_part_back(world: World) -> World {
    world.paid_by("A1", Side::Wechat).await;
    world.sim.wechat().set_switches(|switches| switches.refund_ending = RefundEnding::Closed);
    world.refund_taken("R1", "A1", 1999).await;
    let failed = world.until_refund("R1", "FAIL").await;
    assert!(failed["failReason"].is_string(), "{failed:#}");
    world.sim.wechat().set_switches(|switches| switches.refund_ending = RefundEnding::Success);
    world.refund_taken("R2", "A1", 1999).await;
    world.until_refund("R2", "SUCCESS").await;
    assert_eq!(world.shop.order("A1").await["refundedAmount"], 1999);
    world
}

pub async fn a_refund_nobody_hears_of_is_found_by_asking(world: World) -> World {
    world.paid_by("A1", Side::Wechat).await;
    world.sim.wechat().set_switches(|switches| {
        (switches.refund_notices, switches.refund_delay_ms) = (false, 30_000);
    });
    let answer = world.refund_taken("R1", "A1", 700).await;
    assert_eq!(answer["refundStatus"], "PROCESSING");
    world.hurried(world.until_refund("R1", "SUCCESS")).await;
    world
}

/// Genuine words about other money: by question and by notice.
pub async fn a_word_about_another_amount_settles_nothing(world: World) -> World {
    world.sim.wechat().set_switches(|switches| switches.refund_notices = false);
    let order = world.paid_by("A1", Side::Wechat).await;
    world.fault(Side::Wechat, Call::Refund, &order, FaultKind::HtmlAfter);
    let lie = world.fault_always(Side::Wechat, Call::RefundQuery, &order, FaultKind::WrongAmount { fen: 1 });
    let answer = world.refund_taken("R1", "A1", 700).await;
    let lied = until("the wallet lied twice", || async { world.sim.faults().struck(lie) > 1 });
    world.hurried(lied).await;
    let out_refund_no = answer["serialNo"].as_str().unwrap();
    let sent = number(&order, 1);
    let said = world.notify_refund(Side::Wechat, &sent, out_refund_no, &[FaultKind::WrongAmount { fen: 1 }]).await;
    assert_eq!(said, received(Side::Wechat), "the wallet need not tell it again");
    let why = world.set_aside_because().await;
    assert_eq!(why, format!("refund {out_refund_no}: 1 fen go back, 700 fen were to"));
    let (_, told) = world.shop.get("/api/v1/refunds/R1").await;
    assert_eq!(told["data"]["refundStatus"], "PROCESSING", "{told:#}");
    assert_eq!(world.notify_refund(Side::Wechat, &sent, out_refund_no, &[]).await, received(Side::Wechat));
    world.until_refund("R1", "SUCCESS").await;
    world
}

/// Alipay's notice of a refund tells the payment too, and may be all we hear of it.
pub async fn a_refunds_notice_that_is_set_aside_still_tells_the_payment(world: World) -> World {
    let order = world.paid_by("A1", Side::Alipay).await;
    // Its own notice, late, would be set aside beside the one that is sent below.
    world.sim.alipay().set_switches(|switches| switches.notify_refunds = false);
    let answer = world.refund_taken("R1", "A1", 700).await;
    world.until_refund("R1", "SUCCESS").await;
    // Nobody told us of the payment, and the refund is not that of its row.
    world.place.sql("UPDATE refunds SET account_id = account_id + 100").await;
    world.place.sql("UPDATE attempts SET state = 'open', next_query_at = NULL").await;
    world.place.sql("UPDATE orders SET state = 'open', paid_by = NULL").await;
    let (sent, out_refund_no) = (number(&order, 1), answer["serialNo"].as_str().unwrap());
    assert_eq!(world.notify_refund(Side::Alipay, &sent, out_refund_no, &[]).await, received(Side::Alipay));
    let why = world.set_aside_because().await;
    assert_eq!(why, format!("refund {out_refund_no} is of another payment or channel account"));
    assert_eq!(world.shop.order("A1").await["payStatus"], "SUCCESS");
    world.place.sql("UPDATE refunds SET account_id = account_id - 100").await;
    world
}

pub async fn what_is_wrong_with_a_refund_is_told_and_nothing_is_set_aside(world: World) -> World {
    world.shop.new_order("A0").await;
    let (status, answer) = world.refund("R1", "A0", 1).await;
    assert_eq!((status, &answer["errCode"]), (StatusCode::CONFLICT, &json!("2108")), "not paid");
    world.paid_by("A1", Side::Wechat).await;
    for (body, status) in [
        (json!({ "refundNo": "R1", "orderNo": "A1" }), 400),
        (json!({ "refundNo": "R1", "orderNo": "A1", "refundAmount": 0 }), 400),
        (json!({ "refundNo": "R1", "orderNo": "A1", "refundAmount": 1.5 }), 400),
        (json!({ "refundNo": "R 1", "orderNo": "A1", "refundAmount": 1 }), 400),
        (json!({ "refundNo": "SYS-1", "orderNo": "A1", "refundAmount": 1 }), 400),
        (json!({ "refundNo": "R1", "orderNo": "A1", "refundAmount": 1, "reason": "长".repeat(81) }), 400),
        (json!({ "refundNo": "R1", "orderNo": "A1", "refundAmount": 1, "notifyUrl": "ftp://x" }), 400),
        (json!({ "refundNo": "R1", "orderNo": "A9", "refundAmount": 1 }), 404),
        (json!({ "refundNo": "R1", "orderNo": "A1", "refundAmount": 2000 }), 409),
    ] {
        let (said, answer) = world.shop.post("/api/v1/refunds", &body).await;
        assert_eq!(said.as_u16(), status, "{body} {answer:#}");
    }
    assert_eq!(world.place.rows_of("refunds").await, 0);
    world.refund_taken("R1", "A1", 1999).await;
    let (stranger, _, _) = world.another_shop("C2").await;
    assert_eq!(stranger.get("/api/v1/refunds/R1").await.0, StatusCode::NOT_FOUND);
    let body = json!({ "refundNo": "R9", "orderNo": "A1", "refundAmount": 1 });
    assert_eq!(stranger.post("/api/v1/refunds", &body).await.0, StatusCode::NOT_FOUND);
    world
}

/// A person has the wallet asked now.
async fn look_wanted(world: &World, refund_no: &str) {
    let said = world.operator(&["refund", "retry", refund_no, "--customer", "C1"]).await;
    assert_eq!(said.trim(), format!("the wallet is asked about refund {refund_no} now"));
}
