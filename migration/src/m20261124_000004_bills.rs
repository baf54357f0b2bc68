//! The wallets' bills: one run per account and day, what it found, and what was in it.

use sea_orm_migration::prelude::*;

use crate::columns::{Columns, OrNull, add_index, add_table, add_unique, key};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let c = Columns::of(manager);
        runs(manager, c).await?;
        rows(manager, c).await?;
        discrepancies(manager, c).await?;
        // What an account was paid, and paid back, on one day.
        add_index(manager, "attempts_paid", "attempts", ["account_id", "paid_at"]).await?;
        add_index(manager, "refunds_refunded", "refunds", ["account_id", "refunded_at"]).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_index(Index::drop().name("refunds_refunded").table("refunds").to_owned()).await?;
        manager.drop_index(Index::drop().name("attempts_paid").table("attempts").to_owned()).await?;
        for table in ["discrepancies", "bill_rows", "bill_runs"] {
            manager.drop_table(Table::drop().table(table).if_exists().take()).await?;
        }
        Ok(())
    }
}

async fn runs(manager: &SchemaManager<'_>, c: Columns) -> Result<(), DbErr> {
    let table = c.table(
        "bill_runs",
        [
            c.serial("id"),
            c.big("account_id"),
            c.id("date", 10),
            c.id("state", 16),
            c.count("tries"),
            c.big("payments"),
            c.big("pay_fen"),
            c.big("refunds"),
            c.big("refund_fen"),
            c.big("of_others"),
            c.big("unreadable"),
            c.big("discrepancies"),
            c.id("lease_token", 36).or_null(),
            c.ms("leased_until").or_null(),
            c.ms("next_at").or_null(),
            c.text("last_error").or_null(),
            c.ms("matched_at").or_null(),
            c.ms("created_at"),
        ],
    );
    add_table(manager, table).await?;
    add_unique(manager, "bill_runs_day", "bill_runs", ["account_id", "date"]).await?;
    add_index(manager, "bill_runs_due", "bill_runs", ["next_at"]).await
}

/// Narrow, because a busy day has millions: what a bill named, by our own number.
async fn rows(manager: &SchemaManager<'_>, c: Columns) -> Result<(), DbErr> {
    let mut table =
        c.table("bill_rows", [c.id("id", 26), c.count("no"), c.big("run_id"), c.count("run_try"), c.flag("kept")]);
    add_table(manager, table.primary_key(&mut key(["id", "no", "run_id", "run_try"])).take()).await?;
    add_index(manager, "bill_rows_run", "bill_rows", ["run_id", "kept"]).await
}

async fn discrepancies(manager: &SchemaManager<'_>, c: Columns) -> Result<(), DbErr> {
    let table = c.table(
        "discrepancies",
        [
            c.serial("id"),
            c.big("account_id"),
            c.id("date", 10),
            c.id("kind", 16),
            c.text("out_trade_no"),
            // The refund's number, or the payment's: together with account, day and kind it is what is found once.
            c.hash("number_hash"),
            c.text("out_refund_no").or_null(),
            c.id("order_id", 26).or_null(),
            c.text("ours"),
            c.text("theirs"),
            c.id("repair", 16),
            c.id("state", 16),
            c.count("seen_try"),
            c.text("note").or_null(),
            c.ms("at"),
            c.ms("settled_at").or_null(),
        ],
    );
    add_table(manager, table).await?;
    add_unique(manager, "discrepancies_one_of_a_kind", "discrepancies", ["account_id", "date", "number_hash", "kind"])
        .await?;
    add_index(manager, "discrepancies_open", "discrepancies", ["state", "account_id", "kind"]).await
}
