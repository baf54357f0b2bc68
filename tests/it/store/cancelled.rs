//! Callers that hang up at any moment. sqlx 0.9.0 gives a connection back with an open transaction when `begin` is dropped
//! half-way (#4393); later writes then run inside it and vanish with its end.

use std::time::Duration;

use prepay::{
    domain::{
        id::{CommandId, OrderId},
        order::OrderEvent,
        outcome::Outcome,
    },
    store::{Commit, Store},
};
use tokio::time::timeout;

use super::{
    place::{On, Place},
    shop::{NOW, inserted, moved, secs},
};

/// Waits until nobody has a transaction open on this database.
async fn assert_no_open_transaction(place: &Place) {
    let open = match place.on {
        // The write lock is free.
        On::Sqlite => return place.sql("BEGIN IMMEDIATE; ROLLBACK").await,
        On::Postgres => {
            "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() \
             AND state LIKE 'idle in transaction%'"
        }
        On::Mariadb => {
            "SELECT COUNT(*) FROM information_schema.innodb_trx t JOIN information_schema.processlist p \
             ON p.id = t.trx_mysql_thread_id WHERE p.db = DATABASE() AND p.command = 'Sleep'"
        }
    };
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while place.number(open).await != 0 {
        assert!(tokio::time::Instant::now() < deadline, "a transaction stays open");
    }
}

async fn hang_up_in_a_commit(store: &Store, order: OrderId, after: Duration) {
    let order = store.load_order(order).await.unwrap().unwrap();
    let change = moved(&order, OrderEvent::WalletAsked);
    let commit = Commit { moved: &change, outcome: Some((CommandId::fresh(), &Outcome::Processing)), at: NOW };
    // Done, stale or dropped: the caller is gone, whatever it was.
    let _gone = timeout(after, store.commit(commit)).await;
}

pub async fn callers_that_hang_up_lose_no_later_write(place: Place) {
    let one = place.another_store(1).await;
    let order = inserted(&one).await.id;
    for round in 0..120u64 {
        hang_up_in_a_commit(&one, order, Duration::from_micros(round * 37 % 3000)).await;
        // The next write through the same connection: it must be there for everybody.
        let command = CommandId::fresh();
        one.put_outcome(command, order, &Outcome::Expired, secs(round)).await.unwrap();
        assert_eq!(place.store.outcome(command).await.unwrap(), Some(Outcome::Expired), "round {round}");
    }
    assert_no_open_transaction(&place).await;
    one.close().await;
    // What the store was asked for, it did, though nobody waited: every commit but the stale ones.
    let history = place.store.history(order).await.unwrap();
    let order = place.store.load_order(order).await.unwrap().unwrap();
    assert_eq!(history.len() as i64, order.version);
    assert_eq!(place.rows_of("outcomes").await, 120 + order.version);
    assert!(order.version > 0);
}

pub async fn readers_that_hang_up_leave_the_connection_in_step(place: Place) {
    let one = place.another_store(1).await;
    let (first, second) = (inserted(&one).await, inserted(&one).await);
    for round in 0..120u64 {
        let _gone = timeout(Duration::from_micros(round * 17 % 1500), one.load_order(first.id)).await;
        assert_eq!(one.load_order(second.id).await.unwrap().as_ref(), Some(&second), "round {round}");
    }
    one.close().await;
}
