//! Table `deployment_keys`. Keys of the deployment itself: `purpose` is `payinfo` (sealed front) or `code_hash` (sealed back).

use sea_orm::entity::prelude::*;

// No `Debug` that prints: the row holds what may not reach a log.
#[derive(Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "deployment_keys")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub purpose: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub key_id: String,
    pub secret: String,
    pub state: String,
    pub created_at: i64,
    pub signs_from: i64,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("deployment_keys row (***)")
    }
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
