//! What a broker, an operator or a caller may do to us at any time, on the node that all tests share.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use prepay::{
    domain::{command::PrepayCommand, outcome::Outcome},
    queue::{
        Broker, Envelope, Health, Heard, Message, Published, QueueName, RefusedBecause, Reply,
        rabbitmq::{BrokerUrl, RabbitBroker, RabbitSettings},
        topology::TopologySettings,
    },
};
use tokio::{task::JoinSet, time::timeout};

use crate::queue::{
    PATIENCE, SOON, assert_refuses_at_once, command, id_of, kept, next, nothing_comes,
    rabbit::{Rabbit, ready},
    until, until_ready,
};

#[tokio::test]
async fn without_its_queue_a_publish_is_unroutable_and_the_queue_comes_back() {
    let rabbit = Rabbit::shared();
    let broker = rabbit.broker().await;
    rabbit.delete_queue("orders").await;
    assert_eq!(
        broker.publish(&command(), PATIENCE).await,
        Published::Refused(RefusedBecause::Unroutable),
        "acknowledged by RabbitMQ, and lost all the same"
    );
    until("it is declared again", || async { broker.publish(&command(), PATIENCE).await == Published::Kept }).await;
}

#[tokio::test]
async fn nobody_there_is_refused_at_once() {
    let settings = RabbitSettings { url: BrokerUrl::parse("amqp://127.0.0.1:1/%2f").unwrap(), ..Default::default() };
    let broker = RabbitBroker::start(settings);
    assert_refuses_at_once(&broker, RefusedBecause::NotConnected).await;
    assert_eq!(broker.health(), Health::Down);
    assert_eq!(broker.depth(QueueName::Orders).await, None);
    broker.close().await;
}

#[tokio::test]
async fn a_caller_that_goes_away_disturbs_nobody() {
    let rabbit = Rabbit::shared();
    let broker = rabbit.broker_with(RabbitSettings { publish_channels: 1, ..rabbit.settings() }).await;
    // Dropped after a different number of polls each time: before, at and after sending.
    for polls in 0..20 {
        let envelope = command();
        let mut publish = std::pin::pin!(broker.publish(&envelope, PATIENCE));
        for _ in 0..polls {
            if futures_util::poll!(publish.as_mut()).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    // The one channel is clean: each answer belongs to its own publish.
    kept(&*broker, &command()).await;
    rabbit.delete_queue("orders").await;
    assert_eq!(broker.publish(&command(), PATIENCE).await, Published::Refused(RefusedBecause::Unroutable));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_at_once_are_all_kept() {
    let rabbit = Rabbit::shared();
    let broker = rabbit.broker().await;
    let mut publishing = JoinSet::new();
    for _ in 0..2000 {
        let broker = Arc::clone(&broker);
        publishing.spawn(async move { broker.publish(&command(), Duration::from_secs(60)).await });
    }
    while let Some(published) = publishing.join_next().await {
        assert_eq!(published.unwrap(), Published::Kept);
    }
    until_ready(&(broker as _), QueueName::Orders, 2000).await;
}

#[tokio::test]
async fn orders_are_spread_over_their_queues() {
    let rabbit = Rabbit::shared();
    let topology = TopologySettings { order_queues: 3, ..rabbit.settings().topology };
    let broker = rabbit.broker_with(RabbitSettings { topology, ..rabbit.settings() }).await;
    for _ in 0..60 {
        kept(&*broker, &command()).await;
    }
    until_ready(&(Arc::clone(&broker) as _), QueueName::Orders, 60).await;
    let mut orders = broker.consume(QueueName::Orders, 7).await;
    let mut held = Vec::new();
    for _ in 0..7 {
        held.push(next(&mut orders).await);
    }
    nothing_comes(&mut orders).await;
    drop(held);
    for _ in 0..60 {
        assert!(next(&mut orders).await.ack().await);
    }
    nothing_comes(&mut orders).await;
}

#[tokio::test]
async fn a_cut_publishing_connection_comes_back() {
    let rabbit = Rabbit::shared();
    let broker = rabbit.broker().await;
    kept(&*broker, &command()).await;
    let mut health = broker.health_changes();
    health.borrow_and_update();
    // Down is soon over: whoever looks after the connection was closed may come too late.
    let seen = tokio::spawn(async move {
        timeout(SOON, health.wait_for(|health| *health == Health::Down)).await.is_ok_and(|seen| seen.is_ok())
    });
    rabbit.close_connections("publishing").await;
    assert!(seen.await.unwrap(), "seen");
    let begun = Instant::now();
    let meanwhile = broker.publish(&command(), PATIENCE).await;
    if meanwhile == Published::Refused(RefusedBecause::NotConnected) {
        assert!(begun.elapsed() < PATIENCE / 4, "{:?}", begun.elapsed());
    }
    ready(&broker).await;
    kept(&*broker, &command()).await;
}

#[tokio::test]
async fn a_cut_consuming_connection_brings_consumers_prefetch_and_a_fresh_reply_queue() {
    let rabbit = Rabbit::shared();
    let broker = rabbit.broker().await;
    let mut heard = broker.listen().await;
    for _ in 0..6 {
        kept(&*broker, &command()).await;
    }
    let mut orders = broker.consume(QueueName::Orders, 2).await;
    let first = next(&mut orders).await;
    let old_address = first.reply_to.clone().unwrap();
    rabbit.close_connections("consuming").await;

    assert_eq!(timeout(SOON, heard.recv()).await.expect("told"), Some(Heard::Interrupted));
    assert!(!first.ack().await, "it comes again");

    // Whatever was under way on the old channel aside, two are held and not one more.
    let mut held = Vec::new();
    while held.len() < 2 {
        let delivery = next(&mut orders).await;
        held.push(delivery);
    }
    let mut settled = 0;
    for delivery in held {
        settled += u32::from(delivery.ack().await);
    }
    let mut held = vec![next(&mut orders).await, next(&mut orders).await];
    nothing_comes(&mut orders).await;

    let fresh = command();
    kept(&*broker, &fresh).await;
    let new_address = loop {
        let delivery = held.pop().unwrap();
        if id_of(&delivery) == fresh.id {
            let address = delivery.reply_to.clone().unwrap();
            assert!(delivery.ack().await);
            break address;
        }
        settled += u32::from(delivery.ack().await);
        held.push(next(&mut orders).await);
    };
    assert_ne!(new_address, old_address);
    let reply = Reply { command: fresh.id, outcome: Outcome::Processing };
    broker.reply(&old_address, &reply, PATIENCE).await;
    broker.reply(&new_address, &reply, PATIENCE).await;
    assert_eq!(timeout(SOON, heard.recv()).await.expect("heard"), Some(Heard::Reply(reply)));
    for delivery in held {
        settled += u32::from(delivery.ack().await);
    }
    while settled < 6 {
        settled += u32::from(next(&mut orders).await.ack().await);
    }
    nothing_comes(&mut orders).await;
}

#[tokio::test]
async fn a_consumer_outlives_its_queue() {
    let rabbit = Rabbit::shared();
    let broker = rabbit.broker().await;
    let mut orders = broker.consume(QueueName::Orders, 2).await;
    kept(&*broker, &command()).await;
    assert!(next(&mut orders).await.ack().await);
    rabbit.delete_queue("orders").await;
    until("the consumer has declared its queue anew", || async {
        broker.depth(QueueName::Orders).await.is_some_and(|depth| depth.consumers == 1)
    })
    .await;
    for _ in 0..3 {
        kept(&*broker, &command()).await;
    }
    let held = [next(&mut orders).await, next(&mut orders).await];
    nothing_comes(&mut orders).await;
    drop(held);
}

#[tokio::test]
async fn replies_that_nobody_takes_pile_up_nowhere() {
    let rabbit = Rabbit::shared();
    let topology = TopologySettings { replies_max: 5, ..rabbit.settings().topology };
    let broker = rabbit.broker_with(RabbitSettings { topology, ..rabbit.settings() }).await;
    let mut heard = broker.listen().await;
    kept(&*broker, &command()).await;
    let mut orders = broker.consume(QueueName::Orders, 1).await;
    let delivery = next(&mut orders).await;
    let address = delivery.reply_to.clone().unwrap();
    let Message::Prepay(PrepayCommand { id, .. }) = Envelope::decode(&delivery.body).unwrap().message else {
        panic!("not a command")
    };
    for _ in 0..100 {
        broker.reply(&address, &Reply { command: id, outcome: Outcome::Processing }, PATIENCE).await;
    }
    assert!(delivery.ack().await);
    let mut replies = 0;
    while timeout(SOON, heard.recv()).await.expect("told that some are missing") != Some(Heard::Interrupted) {
        replies += 1;
    }
    assert!((1..100).contains(&replies), "{replies}");
}

#[tokio::test]
async fn a_queue_declared_otherwise_keeps_us_down_until_it_is_gone() {
    let rabbit = Rabbit::shared();
    let path = format!("queues/%2f/{}", rabbit.queue("orders"));
    let classic = serde_json::json!({ "durable": true, "arguments": {} });
    rabbit.ask(reqwest::Method::PUT, &path, Some(classic)).await;
    let broker = Arc::new(RabbitBroker::start(rabbit.settings()));
    let mut health = broker.health_changes();
    let connected = timeout(Duration::from_secs(1), health.wait_for(|health| *health == Health::Ready));
    assert!(connected.await.is_err(), "a classic queue does not keep what it accepts");
    rabbit.delete_queue("orders").await;
    ready(&broker).await;
    kept(&*broker, &command()).await;
}
