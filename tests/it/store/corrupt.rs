use prepay::store::StoreError;

use super::{
    place::{On, Place},
    shop::{inserted, started, step},
};

pub async fn a_row_that_cannot_be_read_is_named(place: Place) {
    let store = &place.store;
    let order = inserted(store).await;
    step(store, &order, started(1)).await;
    let id = order.id.to_string();
    let attempt = format!("{id}/1");

    let mut spoils = vec![
        ("orders", "state", "'odd'", "'open'", id.clone()),
        ("orders", "amount_fen", "0", "1", id.clone()),
        ("orders", "link_generation", "65536", "1", id.clone()),
        ("orders", "lease_until", "NULL", "1", id.clone()),
        ("attempts", "state", "'paid'", "'sent'", attempt.clone()),
        ("attempts", "payer_kind", "'nobody'", "'wechat_openid'", attempt.clone()),
        ("attempts", "payer_id", "'a b'", "'ab'", attempt.clone()),
    ];
    if place.on == On::Sqlite {
        // The one database that takes a text for a number.
        spoils.push(("orders", "amount_fen", "'much'", "1", id.clone()));
        spoils.push(("attempts", "sends", "'many'", "1", id.clone()));
    }
    for (table, column, odd, good, id) in spoils {
        place.sql(&format!("UPDATE {table} SET {column} = {odd}")).await;
        match store.load_order(order.id).await {
            Err(StoreError::Corrupt { table: named, column: at, id: row }) => {
                // A paid attempt without a number: the column that is missing is named.
                let column = if odd == "'paid'" { "trade_no" } else { column };
                assert_eq!((named, at.as_str(), row), (table, column, id));
            }
            other => panic!("{table}.{column} = {odd}: {other:?}"),
        }
        place.sql(&format!("UPDATE {table} SET {column} = {good}")).await;
    }
    assert!(store.load_order(order.id).await.unwrap().is_some());

    place.sql("DELETE FROM attempts").await;
    let err = store.load_order(order.id).await.unwrap_err();
    assert!(matches!(err, StoreError::Corrupt { table: "orders", .. }), "an open order without its attempt: {err:?}");
}
