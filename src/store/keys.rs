//! Keys of the deployment: those that tag payInfo and those that hash login codes.

use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QueryTrait};

use super::{
    entity::deployment_keys::{ActiveModel, Column, Entity, Model},
    error::StoreError,
    pool::Store,
    rows::{self, In},
};
use crate::{
    domain::{id::KeyId, time::Timestamp},
    keys::{Back, Front, Sealed},
};

/// What a key is for; it decides whose master key seals it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyPurpose {
    PayInfo,
    CodeHash,
}

impl KeyPurpose {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PayInfo => "payinfo",
            Self::CodeHash => "code_hash",
        }
    }
}

/// The sealed key. Its row's name, for sealing: `<purpose>/<key id>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeploymentSecret {
    PayInfo(Sealed<Front>),
    CodeHash(Sealed<Back>),
}

impl DeploymentSecret {
    pub const fn purpose(&self) -> KeyPurpose {
        match self {
            Self::PayInfo(_) => KeyPurpose::PayInfo,
            Self::CodeHash(_) => KeyPurpose::CodeHash,
        }
    }

    fn as_text(&self) -> &str {
        match self {
            Self::PayInfo(sealed) => sealed.as_text(),
            Self::CodeHash(sealed) => sealed.as_text(),
        }
    }
}

/// Where a key stands: it verifies everywhere before it signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    Verifying,
    Signing,
    Retired,
}

impl KeyState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Verifying => "verifying",
            Self::Signing => "signing",
            Self::Retired => "retired",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Verifying, Self::Signing, Self::Retired].into_iter().find(|state| state.as_str() == text)
    }
}

/// A key of the deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentKey {
    pub key_id: KeyId,
    pub secret: DeploymentSecret,
    pub state: KeyState,
    pub created_at: Timestamp,
    /// From then on it may sign: two reload intervals after it was made.
    pub signs_from: Timestamp,
}

impl Store {
    /// Errors: [`StoreError::Conflict`] when the purpose has a key of this name.
    pub async fn insert_deployment_key(&self, key: &DeploymentKey) -> Result<(), StoreError> {
        let row = ActiveModel {
            purpose: Set(key.secret.purpose().as_str().to_owned()),
            key_id: Set(key.key_id.to_string()),
            secret: Set(key.secret.as_text().to_owned()),
            state: Set(key.state.as_str().to_owned()),
            created_at: Set(key.created_at.ms()),
            signs_from: Set(key.signs_from.ms()),
        };
        self.register(Entity::insert(row).into_query(), "a key of this name").await
    }

    /// The keys of one purpose, oldest first, retired ones included.
    pub async fn deployment_keys(&self, purpose: KeyPurpose) -> Result<Vec<DeploymentKey>, StoreError> {
        let select = Entity::find()
            .filter(Column::Purpose.eq(purpose.as_str()))
            .order_by_asc(Column::CreatedAt)
            .order_by_asc(Column::KeyId);
        let rows = self.read("deployment_keys", |db| async move { select.all(&*db).await }).await?;
        rows.into_iter().map(|row| deployment_key(purpose, row)).collect()
    }

    /// Puts the same secret, sealed with another master key, in the place of the text that was read. Answers whether it was
    /// still there.
    pub async fn reseal_deployment_key(
        &self,
        key_id: &KeyId,
        from: &DeploymentSecret,
        to: &DeploymentSecret,
    ) -> Result<bool, StoreError> {
        let row = ActiveModel { secret: Set(to.as_text().to_owned()), ..Default::default() };
        let update = Entity::update_many()
            .set(row)
            .filter(Column::Purpose.eq(to.purpose().as_str()))
            .filter(Column::KeyId.eq(key_id.as_str()))
            .filter(Column::Secret.eq(from.as_text()));
        self.register_change(update.into_query()).await
    }

    /// Answers whether there is such a key.
    pub async fn set_deployment_key_state(
        &self,
        purpose: KeyPurpose,
        key_id: &KeyId,
        state: KeyState,
    ) -> Result<bool, StoreError> {
        let row = ActiveModel { state: Set(state.as_str().to_owned()), ..Default::default() };
        let update = Entity::update_many()
            .set(row)
            .filter(Column::Purpose.eq(purpose.as_str()))
            .filter(Column::KeyId.eq(key_id.as_str()));
        self.register_change(update.into_query()).await
    }
}

fn deployment_key(purpose: KeyPurpose, row: Model) -> Result<DeploymentKey, StoreError> {
    let id = format!("{}/{}", row.purpose, row.key_id);
    let read = || {
        Ok(DeploymentKey {
            key_id: KeyId::parse(row.key_id).at("key_id")?,
            secret: match purpose {
                KeyPurpose::PayInfo => DeploymentSecret::PayInfo(Sealed::from_text(row.secret)),
                KeyPurpose::CodeHash => DeploymentSecret::CodeHash(Sealed::from_text(row.secret)),
            },
            state: KeyState::parse(&row.state).at("state")?,
            created_at: Timestamp::from_ms(row.created_at),
            signs_from: Timestamp::from_ms(row.signs_from),
        })
    };
    read().map_err(|column: rows::Column| column.of("deployment_keys", id))
}
