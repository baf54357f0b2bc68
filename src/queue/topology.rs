//! Which queues there are, what the code declares of them, and what stays the operator's.
//!
//! Declared: type, durability, overflow, where dead letters go, the delivery limit. A changed argument is refused by
//! the broker (406) for as long as the queue exists, so the one figure that operators tune, `max-length`, is a policy:
//! [`definitions`] prints it.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Envelope, Message, QueueName};
use crate::domain::id::OrderId;

/// After so many returns a message is poison and goes to the parked queue: the default of RabbitMQ 4.
const DELIVERY_LIMIT: i64 = 20;
/// Parked messages are never given up. RabbitMQ 4 would drop them after 20 returns unless told otherwise, and 3.x
/// refuses its own word for "no limit", -1.
const NO_DELIVERY_LIMIT: i64 = 2_000_000_000;

/// Names and lengths of the queues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TopologySettings {
    /// What every queue's name starts with. Letters, digits, `_`, `-`.
    pub prefix: String,
    /// The virtual host, as the printed policies name it. The connection takes its own from the address.
    pub vhost: String,
    /// Over how many queues orders are spread. One serves some 20 000 commands a second.
    pub order_queues: u16,
    /// Commands a second that all workers together settle.
    pub drain_per_s: u32,
    /// How long a command may wait and still be of use, seconds.
    pub wait_budget_s: u32,
    /// Messages.
    pub notifications_max: u32,
    /// Messages.
    pub parked_max: u32,
    /// Messages in one front's reply queue; the oldest are dropped, they are hints.
    pub replies_max: u32,
}

impl Default for TopologySettings {
    fn default() -> Self {
        Self {
            prefix: "prepay".to_owned(),
            vhost: "/".to_owned(),
            order_queues: 1,
            drain_per_s: 300,
            wait_budget_s: 8,
            notifications_max: 100_000,
            parked_max: 100_000,
            replies_max: 10_000,
        }
    }
}

/// One argument of a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Argument {
    Text(String),
    Number(i64),
}

/// What is declared of one queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QueueDeclaration {
    pub name: String,
    pub durable: bool,
    pub exclusive: bool,
    pub auto_delete: bool,
    pub arguments: Vec<(&'static str, Argument)>,
}

impl TopologySettings {
    /// `<prefix>.orders`, `<prefix>.orders.1`, …; or the single queue of the other names.
    pub fn queues(&self, queue: QueueName) -> Vec<String> {
        match queue {
            QueueName::Orders => (0..self.order_queues.max(1)).map(|number| self.orders_queue(number)).collect(),
            QueueName::Notifications => vec![format!("{}.notifications", self.prefix)],
            QueueName::Parked => vec![self.parked()],
        }
    }

    /// The one queue that a message goes to.
    pub fn queue_of(&self, envelope: &Envelope) -> String {
        match (&envelope.message, envelope.order) {
            (Message::Notice(_), _) => format!("{}.notifications", self.prefix),
            (Message::Prepay(_), Some(order)) => self.orders_queue(spread(order, self.order_queues)),
            (Message::Prepay(_), None) => self.orders_queue(0),
        }
    }

    pub fn parked(&self) -> String {
        format!("{}.parked", self.prefix)
    }

    /// What every reply queue's name starts with: a worker replies to no other, whatever a command says.
    pub fn reply_prefix(&self) -> String {
        format!("{}.reply.", self.prefix)
    }

    fn orders_queue(&self, number: u16) -> String {
        match number {
            0 => format!("{}.orders", self.prefix),
            number => format!("{}.orders.{number}", self.prefix),
        }
    }

    /// The durable queues, parked first: the others dead-letter to it.
    pub fn declarations(&self) -> Vec<QueueDeclaration> {
        [QueueName::Parked, QueueName::Notifications, QueueName::Orders]
            .into_iter()
            .flat_map(|queue| self.declarations_of(queue))
            .collect()
    }

    pub fn declarations_of(&self, queue: QueueName) -> Vec<QueueDeclaration> {
        self.queues(queue)
            .into_iter()
            .map(|name| {
                let mut arguments = vec![
                    ("x-queue-type", Argument::Text("quorum".to_owned())),
                    // Refused instead of dropped from the head, and the condition of dead-lettering at least once.
                    ("x-overflow", Argument::Text("reject-publish".to_owned())),
                ];
                if queue == QueueName::Parked {
                    arguments.push(("x-delivery-limit", Argument::Number(NO_DELIVERY_LIMIT)));
                } else {
                    arguments.extend([
                        ("x-delivery-limit", Argument::Number(DELIVERY_LIMIT)),
                        ("x-dead-letter-exchange", Argument::Text(String::new())),
                        ("x-dead-letter-routing-key", Argument::Text(self.parked())),
                        ("x-dead-letter-strategy", Argument::Text("at-least-once".to_owned())),
                    ]);
                }
                QueueDeclaration { name, durable: true, exclusive: false, auto_delete: false, arguments }
            })
            .collect()
    }

    /// A front's reply queue under a name that was never used: a redeclared one could still belong to the connection
    /// just lost (RESOURCE_LOCKED). Its length is an argument, for it lives no longer than its connection.
    pub fn reply_queue(&self) -> QueueDeclaration {
        QueueDeclaration {
            name: format!("{}{}", self.reply_prefix(), uuid::Uuid::now_v7().simple()),
            durable: false,
            exclusive: true,
            auto_delete: true,
            arguments: vec![
                ("x-queue-type", Argument::Text("classic".to_owned())),
                ("x-max-length", Argument::Number(i64::from(self.replies_max.max(1)))),
            ],
        }
    }

    /// How many commands may wait in one order queue (Little's law): more would only be settled expired.
    pub fn orders_max(&self) -> u32 {
        let all = self.drain_per_s.saturating_mul(self.wait_budget_s);
        all.div_ceil(u32::from(self.order_queues.max(1))).max(1)
    }
}

/// The lower half of an order id is random (UUID version 7), so it needs no hash.
fn spread(order: OrderId, queues: u16) -> u16 {
    let [.., high, low] = *order.as_bytes();
    u16::from_be_bytes([high, low]) % queues.max(1)
}

/// The policies, in the format of RabbitMQ's definitions: for `rabbitmqctl import_definitions`, `load_definitions` or
/// `POST /api/definitions`.
///
/// A quorum queue overshoots its length by what is under way and takes messages again below 80 % of it: a backstop, the
/// fronts shed earlier.
pub fn definitions(settings: &TopologySettings) -> serde_json::Value {
    let prefix = settings.prefix.replace('.', "\\.");
    let policy = |name: &str, pattern: String, max_length: u32| {
        json!({
            "vhost": settings.vhost,
            "name": format!("{}-{name}", settings.prefix),
            "pattern": pattern,
            "apply-to": "queues",
            "definition": { "max-length": max_length },
            "priority": 10,
        })
    };
    json!({
        "policies": [
            policy("orders", format!("^{prefix}\\.orders(\\.[0-9]+)?$"), settings.orders_max()),
            policy("notifications", format!("^{prefix}\\.notifications$"), settings.notifications_max),
            policy("parked", format!("^{prefix}\\.parked$"), settings.parked_max),
        ]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_declared() {
        let text: String = TopologySettings { order_queues: 2, ..TopologySettings::default() }
            .declarations()
            .iter()
            .map(|queue| {
                let arguments = serde_json::to_string(&queue.arguments).unwrap();
                format!("{} durable={} {arguments}\n", queue.name, queue.durable)
            })
            .collect();
        insta::assert_snapshot!(text, @r#"
        prepay.parked durable=true [["x-queue-type","quorum"],["x-overflow","reject-publish"],["x-delivery-limit",2000000000]]
        prepay.notifications durable=true [["x-queue-type","quorum"],["x-overflow","reject-publish"],["x-delivery-limit",20],["x-dead-letter-exchange",""],["x-dead-letter-routing-key","prepay.parked"],["x-dead-letter-strategy","at-least-once"]]
        prepay.orders durable=true [["x-queue-type","quorum"],["x-overflow","reject-publish"],["x-delivery-limit",20],["x-dead-letter-exchange",""],["x-dead-letter-routing-key","prepay.parked"],["x-dead-letter-strategy","at-least-once"]]
        prepay.orders.1 durable=true [["x-queue-type","quorum"],["x-overflow","reject-publish"],["x-delivery-limit",20],["x-dead-letter-exchange",""],["x-dead-letter-routing-key","prepay.parked"],["x-dead-letter-strategy","at-least-once"]]
        "#);
    }

    #[test]
    fn what_is_policy() {
        let printed = definitions(&TopologySettings::default());
        let text: String = printed["policies"].as_array().unwrap().iter().map(|policy| format!("{policy}\n")).collect();
        insta::assert_snapshot!(text, @r#"
        {"apply-to":"queues","definition":{"max-length":2400},"name":"prepay-orders","pattern":"^prepay\\.orders(\\.[0-9]+)?$","priority":10,"vhost":"/"}
        {"apply-to":"queues","definition":{"max-length":100000},"name":"prepay-notifications","pattern":"^prepay\\.notifications$","priority":10,"vhost":"/"}
        {"apply-to":"queues","definition":{"max-length":100000},"name":"prepay-parked","pattern":"^prepay\\.parked$","priority":10,"vhost":"/"}
        "#);
    }

    #[test]
    fn a_reply_queue_is_never_named_twice() {
        let settings = TopologySettings::default();
        let (first, second) = (settings.reply_queue(), settings.reply_queue());
        assert_ne!(first.name, second.name);
        assert!(first.name.starts_with(&settings.reply_prefix()));
        assert!(first.exclusive && first.auto_delete && !first.durable);
    }

    #[test]
    fn orders_are_spread_evenly_and_stay_where_they_are() {
        let settings = TopologySettings { order_queues: 4, ..TopologySettings::default() };
        let mut counts = [0; 4];
        for _ in 0..4000 {
            let order = OrderId::fresh();
            let number = spread(order, settings.order_queues);
            assert_eq!(number, spread(order, settings.order_queues));
            counts[usize::from(number)] += 1;
        }
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
        assert_eq!(spread(OrderId::fresh(), 1), 0);
    }
}
