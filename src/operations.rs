//! The operations listener of every role, apart from the public one: `/healthz`, `/readyz`, `/metrics`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use metrics_exporter_prometheus::PrometheusHandle;
use poem::{Endpoint, EndpointExt, Request, Response, Route, endpoint::make, http::StatusCode};
use tokio_util::sync::CancellationToken;

use crate::{
    queue::{Health, QueueName, SharedBroker},
    store::Store,
    telemetry,
};

/// What readiness is made of.
#[derive(Clone)]
pub struct Ready {
    pub broker: SharedBroker,
    pub store: Store,
    /// A front lives without its database; workers and scheduler do not.
    pub needs_store: bool,
    /// A front whose broker is down or blocked still answers phones in our words, and takes merchants' orders: it is not
    /// ready before it was connected once, and stays ready after.
    pub needs_broker_always: bool,
    pub was_connected: Arc<AtomicBool>,
    /// Cancelled: the process is leaving and wants no more traffic.
    pub leaving: CancellationToken,
}

impl Ready {
    /// Why not, if not.
    async fn check(&self) -> Result<(), &'static str> {
        if self.leaving.is_cancelled() {
            return Err("leaving");
        }
        let health = self.broker.health();
        if health == Health::Ready {
            self.was_connected.store(true, Ordering::Relaxed);
        }
        match health {
            _ if !self.needs_broker_always && self.was_connected.load(Ordering::Relaxed) => {}
            Health::Ready => {}
            Health::Blocked => return Err("broker blocks publishers"),
            Health::Down => return Err("broker is not connected"),
        }
        if self.needs_store {
            match tokio::time::timeout(Duration::from_secs(2), self.store.ping()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err("database does not answer"),
            }
        }
        Ok(())
    }
}

/// The routes.
pub fn endpoint(ready: Ready) -> impl Endpoint + 'static {
    let metrics = telemetry::metrics();
    let scraped = ready.clone();
    Route::new()
        .at("/healthz", make(|_: Request| async { "ok\n" }))
        .at(
            "/readyz",
            make(move |_: Request| {
                let ready = ready.clone();
                async move { readiness(&ready).await }
            }),
        )
        .at(
            "/metrics",
            make(move |_: Request| {
                let (ready, metrics) = (scraped.clone(), metrics.clone());
                async move { scrape(&ready, metrics).await }
            }),
        )
        .map_to_response()
}

async fn readiness(ready: &Ready) -> Response {
    match ready.check().await {
        Ok(()) => Response::builder().body("ready\n"),
        Err(why) => Response::builder().status(StatusCode::SERVICE_UNAVAILABLE).body(format!("not ready: {why}\n")),
    }
}

/// Depths are asked for when they are wanted: a broker that does not answer costs one scrape its second, nobody else.
async fn scrape(ready: &Ready, handle: Option<PrometheusHandle>) -> Response {
    for (queue, name) in
        [(QueueName::Orders, "orders"), (QueueName::Notifications, "notifications"), (QueueName::Parked, "parked")]
    {
        if let Ok(Some(depth)) = tokio::time::timeout(Duration::from_secs(1), ready.broker.depth(queue)).await {
            metrics::gauge!("prepay_queue_ready", "queue" => name).set(depth.ready);
            metrics::gauge!("prepay_queue_consumers", "queue" => name).set(depth.consumers);
        }
    }
    match handle {
        Some(handle) => Response::builder().content_type("text/plain; version=0.0.4").body(handle.render()),
        None => Response::builder().status(StatusCode::SERVICE_UNAVAILABLE).body("metrics are not installed\n"),
    }
}
