//! An order that nobody paid in time: asked about for a while, then nothing of it can be paid, and only then it is closed.
//! Money that comes late is the order's all the same, or its merchant's policy decides.

use std::time::Duration;

use prepay::domain::{order::Order, policy::MoneyPolicy};
use serde_json::{Value, json};
use simulator::{Call, Event, FaultKind};

use super::{
    caller::assert_refused,
    harness::{World, until},
    sides::{Side, number},
    told::received,
};

/// So long after its expiry nothing of an order is waited for any more.
const OVER: Duration = Order::SETTLED_AFTER_EXPIRY.saturating_add(Duration::from_secs(1));

impl World {
    /// As if it had expired so long ago, and the wallet were to be asked about it now.
    async fn is_over_since(&self, order: &Value, ago: Duration) {
        let (id, expire_at) = (order["serialNo"].as_str().unwrap(), self.clock.now().minus(ago).ms());
        self.place.sql(&format!("UPDATE orders SET expire_at = {expire_at} WHERE id = '{id}'")).await;
        // A question that is under way has read the order as it was.
        until("no question is under way", async || {
            let now = self.clock.now().ms();
            let count = format!("SELECT COUNT(*) FROM attempts WHERE order_id = '{id}' AND query_leased_until > {now}");
            self.place.number(&count).await == 0
        })
        .await;
        let due = "UPDATE attempts SET next_query_at = 1 WHERE next_query_at IS NOT NULL";
        self.place.sql(&format!("{due} AND order_id = '{id}'")).await;
    }

    async fn questions_answered(&self, order: &Value) -> usize {
        self.history_of(order).await.iter().filter(|(_, events)| events == "asked").count()
    }

    /// Paid, and nothing about it is odd.
    async fn until_simply_paid(&self, order_no: &str) {
        let paid = self.until_status(order_no, "SUCCESS").await;
        assert_eq!(paid["anomalies"], json!([]), "{order_no}");
    }
}

/// A payer who was in the wallet at the last moment may still pay, and we hear of it late.
pub async fn an_open_number_outlives_its_order_by_ninety_seconds_and_is_closed_first(world: World) -> World {
    world.lose_all_notices();
    for side in Side::BOTH {
        let (order_no, person) = (side.name(), world.person(side));
        let order = world.shop.new_order(order_no).await;
        let data = world.tap_ready(&order, &person).await;
        let (sent, ledger) = (number(&order, 1), world.sim.ledger());
        let closed_there = || ledger.count(&sent, Call::Close, Event::Closed);

        // Within the time it is asked about, again and again, and left as it is.
        for _ in 0..2 {
            let answered = world.questions_answered(&order).await;
            world.is_over_since(&order, Duration::from_secs(45)).await;
            until("the wallet says that it is unpaid", || async { world.questions_answered(&order).await > answered })
                .await;
        }
        assert_eq!((ledger.closes_of(&sent), ledger.payable_numbers(&sent).len()), (0, 1), "still payable");
        assert_eq!(world.shop.order(order_no).await["payStatus"], "PROCESSING");

        // Past it, a wallet that does not close its number keeps the order open.
        let silent = world.fault_always(side, Call::Close, &order, FaultKind::HtmlBefore);
        let answered = world.questions_answered(&order).await;
        world.is_over_since(&order, OVER).await;
        until("nothing came of the close", async || {
            world.sim.faults().struck(silent) >= 1 && world.questions_answered(&order).await > answered
        })
        .await;
        assert_eq!((closed_there(), ledger.payable_numbers(&sent).len()), (0, 1));
        assert_eq!(world.shop.order(order_no).await["payStatus"], "PROCESSING");

        world.sim.faults().clear();
        world.is_over_since(&order, OVER).await;
        let closed = world.until_status(order_no, "CLOSE").await;
        assert!(closed["closeTime"].is_string(), "{closed:#}");
        assert_eq!(closed_there(), 1);
        let history = world.history_of(&order).await;
        let events: Vec<&str> = history.iter().flat_map(|(_, events)| events.split(',')).collect();
        assert!(events.ends_with(&["attempt_retired", "closed"]), "the wallet's first: {events:?}");
        assert!(world.press_pay(&data, &person).await.is_err(), "nobody can pay it");
        assert_refused(&world.tap(&order, &person).await, "3101");
    }
    world
}

/// Whoever tells of it first: the wallet, a question, or the close that it wins against.
pub async fn a_payment_past_the_expiry_is_the_orders_while_its_number_is_open(world: World) -> World {
    world.lose_all_notices();
    for side in Side::BOTH {
        let [told, asked, won] = ["told", "asked", "won"].map(|how| format!("{}-{how}", side.name()));
        // No question is answered: its number stays open, and a notice is all we hear.
        let (order, person) = (world.shop.new_order(&told).await, world.person(side));
        let data = world.tap_ready(&order, &person).await;
        let silent = world.fault_always(side, Call::Query, &order, FaultKind::HtmlBefore);
        world.is_over_since(&order, OVER).await;
        until("it was asked about in vain", || async { world.sim.faults().struck(silent) >= 1 }).await;
        world.press_pay(&data, &person).await.unwrap();
        assert_eq!(world.notify(side, &number(&order, 1), &[]).await, received(side));
        world.until_simply_paid(&told).await;
        assert!(world.sim.faults().remove(silent));

        let (order, _) = world.paid_unheard(&asked, side).await;
        world.is_over_since(&order, OVER).await;
        world.until_simply_paid(&asked).await;
        assert_eq!(world.sim.ledger().closes_of(&number(&order, 1)), 0, "asked before it is closed");

        let order = world.shop.new_order(&won).await;
        world.tap_ready(&order, &world.person(side)).await;
        let meanwhile = world.fault(side, Call::Close, &order, FaultKind::PaidMeanwhile);
        world.is_over_since(&order, OVER).await;
        world.until_simply_paid(&won).await;
        assert_eq!(world.sim.faults().struck(meanwhile), 1);
        assert_eq!(world.sim.ledger().count(&number(&order, 1), Call::Close, Event::Closed), 0);
    }
    world
}

/// Its wallet had called the number closed, wrongly: the order was closed in its time, and paid after that.
pub async fn money_that_comes_after_an_expired_order_was_closed_is_the_policys(world: World) -> World {
    let mut over = Vec::new();
    for late in [MoneyPolicy::Keep, MoneyPolicy::Refund] {
        for side in Side::BOTH {
            let order_no = format!("{}-{}", side.name(), late.as_str());
            let (order, person) = (world.shop.new_order(&order_no).await, world.person(side));
            let data = world.tap_ready(&order, &person).await;
            world.believe_closed(&order, "waiting").await;
            world.is_over_since(&order, OVER).await;
            over.push((late, order_no, order, person, data));
        }
    }
    for (late, order_no, order, person, data) in &over {
        world.until_status(order_no, "CLOSE").await;
        assert_eq!(world.history_of(order).await.last().unwrap().1, "closed");
        // The one for second payments is the opposite: it is not asked here.
        let (second, handled, back) = match late {
            MoneyPolicy::Keep => (MoneyPolicy::Refund, "KEPT", 0),
            MoneyPolicy::Refund => (MoneyPolicy::Keep, "REFUNDED", 1999),
        };
        world.policy(*late, second).await;
        world.press_pay(data, person).await.unwrap();
        let (paid, sent) = (world.until_status(order_no, "SUCCESS").await, number(order, 1));
        assert_eq!(paid["outTradeNo"], json!(sent));
        world.decided(order_no, &[("CLOSED_NUMBER_PAID", "KEPT"), ("LATE_PAYMENT", handled)]).await;
        if *late == MoneyPolicy::Refund {
            world.until_refund(&format!("SYS-{sent}"), "SUCCESS").await;
        }
        assert_eq!(world.sim.ledger().refunded_fen(&sent), back);
    }
    world
}
