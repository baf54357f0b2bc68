//! What a notice's verdict hangs on: its bytes and its account's key, at the front and again at the worker. Nothing else.

use std::{sync::Arc, time::Duration};

use prepay::{
    domain::wallet::Wallet,
    gateway::RawNotice,
    queue::{
        Envelope, Health, NoticeMessage, Published, SharedBroker,
        embedded::{EmbeddedBroker, EmbeddedSettings},
        rabbitmq::RabbitBroker,
    },
    worker::{self, WorkerSettings},
};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    harness::{Via, World, until},
    sides::{Side, number},
    told::{Told, not_received, received},
    watched::Scraped,
};

/// What a caller may write there. The account is the path's and the key is the account's, whatever it says.
const HOSTS: [&str; 7] =
    ["pay.example.org", "api.mch.weixin.qq.com", "localhost", "10.0.0.1", "127.0.0.1:1", "[::1]:443", ""];

pub async fn the_host_that_a_notice_is_sent_to_changes_no_verdict(world: World) -> World {
    world.lose_all_notices();
    for side in Side::BOTH {
        let (order, _) = world.paid_untold(side.name(), side).await;
        let genuine = world.genuine(side, world.merchant_no(side), &number(&order, 1));
        let before = world.rows_about(&order).await;
        for host in HOSTS {
            let forged = genuine.bent().also("Host", host);
            assert_eq!(world.tell(&forged).await, not_received(side), "to {host:?}");
        }
        assert_eq!(world.rows_about(&order).await, before);
        // The first one pays, the others repeat it.
        for host in HOSTS {
            assert_eq!(world.tell(&genuine.also("Host", host)).await, received(side), "to {host:?}");
        }
        let paid = world.until_status(side.name(), "SUCCESS").await;
        assert_eq!(paid["anomalies"], json!([]));
    }
    world
}

/// A way onto the queue past the fronts: somebody who has the broker's password, say.
struct Road {
    broker: SharedBroker,
    /// The embedded broker of a process is nobody else's: here is one of the test's own, with a worker on the same rows.
    worker: Option<(JoinHandle<()>, CancellationToken)>,
}

impl Road {
    async fn open(world: &World) -> Self {
        if world.via == Via::Rabbitmq {
            let settings = world.settings.rabbit_settings("a stranger").unwrap();
            let broker: SharedBroker = Arc::new(RabbitBroker::start(settings));
            until("the broker is there", || async { broker.health() == Health::Ready }).await;
            return Self { broker, worker: None };
        }
        let broker: SharedBroker = Arc::new(EmbeddedBroker::new(EmbeddedSettings::default()));
        let (soft, hard) = (CancellationToken::new(), CancellationToken::new());
        let steps = world.books().await.steps;
        let work = worker::run(steps, broker.clone(), WorkerSettings::default(), soft.clone(), hard);
        Self { broker, worker: Some((tokio::spawn(work), soft)) }
    }

    /// Queues a notice as a front does, verified or not.
    async fn queue(&self, world: &World, side: Side, told: &Told) {
        let wallet = match side {
            Side::Wechat => Wallet::WechatPay,
            Side::Alipay => Wallet::Alipay,
        };
        let headers = told.headers.iter().map(|(name, value)| (name.to_lowercase(), value.clone()));
        let kept = headers.filter(|(name, _)| name.starts_with("wechatpay-") || name == "content-type");
        let raw = RawNotice { headers: kept.collect(), body: told.body.clone(), received_at: world.clock.now() };
        let raw = serde_json::to_string(&raw).unwrap();
        let envelope = Envelope::notice(NoticeMessage { account: world.account(side), wallet, raw });
        assert_eq!(self.broker.publish(&envelope, Duration::from_secs(5)).await, Published::Kept);
    }

    async fn close(self) {
        if let Some((worker, soft)) = self.worker {
            soft.cancel();
            worker.await.unwrap();
        }
        self.broker.close().await;
    }
}

/// A worker believes no queue: what does not verify is a person's, and moves nothing.
pub async fn a_queued_notice_that_does_not_verify_is_set_aside(world: World) -> World {
    world.lose_all_notices();
    let road = Road::open(&world).await;
    let counted = async || Scraped::from(&world, 0).await.sum("prepay_parked_total", &[]);
    for (parked, side) in (1..).zip(Side::BOTH) {
        let (order, _) = world.paid_untold(side.name(), side).await;
        let genuine = world.genuine(side, world.merchant_no(side), &number(&order, 1));
        let (mut rows, count) = (world.rows_about(&order).await, counted().await);
        road.queue(&world, side, &genuine.bent()).await;
        until("it is set aside", || async { world.place.rows_of("parked").await == parked }).await;
        let row = world.place.store.list_parked(1).await.unwrap().remove(0);
        assert_eq!(row.kind.as_deref(), Some("notice"), "{row:?}");
        assert!(row.reason.starts_with("does not verify: "), "{row:?}");
        rows.parked = parked;
        assert_eq!(world.rows_about(&order).await, rows, "that is all");
        assert!(counted().await > count, "an alarm can hear of it");

        // By the same road the wallet's own bytes pay: it was that bit alone.
        road.queue(&world, side, &genuine).await;
        world.until_status(side.name(), "SUCCESS").await;
        assert_eq!(world.place.rows_of("parked").await, parked);
    }
    road.close().await;
    world
}
