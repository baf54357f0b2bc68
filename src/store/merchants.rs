//! Merchants and the keys their requests are signed with.

use sea_orm::{
    ActiveValue::{NotSet, Set},
    ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QueryTrait,
};

use super::{
    entity::{merchant_keys, merchants},
    error::StoreError,
    pool::Store,
    rows::{self, In},
};
use crate::{
    domain::{
        id::{CustomerNo, KeyId, MerchantId},
        policy::{MoneyPolicies, MoneyPolicy},
        time::Timestamp,
    },
    keys::{Back, Front, Sealed},
};

/// Who gets paid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merchant {
    pub id: MerchantId,
    pub customer_no: CustomerNo,
    pub name: String,
    /// The networks its servers call from, as the CLI took them; `None` allows all.
    pub ip_list: Option<String>,
    pub enabled: bool,
    /// What becomes of money that came late, or a second time.
    pub policies: MoneyPolicies,
    pub created_at: Timestamp,
}

/// A merchant before the database numbered it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMerchant {
    pub customer_no: CustomerNo,
    pub name: String,
    pub ip_list: Option<String>,
    pub created_at: Timestamp,
}

/// What a merchant's request is checked with, or what it is told is signed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyMaterial {
    Hmac {
        secret: Sealed<Front>,
    },
    Rsa {
        public_key: String,
    },
    /// Signs events, never requests.
    Webhook {
        secret: Sealed<Back>,
    },
}

impl KeyMaterial {
    pub const fn is_webhook(&self) -> bool {
        matches!(self, Self::Webhook { .. })
    }
}

/// A key of a merchant. Its row's name, for sealing: `<merchant>/<key id>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MerchantKey {
    pub merchant: MerchantId,
    pub key_id: KeyId,
    pub material: KeyMaterial,
    pub live: bool,
    pub created_at: Timestamp,
}

impl Store {
    /// Errors: [`StoreError::Conflict`] when the customer number is taken.
    pub async fn insert_merchant(&self, merchant: &NewMerchant) -> Result<MerchantId, StoreError> {
        let row = merchants::ActiveModel {
            id: NotSet,
            customer_no: Set(merchant.customer_no.to_string()),
            name: Set(merchant.name.clone()),
            ip_list: Set(merchant.ip_list.clone()),
            enabled: Set(true),
            created_at: Set(merchant.created_at.ms()),
            late_policy: Set(MoneyPolicies::default().late.as_str().to_owned()),
            second_policy: Set(MoneyPolicies::default().second.as_str().to_owned()),
        };
        self.register_numbered(row, "a merchant with this customer number").await.map(MerchantId)
    }

    pub async fn merchant(&self, id: MerchantId) -> Result<Option<Merchant>, StoreError> {
        let select = merchants::Entity::find_by_id(i64::from(id.0));
        self.read("merchants", |db| async move { select.one(&*db).await }).await?.map(merchant).transpose()
    }

    pub async fn merchant_by_customer_no(&self, no: &CustomerNo) -> Result<Option<Merchant>, StoreError> {
        let select = merchants::Entity::find().filter(merchants::Column::CustomerNo.eq(no.as_str()));
        self.read("merchants", |db| async move { select.one(&*db).await }).await?.map(merchant).transpose()
    }

    /// All merchants, by number.
    pub async fn merchants(&self) -> Result<Vec<Merchant>, StoreError> {
        let select = merchants::Entity::find().order_by_asc(merchants::Column::Id);
        self.read("merchants", |db| async move { select.all(&*db).await }).await?.into_iter().map(merchant).collect()
    }

    /// Writes name, addresses, policies and whether it is enabled. Answers whether there is such a merchant.
    pub async fn update_merchant(&self, merchant: &Merchant) -> Result<bool, StoreError> {
        let row = merchants::ActiveModel {
            name: Set(merchant.name.clone()),
            ip_list: Set(merchant.ip_list.clone()),
            enabled: Set(merchant.enabled),
            late_policy: Set(merchant.policies.late.as_str().to_owned()),
            second_policy: Set(merchant.policies.second.as_str().to_owned()),
            ..Default::default()
        };
        let update =
            merchants::Entity::update_many().set(row).filter(merchants::Column::Id.eq(i64::from(merchant.id.0)));
        self.register_change(update.into_query()).await
    }

    /// Errors: [`StoreError::Conflict`] when the merchant has a key of this name.
    pub async fn insert_merchant_key(&self, key: &MerchantKey) -> Result<(), StoreError> {
        let (kind, secret, public_key) = match &key.material {
            KeyMaterial::Hmac { secret } => ("hmac", Some(secret.as_text().to_owned()), None),
            KeyMaterial::Rsa { public_key } => ("rsa", None, Some(public_key.clone())),
            KeyMaterial::Webhook { secret } => ("webhook", Some(secret.as_text().to_owned()), None),
        };
        let row = merchant_keys::ActiveModel {
            merchant_id: Set(i64::from(key.merchant.0)),
            key_id: Set(key.key_id.to_string()),
            kind: Set(kind.to_owned()),
            secret: Set(secret),
            public_key: Set(public_key),
            live: Set(key.live),
            created_at: Set(key.created_at.ms()),
        };
        let insert = merchant_keys::Entity::insert(row).into_query();
        self.register(insert, "a key of this name").await
    }

    pub async fn merchant_keys(&self, merchant: MerchantId) -> Result<Vec<MerchantKey>, StoreError> {
        let select = merchant_keys::Entity::find().filter(merchant_keys::Column::MerchantId.eq(i64::from(merchant.0)));
        self.read("merchant_keys", |db| async move { select.all(&*db).await })
            .await?
            .into_iter()
            .map(merchant_key)
            .collect()
    }

    /// The keys of all merchants, for a cache.
    pub async fn all_merchant_keys(&self) -> Result<Vec<MerchantKey>, StoreError> {
        let select = merchant_keys::Entity::find()
            .order_by_asc(merchant_keys::Column::MerchantId)
            .order_by_asc(merchant_keys::Column::KeyId);
        self.read("merchant_keys", |db| async move { select.all(&*db).await })
            .await?
            .into_iter()
            .map(merchant_key)
            .collect()
    }

    /// Puts the same secret, sealed with another master key, in the place of the text that was read. Answers whether it was
    /// still there.
    pub async fn reseal_merchant_key<M>(
        &self,
        merchant: MerchantId,
        key_id: &KeyId,
        from: &Sealed<M>,
        to: &Sealed<M>,
    ) -> Result<bool, StoreError> {
        let row = merchant_keys::ActiveModel { secret: Set(Some(to.as_text().to_owned())), ..Default::default() };
        let update = merchant_keys::Entity::update_many()
            .set(row)
            .filter(merchant_keys::Column::MerchantId.eq(i64::from(merchant.0)))
            .filter(merchant_keys::Column::KeyId.eq(key_id.as_str()))
            .filter(merchant_keys::Column::Secret.eq(from.as_text()));
        self.register_change(update.into_query()).await
    }

    /// Turns a key on or off. Answers whether there is such a key.
    pub async fn set_merchant_key_live(
        &self,
        merchant: MerchantId,
        key_id: &KeyId,
        live: bool,
    ) -> Result<bool, StoreError> {
        let row = merchant_keys::ActiveModel { live: Set(live), ..Default::default() };
        let update = merchant_keys::Entity::update_many()
            .set(row)
            .filter(merchant_keys::Column::MerchantId.eq(i64::from(merchant.0)))
            .filter(merchant_keys::Column::KeyId.eq(key_id.as_str()));
        self.register_change(update.into_query()).await
    }
}

fn merchant(row: merchants::Model) -> Result<Merchant, StoreError> {
    let id = row.id;
    let read = || {
        Ok(Merchant {
            id: u32::try_from(id).map(MerchantId).at("id")?,
            customer_no: CustomerNo::parse(row.customer_no).at("customer_no")?,
            name: row.name,
            ip_list: row.ip_list,
            enabled: row.enabled,
            policies: MoneyPolicies {
                late: MoneyPolicy::parse(&row.late_policy).at("late_policy")?,
                second: MoneyPolicy::parse(&row.second_policy).at("second_policy")?,
            },
            created_at: Timestamp::from_ms(row.created_at),
        })
    };
    read().map_err(|column: rows::Column| column.of("merchants", id))
}

fn merchant_key(row: merchant_keys::Model) -> Result<MerchantKey, StoreError> {
    let id = format!("{}/{}", row.merchant_id, row.key_id);
    let read = || {
        let material = match row.kind.as_str() {
            "hmac" => KeyMaterial::Hmac { secret: row.secret.map(Sealed::from_text).at("secret")? },
            "rsa" => KeyMaterial::Rsa { public_key: row.public_key.at("public_key")? },
            "webhook" => KeyMaterial::Webhook { secret: row.secret.map(Sealed::from_text).at("secret")? },
            _ => return Err(rows::Column("kind")),
        };
        Ok(MerchantKey {
            merchant: rows::merchant_id(row.merchant_id)?,
            key_id: KeyId::parse(row.key_id).at("key_id")?,
            material,
            live: row.live,
            created_at: Timestamp::from_ms(row.created_at),
        })
    };
    read().map_err(|column| column.of("merchant_keys", id))
}
