//! What must hold after every trip, whatever it was about (I3, I4, I5, I7, I8, I9): the wallets' ledger against our rows.

use std::collections::BTreeMap;

use prepay::domain::{attempt::AttemptState, id::OrderId, order::Order, order::OrderState};
use sea_orm::{ConnectionTrait, Statement};
use simulator::{Call, Event};

use super::harness::World;

/// Looks at every order of the deployment. Called at the end of every test that got there.
pub async fn assert_all_hold(world: &World) {
    for id in order_ids(world).await {
        let order = world.place.store.load_order(id).await.unwrap().unwrap();
        assert_wallets_agree(world, &order);
        let versions: Vec<i64> =
            world.place.store.history(id).await.unwrap().into_iter().map(|row| row.version).collect();
        assert!(versions.windows(2).all(|pair| pair[1] == pair[0] + 1), "{id}: a gap in {versions:?}");
        assert!(versions.last().is_none_or(|last| *last == order.version), "{id}: {versions:?} {}", order.version);
    }
    assert_codes_spent_once(world);
}

fn assert_wallets_agree(world: &World, order: &Order) {
    let (ledger, id) = (world.sim.ledger(), order.id.to_string());
    assert!(ledger.payable_at_once_max(&id) <= 1, "{id}: two numbers could be paid at one time");
    let payments = ledger.payments(&id);
    assert!(payments.len() <= 1, "{id} was paid twice: {payments:?}");
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
