//! The contract in memory, and faults by seed.

use std::{sync::Arc, time::Duration};

use prepay::queue::{
    Broker, Published, QueueName, RefusedBecause,
    embedded::{EmbeddedBroker, EmbeddedFaults, EmbeddedSettings},
};
use tokio::time::{Instant, timeout};

use super::{
    PATIENCE, command,
    contract::{Rig, keeps_the_contract},
    id_of, kept, next, notice,
};

async fn rig(orders_max: Option<u32>) -> Rig {
    let mut settings = EmbeddedSettings::default();
    if let Some(max) = orders_max {
        settings.orders_max = usize::try_from(max).unwrap();
    }
    let broker = Arc::new(EmbeddedBroker::new(settings));
    Rig { front: broker.clone(), worker: broker, orders: "orders".to_owned(), _broker: Box::new(()) }
}

keeps_the_contract!(rig);

fn faulty(faults: EmbeddedFaults) -> EmbeddedBroker {
    EmbeddedBroker::new(EmbeddedSettings { faults, ..EmbeddedSettings::default() })
}

#[tokio::test(start_paused = true)]
async fn a_notification_is_kept_only_when_its_worker_has_it() {
    let broker = faulty(EmbeddedFaults::default());
    let begun = Instant::now();
    assert_eq!(broker.publish(&notice(), PATIENCE).await, Published::Refused(RefusedBecause::Full), "nobody took it");
    assert_eq!(begun.elapsed(), Duration::from_secs(3));
    assert_eq!(broker.depth(QueueName::Notifications).await.unwrap().ready, 0, "and nobody will");

    let mut notices = broker.consume(QueueName::Notifications, 1).await;
    let second = notice();
    let (published, held) = tokio::join!(broker.publish(&second, PATIENCE), next(&mut notices));
    assert_eq!(published, Published::Unknown, "a worker holds it and may yet write it");
    drop(held);
    assert!(next(&mut notices).await.ack().await);

    let third = notice();
    let (published, ()) = tokio::join!(broker.publish(&third, PATIENCE), async {
        assert!(next(&mut notices).await.park("cannot be read").await);
        let mut parked = broker.consume(QueueName::Parked, 1).await;
        assert!(next(&mut parked).await.ack().await);
    });
    assert_eq!(published, Published::Kept, "parked and then written is kept too");
}

/// What a worker sees of 200 commands: their places in the order of sending, and how each publish ended.
async fn story(faults: EmbeddedFaults) -> (Vec<Published>, Vec<usize>) {
    let broker = faulty(faults);
    let sent: Vec<_> = (0..200).map(|_| command()).collect();
    let mut ended = Vec::new();
    for envelope in &sent {
        ended.push(broker.publish(envelope, PATIENCE).await);
    }
    let mut orders = broker.consume(QueueName::Orders, 2000).await;
    let mut seen = Vec::new();
    while let Ok(Some(delivery)) = timeout(Duration::from_secs(60), orders.recv()).await {
        let id = id_of(&delivery);
        seen.push(sent.iter().position(|envelope| envelope.id == id).unwrap());
        delivery.ack().await;
    }
    (ended, seen)
}

#[tokio::test(start_paused = true)]
async fn a_seed_repeats_its_faults() {
    let faults = EmbeddedFaults {
        seed: 7,
        refuse: 100,
        drop: 100,
        double: 100,
        reorder: 300,
        delay: 300,
        delay_max: Duration::from_secs(5),
    };
    let first = story(faults).await;
    assert_eq!(first, story(faults).await);
    assert_ne!(first, story(EmbeddedFaults { seed: 8, ..faults }).await);

    let (ended, seen) = first;
    let times = |at: usize| seen.iter().filter(|seen| **seen == at).count();
    for (at, published) in ended.iter().enumerate() {
        match published {
            Published::Kept => assert!((1..=2).contains(&times(at)), "kept is delivered"),
            Published::Refused(_) => assert_eq!(times(at), 0, "refused is not"),
            Published::Unknown => assert!(times(at) <= 2),
        }
    }
    assert!(ended.contains(&Published::Refused(RefusedBecause::Full)));
    let unknown: Vec<_> = (0..200).filter(|at| ended[*at] == Published::Unknown).map(times).collect();
    assert!(unknown.contains(&0) && unknown.iter().any(|times| *times > 0), "{unknown:?}");
    assert!((0..200).any(|at| times(at) == 2));
    assert!(!seen.is_sorted());
}

#[tokio::test(start_paused = true)]
async fn without_faults_order_is_kept() {
    let (ended, seen) = story(EmbeddedFaults::default()).await;
    assert!(ended.iter().all(|published| *published == Published::Kept));
    assert_eq!(seen, (0..200).collect::<Vec<_>>());
    kept(&faulty(EmbeddedFaults::default()), &command()).await;
}
