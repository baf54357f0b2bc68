//! Refunds, the merchant's wish to close, and what a policy does with late and second money.

use sea_orm_migration::prelude::*;

use crate::columns::{Columns, OrNull, add_column, add_index, add_table, add_unique, key};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let c = Columns::of(manager);
        refunds(manager, c).await?;
        // A payment's own reserve: no commit of the order writes these.
        add_column(manager, "attempts", c.big("refund_reserved_fen").default(0).take()).await?;
        add_column(manager, "attempts", c.big("refunded_fen").default(0).take()).await?;
        add_column(manager, "attempts", c.count("refund_count").default(0).take()).await?;
        add_column(manager, "attempts", c.ms("refund_sent_at").or_null()).await?;
        add_column(manager, "orders", c.ms("close_wanted_at").or_null()).await?;
        add_column(manager, "merchants", c.id("late_policy", 16).default("keep").take()).await?;
        add_column(manager, "merchants", c.id("second_policy", 16).default("refund").take()).await?;
        anomalies(manager, c).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_index(Index::drop().name("anomalies_handled").table("anomalies").to_owned()).await?;
        manager.drop_index(Index::drop().name("anomalies_one_of_a_kind").table("anomalies").to_owned()).await?;
        for (table, column) in [
            ("anomalies", "handled"),
            ("merchants", "second_policy"),
            ("merchants", "late_policy"),
            ("orders", "close_wanted_at"),
            ("attempts", "refund_sent_at"),
            ("attempts", "refund_count"),
            ("attempts", "refunded_fen"),
            ("attempts", "refund_reserved_fen"),
        ] {
            manager.alter_table(Table::alter().table(table).drop_column(column).to_owned()).await?;
        }
        manager.drop_table(Table::drop().table("refunds").if_exists().take()).await
    }
}

async fn refunds(manager: &SchemaManager<'_>, c: Columns) -> Result<(), DbErr> {
    let mut table = c.table(
        "refunds",
        [
            c.id("id", 26),
            c.big("merchant_id"),
            c.id("refund_no", 64),
            c.hash("fingerprint"),
            c.id("order_id", 26),
            c.count("attempt_no"),
            c.id("wallet", 16),
            c.big("account_id"),
            c.big("amount_fen"),
            c.big("total_fen"),
            c.text("reason").or_null(),
            c.text("notify_url").or_null(),
            c.id("initiator", 16),
            c.id("state", 16),
            c.ms("refunded_at").or_null(),
            c.text("failure").or_null(),
            c.text("frozen_body").or_null(),
            c.text("frozen_notify_url").or_null(),
            c.count("sends"),
            c.count("refusals"),
            c.count("asks"),
            c.ms("sent_at").or_null(),
            c.ms("doubtful_at").or_null(),
            c.ms("denied_at").or_null(),
            c.ms("known_at").or_null(),
            c.id("wallet_refund_no", 64).or_null(),
            c.text("hint").or_null(),
            c.ms("created_at"),
            c.ms("next_at").or_null(),
            c.id("lease_token", 36).or_null(),
            c.ms("leased_until").or_null(),
            c.big("version"),
        ],
    );
    add_table(manager, table.primary_key(&mut key(["id"])).take()).await?;
    add_unique(manager, "refunds_refund_no", "refunds", ["merchant_id", "refund_no"]).await?;
    add_index(manager, "refunds_order", "refunds", ["order_id"]).await?;
    add_index(manager, "refunds_due", "refunds", ["next_at"]).await
}

/// One anomaly of a kind per attempt. What stands there already was for people, and stays so: nothing of it is refunded by a
/// policy that nobody had set.
async fn anomalies(manager: &SchemaManager<'_>, c: Columns) -> Result<(), DbErr> {
    let doubles = "DELETE FROM anomalies WHERE id NOT IN \
                   (SELECT id FROM (SELECT MIN(id) AS id FROM anomalies GROUP BY order_id, attempt_no, kind) AS kept)";
    manager.get_connection().execute_unprepared(doubles).await?;
    add_column(manager, "anomalies", c.id("handled", 16).default("person").take()).await?;
    add_unique(manager, "anomalies_one_of_a_kind", "anomalies", ["order_id", "attempt_no", "kind"]).await?;
    add_index(manager, "anomalies_handled", "anomalies", ["handled", "id"]).await
}
