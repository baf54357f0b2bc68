//! What a merchant hears of its refunds: each piece of news once, in order, in the change's own transaction.

use std::time::{Duration, Instant};

use prepay::{
    domain::{
        event::{EventKind, MerchantEvent, RefundNews, deliver_again_in},
        order::Order,
        refund::{Refund, RefundEvent, RefundStep},
        time::Timestamp,
    },
    store::{
        Commit, Committed, DeliveryCaps, DueEvent, RefundCommit, RefundCommitted, RefundInserted, Store, Tried, TryEnd,
    },
};

use super::{
    place::Place,
    refunds::{happen, news, paid, refund, sent, sums},
    shop::{NOW, inserted, moved, payment, secs, started, step},
};

const UNDELIVERED: RefundEvent = RefundEvent::Undelivered { wallet_refund_no: None };
const PAID_BACK: RefundEvent = RefundEvent::PaidBack { at: NOW, wallet_refund_no: None };

/// Changes a refund and tells its merchant.
async fn tell(store: &Store, order: &Order, row: &Refund, event: RefundEvent, at: Timestamp) -> Refund {
    let RefundStep::Moved(moved) = row.apply(event, at) else { panic!("the event changes nothing") };
    let event = MerchantEvent::Refunded(RefundNews::of(&moved.refund));
    let commit = RefundCommit { moved: &moved, spacing: Duration::ZERO, told: Some((order, &event)), at };
    assert_eq!(store.commit_refund(commit).await.unwrap(), RefundCommitted::Done);
    moved.refund
}

/// "Not delivered" was told; that it arrived after all is other news, under a number that nobody has dropped as a repeat.
pub async fn a_refunds_later_news_takes_the_place_of_the_earlier(place: Place) {
    let store = &place.store;
    let order = paid(store).await;
    let new = refund(&order, "R1", 700);
    store.insert_refund(&new).await.unwrap();
    let mut row = happen(store, &new, sent()).await;
    let mut told = Vec::new();
    for event in [UNDELIVERED, PAID_BACK] {
        row = tell(store, &order, &row, event, NOW).await;
        told.push((news(&place, &order, "ABNORMAL").await, news(&place, &order, "SUCCESS").await));
    }
    assert_eq!(told, [(1, 1), (0, 1)], "`payStatus` is SUCCESS all the time");
    assert_eq!(news(&place, &order, "\"refundStatus\":\"SUCCESS\"").await, 1);
}

pub async fn a_refunds_later_news_waits_for_the_earlier_ones_try(place: Place) {
    const LEASE: Duration = Duration::from_secs(10);
    const WIDE: DeliveryCaps = DeliveryCaps { per_endpoint: 100, per_merchant: 100 };
    let store = &place.store;
    let order = paid(store).await;
    let (first, second) = (refund(&order, "R1", 700), refund(&order, "R2", 700));
    store.insert_refund(&first).await.unwrap();
    store.insert_refund(&second).await.unwrap();
    let (first, second) = (happen(store, &first, sent()).await, happen(store, &second, sent()).await);
    let lease = async |at: u64| store.lease_due_events(secs(at), LEASE, 10, WIDE).await.unwrap();
    let accepted = Tried { status: Some(200), end: TryEnd::Accepted };
    for pay in lease(1).await {
        store.record_try(&pay, accepted, secs(1)).await.unwrap();
    }
    let first = tell(store, &order, &first, UNDELIVERED, secs(2)).await;
    let running = lease(2).await.remove(0);
    tell(store, &order, &first, PAID_BACK, secs(3)).await;
    // Not even other news makes it go before.
    tell(store, &order, &second, PAID_BACK, secs(4)).await;
    assert_eq!(lease(11).await, [], "the earlier news may be arriving");
    store.record_try(&running, accepted, secs(11)).await.unwrap();
    let later = lease(12).await.remove(0);
    assert!(later.id != running.id && later.facts.contains("\"refundStatus\":\"SUCCESS\""), "{later:?}");
    assert_eq!(later.tries, 0);
}

/// Twelve tries in a day are the payment's, however many refunds are told meanwhile.
pub async fn news_of_refunds_do_not_use_up_a_payments_tries(place: Place) {
    const WIDE: DeliveryCaps = DeliveryCaps { per_endpoint: 100, per_merchant: 100 };
    let store = &place.store;
    let order = paid(store).await;
    let lease = async |at: u64| store.lease_due_events(secs(at), Duration::from_secs(1), 10, WIDE).await.unwrap();
    // As the schedule has it, with its time in seconds; the last one parks it.
    let fails = async |event: DueEvent, at: u64| {
        let again_at = deliver_again_in(event.tries + 1).map(|gap| secs(at).plus(gap));
        let end = TryEnd::Not { trouble: "status", again_at };
        store.record_try(&event, Tried { status: Some(500), end }, secs(at)).await.unwrap();
    };
    fails(lease(1).await.remove(0), 1).await;
    for n in 0..12 {
        let at = 2 + n;
        let row = refund(&order, &format!("R{n}"), 1);
        store.insert_refund(&row).await.unwrap();
        let row = happen(store, &row, sent()).await;
        tell(store, &order, &row, PAID_BACK, secs(at)).await;
        let due = lease(at).await;
        assert_eq!((due.len(), due[0].kind), (1, EventKind::Pay), "it goes first, at once");
        fails(due.into_iter().next().unwrap(), at).await;
    }
    let mut parked_at = None;
    for at in (14..25 * 3600).step_by(15) {
        for event in lease(at).await {
            if event.kind == EventKind::Refund {
                parked_at.get_or_insert(at);
            }
            fails(event, at).await;
        }
    }
    assert!(parked_at.is_some_and(|at| at > 23 * 3600), "{parked_at:?}");
}

/// A payment and two of its refunds, committed as soon as they can be.
pub async fn what_is_told_at_once_is_numbered_one_after_the_other(place: Place) {
    const ROUNDS: usize = 12;
    for _ in 0..ROUNDS {
        let order = inserted(&place.store).await;
        let order = step(&place.store, &order, started(1)).await;
        let change = moved(&order, payment(1));
        let pay = async {
            let commit = Commit { moved: &change, outcome: None, at: NOW };
            assert_eq!(place.store.commit(commit).await.unwrap(), Committed::Done);
        };
        let refunded = async |no: &str| {
            let store = place.another_store(1).await;
            let (no, order) = (format!("{no}-{}", order.id), &change.order);
            let row = refund(order, &no, 1);
            let deadline = Instant::now() + Duration::from_secs(20);
            let row = loop {
                // Set aside of a payment that may not be there yet.
                assert!(Instant::now() < deadline, "the payment does not come");
                if store.insert_refund(&row).await.unwrap() == RefundInserted::New {
                    break happen(&store, &row, sent()).await;
                }
            };
            tell(&store, order, &row, PAID_BACK, NOW).await;
            store.close().await;
        };
        tokio::join!(pay, refunded("R1"), refunded("R2"));
        let events = place.store.events_of_order(order.id).await.unwrap();
        assert_eq!(events.iter().map(|event| event.sequence).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(events[0].kind, EventKind::Pay);
    }
}

/// The change and what is told of it are one transaction.
pub async fn what_cannot_be_told_did_not_happen(place: Place) {
    let store = &place.store;
    let order = inserted(store).await;
    let order = step(store, &order, started(1)).await;
    place.sql("ALTER TABLE merchant_events RENAME COLUMN facts TO away").await;
    let change = moved(&order, payment(1));
    store.commit(Commit { moved: &change, outcome: None, at: NOW }).await.unwrap_err();
    assert_eq!(store.load_order(order.id).await.unwrap(), Some(order.clone()));
    place.sql("ALTER TABLE merchant_events RENAME COLUMN away TO facts").await;
    let order = step(store, &order, payment(1)).await;
    let row = refund(&order, "R1", 7);
    store.insert_refund(&row).await.unwrap();
    let row = happen(store, &row, sent()).await;
    let before = sums(&place).await;
    place.sql("ALTER TABLE merchant_events RENAME COLUMN facts TO away").await;
    let RefundStep::Moved(paid_back) = row.apply(PAID_BACK, NOW) else { panic!("it changes nothing") };
    let event = MerchantEvent::Refunded(RefundNews::of(&paid_back.refund));
    let commit = RefundCommit { moved: &paid_back, spacing: Duration::ZERO, told: Some((&order, &event)), at: NOW };
    store.commit_refund(commit).await.unwrap_err();
    assert_eq!((store.load_refund(row.id).await.unwrap(), sums(&place).await), (Some(row), before));
}
