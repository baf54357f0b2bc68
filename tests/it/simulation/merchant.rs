//! What a merchant does to its order meanwhile, as the front does it for it.

use std::time::Duration;

use prepay::{
    domain::{
        attempt::AttemptState,
        id::{KeyId, OrderId, OrderNo, RefundId, RefundNo},
        money::Fen,
        order::{Order, OrderEvent, OrderState, Step},
        refund::{Initiator, Refund, RefundWish},
        time::Timestamp,
    },
    steps::Steps,
    store::{Commit, Committed},
};

use super::{deployment::Deployment, dice::Dice};

/// An order as a front inserts it.
pub fn order(deployment: &Deployment, id: OrderId, now: Timestamp, expires_in_s: u64) -> Order {
    Order {
        id,
        merchant: deployment.merchant,
        order_no: OrderNo::parse(format!("No-{id}")).unwrap(),
        fingerprint: [0; 32],
        amount: Fen::new(1999).unwrap(),
        good_name: "一杯咖啡".into(),
        good_no: None,
        attach: None,
        notify_url: "https://merchant.example/notify".into(),
        wechat_mini_program: Some(deployment.wechat.1),
        alipay_mini_program: Some(deployment.alipay.1),
        created_at: now,
        expire_at: now.plus(Duration::from_secs(expires_in_s)),
        link_generation: 0,
        link_key: KeyId::parse("k1").unwrap(),
        state: OrderState::Waiting,
        version: 0,
        lease: None,
        asked_at: None,
        close_wanted_at: None,
        attempts: Vec::new(),
    }
}

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

/// A change that is decided anew whenever somebody else was first; none where it is not possible any more.
pub async fn change(steps: Steps, id: OrderId, event: OrderEvent) {
    loop {
        let order = steps.store.load_order(id).await.unwrap().unwrap();
        let now = steps.clock.now();
        let Ok(Step::Moved(moved)) = order.apply(event.clone(), now) else { return };
        let commit = Commit { moved: &moved, outcome: None, at: now };
        if steps.store.commit(commit).await.unwrap() == Committed::Done {
            return;
        }
    }
}
