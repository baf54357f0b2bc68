//! A pool that gives nothing any more while a fresh connection works.

use std::time::Duration;

use prepay::{
    domain::order::OrderEvent,
    store::{Commit, Store, StoreError, StoreSettings},
};
use sea_orm::{ConnectionTrait, TransactionTrait};

use super::{
    place::Place,
    shop::{NOW, inserted, moved},
};

pub async fn a_stuck_pool_is_replaced(place: Place) {
    let order = inserted(&place.store).await;
    let settings = StoreSettings {
        max_connections: 1,
        acquire_timeout_ms: 2_000,
        lock_timeout_ms: 100_000,
        statement_timeout_ms: 100_000,
        ..StoreSettings::at(&place.url)
    };
    let store = Store::connect(&settings).await.unwrap();

    // Somebody holds the row, so the one connection waits for it and nobody gets another.
    let raw = place.raw().await;
    let holder = raw.begin().await.unwrap();
    holder.execute_unprepared("UPDATE orders SET version = version").await.unwrap();
    let blocked = tokio::spawn({
        let store = store.clone();
        async move {
            let change = moved(&order, OrderEvent::WalletAsked);
            store.commit(Commit { moved: &change, outcome: None, at: NOW }).await
        }
    });

    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    let mut starved = 0;
    loop {
        match store.ping().await {
            // Before the commit took the connection, or after the pool was replaced.
            Ok(()) if starved > 0 => break,
            Ok(()) => {}
            Err(StoreError::Busy { .. }) => starved += 1,
            Err(other) => panic!("{other:?}"),
        }
        assert!(tokio::time::Instant::now() < deadline, "the pool stays stuck");
        tokio::task::yield_now().await;
    }
    assert!(!blocked.is_finished(), "the old pool's connection still waits");

    holder.rollback().await.unwrap();
    assert!(blocked.await.unwrap().is_ok(), "and finishes what it was asked");
    raw.close().await.unwrap();
    store.close().await;
}
