//! Table `mini_programs`. A mini-program in which a merchant's orders are paid. `secrets` is sealed back.

use sea_orm::entity::prelude::*;

// No `Debug` that prints: the row holds what may not reach a log.
#[derive(Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "mini_programs")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub merchant_id: i64,
    pub account_id: i64,
    pub wallet: String,
    pub app_id: String,
    pub original_id: Option<String>,
    pub path: String,
    pub query_template: String,
    pub env_version: String,
    pub takes_code: bool,
    pub secrets: Option<String>,
    pub enabled: bool,
    pub version: i64,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("mini_programs row (***)")
    }
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
