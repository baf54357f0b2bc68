//! Table `parked`. Messages set aside for a person; identities are masked before they come here.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "parked")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub queue: String,
    pub kind: Option<String>,
    pub order_id: Option<String>,
    pub reason: String,
    pub body_masked: String,
    pub body_sealed: Option<String>,
    pub received_at: i64,
    pub parked_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
