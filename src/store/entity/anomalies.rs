//! Table `anomalies`. Money that needs a person's or a policy's eye: one of a kind per attempt. `handled` is `due` (to the policy),
//! `kept`, `refunded`, `person` or `let_go`.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "anomalies")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub order_id: String,
    pub attempt_no: i32,
    pub kind: String,
    pub detail: String,
    pub at: i64,
    pub handled: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
