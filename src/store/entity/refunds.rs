//! Table `refunds`. Money back, one row per refund; changed by `Store::commit_refund` alone.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "refunds")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub merchant_id: i64,
    pub refund_no: String,
    pub fingerprint: Vec<u8>,
    pub order_id: String,
    pub attempt_no: i32,
    pub wallet: String,
    pub account_id: i64,
    pub amount_fen: i64,
    pub total_fen: i64,
    pub reason: Option<String>,
    pub notify_url: Option<String>,
    pub initiator: String,
    pub state: String,
    pub refunded_at: Option<i64>,
    pub failure: Option<String>,
    pub frozen_body: Option<String>,
    pub frozen_notify_url: Option<String>,
    pub sends: i32,
    pub refusals: i32,
    pub asks: i32,
    pub sent_at: Option<i64>,
    pub doubtful_at: Option<i64>,
    pub denied_at: Option<i64>,
    pub known_at: Option<i64>,
    pub wallet_refund_no: Option<String>,
    pub hint: Option<String>,
    pub created_at: i64,
    pub next_at: Option<i64>,
    pub lease_token: Option<String>,
    pub leased_until: Option<i64>,
    pub version: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
