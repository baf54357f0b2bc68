//! What a front knows by heart, so that a phone's call needs no database: payInfo keys, merchants and their request keys,
//! mini-programs, and the wallets' public keys.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

use secrecy::ExposeSecret;

use crate::{
    domain::{
        account::MiniProgram,
        id::{AccountId, AppId, CustomerNo, KeyId, MerchantId, MiniProgramId},
        time::Timestamp,
        wallet::Wallet,
    },
    gateway::{NoticeVerifier, open},
    keys::{
        Place, Vault,
        mac::MacKey,
        payinfo::{PayInfoKeys, PayInfoSigner},
        rsa::{BadSignature, RsaVerifier},
    },
    store::{DeploymentSecret, KeyMaterial, KeyPurpose, KeyState, MerchantKey, Store, StoreError},
};

/// A merchant's request key; which kind it is stands in its record, never in a request.
pub enum RequestKey {
    Hmac(Box<MacKey>),
    Rsa(RsaVerifier),
}

impl RequestKey {
    /// Errors: [`BadSignature`].
    pub fn verify(&self, text: &[u8], signature: &str) -> Result<(), BadSignature> {
        match self {
            Self::Hmac(key) => key.verify(text, signature),
            Self::Rsa(key) => key.verify(text, signature),
        }
    }
}

/// A merchant that may call.
pub struct MerchantEntry {
    pub id: MerchantId,
    pub customer_no: CustomerNo,
    /// Empty: from anywhere.
    pub ip_list: Vec<IpAddr>,
    pub keys: HashMap<KeyId, RequestKey>,
    /// Oldest first: the first of a wallet is its default.
    pub mini_programs: Vec<Arc<MiniProgram>>,
}

impl MerchantEntry {
    /// The named mini-program of a wallet, or its first.
    pub fn mini_program(&self, wallet: Wallet, app_id: Option<&AppId>) -> Option<&Arc<MiniProgram>> {
        self.mini_programs
            .iter()
            .find(|program| program.wallet == wallet && app_id.is_none_or(|app_id| program.app_id == *app_id))
    }

    pub fn mini_program_by_id(&self, id: MiniProgramId) -> Option<&Arc<MiniProgram>> {
        self.mini_programs.iter().find(|program| program.id == id)
    }
}

/// Everything at one stamp of the registry.
pub struct Keyring {
    pub pay_info: PayInfoKeys,
    pub merchants: HashMap<CustomerNo, Arc<MerchantEntry>>,
    pub verifiers: HashMap<AccountId, (Wallet, Arc<dyn NoticeVerifier>)>,
    /// Merchants with an account that tells this wallet where a payer called from.
    pub told_payer_ip: HashSet<(MerchantId, Wallet)>,
}

impl Keyring {
    pub fn merchant(&self, customer_no: &CustomerNo) -> Option<Arc<MerchantEntry>> {
        self.merchants.get(customer_no).cloned()
    }

    pub fn verifier(&self, account: AccountId) -> Option<&(Wallet, Arc<dyn NoticeVerifier>)> {
        self.verifiers.get(&account)
    }

    /// Whether a payer's address may be wanted. Which of a merchant's accounts an order is paid through stands in the store,
    /// which a phone's call does not read; the account's own gateway leaves out what it does not tell.
    pub fn tells_payer_ip(&self, merchant: MerchantId, wallet: Wallet) -> bool {
        self.told_payer_ip.contains(&(merchant, wallet))
    }
}

/// Why the keyring could not be read.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Keys(String),
}

impl Keyring {
    /// Reads the whole keyring. A merchant's key or an account that cannot be read is told in the log and left out.
    ///
    /// Errors: [`KeyringError`], above all when there is no payInfo key that signs.
    pub async fn load(store: &Store, vault: &Vault, now: Timestamp) -> Result<Self, KeyringError> {
        let pay_info = pay_info_keys(store, vault, now).await?;
        let programs = store.mini_programs().await?;
        let mut merchants = HashMap::new();
        for merchant in store.merchants().await?.into_iter().filter(|merchant| merchant.enabled) {
            let mut keys = HashMap::new();
            for key in
                store.merchant_keys(merchant.id).await?.into_iter().filter(|key| key.live && !key.material.is_webhook())
            {
                match request_key(&key, vault) {
                    Ok(opened) => {
                        keys.insert(key.key_id, opened);
                    }
                    Err(reason) => {
                        tracing::error!(customer_no = %merchant.customer_no, key_id = %key.key_id, reason, "a merchant's key cannot be used");
                    }
                }
            }
            let own = programs.iter().filter(|row| row.enabled && row.program.merchant == merchant.id);
            let entry = MerchantEntry {
                id: merchant.id,
                customer_no: merchant.customer_no.clone(),
                ip_list: ip_list(merchant.ip_list.as_deref().unwrap_or_default()),
                keys,
                mini_programs: own.map(|row| Arc::new(row.program.clone())).collect(),
            };
            merchants.insert(merchant.customer_no, Arc::new(entry));
        }
        let (mut verifiers, mut told_payer_ip) = (HashMap::new(), HashSet::new());
        // Disabled accounts too: what was opened there may still be paid, and is told.
        for row in store.accounts().await?.into_iter().filter(|row| row.secrets.is_some()) {
            if row.account.enabled && open::tells_payer_ip(row.account.wallet, &row.settings) {
                told_payer_ip.insert((row.account.merchant, row.account.wallet));
            }
            match open::verifier(row.account.wallet, &row.settings, &row.public_keys) {
                Ok(verifier) => {
                    verifiers.insert(row.account.id, (row.account.wallet, verifier));
                }
                Err(reason) => {
                    tracing::error!(account = %row.account.id, reason, "notices of an account cannot be verified")
                }
            }
        }
        Ok(Self { pay_info, merchants, verifiers, told_payer_ip })
    }
}

/// Every key that is not retired verifies; the newest whose time has come signs, and those whose time comes are known.
async fn pay_info_keys(store: &Store, vault: &Vault, now: Timestamp) -> Result<PayInfoKeys, KeyringError> {
    let mut ring = Vec::new();
    let mut signers = Vec::new();
    for key in store.deployment_keys(KeyPurpose::PayInfo).await? {
        let DeploymentSecret::PayInfo(sealed) = &key.secret else { continue };
        if key.state == KeyState::Retired {
            continue;
        }
        let name = format!("{}/{}", KeyPurpose::PayInfo.as_str(), key.key_id);
        let place = Place { table: "deployment_keys", column: "secret", row: &name };
        let secret = vault.open(place, sealed);
        let secret = secret.map_err(|error| KeyringError::Keys(format!("payInfo key {}: {error}", key.key_id)))?;
        if key.state == KeyState::Signing {
            signers.push(PayInfoSigner { key: key.key_id.clone(), from: key.signs_from });
        }
        ring.push((key.key_id, secret));
    }
    let current = signers.iter().rposition(|signer| signer.has_begun(now)).ok_or_else(|| {
        KeyringError::Keys("no payInfo key signs: make one with `prepay key create payinfo`".to_owned())
    })?;
    // Made before the one that signs: never again.
    let mut signers = signers.split_off(current);
    let first = signers.remove(0);
    PayInfoKeys::new(first.key, signers, ring).map_err(|error| KeyringError::Keys(error.to_string()))
}

fn request_key(key: &MerchantKey, vault: &Vault) -> Result<RequestKey, String> {
    match &key.material {
        KeyMaterial::Hmac { secret } => {
            let name = format!("{}/{}", key.merchant, key.key_id);
            let place = Place { table: "merchant_keys", column: "secret", row: &name };
            let secret = vault.open(place, secret).map_err(|error| error.to_string())?;
            Ok(RequestKey::Hmac(Box::new(MacKey::new(secret.expose_secret()))))
        }
        KeyMaterial::Rsa { public_key } => {
            RsaVerifier::parse(public_key).map(RequestKey::Rsa).map_err(|error| error.to_string())
        }
        KeyMaterial::Webhook { .. } => Err("it signs events, not requests".to_owned()),
    }
}

/// Comma separated addresses. One that cannot be read closes the list rather than opening it.
fn ip_list(text: &str) -> Vec<IpAddr> {
    let nowhere = IpAddr::from([0, 0, 0, 0]);
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| part.parse().unwrap_or(nowhere)).collect()
}
