//! Nonces of signed requests: each is taken once.

use sea_orm::{ActiveValue::Set, EntityTrait, QueryTrait};

use super::{
    entity::nonces::{ActiveModel, Entity},
    error::StoreError,
    pool::Store,
};
use crate::domain::{id::MerchantId, time::Timestamp};

impl Store {
    /// Takes a merchant's nonce (at most 128 ASCII characters). Answers `false` when it was taken before.
    pub async fn take_nonce(
        &self,
        merchant: MerchantId,
        nonce: &str,
        expires_at: Timestamp,
    ) -> Result<bool, StoreError> {
        let row = ActiveModel {
            merchant_id: Set(i64::from(merchant.0)),
            nonce: Set(nonce.to_owned()),
            expires_at: Set(expires_at.ms()),
        };
        self.insert_if_absent(Entity::insert(row).into_query()).await
    }

    /// Deletes at most `limit` nonces that ran out before `now`. Answers how many.
    pub async fn sweep_nonces(&self, now: Timestamp, limit: u64) -> Result<u64, StoreError> {
        self.sweep("nonces", ["merchant_id", "nonce"], "expires_at", now, limit).await
    }
}
