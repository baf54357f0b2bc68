//! Table `discrepancies`. What a bill and our rows do not agree on; one of a kind per account, day and number.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "discrepancies")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub account_id: i64,
    pub date: String,
    pub kind: String,
    pub out_trade_no: String,
    /// SHA-256 of the refund's number, or of the payment's.
    pub number_hash: Vec<u8>,
    pub out_refund_no: Option<String>,
    pub order_id: Option<String>,
    pub ours: String,
    pub theirs: String,
    pub repair: String,
    pub state: String,
    pub seen_try: i32,
    pub note: Option<String>,
    /// When it was found, or found again after it was repaired.
    pub at: i64,
    pub settled_at: Option<i64>,
    /// When the wallet is asked next; empty: it was not yet.
    pub ask_at: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
