//! Enrolling merchants, their contracts and the deployment's own keys: one way in for the command line, the demo and tests.
//!
//! Secrets are sealed under their row's name, so a row is inserted first, disabled, and enabled with its sealed part.

use std::time::Duration;

use anyhow::{Context, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretString};

use crate::{
    clock::Clock,
    domain::{
        account::MiniProgram,
        id::{AccountId, AppId, CustomerNo, KeyId, MerchantId, MiniProgramId},
        wallet::Wallet,
    },
    gateway::open,
    keys::{Back, Front, Place, Vault, mac, rsa::RsaVerifier, webhook},
    store::{
        AccountChange, DeploymentKey, DeploymentSecret, KeyMaterial, KeyPurpose, KeyState, MerchantKey, NewAccount,
        NewMerchant, NewMiniProgram, Store,
    },
};

/// Who enrols: a store to write to and the master keys that seal.
pub struct Enroller<'a> {
    pub store: &'a Store,
    pub vault: &'a Vault,
    pub clock: &'a Clock,
}

/// A channel account as it is handed in: JSON texts of its wallet's shape, checked before anything is written.
pub struct AccountParts {
    pub merchant: MerchantId,
    pub wallet: Wallet,
    /// WeChat: mchid (provider: sp_mchid). Alipay: the calling APPID.
    pub number: String,
    pub settings: String,
    pub public_keys: String,
    pub secrets: SecretString,
}

/// A mini-program as it is handed in.
pub struct MiniProgramParts {
    pub account: AccountId,
    pub app_id: AppId,
    pub original_id: Option<String>,
    pub path: String,
    /// `None`: [`MiniProgram::DEFAULT_QUERY_TEMPLATE`].
    pub query_template: Option<String>,
    /// `None`: `release`.
    pub env_version: Option<String>,
    /// JSON: `{"app_secret":…}` (WeChat) or how codes are exchanged (Alipay). `None`: only `identifyId` is taken.
    pub secrets: Option<SecretString>,
}

impl Enroller<'_> {
    pub async fn merchant(
        &self,
        customer_no: &CustomerNo,
        name: &str,
        ip_list: Option<String>,
    ) -> anyhow::Result<MerchantId> {
        let created_at = self.clock.now();
        let merchant = NewMerchant { customer_no: customer_no.clone(), name: name.to_owned(), ip_list, created_at };
        Ok(self.store.insert_merchant(&merchant).await?)
    }

    /// A fresh HMAC secret for a merchant's requests: base64 of 32 bytes, shown here once and never again.
    pub async fn hmac_key(&self, merchant: MerchantId, key_id: &KeyId) -> anyhow::Result<SecretString> {
        self.room_for_key(merchant, |material| !material.is_webhook()).await?;
        let secret = mac::fresh_secret();
        let row = format!("{merchant}/{key_id}");
        let place = Place { table: "merchant_keys", column: "secret", row: &row };
        let sealed = self.vault.seal::<Front>(place, secret.as_slice())?;
        self.insert_key(merchant, key_id, KeyMaterial::Hmac { secret: sealed }).await?;
        Ok(STANDARD.encode(secret.as_slice()).into())
    }

    /// A merchant's RSA public key, at least 2048 bits, PEM or bare base64.
    pub async fn rsa_key(&self, merchant: MerchantId, key_id: &KeyId, public_key: &str) -> anyhow::Result<()> {
        self.room_for_key(merchant, |material| !material.is_webhook()).await?;
        let key = RsaVerifier::parse(public_key).context("the public key cannot be used")?;
        self.insert_key(merchant, key_id, KeyMaterial::Rsa { public_key: key.to_pem() }).await
    }

    /// A fresh secret that signs what a merchant is told: `whsec_…`, shown here once and never again.
    pub async fn webhook_key(&self, merchant: MerchantId, key_id: &KeyId) -> anyhow::Result<SecretString> {
        self.room_for_key(merchant, KeyMaterial::is_webhook).await?;
        let secret = mac::fresh_secret();
        let row = format!("{merchant}/{key_id}");
        let place = Place { table: "merchant_keys", column: "secret", row: &row };
        let sealed = self.vault.seal::<Back>(place, secret.as_slice())?;
        self.insert_key(merchant, key_id, KeyMaterial::Webhook { secret: sealed }).await?;
        Ok(webhook::secret_text(secret.as_slice()))
    }

    /// Two live keys for one purpose, so that one can take over from the other; a third would be one that nobody remembers.
    async fn room_for_key(
        &self,
        merchant: MerchantId,
        same_purpose: impl Fn(&KeyMaterial) -> bool,
    ) -> anyhow::Result<()> {
        let keys = self.store.merchant_keys(merchant).await?;
        if keys.iter().filter(|key| key.live && same_purpose(&key.material)).count() >= 2 {
            bail!("the merchant has two live keys already: retire one first");
        }
        Ok(())
    }

    async fn insert_key(&self, merchant: MerchantId, key_id: &KeyId, material: KeyMaterial) -> anyhow::Result<()> {
        let key = MerchantKey { merchant, key_id: key_id.clone(), material, live: true, created_at: self.clock.now() };
        Ok(self.store.insert_merchant_key(&key).await?)
    }

    /// A channel account, usable at once. Errors: a part that its gateway does not take, before anything is written.
    pub async fn account(&self, parts: AccountParts) -> anyhow::Result<AccountId> {
        check_account(parts.wallet, &parts.settings, &parts.public_keys, &parts.secrets)?;
        let account = NewAccount {
            merchant: parts.merchant,
            wallet: parts.wallet,
            number: parts.number,
            settings: parts.settings,
            public_keys: parts.public_keys,
            created_at: self.clock.now(),
        };
        let id = self.store.insert_account(&account).await?;
        let row = id.to_string();
        let place = Place { table: "channel_accounts", column: "secrets", row: &row };
        let sealed = self.vault.seal::<Back>(place, parts.secrets.expose_secret().as_bytes())?;
        let stored = self.store.account(id).await?.context("the account just written is gone")?;
        let change = AccountChange { secrets: Some(sealed), enabled: Some(true), ..AccountChange::default() };
        if !self.store.update_account(id, stored.version, change).await? {
            bail!("somebody else changed account {id} at the same time: look at it and enable it");
        }
        Ok(id)
    }

    pub async fn mini_program(&self, parts: MiniProgramParts) -> anyhow::Result<MiniProgramId> {
        let account = self.store.account(parts.account).await?;
        let account = account.with_context(|| format!("there is no channel account {}", parts.account))?.account;
        let takes_code = match &parts.secrets {
            None => false,
            Some(secrets) => open::takes_code(account.wallet, &parts.app_id, secrets).map_err(anyhow::Error::msg)?,
        };
        let program = NewMiniProgram {
            merchant: account.merchant,
            account: account.id,
            wallet: account.wallet,
            app_id: parts.app_id,
            original_id: parts.original_id,
            path: parts.path,
            query_template: parts.query_template.unwrap_or_else(|| MiniProgram::DEFAULT_QUERY_TEMPLATE.to_owned()),
            env_version: parts.env_version.unwrap_or_else(|| "release".to_owned()),
            takes_code,
            enabled: parts.secrets.is_none(),
        };
        let id = self.store.insert_mini_program(&program).await?;
        if let Some(secrets) = parts.secrets {
            let row = id.to_string();
            let place = Place { table: "mini_programs", column: "secrets", row: &row };
            let sealed = self.vault.seal::<Back>(place, secrets.expose_secret().as_bytes())?;
            let mut stored = self.store.mini_program(id).await?.context("the mini-program just written is gone")?;
            stored.secrets = Some(sealed);
            stored.enabled = true;
            if !self.store.update_mini_program(&stored).await? {
                bail!("somebody else changed mini-program {id} at the same time: set its secret again");
            }
        }
        Ok(id)
    }

    /// A fresh payInfo key. It verifies at once and signs after `signs_in`: two reload intervals of every front, or nothing
    /// for a deployment's first key.
    pub async fn pay_info_key(&self, key_id: &KeyId, signs_in: Duration) -> anyhow::Result<()> {
        let row = format!("{}/{key_id}", KeyPurpose::PayInfo.as_str());
        let place = Place { table: "deployment_keys", column: "secret", row: &row };
        let sealed = self.vault.seal::<Front>(place, mac::fresh_secret().as_slice())?;
        self.deployment_key(key_id, DeploymentSecret::PayInfo(sealed), signs_in).await
    }

    /// The key under which spent login codes are known.
    pub async fn code_hash_key(&self, key_id: &KeyId) -> anyhow::Result<()> {
        let row = format!("{}/{key_id}", KeyPurpose::CodeHash.as_str());
        let place = Place { table: "deployment_keys", column: "secret", row: &row };
        let sealed = self.vault.seal::<Back>(place, mac::fresh_secret().as_slice())?;
        self.deployment_key(key_id, DeploymentSecret::CodeHash(sealed), Duration::ZERO).await
    }

    async fn deployment_key(&self, key_id: &KeyId, secret: DeploymentSecret, signs_in: Duration) -> anyhow::Result<()> {
        let now = self.clock.now();
        let key = DeploymentKey {
            key_id: key_id.clone(),
            secret,
            state: KeyState::Signing,
            created_at: now,
            signs_from: now.plus(signs_in),
        };
        Ok(self.store.insert_deployment_key(&key).await?)
    }
}

/// Whether a gateway would take these parts. Errors: its own words.
pub fn check_account(wallet: Wallet, settings: &str, public_keys: &str, secrets: &SecretString) -> anyhow::Result<()> {
    let http = crate::gateway::http::client(&crate::gateway::http::HttpSettings::default())?;
    open::gateway(wallet, settings, public_keys, secrets, Vec::new(), http).map_err(anyhow::Error::msg)?;
    open::verifier(wallet, settings, public_keys).map_err(anyhow::Error::msg)?;
    Ok(())
}
