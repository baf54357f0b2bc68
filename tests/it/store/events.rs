//! Merchant events: written with the change they tell of, once, in order.

use std::time::Duration;

use prepay::domain::{
    attempt::Retirement,
    order::{Order, OrderEvent},
};

use super::{
    place::Place,
    shop::{attempt, inserted, payment, started, step},
};

async fn sequences(place: &Place, what: &str) -> i64 {
    place.number(&format!("SELECT COALESCE(MAX(sequence), 0) FROM merchant_events WHERE {what}")).await
}

async fn closed(place: &Place) -> Order {
    let order = inserted(&place.store).await;
    let order = step(&place.store, &order, started(1)).await;
    let gone = OrderEvent::AttemptRetired { attempt: attempt(1).no, how: Retirement::Closed };
    let order = step(&place.store, &order, gone).await;
    step(&place.store, &order, OrderEvent::Closed).await
}

pub async fn a_payment_writes_one_event_with_its_commit(place: Place) {
    let store = &place.store;
    let order = inserted(store).await;
    let order = step(store, &order, started(1)).await;
    assert_eq!(place.rows_of("merchant_events").await, 0);
    step(store, &order, payment(1)).await;
    assert_eq!(sequences(&place, "kind = 'PAY' AND state = 'pending'").await, 1);
    assert_eq!(place.rows_of("merchant_events").await, 1);
    tokio::time::timeout(Duration::from_secs(5), store.event_written()).await.expect("the sender is woken");
}

pub async fn a_late_payment_withdraws_the_close_that_was_not_delivered(place: Place) {
    let order = closed(&place).await;
    assert_eq!(sequences(&place, "kind = 'CLOSE' AND state = 'pending'").await, 1);
    step(&place.store, &order, payment(1)).await;
    assert_eq!(sequences(&place, "kind = 'CLOSE' AND state = 'withdrawn'").await, 1);
    assert_eq!(sequences(&place, "kind = 'PAY' AND state = 'pending'").await, 2);
    assert_eq!(place.rows_of("merchant_events").await, 2);
}
