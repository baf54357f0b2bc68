//! The topology, told to a broker. Declaring what stands already is free; declaring it differently is refused (406).

use lapin::{
    Channel as AmqpChannel,
    options::QueueDeclareOptions,
    types::{AMQPValue, FieldTable, LongString},
};

use crate::queue::topology::{Argument, QueueDeclaration, TopologySettings};

pub(super) async fn all(channel: &AmqpChannel, topology: &TopologySettings) -> Result<(), lapin::Error> {
    for queue in topology.declarations() {
        one(channel, queue).await?;
    }
    Ok(())
}

pub(super) async fn one(channel: &AmqpChannel, queue: QueueDeclaration) -> Result<(), lapin::Error> {
    let options = QueueDeclareOptions {
        durable: queue.durable,
        exclusive: queue.exclusive,
        auto_delete: queue.auto_delete,
        ..QueueDeclareOptions::default()
    };
    let mut arguments = FieldTable::default();
    for (name, argument) in queue.arguments {
        let value = match argument {
            Argument::Text(text) => AMQPValue::LongString(LongString::from(text)),
            Argument::Number(number) => AMQPValue::LongLongInt(number),
        };
        arguments.insert(name.into(), value);
    }
    channel.queue_declare(queue.name.into(), options, arguments).await.map(drop)
}

/// How many messages wait in a queue that may not exist, and how many consumers it has. Closes the channel if it does not.
pub(super) async fn look(channel: &AmqpChannel, queue: &str) -> Result<(u32, u32), lapin::Error> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let found = channel.queue_declare(queue.into(), options, FieldTable::default()).await?;
    Ok((found.message_count(), found.consumer_count()))
}
