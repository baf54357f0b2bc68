//! An order that nobody paid in time: asked about for a while, then nothing of it can be paid, and only then it is closed.

use std::time::Duration;

use serde_json::Value;
use simulator::{Call, Event, FaultKind};

use super::{
    caller::assert_refused,
    harness::{World, until},
    sides::{Side, number},
};

impl World {
    /// As if it had expired so long ago, and the wallet were to be asked about it now.
    async fn is_over_since(&self, order: &Value, ago: Duration) {
        let (id, expire_at) = (order["serialNo"].as_str().unwrap(), self.clock.now().minus(ago).ms());
        self.place.sql(&format!("UPDATE orders SET expire_at = {expire_at} WHERE id = '{id}'")).await;
        let due = "UPDATE attempts SET next_query_at = 1 WHERE next_query_at IS NOT NULL";
        self.place.sql(&format!("{due} AND order_id = '{id}'")).await;
    }

    async fn questions_answered(&self, order: &Value) -> usize {
        self.history_of(order).await.iter().filter(|(_, events)| events == "asked").count()
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
        let over = Duration::from_secs(91);
        let answered = world.questions_answered(&order).await;
        world.is_over_since(&order, over).await;
        until("nothing came of the close", || async { world.questions_answered(&order).await > answered }).await;
        assert!(world.sim.faults().struck(silent) >= 1);
        assert_eq!((closed_there(), ledger.payable_numbers(&sent).len()), (0, 1));
        assert_eq!(world.shop.order(order_no).await["payStatus"], "PROCESSING");

        world.sim.faults().clear();
        world.is_over_since(&order, over).await;
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
