//! How database work is run: to its end, in whole transactions, again after a lost race.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbErr, SqliteTransactionMode, Statement,
    StatementBuilder, TransactionOptions, TransactionTrait,
    sea_query::{InsertStatement, OnConflict},
};
use tokio::{runtime::Handle, sync::OwnedSemaphorePermit};
use tracing::Instrument;

use super::{
    error::{Cause, StoreError, is_duplicate},
    faults::StoreFault,
    pool::{Kind, Store},
};

/// So often a lost race is run again before the caller hears *busy*.
const TRIES: u32 = 5;
/// ... unless it took this long already: a lock that was waited for once is not waited for five times.
const RETRIED_FOR: Duration = Duration::from_secs(3);

/// A transaction and, on SQLite, the turn to write.
pub(in crate::store) struct Tx {
    pub(in crate::store) tx: DatabaseTransaction,
    _turn: Option<OwnedSemaphorePermit>,
}

/// What becomes of a transaction.
pub(in crate::store) enum End<T> {
    Commit(T),
    Rollback(T),
}

impl Tx {
    /// Commits or rolls back, and only then lets the connection go.
    pub(in crate::store) async fn end<T>(self, result: Result<End<T>, StoreError>) -> Result<T, StoreError> {
        match result {
            Ok(End::Commit(value)) => {
                self.tx.commit().await?;
                Ok(value)
            }
            Ok(End::Rollback(value)) => {
                self.tx.rollback().await?;
                Ok(value)
            }
            Err(err) => {
                // The first error is the one to tell; a connection that cannot roll back is dropped by its pool.
                let _rolled_back = self.tx.rollback().await;
                Err(err)
            }
        }
    }
}

/// How many rows a statement of a script must change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Rows {
    One,
    Any,
}

impl Store {
    pub(in crate::store) fn build(&self, query: &impl StatementBuilder) -> Statement {
        query.build(&self.inner.kind.backend())
    }

    /// Runs database work to its end in a task of its own, even when the caller goes away.
    ///
    /// sqlx 0.9.0 gives a connection back with an open transaction when `begin` is dropped half-way (#4393): later writes
    /// would run inside it and vanish. So nothing of ours is ever dropped half-way. Cancel safe.
    pub(in crate::store) async fn finish<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let fault = self.fault();
        if let Some(fault @ StoreFault::NotDone) = fault {
            return Err(fault.unavailable());
        }
        let work = work.in_current_span();
        let task = if self.inner.in_memory {
            // A simulation's paused clock jumps to the next timer whenever its tasks wait for SQLite's thread, and every
            // timeout goes off; tokio holds the clock while a blocking task runs.
            let runtime = Handle::current();
            tokio::task::spawn_blocking(move || runtime.block_on(work))
        } else {
            tokio::spawn(work)
        };
        let result = match task.await {
            Ok(result) => result,
            Err(ended) if ended.is_panic() => std::panic::resume_unwind(ended.into_panic()),
            Err(_) => Err(StoreError::Unavailable { cause: Cause::new("the process is ending") }),
        };
        self.watch(&result);
        match fault {
            Some(fault) if result.is_ok() => Err(fault.unavailable()),
            _ => result,
        }
    }

    /// Runs one statement that reads rows of `table`.
    pub(in crate::store) async fn read<T, F, Fut>(&self, table: &'static str, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(Arc<DatabaseConnection>) -> Fut,
        Fut: Future<Output = Result<T, DbErr>> + Send + 'static,
    {
        let work = work(self.db());
        self.finish(async move { work.await.map_err(|err| StoreError::reading(err, [table; 2], "?")) }).await
    }

    /// The turn to write: SQLite alone needs one.
    pub(in crate::store) async fn turn(&self) -> Result<Option<OwnedSemaphorePermit>, StoreError> {
        let Some(writer) = self.inner.writer.clone() else { return Ok(None) };
        match tokio::time::timeout(self.inner.acquire_timeout(), writer.acquire_owned()).await {
            // The semaphore is never closed.
            Ok(turn) => Ok(turn.ok()),
            Err(_) => Err(StoreError::Busy { cause: Cause::new("no turn to write in time") }),
        }
    }

    pub(in crate::store) async fn begin(&self) -> Result<Tx, StoreError> {
        let turn = self.turn().await?;
        let options = TransactionOptions {
            // A deferred transaction that read first cannot always become a writer (SQLITE_BUSY_SNAPSHOT).
            sqlite_transaction_mode: (self.inner.kind == Kind::Sqlite).then_some(SqliteTransactionMode::Immediate),
            ..Default::default()
        };
        Ok(Tx { tx: self.db().begin_with_options(options).await?, _turn: turn })
    }

    /// Runs one writing statement by itself. Answers how many rows it changed.
    pub(in crate::store) async fn execute(&self, statement: Statement) -> Result<u64, StoreError> {
        let store = self.clone();
        self.finish(async move {
            retried(|| async {
                let _turn = store.turn().await?;
                Ok(store.db().execute_raw(statement.clone()).await?.rows_affected())
            })
            .await
        })
        .await
    }

    /// Inserts one row by itself unless its key exists. Answers whether it was inserted.
    ///
    /// `ON CONFLICT DO NOTHING`, but on MySQL a plain insert: `INSERT IGNORE` would also swallow values that do not fit, and
    /// `ON DUPLICATE KEY` counts a row that it left alone (sqlx asks for found rows). A plain insert that fails outside a
    /// transaction leaves nothing behind.
    pub(in crate::store) async fn insert_if_absent(&self, mut insert: InsertStatement) -> Result<bool, StoreError> {
        if self.inner.kind != Kind::Mysql {
            insert.on_conflict(OnConflict::new().do_nothing().to_owned());
        }
        let statement = self.build(&insert);
        let store = self.clone();
        self.finish(async move {
            retried(|| async {
                let _turn = store.turn().await?;
                match store.db().execute_raw(statement.clone()).await {
                    Ok(done) => Ok(done.rows_affected() > 0),
                    Err(err) if is_duplicate(&err) => Ok(false),
                    Err(err) => Err(err.into()),
                }
            })
            .await
        })
        .await
    }

    /// Runs `guard` and, only if it changed one row, the rest, in one transaction. Answers whether it was committed; when not,
    /// nothing was written.
    pub(in crate::store) async fn run_if(
        &self,
        guard: Statement,
        then: Vec<(Statement, Rows)>,
    ) -> Result<bool, StoreError> {
        Ok(self.run_if_all(vec![guard], then).await?.is_none())
    }

    /// Runs statements in one transaction, whatever they change. Answers how many rows the last one changed.
    pub(in crate::store) async fn run_all(&self, script: Vec<Statement>) -> Result<u64, StoreError> {
        let store = self.clone();
        self.finish(async move {
            retried(|| async {
                let tx = store.begin().await?;
                let result = async {
                    let mut changed = 0;
                    for statement in &script {
                        changed = tx.tx.execute_raw(statement.clone()).await?.rows_affected();
                    }
                    Ok(End::Commit(changed))
                };
                let result = result.await;
                tx.end(result).await
            })
            .await
        })
        .await
    }

    /// As [`Store::run_if`] with several guards, in their order. Answers which of them changed no row; `None`: it was committed.
    pub(in crate::store) async fn run_if_all(
        &self,
        guards: Vec<Statement>,
        then: Vec<(Statement, Rows)>,
    ) -> Result<Option<usize>, StoreError> {
        let store = self.clone();
        self.finish(async move {
            retried(|| async {
                let tx = store.begin().await?;
                let result = run_script(&tx.tx, &guards, &then).await;
                tx.end(result).await
            })
            .await
        })
        .await
    }
}

async fn run_script(
    tx: &DatabaseTransaction,
    guards: &[Statement],
    then: &[(Statement, Rows)],
) -> Result<End<Option<usize>>, StoreError> {
    for (at, guard) in guards.iter().enumerate() {
        if tx.execute_raw(guard.clone()).await?.rows_affected() != 1 {
            return Ok(End::Rollback(Some(at)));
        }
    }
    for (statement, rows) in then {
        let changed = tx.execute_raw(statement.clone()).await?.rows_affected();
        if *rows == Rows::One && changed != 1 {
            return Err(StoreError::Rejected { cause: Cause::new("a row that must be there was not") });
        }
    }
    Ok(End::Commit(None))
}

/// Runs the whole again after a deadlock or its like, a little later each time and never in step with the other side.
pub(in crate::store) async fn retried<T, F, Fut>(work: F) -> Result<T, StoreError>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<T, StoreError>>,
{
    let began = Instant::now();
    let mut again = 0;
    loop {
        match work().await {
            Err(err) if err.is_lost_race() && again + 1 < TRIES && began.elapsed() < RETRIED_FOR => {
                again += 1;
                let most = 10u64 << again;
                tokio::time::sleep(Duration::from_millis(most / 2 + jitter(most / 2))).await;
            }
            result => return result,
        }
    }
}

/// 0 to `most`, from the random tail of a version 7 UUID: good enough to break step.
fn jitter(most: u64) -> u64 {
    let (_, tail) = uuid::Uuid::now_v7().as_u64_pair();
    tail % (most + 1)
}
