//! A broker that takes nothing more (an alarm) or is not there: a phone is told so in milliseconds, a wallet is told to come again,
//! and both are served afterwards. On a node of its own, for an alarm is everybody's.

mod on_postgres {
    mod on_rabbitmq {
        use std::sync::Arc;

        use crate::{
            queue::node::Node,
            store::place::On,
            trip::harness::{Via, World},
        };

        /// The node goes after the deployment, whose last word to it is a close.
        async fn beside_a_node<Fut>(test: impl FnOnce(World, Arc<Node>) -> Fut + Send + 'static)
        where
            Fut: Future<Output = World> + Send + 'static,
        {
            let node = Arc::new(Node::start().await);
            let own = node.clone();
            World::run(On::Postgres, Via::Rabbitmq, move |world| test(world, own)).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn an_alarm_is_a_503_in_milliseconds_until_it_clears() {
            beside_a_node(super::super::an_alarm_is_a_503_in_milliseconds_until_it_clears).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn a_broker_that_is_away_is_a_503_in_milliseconds_until_it_is_back() {
            beside_a_node(super::super::a_broker_that_is_away_is_a_503_in_milliseconds_until_it_is_back).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn a_notice_that_no_broker_keeps_is_failed_and_its_repeat_pays() {
            beside_a_node(super::super::a_notice_that_no_broker_keeps_is_failed_and_its_repeat_pays).await;
        }
    }
}

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{
    harness::{SOON, World, until},
    queue_gone::{assert_no_wallet_called, orders_and_bodies, timed},
    sides::{Side, number},
    told::{not_received, received},
    watched::Scraped,
};
use crate::queue::node::Node;

/// So many calls meet the broker as it is.
const CALLS: usize = 20;

async fn on_its_node(world: World, node: &Node) -> World {
    let url = node.url().to_owned();
    world
        .restart(|settings| {
            settings.broker.url = url.into();
            // What is under way when the broker stops reading is unknown, and waited for: not for long here.
            (settings.front.wait_ms, settings.front.publish_timeout_ms) = (2_000, 500);
        })
        .await
}

async fn an_alarm_is_a_503_in_milliseconds_until_it_clears(world: World, node: Arc<Node>) -> World {
    let world = on_its_node(world, &node).await;
    let made = orders_and_bodies(&world, 2 * (CALLS + 1)).await;
    for ((command, raise, clear), made) in
        [("set_vm_memory_high_watermark", "0.0000001", "0.4"), ("set_disk_free_limit", "9000000GB", "50MB")]
            .into_iter()
            .zip(made.chunks(CALLS + 1))
    {
        node.ctl(&[command, raise]).await;
        assert_sheds(&world, made, "broker_blocked").await;
        node.ctl(&[command, clear]).await;
        assert_serves_again(&world, made).await;
    }
    world
}

async fn a_broker_that_is_away_is_a_503_in_milliseconds_until_it_is_back(world: World, node: Arc<Node>) -> World {
    let world = on_its_node(world, &node).await;
    let made = orders_and_bodies(&world, CALLS + 1).await;
    node.ctl(&["stop_app"]).await;
    assert_sheds(&world, &made, "broker_down").await;
    node.ctl(&["start_app"]).await;
    assert_serves_again(&world, &made).await;
    world
}

/// "Received" is said of what the broker has confirmed. Whatever else becomes of a genuine notice, its wallet tells it again.
async fn a_notice_that_no_broker_keeps_is_failed_and_its_repeat_pays(world: World, node: Arc<Node>) -> World {
    let world = on_its_node(world, &node).await;
    world.lose_all_notices();
    for (why, gone, back) in [
        ("alarm", &["set_vm_memory_high_watermark", "0.0000001"][..], &["set_vm_memory_high_watermark", "0.4"][..]),
        ("away", &["stop_app"], &["start_app"]),
    ] {
        let mut paid = Vec::new();
        for (side, n) in Side::BOTH.into_iter().flat_map(|side| [(side, 1), (side, 2)]) {
            let order_no = format!("{why}-{}-{n}", side.name());
            let (order, _) = world.paid_untold(&order_no, side).await;
            paid.push((side, order_no, number(&order, 1)));
        }
        node.ctl(gone).await;
        // As with phones, one finds out.
        let (side, _, sent) = &paid[0];
        until("the front hears of it", || async { world.notify(*side, sent, &[]).await == not_received(*side) }).await;
        for (side, order_no, sent) in &paid[1..] {
            for _ in 0..3 {
                assert_eq!(world.notify(*side, sent, &[]).await, not_received(*side), "{order_no}");
            }
            assert_eq!(world.shop.order(order_no).await["payStatus"], "PROCESSING", "{order_no}");
        }
        node.ctl(back).await;
        for (side, order_no, sent) in &paid {
            until("the wallet's repeat is taken", || async { world.notify(*side, sent, &[]).await == received(*side) })
                .await;
            let order = world.until_status(order_no, "SUCCESS").await;
            assert_eq!(order["anomalies"], json!([]), "{order_no}");
        }
    }
    world
}

/// The first order finds out; then every call is told at once, nothing of it reaches a wallet, and it is counted.
async fn assert_sheds(world: &World, made: &[(Value, Value)], reason: &str) {
    let ((_, first), others) = made.split_first().unwrap();
    let deadline = Instant::now() + SOON;
    // RabbitMQ tells a connection of an alarm when it publishes next: that call may still be served, or unknown.
    while world.pay_said(first).await.status != 503 {
        assert!(Instant::now() < deadline, "the front does not hear of it");
    }
    let before = shed(world, reason).await;
    let mut took = Vec::new();
    for (order, body) in others {
        let (said, time) = timed(world, body).await;
        said.assert_busy(503);
        assert_no_wallet_called(world, order);
        took.push(time);
    }
    took.sort_unstable();
    assert!(took[took.len() / 2] < Duration::from_millis(50), "{took:?}");
    // Whoever waited out a publish would do so each time; a busy machine stops one or two.
    assert!(took[took.len() - 3] < Duration::from_millis(500), "{took:?}");
    assert!(shed(world, reason).await >= before + others.len() as f64, "counted under {reason}");
    // The front stays in the ingress: it answers phones in our words, and merchants' orders need no broker.
    let ready = format!("http://{}/readyz", world.apps[0].operations_addr);
    assert_eq!(world.phone.get(ready).send().await.unwrap().status(), StatusCode::OK);
    world.shop.new_order(&format!("meanwhile-{reason}-{}", uuid::Uuid::now_v7().simple())).await;
}

async fn shed(world: &World, reason: &str) -> f64 {
    Scraped::from(world, 0).await.sum("prepay_shed_total", &[("reason", reason)])
}

async fn assert_serves_again(world: &World, made: &[(Value, Value)]) {
    for (order, body) in made {
        world.pay_patiently(body).await;
        assert_eq!((world.numbers_created(order), world.sim.ledger().bodies_of(&number(order, 1))), (1, 1));
    }
    let mut ready = 0;
    for n in 0..3 {
        let order = world.shop.new_order(&format!("after-{n}-{}", uuid::Uuid::now_v7().simple())).await;
        let (_, answer) = world.tap(&order, &world.person(Side::Wechat)).await;
        ready += usize::from(answer["code"] == "200");
    }
    assert!(ready > 0, "at the first try, that is");
}
