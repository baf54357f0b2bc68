//! Table `orders`. One row per order, one state; changed by `Store::commit` alone.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "orders")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub merchant_id: i64,
    pub order_no: String,
    pub fingerprint: Vec<u8>,
    pub amount_fen: i64,
    pub good_name: String,
    pub good_no: Option<String>,
    pub attach: Option<String>,
    pub notify_url: String,
    pub wechat_mini_program_id: Option<i64>,
    pub alipay_mini_program_id: Option<i64>,
    pub created_at: i64,
    pub expire_at: i64,
    pub link_generation: i32,
    pub link_key_id: String,
    pub state: String,
    pub paid_by: Option<i32>,
    pub closed_at: Option<i64>,
    pub version: i64,
    pub lease_command_id: Option<String>,
    pub lease_until: Option<i64>,
    pub asked_at: Option<i64>,
    pub close_wanted_at: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    #[sea_orm(has_many = "super::attempts::Entity")]
    Attempts,
}

impl Related<super::attempts::Entity> for Entity {
    fn to() -> RelationDef {
        Relation::Attempts.def()
    }
}

impl ActiveModelBehavior for ActiveModel {}
