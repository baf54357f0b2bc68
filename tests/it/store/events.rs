//! Merchant events: written with the change they tell of, once, in order.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use prepay::{
    domain::{
        attempt::{Payment, Retirement},
        event::{EventKind, EventState, NotifyId},
        id::{MerchantId, TradeNo},
        order::{Order, OrderEvent},
    },
    store::{DeliveryCaps, DueEvent, EventFilter, Inserted, PauseRule, ResendMany, Resent, Store, Tried, TryEnd},
};
use tokio::sync::Mutex;

use super::{
    place::Place,
    shop::{NOW, attempt, inserted, payment, secs, started, step},
};

async fn sequences(place: &Place, what: &str) -> i64 {
    place.number(&format!("SELECT COALESCE(MAX(sequence), 0) FROM merchant_events WHERE {what}")).await
}

pub(super) async fn closed(place: &Place) -> Order {
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

pub(super) const LEASE: Duration = Duration::from_secs(10);
pub(super) const WIDE: DeliveryCaps = DeliveryCaps { per_endpoint: 100, per_merchant: 100 };

/// An order of this merchant that is paid, to be told there.
pub(super) async fn paid(store: &Store, merchant: u32, url: &str) -> Order {
    let order = Order { merchant: MerchantId(merchant), notify_url: url.into(), ..super::shop::order() };
    assert_eq!(store.insert_order(&order).await.unwrap(), Inserted::New);
    let order = step(store, &order, started(1)).await;
    step(store, &order, payment(1)).await
}

pub(super) async fn lease(store: &Store, after_s: u64, limit: u64, caps: DeliveryCaps) -> Vec<DueEvent> {
    store.lease_due_events(secs(after_s), LEASE, limit, caps).await.unwrap()
}

/// One call of the tending, from the first endpoint on.
pub(super) async fn let_out(store: &Store, after_s: u64, per_endpoint: u64) -> u64 {
    store.release_held_events(secs(after_s), per_endpoint, None).await.unwrap().0
}

/// Not accepted, and its endpoint's fault.
pub(super) async fn fail(store: &Store, event: &DueEvent, rule: PauseRule, at_s: u64, again_s: u64) {
    record(store, event, TryEnd::Not { trouble: "status", again_at: Some(secs(again_s)) }, at_s).await;
    store.endpoint_failed(event, rule, secs(at_s)).await.unwrap();
}

/// An event of this merchant that waits at an endpoint which is paused by its first failure, tried again from then on.
pub(super) async fn held(store: &Store, merchant: u32, url: &str, probe_s: u64) -> Order {
    let order = paid(store, merchant, url).await;
    let rule = PauseRule { after_failures: 1, first: Duration::from_secs(probe_s - 1), most: LEASE * 1_000 };
    for event in lease(store, 1, 100, WIDE).await {
        fail(store, &event, rule, 1, 2).await;
    }
    store.hold_paused_events(secs(2), 100).await.unwrap();
    order
}

pub(super) async fn record(store: &Store, event: &DueEvent, end: TryEnd, after_s: u64) {
    store.record_try(event, Tried { status: Some(200), end }, secs(after_s)).await.unwrap();
}

pub(super) async fn states(store: &Store, order: &Order) -> Vec<(EventKind, EventState)> {
    store.events_of_order(order.id).await.unwrap().into_iter().map(|event| (event.kind, event.state)).collect()
}

/// A second event of every order, as a refund would write it.
async fn second_events(place: &Place) {
    place
        .sql(
            "INSERT INTO merchant_events (id, merchant_id, order_id, kind, refund_no, sequence, facts, url, endpoint, state, \
             tries, next_at, scheduled_from, created_at) SELECT '0198f3a4-0000-7000-8000-000000000009', merchant_id, \
             order_id, 'REFUND', 'R1', sequence + 1, facts, url, endpoint, 'pending', 0, next_at, scheduled_from, created_at \
             FROM merchant_events",
        )
        .await;
}

pub async fn a_second_payment_writes_no_second_event(place: Place) {
    let store = &place.store;
    let order = paid(store, 7, "https://a.example/n").await;
    let again = OrderEvent::PaymentConfirmed {
        attempt: attempt(1).no,
        payment: Payment { trade_no: TradeNo::parse("4200000000").unwrap(), payer_amount: None, paid_at: secs(20) },
    };
    step(store, &order, again).await;
    assert_eq!(states(store, &order).await, [(EventKind::Pay, EventState::Pending)]);
    assert_eq!(place.rows_of("anomalies").await, 1);
}

pub async fn every_endpoint_has_its_turn_and_none_has_all_places(place: Place) {
    let store = &place.store;
    for n in 0..6 {
        paid(store, 1, &format!("https://a.example/{n}")).await;
    }
    for n in 0..4 {
        paid(store, 2, &format!("https://{n}.b.example/")).await;
    }
    paid(store, 3, "https://a.example/0").await;
    let caps = DeliveryCaps { per_endpoint: 2, per_merchant: 3 };
    let count =
        |events: &[DueEvent], merchant| events.iter().filter(|event| event.merchant == MerchantId(merchant)).count();
    let few = lease(store, 1, 5, caps).await;
    assert_eq!(few.len(), 5);
    assert!(count(&few, 1) == 1 && count(&few, 3) == 1, "the first of each endpoint first: {few:?}");
    let more = lease(store, 1, 100, caps).await;
    let all: Vec<DueEvent> = few.into_iter().chain(more).collect();
    assert_eq!((count(&all, 1), count(&all, 2), count(&all, 3)), (2, 3, 1));
    assert_eq!(lease(store, 1, 100, caps).await, [], "all places are taken");
    record(store, all.iter().find(|event| event.merchant == MerchantId(1)).unwrap(), TryEnd::Accepted, 2).await;
    assert_eq!(lease(store, 2, 100, caps).await.len(), 1, "a place is free again");
    assert_eq!(lease(store, 20, 100, WIDE).await.len(), 10, "leases end");
}

pub async fn the_events_of_an_order_go_out_in_sequence(place: Place) {
    let store = &place.store;
    let order = paid(store, 7, "https://a.example/n").await;
    second_events(&place).await;
    let first = lease(store, 1, 10, WIDE).await;
    assert_eq!(first.iter().map(|event| event.sequence).collect::<Vec<_>>(), [1]);
    assert_eq!(lease(store, 1, 10, WIDE).await, [], "the first is on its way");
    record(store, &first[0], TryEnd::Not { trouble: "timeout", again_at: Some(secs(60)) }, 2).await;
    assert_eq!(lease(store, 3, 10, WIDE).await, [], "the first is still to go");
    let again = lease(store, 60, 10, WIDE).await;
    assert_eq!((again.len(), again[0].id, again[0].tries), (1, first[0].id, 1));
    // Parked, it stands in nobody's way.
    record(store, &again[0], TryEnd::Not { trouble: "status", again_at: None }, 61).await;
    assert_eq!(lease(store, 62, 10, WIDE).await[0].sequence, 2);
    let row = store.event(first[0].id).await.unwrap().unwrap();
    assert_eq!((row.state, row.tries, row.last_trouble.as_deref()), (EventState::Parked, 2, Some("status")));
    assert_eq!(row.order, order.id);
}

/// Whoever lost its lease reports nothing.
pub async fn a_late_report_changes_nothing(place: Place) {
    let store = &place.store;
    let order = paid(store, 7, "https://a.example/n").await;
    let late = lease(store, 1, 10, WIDE).await.remove(0);
    let again = lease(store, 20, 10, WIDE).await.remove(0);
    record(store, &late, TryEnd::Not { trouble: "timeout", again_at: None }, 21).await;
    assert_eq!(states(store, &order).await, [(EventKind::Pay, EventState::Pending)]);
    record(store, &again, TryEnd::Accepted, 22).await;
    assert_eq!(states(store, &order).await, [(EventKind::Pay, EventState::Delivered)]);
}

pub async fn a_close_on_its_way_when_the_payment_comes_is_not_sent_again(place: Place) {
    let store = &place.store;
    let order = closed(&place).await;
    let close = lease(store, 1, 10, WIDE).await.remove(0);
    let order = step(store, &order, payment(1)).await;
    assert_eq!(lease(store, 2, 10, WIDE).await, [], "the close may be arriving");
    record(store, &close, TryEnd::Not { trouble: "timeout", again_at: Some(secs(4)) }, 3).await;
    assert_eq!(
        states(store, &order).await,
        [(EventKind::Close, EventState::Withdrawn), (EventKind::Pay, EventState::Pending)]
    );
    let pay = lease(store, 3, 10, WIDE).await;
    assert!(pay.len() == 1 && pay[0].facts.contains("\"anomaly\":\"LATE_PAYMENT\""), "{pay:?}");
    assert_eq!(store.resend_event(order.merchant, close.id, secs(5)).await.unwrap(), Resent::Withdrawn);
}

pub async fn a_paused_endpoint_is_tried_by_one_event_at_a_time(place: Place) {
    let store = &place.store;
    let rule = PauseRule { after_failures: 2, first: Duration::from_secs(10), most: Duration::from_secs(15) };
    for n in 0..4 {
        paid(store, 1, &format!("https://a.example/{n}")).await;
    }
    let other = paid(store, 2, "https://a.example/0").await;
    let due = lease(store, 1, 10, WIDE).await;
    let of_one: Vec<_> = due.iter().filter(|event| event.merchant == MerchantId(1)).collect();
    for (event, paused) in of_one.iter().take(2).zip([false, true]) {
        record(store, event, TryEnd::Not { trouble: "status", again_at: Some(secs(5)) }, 2).await;
        assert_eq!(store.endpoint_failed(event, rule, secs(2)).await.unwrap(), paused);
    }
    // Its events are put aside as they become due; the other merchant's on the same server are not.
    assert_eq!(store.hold_paused_events(secs(11), 100).await.unwrap(), 4);
    assert_eq!(lease(store, 11, 10, WIDE).await.len(), 1);
    assert_eq!(states(store, &other).await, [(EventKind::Pay, EventState::Pending)]);
    assert_eq!(let_out(store, 11, 10).await, 0);
    assert_eq!(store.lease_probes(secs(11), LEASE, 10, 8).await.unwrap(), [], "not yet");
    let probe = store.lease_probes(secs(12), LEASE, 10, 8).await.unwrap();
    assert_eq!(probe.len(), 1);
    assert_eq!(store.lease_probes(secs(13), LEASE, 10, 8).await.unwrap(), [], "one at a time");
    record(store, &probe[0], TryEnd::Not { trouble: "status", again_at: Some(secs(300)) }, 14).await;
    assert!(store.endpoint_failed(&probe[0], rule, secs(14)).await.unwrap());
    let endpoints = store.list_endpoints(10).await.unwrap();
    assert_eq!((endpoints.len(), endpoints[0].failures, endpoints[0].probe_at), (1, 3, Some(secs(29))));
    assert_eq!(endpoints[0].origin, "https://a.example");
    // It answers: all come back, a part at a time.
    let probe = store.lease_probes(secs(30), LEASE, 10, 8).await.unwrap();
    record(store, &probe[0], TryEnd::Accepted, 31).await;
    store.endpoint_answered(&probe[0].endpoint, secs(31)).await.unwrap();
    assert_eq!(let_out(store, 31, 1).await, 1);
    assert_eq!(let_out(store, 31, 1).await, 0, "so many wait already");
    assert_eq!(let_out(store, 31, 10).await, 2);
}

pub async fn a_person_pauses_an_endpoint_and_its_events_are_not_given_up(place: Place) {
    let store = &place.store;
    let (merchant, url) = (MerchantId(1), "https://a.example/0");
    let order = paid(store, 1, url).await;
    store.pause_endpoint(merchant, "https://A.example", secs(1)).await.unwrap();
    assert_eq!(lease(store, 2, 10, WIDE).await, []);
    assert_eq!(store.hold_paused_events(secs(2), 10).await.unwrap(), 1);
    assert_eq!(store.lease_probes(secs(9_999), LEASE, 10, 8).await.unwrap(), []);
    assert_eq!(store.park_overdue_events(secs(90_000), secs(99_999), 10).await.unwrap(), 0);
    // However long that took, they are tried as if they were new.
    assert!(store.resume_endpoint(merchant, url, secs(200_000)).await.unwrap());
    assert!(!store.resume_endpoint(MerchantId(2), url, secs(200_000)).await.unwrap());
    assert_eq!(store.park_overdue_events(secs(200_000), secs(200_001), 10).await.unwrap(), 0);
    assert_eq!(let_out(store, 200_001, 10).await, 1);
    assert_eq!(states(store, &order).await, [(EventKind::Pay, EventState::Pending)]);
}

pub async fn events_are_sent_again_by_number_and_by_span(place: Place) {
    let store = &place.store;
    let orders = [paid(store, 1, "https://a.example/0").await, paid(store, 1, "https://a.example/1").await];
    for event in lease(store, 1, 10, WIDE).await {
        record(store, &event, TryEnd::Not { trouble: "status", again_at: None }, 2).await;
    }
    let which = ResendMany { merchant: MerchantId(1), state: EventState::Parked, from: NOW, to: secs(1), limit: 1 };
    let none = ResendMany { merchant: MerchantId(2), ..which };
    assert_eq!(store.resend_events(none, secs(3)).await.unwrap(), (0, false));
    let before = ResendMany { to: NOW, from: NOW.minus(LEASE), ..which };
    assert_eq!(store.resend_events(before, secs(3)).await.unwrap(), (0, false));
    assert_eq!(store.resend_events(which, secs(3)).await.unwrap(), (1, true));
    assert_eq!(store.resend_events(which, secs(3)).await.unwrap(), (1, false));
    let due = lease(store, 3, 10, WIDE).await;
    assert!(due.len() == 2 && due.iter().all(|event| event.tries == 0), "{due:?}");
    record(store, &due[0], TryEnd::Accepted, 4).await;
    assert_eq!(store.resend_event(MerchantId(2), due[0].id, secs(5)).await.unwrap(), Resent::NoSuch);
    assert_eq!(store.resend_event(MerchantId(1), NotifyId::fresh(), secs(5)).await.unwrap(), Resent::NoSuch);
    assert_eq!(store.resend_event(MerchantId(1), due[0].id, secs(5)).await.unwrap(), Resent::Done);
    assert_eq!(store.oldest_due_event(secs(6)).await.unwrap(), Some(secs(3)));
    let listed = store.list_events(EventFilter { merchant: Some(MerchantId(1)), state: None }, 10).await.unwrap();
    assert_eq!(listed.len(), orders.len());
}

pub async fn no_event_is_leased_twice(place: Place) {
    const ALL: usize = 40;
    for n in 0..ALL {
        paid(&place.store, 1, &format!("https://{n}.example/")).await;
    }
    let seen = Arc::new(Mutex::new(Vec::new()));
    let senders: Vec<_> = (0..4)
        .map(|_| {
            let (store, seen) = (place.store.clone(), seen.clone());
            tokio::spawn(async move {
                let deadline = Instant::now() + Duration::from_secs(60);
                while seen.lock().await.len() < ALL {
                    assert!(Instant::now() < deadline, "the senders got stuck");
                    let leased = lease(&store, 5, 7, WIDE).await;
                    seen.lock().await.extend(leased.into_iter().map(|event| event.id));
                }
            })
        })
        .collect();
    for sender in senders {
        sender.await.unwrap();
    }
    let seen = seen.lock().await;
    assert_eq!((seen.len(), seen.iter().collect::<HashSet<_>>().len()), (ALL, ALL));
}

pub async fn a_long_queue_of_one_endpoint_is_held_and_let_out_in_parts(place: Place) {
    let store = &place.store;
    for n in 0..9 {
        paid(store, 1, &format!("https://a.example/{n}")).await;
    }
    for n in 0..4 {
        paid(store, 2, &format!("https://a.example/{n}")).await;
    }
    assert_eq!(store.hold_excess_events(secs(1), 5, 100).await.unwrap(), 0, "that is not long");
    assert_eq!(store.hold_excess_events(secs(1), 2, 3).await.unwrap(), 3, "so many at once");
    assert_eq!(store.hold_excess_events(secs(1), 2, 100).await.unwrap(), 4);
    let due = lease(store, 1, 100, WIDE).await;
    assert_eq!(due.len(), 6);
    assert_eq!(store.lease_probes(secs(1), LEASE, 10, 8).await.unwrap(), [], "nothing is wrong with it");
    assert_eq!(let_out(store, 1, 3).await, 1, "two are on their way");
    for event in &due {
        record(store, event, TryEnd::Accepted, 2).await;
    }
    assert_eq!(let_out(store, 2, 3).await, 2);
    assert_eq!(lease(store, 3, 100, WIDE).await.len(), 3);
    assert_eq!(let_out(store, 3, 100).await, 4);
}

pub async fn paused_endpoints_with_nothing_to_send_do_not_keep_others_from_being_tried(place: Place) {
    let store = &place.store;
    // Paused long ago; what waits there is not due for long.
    for n in 0..3 {
        let order = held(store, 1, &format!("https://{n}.example/"), 10).await;
        place
            .sql(&format!("UPDATE merchant_events SET next_at = {} WHERE order_id = '{}'", secs(5_000).ms(), order.id))
            .await;
    }
    let late = held(store, 2, "https://late.example/", 30).await;
    let early = held(store, 3, "https://early.example/", 20).await;
    let probes = store.lease_probes(secs(40), LEASE, 1, 8).await.unwrap();
    assert_eq!(probes.iter().map(|event| event.order).collect::<Vec<_>>(), [early.id], "who waited longest");
    assert!(probes[0].probe);
    let probes = store.lease_probes(secs(40), LEASE, 1, 8).await.unwrap();
    assert_eq!(probes.iter().map(|event| event.order).collect::<Vec<_>>(), [late.id]);
}

pub async fn what_waits_for_its_next_try_keeps_nothing_held(place: Place) {
    let store = &place.store;
    for n in 0..9 {
        paid(store, 1, &format!("https://a.example/{n}")).await;
    }
    assert_eq!(store.hold_excess_events(secs(1), 3, 100).await.unwrap(), 6);
    for event in lease(store, 1, 100, WIDE).await {
        record(store, &event, TryEnd::Not { trouble: "status", again_at: Some(secs(600)) }, 2).await;
    }
    assert_eq!(let_out(store, 3, 3).await, 3);
    assert_eq!(let_out(store, 3, 3).await, 0);
}

pub async fn tries_under_way_when_a_pause_begins_do_not_make_it_longer(place: Place) {
    let store = &place.store;
    let rule = PauseRule { after_failures: 2, first: Duration::from_secs(15), most: Duration::from_secs(600) };
    for n in 0..8 {
        paid(store, 1, &format!("https://a.example/{n}")).await;
    }
    for event in lease(store, 1, 10, WIDE).await {
        fail(store, &event, rule, 2, 5).await;
    }
    let stands = || async { store.list_endpoints(10).await.unwrap().remove(0) };
    let endpoint = stands().await;
    assert_eq!((endpoint.paused, endpoint.failures, endpoint.probe_at), (true, 2, Some(secs(17))));
    store.hold_paused_events(secs(6), 100).await.unwrap();
    let probe = store.lease_probes(secs(17), LEASE, 10, 8).await.unwrap().remove(0);
    fail(store, &probe, rule, 18, 60).await;
    assert_eq!(stands().await.probe_at, Some(secs(48)), "a probe that fails doubles it");
}

pub async fn held_events_are_let_out_endpoint_after_endpoint(place: Place) {
    const ENDPOINTS: u64 = 66;
    let store = &place.store;
    for n in 0..ENDPOINTS {
        let url = format!("https://{n}.example/");
        let merchant = 1 + u32::try_from(n).unwrap();
        paid(store, merchant, &url).await;
        store.pause_endpoint(MerchantId(merchant), &url, secs(1)).await.unwrap();
    }
    assert_eq!(store.hold_paused_events(secs(1), 1_000).await.unwrap(), ENDPOINTS);
    place.sql("UPDATE endpoints SET paused = (1 = 0), by_hand = (1 = 0)").await;
    let (first, next) = store.release_held_events(secs(2), 0, None).await.unwrap();
    assert_eq!(first, 0, "nobody may send anything");
    let (rest, next) = store.release_held_events(secs(2), 1, next.as_ref()).await.unwrap();
    assert_eq!((rest, &next), (2, &None), "the last ones have their turn");
    assert_eq!(
        store.release_held_events(secs(2), 1, next.as_ref()).await.unwrap().0,
        ENDPOINTS - 2,
        "and then the first"
    );
}

pub async fn a_close_that_a_payment_overtook_is_never_sent_again(place: Place) {
    let store = &place.store;
    // Delivered before the payment, and while it came.
    for before in [true, false] {
        let order = closed(&place).await;
        let close = lease(store, 1, 10, WIDE).await.remove(0);
        if before {
            record(store, &close, TryEnd::Accepted, 2).await;
            assert_eq!(
                store.resend_event(order.merchant, close.id, secs(3)).await.unwrap(),
                Resent::Done,
                "still true"
            );
            let again = lease(store, 3, 10, WIDE).await.remove(0);
            record(store, &again, TryEnd::Accepted, 3).await;
        }
        step(store, &order, payment(1)).await;
        if !before {
            record(store, &close, TryEnd::Accepted, 4).await;
        }
        assert_eq!(store.resend_event(order.merchant, close.id, secs(5)).await.unwrap(), Resent::Withdrawn);
        let pay = lease(store, 5, 10, WIDE).await.remove(0);
        record(store, &pay, TryEnd::Accepted, 6).await;
        let which =
            ResendMany { merchant: order.merchant, state: EventState::Delivered, from: NOW, to: secs(1), limit: 10 };
        let paid_ones = if before { 1 } else { 2 };
        assert_eq!(store.resend_events(which, secs(7)).await.unwrap(), (paid_ones, false), "the payments alone");
        for event in lease(store, 7, 10, WIDE).await {
            assert_eq!(event.kind, EventKind::Pay);
            record(store, &event, TryEnd::Accepted, 8).await;
        }
    }
}

pub async fn a_wish_to_send_again_during_a_try_is_not_lost(place: Place) {
    let store = &place.store;
    let order = paid(store, 1, "https://a.example/n").await;
    let running = lease(store, 1, 10, WIDE).await.remove(0);
    assert_eq!(store.resend_event(MerchantId(1), running.id, secs(2)).await.unwrap(), Resent::Done);
    record(store, &running, TryEnd::Accepted, 3).await;
    assert_eq!(states(store, &order).await, [(EventKind::Pay, EventState::Pending)]);
    assert_eq!(lease(store, 10, 10, WIDE).await, [], "the try under way may be arriving");
    let again = lease(store, 11, 10, WIDE).await.remove(0);
    assert_eq!((again.id, again.tries), (running.id, 0));
    record(store, &again, TryEnd::Accepted, 12).await;
    assert_eq!(states(store, &order).await, [(EventKind::Pay, EventState::Delivered)]);
}

pub async fn a_merchant_of_many_endpoints_takes_turns_with_the_others(place: Place) {
    let store = &place.store;
    for n in 0..4 {
        paid(store, 1, &format!("https://{n}.a.example/")).await;
    }
    let young = paid(store, 2, "https://b.example/").await;
    place.sql(&format!("UPDATE merchant_events SET next_at = next_at + 500 WHERE order_id = '{}'", young.id)).await;
    let due = lease(store, 1, 2, WIDE).await;
    let mut merchants: Vec<u32> = due.iter().map(|event| event.merchant.0).collect();
    merchants.sort_unstable();
    assert_eq!(merchants, [1, 2]);
}

pub async fn a_long_queue_of_one_merchant_is_held_over_all_its_endpoints(place: Place) {
    let store = &place.store;
    for n in 0..9 {
        paid(store, 1, &format!("https://{n}.a.example/")).await;
    }
    paid(store, 2, "https://b.example/").await;
    assert_eq!(store.hold_excess_events(secs(1), 1, 100).await.unwrap(), 5, "four endpoints' worth is left");
    assert_eq!(let_out(store, 1, 1).await, 0, "as much is due there already");
    for event in lease(store, 1, 100, WIDE).await {
        record(store, &event, TryEnd::Accepted, 2).await;
    }
    assert_eq!(let_out(store, 2, 1).await, 4);
    assert_eq!(let_out(store, 2, 100).await, 1);
}

pub async fn a_long_queue_that_cannot_be_read_keeps_no_other_from_being_held(place: Place) {
    let store = &place.store;
    for n in 0..9 {
        for (merchant, host) in [(1, "a"), (2, "b"), (3, "c")] {
            paid(store, merchant, &format!("https://{host}.example/{n}")).await;
        }
    }
    place.sql("UPDATE merchant_events SET merchant_id = -1 WHERE merchant_id = 2").await;
    assert_eq!(store.hold_excess_events(secs(1), 2, 100).await.unwrap(), 14, "seven of either other");
}

pub async fn an_event_that_cannot_be_read_keeps_no_other_waiting(place: Place) {
    let store = &place.store;
    let later = paid(store, 1, "https://a.example/1").await;
    let ours = paid(store, 1, "https://a.example/2").await;
    place.sql(&format!("UPDATE merchant_events SET kind = 'LATER' WHERE order_id = '{}'", later.id)).await;
    let due = lease(store, 1, 10, WIDE).await;
    assert_eq!(due.iter().map(|event| event.order).collect::<Vec<_>>(), [ours.id]);
}
