//! A broker that restarts, is short of memory, or freezes: each on a node of its own.

use std::{sync::Arc, time::Duration};

use prepay::queue::{Broker, Health, Heard, Published, QueueName, RefusedBecause};
use tokio::{task::JoinSet, time::timeout};

use crate::queue::{
    SOON, assert_refuses_at_once, command, id_of, kept, next, node::Node, nothing_comes, rabbit::ready, until,
};

#[tokio::test]
async fn a_restarted_broker_finds_us_as_we_were() {
    let node = Node::start().await;
    let rabbit = node.rabbit();
    let broker = rabbit.broker().await;
    let mut heard = broker.listen().await;
    let before = command();
    kept(&*broker, &before).await;
    let mut orders = broker.consume(QueueName::Orders, 2).await;
    let held = next(&mut orders).await;
    let old_address = held.reply_to.clone().unwrap();

    node.ctl(&["stop_app"]).await;
    let mut health = broker.health_changes();
    timeout(SOON, health.wait_for(|health| *health == Health::Down)).await.expect("seen").unwrap();
    assert_refuses_at_once(&*broker, RefusedBecause::NotConnected).await;
    until("the consuming connection ended too", async || broker.depth(QueueName::Orders).await.is_none()).await;
    assert!(!held.ack().await, "its channel is gone");

    node.ctl(&["start_app"]).await;
    ready(&broker).await;
    for _ in 0..5 {
        kept(&*broker, &command()).await;
    }
    assert_eq!(timeout(SOON, heard.recv()).await.expect("told"), Some(Heard::Interrupted));
    let again = next(&mut orders).await;
    assert_eq!(id_of(&again), before.id, "accepted is accepted");
    assert!(again.redelivered);
    let second = next(&mut orders).await;
    nothing_comes(&mut orders).await;
    assert!(again.ack().await);
    assert!(second.ack().await);

    let fresh = command();
    kept(&*broker, &fresh).await;
    let address = loop {
        let delivery = next(&mut orders).await;
        let (id, address) = (id_of(&delivery), delivery.reply_to.clone());
        assert!(delivery.ack().await);
        if id == fresh.id {
            break address.unwrap();
        }
    };
    assert_ne!(address, old_address);
    broker.close().await;
}

#[tokio::test]
async fn an_alarm_blocks_publishers_and_not_acknowledgements() {
    let node = Node::start().await;
    let rabbit = node.rabbit();
    let broker = rabbit.broker().await;
    for _ in 0..3 {
        kept(&*broker, &command()).await;
    }
    let mut orders = broker.consume(QueueName::Orders, 1).await;
    let held = next(&mut orders).await;

    node.ctl(&["set_vm_memory_high_watermark", "0.0000001"]).await;
    // RabbitMQ tells a connection that it is blocked when it publishes next. What is under way then is answered or not.
    let mut health = broker.health_changes();
    let mut under_way = JoinSet::new();
    let probing = async {
        while broker.health() == Health::Ready {
            let broker = Arc::clone(&broker);
            under_way.spawn(async move { broker.publish(&command(), Duration::from_millis(500)).await });
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, probing).await.expect("blocked");
    assert_eq!(*health.borrow_and_update(), Health::Blocked);
    let (mut meanwhile, mut unknown) = (0, 0);
    while let Some(published) = under_way.join_next().await {
        match published.unwrap() {
            Published::Kept => meanwhile += 1,
            Published::Refused(RefusedBecause::Blocked | RefusedBecause::Full) => {}
            Published::Unknown => unknown += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_refuses_at_once(&*broker, RefusedBecause::Blocked).await;

    assert!(held.ack().await);
    let next_one = next(&mut orders).await;
    assert!(next_one.ack().await, "acknowledgements flow: the next delivery came");
    let last = next(&mut orders).await;
    assert!(last.ack().await);

    node.ctl(&["set_vm_memory_high_watermark", "0.4"]).await;
    ready(&broker).await;
    kept(&*broker, &command()).await;
    // What was kept comes, and the last one. What is unknown was sent or never left. What was refused never comes.
    for _ in 0..=meanwhile {
        assert!(next(&mut orders).await.ack().await);
    }
    let mut more = 0;
    while let Ok(Some(delivery)) = timeout(Duration::from_secs(2), orders.recv()).await {
        more += 1;
        assert!(delivery.ack().await);
    }
    assert!(more <= unknown, "a refused command was sent: {more} beside {unknown} that are unknown");
    broker.close().await;
}
