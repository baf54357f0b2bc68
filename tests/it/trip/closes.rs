//! A merchant closes its order: nothing of it can be paid any more, or it is paid.

use reqwest::StatusCode;
use serde_json::{Value, json};
use simulator::{Call, Event, FaultKind};

use super::{
    caller::{assert_processing, assert_refused},
    harness::World,
    sides::{Side, number},
};

impl World {
    pub(super) async fn close(&self, order_no: &str) -> Value {
        let (status, answer) = self.shop.post(&format!("/api/v1/orders/{order_no}/close"), &json!({})).await;
        assert_eq!(status, StatusCode::OK, "{answer:#}");
        answer["data"].clone()
    }
}

pub(super) fn assert_closed(answer: &Value) {
    assert_eq!((&answer["status"], &answer["payStatus"]), (&json!("CLOSE"), &json!("CLOSE")), "{answer:#}");
    assert!(answer["closeTime"].is_string(), "{answer:#}");
}

pub async fn an_order_nobody_opened_is_closed_at_once(world: World) -> World {
    let order = world.shop.new_order("A1").await;
    assert_closed(&world.close("A1").await);
    assert_closed(&world.close("A1").await);
    assert_refused(&world.tap(&order, &world.person(Side::Wechat)).await, "3101");
    assert_eq!(world.numbers_created(&order), 0);
    assert!(world.shop.order("A1").await["closeTime"].is_string());
    let (stranger, _, _) = world.another_shop("C2").await;
    assert_eq!(stranger.post("/api/v1/orders/A1/close", &json!({})).await.0, StatusCode::NOT_FOUND);
    world
}

pub async fn an_open_number_is_closed_at_its_wallet_first(world: World) -> World {
    for (order_no, side) in [("A1", Side::Wechat), ("A2", Side::Alipay)] {
        let order = world.shop.new_order(order_no).await;
        let person = world.person(side);
        let data = world.tap_ready(&order, &person).await;
        assert_closed(&world.close(order_no).await);
        assert_eq!(world.sim.ledger().count(&number(&order, 1), Call::Close, Event::Closed), 1);
        assert!(world.press_pay(&data, &person).await.is_err(), "nobody can pay it");
        assert_refused(&world.tap(&order, &person).await, "3101");
    }
    world
}

pub async fn a_payment_nobody_heard_of_wins_against_the_merchants_close(world: World) -> World {
    world.lose_all_notices();
    for (order_no, side) in [("A1", Side::Wechat), ("A2", Side::Alipay)] {
        let order = world.shop.new_order(order_no).await;
        let person = world.person(side);
        let data = world.tap_ready(&order, &person).await;
        world.press_pay(&data, &person).await.unwrap();
        let answer = world.close(order_no).await;
        assert_eq!((&answer["status"], &answer["payStatus"]), (&json!("FAIL"), &json!("SUCCESS")), "{answer:#}");
        // The wish of then closes nothing now.
        assert_eq!(world.close(order_no).await["payStatus"], "SUCCESS");
        assert_eq!(world.shop.order(order_no).await["anomalies"], json!([]));
    }
    world
}

pub async fn a_payment_in_the_middle_of_a_merchants_close_wins(world: World) -> World {
    world.lose_all_notices();
    for (order_no, side) in [("A1", Side::Wechat), ("A2", Side::Alipay)] {
        let order = world.shop.new_order(order_no).await;
        world.tap_ready(&order, &world.person(side)).await;
        let fault = world.fault(side, Call::Close, &order, FaultKind::PaidMeanwhile);
        let answer = world.close(order_no).await;
        assert_eq!((&answer["status"], &answer["payStatus"]), (&json!("FAIL"), &json!("SUCCESS")), "{answer:#}");
        assert_eq!(world.sim.faults().struck(fault), 1);
    }
    world
}

/// *Not exist* is not closed: a late copy of the prepay must meet a closed number.
pub async fn a_number_that_never_arrived_exists_before_it_is_closed(world: World) -> World {
    for (order_no, side) in [("A1", Side::Wechat), ("A2", Side::Alipay)] {
        let order = world.shop.new_order(order_no).await;
        world.fault_always(side, Call::Prepay, &order, FaultKind::CloseBefore);
        assert_processing(&world.tap(&order, &world.person(side)).await);
        world.sim.faults().clear();
        assert_closed(&world.close(order_no).await);
        let ledger = world.sim.ledger();
        let sent = number(&order, 1);
        assert_eq!((ledger.count(&sent, Call::Prepay, Event::Created), ledger.bodies_of(&sent)), (1, 1));
        assert_eq!(ledger.count(&sent, Call::Close, Event::Closed), 1);
    }
    world
}

pub async fn a_close_that_no_wallet_answers_ends_later(world: World) -> World {
    let order = world.shop.new_order("A1").await;
    let person = world.person(Side::Wechat);
    let data = world.tap_ready(&order, &person).await;
    world.fault_always(Side::Wechat, Call::Close, &order, FaultKind::HtmlBefore);
    let answer = world.close("A1").await;
    assert_eq!((&answer["status"], &answer["payStatus"]), (&json!("FAIL"), &json!("PROCESSING")), "{answer:#}");
    // Nothing is given out under it, to the payer of the open number either.
    assert_refused(&world.tap(&order, &person).await, "3101");
    world.sim.faults().clear();
    assert_closed(&world.close("A1").await);
    assert!(world.press_pay(&data, &person).await.is_err());
    world
}
