//! Table `merchants`. Who gets paid.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "merchants")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub customer_no: String,
    pub name: String,
    pub ip_list: Option<String>,
    pub enabled: bool,
    pub created_at: i64,
    pub late_policy: String,
    pub second_policy: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
