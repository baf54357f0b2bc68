//! Table `code_exchanges`. A login code's one exchange, under its keyed hash; it belongs to one order.

use sea_orm::entity::prelude::*;

// No `Debug` that prints: the row holds what may not reach a log.
#[derive(Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "code_exchanges")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub app_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub code_hash: Vec<u8>,
    pub order_id: String,
    pub command_id: String,
    pub state: String,
    pub payer_kind: Option<String>,
    pub payer_id: Option<String>,
    pub started_at: i64,
    pub finished_at: Option<i64>,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("code_exchanges row (***)")
    }
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
