//! The tables, equal on SQLite, PostgreSQL and MySQL/MariaDB.
//!
//! One file per migration; a table once released is changed by a further file only. What the columns mean stands beside the
//! entities of the store.

pub use sea_orm_migration::MigratorTrait;
use sea_orm_migration::{MigrationTrait, async_trait::async_trait};

mod columns;
mod m20260101_000001_first_tables;

/// All migrations, oldest first.
pub struct Migrator;

#[async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(m20260101_000001_first_tables::Migration)]
    }
}
