use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use prepay::{
    domain::{
        attempt::Retirement,
        id::{AttemptNo, OrderId},
        order::{Order, OrderEvent},
        time::Timestamp,
    },
    store::{Commit, Committed, Inserted, Postponed, Store},
};
use tokio::sync::Mutex;

use super::{
    orders::{disputed_by, other_amount},
    place::Place,
    shop::{NOW, attempt, enrolled, inserted, moved, secs, started, step, step_at},
    turns::{FAST, lease_at},
};

/// An order with an attempt due 5 s from `NOW`.
async fn waiting(store: &Store) -> Order {
    let order = inserted(store).await;
    let change = moved(&order, started(1));
    assert_eq!(store.commit(Commit { moved: &change, outcome: None, at: NOW }).await.unwrap(), Committed::Done);
    change.order
}

async fn lease(store: &Store, now: Timestamp, limit: usize) -> Vec<(OrderId, AttemptNo)> {
    let leased = lease_at(store, now, limit, FAST).await;
    leased.taken.into_iter().map(|(_, question)| question).collect()
}

pub async fn no_question_is_leased_twice(place: Place) {
    const ALL: usize = 60;
    enrolled(&place.store).await;
    for _ in 0..ALL {
        waiting(&place.store).await;
    }
    assert_eq!(lease(&place.store, secs(4), 10).await, [], "not yet");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let (store, seen) = (place.store.clone(), seen.clone());
            tokio::spawn(async move {
                let deadline = Instant::now() + Duration::from_secs(60);
                while seen.lock().await.len() < ALL {
                    assert!(Instant::now() < deadline, "the workers got stuck");
                    let leased = lease(&store, secs(5), 7).await;
                    assert!(leased.len() <= 7, "{}", leased.len());
                    seen.lock().await.extend(leased);
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    let seen = seen.lock().await;
    assert_eq!((seen.len(), seen.iter().collect::<HashSet<_>>().len()), (ALL, ALL));
    assert_eq!(lease(&place.store, secs(6), 100).await, []);
}

pub async fn a_lease_ends(place: Place) {
    let store = &place.store;
    enrolled(store).await;
    let order = waiting(store).await;
    let one = [(order.id, attempt(1).no)];
    assert_eq!(lease(store, secs(5), 10).await, one);
    assert_eq!(lease(store, secs(34), 10).await, [], "leased");
    assert_eq!(lease(store, secs(35), 10).await, one, "its time is over");

    // Another change leaves the lease alone.
    let order = step(store, &order, OrderEvent::SentAgain { attempt: attempt(1).no }).await;
    assert_eq!(lease(store, secs(36), 10).await, []);
    // The question was asked: due again when scheduled, the lease is gone.
    let order = step_at(store, &order, OrderEvent::Asked { attempt: attempt(1).no }, secs(30)).await;
    assert_eq!(lease(store, secs(59), 10).await, []);
    assert_eq!(lease(store, secs(60), 10).await, one);
    // Settled: never again.
    step(store, &order, OrderEvent::AttemptRetired { attempt: attempt(1).no, how: Retirement::Closed }).await;
    assert_eq!(lease(store, secs(4000), 10).await, []);
}

/// The wallet had its turn with one it left unanswered; one that found no room had none.
pub async fn a_question_is_put_off_by_what_became_of_it(place: Place) {
    let store = &place.store;
    enrolled(store).await;
    let order = waiting(store).await;
    for (why, wanted) in [(Postponed::NoRoom, 1), (Postponed::NoAnswer, 0)] {
        let asked = store.load_order(order.id).await.unwrap().unwrap();
        let now = asked.attempts[0].next_query_at.unwrap();
        assert!(store.pull_query_forward(order.id, now, Duration::from_secs(3)).await.unwrap());
        assert_eq!(lease(store, now, 10).await.len(), 1);
        let again = now.plus(Duration::from_secs(20));
        store.postpone_query(order.id, &asked.attempts[0], again, why).await.unwrap();
        assert_eq!(place.number("SELECT COUNT(*) FROM attempts WHERE query_wanted = TRUE").await, wanted, "{why:?}");
        assert_eq!(lease(store, again.minus(Duration::from_secs(1)), 10).await, []);
        let put_off = store.load_order(order.id).await.unwrap().unwrap();
        assert_eq!((put_off.attempts[0].next_query_at, put_off.attempts[0].queries), (Some(again), 0));
    }
}

/// Its merchant wants it closed while the wallet hangs: the close does not wait until the hung question would be asked again.
pub async fn a_question_scheduled_anew_meanwhile_is_not_put_off(place: Place) {
    let store = &place.store;
    enrolled(store).await;
    let asked = waiting(store).await;
    assert_eq!(lease(store, secs(5), 10).await.len(), 1);
    step_at(store, &asked, OrderEvent::CloseRequested, secs(8)).await;
    store.postpone_query(asked.id, &asked.attempts[0], secs(600), Postponed::NoAnswer).await.unwrap();
    assert_eq!(lease(store, secs(8), 10).await, [(asked.id, attempt(1).no)]);
}

pub async fn a_page_pulls_a_question_forward(place: Place) {
    let store = &place.store;
    enrolled(store).await;
    let order = waiting(store).await;
    let pull = |now| async move { store.pull_query_forward(order.id, now, Duration::from_secs(3)).await.unwrap() };
    assert!(pull(secs(1)).await);
    assert!(!pull(secs(2)).await, "due already");
    assert_eq!(lease(store, secs(1), 10).await.len(), 1);

    // A change decided on what was loaded before leaves the pulled time alone.
    let event = OrderEvent::SentAgain { attempt: attempt(1).no };
    let change = moved(&order, event);
    assert_eq!(store.commit(Commit { moved: &change, outcome: None, at: NOW }).await.unwrap(), Committed::Done);
    let loaded = store.load_order(order.id).await.unwrap().unwrap();
    assert_eq!(loaded.attempts[0].next_query_at, Some(secs(1)));

    step_at(store, &loaded, OrderEvent::Asked { attempt: attempt(1).no }, secs(50)).await;
    assert!(!pull(secs(3)).await, "once in three seconds");
    assert!(pull(secs(4)).await);
    assert_eq!(lease(store, secs(4), 10).await.len(), 1);
    assert!(!store.pull_query_forward(OrderId::fresh(), secs(9), Duration::ZERO).await.unwrap());
}

pub async fn orders_that_cannot_be_closed_do_not_keep_others_open(place: Place) {
    let store = &place.store;
    let expired_at = async |expire_at| {
        let order = Order { expire_at, ..super::shop::order() };
        assert_eq!(store.insert_order(&order).await.unwrap(), Inserted::New);
        order
    };
    for n in 0..2 {
        let order = step(store, &expired_at(secs(n)).await, started(1)).await;
        let order = step(store, &order, disputed_by("2013112011001004330000121536", other_amount())).await;
        assert!(order.is_disputed() && order.state.name() == "waiting", "{order:?}");
    }
    let page = async |after| store.expired_waiting_orders(secs(100), after, 2).await.unwrap();
    let plain = expired_at(secs(3)).await;
    assert_eq!(page(None).await, (vec![plain.id], None), "a person decides about the older ones");

    // Unreadable ones have their page, and the next begins behind them; a tie is no end.
    for n in 0..2 {
        let strange = expired_at(secs(3)).await;
        place.sql(&format!("UPDATE orders SET id = '!{n}' WHERE id = '{}'", strange.id)).await;
    }
    let (first, next) = page(None).await;
    assert_eq!(first, []);
    assert_eq!(page(next.as_ref()).await, (vec![plain.id], None));
    assert_eq!(store.expired_waiting_orders(secs(3), None, 2).await.unwrap(), (vec![], None), "not yet");
}
