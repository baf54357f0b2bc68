//! What a person says who decides something about an order.

use sea_orm_migration::prelude::*;

use crate::columns::{Columns, OrNull, add_column};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        add_column(manager, "order_events", Columns::of(manager).text("note").or_null()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.alter_table(Table::alter().table("order_events").drop_column("note").to_owned()).await
    }
}
