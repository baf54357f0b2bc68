//! The tables, equal on SQLite, PostgreSQL and MySQL/MariaDB.
//!
//! One file per migration; a table once released is changed by a further file only. What the columns mean stands beside the
//! entities of the store.
//!
//! The release before must go on working on the tables of the next one: it runs beside it while roles are replaced, and
//! after it when an image is rolled back. So a migration adds (tables, columns that may be empty or have a default,
//! indexes), and takes away only what two releases no longer name.

pub use sea_orm_migration::MigratorTrait;
use sea_orm_migration::{
    DbErr, Migration, MigrationTrait, SchemaManager,
    async_trait::async_trait,
    sea_orm::{ConnectionTrait, DatabaseConnection, EntityTrait},
    seaql_migrations::Entity,
};

mod columns;
mod m20260101_000001_first_tables;
mod m20261124_000002_merchant_events;
mod m20261124_000003_refunds;
mod m20261124_000004_bills;
mod m20261124_000005_turns;
mod m20261124_000006_notes;
mod m20261124_000007_probes;
mod m20261124_000008_bill_questions;

/// All migrations, oldest first.
pub struct Migrator;

#[async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20260101_000001_first_tables::Migration),
            Box::new(m20261124_000002_merchant_events::Migration),
            Box::new(m20261124_000003_refunds::Migration),
            Box::new(m20261124_000004_bills::Migration),
            Box::new(m20261124_000005_turns::Migration),
            Box::new(m20261124_000006_notes::Migration),
            Box::new(m20261124_000007_probes::Migration),
            Box::new(m20261124_000008_bill_questions::Migration),
        ]
    }

    /// Not the default, which refuses a database that a later release has migrated.
    async fn get_pending_migrations<C: ConnectionTrait>(db: &C) -> Result<Vec<Migration>, DbErr> {
        Self::install(db).await?;
        let applied: Vec<String> = Entity::find().all(db).await?.into_iter().map(|row| row.version).collect();
        Ok(Self::get_migration_files().into_iter().filter(|file| !applied.iter().any(|it| it == file.name())).collect())
    }
}

/// How a database stands to the migrations of this release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Ours that it lacks, oldest first.
    pub missing: Vec<String>,
    /// Later than all of ours, oldest first: a later release was here.
    pub later: Vec<String>,
    /// Unknown, and not later: no release of ours has migrated it.
    pub foreign: Vec<String>,
}

impl Migrator {
    /// Compares names; changes nothing, not even on an empty database.
    pub async fn standing(db: &DatabaseConnection) -> Result<Standing, DbErr> {
        let applied = if SchemaManager::new(db).has_table("seaql_migrations").await? {
            Entity::find().all(db).await?
        } else {
            Vec::new()
        };
        let known: Vec<String> = Self::get_migration_files().iter().map(|file| file.name().to_owned()).collect();
        Ok(compared(&known, applied.into_iter().map(|row| row.version).collect()))
    }
}

/// Names begin with their date and number, so they sort by age.
fn compared(known: &[String], mut applied: Vec<String>) -> Standing {
    applied.sort();
    let missing = known.iter().filter(|name| !applied.contains(name)).cloned().collect();
    let newest = known.iter().max();
    let unknown = applied.into_iter().filter(|name| !known.contains(name));
    let (later, foreign) = unknown.partition(|name| newest.is_none_or(|newest| name > newest));
    Standing { missing, later, foreign }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_later_release_did_is_told_from_what_none_of_ours_did() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let known = names(&["m20260101_000001_a", "m20260301_000002_b"]);
        let stands = |applied: &[&str]| compared(&known, names(applied));
        let all = ["m20260101_000001_a", "m20260301_000002_b"];
        assert_eq!(stands(&all), Standing { missing: vec![], later: vec![], foreign: vec![] });
        assert_eq!(stands(&[]).missing, known);
        let later = stands(&["m20260501_000003_d", all[1], "m20260401_000003_c", all[0]]);
        assert_eq!(later.later, names(&["m20260401_000003_c", "m20260501_000003_d"]));
        assert!(later.missing.is_empty() && later.foreign.is_empty());
        let between = stands(&[all[0], "m20260201_000002_x", all[1]]);
        assert_eq!((between.foreign, between.later), (names(&["m20260201_000002_x"]), vec![]));
        // One of ours missing beside a later one: it is missing, whatever came after.
        assert_eq!(stands(&[all[0], "m20260401_000003_c"]).missing, names(&[all[1]]));
    }
}
