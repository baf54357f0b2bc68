//! Table `merchant_keys`. A merchant's request keys, `kind` `hmac` (`secret`, sealed front) or `rsa` (`public_key`), and the
//! secrets that sign its events: `webhook` (`secret`, sealed back).

use sea_orm::entity::prelude::*;

// No `Debug` that prints: the row holds what may not reach a log.
#[derive(Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "merchant_keys")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub merchant_id: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub key_id: String,
    pub kind: String,
    pub secret: Option<String>,
    pub public_key: Option<String>,
    pub live: bool,
    pub created_at: i64,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("merchant_keys row (***)")
    }
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
