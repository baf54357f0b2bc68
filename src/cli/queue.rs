//! Queues: what the broker must be told, how much waits, what was set aside.

use std::{sync::Arc, time::Duration};

use anyhow::bail;
use clap::Subcommand;

use super::{desk::Desk, print};
use crate::{
    config::Settings,
    queue::{Broker, Health, QueueName, rabbitmq::RabbitBroker, topology},
};

/// How long a command waits for the broker.
const CONNECTED_WITHIN: Duration = Duration::from_secs(5);
pub const QUEUES: [(QueueName, &str); 3] =
    [(QueueName::Orders, "orders"), (QueueName::Notifications, "notifications"), (QueueName::Parked, "parked")];

#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    /// Print the policies (max-length) as RabbitMQ imports them: rabbitmqctl import_definitions
    Definitions,
    /// How many messages wait, and how many consumers there are
    Depth,
    /// What was set aside for a person, newest first
    Parked {
        /// Rows at most
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1_000))]
        limit: u64,
    },
}

pub fn definitions(settings: &Settings) -> anyhow::Result<()> {
    let definitions = topology::definitions(&settings.topology_settings());
    Ok(print::line(serde_json::to_string_pretty(&definitions)?)?)
}

/// A connection to RabbitMQ that works. Errors: embedded, or nobody answers.
pub async fn connect(settings: &Settings) -> anyhow::Result<Arc<RabbitBroker>> {
    if settings.broker_is_embedded() {
        bail!(
            "broker.url is `embedded`: its queues live inside `serve`, whose operations address tells their depth (/metrics)"
        );
    }
    let broker = Arc::new(RabbitBroker::start(settings.rabbit_settings("prepay cli")?));
    let mut health = broker.health_changes();
    let ready = tokio::time::timeout(CONNECTED_WITHIN, health.wait_for(|health| *health != Health::Down)).await;
    if !matches!(ready, Ok(Ok(_))) {
        broker.close().await;
        bail!(
            "broker.url: not connected within {} s; is the address, user and virtual host right?",
            CONNECTED_WITHIN.as_secs()
        );
    }
    Ok(broker)
}

pub async fn depth(settings: &Settings) -> anyhow::Result<()> {
    let broker = connect(settings).await?;
    let mut rows = Vec::new();
    for (queue, name) in QUEUES {
        rows.push(match asked(&broker, queue).await {
            Some(depth) => [name.to_owned(), depth.ready.to_string(), depth.consumers.to_string()],
            None => [name.to_owned(), "?".to_owned(), "?".to_owned()],
        });
    }
    broker.close().await;
    Ok(print::table(["QUEUE", "WAITING", "CONSUMERS"], &rows)?)
}

/// Both connections come up apart: the one that can be asked may be the later one.
pub async fn asked(broker: &RabbitBroker, queue: QueueName) -> Option<crate::queue::Depth> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    loop {
        match broker.depth(queue).await {
            Some(depth) => return Some(depth),
            None if tokio::time::Instant::now() >= deadline => return None,
            None => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

pub async fn parked(desk: &Desk, limit: u64) -> anyhow::Result<()> {
    let rows = desk.store.list_parked(limit).await?.into_iter().map(|row| {
        [
            row.received_at.rfc3339(),
            row.queue,
            row.kind.unwrap_or_else(|| "?".to_owned()),
            row.order.map_or_else(|| "-".to_owned(), |order| order.to_string()),
            row.reason,
            row.id,
        ]
    });
    let heading = ["RECEIVED", "QUEUE", "KIND", "ORDER", "REASON", "MESSAGE"];
    Ok(print::table(heading, &rows.collect::<Vec<_>>())?)
}
