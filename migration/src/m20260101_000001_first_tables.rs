//! The first tables. No foreign keys: rows are never deleted but by sweeps, and a key's lock on the parent row would sit on
//! every write of an order.

use sea_orm_migration::prelude::*;

use crate::columns::{Columns, OrNull, index, key};

#[derive(DeriveMigrationName)]
pub struct Migration;

const TABLES: [&str; 14] = [
    "registry",
    "merchants",
    "merchant_keys",
    "channel_accounts",
    "mini_programs",
    "deployment_keys",
    "orders",
    "attempts",
    "order_events",
    "anomalies",
    "code_exchanges",
    "outcomes",
    "nonces",
    "parked",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let c = Columns::of(manager);
        registry(manager, c).await?;
        orders(manager, c).await?;
        traffic(manager, c).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in TABLES {
            manager.drop_table(Table::drop().table(table).if_exists().take()).await?;
        }
        Ok(())
    }
}

/// What operators register: merchants, their keys, accounts and mini-programs.
async fn registry(manager: &SchemaManager<'_>, c: Columns) -> Result<(), DbErr> {
    let mut table = c.table("registry", [c.count("id"), c.big("stamp")]);
    manager.create_table(table.primary_key(&mut key(["id"])).take()).await?;
    let first =
        Query::insert().into_table("registry").columns(["id", "stamp"]).values_panic([1.into(), 0i64.into()]).take();
    manager.execute(first).await?;

    let mut table = c.table(
        "merchants",
        [
            c.serial("id"),
            c.id("customer_no", 32),
            c.text("name"),
            c.text("ip_list").or_null(),
            c.flag("enabled"),
            c.ms("created_at"),
        ],
    );
    manager.create_table(table.take()).await?;
    let mut unique = index("merchants_customer_no", "merchants", ["customer_no"]);
    manager.create_index(unique.unique().take()).await?;

    let mut table = c.table(
        "merchant_keys",
        [
            c.big("merchant_id"),
            c.id("key_id", 32),
            c.id("kind", 16),
            c.text("secret").or_null(),
            c.text("public_key").or_null(),
            c.flag("live"),
            c.ms("created_at"),
        ],
    );
    manager.create_table(table.primary_key(&mut key(["merchant_id", "key_id"])).take()).await?;

    let table = c.table(
        "channel_accounts",
        [
            c.serial("id"),
            c.big("merchant_id"),
            c.id("wallet", 16),
            c.id("number", 64),
            c.text("settings"),
            c.text("public_keys"),
            c.text("secrets").or_null(),
            c.flag("enabled"),
            c.big("version"),
            c.ms("keys_checked_at").or_null(),
            c.ms("created_at"),
        ],
    );
    manager.create_table(table).await?;

    let table = c.table(
        "mini_programs",
        [
            c.serial("id"),
            c.big("merchant_id"),
            c.big("account_id"),
            c.id("wallet", 16),
            c.id("app_id", 32),
            c.id("original_id", 64).or_null(),
            c.text("path"),
            c.text("query_template"),
            c.id("env_version", 16),
            c.flag("takes_code"),
            c.text("secrets").or_null(),
            c.flag("enabled"),
            c.big("version"),
        ],
    );
    manager.create_table(table).await?;
    let mut unique = index("mini_programs_app", "mini_programs", ["wallet", "app_id", "merchant_id"]);
    manager.create_index(unique.unique().take()).await?;

    let mut table = c.table(
        "deployment_keys",
        [
            c.id("purpose", 16),
            c.id("key_id", 32),
            c.text("secret"),
            c.id("state", 16),
            c.ms("created_at"),
            c.ms("signs_from"),
        ],
    );
    manager.create_table(table.primary_key(&mut key(["purpose", "key_id"])).take()).await
}

/// Orders, their attempts and their history.
async fn orders(manager: &SchemaManager<'_>, c: Columns) -> Result<(), DbErr> {
    let mut table = c.table(
        "orders",
        [
            c.id("id", 26),
            c.big("merchant_id"),
            c.id("order_no", 64),
            c.hash("fingerprint"),
            c.big("amount_fen"),
            c.text("good_name"),
            c.text("good_no").or_null(),
            c.text("attach").or_null(),
            c.text("notify_url"),
            c.big("wechat_mini_program_id").or_null(),
            c.big("alipay_mini_program_id").or_null(),
            c.ms("created_at"),
            c.ms("expire_at"),
            c.count("link_generation"),
            c.id("link_key_id", 32),
            c.id("state", 16),
            c.count("paid_by").or_null(),
            c.ms("closed_at").or_null(),
            c.big("version"),
            c.id("lease_command_id", 36).or_null(),
            c.ms("lease_until").or_null(),
            c.ms("asked_at").or_null(),
        ],
    );
    manager.create_table(table.primary_key(&mut key(["id"])).take()).await?;
    let mut unique = index("orders_order_no", "orders", ["merchant_id", "order_no"]);
    manager.create_index(unique.unique().take()).await?;
    manager.create_index(index("orders_expiry", "orders", ["state", "expire_at"])).await?;

    let mut table = c.table(
        "attempts",
        [
            c.id("order_id", 26),
            c.count("no"),
            c.id("wallet", 16),
            c.big("account_id"),
            c.big("mini_program_id"),
            c.id("app_id", 32),
            c.id("payer_kind", 16),
            c.id("payer_id", 128),
            c.text("frozen_body"),
            c.text("frozen_notify_url"),
            c.id("state", 16),
            c.text("ticket").or_null(),
            c.ms("ticket_at").or_null(),
            c.id("trade_no", 64).or_null(),
            c.big("payer_amount_fen").or_null(),
            c.ms("paid_at").or_null(),
            c.text("dispute").or_null(),
            c.ms("started_at"),
            c.count("sends"),
            c.count("refusals"),
            c.ms("handed_out_at").or_null(),
            c.ms("next_query_at").or_null(),
            c.count("queries"),
            c.id("query_token", 36).or_null(),
            c.ms("query_leased_until").or_null(),
            c.ms("query_pulled_at").or_null(),
        ],
    );
    manager.create_table(table.primary_key(&mut key(["order_id", "no"])).take()).await?;
    manager.create_index(index("attempts_due", "attempts", ["next_query_at"])).await?;

    let mut table = c.table(
        "order_events",
        [
            c.id("order_id", 26),
            c.big("version"),
            c.text("events"),
            c.id("state", 16),
            c.id("command_id", 36).or_null(),
            c.ms("at"),
        ],
    );
    manager.create_table(table.primary_key(&mut key(["order_id", "version"])).take()).await?;

    let table = c.table(
        "anomalies",
        [c.serial("id"), c.id("order_id", 26), c.count("attempt_no"), c.id("kind", 32), c.text("detail"), c.ms("at")],
    );
    manager.create_table(table).await?;
    manager.create_index(index("anomalies_order", "anomalies", ["order_id"])).await
}

/// What comes and goes with the traffic.
async fn traffic(manager: &SchemaManager<'_>, c: Columns) -> Result<(), DbErr> {
    let mut table = c.table(
        "code_exchanges",
        [
            c.id("app_id", 32),
            c.hash("code_hash"),
            c.id("order_id", 26),
            c.id("command_id", 36),
            c.id("state", 16),
            c.id("payer_kind", 16).or_null(),
            c.id("payer_id", 128).or_null(),
            c.ms("started_at"),
            c.ms("finished_at").or_null(),
        ],
    );
    manager.create_table(table.primary_key(&mut key(["app_id", "code_hash"])).take()).await?;
    manager.create_index(index("code_exchanges_started", "code_exchanges", ["started_at"])).await?;

    let mut table = c.table("outcomes", [c.id("command_id", 36), c.id("order_id", 26), c.text("body"), c.ms("at")]);
    manager.create_table(table.primary_key(&mut key(["command_id"])).take()).await?;
    manager.create_index(index("outcomes_at", "outcomes", ["at"])).await?;

    let mut table = c.table("nonces", [c.big("merchant_id"), c.id("nonce", 128), c.ms("expires_at")]);
    manager.create_table(table.primary_key(&mut key(["merchant_id", "nonce"])).take()).await?;
    manager.create_index(index("nonces_expires", "nonces", ["expires_at"])).await?;

    let mut table = c.table(
        "parked",
        [
            c.id("id", 64),
            c.id("queue", 64),
            c.id("kind", 32).or_null(),
            c.id("order_id", 26).or_null(),
            c.text("reason"),
            c.text("body_masked"),
            c.long_text("body_sealed").or_null(),
            c.ms("received_at"),
            c.ms("parked_at"),
        ],
    );
    manager.create_table(table.primary_key(&mut key(["id"])).take()).await?;
    manager.create_index(index("parked_at", "parked", ["parked_at"])).await
}
