//! Tries of paused endpoints, counted while they are under way: a merchant has a bounded share of them.

use sea_orm_migration::prelude::*;

use crate::columns::{Columns, OrNull, add_column};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        add_column(manager, "endpoints", Columns::of(manager).ms("probed_until").or_null()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.alter_table(Table::alter().table("endpoints").drop_column("probed_until").take()).await
    }
}
