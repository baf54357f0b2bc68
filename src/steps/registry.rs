//! The channel accounts with their gateways and budgets, as the store has them; secrets are opened here and nowhere else.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use secrecy::SecretString;

use super::budget::{Budget, BudgetSettings};
use crate::{
    clock::Clock,
    domain::{
        account::{ChannelAccount, MiniProgram},
        id::{AccountId, AppId, CustomerNo, MerchantId, MiniProgramId},
        payer::LoginCode,
        wallet::Wallet,
    },
    gateway::{
        Gateway,
        open::{self, OpenApp},
    },
    keys::{Back, Place, Sealed, Vault, WebhookSigner, mac::CodeHashKey},
    store::{
        Account, CodeHash, DeploymentKey, DeploymentSecret, KeyMaterial, KeyPurpose, KeyState, MerchantKey,
        MiniProgramRow, Store, StoreError,
    },
};

/// Why the registry could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the code-hash key cannot be opened: {0}")]
    Keys(String),
}

/// One channel account, ready to be used or with the reason why not.
pub struct Channel {
    pub account: ChannelAccount,
    pub version: i64,
    /// Prepay, close and the questions of commands.
    pub payments: Arc<Budget>,
    /// Code exchanges: another host, whose health says nothing about the payments' one.
    pub logins: Arc<Budget>,
    /// The scheduler's questions: a flood of orders cannot starve them.
    pub questions: Arc<Budget>,
    /// Beside the questions: a flood of these leaves refunds a share of their own.
    pub refunds: Arc<Budget>,
    gateway: Result<Arc<dyn Gateway>, String>,
    programs: Vec<(MiniProgramId, i64)>,
}

impl Channel {
    /// Errors: what is wrong with the account, for a log.
    pub fn gateway(&self) -> Result<&Arc<dyn Gateway>, &str> {
        self.gateway.as_ref().map_err(String::as_str)
    }
}

/// Makes an account's gateway from its row: wallet, settings, public keys, secrets and mini-programs, the sealed parts opened.
/// Errors: one line for the operator, nothing secret in it.
pub type Opener =
    Arc<dyn Fn(Wallet, &str, &str, &SecretString, Vec<OpenApp>) -> Result<Arc<dyn Gateway>, String> + Send + Sync>;

/// A merchant as events are sent to it.
#[derive(Debug)]
pub struct Addressee {
    pub customer_no: CustomerNo,
    /// `None`: it has no live webhook secret, and nothing is sent unsigned.
    pub signer: Option<WebhookSigner>,
}

#[derive(Default)]
struct Snapshot {
    stamp: Option<i64>,
    channels: HashMap<AccountId, Arc<Channel>>,
    programs: HashMap<MiniProgramId, MiniProgram>,
    code_hash: Option<CodeHashKey>,
    addressees: HashMap<MerchantId, Arc<Addressee>>,
}

/// What a worker or scheduler knows of accounts and mini-programs. Cheap to clone; all clones see a reload.
#[derive(Clone)]
pub struct Registry {
    snapshot: Arc<ArcSwap<Snapshot>>,
    store: Store,
    vault: Arc<Vault>,
    opener: Opener,
    clock: Clock,
    budget: BudgetSettings,
}

impl Registry {
    /// Empty until the first [`Registry::reload`].
    pub fn new(store: Store, vault: Arc<Vault>, http: reqwest::Client, clock: Clock, budget: BudgetSettings) -> Self {
        let opener: Opener = Arc::new(move |wallet, settings, public_keys, secrets, apps| {
            open::gateway(wallet, settings, public_keys, secrets, apps, http.clone())
        });
        Self { snapshot: Arc::default(), store, vault, opener, clock, budget }
    }

    /// With another way to the wallets than HTTP. What was not verified cannot be used there either: a [`Gateway`] of one's own
    /// opens notices through one of ours, for nothing else makes a [`Verified`](crate::gateway::Verified).
    pub fn opening_with(mut self, opener: Opener) -> Self {
        self.opener = opener;
        self
    }

    pub fn is_loaded(&self) -> bool {
        self.snapshot.load().stamp.is_some()
    }

    pub fn channel(&self, account: AccountId) -> Option<Arc<Channel>> {
        self.snapshot.load().channels.get(&account).cloned()
    }

    pub fn channels(&self) -> Vec<Arc<Channel>> {
        self.snapshot.load().channels.values().cloned().collect()
    }

    /// A mini-program and the channel account it pays through.
    pub fn mini_program(&self, id: MiniProgramId) -> Option<(MiniProgram, Arc<Channel>)> {
        let snapshot = self.snapshot.load();
        let program = snapshot.programs.get(&id)?;
        Some((program.clone(), snapshot.channels.get(&program.account)?.clone()))
    }

    /// Whom events of a merchant go to, disabled merchants included: what happened to their orders they are told.
    pub fn addressee(&self, merchant: MerchantId) -> Option<Arc<Addressee>> {
        self.snapshot.load().addressees.get(&merchant).cloned()
    }

    /// The keyed hash under which a login code is known; `None` without a code-hash key.
    pub fn code_hash(&self, app_id: &AppId, code: &LoginCode) -> Option<CodeHash> {
        self.snapshot.load().code_hash.as_ref().map(|key| CodeHash(key.hash(app_id, code)))
    }

    /// Seals a message that is set aside, under its id. `None`: it cannot be sealed, and only what is masked is kept.
    pub fn seal_parked(&self, id: &str, body: &[u8]) -> Option<Sealed<Back>> {
        let place = Place { table: "parked", column: "body_sealed", row: id };
        self.vault.seal(place, body).inspect_err(|error| tracing::error!(%error, "a parked message is not sealed")).ok()
    }

    /// Reads everything anew if anything changed. An account that cannot be used is told in the log and stops nobody else.
    ///
    /// Answers whether it did. Errors: [`RegistryError`]; the old snapshot stays.
    pub async fn reload(&self) -> Result<bool, RegistryError> {
        let before = self.snapshot.load_full();
        let stamp = self.store.registry_stamp().await?;
        if before.stamp == Some(stamp) {
            return Ok(false);
        }
        let rows = self.store.mini_programs().await?;
        let mut channels = HashMap::new();
        // Disabled ones too: no number is opened there, but those that are open are asked about and told of.
        for account in self.store.accounts().await?.into_iter().filter(|row| row.secrets.is_some()) {
            let own: Vec<&MiniProgramRow> =
                rows.iter().filter(|row| row.program.account == account.account.id).collect();
            channels.insert(account.account.id, self.channel_for(&account, &own, &before));
        }
        let programs = rows.into_iter().filter(|row| row.enabled).map(|row| (row.program.id, row.program)).collect();
        let code_hash = self.code_hash_key().await?;
        let addressees = self.addressees().await?;
        self.snapshot.store(Arc::new(Snapshot { stamp: Some(stamp), channels, programs, code_hash, addressees }));
        Ok(true)
    }

    /// Whether a channel is what the store says by now: a mini-program that was enrolled a moment ago looks foreign to a process
    /// that has not read it yet, and to an answer that was read before. False, too, when the store cannot be read.
    pub async fn is_as_stored(&self, channel: &Arc<Channel>) -> bool {
        if let Err(error) = self.reload().await {
            tracing::warn!(%error, "channel accounts cannot be read");
            return false;
        }
        self.channel(channel.account.id).is_some_and(|now| Arc::ptr_eq(&now, channel))
    }

    /// The channel as before if neither the account nor its mini-programs changed: its connections and budget go on.
    fn channel_for(&self, row: &Account, programs: &[&MiniProgramRow], before: &Snapshot) -> Arc<Channel> {
        let versions: Vec<_> = programs.iter().map(|row| (row.program.id, row.version)).collect();
        let known = before.channels.get(&row.account.id);
        if let Some(channel) = known.filter(|channel| channel.version == row.version && channel.programs == versions) {
            return channel.clone();
        }
        let gateway = self.open(row, programs);
        if let Err(reason) = &gateway {
            tracing::error!(account = %row.account.id, reason, "a channel account cannot be used");
        }
        let budget = |of: fn(&Channel) -> &Arc<Budget>| {
            known.map_or_else(|| Budget::new(self.budget.clone()), |channel| of(channel).clone())
        };
        let questions = budget(|channel| &channel.questions);
        let refunds = known.map_or_else(|| questions.beside(), |channel| channel.refunds.clone());
        Arc::new(Channel {
            account: row.account.clone(),
            version: row.version,
            payments: budget(|channel| &channel.payments),
            logins: budget(|channel| &channel.logins),
            questions,
            refunds,
            gateway,
            programs: versions,
        })
    }

    fn open(&self, row: &Account, programs: &[&MiniProgramRow]) -> Result<Arc<dyn Gateway>, String> {
        let account = row.account.id.to_string();
        let sealed = row.secrets.as_ref().ok_or("it has no secrets yet")?;
        let place = Place { table: "channel_accounts", column: "secrets", row: &account };
        let secrets = self.vault.open_text(place, sealed).map_err(|error| error.to_string())?;
        let mut apps = Vec::new();
        for row in programs {
            let id = row.program.id.to_string();
            let place = Place { table: "mini_programs", column: "secrets", row: &id };
            let secrets = row.secrets.as_ref().map(|sealed| self.vault.open_text(place, sealed)).transpose();
            let secrets = secrets.map_err(|error| format!("mini-program {}: {error}", row.program.app_id))?;
            apps.push(OpenApp { app_id: row.program.app_id.clone(), secrets });
        }
        (self.opener)(row.account.wallet, &row.settings, &row.public_keys, &secrets, apps)
    }

    async fn addressees(&self) -> Result<HashMap<MerchantId, Arc<Addressee>>, RegistryError> {
        let mut keys: HashMap<MerchantId, Vec<MerchantKey>> = HashMap::new();
        for key in self.store.all_merchant_keys().await? {
            if key.live && key.material.is_webhook() {
                keys.entry(key.merchant).or_default().push(key);
            }
        }
        let merchants = self.store.merchants().await?.into_iter().map(|merchant| {
            let own = keys.remove(&merchant.id).unwrap_or_default();
            let signer = self.signer(&own).unwrap_or_else(|reason| {
                tracing::error!(customer_no = %merchant.customer_no, reason, "a merchant's events cannot be signed");
                None
            });
            (merchant.id, Arc::new(Addressee { customer_no: merchant.customer_no, signer }))
        });
        Ok(merchants.collect())
    }

    /// Every live secret signs; one that does not open must not leave the merchant with half of its signatures.
    fn signer(&self, keys: &[MerchantKey]) -> Result<Option<WebhookSigner>, String> {
        let mut secrets = Vec::with_capacity(keys.len());
        for key in keys {
            let KeyMaterial::Webhook { secret } = &key.material else { continue };
            let row = format!("{}/{}", key.merchant, key.key_id);
            let place = Place { table: "merchant_keys", column: "secret", row: &row };
            secrets.push(self.vault.open(place, secret).map_err(|error| error.to_string())?);
        }
        Ok(WebhookSigner::new(secrets.iter().map(secrecy::ExposeSecret::expose_secret)))
    }

    async fn code_hash_key(&self) -> Result<Option<CodeHashKey>, RegistryError> {
        let keys = self.store.deployment_keys(KeyPurpose::CodeHash).await?;
        let now = self.clock.now();
        let signs = |key: &DeploymentKey| key.state == KeyState::Signing && key.signs_from <= now;
        let Some(key) = keys.into_iter().rfind(signs) else { return Ok(None) };
        let DeploymentSecret::CodeHash(sealed) = &key.secret else { return Ok(None) };
        let name = format!("{}/{}", KeyPurpose::CodeHash.as_str(), key.key_id);
        let place = Place { table: "deployment_keys", column: "secret", row: &name };
        let secret = self.vault.open(place, sealed).map_err(|error| RegistryError::Keys(error.to_string()))?;
        Ok(Some(CodeHashKey::new(secrecy::ExposeSecret::expose_secret(&secret))))
    }
}

impl super::Steps {
    /// Where the wallet tells about an account's payments.
    pub(crate) fn notify_url(&self, channel: &Channel) -> String {
        let (base, account) = (&self.settings.public_url, &channel.account);
        format!("{base}/notify/{}/{}", account.wallet.as_str(), account.id)
    }
}
