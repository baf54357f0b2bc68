//! Table `merchant_events`. What merchants are told; written with the change it tells of, sent by the scheduler.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "merchant_events")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub merchant_id: i64,
    pub order_id: String,
    pub kind: String,
    /// Empty when it is not about a refund.
    pub refund_no: String,
    pub sequence: i64,
    /// A JSON object: what was true when it was written.
    pub facts: String,
    pub url: String,
    pub endpoint: String,
    pub state: String,
    pub tries: i32,
    pub next_at: i64,
    pub lease_token: Option<String>,
    pub lease_until: Option<i64>,
    /// The HTTP status of the last try that was answered.
    pub last_status: Option<i32>,
    /// Why the last try was not accepted, in one word.
    pub last_trouble: Option<String>,
    pub last_at: Option<i64>,
    /// When its schedule began: as it was written, or sent again by hand.
    pub scheduled_from: i64,
    pub created_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
