//! What histories found, told once more by itself: steps that were held up.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use prepay::{
    clock::Clock,
    domain::{
        command::{IdentifyId, Identity, PrepayCommand},
        id::{AttemptNo, CommandId, OrderId},
        outcome::Outcome,
        wallet::Wallet,
    },
    queue::{
        Broker, Envelope, Published, QueueName,
        embedded::{EmbeddedBroker, EmbeddedSettings},
    },
    steps::deliver::{Deliverer, DeliverySettings},
    store::StoreFault,
    worker::{Worker, WorkerSettings},
};
use tokio_util::sync::CancellationToken;

use super::{
    acts::payer_id,
    deployment::{BEGINS, Deployment},
    dice::Dice,
    merchant,
    shops::SimulatedShops,
    wallet::Wallets,
};

/// Sent all the same, a close could reach its merchant after the payment that withdrew it.
#[tokio::test]
async fn an_event_that_was_held_up_is_not_sent_before_its_lease_is_over() {
    let deployment = Deployment::new("held-up").await;
    let wallets = Wallets::new(Dice::seeded(1), Clock::manual(BEGINS), false);
    wallets.books().is_calm = true;
    let steps = deployment.steps(&wallets, deployment.store.clone()).await;
    let id = OrderId::from_bytes([7; 16]);
    deployment.store.insert_order(&merchant::order(&deployment, id, BEGINS, 1800)).await.unwrap();
    merchant::close(steps.clone(), id).await;
    let deliverer = Deliverer::new(&steps, SimulatedShops { wallets: wallets.clone() }, DeliverySettings::default());
    let heard = || wallets.books().shops.iter().map(|heard| heard.kind.clone()).collect::<Vec<_>>();

    let due = deliverer.lease(1).await.unwrap().pop().unwrap();
    wallets.clock.advance(Duration::from_secs(6));
    until_told(deliverer.deliver(due)).await;
    assert!(heard().is_empty(), "a try of at most five seconds began six seconds into a lease of ten");
    assert!(deliverer.lease(1).await.unwrap().is_empty(), "its lease is not over");

    wallets.clock.advance(Duration::from_secs(4));
    let due = deliverer.lease(1).await.unwrap().pop().unwrap();
    until_told(deliverer.deliver(due)).await;
    assert_eq!(heard(), ["CLOSE"]);
}

/// The store fails after the wallet was called, and comes back when the order is free again: what was done was done by this command.
#[tokio::test]
async fn a_command_tried_again_does_not_forget_that_a_wallet_was_called() {
    let deployment = Deployment::new("tried-again").await;
    let wallets = Wallets::new(Dice::seeded(1), Clock::manual(BEGINS), false);
    wallets.books().is_calm = true;
    let id = OrderId::from_bytes([8; 16]);
    deployment.store.insert_order(&merchant::order(&deployment, id, BEGINS, 1800)).await.unwrap();
    let (failed, books) = (Arc::new(AtomicBool::new(false)), wallets.clone());
    let once = failed.clone();
    let store = deployment.store.failing(Arc::new(move || {
        let is_sent = !books.books().numbers.is_empty();
        (is_sent && !once.swap(true, Ordering::SeqCst)).then_some(StoreFault::NotDone)
    }));
    let steps = deployment.steps(&wallets, store).await;
    let command = command(&deployment, id);
    let broker = Arc::new(EmbeddedBroker::new(EmbeddedSettings::default()));
    let mut orders = broker.consume(QueueName::Orders, 1).await;
    let published = broker.publish(&Envelope::prepay(command.clone()), Duration::from_secs(1)).await;
    assert_eq!(published, Published::Kept);
    let worker = Worker::new(steps, broker, WorkerSettings::default(), CancellationToken::new());
    let mut handling = std::pin::pin!(worker.handle(QueueName::Orders, orders.recv().await.unwrap()));
    while !failed.load(Ordering::SeqCst) {
        assert!(polled(handling.as_mut()).await, "it ended before the store failed");
    }
    wallets.clock.advance(Duration::from_secs(300));
    deployment.free(id).await;
    while polled(handling.as_mut()).await {}
    assert_eq!(deployment.store.outcome(command.id).await.unwrap(), Some(Outcome::Processing));
}

/// A phone, or its merchant, moves the order while its wallet is asked: whoever moved it set no next question.
#[tokio::test]
async fn a_question_beside_another_change_sets_the_next_one() {
    let deployment = Deployment::new("beside").await;
    let wallets = Wallets::new(Dice::seeded(1), Clock::manual(BEGINS), false);
    wallets.books().is_calm = true;
    let steps = deployment.steps(&wallets, deployment.store.clone()).await;
    let id = OrderId::from_bytes([9; 16]);
    deployment.store.insert_order(&merchant::order(&deployment, id, BEGINS, 1800)).await.unwrap();
    let command = command(&deployment, id);
    let broker = Arc::new(EmbeddedBroker::new(EmbeddedSettings::default()));
    let mut orders = broker.consume(QueueName::Orders, 1).await;
    assert_eq!(broker.publish(&Envelope::prepay(command), Duration::from_secs(1)).await, Published::Kept);
    let worker = Worker::new(steps.clone(), broker, WorkerSettings::default(), CancellationToken::new());
    until_told(worker.handle(QueueName::Orders, orders.recv().await.unwrap())).await;
    let order = || async { deployment.store.load_order(id).await.unwrap().unwrap() };

    wallets.clock.advance(Duration::from_secs(5));
    wallets.books().is_awaited = false;
    let mut asking = std::pin::pin!(steps.question(id, AttemptNo::FIRST));
    while !wallets.books().is_awaited {
        assert!(polled(asking.as_mut()).await, "it ended before the wallet was asked");
    }
    merchant::revoke(steps.clone(), id).await;
    while polled(asking.as_mut()).await {}
    let attempt = order().await.attempt(AttemptNo::FIRST).unwrap().clone();
    assert_eq!(attempt.queries, 1);
    assert_eq!(attempt.next_query_at, Some(wallets.clock.now().plus(Duration::from_secs(10))));
}

fn command(deployment: &Deployment, order: OrderId) -> PrepayCommand {
    PrepayCommand {
        id: CommandId::fresh(),
        order,
        merchant: deployment.merchant,
        wallet: Wallet::WechatPay,
        generation: 0,
        identity: Identity::IdentifyId(IdentifyId(payer_id(Wallet::WechatPay, 1))),
        not_after: BEGINS.plus(Duration::from_secs(8)),
        payer_ip: None,
    }
}

/// A pause of the model ends at its next poll, and nobody wakes it here.
async fn until_told(telling: impl Future<Output = ()>) {
    let mut telling = std::pin::pin!(telling);
    while polled(telling.as_mut()).await {}
}

/// One poll, then everybody else's turn. False: it is over.
async fn polled<T>(mut step: Pin<&mut impl Future<Output = T>>) -> bool {
    let is_pending = std::future::poll_fn(|context| Poll::Ready(step.as_mut().poll(context).is_pending())).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    is_pending
}
