//! Table `bill_runs`. One account's bill of one day in China, and what its last matching counted.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "bill_runs")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub account_id: i64,
    pub date: String,
    pub state: String,
    pub tries: i32,
    pub payments: i64,
    pub pay_fen: i64,
    pub refunds: i64,
    pub refund_fen: i64,
    pub of_others: i64,
    pub unreadable: i64,
    pub discrepancies: i64,
    pub lease_token: Option<String>,
    pub leased_until: Option<i64>,
    pub next_at: Option<i64>,
    pub last_error: Option<String>,
    pub matched_at: Option<i64>,
    pub created_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
