//! What a caller can do about a database that did not do as asked.

use std::fmt;

use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr, sqlx};

/// Why a call to the store failed, by the decision it asks for.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No room or a lock that was not given: nothing was written. Again, later.
    #[error("the database is busy")]
    Busy {
        #[source]
        cause: Cause,
    },
    /// It cannot be reached or cannot write. **A write may have happened**: look again before deciding anything.
    #[error("the database is unavailable")]
    Unavailable {
        #[source]
        cause: Cause,
    },
    /// A row, or an order without the attempts its state speaks of, that no version of this program wrote: a person has to look at it.
    #[error("a row of table {table} cannot be read: column {column}, id {id}")]
    Corrupt { table: &'static str, column: String, id: String },
    /// There is one already.
    #[error("{what} exists already")]
    Conflict { what: &'static str },
    /// The database does not take the statement: the schema is not ours (migrations?), a value does not fit, or a bug.
    #[error("the database rejected a statement")]
    Rejected {
        #[source]
        cause: Cause,
    },
}

impl StoreError {
    /// Whether the same call may go well later without anybody's help.
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::Busy { .. } | Self::Unavailable { .. })
    }

    /// Whether a value has no room in its column or statement: the same call never goes well, one with less may.
    pub const fn is_too_large(&self) -> bool {
        matches!(self, Self::Rejected { cause: Cause { too_large: true, .. } })
    }

    /// A deadlock, a serialisation failure, a lock not given: the whole of it may be tried again at once.
    pub(in crate::store) const fn is_lost_race(&self) -> bool {
        matches!(self, Self::Busy { cause: Cause { race: true, .. } })
    }

    pub(in crate::store) const fn is_full_pool(&self) -> bool {
        matches!(self, Self::Busy { cause: Cause { race: false, full: true, .. } })
    }

    pub(in crate::store) fn corrupt(table: &'static str, column: impl Into<String>, id: impl fmt::Display) -> Self {
        Self::Corrupt { table, column: column.into(), id: id.to_string() }
    }

    /// An error met while reading rows of a table, or of two joined: a value of a wrong type is a corrupt row.
    pub(in crate::store) fn reading(err: DbErr, tables: [&'static str; 2], id: impl fmt::Display) -> Self {
        if let Some(sqlx::Error::ColumnDecode { index, .. }) = sqlx_error(&err) {
            // SeaORM aliases the columns of a join as `A_…` and `B_…`; `index` is that alias in quotes.
            let alias = index.trim_matches('"');
            let (table, column) = match (alias.strip_prefix("A_"), alias.strip_prefix("B_")) {
                (_, Some(column)) => (tables[1], column),
                (Some(column), None) => (tables[0], column),
                (None, None) => (tables[0], alias),
            };
            return Self::corrupt(table, column, id);
        }
        match err {
            DbErr::Type(_) | DbErr::Json(_) | DbErr::TryIntoErr { .. } => Self::corrupt(tables[0], "?", id),
            other => other.into(),
        }
    }
}

/// What the database said, as a code: its own sentences may hold values and are not kept.
#[derive(Debug, Clone)]
pub struct Cause {
    text: String,
    race: bool,
    full: bool,
    too_large: bool,
}

impl Cause {
    pub(in crate::store) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), race: false, full: false, too_large: false }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Cause {}

fn sqlx_error(err: &DbErr) -> Option<&sqlx::Error> {
    match err {
        DbErr::Conn(RuntimeErr::SqlxError(err))
        | DbErr::Exec(RuntimeErr::SqlxError(err))
        | DbErr::Query(RuntimeErr::SqlxError(err)) => Some(err),
        _ => None,
    }
}

/// Whether the statement met a row with the same unique key.
pub(in crate::store) fn is_duplicate(err: &DbErr) -> bool {
    sqlx_error(err).and_then(sqlx::Error::as_database_error).is_some_and(|err| err.is_unique_violation())
}

impl From<DbErr> for StoreError {
    fn from(err: DbErr) -> Self {
        match &err {
            DbErr::ConnectionAcquire(ConnAcquireErr::Timeout) => {
                Self::Busy { cause: Cause { full: true, ..Cause::new("no free connection in time") } }
            }
            DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed) => {
                Self::Unavailable { cause: Cause::new("the pool is closed") }
            }
            _ => match sqlx_error(&err) {
                Some(err) => of_sqlx(err),
                None => Self::Rejected { cause: Cause::new(shape_of(&err)) },
            },
        }
    }
}

/// The variant's name; its text may quote values.
fn shape_of(err: &DbErr) -> &'static str {
    match err {
        DbErr::Migration(_) | DbErr::Custom(_) => "migrations and database do not fit",
        DbErr::Type(_) | DbErr::TryIntoErr { .. } | DbErr::Json(_) => "a value of a wrong type",
        DbErr::RecordNotFound(_) => "no such row",
        DbErr::RecordNotInserted => "nothing inserted",
        DbErr::RecordNotUpdated => "nothing updated",
        _ => "refused by the database layer",
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(err: sqlx::Error) -> Self {
        of_sqlx(&err)
    }
}

fn of_sqlx(err: &sqlx::Error) -> StoreError {
    match err {
        sqlx::Error::Database(err) => of_database(err.as_ref()),
        sqlx::Error::PoolTimedOut => {
            StoreError::Busy { cause: Cause { full: true, ..Cause::new("no free connection in time") } }
        }
        sqlx::Error::Io(err) => StoreError::Unavailable { cause: Cause::new(format!("connection: {}", err.kind())) },
        sqlx::Error::Tls(_) => StoreError::Unavailable { cause: Cause::new("TLS failed") },
        sqlx::Error::Protocol(_) => StoreError::Unavailable { cause: Cause::new("the connection is out of step") },
        sqlx::Error::PoolClosed => StoreError::Unavailable { cause: Cause::new("the pool is closed") },
        sqlx::Error::WorkerCrashed => StoreError::Unavailable { cause: Cause::new("the SQLite thread ended") },
        // Answered when a server is shutting down or the transaction ended under us.
        sqlx::Error::BeginFailed => StoreError::Unavailable { cause: Cause::new("no transaction began") },
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => {
            StoreError::Rejected { cause: Cause::new("a value of a wrong type") }
        }
        sqlx::Error::Configuration(_) => StoreError::Rejected { cause: Cause::new("the database URL is wrong") },
        _ => StoreError::Rejected { cause: Cause::new("refused by the database driver") },
    }
}

/// What a code of a database asks for.
enum Means {
    Race,
    Busy,
    Unavailable,
    Duplicate,
    TooLarge,
    Rejected,
}

fn of_database(err: &dyn sqlx::error::DatabaseError) -> StoreError {
    let code = err.code().unwrap_or_default();
    let (text, means) = if let Some(mysql) = err.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>() {
        (format!("MySQL error {}", mysql.number()), of_mysql(mysql.number()))
    } else if err.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some() {
        (format!("SQLite error {code}"), of_sqlite(&code))
    } else {
        (format!("SQLSTATE {code}"), of_postgres(&code))
    };
    let cause = Cause::new(text);
    match means {
        Means::Race => StoreError::Busy { cause: Cause { race: true, ..cause } },
        Means::Busy => StoreError::Busy { cause },
        Means::Unavailable => StoreError::Unavailable { cause },
        Means::Duplicate => StoreError::Conflict { what: "a row with this key" },
        Means::TooLarge => StoreError::Rejected { cause: Cause { too_large: true, ..cause } },
        Means::Rejected => StoreError::Rejected { cause },
    }
}

/// Source: PostgreSQL manual, appendix A.
fn of_postgres(code: &str) -> Means {
    match code {
        "40001" | "40P01" | "55P03" => Means::Race,
        "57014" => Means::Busy,
        "23505" => Means::Duplicate,
        // String data right truncation; program limit exceeded.
        "22001" | "54000" => Means::TooLarge,
        // A failover leaves us at a server that only reads.
        "25006" | "25P03" => Means::Unavailable,
        // The password is wrong or the database is missing: an operator, not time, helps.
        _ if code.starts_with("08") || code.starts_with("53") || code.starts_with("57") || code.starts_with("58") => {
            Means::Unavailable
        }
        _ => Means::Rejected,
    }
}

/// Source: MariaDB error codes.
fn of_mysql(number: u16) -> Means {
    match number {
        // Deadlock; lock wait timeout; record has changed since last read.
        1213 | 1205 | 1020 => Means::Race,
        // A statement over its time.
        1969 | 3024 | 1317 => Means::Busy,
        1062 => Means::Duplicate,
        // Packet, result or row too large, data too long.
        1153 | 1301 | 1118 | 1406 => Means::TooLarge,
        // Too many connections, shutdown, disk full, read only, killed, gone.
        1040 | 1053 | 1021 | 1114 | 1203 | 1226 | 1290 | 1792 | 1836 | 1927 | 2006 | 2013 | 3169 | 4031 => {
            Means::Unavailable
        }
        _ => Means::Rejected,
    }
}

/// Source: sqlite.org/rescode.html; the low byte of an extended code is its kind.
fn of_sqlite(code: &str) -> Means {
    let code: i32 = code.parse().unwrap_or(1);
    match (code, code & 0xff) {
        // UNIQUE, PRIMARY KEY, ROWID.
        (2067 | 1555 | 2579, _) => Means::Duplicate,
        (_, 5 | 6) => Means::Race,
        // TOOBIG.
        (_, 18) => Means::TooLarge,
        // READONLY, IOERR, FULL, CANTOPEN.
        (_, 8 | 10 | 13 | 14) => Means::Unavailable,
        _ => Means::Rejected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_keeps_no_words_of_the_database() {
        let err = StoreError::from(DbErr::Custom("Duplicate entry 'oUpF8uMuAJO' for key".into()));
        assert!(!format!("{err:?} {err}").contains("oUpF"), "{err:?}");
    }

    #[test]
    fn codes_ask_for_a_decision() {
        assert!(matches!(of_postgres("40P01"), Means::Race));
        assert!(matches!(of_postgres("57P01"), Means::Unavailable));
        assert!(matches!(of_postgres("42P01"), Means::Rejected));
        assert!(matches!(of_mysql(1213), Means::Race));
        assert!(matches!(of_sqlite("517"), Means::Race));
        assert!(matches!(of_sqlite("1555"), Means::Duplicate));
        assert!(matches!(of_sqlite("13"), Means::Unavailable));
        assert!(matches!(
            (of_postgres("22001"), of_mysql(1406), of_sqlite("18")),
            (Means::TooLarge, Means::TooLarge, Means::TooLarge)
        ));
    }
}
