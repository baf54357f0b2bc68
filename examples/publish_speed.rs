//! How fast one front gets its commands confirmed by a broker, for several pool sizes.
//!
//! `cargo run --release --example publish_speed amqp://USER:PASSWORD@HOST:PORT/%2f [SECONDS]`, on a broker that may be
//! filled: it uses queues under the prefix `publish-speed` and leaves them.
#![expect(clippy::print_stdout, reason = "its figures are all it is for")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use prepay::queue::{
    Broker, Health, Published, QueueName,
    rabbitmq::{BrokerUrl, RabbitBroker, RabbitSettings},
    topology::TopologySettings,
};
use tokio::{task::JoinSet, time::Instant};

#[path = "../tests/it/queue/sample.rs"]
mod sample;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let url = BrokerUrl::parse(&arguments.next().unwrap_or_else(|| "amqp://127.0.0.1:5672/%2f".to_owned()))?;
    let span = Duration::from_secs(arguments.next().map_or(Ok(5), |seconds| seconds.parse())?);
    println!("channels  callers  confirmed/s  p50 ms  p99 ms  not kept");
    for (channels, callers) in [(8, 1), (8, 8), (32, 32), (128, 128), (32, 500)] {
        one_round(url.clone(), channels, callers, span).await?;
    }
    Ok(())
}

async fn one_round(url: BrokerUrl, publish_channels: u16, callers: u16, span: Duration) -> anyhow::Result<()> {
    let topology = TopologySettings { prefix: "publish-speed".to_owned(), ..TopologySettings::default() };
    let settings = RabbitSettings { url, publish_channels, topology, ..RabbitSettings::default() };
    let broker = Arc::new(RabbitBroker::start(settings));
    broker.health_changes().wait_for(|health| *health == Health::Ready).await?;
    let mut orders = broker.consume(QueueName::Orders, 500).await;
    let draining = tokio::spawn(async move {
        while let Some(delivery) = orders.recv().await {
            delivery.ack().await;
        }
    });

    let times = Arc::new(Mutex::new(Vec::new()));
    let begun = Instant::now();
    let mut publishing = JoinSet::new();
    for _ in 0..callers {
        let (broker, times) = (Arc::clone(&broker), Arc::clone(&times));
        publishing.spawn(async move {
            let (mut mine, mut failed) = (Vec::new(), 0_u32);
            while begun.elapsed() < span {
                let envelope = sample::command();
                let sent = Instant::now();
                match broker.publish(&envelope, Duration::from_secs(10)).await {
                    Published::Kept => mine.push(sent.elapsed()),
                    Published::Refused(_) | Published::Unknown => failed += 1,
                }
            }
            if let Ok(mut times) = times.lock() {
                times.append(&mut mine);
            }
            failed
        });
    }
    let failed: u32 = publishing.join_all().await.into_iter().sum();
    let took = begun.elapsed();
    broker.close().await;
    draining.await?;

    let mut times = times.lock().map(|mut times| std::mem::take(&mut *times)).unwrap_or_default();
    times.sort_unstable();
    let at = |permille: usize| times.get(times.len() * permille / 1000).map_or(0.0, |time| time.as_secs_f64() * 1000.0);
    let rate = times.len() as f64 / took.as_secs_f64();
    println!("{publish_channels:>8}  {callers:>7}  {rate:>11.0}  {:>6.2}  {:>6.2}  {failed:>8}", at(500), at(990));
    Ok(())
}
