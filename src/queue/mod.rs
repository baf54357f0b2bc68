//! The road from the fronts to the workers and back.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::domain::{id::CommandId, outcome::Outcome};

mod dice;
pub mod embedded;
pub mod envelope;
pub mod rabbitmq;
pub mod topology;

pub use envelope::{Envelope, EnvelopeError, Message, NoticeMessage};

/// How a publish ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// Confirmed by the broker on its queue, and not returned. (Embedded: taken, until the process dies.)
    Kept,
    /// Surely not taken: nacked (full), returned (no such queue), blocked, or not connected. The text is for a log.
    Refused(RefusedBecause),
    /// Sent, and never confirmed or refused: it may be executed.
    Unknown,
}

/// Why a publish was refused: the label of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedBecause {
    /// The queue is at its length, or every publish channel stayed taken for half of the caller's patience.
    Full,
    /// The broker reads nothing from publishers (memory or disk alarm).
    Blocked,
    /// There is no such queue.
    Unroutable,
    NotConnected,
}

impl RefusedBecause {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Blocked => "blocked",
            Self::Unroutable => "unroutable",
            Self::NotConnected => "not_connected",
        }
    }
}

/// Which queue is consumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QueueName {
    Orders,
    Notifications,
    Parked,
}

/// A message in a worker's hands. Dropped unsettled, it comes back by itself.
pub struct Delivery {
    /// The bytes as they came; [`Envelope::decode`] reads them.
    pub body: Vec<u8>,
    /// Where the sender listens for the outcome, if anywhere.
    pub reply_to: Option<String>,
    /// The broker says it was handed out before. False does not rule out a double: a publisher may have sent it twice.
    pub redelivered: bool,
    /// Why and from where it was set aside; on messages of [`QueueName::Parked`] only.
    pub parked: Option<ParkedAs>,
    settle: Box<dyn Settle>,
}

/// What a parked message carries besides its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedAs {
    /// The reason given to [`Delivery::park`], or the broker's own (`delivery_limit`: poison).
    pub reason: String,
    /// The queue it was in.
    pub queue: String,
}

/// How an implementation settles its deliveries.
#[async_trait]
pub trait Settle: Send {
    /// False: the channel is gone and the message will come again.
    async fn ack(self: Box<Self>) -> bool;
    /// Sets the message aside with its reason, durably before it leaves its queue. False: it will come again.
    async fn park(self: Box<Self>, body: Vec<u8>, reason: &str) -> bool;
}

impl Delivery {
    pub fn new(body: Vec<u8>, reply_to: Option<String>, redelivered: bool, settle: Box<dyn Settle>) -> Self {
        Self { body, reply_to, redelivered, parked: None, settle }
    }

    pub fn parked_as(mut self, parked: Option<ParkedAs>) -> Self {
        self.parked = parked;
        self
    }

    /// Only after what it asked for is committed. False: its channel is gone and the message will come again.
    pub async fn ack(self) -> bool {
        self.settle.ack().await
    }

    /// Sets it aside for a person to look at. False: it could not be kept there, and will come again.
    pub async fn park(self, reason: &str) -> bool {
        self.settle.park(self.body, reason).await
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Delivery({} bytes, redelivered: {})", self.body.len(), self.redelivered)
    }
}

/// An outcome on its way back to the front that asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub command: CommandId,
    pub outcome: Outcome,
}

/// What a front hears on its reply queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    Reply(Reply),
    /// Replies were lost: the queue was, and a fresh one stands, or they came faster than they were taken. What was sent
    /// meanwhile is found in the store alone.
    Interrupted,
}

/// Whether publishing has a chance right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    Ready,
    /// The broker blocks publishers (memory or disk alarm).
    Blocked,
    Down,
}

/// How many messages wait in a queue, and how many consumers it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth {
    pub ready: u32,
    pub consumers: u32,
}

/// A stream of deliveries with a bound: at most `prefetch` unsettled. It survives reconnections and ends at shutdown only.
pub type Deliveries = mpsc::Receiver<Delivery>;

/// The road. Both implementations keep these words.
#[async_trait]
pub trait Broker: Send + Sync {
    /// Publishes one message and says what became of it, within `patience` at most.
    async fn publish(&self, envelope: &Envelope, patience: Duration) -> Published;

    /// Takes deliveries, at most `prefetch` (1 to 2000) unsettled at once. Dropping the receiver cancels the consumer.
    /// With orders spread over several queues each of them is given its share, and one at least.
    async fn consume(&self, queue: QueueName, prefetch: u16) -> Deliveries;

    /// Listens for replies. Called once per front, before its first publish; order commands published by this broker
    /// object then carry the reply address. A second call takes the place of the first, whose receiver ends.
    async fn listen(&self) -> mpsc::Receiver<Heard>;

    /// Sends an outcome to a reply address: a hint, dropped when nobody listens. Never waits longer than `patience`.
    async fn reply(&self, reply_to: &str, reply: &Reply, patience: Duration);

    fn health(&self) -> Health;

    /// Resolves when the health changes (fronts shed at once, metrics follow).
    fn health_changes(&self) -> tokio::sync::watch::Receiver<Health>;

    /// `None` when the broker cannot be asked.
    async fn depth(&self, queue: QueueName) -> Option<Depth>;

    /// Ends consuming: the broker hands out nothing more, and what no worker has taken yet goes back. One delivery may
    /// already lie in the receiver; what is held can still be settled until [`Broker::close`].
    async fn stop_consuming(&self);

    /// Closes what is open, after everything held is settled.
    async fn close(&self);
}

pub type SharedBroker = Arc<dyn Broker>;
