//! The worker's loop: take at most as many as may run, bring each to its end, leave in order.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use serde_json::json;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    verdict::{STORE_RETRY, Verdict},
    waits::{self, Wait, Waits},
};
use crate::{
    domain::{
        command::PrepayCommand,
        outcome::{Outcome, Refusal},
        time::Timestamp,
    },
    gateway::RawNotice,
    keys::mac::sha256_hex,
    queue::{Deliveries, Delivery, Envelope, Message, NoticeMessage, QueueName, Reply, SharedBroker},
    steps::{StepError, Steps},
    store::Parked,
};

/// Bounds of a worker.
#[derive(Debug, Clone)]
pub struct WorkerSettings {
    /// Order commands in hand at once, 1 to 2000: the prefetch of the orders queue.
    pub order_concurrency: u16,
    /// Notices in hand at once; their own pool, so that a flood of orders cannot starve news of payments.
    pub notice_concurrency: u16,
    /// How long a reply may take to leave; past it the front finds the outcome in the store.
    pub reply_patience: Duration,
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self { order_concurrency: 64, notice_concurrency: 16, reply_patience: Duration::from_millis(200) }
    }
}

/// Works until `soft` is cancelled, then finishes what it holds. `hard` gives up what is still held: unacknowledged
/// messages come back by themselves.
pub async fn run(
    steps: Steps,
    broker: SharedBroker,
    settings: WorkerSettings,
    soft: CancellationToken,
    hard: CancellationToken,
) {
    let orders = broker.consume(QueueName::Orders, settings.order_concurrency).await;
    let notices = broker.consume(QueueName::Notifications, settings.notice_concurrency).await;
    let parked = broker.consume(QueueName::Parked, PARKED_AT_ONCE).await;
    let worker = Arc::new(Worker::new(steps, broker.clone(), settings, hard.clone()));
    let tracker = TaskTracker::new();

    // The prefetch bounds what one connection hands out; the places bound what runs, over reconnections too.
    let take = |mut deliveries: Deliveries, from: QueueName, places: u16| {
        let (worker, tracker, soft) = (worker.clone(), tracker.clone(), soft.clone());
        let places = Arc::new(Semaphore::new(usize::from(places)));
        async move {
            while let Some((delivery, place)) = next(&mut deliveries, &places, &soft).await {
                let worker = worker.clone();
                tracker.spawn(async move {
                    worker.handle(from, delivery).await;
                    drop(place);
                });
            }
        }
    };
    let (order_places, notice_places) = (worker.settings.order_concurrency, worker.settings.notice_concurrency);
    tokio::join!(
        take(orders, QueueName::Orders, order_places),
        take(notices, QueueName::Notifications, notice_places),
        take(parked, QueueName::Parked, PARKED_AT_ONCE)
    );

    broker.stop_consuming().await;
    tracker.close();
    tokio::select! {
        () = tracker.wait() => {}
        () = hard.cancelled() => tracing::warn!("steps still running were given up; their messages come back"),
    }
}

const PARKED_AT_ONCE: u16 = 4;
/// How often a parked message is tried that the database refuses, and how often that is told.
const REFUSED_RETRY: Duration = Duration::from_secs(5);
const REFUSED_TOLD_EVERY: Duration = Duration::from_secs(60);

/// A place first, then a delivery. Cancel safe: neither is lost half-way.
async fn next(
    deliveries: &mut Deliveries,
    places: &Arc<Semaphore>,
    soft: &CancellationToken,
) -> Option<(Delivery, OwnedSemaphorePermit)> {
    let one = async {
        let place = places.clone().acquire_owned().await.ok()?;
        Some((deliveries.recv().await?, place))
    };
    tokio::select! {
        biased;
        () = soft.cancelled() => None,
        one = one => one,
    }
}

/// One worker, apart from the loop that takes messages off the queue.
pub struct Worker {
    steps: Steps,
    broker: SharedBroker,
    settings: WorkerSettings,
    hard: CancellationToken,
    waits: Arc<Waits>,
}

impl Worker {
    pub fn new(steps: Steps, broker: SharedBroker, settings: WorkerSettings, hard: CancellationToken) -> Self {
        let waits = Waits::of_places(usize::from(settings.notice_concurrency));
        Self { steps, broker, settings, hard, waits }
    }

    /// Brings a message to its end and settles it. Runs on even when the process is asked to leave; only the hard token drops
    /// it. Cancel safe: an unsettled message comes back, and every step finds what it had done.
    pub async fn handle(&self, from: QueueName, delivery: Delivery) {
        let work = async {
            match from {
                QueueName::Parked => self.keep_parked(delivery).await,
                QueueName::Orders | QueueName::Notifications => match Envelope::decode(&delivery.body) {
                    Ok(Envelope { message: Message::Prepay(command), .. }) => {
                        self.prepay(self.steps.received(command), delivery).await;
                    }
                    Ok(Envelope { message: Message::Notice(notice), .. }) => {
                        match serde_json::from_str::<RawNotice>(&notice.raw) {
                            Ok(raw) => self.notice(&notice, &raw, delivery).await,
                            // serde's own words could quote what it met.
                            Err(error) => self.park(delivery, &format!("not a notice: {:?}", error.classify())).await,
                        }
                    }
                    Err(error) => self.park(delivery, &error.to_string()).await,
                },
            }
        };
        tokio::select! {
            () = work => {}
            () = self.hard.cancelled() => {}
        }
    }

    async fn prepay(&self, command: PrepayCommand, delivery: Delivery) {
        let outcome = match self.prepay_result(&command).await {
            Ok(outcome) => outcome,
            Err(error) => return self.give_up(&command, delivery, &error).await,
        };
        metrics::counter!("prepay_outcomes_total", "wallet" => command.wallet.as_str(), "class" => outcome.class())
            .increment(1);
        // Committed, then told, then acknowledged.
        self.tell(&command, delivery.reply_to.as_deref(), outcome).await;
        self.ack(delivery).await;
    }

    /// A store that fails is waited for with the message in hand: never requeued in a loop, never dropped. What fails for a
    /// reason of its own is tried until nobody waits for it any more.
    async fn prepay_result(&self, command: &PrepayCommand) -> Result<Outcome, StepError> {
        let wallet_called = AtomicBool::new(false);
        loop {
            let result = self.steps.prepay_again(command, &wallet_called).await;
            match (Verdict::of_prepay(&result), &result) {
                (Verdict::RetryIn(_), Err(StepError::NotYet(_))) if self.steps.clock.now() > command.not_after => {
                    return result;
                }
                (Verdict::RetryIn(gap), Err(error)) => {
                    tracing::warn!(order.id = %command.order, %error, "an order command waits");
                    tokio::time::sleep(gap).await;
                }
                _ => return result,
            }
        }
    }

    /// The phone is told all the same; a person finds the reason in the parked table.
    async fn give_up(&self, command: &PrepayCommand, delivery: Delivery, error: &StepError) {
        let outcome = Outcome::refused(Refusal::InternalError);
        let now = self.steps.clock.now();
        match self.steps.store.put_outcome(command.id, command.order, &outcome, now).await {
            Ok(standing) => self.tell(command, delivery.reply_to.as_deref(), standing).await,
            Err(error) => tracing::warn!(%error, "a parked command has no outcome"),
        }
        self.park(delivery, &error.to_string()).await;
    }

    async fn tell(&self, command: &PrepayCommand, reply_to: Option<&str>, outcome: Outcome) {
        if let Some(reply_to) = reply_to {
            let reply = Reply { command: command.id, outcome };
            self.broker.reply(reply_to, &reply, self.settings.reply_patience).await;
        }
    }

    /// Without end while the store fails. What this process does not know yet (a fresh account or key) gets one more look, for the
    /// store was read meanwhile, and then a while where there is room to wait: an account that cannot be used keeps its share of places.
    async fn notice(&self, notice: &NoticeMessage, raw: &RawNotice, delivery: Delivery) {
        let began = tokio::time::Instant::now();
        let (mut place, mut looks) = (None::<Wait>, 0_u32);
        loop {
            let result = self.steps.notice(notice.wallet, notice.account, raw).await;
            let refused = match &result {
                Err(StepError::NotYet(reason)) => Some(reason.clone()),
                _ => None,
            };
            looks = looks.saturating_add(1);
            let (gap, reason, patience) = match (Verdict::of_notice(result), refused) {
                (Verdict::Ack, _) => return self.ack(delivery).await,
                (Verdict::Park(reason), _) => return self.park(delivery, &reason).await,
                (Verdict::RetryIn(gap), None) => {
                    tokio::time::sleep(gap).await;
                    continue;
                }
                // The store refuses, whosever notice it is: it is not this account's fault.
                (Verdict::RetryIn(gap), Some(reason)) => (gap, reason, waits::SHORT),
                (Verdict::Wait(_), _) if looks == 1 => continue,
                (Verdict::Wait(reason), _) => (STORE_RETRY, reason, Duration::ZERO),
            };
            place = place.or_else(|| self.waits.take(notice.account));
            if began.elapsed() >= place.as_ref().map_or(patience, |place| place.patience) {
                return self.park(delivery, &reason).await;
            }
            tokio::time::sleep(gap).await;
        }
    }

    async fn ack(&self, delivery: Delivery) {
        if !delivery.ack().await {
            tracing::debug!("an acknowledgement was lost; the message comes again and finds its outcome");
        }
    }

    async fn park(&self, delivery: Delivery, reason: &str) {
        tracing::error!(reason, "a message is parked");
        metrics::counter!("prepay_parked_total").increment(1);
        if !delivery.park(reason).await {
            tracing::warn!("a message could not be parked; it comes again");
        }
    }

    /// Parked messages end in a table that people read; their bodies' identities are not kept.
    ///
    /// It may be news of a payment: whatever the database has against it, it is not dropped.
    async fn keep_parked(&self, delivery: Delivery) {
        let now = self.steps.clock.now();
        let mut row = parked_row(&delivery, &self.steps, now);
        let mut told_at = None::<tokio::time::Instant>;
        loop {
            match self.steps.store.park(&row, now).await {
                Ok(_) => return self.ack(delivery).await,
                Err(error) if error.is_passing() => {
                    tracing::warn!(%error, "a parked message waits for the store");
                    tokio::time::sleep(STORE_RETRY).await;
                }
                // A database may have no room for the sealed body; the masked row tells at least what it was.
                Err(error) if error.is_too_large() && row.body_sealed.is_some() => row.body_sealed = None,
                // A table that is missing, a right that was not given: an operator helps, and it stays in its queue until then.
                Err(error) => {
                    if told_at.is_none_or(|told_at| told_at.elapsed() >= REFUSED_TOLD_EVERY) {
                        told_at = Some(tokio::time::Instant::now());
                        tracing::error!(%error, id = row.id, reason = row.reason, body = row.body_masked, "a parked message cannot be kept; it waits until it can");
                    }
                    tokio::time::sleep(REFUSED_RETRY).await;
                }
            }
        }
    }
}

/// What a person needs of a parked message: kind, ids, sizes; no identity, code, signature or body of a wallet.
///
/// The whole body goes beside it sealed, so that a notice can be applied once its reason is gone.
fn parked_row(delivery: &Delivery, steps: &Steps, now: Timestamp) -> Parked {
    let (reason, queue) = match &delivery.parked {
        Some(parked) => (printable(&parked.reason, 1_000), printable(&parked.queue, 64)),
        None => ("set aside by the broker".to_owned(), String::new()),
    };
    // The same bytes parked twice are one row.
    let fallback_id = sha256_hex(&delivery.body);
    let (id, kind, order, body) = match Envelope::decode(&delivery.body) {
        Ok(Envelope { message: Message::Prepay(command), .. }) => {
            let body = json!({
                "command": command.id.to_string(),
                "merchant": command.merchant.0,
                "wallet": command.wallet.as_str(),
                "notAfter": command.not_after.rfc3339(),
            });
            (command.id.to_string(), Some("prepay"), Some(command.order), body)
        }
        Ok(Envelope { id, message: Message::Notice(notice), .. }) => {
            let (wallet, account) = (notice.wallet.as_str(), notice.account.0);
            let body = json!({ "wallet": wallet, "account": account, "bytes": notice.raw.len() });
            (id.to_string(), Some("notice"), None, body)
        }
        Err(error) => {
            let body = json!({ "bytes": delivery.body.len(), "why": error.to_string() });
            (fallback_id, None, None, body)
        }
    };
    let kind = kind.map(str::to_owned);
    let body_sealed = steps.registry.seal_parked(&id, &delivery.body);
    Parked { id, queue, kind, order, reason, body_masked: body.to_string(), body_sealed, received_at: now }
}

/// Whatever a publisher wrote into a header, as a column can hold it.
fn printable(text: &str, max: usize) -> String {
    text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(max).collect()
}
