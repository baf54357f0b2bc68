//! Sealing everything anew with the current master keys, row by row, while all roles go on.

use anyhow::bail;
use secrecy::ExposeSecret;

use super::{desk::Desk, print};
use crate::{
    keys::{Back, Front, Place, Sealed, Vault, VaultError, seal::Master},
    store::{AccountChange, DeploymentSecret, KeyMaterial, KeyPurpose},
};

/// Parked messages read at once; each may have some hundred KiB.
const PAGE: u64 = 50;

/// What became of the values of one master key.
#[derive(Default)]
struct Count {
    sealed_anew: u32,
    current: u32,
    changed_meanwhile: u32,
}

impl Count {
    fn wrote(&mut self, written: bool) {
        if written { self.sealed_anew += 1 } else { self.changed_meanwhile += 1 }
    }
}

/// Each row is written only if it is still as it was read. Errors: a value that does not open; those before it are done.
pub async fn run(desk: &Desk) -> anyhow::Result<()> {
    if !desk.vault.holds::<Front>() && !desk.vault.holds::<Back>() {
        bail!("neither keys.front_file nor keys.back_file is set: nothing could be opened");
    }
    let mut left = 0;
    if desk.vault.holds::<Front>() {
        left += told("front", &front(desk).await?)?;
    }
    if desk.vault.holds::<Back>() {
        left += told("back", &back(desk).await?)?;
    }
    if left > 0 {
        bail!("{left} values were changed by somebody else at the same time: run it again");
    }
    Ok(())
}

fn told(master: &str, count: &Count) -> anyhow::Result<u32> {
    print::line(format_args!("{master}: {} sealed anew, {} were current", count.sealed_anew, count.current))?;
    Ok(count.changed_meanwhile)
}

/// `None`: it is sealed with the current key already.
fn renewed<M: Master>(vault: &Vault, place: Place<'_>, sealed: &Sealed<M>) -> Result<Option<Sealed<M>>, VaultError> {
    if !vault.needs_reseal(sealed) {
        return Ok(None);
    }
    let plain = vault.open(place, sealed)?;
    vault.seal(place, plain.expose_secret()).map(Some)
}

async fn front(desk: &Desk) -> anyhow::Result<Count> {
    let mut count = Count::default();
    for key in desk.store.all_merchant_keys().await? {
        let KeyMaterial::Hmac { secret } = &key.material else { continue };
        let row = format!("{}/{}", key.merchant, key.key_id);
        match renewed(&desk.vault, Place { table: "merchant_keys", column: "secret", row: &row }, secret)? {
            None => count.current += 1,
            Some(fresh) => {
                count.wrote(desk.store.reseal_merchant_key(key.merchant, &key.key_id, secret, &fresh).await?);
            }
        }
    }
    for key in desk.store.deployment_keys(KeyPurpose::PayInfo).await? {
        let DeploymentSecret::PayInfo(secret) = &key.secret else { continue };
        let row = format!("{}/{}", KeyPurpose::PayInfo.as_str(), key.key_id);
        match renewed(&desk.vault, Place { table: "deployment_keys", column: "secret", row: &row }, secret)? {
            None => count.current += 1,
            Some(fresh) => {
                let fresh = DeploymentSecret::PayInfo(fresh);
                count.wrote(desk.store.reseal_deployment_key(&key.key_id, &key.secret, &fresh).await?);
            }
        }
    }
    Ok(count)
}

async fn back(desk: &Desk) -> anyhow::Result<Count> {
    let mut count = Count::default();
    for key in desk.store.all_merchant_keys().await? {
        let KeyMaterial::Webhook { secret } = &key.material else { continue };
        let row = format!("{}/{}", key.merchant, key.key_id);
        match renewed(&desk.vault, Place { table: "merchant_keys", column: "secret", row: &row }, secret)? {
            None => count.current += 1,
            Some(fresh) => {
                count.wrote(desk.store.reseal_merchant_key(key.merchant, &key.key_id, secret, &fresh).await?);
            }
        }
    }
    for key in desk.store.deployment_keys(KeyPurpose::CodeHash).await? {
        let DeploymentSecret::CodeHash(secret) = &key.secret else { continue };
        let row = format!("{}/{}", KeyPurpose::CodeHash.as_str(), key.key_id);
        match renewed(&desk.vault, Place { table: "deployment_keys", column: "secret", row: &row }, secret)? {
            None => count.current += 1,
            Some(fresh) => {
                let fresh = DeploymentSecret::CodeHash(fresh);
                count.wrote(desk.store.reseal_deployment_key(&key.key_id, &key.secret, &fresh).await?);
            }
        }
    }
    for account in desk.store.accounts().await? {
        let Some(secrets) = &account.secrets else { continue };
        let (id, row) = (account.account.id, account.account.id.to_string());
        match renewed(&desk.vault, Place { table: "channel_accounts", column: "secrets", row: &row }, secrets)? {
            None => count.current += 1,
            Some(fresh) => {
                let change = AccountChange { secrets: Some(fresh), ..AccountChange::default() };
                count.wrote(desk.store.update_account(id, account.version, change).await?);
            }
        }
    }
    for mut program in desk.store.mini_programs().await? {
        let Some(secrets) = &program.secrets else { continue };
        let row = program.program.id.to_string();
        match renewed(&desk.vault, Place { table: "mini_programs", column: "secrets", row: &row }, secrets)? {
            None => count.current += 1,
            Some(fresh) => {
                program.secrets = Some(fresh);
                count.wrote(desk.store.update_mini_program(&program).await?);
            }
        }
    }
    parked(desk, &mut count).await?;
    Ok(count)
}

/// Last: they are many, and the only ones that come and go by themselves. One that went meanwhile needs nothing.
async fn parked(desk: &Desk, count: &mut Count) -> anyhow::Result<()> {
    let mut after = String::new();
    loop {
        let page = desk.store.parked_after(&after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        last.id.clone_into(&mut after);
        for row in page {
            let Some(sealed) = &row.body_sealed else { continue };
            match renewed(&desk.vault, Place { table: "parked", column: "body_sealed", row: &row.id }, sealed)? {
                None => count.current += 1,
                Some(fresh) => {
                    if desk.store.reseal_parked(&row.id, sealed, &fresh).await? {
                        count.sealed_anew += 1;
                    } else if desk.store.parked(&row.id).await?.is_some() {
                        count.changed_meanwhile += 1;
                    }
                }
            }
        }
    }
}
