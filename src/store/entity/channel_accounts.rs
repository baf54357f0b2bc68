//! Table `channel_accounts`. A merchant's contract with a wallet. `settings` and `public_keys` are JSON, `secrets` is sealed back.

use sea_orm::entity::prelude::*;

// No `Debug` that prints: the row holds what may not reach a log.
#[derive(Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "channel_accounts")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub merchant_id: i64,
    pub wallet: String,
    pub number: String,
    pub settings: String,
    pub public_keys: String,
    pub secrets: Option<String>,
    pub enabled: bool,
    pub version: i64,
    pub keys_checked_at: Option<i64>,
    pub created_at: i64,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("channel_accounts row (***)")
    }
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
