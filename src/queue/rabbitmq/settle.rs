//! What a worker does with a delivery: acknowledge it, set it aside, or drop it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use lapin::{
    Acker, BasicProperties, Channel as AmqpChannel,
    message::Delivery as AmqpDelivery,
    options::{BasicAckOptions, BasicNackOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use tokio::{runtime::Handle, time::sleep};
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::{debug, warn};

use super::publisher::{Letter, Publisher};
use crate::queue::{Delivery, ParkedAs, Published, Settle};

const REASON: &str = "x-parked-reason";
const QUEUE: &str = "x-parked-from";
/// RabbitMQ's own words on what it dead-lettered.
const DEAD_REASON: &str = "x-first-death-reason";
const DEAD_QUEUE: &str = "x-first-death-queue";
/// A reason is for a person: longer ones are cut.
const REASON_MAX: usize = 500;

const PARK_MAX: Duration = Duration::from_secs(10);
/// A message that could not be parked comes back after this, not at once: it would only go round.
const PARK_AGAIN: Duration = Duration::from_secs(1);

/// One delivery's way back to the broker.
struct Held {
    acker: Acker,
    /// Keeps the channel open: a delivery is settled on its own.
    channel: AmqpChannel,
    /// Counts what a consumer has handed out.
    token: TaskTrackerToken,
    publisher: Arc<Publisher>,
    parked_queue: String,
    queue: String,
    message_id: Option<ShortString>,
    runtime: Handle,
}

/// What every delivery of a consumer shares.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) channel: AmqpChannel,
    pub(super) publisher: Arc<Publisher>,
    pub(super) queue: String,
    pub(super) parked_queue: String,
}

impl Desk {
    pub(super) fn hand_out(&self, delivery: AmqpDelivery, token: TaskTrackerToken) -> Delivery {
        let AmqpDelivery { redelivered, properties, data, acker, .. } = delivery;
        let held = Held {
            acker,
            channel: self.channel.clone(),
            token,
            publisher: Arc::clone(&self.publisher),
            parked_queue: self.parked_queue.clone(),
            queue: self.queue.clone(),
            message_id: properties.message_id().clone(),
            runtime: Handle::current(),
        };
        let reply_to = properties.reply_to().as_ref().map(|name| name.as_str().to_owned());
        let parked = if self.queue == self.parked_queue { parked_as(&properties) } else { None };
        Delivery::new(data, reply_to, redelivered, Box::new(held)).parked_as(parked)
    }
}

/// Our own headers, or those of the broker when it set the message aside.
fn parked_as(properties: &BasicProperties) -> Option<ParkedAs> {
    let headers = properties.headers().as_ref()?.inner();
    let text = |name: &str| match headers.get(name)? {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        AMQPValue::ShortString(text) => Some(text.as_str().to_owned()),
        _ => None,
    };
    Some(ParkedAs {
        reason: text(REASON).or_else(|| text(DEAD_REASON))?,
        queue: text(QUEUE).or_else(|| text(DEAD_QUEUE)).unwrap_or_default(),
    })
}

impl Held {
    async fn acked(&self) -> bool {
        match self.acker.ack(BasicAckOptions::default()).await {
            Ok(sent) => sent,
            Err(error) => {
                debug!(%error, queue = self.queue, "an acknowledgement did not reach the broker");
                false
            }
        }
    }

    /// With the reason, and none of the headers it came with: a copied `x-death` makes the broker see a cycle.
    fn letter(&self, body: Vec<u8>, reason: &str) -> Letter {
        let reason: String = reason.chars().take(REASON_MAX).collect();
        let mut headers = FieldTable::default();
        headers.insert(REASON.into(), AMQPValue::LongString(reason.into()));
        headers.insert(QUEUE.into(), AMQPValue::LongString(self.queue.clone().into()));
        let mut properties = BasicProperties::default().with_delivery_mode(2).with_headers(headers);
        if let Some(id) = &self.message_id {
            properties = properties.with_message_id(id.clone());
        }
        Letter { queue: self.parked_queue.clone(), body, properties }
    }

    async fn parked(self, body: Vec<u8>, reason: String) -> bool {
        let letter = self.letter(body, &reason);
        let published = self.publisher.publish(letter, PARK_MAX).await;
        if published == Published::Kept {
            // When this ack is lost the message comes again and is parked twice: twice is seen, never is not.
            return self.acked().await;
        }
        warn!(queue = self.queue, reason, ?published, "a message could not be parked; it comes again");
        let runtime = self.runtime.clone();
        runtime.spawn(async move {
            sleep(PARK_AGAIN).await;
            drop(self);
        });
        false
    }
}

#[async_trait]
impl Settle for Held {
    async fn ack(self: Box<Self>) -> bool {
        self.acked().await
    }

    /// Runs to its end even when the caller does not wait for it.
    async fn park(self: Box<Self>, body: Vec<u8>, reason: &str) -> bool {
        let runtime = self.runtime.clone();
        runtime.spawn(self.parked(body, reason.to_owned())).await.unwrap_or(false)
    }
}

impl Drop for Held {
    /// Unsettled: back to the queue. The broker would wait for the channel to close, which may be never.
    fn drop(&mut self) {
        if !self.acker.usable() {
            return;
        }
        let (acker, channel, token) = (self.acker.clone(), self.channel.clone(), self.token.clone());
        self.runtime.spawn(async move {
            let returned = acker.nack(BasicNackOptions { requeue: true, ..BasicNackOptions::default() }).await;
            if let Err(error) = returned {
                debug!(%error, "a delivery could not be returned; its channel is gone and it comes by itself");
            }
            drop((channel, token));
        });
    }
}
