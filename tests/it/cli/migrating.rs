//! `prepay migrate` beside another one, and before a rollback.

use migration::MigratorTrait;

use crate::{cli::deployment::Deployment, store::place::Place};

const AT_ONCE: usize = 4;

/// Two pipelines, or an operator beside one: all end well, one of them did it.
async fn many_at_once_end_well(place: Place) {
    let mut at = Deployment::empty().await;
    at.set("PREPAY_DATABASE__URL", &place.url);
    let outs = futures_util::future::join_all((0..AT_ONCE).map(|_| at.ok(&["migrate"]))).await;
    let did = outs.iter().filter(|out| out.contains("applied m")).count();
    let found = outs.iter().filter(|out| out.contains("no migration was missing")).count();
    assert_eq!((did, found), (1, AT_ONCE - 1), "{outs:?}");
    assert_eq!(place.store.pending_migrations().await.unwrap(), Vec::<String>::new());
    assert_eq!(place.rows_of("registry").await, 1, "the first row was written once");
    let all = i64::try_from(migration::Migrator::migrations().len()).unwrap();
    assert_eq!(place.rows_of("seaql_migrations").await, all, "each was recorded once");
    assert!(at.ok(&["migrate"]).await.contains("no migration was missing"));
    at.stop().await;
}

mod on_sqlite {
    use crate::{
        cli::deployment::Deployment,
        store::place::{On, run_empty},
        trip::harness::free_addr,
    };

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn many_migrations_at_once_end_well() {
        run_empty(On::Sqlite, super::many_at_once_end_well).await;
    }

    /// The file is made by whoever is first.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn many_migrations_at_once_make_one_file() {
        let at = Deployment::empty().await;
        let outs = futures_util::future::join_all((0..super::AT_ONCE).map(|_| at.ok(&["migrate"]))).await;
        assert_eq!(outs.iter().filter(|out| out.contains("applied m")).count(), 1, "{outs:?}");
        at.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_rolled_back_image_works_on_a_later_releases_tables() {
        run_empty(On::Sqlite, |place| async move {
            let mut at = Deployment::empty().await;
            at.set("PREPAY_DATABASE__URL", &place.url);
            at.set("PREPAY_BROKER__URL", "embedded");
            at.set("PREPAY_FRONT__PUBLIC_URL", "https://pay.example.com");
            at.set_up().await;
            at.enrol().await;
            place.sql("INSERT INTO seaql_migrations (version, applied_at) VALUES ('m29990101_000009_later', 0)").await;
            let told = at.ok(&["migrate"]).await;
            assert!(told.contains("from a later release: m29990101_000009_later"), "{told}");
            let report = at.run(&["doctor", "--offline"]).await;
            assert_eq!(report.code, 0, "{}", report.out);
            assert!(report.out.contains("a later release has migrated it: m29990101_000009_later"), "{}", report.out);
            let mut serve = at.start("serve", Some(free_addr()), &[]);
            serve.until_ready().await;
            assert_eq!(serve.terminate().await, 0);
            assert!(serve.logged().contains("m29990101_000009_later"), "{}", serve.logged());

            place
                .sql("INSERT INTO seaql_migrations (version, applied_at) VALUES ('m20200101_000001_foreign', 0)")
                .await;
            assert!(at.fails(&["merchant", "list"]).await.contains("m20200101_000001_foreign"));
            at.stop().await;
        })
        .await;
    }
}

mod on_postgres {
    use crate::store::place::{On, run_empty};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn many_migrations_at_once_end_well() {
        run_empty(On::Postgres, super::many_at_once_end_well).await;
    }
}

mod on_mariadb {
    use crate::store::place::{On, run_empty};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn many_migrations_at_once_end_well() {
        run_empty(On::Mariadb, super::many_at_once_end_well).await;
    }
}
