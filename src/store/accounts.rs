//! Channel accounts: merchants' contracts with wallets, their settings, the wallet's keys, our sealed ones.

use std::time::Duration;

use sea_orm::{
    ActiveValue::{NotSet, Set},
    ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QueryTrait,
    sea_query::{Expr, ExprTrait},
};

use super::{
    entity::channel_accounts::{ActiveModel, Column, Entity, Model},
    error::StoreError,
    pool::Store,
    rows::{self, In},
};
use crate::{
    domain::{
        account::ChannelAccount,
        id::{AccountId, MerchantId},
        time::Timestamp,
        wallet::Wallet,
    },
    keys::{Back, Sealed},
};

/// A channel account with everything its gateway is built from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub account: ChannelAccount,
    /// JSON; the gateway of its wallet knows the shape.
    pub settings: String,
    /// JSON: the wallet's keys, written by the scheduler alone once it runs.
    pub public_keys: String,
    /// JSON, sealed under the account's number as row name. `None` until the account has them.
    pub secrets: Option<Sealed<Back>>,
    /// Counts the changes; a change names the one it started from.
    pub version: i64,
    /// When the wallet's keys were last asked for.
    pub keys_checked_at: Option<Timestamp>,
    pub created_at: Timestamp,
}

/// An account before the database numbered it: disabled, and without secrets, which are sealed under its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAccount {
    pub merchant: MerchantId,
    pub wallet: Wallet,
    pub number: String,
    pub settings: String,
    pub public_keys: String,
    pub created_at: Timestamp,
}

/// What to write; `None` leaves a column as it is.
#[derive(Debug, Clone, Default)]
pub struct AccountChange {
    pub settings: Option<String>,
    pub public_keys: Option<String>,
    pub secrets: Option<Sealed<Back>>,
    pub enabled: Option<bool>,
}

impl Store {
    pub async fn insert_account(&self, account: &NewAccount) -> Result<AccountId, StoreError> {
        let row = ActiveModel {
            id: NotSet,
            merchant_id: Set(i64::from(account.merchant.0)),
            wallet: Set(account.wallet.as_str().to_owned()),
            number: Set(account.number.clone()),
            settings: Set(account.settings.clone()),
            public_keys: Set(account.public_keys.clone()),
            secrets: Set(None),
            enabled: Set(false),
            version: Set(0),
            keys_checked_at: Set(None),
            created_at: Set(account.created_at.ms()),
        };
        self.register_numbered(row, "a channel account").await.map(AccountId)
    }

    pub async fn account(&self, id: AccountId) -> Result<Option<Account>, StoreError> {
        let select = Entity::find_by_id(i64::from(id.0));
        self.read("channel_accounts", |db| async move { select.one(&*db).await }).await?.map(account).transpose()
    }

    /// All accounts, by number.
    pub async fn accounts(&self) -> Result<Vec<Account>, StoreError> {
        let select = Entity::find().order_by_asc(Column::Id);
        self.read("channel_accounts", |db| async move { select.all(&*db).await })
            .await?
            .into_iter()
            .map(account)
            .collect()
    }

    /// Writes a change if the account is still of `from_version`. Answers whether it was.
    pub async fn update_account(
        &self,
        id: AccountId,
        from_version: i64,
        change: AccountChange,
    ) -> Result<bool, StoreError> {
        let row = ActiveModel {
            settings: change.settings.map_or(NotSet, Set),
            public_keys: change.public_keys.map_or(NotSet, Set),
            secrets: change.secrets.map_or(NotSet, |sealed| Set(Some(sealed.as_text().to_owned()))),
            enabled: change.enabled.map_or(NotSet, Set),
            ..Default::default()
        };
        let update = Entity::update_many()
            .set(row)
            .col_expr(Column::Version, Expr::col(Column::Version).add(1))
            .filter(Column::Id.eq(i64::from(id.0)))
            .filter(Column::Version.eq(from_version));
        self.register_change(update.into_query()).await
    }

    /// The scheduler's write of a wallet's keys: all of them, as JSON. Answers whether the account was of `from_version`.
    pub async fn set_public_keys(
        &self,
        id: AccountId,
        from_version: i64,
        public_keys: String,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let row = ActiveModel {
            public_keys: Set(public_keys),
            keys_checked_at: Set(Some(now.ms())),
            version: Set(from_version + 1),
            ..Default::default()
        };
        let update = Entity::update_many()
            .set(row)
            .filter(Column::Id.eq(i64::from(id.0)))
            .filter(Column::Version.eq(from_version));
        self.register_change(update.into_query()).await
    }

    /// Somebody met a key that is not pinned: the next look after this account is due, if the last was `at_most` ago.
    pub async fn want_key_check(&self, id: AccountId, now: Timestamp, at_most: Duration) -> Result<(), StoreError> {
        let update = Entity::update_many()
            .set(ActiveModel { keys_checked_at: Set(None), ..Default::default() })
            .filter(Column::Id.eq(i64::from(id.0)))
            .filter(Column::KeysCheckedAt.lte(now.minus(at_most).ms()));
        self.execute(self.build(&update.into_query())).await?;
        Ok(())
    }

    /// Takes the right to ask the wallet for its keys now; given once in `not_within`, whoever asks.
    pub async fn claim_key_check(
        &self,
        id: AccountId,
        now: Timestamp,
        not_within: Duration,
    ) -> Result<bool, StoreError> {
        let update = Entity::update_many()
            .set(ActiveModel { keys_checked_at: Set(Some(now.ms())), ..Default::default() })
            .filter(Column::Id.eq(i64::from(id.0)))
            .filter(
                Condition::any()
                    .add(Column::KeysCheckedAt.is_null())
                    .add(Column::KeysCheckedAt.lte(now.minus(not_within).ms())),
            );
        Ok(self.execute(self.build(&update.into_query())).await? == 1)
    }
}

fn account(row: Model) -> Result<Account, StoreError> {
    let id = row.id;
    let read = || {
        Ok(Account {
            account: ChannelAccount {
                id: u32::try_from(id).map(AccountId).at("id")?,
                merchant: rows::merchant_id(row.merchant_id)?,
                wallet: Wallet::parse(&row.wallet).at("wallet")?,
                number: row.number,
                enabled: row.enabled,
            },
            settings: row.settings,
            public_keys: row.public_keys,
            secrets: row.secrets.map(Sealed::from_text),
            version: row.version,
            keys_checked_at: row.keys_checked_at.map(Timestamp::from_ms),
            created_at: Timestamp::from_ms(row.created_at),
        })
    };
    read().map_err(|column: rows::Column| column.of("channel_accounts", id))
}
