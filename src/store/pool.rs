//! The connections: how each database is opened so that a commit is kept, and how a pool that got stuck is replaced.

use std::{
    fmt,
    str::FromStr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use sea_orm::{
    ConnectionTrait, DatabaseBackend, DatabaseConnection, Statement,
    sqlx::{
        self, ConnectOptions, Connection, Executor,
        mysql::MySqlConnectOptions,
        pool::PoolOptions,
        postgres::PgConnectOptions,
        sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
    },
};
use serde::Deserialize;
use tokio::sync::{Notify, Semaphore};

use super::{
    error::{Cause, StoreError},
    faults::StoreFaults,
    rows,
};
use crate::domain::time::Timestamp;

/// Where the database is and how long we wait for it.
#[derive(Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreSettings {
    /// `sqlite://file`, `sqlite::memory:`, `postgres://…`, `mysql://…`. May hold a password: `Debug` hides it.
    pub url: String,
    /// Connections of this process.
    pub max_connections: u32,
    /// How long a call waits for a free connection.
    pub acquire_timeout_ms: u64,
    /// How long the server lets a statement wait for a lock (whole seconds on MySQL; SQLite: the busy timeout).
    pub lock_timeout_ms: u64,
    /// How long the server lets a statement run (PostgreSQL and MariaDB).
    pub statement_timeout_ms: u64,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            url: "sqlite://prepay.db".into(),
            max_connections: 10,
            acquire_timeout_ms: 3_000,
            lock_timeout_ms: 5_000,
            statement_timeout_ms: 10_000,
        }
    }
}

impl StoreSettings {
    pub fn at(url: impl Into<String>) -> Self {
        Self { url: url.into(), ..Self::default() }
    }
}

impl fmt::Debug for StoreSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreSettings")
            .field("url", &"***")
            .field("max_connections", &self.max_connections)
            .field("acquire_timeout_ms", &self.acquire_timeout_ms)
            .field("lock_timeout_ms", &self.lock_timeout_ms)
            .field("statement_timeout_ms", &self.statement_timeout_ms)
            .finish()
    }
}

/// Which database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Postgres,
    /// MySQL or MariaDB.
    Mysql,
}

impl Kind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
            Self::Mysql => "mysql",
        }
    }

    fn of_url(url: &str) -> Option<Self> {
        match url.split_once(':')?.0 {
            "sqlite" => Some(Self::Sqlite),
            "postgres" | "postgresql" => Some(Self::Postgres),
            "mysql" => Some(Self::Mysql),
            _ => None,
        }
    }

    pub(in crate::store) const fn backend(self) -> DatabaseBackend {
        match self {
            Self::Sqlite => DatabaseBackend::Sqlite,
            Self::Postgres => DatabaseBackend::Postgres,
            Self::Mysql => DatabaseBackend::MySql,
        }
    }
}

/// The database. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pub(in crate::store) inner: Arc<Inner>,
    /// What goes wrong with the work of this handle: a test's, see [`Store::failing`].
    pub(in crate::store) faults: Option<StoreFaults>,
}

pub(in crate::store) struct Inner {
    pub(in crate::store) kind: Kind,
    settings: StoreSettings,
    pool: ArcSwap<DatabaseConnection>,
    /// One connection, which is the database; see [`Store::finish`] about simulations.
    pub(in crate::store) in_memory: bool,
    /// SQLite has one writer. In this process they queue here, in order; its own busy handler polls and is not fair.
    pub(in crate::store) writer: Option<Arc<Semaphore>>,
    /// Acquires that timed out since one last went well.
    starved: AtomicU32,
    replaced_at: Mutex<Option<Instant>>,
    /// Rung when this process committed a merchant event.
    pub(in crate::store) events_written: Notify,
}

impl Inner {
    pub(in crate::store) fn acquire_timeout(&self) -> Duration {
        Duration::from_millis(self.settings.acquire_timeout_ms)
    }

    /// Whether the pool may be replaced now; if so, not again for a while.
    fn may_replace(&self) -> bool {
        let mut last = self.replaced_at.lock().unwrap_or_else(PoisonError::into_inner);
        let may = last.is_none_or(|last| last.elapsed() >= REPLACED_ONCE_IN);
        if may {
            *last = Some(Instant::now());
        }
        may
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.inner.kind.as_str())
    }
}

/// So many acquires in a row time out before the pool is suspected.
const STARVED_MAX: u32 = 8;
/// A database that is merely slow must not be given a second pool's worth of connections over and over.
const REPLACED_ONCE_IN: Duration = Duration::from_secs(60);
/// A connection idle for longer is pinged before use.
const PING_AFTER: Duration = Duration::from_secs(5);
/// Between two tries to open a SQLite file that somebody else is making.
const WAL_RETRY: Duration = Duration::from_millis(20);

impl Store {
    /// Opens the database; a SQLite file that is missing is made.
    ///
    /// Errors: [`StoreError::Rejected`] when the URL is none of ours, [`StoreError::Unavailable`] when nobody answers.
    pub async fn connect(settings: &StoreSettings) -> Result<Self, StoreError> {
        let kind = Kind::of_url(&settings.url)
            .ok_or_else(|| StoreError::Rejected { cause: Cause::new("the URL names no database of ours") })?;
        let pool = open(kind, settings).await?;
        Ok(Self {
            inner: Arc::new(Inner {
                kind,
                settings: settings.clone(),
                pool: ArcSwap::from_pointee(pool),
                writer: (kind == Kind::Sqlite).then(|| Arc::new(Semaphore::new(1))),
                starved: AtomicU32::new(0),
                replaced_at: Mutex::new(None),
                events_written: Notify::new(),
                in_memory: is_in_memory(&settings.url),
            }),
            faults: None,
        })
    }

    pub fn kind(&self) -> Kind {
        self.inner.kind
    }

    pub(in crate::store) fn db(&self) -> Arc<DatabaseConnection> {
        self.inner.pool.load_full()
    }

    /// One trip to the database and back.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.read("", |db| async move { db.ping().await }).await
    }

    /// The database's clock, by which all processes measure deadlines and leases. SQLite runs inside this process: its clock
    /// is this machine's.
    pub async fn now(&self) -> Result<Timestamp, StoreError> {
        let sql = match self.inner.kind {
            Kind::Sqlite => return Ok(rows::machine_now()),
            Kind::Postgres => "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) AS ms",
            Kind::Mysql => "SELECT CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED) AS ms",
        };
        let statement = Statement::from_string(self.inner.kind.backend(), sql);
        let row = self.read("", move |db| async move { db.query_one_raw(statement).await }).await?;
        let ms = row.and_then(|row| row.try_get::<i64>("", "ms").ok());
        ms.map(Timestamp::from_ms)
            .ok_or_else(|| StoreError::Rejected { cause: Cause::new("the database has no clock") })
    }

    /// Closes the connections once their work is done.
    pub async fn close(&self) {
        // The only error is a pool closed before.
        let _closed = self.db().close_by_ref().await;
    }

    /// Counts acquires that starve. When many in a row do and none succeeds while a fresh connection works, the pool itself
    /// is stuck (connections lost behind a dead network path) and is replaced.
    pub(in crate::store) fn watch<T>(&self, result: &Result<T, StoreError>) {
        match result {
            Err(err) if err.is_full_pool() => {
                if self.inner.starved.fetch_add(1, Ordering::Relaxed) + 1 == STARVED_MAX {
                    let store = self.clone();
                    tokio::spawn(async move { store.replace_stuck_pool().await });
                }
            }
            _ => self.inner.starved.store(0, Ordering::Relaxed),
        }
    }

    async fn replace_stuck_pool(&self) {
        let settings = &self.inner.settings;
        if !self.inner.in_memory
            && self.inner.may_replace()
            && let Ok(fresh) = open(self.inner.kind, settings).await
            && self.inner.starved.load(Ordering::Relaxed) >= STARVED_MAX
        {
            tracing::warn!("the connection pool was stuck while a fresh connection works: replaced");
            // Not closed: whoever holds one of its connections or waits for one finishes, and with the last of them it is gone.
            self.inner.pool.store(Arc::new(fresh));
        }
        self.inner.starved.store(0, Ordering::Relaxed);
    }
}

fn is_in_memory(url: &str) -> bool {
    url.contains(":memory:") || url.contains("mode=memory")
}

async fn open(kind: Kind, settings: &StoreSettings) -> Result<DatabaseConnection, StoreError> {
    match kind {
        Kind::Sqlite => open_sqlite(settings).await,
        Kind::Postgres => open_postgres(settings).await,
        Kind::Mysql => open_mysql(settings).await,
    }
}

/// What all pools have in common. sqlx's own test pings before every statement; a ping after idling is enough.
fn pool_options<DB: sqlx::Database>(settings: &StoreSettings) -> PoolOptions<DB> {
    PoolOptions::<DB>::new()
        .max_connections(settings.max_connections.max(1))
        .acquire_timeout(Duration::from_millis(settings.acquire_timeout_ms))
        .test_before_acquire(false)
}

/// A server may have hung up meanwhile.
fn pinged_after_idling<DB: sqlx::Database>(options: PoolOptions<DB>) -> PoolOptions<DB> {
    options.before_acquire(|connection, about| {
        Box::pin(async move {
            if about.idle_for >= PING_AFTER {
                connection.ping().await?;
            }
            Ok(true)
        })
    })
}

async fn open_sqlite(settings: &StoreSettings) -> Result<DatabaseConnection, StoreError> {
    let mut options = SqliteConnectOptions::from_str(&settings.url)?
        .journal_mode(SqliteJournalMode::Wal)
        // NORMAL may lose the last commits with the power.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_millis(settings.lock_timeout_ms))
        .foreign_keys(false)
        .disable_statement_logging();
    let mut pool = pool_options::<sqlx::Sqlite>(settings);
    if is_in_memory(&settings.url) {
        // Each connection would be a database of its own, gone with the connection.
        pool = pool.max_connections(1).min_connections(1).idle_timeout(None).max_lifetime(None);
    } else if !settings.url.contains("mode=") {
        options = options.create_if_missing(true);
    }
    // A fresh file changes to its journal once, and whoever reads it at that moment is refused on the spot, busy timeout or not.
    let until = Instant::now() + Duration::from_millis(settings.acquire_timeout_ms);
    loop {
        match pool.clone().connect_with(options.clone()).await.map_err(StoreError::from) {
            Err(error) if error.is_lost_race() && Instant::now() < until => tokio::time::sleep(WAL_RETRY).await,
            opened => return Ok(opened?.into()),
        }
    }
}

async fn open_postgres(settings: &StoreSettings) -> Result<DatabaseConnection, StoreError> {
    let options = PgConnectOptions::from_str(&settings.url)?
        .application_name("prepay")
        .options([
            ("statement_timeout", settings.statement_timeout_ms.to_string()),
            ("lock_timeout", settings.lock_timeout_ms.to_string()),
            ("idle_in_transaction_session_timeout", (2 * settings.statement_timeout_ms).to_string()),
            ("default_transaction_isolation", "read committed".to_owned()),
        ])
        .disable_statement_logging();
    Ok(pinged_after_idling(pool_options::<sqlx::Postgres>(settings)).connect_with(options).await?.into())
}

async fn open_mysql(settings: &StoreSettings) -> Result<DatabaseConnection, StoreError> {
    let options = MySqlConnectOptions::from_str(&settings.url)?.disable_statement_logging();
    let secs = |ms: u64| ms.div_ceil(1000).max(1);
    // REPEATABLE READ takes gap locks (deadlocks between inserts) and reads old rows beside a compare-and-set. Strict mode:
    // a text too long is an error, never cut off. `/*M! */` is read by MariaDB alone.
    let session = format!(
        "SET SESSION innodb_lock_wait_timeout = {lock}, sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES') \
         /*M!100101 , max_statement_time = {statement}, idle_transaction_timeout = {idle} */",
        lock = secs(settings.lock_timeout_ms),
        statement = secs(settings.statement_timeout_ms),
        idle = 2 * secs(settings.statement_timeout_ms),
    );
    let pool = pinged_after_idling(pool_options::<sqlx::MySql>(settings)).after_connect(move |connection, _| {
        let session = sqlx::AssertSqlSafe(session.clone());
        Box::pin(async move {
            connection.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED").await?;
            connection.execute(session).await?;
            Ok(())
        })
    });
    Ok(pool.connect_with(options).await?.into())
}
