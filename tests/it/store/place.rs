//! A database of its own for each test, gone at the end.

use std::{env, sync::Arc};

use prepay::store::{Store, StoreSettings};
use sea_orm::{ConnectionTrait, Database, DatabaseConnection};
use tempfile::TempDir;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    Sqlite,
    Postgres,
    Mariadb,
}

#[derive(Clone)]
pub struct Place {
    pub on: On,
    pub store: Store,
    pub url: String,
    /// Where a server's databases are made and dropped, and the name of this one.
    server: Option<(String, String)>,
    _folder: Option<Arc<TempDir>>,
}

/// Runs a test on a migrated database of its own; it is dropped whatever the test does.
pub async fn run<F, Fut>(on: On, test: F)
where
    F: FnOnce(Place) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    run_empty(on, |place| {
        let test = test(place.clone());
        async move {
            place.store.migrate().await.expect("migrations run");
            test.await;
        }
    })
    .await;
}

/// As [`run`], on a database without tables.
pub async fn run_empty<F, Fut>(on: On, test: F)
where
    F: FnOnce(Place) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    let place = Place::empty(on).await;
    let ended = tokio::spawn(test(place.clone())).await;
    place.drop_database().await;
    if let Err(failed) = ended {
        std::panic::resume_unwind(failed.into_panic());
    }
}

impl Place {
    async fn empty(on: On) -> Self {
        let server = match on {
            On::Sqlite => None,
            On::Postgres => Some(server_url("PREPAY_TEST_POSTGRES_URL")),
            On::Mariadb => Some(server_url("PREPAY_TEST_MYSQL_URL")),
        };
        let (url, server, folder) = match server {
            None => {
                let folder = TempDir::new().expect("a temporary folder");
                (format!("sqlite://{}/it.db", folder.path().display()), None, Some(Arc::new(folder)))
            }
            Some(server) => {
                let name = format!("it_{}", uuid::Uuid::now_v7().simple());
                let admin = Database::connect(&server).await.expect("the database server answers");
                admin.execute_unprepared(&format!("CREATE DATABASE {name}")).await.expect("a database is made");
                admin.close().await.expect("it closes");
                (with_database(&server, &name), Some((server, name)), None)
            }
        };
        let store = connect(&url, 10).await;
        Self { on, store, url, server, _folder: folder }
    }

    /// The same database through a pool of its own.
    pub async fn another_store(&self, connections: u32) -> Store {
        connect(&self.url, connections).await
    }

    /// The database without the store, to look and to spoil.
    pub async fn raw(&self) -> DatabaseConnection {
        Database::connect(&self.url).await.expect("the database answers")
    }

    pub async fn sql(&self, sql: &str) {
        let raw = self.raw().await;
        // Beside roles at work it may lose a deadlock, or SQLite's turn to write: nothing of it was done then.
        let mut tries = 0;
        while let Err(error) = raw.execute_unprepared(sql).await {
            let text = error.to_string().to_lowercase();
            assert!(tries < 10 && (text.contains("deadlock") || text.contains("locked")), "{sql}: {error}");
            tries += 1;
        }
        raw.close().await.expect("it closes");
    }

    pub async fn number(&self, sql: &str) -> i64 {
        let raw = self.raw().await;
        let statement = sea_orm::Statement::from_string(raw.get_database_backend(), sql);
        let row = raw.query_one_raw(statement).await.expect("the query runs").expect("one row");
        let number = row.try_get_by_index(0).expect("a number");
        raw.close().await.expect("it closes");
        number
    }

    pub async fn rows_of(&self, table: &str) -> i64 {
        self.number(&format!("SELECT COUNT(*) FROM {table}")).await
    }

    /// Every notice was readable, and every message ours.
    pub async fn assert_nothing_parked(&self) {
        let parked = self.store.list_parked(10).await.expect("the table is read");
        let why: Vec<_> = parked.iter().map(|row| (&row.queue, &row.reason)).collect();
        assert!(why.is_empty(), "parked: {why:?}");
    }

    async fn drop_database(self) {
        self.store.close().await;
        if let Some((server, name)) = &self.server {
            let admin = Database::connect(server).await.expect("the database server answers");
            // PostgreSQL waits for nobody: a test that failed may still hold connections.
            let force = if self.on == On::Postgres { " WITH (FORCE)" } else { "" };
            admin.execute_unprepared(&format!("DROP DATABASE {name}{force}")).await.expect("the database is dropped");
            admin.close().await.expect("it closes");
        }
    }
}

pub async fn connect(url: &str, connections: u32) -> Store {
    let settings = StoreSettings {
        max_connections: connections,
        acquire_timeout_ms: 30_000,
        lock_timeout_ms: 60_000,
        statement_timeout_ms: 60_000,
        ..StoreSettings::at(url)
    };
    Store::connect(&settings).await.expect("the store opens")
}

fn server_url(variable: &str) -> String {
    env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run tests/run"))
}

/// The server's URL with another database in its path.
fn with_database(server: &str, name: &str) -> String {
    let (scheme, rest) = server.split_once("://").expect("a URL");
    let (rest, query) = rest.split_once('?').map_or((rest, String::new()), |(rest, query)| (rest, format!("?{query}")));
    let host = rest.split('/').next().unwrap_or(rest);
    format!("{scheme}://{host}/{name}{query}")
}
