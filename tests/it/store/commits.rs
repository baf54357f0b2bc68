use prepay::{
    domain::{
        id::CommandId,
        order::OrderEvent,
        outcome::{Outcome, Refusal},
        time::Timestamp,
    },
    store::{Commit, Committed, StoreError},
};

use super::{
    place::Place,
    shop::{NOW, inserted, moved, payment, secs, started, step, ticket},
};

pub async fn a_stale_commit_writes_nothing(place: Place) {
    let store = &place.store;
    let order = inserted(store).await;
    let before = step(store, &order, started(1)).await;
    let after = step(store, &before, ticket(1)).await;
    let history = store.history(order.id).await.unwrap();

    // Decided on `before`: a payment with an anomaly would be written, an attempt changed, an outcome kept.
    let command = CommandId::fresh();
    let late = moved(&before, payment(1));
    let commit = Commit { moved: &late, outcome: Some((command, &Outcome::Processing)), at: NOW };
    assert_eq!(store.commit(commit).await.unwrap(), Committed::Stale);
    // The same on a new attempt: of an order that was never inserted.
    let nowhere = super::shop::order();
    let lost = moved(&nowhere, started(1));
    let commit = Commit { moved: &lost, outcome: Some((command, &Outcome::Processing)), at: NOW };
    assert_eq!(store.commit(commit).await.unwrap(), Committed::Stale);

    assert_eq!(store.load_order(order.id).await.unwrap(), Some(after));
    assert_eq!(store.history(order.id).await.unwrap(), history);
    assert_eq!(store.outcome(command).await.unwrap(), None);
    assert_eq!(place.rows_of("attempts").await, 1);
    assert_eq!(place.rows_of("anomalies").await, 0);
}

/// An update that finds no row rolls everything back: the order that asks for it is not the order in the table.
pub async fn a_commit_of_a_missing_attempt_writes_nothing(place: Place) {
    let store = &place.store;
    let order = inserted(store).await;
    let order = step(store, &order, started(1)).await;
    place.sql("DELETE FROM attempts").await;
    let change = moved(&order, ticket(1));
    let err = store.commit(Commit { moved: &change, outcome: None, at: NOW }).await.unwrap_err();
    assert!(matches!(err, StoreError::Rejected { .. }), "{err:?}");
    assert_eq!(store.history(order.id).await.unwrap().len(), 1);
    assert_eq!(place.number("SELECT version FROM orders").await, 1);
}

pub async fn one_of_two_commits_wins(place: Place) {
    let mut order = inserted(&place.store).await;
    let other = place.another_store(3).await;
    for round in 0..50u64 {
        // Each round takes over from the last: its lease ran out long before the domain's `now`.
        order.lease = None;
        let at = |who: u64| secs(round * 10 + who);
        let contend = |store: prepay::store::Store, until: Timestamp| {
            let order = order.clone();
            tokio::spawn(async move {
                let command = CommandId::fresh();
                let change = moved(&order, OrderEvent::LeaseTaken { command, until });
                let refused = Outcome::refused(Refusal::TooOften);
                let commit = Commit { moved: &change, outcome: Some((command, &refused)), at: until };
                (store.commit(commit).await.unwrap(), command, until)
            })
        };
        let (one, two) = (contend(place.store.clone(), at(1)), contend(other.clone(), at(2)));
        let (one, two) = (one.await.unwrap(), two.await.unwrap());
        let (winner, loser) = match (one.0, two.0) {
            (Committed::Done, Committed::Stale) => (one, two),
            (Committed::Stale, Committed::Done) => (two, one),
            both => panic!("round {round}: {both:?}"),
        };
        order = place.store.load_order(order.id).await.unwrap().unwrap();
        assert_eq!(order.version, i64::try_from(round).unwrap() + 1);
        let lease = order.lease.unwrap();
        assert_eq!((lease.command, lease.until), (winner.1, winner.2));
        assert!(place.store.outcome(winner.1).await.unwrap().is_some());
        assert!(place.store.outcome(loser.1).await.unwrap().is_none());
    }
    let versions: Vec<_> = place.store.history(order.id).await.unwrap().iter().map(|row| row.version).collect();
    assert_eq!(versions, (1..=50).collect::<Vec<_>>());
    other.close().await;
}
