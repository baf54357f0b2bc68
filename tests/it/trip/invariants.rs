//! What must hold after every trip, whatever it was about (I3, I4, I5, I7, I8, I9): the wallets' ledger against our rows.

use std::collections::{BTreeMap, BTreeSet};

use prepay::domain::{attempt::AttemptState, id::OrderId, order::AnomalyKind, order::Order, order::OrderState};
use sea_orm::{ConnectionTrait, Statement};
use simulator::{Call, Event};

use super::harness::World;

/// Looks at every order of the deployment. Called at the end of every test that got there.
pub async fn assert_all_hold(world: &World) {
    for id in order_ids(world).await {
        let order = world.place.store.load_order(id).await.unwrap().unwrap();
        assert_wallets_agree(world, &order).await;
        assert_refunds_agree(world, &order).await;
        let versions: Vec<i64> =
            world.place.store.history(id).await.unwrap().into_iter().map(|row| row.version).collect();
        assert!(versions.windows(2).all(|pair| pair[1] == pair[0] + 1), "{id}: a gap in {versions:?}");
        assert!(versions.last().is_none_or(|last| *last == order.version), "{id}: {versions:?} {}", order.version);
    }
    assert_codes_spent_once(world);
}

async fn assert_wallets_agree(world: &World, order: &Order) {
    let (ledger, id) = (world.sim.ledger(), order.id.to_string());
    assert!(ledger.payable_at_once_max(&id) <= 1, "{id}: two numbers could be paid at one time");
    let payments = ledger.payments(&id);
    let expected = world.place.store.anomalies(order.id).await.unwrap();
    let seconds: Vec<_> = expected.iter().filter(|row| row.kind == AnomalyKind::SecondPayment).collect();
    let let_go = order.attempts.iter().filter(|attempt| matches!(attempt.state, AttemptState::LetGo { .. })).count();
    assert!(payments.len() <= 1 + seconds.len() + let_go, "{id} was paid twice: {payments:?}");
    assert!(payments.iter().all(|(_, fen)| *fen == order.amount.get()), "{id}: {payments:?}");
    for attempt in &order.attempts {
        let number = order.out_trade_no(attempt.no).to_string();
        assert!(ledger.bodies_of(&number) <= 1, "{number}: other bytes under the same number");
    }
    if let Some(next) = order.next_attempt_no() {
        let unknown = order.out_trade_no(next).to_string();
        assert!(ledger.of_number(&unknown).is_empty(), "{unknown} was sent without a row");
    }
    if let OrderState::Paid { by } = order.state {
        let AttemptState::Paid { payment } = &order.attempt(by).unwrap().state else { panic!("{id}: paid by {by:?}") };
        let lines = ledger.of_number(&order.out_trade_no(by).to_string());
        let paid = lines.iter().find(|line| line.event == Event::Paid).unwrap_or_else(|| panic!("{id} was never paid"));
        assert_eq!(paid.trade_no.as_deref(), Some(payment.trade_no.as_str()), "{id}");
    }
}

/// What went back at the wallets: never more than was paid, once per number, with the bytes that were frozen, and as our rows say.
async fn assert_refunds_agree(world: &World, order: &Order) {
    let (ledger, id) = (world.sim.ledger(), order.id.to_string());
    let refunds = world.place.store.refunds_of(order.id).await.unwrap();
    for attempt in &order.attempts {
        let number = order.out_trade_no(attempt.no).to_string();
        let back = ledger.refunded(&number);
        assert!(back.iter().map(|(_, _, fen)| fen).sum::<i64>() <= order.amount.get(), "{number}: {back:?}");
        let names: BTreeSet<_> = back.iter().map(|(_, out_refund_no, _)| out_refund_no).collect();
        assert_eq!(names.len(), back.len(), "{number}: one number was refunded twice: {back:?}");
        for (_, out_refund_no, fen) in &back {
            let row = refunds.iter().find(|row| row.out_refund_no().to_string() == *out_refund_no);
            let row = row.unwrap_or_else(|| panic!("{out_refund_no} was refunded without a row"));
            assert_eq!((row.attempt, row.amount.get()), (attempt.no, *fen), "{out_refund_no}");
            assert_eq!(ledger.refund_bodies_of(&number, out_refund_no), 1, "{out_refund_no}: other bytes");
        }
        let done = refunds.iter().filter(|row| row.attempt == attempt.no && row.state.refund_status() == "SUCCESS");
        let done: i64 = done.map(|row| row.amount.get()).sum();
        assert_eq!(attempt.refunded.get(), done, "{number}");
    }
    // What ended is told, once each, whatever its state went through.
    let ended = refunds.iter().filter(|row| row.state.refund_status() != "PROCESSING").count();
    let sql = format!("SELECT COUNT(*) FROM merchant_events WHERE order_id = '{id}' AND kind = 'REFUND'");
    assert_eq!(world.place.number(&sql).await, i64::try_from(ended).unwrap(), "{id}: events of refunds");
    let back = ledger.refunded(&id);
    for row in refunds.iter().filter(|row| row.state.refund_status() == "SUCCESS") {
        let told =
            back.iter().filter(|(_, out_refund_no, _)| *out_refund_no == row.out_refund_no().to_string()).count();
        assert_eq!(told, 1, "refund {} is no refund at its wallet", row.refund_no);
    }
}

/// A code that gave a payer is never sent again.
fn assert_codes_spent_once(world: &World) {
    let mut exchanged = BTreeMap::new();
    for line in world.sim.ledger().entries().into_iter().filter(|line| line.call == Call::Exchange) {
        let Some(code) = line.code else { continue };
        let done = exchanged.entry(code.clone()).or_insert(false);
        assert!(!*done || line.event == Event::Fault, "{code} was sent again after it was exchanged");
        *done |= line.event == Event::Exchanged;
    }
}

async fn order_ids(world: &World) -> Vec<OrderId> {
    let raw = world.place.raw().await;
    let statement = Statement::from_string(raw.get_database_backend(), "SELECT id FROM orders");
    let rows = raw.query_all_raw(statement).await.expect("the query runs");
    let ids = rows.iter().map(|row| OrderId::parse(&row.try_get_by_index::<String>(0).unwrap()).unwrap()).collect();
    raw.close().await.expect("it closes");
    ids
}
