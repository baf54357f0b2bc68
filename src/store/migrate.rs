//! Bringing the tables up to date, one process at a time, and how they stand to this release.

use std::time::{Duration, Instant};

use migration::{Migrator, MigratorTrait, Standing};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, Statement};

use super::{
    error::{Cause, StoreError},
    pool::{Kind, Store},
    run::{End, Tx},
};

/// So long another process may migrate before we say so and leave.
const WAIT_MAX: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// An index on a large table takes its time; PostgreSQL and MariaDB would end it with the first slow statement.
const STATEMENT_MAX_S: u32 = 1_800;

/// "prepay" in ASCII. PostgreSQL's advisory locks are per database.
const POSTGRES_LOCK: i64 = 0x7072_6570_6179;
/// MySQL's are per server, and their names 64 characters at most.
const MYSQL_LOCK: &str = "CONCAT('prepay.migrate.', SHA1(DATABASE()))";

impl Store {
    /// Runs the migrations that are missing and answers their names. Whoever comes while another process is at it waits for
    /// its end and then finds less to do, or nothing.
    ///
    /// SQLite and PostgreSQL do all of it or nothing; MySQL commits each table by itself.
    /// Errors: [`StoreError::Busy`] when the other process is not done in a minute; [`StoreError::Rejected`].
    pub async fn migrate(&self) -> Result<Vec<String>, StoreError> {
        let store = self.clone();
        self.finish(async move {
            let tx = store.locked().await?;
            let done = migrated(&tx.tx).await;
            store.unlock(&tx.tx).await;
            tx.end(done.map(End::Commit)).await
        })
        .await
    }

    /// A transaction in which nobody else migrates this database.
    async fn locked(&self) -> Result<Tx, StoreError> {
        let began = Instant::now();
        loop {
            let ours = match self.begin().await {
                Ok(tx) => match self.lock(&tx.tx).await {
                    Ok(true) => return Ok(tx),
                    other => tx.end(other.map(End::Rollback)).await,
                },
                // SQLite's own lock is the transaction.
                Err(err) if err.is_lost_race() => Ok(false),
                Err(err) => Err(err),
            };
            ours?;
            if began.elapsed() > WAIT_MAX {
                return Err(StoreError::Busy { cause: Cause::new("another process is migrating it") });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn lock(&self, tx: &DatabaseTransaction) -> Result<bool, StoreError> {
        match self.kind() {
            Kind::Sqlite => Ok(true),
            Kind::Postgres => {
                tx.execute_unprepared(&format!("SET LOCAL statement_timeout = '{STATEMENT_MAX_S}s'")).await?;
                Ok(yes(tx, &format!("SELECT pg_try_advisory_xact_lock({POSTGRES_LOCK}) AS yes")).await?)
            }
            Kind::Mysql => {
                let ours = yes(tx, &format!("SELECT CAST(GET_LOCK({MYSQL_LOCK}, 0) AS SIGNED) AS yes")).await?;
                if ours {
                    tx.execute_unprepared(&format!(
                        "SET @prepay_was = 0 /*M!100101 , @prepay_was = @@SESSION.max_statement_time, \
                         SESSION max_statement_time = {STATEMENT_MAX_S} */"
                    ))
                    .await?;
                }
                Ok(ours)
            }
        }
    }

    /// What MySQL would keep for a connection that goes back to its pool.
    async fn unlock(&self, tx: &DatabaseTransaction) {
        if self.kind() == Kind::Mysql {
            // An error is that of a connection that is gone, and the lock with it.
            let back = "SET @prepay_done = 1 /*M!100101 , SESSION max_statement_time = @prepay_was */";
            let _back = tx.execute_unprepared(back).await;
            let _freed = yes(tx, &format!("SELECT CAST(RELEASE_LOCK({MYSQL_LOCK}) AS SIGNED) AS yes")).await;
        }
    }

    /// The names of the migrations that are missing; changes nothing, not even on an empty database.
    ///
    /// Errors: also [`StoreError::Rejected`] for a database that no release of ours, or one before the first, has migrated.
    pub async fn pending_migrations(&self) -> Result<Vec<String>, StoreError> {
        Ok(self.standing().await?.missing)
    }

    /// The names of migrations that a later release has applied. This one works on its tables too: a migration takes nothing
    /// away that the release before it names.
    ///
    /// Errors: as [`Store::pending_migrations`].
    pub async fn later_migrations(&self) -> Result<Vec<String>, StoreError> {
        Ok(self.standing().await?.later)
    }

    async fn standing(&self) -> Result<Standing, StoreError> {
        let standing = self.read("seaql_migrations", |db| async move { Migrator::standing(&db).await }).await?;
        if !standing.foreign.is_empty() {
            let names = standing.foreign.join(", ");
            let cause = Cause::new(format!("it has migrations that no release up to this one knows: {names}"));
            return Err(StoreError::Rejected { cause });
        }
        Ok(standing)
    }
}

/// What was missing once it was our turn, applied.
async fn migrated(tx: &DatabaseTransaction) -> Result<Vec<String>, StoreError> {
    let missing = Migrator::get_pending_migrations(tx).await?;
    Migrator::up(tx, None).await?;
    Ok(missing.iter().map(|migration| migration.name().to_owned()).collect())
}

/// Runs a query whose one column `yes` is a truth value, in whatever type the database has for it.
async fn yes(tx: &DatabaseTransaction, sql: &str) -> Result<bool, DbErr> {
    let row = tx.query_one_raw(Statement::from_string(tx.get_database_backend(), sql)).await?;
    let Some(row) = row else { return Ok(false) };
    Ok(row.try_get::<bool>("", "yes").or_else(|_| row.try_get::<i64>("", "yes").map(|yes| yes == 1)).unwrap_or(false))
}
