//! Queues: what the broker must be told, how much waits, what was set aside.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, bail};
use clap::Subcommand;

use super::print;
use crate::{
    config::Settings,
    queue::{
        Broker, Health,
        rabbitmq::{Inspection, RabbitBroker, Standing, inspect},
        topology,
    },
};

/// How long a command waits for the broker.
const CONNECTED_WITHIN: Duration = Duration::from_secs(5);

#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    /// Print the policies (max-length) as RabbitMQ imports them: rabbitmqctl import_definitions
    Definitions,
    /// How many messages wait, and how many consumers there are
    Depth,
}

pub fn definitions(settings: &Settings) -> anyhow::Result<()> {
    let definitions = topology::definitions(&settings.topology_settings());
    Ok(print::line(serde_json::to_string_pretty(&definitions)?)?)
}

fn refuse_embedded(settings: &Settings) -> anyhow::Result<()> {
    if settings.broker_is_embedded() {
        bail!(
            "broker.url is `embedded`: its queues live inside `serve`, whose operations address tells their depth (/metrics)"
        );
    }
    Ok(())
}

/// A connection to RabbitMQ that can publish, with every queue made that was missing. Errors: embedded, or nobody answers.
pub async fn connect(settings: &Settings) -> anyhow::Result<Arc<RabbitBroker>> {
    refuse_embedded(settings)?;
    let broker = Arc::new(RabbitBroker::start(settings.rabbit_settings("prepay cli")?));
    let mut health = broker.health_changes();
    let ready = tokio::time::timeout(CONNECTED_WITHIN, health.wait_for(|health| *health != Health::Down)).await;
    if !matches!(ready, Ok(Ok(_))) {
        broker.close().await;
        bail!(
            "broker.url: nothing can be published within {} s: `prepay doctor` looks why",
            CONNECTED_WITHIN.as_secs()
        );
    }
    Ok(broker)
}

/// A look that makes no queue. Errors: embedded, or nobody answers.
pub async fn look(settings: &Settings) -> anyhow::Result<Inspection> {
    refuse_embedded(settings)?;
    let inspection = inspect(&settings.rabbit_settings("prepay cli")?).await;
    inspection.context("broker.url: no connection; is the address, user and virtual host right?")
}

/// Errors: a queue that cannot be counted, after the others were.
pub async fn depth(settings: &Settings) -> anyhow::Result<()> {
    let queues = look(settings).await?.queues;
    let row = |(name, standing): &(String, Standing)| match standing.depth() {
        Some(depth) => [name.clone(), depth.ready.to_string(), depth.consumers.to_string()],
        None => [name.clone(), "-".to_owned(), "-".to_owned()],
    };
    print::table(["QUEUE", "WAITING", "CONSUMERS"], &queues.iter().map(row).collect::<Vec<_>>())?;
    let refused = queues.iter().find_map(|(name, standing)| match standing {
        Standing::Refused(words) => Some(format!("{name}: {words}")),
        _ => None,
    });
    if let Some(refused) = refused {
        bail!("the broker refuses to tell: {refused}");
    }
    let missing: Vec<_> = queues.iter().filter(|(_, at)| *at == Standing::Missing).map(|(name, _)| &**name).collect();
    if !missing.is_empty() {
        bail!("not there: {}; fronts and workers make them when they start", missing.join(", "));
    }
    Ok(())
}
