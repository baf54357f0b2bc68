//! Whose questions and refunds are next: by account, a waiting page's first, and how often a wallet is asked.

use sea_orm_migration::prelude::*;

use crate::columns::{Columns, add_column, add_index, add_table, key};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let c = Columns::of(manager);
        add_column(manager, "attempts", c.flag("query_wanted").default(false).take()).await?;
        // The release before looks by time alone: its indexes stay for as long as it may run beside this one.
        add_index(manager, "attempts_turns", "attempts", ["account_id", "query_wanted", "next_query_at"]).await?;
        add_index(manager, "refunds_turns", "refunds", ["account_id", "next_at"]).await?;
        let mut table = c.table("question_turns", [c.id("wallet", 16), c.id("number", 64), c.big("free_at_us")]);
        add_table(manager, table.primary_key(&mut key(["wallet", "number"])).take()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("question_turns").if_exists().take()).await?;
        manager.drop_index(Index::drop().name("refunds_turns").table("refunds").to_owned()).await?;
        manager.drop_index(Index::drop().name("attempts_turns").table("attempts").to_owned()).await?;
        manager.alter_table(Table::alter().table("attempts").drop_column("query_wanted").to_owned()).await
    }
}
