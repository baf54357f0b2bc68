use prepay::{
    domain::{id::MerchantId, wallet::Wallet},
    store::{NewAccount, StoreError},
};

use super::{
    place::{On, Place},
    shop::NOW,
};

pub async fn migrations_run_twice(place: Place) {
    assert_eq!(place.store.pending_migrations().await.unwrap(), Vec::<String>::new());
    place.store.migrate().await.unwrap();
    assert_eq!(place.store.registry_stamp().await.unwrap(), 0);
    place.store.ping().await.unwrap();
}

/// MySQL commits each table, column and index by itself.
pub async fn a_migration_cut_off_half_way_runs_again(place: Place) {
    let store = &place.store;
    let all = place.rows_of("seaql_migrations").await;
    place.sql("DELETE FROM seaql_migrations WHERE version > 'm20260101_000001_first_tables'").await;
    place.sql("DROP TABLE discrepancies").await;
    let again = i64::try_from(store.migrate().await.unwrap().len()).unwrap();
    assert_eq!((again, store.pending_migrations().await.unwrap()), (all - 1, vec![]));
    assert_eq!(place.rows_of("discrepancies").await, 0);
}

/// An image that is rolled back meets the tables of the one after it.
pub async fn a_later_releases_migrations_are_told_from_a_strangers(place: Place) {
    let store = &place.store;
    assert_eq!(store.later_migrations().await.unwrap(), Vec::<String>::new());
    place.sql("INSERT INTO seaql_migrations (version, applied_at) VALUES ('m29990101_000009_later', 0)").await;
    assert_eq!(store.pending_migrations().await.unwrap(), Vec::<String>::new());
    assert_eq!(store.later_migrations().await.unwrap(), ["m29990101_000009_later"]);
    assert_eq!(store.migrate().await.unwrap(), Vec::<String>::new());
    place.sql("INSERT INTO seaql_migrations (version, applied_at) VALUES ('m20200101_000001_foreign', 0)").await;
    let err = store.pending_migrations().await.unwrap_err();
    let StoreError::Rejected { cause } = err else { panic!("{err:?}") };
    let told = cause.to_string();
    assert!(told.contains("m20200101_000001_foreign") && !told.contains("later"), "{told}");
}

pub async fn the_clock_is_near(place: Place) {
    let machine = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let apart = place.store.now().await.unwrap().ms() - i64::try_from(machine).unwrap();
    assert!((-1000..60_000).contains(&apart), "{apart} ms");
}

pub async fn a_text_too_long_is_never_cut(place: Place) {
    let account = NewAccount {
        merchant: MerchantId(1),
        wallet: Wallet::Alipay,
        number: "9".repeat(65),
        settings: "{}".into(),
        public_keys: "[]".into(),
        created_at: NOW,
    };
    if place.on == On::Sqlite {
        // It does not look at lengths.
        let id = place.store.insert_account(&account).await.unwrap();
        assert_eq!(place.store.account(id).await.unwrap().unwrap().account.number, account.number);
        return;
    }
    let err = place.store.insert_account(&account).await.unwrap_err();
    assert!(matches!(err, StoreError::Rejected { .. }), "{err:?}");
    assert!(!format!("{err:?}").contains("999"), "values stay out of errors: {err:?}");
    assert_eq!(place.rows_of("channel_accounts").await, 0);
}

/// A database in memory lives as long as its one connection.
#[tokio::test]
async fn a_database_in_memory_works() {
    let store = super::place::connect("sqlite::memory:", 10).await;
    assert!(!store.pending_migrations().await.unwrap().is_empty());
    store.migrate().await.unwrap();
    let order = super::shop::inserted(&store).await;
    let tasks = (0..20).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { store.load_order(order.id).await.unwrap().is_some() })
    });
    for task in tasks.collect::<Vec<_>>() {
        assert!(task.await.unwrap());
    }
}

#[tokio::test]
async fn many_share_the_one_connection_of_a_database_in_memory() {
    let store = super::place::connect("sqlite::memory:", 1).await;
    store.migrate().await.unwrap();
    // A simulation may stop the clock here (`tokio::time::pause`): in memory the store holds it while it works.
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let order = super::shop::inserted(&store).await;
                super::shop::step(&store, &order, super::shop::started(1)).await;
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn a_url_that_is_none_of_ours_is_refused_without_being_told() {
    let settings = prepay::store::StoreSettings::at("mongodb://user:hunter2@example");
    let err = prepay::store::Store::connect(&settings).await.unwrap_err();
    assert!(!format!("{err:?} {settings:?}").contains("hunter2"));
}
