//! What merchants are told: an outbox, written in the transaction of the change, and how their endpoints are doing.

use sea_orm_migration::prelude::*;

use crate::columns::{Columns, OrNull, add_column, add_index, add_table, add_unique, key};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let c = Columns::of(manager);
        // Counted up by the transaction that writes an event: the row's lock puts the events of one order in order.
        let counter = c.big("event_sequence").default(0).take();
        add_column(manager, "orders", counter).await?;
        events(manager, c).await?;
        endpoints(manager, c).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["merchant_events", "endpoints"] {
            manager.drop_table(Table::drop().table(table).if_exists().take()).await?;
        }
        manager.alter_table(Table::alter().table("orders").drop_column("event_sequence").take()).await
    }
}

async fn events(manager: &SchemaManager<'_>, c: Columns) -> Result<(), DbErr> {
    let mut table = c.table(
        "merchant_events",
        [
            c.id("id", 36),
            c.big("merchant_id"),
            c.id("order_id", 26),
            c.id("kind", 16),
            // Empty, never null: a unique key takes two nulls for two things.
            c.id("refund_no", 64),
            c.big("sequence"),
            c.text("facts"),
            c.text("url"),
            c.id("endpoint", 32),
            c.id("state", 16),
            c.count("tries"),
            c.ms("next_at"),
            c.id("lease_token", 36).or_null(),
            c.ms("lease_until").or_null(),
            c.count("last_status").or_null(),
            c.id("last_trouble", 32).or_null(),
            c.ms("last_at").or_null(),
            c.ms("scheduled_from"),
            c.ms("created_at"),
        ],
    );
    add_table(manager, table.primary_key(&mut key(["id"])).take()).await?;
    add_unique(manager, "merchant_events_once", "merchant_events", ["order_id", "kind", "refund_no"]).await?;
    add_unique(manager, "merchant_events_sequence", "merchant_events", ["order_id", "sequence"]).await?;
    add_index(manager, "merchant_events_due", "merchant_events", ["state", "next_at"]).await?;
    add_index(manager, "merchant_events_endpoint", "merchant_events", ["endpoint", "state", "next_at"]).await?;
    add_index(manager, "merchant_events_merchant", "merchant_events", ["merchant_id", "state", "created_at"]).await
}

async fn endpoints(manager: &SchemaManager<'_>, c: Columns) -> Result<(), DbErr> {
    let mut table = c.table(
        "endpoints",
        [
            c.id("id", 32),
            c.big("merchant_id"),
            c.text("origin"),
            c.count("failures"),
            c.flag("paused"),
            c.flag("by_hand"),
            c.ms("probe_at").or_null(),
            c.ms("changed_at"),
        ],
    );
    add_table(manager, table.primary_key(&mut key(["id"])).take()).await?;
    add_index(manager, "endpoints_paused", "endpoints", ["paused", "probe_at"]).await
}
