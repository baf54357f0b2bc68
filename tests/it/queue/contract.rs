//! What both brokers promise. Each test is written once and listed here; [`keeps_the_contract`] makes a test of it in the
//! module of a broker.

use std::time::{Duration, Instant};

use prepay::{
    domain::{
        id::CommandId,
        outcome::{Outcome, Refusal},
    },
    queue::{Depth, Health, Heard, Message, ParkedAs, Published, QueueName, RefusedBecause, Reply, SharedBroker},
};
use tokio::{sync::mpsc, time::timeout};

use super::{PATIENCE, SOON, command, id_of, kept, next, nothing_comes, notice, until, until_ready};

/// A front and a worker on one road; embedded, they are the same object.
pub struct Rig {
    pub front: SharedBroker,
    pub worker: SharedBroker,
    /// What `park` names as the queue of an order.
    pub orders: String,
    /// Cleans up when it goes.
    pub _broker: Box<dyn Send + Sync>,
}

macro_rules! keeps_the_contract {
    ($rig:ident) => {
        keeps_the_contract! { $rig:
            a_command_is_kept_and_delivered
            a_notification_has_a_queue_of_its_own
            prefetch_is_kept_to_exactly
            a_dropped_delivery_comes_back_as_redelivered
            an_ack_ends_it
            a_parked_message_carries_its_reason
            poison_is_parked
            a_reply_arrives
            a_reply_to_nobody_does_not_block
            a_depth_is_counted
            a_dropped_receiver_gives_back
            stopping_keeps_what_is_held
            a_closed_broker_refuses
        }

        #[tokio::test]
        async fn a_full_queue_refuses_and_takes_again() {
            crate::queue::contract::a_full_queue_refuses_and_takes_again($rig(Some(5)).await).await;
        }
    };
    ($rig:ident: $($test:ident)*) => {
        $(#[tokio::test]
        async fn $test() {
            crate::queue::contract::$test($rig(None).await).await;
        })*
    };
}
pub(super) use keeps_the_contract;

async fn hears(heard: &mut mpsc::Receiver<Heard>) -> Heard {
    timeout(SOON, heard.recv()).await.expect("something is heard").expect("the ear stays open")
}

pub async fn a_command_is_kept_and_delivered(rig: Rig) {
    let _heard = rig.front.listen().await;
    let envelope = command();
    kept(&*rig.front, &envelope).await;
    let mut orders = rig.worker.consume(QueueName::Orders, 10).await;
    let delivery = next(&mut orders).await;
    assert_eq!(delivery.body, envelope.encode());
    assert!(!delivery.redelivered);
    assert!(delivery.reply_to.is_some());
    assert_eq!(delivery.parked, None);
    assert!(delivery.ack().await);
}

pub async fn a_notification_has_a_queue_of_its_own(rig: Rig) {
    let mut orders = rig.worker.consume(QueueName::Orders, 10).await;
    let mut notices = rig.worker.consume(QueueName::Notifications, 10).await;
    let envelope = notice();
    let worker = tokio::spawn(async move {
        let delivery = next(&mut notices).await;
        let body = delivery.body.clone();
        assert_eq!(delivery.reply_to, None);
        assert!(delivery.ack().await);
        body
    });
    kept(&*rig.front, &envelope).await;
    assert_eq!(worker.await.unwrap(), envelope.encode());
    assert!(matches!(envelope.message, Message::Notice(_)));
    nothing_comes(&mut orders).await;
}

pub async fn a_full_queue_refuses_and_takes_again(rig: Rig) {
    let mut taken = 0;
    let refused = loop {
        match rig.front.publish(&command(), PATIENCE).await {
            Published::Kept => taken += 1,
            other => break other,
        }
        // RabbitMQ overshoots by what is under way, which is little here.
        assert!(taken < 100, "the queue has no end");
    };
    assert_eq!(refused, Published::Refused(RefusedBecause::Full));
    assert!(taken >= 5, "{taken}");
    let mut orders = rig.worker.consume(QueueName::Orders, 100).await;
    for _ in 0..taken {
        assert!(next(&mut orders).await.ack().await);
    }
    until("the queue takes again", || async { rig.front.publish(&command(), PATIENCE).await == Published::Kept }).await;
}

pub async fn prefetch_is_kept_to_exactly(rig: Rig) {
    for _ in 0..10 {
        kept(&*rig.front, &command()).await;
    }
    let mut orders = rig.worker.consume(QueueName::Orders, 3).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(next(&mut orders).await);
    }
    nothing_comes(&mut orders).await;
    assert!(held.pop().unwrap().ack().await);
    held.push(next(&mut orders).await);
    nothing_comes(&mut orders).await;
    drop(held);
}

pub async fn a_dropped_delivery_comes_back_as_redelivered(rig: Rig) {
    let envelope = command();
    kept(&*rig.front, &envelope).await;
    let mut orders = rig.worker.consume(QueueName::Orders, 2).await;
    let first = next(&mut orders).await;
    assert!(!first.redelivered);
    drop(first);
    let second = next(&mut orders).await;
    assert_eq!(id_of(&second), envelope.id);
    assert!(second.redelivered);
    assert!(second.ack().await);
}

pub async fn an_ack_ends_it(rig: Rig) {
    kept(&*rig.front, &command()).await;
    let mut orders = rig.worker.consume(QueueName::Orders, 1).await;
    assert!(next(&mut orders).await.ack().await);
    nothing_comes(&mut orders).await;
    drop(orders);
    let mut orders = rig.worker.consume(QueueName::Orders, 1).await;
    nothing_comes(&mut orders).await;
}

pub async fn a_parked_message_carries_its_reason(rig: Rig) {
    let envelope = command();
    kept(&*rig.front, &envelope).await;
    let mut orders = rig.worker.consume(QueueName::Orders, 1).await;
    assert!(next(&mut orders).await.park("message of version 9").await);
    let mut parked = rig.worker.consume(QueueName::Parked, 1).await;
    let delivery = next(&mut parked).await;
    assert_eq!(delivery.body, envelope.encode());
    assert_eq!(
        delivery.parked,
        Some(ParkedAs { reason: "message of version 9".to_owned(), queue: rig.orders.clone() })
    );
    // A person's message is never given up, however often its reader dies.
    drop(delivery);
    let again = next(&mut parked).await;
    assert!(again.parked.is_some());
    assert!(again.ack().await);
    nothing_comes(&mut orders).await;
}

pub async fn poison_is_parked(rig: Rig) {
    let (poison, good) = (command(), command());
    kept(&*rig.front, &poison).await;
    kept(&*rig.front, &good).await;
    let mut orders = rig.worker.consume(QueueName::Orders, 1).await;
    let mut parked = rig.worker.consume(QueueName::Parked, 1).await;
    let mut drops = 0;
    let set_aside = loop {
        tokio::select! {
            set_aside = next(&mut parked) => break set_aside,
            delivery = next(&mut orders) => {
                if id_of(&delivery) == good.id {
                    assert!(delivery.ack().await);
                } else {
                    drops += 1;
                    assert!(drops < 100, "poison goes round for ever");
                    drop(delivery);
                }
            }
        }
    };
    assert_eq!(drops, 21);
    assert_eq!(id_of(&set_aside), poison.id);
    assert_eq!(set_aside.parked, Some(ParkedAs { reason: "delivery_limit".to_owned(), queue: rig.orders.clone() }));
    assert!(set_aside.ack().await);
}

pub async fn a_reply_arrives(rig: Rig) {
    let mut heard = rig.front.listen().await;
    let envelope = command();
    kept(&*rig.front, &envelope).await;
    let mut orders = rig.worker.consume(QueueName::Orders, 1).await;
    let delivery = next(&mut orders).await;
    let reply = Reply { command: envelope.id, outcome: Outcome::refused(Refusal::TooOften) };
    rig.worker.reply(delivery.reply_to.as_deref().unwrap(), &reply, PATIENCE).await;
    assert_eq!(hears(&mut heard).await, Heard::Reply(reply));
    assert!(delivery.ack().await);
}

pub async fn a_reply_to_nobody_does_not_block(rig: Rig) {
    let heard = rig.front.listen().await;
    kept(&*rig.front, &command()).await;
    let mut orders = rig.worker.consume(QueueName::Orders, 1).await;
    let delivery = next(&mut orders).await;
    let address = delivery.reply_to.clone().unwrap();
    drop(heard);
    let begun = Instant::now();
    for to in [address.as_str(), "", "nobody", rig.orders.as_str()] {
        for _ in 0..50 {
            let reply = Reply { command: CommandId::fresh(), outcome: Outcome::Processing };
            rig.worker.reply(to, &reply, Duration::from_secs(60)).await;
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert!(delivery.ack().await);
    // A reply goes to reply queues alone, whatever address a command names.
    nothing_comes(&mut orders).await;
}

pub async fn a_depth_is_counted(rig: Rig) {
    for _ in 0..3 {
        kept(&*rig.front, &command()).await;
    }
    until_ready(&rig.front, QueueName::Orders, 3).await;
    until("three lie there", async || {
        rig.front.depth(QueueName::Orders).await == Some(Depth { ready: 3, consumers: 0 })
    })
    .await;
    let _orders = rig.worker.consume(QueueName::Orders, 2).await;
    until("a consumer holds two, one in its receiver", || async {
        rig.front.depth(QueueName::Orders).await.is_some_and(|depth| depth.consumers == 1)
    })
    .await;
    until("nothing lies in the other", async || {
        rig.front.depth(QueueName::Notifications).await == Some(Depth { ready: 0, consumers: 0 })
    })
    .await;
}

pub async fn a_dropped_receiver_gives_back(rig: Rig) {
    for _ in 0..5 {
        kept(&*rig.front, &command()).await;
    }
    let mut orders = rig.worker.consume(QueueName::Orders, 5).await;
    let held = next(&mut orders).await;
    drop(orders);
    until_ready(&rig.front, QueueName::Orders, 4).await;
    assert!(held.ack().await);
    let mut orders = rig.worker.consume(QueueName::Orders, 10).await;
    for _ in 0..4 {
        assert!(next(&mut orders).await.ack().await);
    }
    nothing_comes(&mut orders).await;
}

pub async fn stopping_keeps_what_is_held(rig: Rig) {
    for _ in 0..5 {
        kept(&*rig.front, &command()).await;
    }
    let mut orders = rig.worker.consume(QueueName::Orders, 5).await;
    let mut held = vec![next(&mut orders).await, next(&mut orders).await];
    rig.worker.stop_consuming().await;
    // One may lie in the receiver; then the stream ends.
    held.extend(timeout(SOON, orders.recv()).await.expect("the stream ends"));
    assert!(timeout(SOON, orders.recv()).await.expect("the stream ends").is_none());
    let left = 5 - u32::try_from(held.len()).unwrap();
    for delivery in held {
        assert!(delivery.ack().await);
    }
    until_ready(&rig.front, QueueName::Orders, left).await;
    rig.worker.close().await;
}

pub async fn a_closed_broker_refuses(rig: Rig) {
    let mut health = rig.front.health_changes();
    assert_eq!(rig.front.health(), Health::Ready);
    rig.front.close().await;
    assert_eq!(*health.borrow_and_update(), Health::Down);
    assert_eq!(rig.front.publish(&command(), PATIENCE).await, Published::Refused(RefusedBecause::NotConnected));
}
