//! The broker: whether it can be reached, takes messages, and has our queues as we declare them; their lengths when told.

use std::collections::HashMap;

use anyhow::Context;
use serde::Deserialize;
use serde_json::Value;

use super::Report;
use crate::{
    cli::{
        input::{Inputs, Source},
        queue,
    },
    config::Settings,
    queue::{
        QueueName,
        rabbitmq::{Publishing, Standing},
        topology::TopologySettings,
    },
};

pub async fn check(report: &mut Report, settings: &Settings, policies: Option<&Source>) -> anyhow::Result<()> {
    if settings.broker_is_embedded() {
        return report.ok("broker", "embedded: for `serve` alone, and what waits in it ends with the process");
    }
    let inspection = match queue::look(settings).await {
        Ok(inspection) => inspection,
        Err(error) => return report.failed("broker", format_args!("{error:#}")),
    };
    match inspection.publishing {
        Publishing::Works => report.ok("broker", "connected, and it takes messages")?,
        Publishing::Silent => report.failed(
            "broker",
            "connected, but it takes no message: look at its memory and disk alarms (`rabbitmqctl alarms`)",
        )?,
        Publishing::Refused(words) => report.failed(
            "broker",
            format_args!("it refuses messages ({words}): the user must write to the default exchange"),
        )?,
    }
    for (name, standing) in inspection.queues {
        let check = format!("queue {name}");
        match standing {
            Standing::AsDeclared(depth) => {
                report.ok(check, format_args!("{} waiting, {} consumers", depth.ready, depth.consumers))?;
            }
            Standing::Missing => report.hint(check, "not there yet: fronts and workers make it when they start")?,
            Standing::Otherwise { differs, .. } => report.failed(
                check,
                format_args!(
                    "no role can use it as it stands ({differs}): stop the roles, let it run empty, \
                     `rabbitmqctl delete_queue {name}`, start them"
                ),
            )?,
            Standing::Refused(words) => report.failed(
                check,
                format_args!("{words}: the user must configure, write and read {}.*", settings.broker.prefix),
            )?,
        }
    }
    let topology = settings.topology_settings();
    match policies {
        Some(source) => match read(source) {
            Ok(known) => lengths(report, &topology, &known),
            Err(error) => report.failed("queue lengths", format_args!("{error:#}")),
        },
        None => report.hint(
            "queue lengths",
            format_args!(
                "the protocol does not show policies, RabbitMQ's management API does: `curl -su USER \
                 'http://HOST:15672/api/queues/{}?columns=name,effective_policy_definition' | prepay doctor \
                 --policies-file -` compares them with `prepay queue definitions`",
                topology.vhost.replace('/', "%2F")
            ),
        ),
    }
}

/// A queue as the management API's `/api/queues` shows it; what else it shows is not looked at.
#[derive(Deserialize)]
struct Listed {
    name: String,
    #[serde(default)]
    effective_policy_definition: Value,
}

/// The length in force of each queue by name. Errors: not such a list.
fn read(source: &Source) -> anyhow::Result<HashMap<String, Option<u64>>> {
    let text = Inputs::default().text("--policies-file", source)?;
    lengths_of(&text).context("--policies-file: not what RabbitMQ's /api/queues answers")
}

fn lengths_of(text: &str) -> serde_json::Result<HashMap<String, Option<u64>>> {
    let listed: Vec<Listed> = serde_json::from_str(text)?;
    let length = |queue: Listed| queue.effective_policy_definition.get("max-length").and_then(Value::as_u64);
    Ok(listed.into_iter().map(|queue| (queue.name.clone(), length(queue))).collect())
}

fn lengths(
    report: &mut Report,
    topology: &TopologySettings,
    known: &HashMap<String, Option<u64>>,
) -> anyhow::Result<()> {
    for (queue, wanted) in [
        (QueueName::Orders, topology.orders_max()),
        (QueueName::Notifications, topology.notifications_max),
        (QueueName::Parked, topology.parked_max),
    ] {
        for name in topology.queues(queue) {
            let check = format!("length of {name}");
            const SET: &str = "`prepay queue definitions > FILE` and `rabbitmqctl import_definitions FILE`";
            match known.get(&name) {
                None => report.hint(check, "the list does not name this queue")?,
                Some(None) => report.lacks(check, format_args!("no max-length is in force: {SET}"))?,
                Some(Some(length)) if *length == u64::from(wanted) => {
                    report.ok(check, format_args!("at most {length} messages"))?;
                }
                Some(Some(length)) => report.lacks(
                    check,
                    format_args!("max-length {length} is in force, the settings ask for {wanted}: {SET}"),
                )?,
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_without_policy_has_no_length() {
        let text = r#"[{"name":"a","effective_policy_definition":{"max-length":5,"other":"x"}},
            {"name":"b","effective_policy_definition":{"other":"x"},"arguments":{}},
            {"name":"c","effective_policy_definition":[]},{"name":"d"}]"#;
        let known = lengths_of(text).unwrap();
        assert_eq!(["a", "b", "c", "d"].map(|name| known[name]), [Some(5), None, None, None]);
        assert!(lengths_of(r#"{"error":"not_authorised"}"#).is_err());
    }
}
