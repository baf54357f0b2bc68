//! What a merchant does to its order meanwhile, as the front does it for it.

use prepay::{
    domain::{
        attempt::AttemptState,
        id::{KeyId, OrderId, RefundId, RefundNo},
        money::Fen,
        order::{OrderEvent, Step},
        refund::{Initiator, Refund, RefundWish},
    },
    steps::Steps,
    store::{Commit, Committed},
};

use super::dice::Dice;

/// Every link given out so far stops working.
pub async fn revoke(steps: Steps, id: OrderId) {
    change(steps, id, OrderEvent::LinksRevoked { key: KeyId::parse("k1").unwrap() }).await;
}

/// The order is to be closed.
pub async fn close(steps: Steps, id: OrderId) {
    change(steps, id, OrderEvent::CloseRequested).await;
}

/// A part of a payment, or all of it, is to go back. Whether it may is decided where it is written down.
pub async fn refund(steps: Steps, id: OrderId, mut dice: Dice) {
    let order = steps.store.load_order(id).await.unwrap().unwrap();
    let paid: Vec<_> =
        order.attempts.iter().filter(|attempt| matches!(attempt.state, AttemptState::Paid { .. })).collect();
    if paid.is_empty() {
        return;
    }
    let wish = RefundWish {
        refund_no: RefundNo::parse(format!("R{}", dice.below(4))).unwrap(),
        fingerprint: [0; 32],
        amount: Fen::new(*dice.pick(&[1999, 1999, 700, 1, 1300])).unwrap(),
        reason: None,
        notify_url: None,
        initiator: Initiator::Merchant,
    };
    let payment = paid[dice.below(paid.len())];
    let mut refund = Refund::new(&order, payment, wish, steps.clock.now());
    refund.id = RefundId::from_bytes(dice.bytes());
    steps.store.insert_refund(&refund).await.unwrap();
}

async fn change(steps: Steps, id: OrderId, event: OrderEvent) {
    loop {
        let order = steps.store.load_order(id).await.unwrap().unwrap();
        let now = steps.clock.now();
        let Step::Moved(moved) = order.apply(event.clone(), now).unwrap() else { return };
        let commit = Commit { moved: &moved, outcome: None, at: now };
        if steps.store.commit(commit).await.unwrap() == Committed::Done {
            return;
        }
    }
}
