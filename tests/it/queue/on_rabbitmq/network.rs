//! What a network does: a confirm that is lost, a connection that ends in the middle, a peer that accepts and is silent.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use prepay::queue::{
    Broker, Health, Published, QueueName, RefusedBecause,
    rabbitmq::{BrokerUrl, RabbitBroker, RabbitSettings},
};
use tokio::time::timeout;

use crate::queue::{
    PATIENCE, SOON, command, id_of, kept, next, nothing_comes,
    proxy::{Proxy, Road},
    rabbit::{Rabbit, ready},
    until,
};

async fn through_a_proxy(rabbit: &Rabbit) -> (Proxy, RabbitSettings) {
    let (head, tail) = rabbit.url().split_once('@').expect("amqp://USER:PASSWORD@HOST:PORT/VHOST");
    let (server, vhost) = tail.split_once('/').unwrap();
    let proxy = Proxy::to(server.parse().expect("an address of numbers")).await;
    let url = BrokerUrl::parse(&format!("{head}@{}/{vhost}", proxy.address)).unwrap();
    (proxy, RabbitSettings { url, publish_channels: 1, ..rabbit.settings() })
}

#[tokio::test]
async fn a_confirm_that_comes_late_is_unknown_and_its_channel_waits_for_it() {
    let rabbit = Rabbit::shared();
    let (proxy, settings) = through_a_proxy(&rabbit).await;
    let broker = rabbit.broker_with(settings).await;
    kept(&*broker, &command()).await;

    proxy.set(Road::Held);
    let ghost = command();
    assert_eq!(broker.publish(&ghost, Duration::from_millis(200)).await, Published::Unknown);
    let refused = command();
    assert_eq!(
        broker.publish(&refused, Duration::from_millis(200)).await,
        Published::Refused(RefusedBecause::Full),
        "its one channel is taken, so this was not sent"
    );
    proxy.set(Road::Open);
    let after = command();
    kept(&*broker, &after).await;

    let direct = rabbit.broker().await;
    let mut orders = direct.consume(QueueName::Orders, 10).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        let delivery = next(&mut orders).await;
        seen.push(id_of(&delivery));
        assert!(delivery.ack().await);
    }
    assert!(seen.contains(&ghost.id) && seen.contains(&after.id), "unknown was kept after all");
    nothing_comes(&mut orders).await;
}

#[tokio::test]
async fn a_channel_whose_confirm_never_comes_is_replaced() {
    let rabbit = Rabbit::shared();
    let (proxy, settings) = through_a_proxy(&rabbit).await;
    let broker = rabbit.broker_with(RabbitSettings { confirm_max_ms: 4_000, ..settings }).await;
    kept(&*broker, &command()).await;
    proxy.set(Road::Held);
    assert_eq!(
        broker.publish(&command(), PATIENCE).await,
        Published::Unknown,
        "long before its caller's patience ends"
    );
    proxy.set(Road::Open);
    kept(&*broker, &command()).await;
    assert_eq!(broker.health(), Health::Ready, "on the same connection");
}

#[tokio::test]
async fn a_connection_that_ends_under_a_publish_leaves_it_unknown() {
    let rabbit = Rabbit::shared();
    let (proxy, settings) = through_a_proxy(&rabbit).await;
    let broker = rabbit.broker_with(settings).await;
    kept(&*broker, &command()).await;
    proxy.set(Road::Held);
    let publishing = tokio::spawn({
        let broker = Arc::clone(&broker);
        async move { broker.publish(&command(), Duration::from_secs(60)).await }
    });
    // Sent, as the broker sees it, before the road is cut.
    until("the command lies in its queue", || async {
        let direct = rabbit.broker().await;
        direct.depth(QueueName::Orders).await.is_some_and(|depth| depth.ready == 2)
    })
    .await;
    let begun = Instant::now();
    proxy.set(Road::Cut);
    assert_eq!(publishing.await.unwrap(), Published::Unknown);
    assert!(begun.elapsed() < Duration::from_secs(20), "told when it is known: {:?}", begun.elapsed());
    proxy.set(Road::Open);
    ready(&broker).await;
    kept(&*broker, &command()).await;
}

#[tokio::test]
async fn a_peer_without_a_pulse_is_missed() {
    let rabbit = Rabbit::shared();
    let (proxy, settings) = through_a_proxy(&rabbit).await;
    let broker = rabbit.broker_with(RabbitSettings { heartbeat_s: 1, ..settings }).await;
    proxy.set(Road::Held);
    let mut health = broker.health_changes();
    let missed = timeout(SOON, health.wait_for(|health| *health == Health::Down));
    assert!(missed.await.is_ok_and(|missed| missed.is_ok()));
    proxy.set(Road::Open);
    // With such a pulse a busy machine may lose it once more.
    until("it is kept", async || broker.publish(&command(), PATIENCE).await == Published::Kept).await;
}

#[tokio::test]
async fn a_silent_peer_is_given_up_and_leaves_nothing_behind() {
    let rabbit = Rabbit::shared();
    let (proxy, settings) = through_a_proxy(&rabbit).await;
    proxy.set(Road::Held);
    let silent = RabbitSettings { connect_timeout_ms: 500, reconnect_max_ms: 100, ..settings };
    let broker = Arc::new(RabbitBroker::start(silent.clone()));
    // Some tries later: each had a thread of lapin and a socket.
    let mut most = 0;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(6) {
        most = most.max(lapin_threads());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(most <= 4, "{most} threads: those of earlier tries stayed");
    broker.close().await;
    until("its tries end", async || lapin_threads() == 0).await;
    // Stopped in the middle of a try, it leaves nothing either.
    let impatient = RabbitBroker::start(RabbitSettings { connect_timeout_ms: 60_000, ..silent.clone() });
    until("it is trying", async || lapin_threads() > 0).await;
    impatient.close().await;
    until("it has given up", async || lapin_threads() == 0).await;
    let broker = Arc::new(RabbitBroker::start(silent));
    until("it is trying", async || lapin_threads() > 0).await;
    proxy.set(Road::Open);
    ready(&broker).await;
    until("it is kept", async || broker.publish(&command(), PATIENCE).await == Published::Kept).await;
    broker.close().await;
    until("lapin's threads end", || async { lapin_threads() == 0 }).await;
}

fn lapin_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let name = |task: std::io::Result<std::fs::DirEntry>| std::fs::read_to_string(task.ok()?.path().join("comm")).ok();
    tasks.filter_map(name).filter(|name| name.starts_with("lapin")).count()
}
