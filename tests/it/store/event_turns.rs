//! Whose turn it is: that no merchant, endpoint or row keeps others from being told, or is given up untried.

use std::time::Duration;

use prepay::{
    domain::{
        event::{EventKind, EventState},
        id::MerchantId,
    },
    store::{DueEvent, PauseRule, Resent, Store, TryEnd},
};
use sea_orm::{ConnectionTrait, TransactionTrait};

use super::{
    events::{LEASE, WIDE, closed, fail, held, lease, let_out, paid, record, states},
    place::Place,
    shop::{payment, secs, step},
};

const FAILED: TryEnd = TryEnd::Not { trouble: "status", again_at: None };

async fn probes(store: &Store, after_s: u64, limit: u64, per_merchant: u32) -> Vec<DueEvent> {
    store.lease_probes(secs(after_s), LEASE, limit, per_merchant).await.unwrap()
}

fn merchants(events: &[DueEvent]) -> Vec<u32> {
    let mut merchants: Vec<u32> = events.iter().map(|event| event.merchant.0).collect();
    merchants.sort_unstable();
    merchants
}

pub async fn paused_endpoints_of_one_merchant_leave_the_others_their_tries(place: Place) {
    let store = &place.store;
    for n in 0..5 {
        held(store, 1, &format!("https://{n}.a.example/"), 10).await;
    }
    held(store, 2, "https://b.example/", 20).await;
    let first = probes(store, 30, 2, 3).await;
    assert_eq!(merchants(&first), [1, 2]);
    assert_eq!(merchants(&probes(store, 31, 10, 3).await), [1, 1], "three at once");
    assert_eq!(probes(store, 32, 10, 3).await, []);
    // One of them ends.
    let ended = first.iter().find(|event| event.merchant == MerchantId(1)).unwrap();
    let rule = PauseRule { after_failures: 1, first: LEASE, most: LEASE * 1_000 };
    fail(store, ended, rule, 33, 5_000).await;
    assert_eq!(merchants(&probes(store, 33, 10, 3).await), [1]);
    // Leases end, whatever became of them.
    assert_eq!(merchants(&probes(store, 50, 10, 3).await), [1, 1, 1, 2]);
}

/// Later events of orders whose first ones are held fill no places, and are held first.
pub async fn what_waits_for_a_held_event_does_not_keep_it_held(place: Place) {
    let store = &place.store;
    let one = paid(store, 1, "https://a.example/1").await;
    let two = paid(store, 1, "https://a.example/2").await;
    let other = format!("order_id = '{}'", two.id);
    refund_event(&place, &format!("order_id = '{}'", one.id), 'a').await;
    place.sql(&format!("UPDATE merchant_events SET next_at = {} WHERE kind = 'REFUND'", secs(3).ms())).await;
    place.sql(&format!("UPDATE merchant_events SET next_at = {} WHERE kind = 'PAY'", secs(4).ms())).await;
    place.sql(&format!("UPDATE merchant_events SET next_at = {} WHERE {other}", secs(4).ms() + 500)).await;
    assert_eq!(store.hold_excess_events(secs(5), 1, 100).await.unwrap(), 2);
    told_all(store, 3).await;
    // The same with room for nothing but what waits: it arrived while the first ones were held.
    place.sql("UPDATE merchant_events SET state = 'held' WHERE kind = 'PAY'").await;
    place.sql("UPDATE merchant_events SET state = 'pending' WHERE kind = 'REFUND'").await;
    assert!(let_out(store, 5, 1).await > 0);
    told_all(store, 3).await;
}

/// So many are delivered, one place at a time.
async fn told_all(store: &Store, events: usize) {
    let mut told = 0;
    for round in 0..10 {
        for event in lease(store, 5 + round, 10, WIDE).await {
            record(store, &event, TryEnd::Accepted, 5 + round).await;
            told += 1;
        }
        let_out(store, 5 + round, 1).await;
    }
    assert_eq!(told, events);
}

/// An event as a refund would write it, behind those that there are.
async fn refund_event(place: &Place, behind: &str, number: char) {
    place
        .sql(&format!(
            "INSERT INTO merchant_events (id, merchant_id, order_id, kind, refund_no, sequence, facts, url, endpoint, state, \
             tries, next_at, scheduled_from, created_at) SELECT '0198f3a4-0000-7000-8000-00000000000{number}', merchant_id, \
             order_id, 'REFUND', 'R{number}', sequence + 1, facts, url, endpoint, 'pending', 0, next_at, scheduled_from, \
             created_at FROM merchant_events WHERE {behind}"
        ))
        .await;
}

/// However long nobody was there to try it.
pub async fn no_event_is_given_up_untried(place: Place) {
    const DAYS: u64 = 200_000;
    let store = &place.store;
    let paused = held(store, 3, "https://c.example/", 10).await;
    let fresh = paid(store, 1, "https://a.example/").await;
    let crowded = paid(store, 2, "https://b.example/").await;
    place.sql("UPDATE merchant_events SET state = 'held' WHERE merchant_id = 2").await;
    let parked = async |now: u64| store.park_overdue_events(secs(1_000), secs(now), 10).await.unwrap();
    assert_eq!(parked(DAYS).await, 0);
    assert_eq!(states(store, &fresh).await, [(EventKind::Pay, EventState::Pending)]);
    assert_eq!(states(store, &crowded).await, [(EventKind::Pay, EventState::Held)]);
    // The paused endpoint is tried first, and fails.
    let probe = probes(store, DAYS, 10, 8).await.remove(0);
    let rule = PauseRule { after_failures: 1, first: LEASE, most: LEASE };
    assert_eq!(parked(DAYS + 1).await, 0, "it is on its way");
    fail(store, &probe, rule, DAYS + 1, DAYS + 5_000).await;
    assert_eq!(parked(DAYS + 2).await, 1);
    assert_eq!(states(store, &paused).await, [(EventKind::Pay, EventState::Parked)]);
}

/// The payment's transaction is not over yet: whether the close is still true is known when it is.
pub async fn a_close_is_not_sent_again_beside_a_payment_that_is_being_committed(place: Place) {
    let store = &place.store;
    let order = closed(&place).await;
    let close = lease(store, 1, 10, WIDE).await.remove(0);
    record(store, &close, TryEnd::Accepted, 2).await;
    let raw = place.raw().await;
    let payment = raw.begin().await.unwrap();
    payment.execute_unprepared(&format!("UPDATE orders SET state = 'paid' WHERE id = '{}'", order.id)).await.unwrap();
    let (asking, merchant) = (place.store.clone(), order.merchant);
    let mut resent = tokio::spawn(async move { asking.resend_event(merchant, close.id, secs(3)).await.unwrap() });
    let early = tokio::time::timeout(Duration::from_millis(500), &mut resent).await;
    assert!(early.is_err(), "it did not wait for the payment: {early:?}");
    payment.commit().await.unwrap();
    assert_eq!(resent.await.unwrap(), Resent::Withdrawn);
    assert_eq!(lease(store, 4, 10, WIDE).await, []);
    raw.close().await.unwrap();
}

/// A close is on its way, is asked for again, and then the order is paid.
pub async fn a_wish_to_send_again_does_not_let_others_overtake_the_try_under_way(place: Place) {
    let store = &place.store;
    let order = closed(&place).await;
    let close = lease(store, 1, 10, WIDE).await.remove(0);
    assert_eq!(store.resend_event(order.merchant, close.id, secs(2)).await.unwrap(), Resent::Done);
    let order = step(store, &order, payment(1)).await;
    assert_eq!(lease(store, 10, 10, WIDE).await, [], "the close may be arriving");
    let pay = lease(store, 11, 10, WIDE).await;
    assert_eq!(pay.iter().map(|event| event.kind).collect::<Vec<_>>(), [EventKind::Pay]);
    assert_eq!(states(store, &order).await[0], (EventKind::Close, EventState::Withdrawn));
}

pub async fn whoever_asks_for_an_event_again_is_tried_at_once(place: Place) {
    let store = &place.store;
    let far = 9_000;
    let order = held(store, 1, "https://a.example/", far).await;
    let event = store.events_of_order(order.id).await.unwrap().remove(0);
    let by_hand = held(store, 2, "https://b.example/", far).await;
    store.pause_endpoint(MerchantId(2), "https://b.example/", secs(3)).await.unwrap();
    let waits = store.events_of_order(by_hand.id).await.unwrap().remove(0);
    assert_eq!(probes(store, 10, 10, 8).await, []);
    for (merchant, id) in [(1, event.id), (2, waits.id)] {
        assert_eq!(store.resend_event(MerchantId(merchant), id, secs(10)).await.unwrap(), Resent::Done);
    }
    assert_eq!(store.hold_paused_events(secs(11), 10).await.unwrap(), 2);
    let probe = probes(store, 11, 10, 8).await;
    assert_eq!(probe.iter().map(|event| event.id).collect::<Vec<_>>(), [event.id]);
    // Asked for while a try is under way: one is enough.
    assert_eq!(store.resend_event(MerchantId(1), event.id, secs(12)).await.unwrap(), Resent::Done);
    let stands = store.list_endpoints(10).await.unwrap();
    assert_eq!(stands.iter().map(|endpoint| endpoint.probe_at).collect::<Vec<_>>(), [Some(secs(21)), None]);
}

/// What the gauges show: what waits for a sender, and for room at an endpoint that answers. Nothing else.
pub async fn what_waits_for_an_endpoint_or_for_its_turn_is_not_late(place: Place) {
    let store = &place.store;
    let order = paid(store, 1, "https://a.example/").await;
    refund_event(&place, "kind = 'PAY'", 'a').await;
    place.sql(&format!("UPDATE merchant_events SET next_at = {} WHERE kind = 'PAY'", secs(50).ms())).await;
    assert_eq!(store.oldest_due_event(secs(9)).await.unwrap(), None, "the refund waits for the payment");
    assert_eq!(store.oldest_due_event(secs(60)).await.unwrap(), Some(secs(50)));
    store.pause_endpoint(MerchantId(1), &order.notify_url, secs(60)).await.unwrap();
    assert_eq!(store.oldest_due_event(secs(60)).await.unwrap(), None, "its endpoint is paused");
    store.hold_paused_events(secs(60), 10).await.unwrap();
    assert_eq!(store.oldest_held_event().await.unwrap(), None);
    store.resume_endpoint(MerchantId(1), &order.notify_url, secs(61)).await.unwrap();
    assert_eq!(store.oldest_held_event().await.unwrap(), Some(secs(0)));
    assert_eq!(store.oldest_due_event(secs(61)).await.unwrap(), None);
}

/// A later release wrote it, and was rolled back.
pub async fn an_event_that_cannot_be_read_does_not_try_its_endpoint_each_time(place: Place) {
    let store = &place.store;
    let strange = paid(store, 1, "https://a.example/1").await;
    let other = paid(store, 1, "https://a.example/2").await;
    let rule = PauseRule { after_failures: 1, first: Duration::from_secs(9), most: LEASE };
    for event in lease(store, 1, 10, WIDE).await {
        fail(store, &event, rule, 1, if event.order == strange.id { 2 } else { 3 }).await;
    }
    place.sql(&format!("UPDATE merchant_events SET kind = 'LATER' WHERE order_id = '{}'", strange.id)).await;
    assert_eq!(store.hold_paused_events(secs(5), 10).await.unwrap(), 2);
    assert_eq!(probes(store, 10, 10, 8).await, [], "who waited longest cannot be read");
    let probe = probes(store, 20, 10, 8).await;
    assert_eq!(probe.iter().map(|event| event.order).collect::<Vec<_>>(), [other.id]);
    // It is given up in the end, and does not keep its order's other events waiting for ever.
    place.sql(&format!("UPDATE merchant_events SET tries = 11, next_at = 0 WHERE order_id = '{}'", strange.id)).await;
    assert_eq!(probes(store, 40, 10, 8).await, []);
    let parked = "SELECT COUNT(*) FROM merchant_events WHERE kind = 'LATER' AND state = 'parked'";
    assert_eq!(place.number(parked).await, 1);
}

pub async fn a_try_that_was_not_made_counts_for_nothing(place: Place) {
    let store = &place.store;
    let order = paid(store, 1, "https://a.example/").await;
    let event = lease(store, 1, 10, WIDE).await.remove(0);
    record(store, &event, TryEnd::NotMade { again_at: secs(4) }, 2).await;
    assert_eq!(lease(store, 3, 10, WIDE).await, []);
    let again = lease(store, 4, 10, WIDE).await.remove(0);
    assert_eq!((again.id, again.tries), (event.id, 0));
    record(store, &again, FAILED, 5).await;
    assert_eq!(states(store, &order).await, [(EventKind::Pay, EventState::Parked)]);
}
