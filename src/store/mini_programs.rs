//! Mini-programs: where a merchant's orders are paid.

use sea_orm::{
    ActiveValue::{NotSet, Set},
    ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QueryTrait,
};

use super::{
    entity::mini_programs::{ActiveModel, Column, Entity, Model},
    error::StoreError,
    pool::Store,
    rows::{self, In},
};
use crate::{
    domain::{
        account::MiniProgram,
        id::{AccountId, AppId, MerchantId, MiniProgramId},
        wallet::Wallet,
    },
    keys::{Back, Sealed},
};

/// A mini-program with its sealed part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MiniProgramRow {
    pub program: MiniProgram,
    /// JSON (AppSecret, app_auth_token), sealed under the mini-program's number as row name.
    pub secrets: Option<Sealed<Back>>,
    pub enabled: bool,
    /// Counts the changes; a change names the one it started from.
    pub version: i64,
}

/// A mini-program before the database numbered it: without secrets, which are sealed under its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMiniProgram {
    pub merchant: MerchantId,
    pub account: AccountId,
    pub wallet: Wallet,
    pub app_id: AppId,
    pub original_id: Option<String>,
    pub path: String,
    pub query_template: String,
    pub env_version: String,
    pub takes_code: bool,
    /// False: nobody uses it before its secrets are written and it is enabled with them.
    pub enabled: bool,
}

impl Store {
    /// Errors: [`StoreError::Conflict`] when the merchant has this app already.
    pub async fn insert_mini_program(&self, program: &NewMiniProgram) -> Result<MiniProgramId, StoreError> {
        let row = ActiveModel {
            id: NotSet,
            merchant_id: Set(i64::from(program.merchant.0)),
            account_id: Set(i64::from(program.account.0)),
            wallet: Set(program.wallet.as_str().to_owned()),
            app_id: Set(program.app_id.to_string()),
            original_id: Set(program.original_id.clone()),
            path: Set(program.path.clone()),
            query_template: Set(program.query_template.clone()),
            env_version: Set(program.env_version.clone()),
            takes_code: Set(program.takes_code),
            secrets: Set(None),
            enabled: Set(program.enabled),
            version: Set(0),
        };
        self.register_numbered(row, "a mini-program with this appid").await.map(MiniProgramId)
    }

    pub async fn mini_program(&self, id: MiniProgramId) -> Result<Option<MiniProgramRow>, StoreError> {
        let select = Entity::find_by_id(i64::from(id.0));
        self.read("mini_programs", |db| async move { select.one(&*db).await }).await?.map(mini_program).transpose()
    }

    pub async fn mini_program_by_app(
        &self,
        merchant: MerchantId,
        wallet: Wallet,
        app_id: &AppId,
    ) -> Result<Option<MiniProgramRow>, StoreError> {
        let select = Entity::find()
            .filter(Column::Wallet.eq(wallet.as_str()))
            .filter(Column::AppId.eq(app_id.as_str()))
            .filter(Column::MerchantId.eq(i64::from(merchant.0)));
        self.read("mini_programs", |db| async move { select.one(&*db).await }).await?.map(mini_program).transpose()
    }

    /// All mini-programs, by number.
    pub async fn mini_programs(&self) -> Result<Vec<MiniProgramRow>, StoreError> {
        let select = Entity::find().order_by_asc(Column::Id);
        self.read("mini_programs", |db| async move { select.all(&*db).await })
            .await?
            .into_iter()
            .map(mini_program)
            .collect()
    }

    /// Writes everything but number, merchant, wallet and appid, if the row is still of the version that was read. Answers
    /// whether it was.
    pub async fn update_mini_program(&self, row: &MiniProgramRow) -> Result<bool, StoreError> {
        let MiniProgramRow { program, secrets, enabled, version } = row;
        let change = ActiveModel {
            account_id: Set(i64::from(program.account.0)),
            original_id: Set(program.original_id.clone()),
            path: Set(program.path.clone()),
            query_template: Set(program.query_template.clone()),
            env_version: Set(program.env_version.clone()),
            takes_code: Set(program.takes_code),
            secrets: Set(secrets.as_ref().map(|sealed| sealed.as_text().to_owned())),
            enabled: Set(*enabled),
            version: Set(version + 1),
            ..Default::default()
        };
        let update = Entity::update_many()
            .set(change)
            .filter(Column::Id.eq(i64::from(program.id.0)))
            .filter(Column::Version.eq(*version));
        self.register_change(update.into_query()).await
    }
}

fn mini_program(row: Model) -> Result<MiniProgramRow, StoreError> {
    let id = row.id;
    let read = || {
        Ok(MiniProgramRow {
            program: MiniProgram {
                id: u32::try_from(id).map(MiniProgramId).at("id")?,
                merchant: rows::merchant_id(row.merchant_id)?,
                account: rows::account_id(row.account_id)?,
                wallet: Wallet::parse(&row.wallet).at("wallet")?,
                app_id: AppId::parse(row.app_id).at("app_id")?,
                original_id: row.original_id,
                path: row.path,
                query_template: row.query_template,
                env_version: row.env_version,
                takes_code: row.takes_code,
            },
            secrets: row.secrets.map(Sealed::from_text),
            enabled: row.enabled,
            version: row.version,
        })
    };
    read().map_err(|column: rows::Column| column.of("mini_programs", id))
}
