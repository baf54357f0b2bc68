//! What an operator's command works with: the store, the master keys that are at hand, the database's clock.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};

use crate::{
    clock::Clock,
    config::Settings,
    domain::{
        id::{AccountId, CustomerNo, MerchantId},
        wallet::Wallet,
    },
    enrol::Enroller,
    keys::{Back, Front, Vault},
    store::{Account, Merchant, Store},
};

/// An open deployment.
pub struct Desk {
    pub settings: Settings,
    pub store: Store,
    pub vault: Arc<Vault>,
    pub clock: Clock,
}

impl Desk {
    /// Errors: the database is not there or lacks migrations, or a master key cannot be read.
    pub async fn open(settings: Settings) -> anyhow::Result<Self> {
        let (front, back) = (settings.keys.front_text()?, settings.keys.back_text()?);
        let vault = Arc::new(Vault::new(front.as_ref(), back.as_ref()).context("keys")?);
        let store = Store::connect(&settings.store_settings()).await.context("database.url: cannot connect")?;
        let pending = store.pending_migrations().await.context("database: the state of its tables cannot be read")?;
        if !pending.is_empty() {
            bail!("the database lacks migrations ({}): run `prepay migrate`", pending.join(", "));
        }
        let clock = Clock::system();
        let asked = Instant::now();
        let now = store.now().await.context("database: its time cannot be read")?;
        clock.begin(now, asked.elapsed());
        Ok(Self { settings, store, vault, clock })
    }

    pub async fn close(self) {
        self.store.close().await;
    }

    pub fn enroller(&self) -> Enroller<'_> {
        Enroller { store: &self.store, vault: &self.vault, clock: &self.clock }
    }

    /// Errors: this command seals or opens for the fronts and was not given their master key.
    pub fn needs_front_key(&self) -> anyhow::Result<()> {
        if !self.vault.holds::<Front>() {
            bail!("keys.front_file is not set: the fronts' master key (`prepay key master` makes one)");
        }
        Ok(())
    }

    /// Errors: this command seals or opens for worker and scheduler and was not given their master key.
    pub fn needs_back_key(&self) -> anyhow::Result<()> {
        if !self.vault.holds::<Back>() {
            bail!("keys.back_file is not set: the master key of worker and scheduler (`prepay key master` makes one)");
        }
        Ok(())
    }

    /// Errors: no such merchant.
    pub async fn merchant(&self, customer_no: &CustomerNo) -> anyhow::Result<Merchant> {
        let merchant = self.store.merchant_by_customer_no(customer_no).await?;
        merchant.with_context(|| format!("there is no merchant {customer_no} (`prepay merchant list`)"))
    }

    /// The customer number of a merchant, for people.
    pub async fn customer_nos(&self) -> anyhow::Result<impl Fn(MerchantId) -> String + use<>> {
        let merchants = self.store.merchants().await?;
        Ok(move |id| {
            let found = merchants.iter().find(|merchant| merchant.id == id);
            found.map_or_else(|| id.to_string(), |merchant| merchant.customer_no.to_string())
        })
    }

    /// Errors: no such account.
    pub async fn account(&self, id: AccountId) -> anyhow::Result<Account> {
        let account = self.store.account(id).await?;
        account.with_context(|| format!("there is no channel account {id} (`prepay channel list`)"))
    }

    /// Errors: no such account, or one of the other wallet.
    pub async fn account_of(&self, id: AccountId, wallet: Wallet) -> anyhow::Result<Account> {
        let account = self.account(id).await?;
        if account.account.wallet != wallet {
            bail!("channel account {id} is one of {}", account.account.wallet);
        }
        Ok(account)
    }
}

/// `yes` and `no` of tables.
pub fn yes_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}
