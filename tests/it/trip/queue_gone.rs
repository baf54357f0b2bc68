//! Too many calls, and a queue that refuses, loses or vanishes: told in milliseconds, and never a wallet called for a 503.

use std::{num::NonZeroU32, time::Duration};

use futures_util::future::join_all;
use serde_json::{Value, json};
use simulator::{Call, FaultKind};
use tokio::time::{Instant, sleep};

use super::{
    caller::{Said, assert_ready, assert_refused, is_processing},
    harness::{Via, World, until},
    shop::pay_info,
    sides::{Side, number},
};

pub(super) fn n(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap()
}

/// A known payer's call for each of so many orders.
pub(super) async fn orders_and_bodies(world: &World, count: usize) -> Vec<(Value, Value)> {
    let mut made = Vec::new();
    for at in 0..count {
        let order = world.shop.new_order(&format!("A{at}")).await;
        let payer = world.person(Side::Wechat).identify_id;
        let body = json!({ "payInfo": pay_info(&order, "WECHAT"), "identifyId": payer });
        made.push((order, body));
    }
    made
}

pub(super) async fn timed(world: &World, body: &Value) -> (Said, Duration) {
    let started = Instant::now();
    let said = world.pay_said(body).await;
    (said, started.elapsed())
}

/// What was answered 503 or 429 called no wallet.
pub(super) fn assert_no_wallet_called(world: &World, order: &Value) {
    let lines = world.sim.ledger().of_number(&number(order, 1));
    assert!(lines.is_empty(), "{lines:#?}");
}

pub async fn a_full_front_says_so_at_once(world: World) -> World {
    let world = world.restart(|settings| settings.front.in_flight_max = 1).await;
    let made = orders_and_bodies(&world, 2).await;
    let [(first, body), (second, shed)] = &made[..] else { unreachable!() };
    world.fault(Side::Wechat, Call::Prepay, first, FaultKind::Delay { ms: 4_500 });
    let holds = world.pay(body.clone());
    let sheds = async {
        until("the first call is at the wallet", || async { world.sim.ledger().prepays_of(&number(first, 1)) == 1 })
            .await;
        let mut fastest = Duration::MAX;
        for _ in 0..5 {
            let (said, took) = timed(&world, shed).await;
            said.assert_busy(503);
            fastest = fastest.min(took);
        }
        fastest
    };
    let (held, fastest) = tokio::join!(holds, sheds);
    assert!(fastest < Duration::from_millis(200), "{fastest:?}");
    assert_ready(&held);
    assert_no_wallet_called(&world, second);
    // Its place is free again.
    assert_ready(&world.pay(shed.clone()).await);
    world
}

pub async fn a_merchant_without_room_is_told_before_its_payers_code_is_spent(world: World) -> World {
    let world = world.restart(|settings| settings.worker.account_in_flight_max = 1).await;
    for side in Side::BOTH {
        let first = world.shop.new_order(&format!("{}1", side.name())).await;
        let second = world.shop.new_order(&format!("{}2", side.name())).await;
        world.fault(side, Call::Prepay, &first, FaultKind::Delay { ms: 4_500 });
        let (holder, shed) = (world.person(side), world.person(side));
        let body = world.login_body(&second, &shed);
        let sheds = async {
            until("the first call is at the wallet", || async {
                world.sim.ledger().prepays_of(&number(&first, 1)) == 1
            })
            .await;
            timed(&world, &body).await
        };
        let (held, (said, took)) = tokio::join!(world.tap(&first, &holder), sheds);
        said.assert_busy(503);
        // Long before there is room again.
        assert!(took < Duration::from_secs(3), "{took:?}");
        assert_ready(&held);
        assert_no_wallet_called(&world, &second);
        let code = body["code"].as_str().unwrap();
        assert_eq!(world.sim.ledger().exchanges_of(code), 0, "the code of a shed call is still good");
        world.pay_patiently(&body).await;
        assert_eq!(world.sim.ledger().exchanges_of(code), 1);
    }
    world
}

pub async fn a_merchants_excess_is_429_and_its_own(world: World) -> World {
    let (other, _, _) = world.another_shop("C2").await;
    let made = orders_and_bodies(&world, 6).await;
    let theirs = other.new_order("A1").await;
    let world = world
        .restart(|settings| (settings.front.merchant_per_second, settings.front.merchant_burst) = (n(1), n(2)))
        .await;
    let answers = join_all(made.iter().map(|(_, body)| world.pay_said(body))).await;
    let (mut served, mut shed) = (0, 0);
    for (said, (order, _)) in answers.iter().zip(&made) {
        if said.status == 429 {
            said.assert_busy(429);
            assert_no_wallet_called(&world, order);
            shed += 1;
        } else {
            assert_ready(&said.pair());
            served += 1;
        }
    }
    assert!(served >= 2 && shed >= 2, "{served} served, {shed} shed");
    let said = world.pay(json!({ "payInfo": pay_info(&theirs, "WECHAT"), "code": "unknown" })).await;
    assert_refused(&said, "3002");
    // What was shed is served when it comes again.
    for (_, body) in &made {
        until("its turn comes", || async { world.pay_said(body).await.status == 200 }).await;
    }
    world
}

pub async fn one_orders_excess_is_3005_and_its_own(world: World) -> World {
    let world =
        world.restart(|settings| (settings.front.order_per_second, settings.front.order_burst) = (n(1), n(2))).await;
    let made = orders_and_bodies(&world, 2).await;
    let answers = join_all((0..6).map(|_| world.pay(made[0].1.clone()))).await;
    let served = answers.iter().filter(|(_, answer)| answer["code"] == "200").count();
    for said in answers.iter().filter(|(_, answer)| answer["code"] != "200") {
        assert_refused(said, "3005");
    }
    assert!((2..=4).contains(&served), "{answers:#?}");
    assert_ready(&world.pay(made[1].1.clone()).await);
    world
}

/// A queue of one place, as the printed policy sets it; a worker with one hand: what does not fit is told at once, what was accepted gets its outcome.
pub async fn a_full_queue_is_told_at_once_and_calls_no_wallet(world: World) -> World {
    let world = world
        .restart(|settings| {
            settings.worker.order_concurrency = 1;
            (settings.broker.drain_per_s, settings.broker.wait_budget_s) = (1, 1);
        })
        .await;
    if world.via == Via::Rabbitmq {
        world.import_definitions().await;
    }
    let made = orders_and_bodies(&world, 12).await;
    world.fault(Side::Wechat, Call::Prepay, &made[0].0, FaultKind::Delay { ms: 4_500 });
    let holds = world.pay(made[0].1.clone());
    let floods = async {
        until("the worker's hand is full", || async { world.sim.ledger().prepays_of(&number(&made[0].0, 1)) == 1 })
            .await;
        // One after the other, as a quorum queue's bound is inexact by what arrives at once.
        join_all(made[1..].iter().zip(0..).map(async |((_, body), at)| {
            sleep(Duration::from_millis(250) * at).await;
            timed(&world, body).await
        }))
        .await
    };
    let (held, answers) = tokio::join!(holds, floods);
    assert_ready(&held);
    let shed: Vec<_> = answers.iter().zip(&made[1..]).filter(|((said, _), _)| said.status != 200).collect();
    assert!(!shed.is_empty() && shed.len() < answers.len(), "{} of {} shed", shed.len(), answers.len());
    for ((said, _), (order, _)) in &shed {
        said.assert_busy(503);
        assert_no_wallet_called(&world, order);
    }
    let fastest = shed.iter().map(|((_, took), _)| *took).min().unwrap();
    assert!(fastest < Duration::from_secs(1), "{fastest:?}");
    if world.via == Via::Rabbitmq {
        world.remove_policies().await;
    }
    for (order, body) in &made {
        world.pay_patiently(body).await;
        assert_eq!((world.numbers_created(order), world.sim.ledger().bodies_of(&number(order, 1))), (1, 1));
    }
    world
}

/// The reply's way back is cut while the wallet thinks: the front finds the outcome where it was committed.
pub async fn a_lost_reply_is_found_in_the_store(world: World) -> World {
    if world.via == Via::Embedded {
        return world;
    }
    let connection = world.replies_connection().await;
    let (order, person) = (world.shop.new_order("A1").await, world.person(Side::Wechat));
    world.fault(Side::Wechat, Call::Prepay, &order, FaultKind::Delay { ms: 1_500 });
    let body = world.login_body(&order, &person);
    let phone = world.pay(body.clone());
    let cut = async {
        until("the wallet thinks", || async { world.sim.ledger().prepays_of(&number(&order, 1)) == 1 }).await;
        world.close_connection(&connection).await;
    };
    let (said, ()) = tokio::join!(phone, cut);
    assert_ready(&said);
    assert_eq!(world.exchanged(body["code"].as_str().unwrap()), 1);
    assert_eq!(world.sim.ledger().prepays_of(&number(&order, 1)), 1);
    // The next reply has a way back again.
    let order = world.shop.new_order("A2").await;
    let data = world.tap_ready(&order, &person).await;
    world.press_pay(&data, &person).await.unwrap();
    world.until_status("A2", "SUCCESS").await;
    world
}

pub async fn a_deleted_queue_is_a_503_until_it_stands_again(world: World) -> World {
    if world.via == Via::Embedded {
        return world;
    }
    let made = orders_and_bodies(&world, 10).await;
    world.delete_orders_queue().await;
    let answers = join_all(made.iter().map(|(_, body)| timed(&world, body))).await;
    for ((said, took), (order, _)) in answers.iter().zip(&made) {
        if said.status == 503 {
            said.assert_busy(503);
            // Not after the eight seconds that a phone waits for an outcome.
            assert!(*took < Duration::from_secs(6), "{took:?}");
            assert_no_wallet_called(&world, order);
        } else {
            let (status, answer) = said.pair();
            assert!(answer["code"] == "200" || is_processing(status, &answer), "{said:?}");
        }
    }
    for (order, body) in &made {
        world.pay_patiently(body).await;
        assert_eq!((world.numbers_created(order), world.sim.ledger().bodies_of(&number(order, 1))), (1, 1));
    }
    world
}

/// A phone that hangs up stops its own wait and nothing else.
pub async fn a_phone_that_hangs_up_finds_its_parameters_later(world: World) -> World {
    for side in Side::BOTH {
        let (order, person) = (world.shop.new_order(side.name()).await, world.person(side));
        world.fault(side, Call::Prepay, &order, FaultKind::Delay { ms: 2_000 });
        let body = world.login_body(&order, &person);
        tokio::select! {
            said = world.pay(body.clone()) => panic!("too soon: {said:?}"),
            () = until("the call is at the wallet", || async { world.sim.ledger().prepays_of(&number(&order, 1)) == 1 }) => {}
        }
        let data = world.pay_patiently(&body).await;
        assert_eq!(world.sim.ledger().exchanges_of(body["code"].as_str().unwrap()), 1);
        assert_eq!(world.sim.ledger().prepays_of(&number(&order, 1)), 1);
        world.press_pay(&data, &person).await.unwrap();
        world.until_status(side.name(), "SUCCESS").await;
    }
    world
}

/// The process leaves while a phone waits: the phone gets its answer first, and what is accepted is not lost.
pub async fn a_restart_in_the_middle_of_an_order_loses_nothing(mut world: World) -> World {
    let (order, person) = (world.shop.new_order("A1").await, world.person(Side::Wechat));
    world.fault(Side::Wechat, Call::Prepay, &order, FaultKind::Delay { ms: 1_500 });
    let body = world.login_body(&order, &person);
    let phone = tokio::spawn({
        let (client, url, body) =
            (world.phone.clone(), format!("{}/pay", world.settings.front.public_url), body.clone());
        async move { client.post(url).json(&body).send().await.unwrap().json::<Value>().await.unwrap() }
    });
    until("the call is at the wallet", || async { world.sim.ledger().prepays_of(&number(&order, 1)) == 1 }).await;
    world = world.restart(|_| {}).await;
    let told = phone.await.unwrap();
    assert_eq!(told["code"], "200", "{told:#}");
    let data = world.pay_patiently(&body).await;
    assert_eq!(data["package"], told["data"]["package"]);
    assert_eq!(world.exchanged(body["code"].as_str().unwrap()), 1);
    world.press_pay(&data, &person).await.unwrap();
    world.until_status("A1", "SUCCESS").await;
    world
}
