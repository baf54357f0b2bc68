//! What we believe of lapin 4.12.3 and build on. A new release must still pass here, or the code that leans on a claim is
//! to be read again.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::StreamExt;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Event,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
        QueueDeclareOptions, QueueDeleteOptions,
    },
    types::FieldTable,
};
use prepay::queue::rabbitmq::TARGET_THAT_SHOWS_BODIES;
use tokio::time::timeout;

use crate::queue::{A_WHILE, SOON, node::Node, rabbit::Rabbit, until};

const MANDATORY: BasicPublishOptions = BasicPublishOptions { mandatory: true, immediate: false };

async fn connect(rabbit: &Rabbit) -> Connection {
    Connection::connect(rabbit.url(), ConnectionProperties::default()).await.unwrap()
}

async fn confirming(connection: &Connection) -> Channel {
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    channel
}

/// A queue that goes with its connection.
async fn queue(channel: &Channel, name: &str) {
    let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(name.into(), options, FieldTable::default()).await.unwrap();
}

async fn publish(channel: &Channel, name: &str, id: &str) -> Confirmation {
    let properties = BasicProperties::default().with_message_id(id.into());
    let confirm = channel.basic_publish("".into(), name.into(), MANDATORY, b"secret-body", properties).await.unwrap();
    timeout(SOON, confirm).await.expect("a confirm comes").unwrap()
}

async fn consume(channel: &Channel, name: &str) -> lapin::Consumer {
    let options = BasicConsumeOptions::default();
    channel.basic_consume(name.into(), "".into(), options, FieldTable::default()).await.unwrap()
}

#[tokio::test]
async fn an_unroutable_mandatory_message_is_acked_and_handed_back() {
    let rabbit = Rabbit::shared();
    let connection = connect(&rabbit).await;
    let channel = confirming(&connection).await;
    for id in ["one", "two"] {
        let confirmation = publish(&channel, &rabbit.queue("nowhere"), id).await;
        assert!(confirmation.is_ack());
        let returned = confirmation.take_message().expect("the message comes with it");
        assert_eq!(returned.properties.message_id().as_ref().map(|id| id.as_str().to_owned()), Some(id.to_owned()));
    }
    let known = rabbit.queue("known");
    queue(&channel, &known).await;
    assert_eq!(publish(&channel, &known, "three").await, Confirmation::Ack(None));
}

#[tokio::test]
async fn qos_limits_the_consumers_that_follow_it() {
    let rabbit = Rabbit::shared();
    let connection = connect(&rabbit).await;
    let channel = confirming(&connection).await;
    let name = rabbit.queue("qos");
    queue(&channel, &name).await;
    for _ in 0..5 {
        publish(&channel, &name, "x").await;
    }
    channel.basic_qos(2, BasicQosOptions::default()).await.unwrap();
    let mut consumer = consume(&channel, &name).await;
    let first = timeout(SOON, consumer.next()).await.unwrap().unwrap().unwrap();
    let _second = timeout(SOON, consumer.next()).await.unwrap().unwrap().unwrap();
    assert!(timeout(A_WHILE, consumer.next()).await.is_err(), "two are out");
    assert!(first.ack(BasicAckOptions::default()).await.unwrap());
    assert!(timeout(SOON, consumer.next()).await.unwrap().is_some());
}

#[tokio::test]
async fn an_ack_on_a_gone_channel_is_false_and_no_error() {
    let rabbit = Rabbit::shared();
    let connection = connect(&rabbit).await;
    let (channel, other) = (confirming(&connection).await, confirming(&connection).await);
    let name = rabbit.queue("gone");
    queue(&other, &name).await;
    publish(&other, &name, "x").await;
    let mut consumer = consume(&channel, &name).await;
    let delivery = timeout(SOON, consumer.next()).await.unwrap().unwrap().unwrap();
    assert!(delivery.acker.usable());
    channel.close(200, "OK".into()).await.unwrap();
    assert!(!delivery.acker.usable(), "so dropping it returns nothing twice");
    assert_eq!(delivery.ack(BasicAckOptions::default()).await, Ok(false));
}

#[tokio::test]
async fn an_acker_serves_once() {
    let rabbit = Rabbit::shared();
    let connection = connect(&rabbit).await;
    let channel = confirming(&connection).await;
    let name = rabbit.queue("once");
    queue(&channel, &name).await;
    publish(&channel, &name, "x").await;
    let mut consumer = consume(&channel, &name).await;
    let delivery = timeout(SOON, consumer.next()).await.unwrap().unwrap().unwrap();
    assert!(delivery.ack(BasicAckOptions::default()).await.unwrap());
    assert!(!delivery.acker.usable());
    assert_eq!(delivery.ack(BasicAckOptions::default()).await, Ok(false), "a second ack would close the channel");
}

#[tokio::test]
async fn a_cancel_by_the_broker_ends_the_stream_without_an_error() {
    let rabbit = Rabbit::shared();
    let connection = connect(&rabbit).await;
    let (channel, other) = (confirming(&connection).await, confirming(&connection).await);
    let name = rabbit.queue("cancelled");
    queue(&other, &name).await;
    let mut consumer = consume(&channel, &name).await;
    other.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    assert!(timeout(SOON, consumer.next()).await.expect("the stream ends").is_none());
    assert!(channel.status().connected(), "and the channel lives");
}

#[tokio::test]
async fn a_lost_channel_is_an_event_and_leaves_the_connection() {
    let rabbit = Rabbit::shared();
    let connection = connect(&rabbit).await;
    let mut events = Box::pin(connection.events_listener());
    let channel = confirming(&connection).await;
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let missing = channel.queue_declare(rabbit.queue("missing").into(), passive, FieldTable::default()).await;
    assert!(missing.is_err());
    // The event of connecting may still be under way when the connection is there.
    while !matches!(timeout(SOON, events.next()).await.unwrap(), Some(Event::Error(_))) {}
    assert!(connection.status().connected());
    assert!(!channel.status().connected());
}

#[tokio::test]
async fn a_dropped_channel_is_closed_and_its_deliveries_come_back() {
    let rabbit = Rabbit::shared();
    let connection = connect(&rabbit).await;
    let other = confirming(&connection).await;
    let name = rabbit.queue("dropped");
    queue(&other, &name).await;
    publish(&other, &name, "x").await;
    let channel = confirming(&connection).await;
    let mut consumer = consume(&channel, &name).await;
    let held = timeout(SOON, consumer.next()).await.unwrap().unwrap().unwrap();
    drop((channel, consumer));
    let mut again = consume(&other, &name).await;
    assert!(timeout(SOON, again.next()).await.unwrap().unwrap().unwrap().redelivered);
    assert_eq!(held.ack(BasicAckOptions::default()).await, Ok(false), "a delivery does not keep its channel open");
}

/// Why a publish that timed out keeps its channel until its confirm has come.
#[tokio::test]
async fn an_unwritten_publish_is_sent_after_the_alarm_and_a_close_overtakes_it() {
    let node = Node::start().await;
    let rabbit = node.rabbit();
    let connection = connect(&rabbit).await;
    let (channel, victim, observer) =
        (confirming(&connection).await, confirming(&connection).await, connect(&rabbit).await);
    let observer = confirming(&observer).await;
    let name = rabbit.queue("ghosts");
    queue(&observer, &name).await;
    let to_ghosts = |channel: Channel, id: &'static str| {
        let name = name.clone();
        async move {
            let properties = BasicProperties::default().with_message_id(id.into());
            channel.basic_publish("".into(), name.into(), MANDATORY, b"x", properties).await.map(drop)
        }
    };
    node.ctl(&["set_vm_memory_high_watermark", "0.0000001"]).await;
    until("blocked", || async {
        let _ = timeout(Duration::from_millis(100), to_ghosts(channel.clone(), "probe")).await;
        connection.status().blocked()
    })
    .await;
    assert!(timeout(A_WHILE, to_ghosts(channel.clone(), "ghost")).await.is_err(), "no timeout of its own");
    node.ctl(&["set_vm_memory_high_watermark", "0.4"]).await;
    let mut consumer = consume(&observer, &name).await;
    loop {
        let delivery = timeout(SOON, consumer.next()).await.expect("the ghost comes").unwrap().unwrap();
        if delivery.properties.message_id().as_ref().is_some_and(|id| id.as_str() == "ghost") {
            break;
        }
    }

    until("unblocked", || async { !connection.status().blocked() }).await;
    node.ctl(&["set_vm_memory_high_watermark", "0.0000001"]).await;
    until("blocked again", || async {
        let _ = timeout(Duration::from_millis(100), to_ghosts(channel.clone(), "probe")).await;
        connection.status().blocked()
    })
    .await;
    assert!(timeout(A_WHILE, to_ghosts(victim.clone(), "overtaken")).await.is_err());
    drop(victim);
    node.ctl(&["set_vm_memory_high_watermark", "0.4"]).await;
    // Its channel is closed first, so RabbitMQ ignores the message, or, when it has forgotten the channel by then, closes
    // the connection (504).
    until("unblocked or closed", || async { !connection.status().blocked() || !connection.status().connected() }).await;
    while let Ok(Some(Ok(delivery))) = timeout(Duration::from_secs(1), consumer.next()).await {
        assert_ne!(delivery.properties.message_id().as_ref().map(|id| id.as_str()), Some("overtaken"));
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// lapin reads frames on a thread of its own, so only the process' global subscriber sees all of it.
#[tokio::test]
async fn returned_bodies_are_logged_under_one_target() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).expect("one process per test: run tests/run");

    let rabbit = Rabbit::shared();
    let connection = connect(&rabbit).await;
    let channel = confirming(&connection).await;
    assert!(publish(&channel, &rabbit.queue("nowhere"), "x").await.take_message().is_some());

    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    // A `Vec<u8>` as `Debug` prints it.
    let body = format!("{:?}", b"secret-body");
    let showing: Vec<_> = log.lines().filter(|line| line.contains(&body) || line.contains("secret-body")).collect();
    assert!(!showing.is_empty(), "no longer true: the target need not be silenced");
    for line in showing {
        assert!(line.contains(&format!("{TARGET_THAT_SHOWS_BODIES}:")), "{line}");
    }
}
