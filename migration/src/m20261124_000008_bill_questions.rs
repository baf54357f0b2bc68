//! What a bill and our rows do not agree on is asked about by the scheduler, too.

use sea_orm_migration::prelude::*;

use crate::columns::{Columns, OrNull, add_column};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // Empty is *not asked yet*: what the release before writes is asked about as well.
        add_column(manager, "discrepancies", Columns::of(manager).ms("ask_at").or_null()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.alter_table(Table::alter().table("discrepancies").drop_column("ask_at").take()).await
    }
}
