//! The few kinds of columns we have, as each database calls them.

use sea_orm_migration::{
    prelude::*,
    sea_orm::{ConnectionTrait, DatabaseBackend},
};

/// Makes columns and tables for one database.
#[derive(Clone, Copy)]
pub struct Columns(DatabaseBackend);

impl Columns {
    pub fn of(manager: &SchemaManager<'_>) -> Self {
        Self(manager.get_connection().get_database_backend())
    }

    /// ASCII text compared and sorted byte for byte. MySQL's default collations call `aB` and `ab` equal, and
    /// PostgreSQL sorts `C` fastest.
    pub fn id(self, name: &'static str, length: u32) -> ColumnDef {
        let of_type = match self.0 {
            DatabaseBackend::MySql => format!("varchar({length}) CHARACTER SET ascii COLLATE ascii_bin"),
            DatabaseBackend::Postgres => format!("varchar({length}) COLLATE \"C\""),
            _ => format!("varchar({length})"),
        };
        ColumnDef::new(name).custom(of_type).not_null().take()
    }

    /// Any text, compared byte for byte; at most 64 KiB on MySQL, in strict mode an error rather than cut off.
    pub fn text(self, name: &'static str) -> ColumnDef {
        let of_type = match self.0 {
            DatabaseBackend::MySql => "text CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
            _ => "text",
        };
        ColumnDef::new(name).custom(of_type).not_null().take()
    }

    /// Any text as long as a message of the queue can get sealed: at most 16 MiB on MySQL.
    pub fn long_text(self, name: &'static str) -> ColumnDef {
        let of_type = match self.0 {
            DatabaseBackend::MySql => "mediumtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
            _ => "text",
        };
        ColumnDef::new(name).custom(of_type).not_null().take()
    }

    /// 32 bytes of a hash.
    pub fn hash(self, name: &'static str) -> ColumnDef {
        ColumnDef::new(name).var_binary(32).not_null().take()
    }

    /// A moment in Unix milliseconds.
    pub fn ms(self, name: &'static str) -> ColumnDef {
        self.big(name)
    }

    pub fn big(self, name: &'static str) -> ColumnDef {
        ColumnDef::new(name).big_integer().not_null().take()
    }

    /// A small count.
    pub fn count(self, name: &'static str) -> ColumnDef {
        ColumnDef::new(name).integer().not_null().take()
    }

    pub fn flag(self, name: &'static str) -> ColumnDef {
        ColumnDef::new(name).boolean().not_null().take()
    }

    /// A number the database counts up.
    pub fn serial(self, name: &'static str) -> ColumnDef {
        ColumnDef::new(name).big_integer().not_null().auto_increment().primary_key().take()
    }

    pub fn table(self, name: &'static str, columns: impl IntoIterator<Item = ColumnDef>) -> TableCreateStatement {
        let mut table = Table::create();
        table.table(name);
        for column in columns {
            table.col(column);
        }
        if self.0 == DatabaseBackend::MySql {
            table.engine("InnoDB").character_set("utf8mb4").collate("utf8mb4_bin");
        }
        table.take()
    }
}

/// The same column, empty allowed.
pub trait OrNull {
    fn or_null(self) -> ColumnDef;
}

impl OrNull for ColumnDef {
    fn or_null(mut self) -> ColumnDef {
        self.null().take()
    }
}

/// Makes a table unless it is there.
///
/// MySQL commits each table, column and index by itself: a migration that was cut off half-way runs again from its beginning, so
/// each of its parts asks first.
pub async fn add_table(manager: &SchemaManager<'_>, mut table: TableCreateStatement) -> Result<(), DbErr> {
    manager.create_table(table.if_not_exists().take()).await
}

/// Adds a column unless it is there. One at a time: SQLite takes no more in one statement.
pub async fn add_column(manager: &SchemaManager<'_>, table: &'static str, column: ColumnDef) -> Result<(), DbErr> {
    if manager.has_column(table, column.get_column_name()).await? {
        return Ok(());
    }
    manager.alter_table(Table::alter().table(table).add_column(column).take()).await
}

/// Makes an index unless it is there.
pub async fn add_index<const N: usize>(
    manager: &SchemaManager<'_>,
    name: &'static str,
    table: &'static str,
    columns: [&'static str; N],
) -> Result<(), DbErr> {
    if manager.has_index(table, name).await? {
        return Ok(());
    }
    manager.create_index(index(name, table, columns)).await
}

/// As [`add_index`], for values that exist once.
pub async fn add_unique<const N: usize>(
    manager: &SchemaManager<'_>,
    name: &'static str,
    table: &'static str,
    columns: [&'static str; N],
) -> Result<(), DbErr> {
    if manager.has_index(table, name).await? {
        return Ok(());
    }
    manager.create_index(index(name, table, columns).unique().take()).await
}

/// A primary key of several columns.
pub fn key<const N: usize>(columns: [&'static str; N]) -> IndexCreateStatement {
    let mut key = Index::create();
    key.primary();
    for column in columns {
        key.col(column);
    }
    key.take()
}

pub fn index<const N: usize>(
    name: &'static str,
    table: &'static str,
    columns: [&'static str; N],
) -> IndexCreateStatement {
    let mut index = Index::create();
    index.name(name).table(table);
    for column in columns {
        index.col(column);
    }
    index.take()
}
