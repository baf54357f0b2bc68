//! Deliveries from a wallet to a merchant, with the wallet's schedule of retries.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::faults::{FaultKind, Faults, Keys, Plan};
use crate::ground::{Call, Wallet};
use crate::ledger::{Entry, Event, Ledger};

/// Time a merchant's server has to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Deliveries on the wire at one time.
const IN_FLIGHT_MAX: usize = 256;
/// Notifications that wait for their time; further ones are given up at once, and the ledger says so.
const WAITING_MAX: usize = 200_000;
/// Most of an answer that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A request to a merchant's server.
#[derive(Debug, Clone)]
pub struct Outgoing {
    pub url: String,
    pub headers: Vec<(&'static str, String)>,
    pub body: Bytes,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Incoming {
    pub status: u16,
    pub body: Bytes,
}

type Make = dyn Fn(&Plan) -> Option<Outgoing> + Send + Sync;

/// A notification and how it is delivered.
pub(crate) struct Delivery {
    pub wallet: Wallet,
    /// [`Call::Notify`] or [`Call::RefundNotify`].
    pub call: Call,
    pub merchant: String,
    pub out_trade_no: String,
    /// Set for a refund's.
    pub out_refund_no: Option<String>,
    /// Schedule time from now to the first delivery.
    pub first_after: Duration,
    /// Schedule time from each failure to the next delivery.
    pub retries: &'static [Duration],
    /// Each delivery leaves twice, at the same time.
    pub doubled: bool,
    /// Sent before the first delivery; must be refused.
    pub probe: Option<Outgoing>,
    /// Builds one delivery, freshly signed, with the lies of its plan. `None`: nothing to tell any more.
    pub make: Box<Make>,
    /// Whether an answer ends the deliveries.
    pub accepts: fn(&Incoming) -> bool,
}

/// Delivers notifications until it is stopped.
#[derive(Clone)]
pub(crate) struct Notifier {
    inner: Arc<Inner>,
}

struct Inner {
    client: reqwest::Client,
    clock: Arc<Clock>,
    faults: Arc<Faults>,
    ledger: Arc<Ledger>,
    in_flight: Semaphore,
    waiting: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
    runtime: tokio::runtime::Handle,
}

impl Notifier {
    /// Must be called within a runtime; deliveries run there.
    pub(crate) fn new(
        clock: Arc<Clock>,
        faults: Arc<Faults>,
        ledger: Arc<Ledger>,
        stop: CancellationToken,
    ) -> reqwest::Result<Self> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .timeout(ANSWER_TIMEOUT)
            .pool_idle_timeout(Duration::from_secs(5))
            .build()?;
        let inner = Inner {
            client,
            clock,
            faults,
            ledger,
            in_flight: Semaphore::new(IN_FLIGHT_MAX),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            tasks: TaskTracker::new(),
            stop,
            runtime: tokio::runtime::Handle::current(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Starts the deliveries of one notification.
    pub(crate) fn schedule(&self, delivery: Delivery) {
        let inner = self.inner.clone();
        let Ok(permit) = inner.waiting.clone().try_acquire_owned() else {
            inner.ledger.record(delivery.line(Event::NoticeGivenUp).note("too many notifications wait"));
            return;
        };
        self.inner.tasks.spawn_on(
            async move {
                tokio::select! {
                    () = inner.stop.cancelled() => {}
                    () = inner.deliver(delivery) => {}
                }
                drop(permit);
            },
            &self.inner.runtime,
        );
    }

    /// Does something after a span of schedule time, on a task of its own; not at all when too much waits already.
    pub(crate) fn later(&self, span: Duration, act: impl FnOnce() + Send + 'static) {
        let inner = self.inner.clone();
        let Ok(permit) = inner.waiting.clone().try_acquire_owned() else {
            // At once would be on the caller's stack, and under its locks.
            tracing::warn!("too much waits: a refund stays on its way");
            return;
        };
        self.inner.tasks.spawn_on(
            async move {
                tokio::select! {
                    () = inner.stop.cancelled() => {}
                    () = inner.clock.wait(span) => act(),
                }
                drop(permit);
            },
            &self.inner.runtime,
        );
    }

    /// One request, at once; `Err` says why there was no answer.
    pub(crate) async fn send(&self, outgoing: &Outgoing) -> Result<Incoming, String> {
        self.inner.send(outgoing).await
    }

    /// Ends all deliveries.
    pub(crate) async fn stop(&self) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}

impl Inner {
    async fn deliver(&self, delivery: Delivery) {
        self.clock.wait(delivery.first_after).await;
        if let Some(probe) = &delivery.probe {
            let answer = self.send(probe).await;
            let taken = answer.as_ref().is_ok_and(|answer| (delivery.accepts)(answer));
            let event = if taken { Event::ProbeAccepted } else { Event::ProbeRefused };
            self.ledger.record(delivery.line(event).status(answer.map_or(0, |answer| answer.status)));
        }
        let mut retries = delivery.retries.iter();
        loop {
            if self.deliver_once(&delivery).await {
                return;
            }
            let Some(pause) = retries.next() else { break };
            self.clock.wait(*pause).await;
        }
        self.ledger.record(delivery.line(Event::NoticeGivenUp));
    }

    /// True when nothing remains to be delivered.
    async fn deliver_once(&self, delivery: &Delivery) -> bool {
        let keys = Keys {
            merchant: Some(&delivery.merchant),
            out_trade_no: Some(&delivery.out_trade_no),
            out_refund_no: delivery.out_refund_no.as_deref(),
            code: None,
        };
        let plan = self.faults.take(delivery.wallet, delivery.call, keys);
        for kind in &plan.0 {
            match kind {
                FaultKind::Lose => {
                    self.ledger.record(delivery.line(Event::NoticeLost));
                    return false;
                }
                FaultKind::Delay { ms } => tokio::time::sleep(Duration::from_millis(*ms)).await,
                _ => {}
            }
        }
        let Some(outgoing) = (delivery.make)(&plan) else {
            return true;
        };
        if delivery.doubled || plan.0.contains(&FaultKind::Double) {
            let second = (delivery.make)(&plan).unwrap_or_else(|| outgoing.clone());
            let (first, second) =
                tokio::join!(self.deliver_as(delivery, &outgoing, &plan), self.deliver_as(delivery, &second, &plan));
            first || second
        } else {
            self.deliver_as(delivery, &outgoing, &plan).await
        }
    }

    async fn deliver_as(&self, delivery: &Delivery, outgoing: &Outgoing, plan: &Plan) -> bool {
        let sent = delivery.line(Event::NoticeSent);
        self.ledger.record(if plan.is_empty() { sent } else { sent.note(plan.names()) });
        let answer = self.send(outgoing).await;
        let taken = answer.as_ref().is_ok_and(|answer| (delivery.accepts)(answer));
        let line = delivery.line(if taken { Event::NoticeAccepted } else { Event::NoticeFailed });
        self.ledger.record(match answer {
            Ok(answer) => line.status(answer.status),
            Err(reason) => line.status(0).note(reason),
        });
        taken
    }

    async fn send(&self, outgoing: &Outgoing) -> Result<Incoming, String> {
        let _permit = self.in_flight.acquire().await.map_err(|_| "stopped".to_owned())?;
        let mut request = self.client.post(&outgoing.url).body(outgoing.body.clone());
        for (name, value) in &outgoing.headers {
            request = request.header(*name, value);
        }
        let mut answer = request.send().await.map_err(|error| reason(&error))?;
        let status = answer.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| reason(&error))? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err("the answer is too long".into());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Incoming { status, body: body.into() })
    }
}

/// The cause without the address, which may name a merchant.
fn reason(error: &reqwest::Error) -> String {
    let kind = if error.is_timeout() {
        "timeout"
    } else if error.is_connect() {
        "no connection"
    } else if error.is_builder() {
        "the address is not usable"
    } else {
        "no answer"
    };
    kind.to_owned()
}

impl Delivery {
    fn line(&self, event: Event) -> Entry {
        let line = Entry::new(self.wallet, self.call, event).merchant(&self.merchant).out_trade_no(&self.out_trade_no);
        match &self.out_refund_no {
            Some(out_refund_no) => line.out_refund_no(out_refund_no),
            None => line,
        }
    }
}
