//! The road between fronts and workers: one contract, kept by both brokers, and what only a real one can do to us.

mod contract;
pub mod node;
mod on_embedded;
mod on_rabbitmq;
mod policies;
mod proxy;
pub mod rabbit;
mod sample;

use std::{future::Future, time::Duration};

use prepay::{
    domain::{
        id::{AccountId, CommandId},
        wallet::Wallet,
    },
    queue::{
        Broker, Deliveries, Delivery, Envelope, NoticeMessage, Published, QueueName, RefusedBecause, SharedBroker,
    },
};
use tokio::time::{Instant, sleep, timeout};

use self::sample::command;

/// What a test waits for comes within this, on a busy machine too.
const SOON: Duration = Duration::from_secs(20);
/// So long nothing comes.
const A_WHILE: Duration = Duration::from_millis(300);
/// A caller's patience.
const PATIENCE: Duration = Duration::from_secs(10);

fn notice() -> Envelope {
    Envelope::notice(NoticeMessage { account: AccountId(1), wallet: Wallet::Alipay, raw: "{}".to_owned() })
}

async fn kept(broker: &dyn Broker, envelope: &Envelope) {
    assert_eq!(broker.publish(envelope, PATIENCE).await, Published::Kept);
}

async fn next(deliveries: &mut Deliveries) -> Delivery {
    timeout(SOON, deliveries.recv()).await.expect("a delivery comes").expect("the stream goes on")
}

async fn nothing_comes(deliveries: &mut Deliveries) {
    if let Ok(delivery) = timeout(A_WHILE, deliveries.recv()).await {
        panic!("came: {delivery:?}");
    }
}

/// A machine under load stops anybody for some milliseconds; a refusal that waited would take long each time.
async fn assert_refuses_at_once(broker: &dyn Broker, because: RefusedBecause) {
    let mut took = Vec::new();
    for _ in 0..20 {
        let envelope = command();
        let begun = Instant::now();
        assert_eq!(broker.publish(&envelope, PATIENCE).await, Published::Refused(because));
        took.push(begun.elapsed());
    }
    took.sort();
    assert!(took[10] < Duration::from_millis(5) && took[19] < PATIENCE / 2, "{took:?}");
}

fn id_of(delivery: &Delivery) -> CommandId {
    Envelope::decode(&delivery.body).expect("one of our messages").id
}

/// Waits for a condition, and says which one did not come.
async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = Instant::now() + SOON;
    while !holds().await {
        assert!(Instant::now() < deadline, "did not happen: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn until_ready(broker: &SharedBroker, queue: QueueName, ready: u32) {
    until(&format!("{ready} messages wait in {queue:?}"), || async {
        broker.depth(queue).await.is_some_and(|depth| depth.ready == ready)
    })
    .await;
}
