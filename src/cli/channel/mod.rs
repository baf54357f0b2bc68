//! Channel accounts: merchants' contracts with the wallets.

use anyhow::bail;
use clap::Subcommand;
use secrecy::SecretString;

use super::{
    desk::{Desk, yes_no},
    names, print,
};
use crate::{
    domain::{
        id::{AccountId, CustomerNo},
        wallet::Wallet,
    },
    enrol::{AccountParts, check_account},
    keys::{Back, Place},
    store::{Account, AccountChange},
};

mod alipay;
pub mod expiry;
mod extras;
mod wechat;

pub use alipay::PublicKeyArgs;

#[derive(Debug, Subcommand)]
pub enum ChannelCommand {
    /// Enrol an account at WeChat Pay
    AddWechat(Box<wechat::AddArgs>),
    /// Enrol an account at Alipay
    AddAlipay(Box<alipay::AddArgs>),
    /// List the accounts
    List,
    /// Show an account: everything but its secrets
    Show {
        #[arg(value_parser = names::account_id)]
        id: AccountId,
    },
    /// Use an account again
    Enable {
        #[arg(value_parser = names::account_id)]
        id: AccountId,
    },
    /// Open no payment at an account any more; what is open there is still asked about, closed, refunded and told
    Disable {
        #[arg(value_parser = names::account_id)]
        id: AccountId,
    },
    /// Change keys or addresses of an account at WeChat Pay, or what it adds to its prepays
    SetWechat(Box<wechat::SetArgs>),
    /// Change keys or addresses of an account at Alipay, or what it adds to its prepays
    SetAlipay(Box<alipay::SetArgs>),
}

pub async fn run(desk: &Desk, command: ChannelCommand) -> anyhow::Result<()> {
    match command {
        ChannelCommand::AddWechat(args) => wechat::add(desk, *args).await,
        ChannelCommand::AddAlipay(args) => alipay::add(desk, *args).await,
        ChannelCommand::List => list(desk).await,
        ChannelCommand::Show { id } => show(desk, id).await,
        ChannelCommand::Enable { id } => enable(desk, id, true).await,
        ChannelCommand::Disable { id } => enable(desk, id, false).await,
        ChannelCommand::SetWechat(args) => wechat::set(desk, *args).await,
        ChannelCommand::SetAlipay(args) => alipay::set(desk, *args).await,
    }
}

/// An account as it is or is to be: the JSON texts of its wallet's shape.
struct Parts {
    settings: String,
    public_keys: String,
    secrets: SecretString,
}

async fn add_parts(
    desk: &Desk,
    customer_no: &CustomerNo,
    wallet: Wallet,
    number: String,
    parts: Parts,
) -> anyhow::Result<()> {
    let merchant = desk.merchant(customer_no).await?.id;
    if desk
        .store
        .accounts()
        .await?
        .iter()
        .any(|row| row.account.merchant == merchant && row.account.wallet == wallet && row.account.number == number)
    {
        bail!("merchant {customer_no} has an account {number} at {wallet} already (`prepay channel list`)");
    }
    let Parts { settings, public_keys, secrets } = parts;
    let id = desk.enroller().account(AccountParts { merchant, wallet, number, settings, public_keys, secrets }).await?;
    print::line(format_args!("channel account: {id}"))?;
    print::line(format_args!("next: `prepay mini-program add {customer_no} --channel {id} …`"))?;
    Ok(())
}

/// The account with its secrets opened. Errors: no such account, or it has no secrets.
async fn open_parts(desk: &Desk, id: AccountId, wallet: Wallet) -> anyhow::Result<(Account, Parts)> {
    desk.needs_back_key()?;
    let account = desk.account_of(id, wallet).await?;
    let Some(sealed) = &account.secrets else {
        bail!("channel account {id} was never finished: enrol it anew");
    };
    let row = id.to_string();
    let secrets = desk.vault.open_text(Place { table: "channel_accounts", column: "secrets", row: &row }, sealed)?;
    let parts = Parts { settings: account.settings.clone(), public_keys: account.public_keys.clone(), secrets };
    Ok((account, parts))
}

/// Writes the changed parts if its gateway would take them and nobody else changed the account meanwhile.
async fn write_parts(desk: &Desk, account: &Account, parts: Parts) -> anyhow::Result<()> {
    use secrecy::ExposeSecret;
    let id = account.account.id;
    check_account(account.account.wallet, &parts.settings, &parts.public_keys, &parts.secrets)?;
    let row = id.to_string();
    let place = Place { table: "channel_accounts", column: "secrets", row: &row };
    let sealed = desk.vault.seal::<Back>(place, parts.secrets.expose_secret().as_bytes())?;
    let change = AccountChange {
        settings: Some(parts.settings),
        public_keys: Some(parts.public_keys),
        secrets: Some(sealed),
        enabled: None,
    };
    if !desk.store.update_account(id, account.version, change).await? {
        bail!("channel account {id} was changed by somebody else at the same time: run it again");
    }
    print::line(format_args!("channel account {id} is changed; every role follows within reload_every_ms"))?;
    Ok(())
}

async fn list(desk: &Desk) -> anyhow::Result<()> {
    let customer_no = desk.customer_nos().await?;
    let rows = desk.store.accounts().await?.into_iter().map(|row| {
        [
            row.account.id.to_string(),
            customer_no(row.account.merchant),
            row.account.wallet.to_string(),
            row.account.number,
            yes_no(row.account.enabled),
            row.created_at.rfc3339(),
        ]
    });
    Ok(print::table(["ID", "CUSTOMER_NO", "WALLET", "NUMBER", "ENABLED", "MADE"], &rows.collect::<Vec<_>>())?)
}

async fn show(desk: &Desk, id: AccountId) -> anyhow::Result<()> {
    let row = desk.account(id).await?;
    let customer_no = desk.customer_nos().await?(row.account.merchant);
    print::line(format_args!("channel account {id} of {customer_no} at {}", row.account.wallet))?;
    print::line(format_args!("number: {}", row.account.number))?;
    print::line(format_args!("enabled: {}", yes_no(row.account.enabled)))?;
    print::line(format_args!("settings: {}", row.settings))?;
    print::line(format_args!("secrets: {}", if row.secrets.is_some() { "sealed" } else { "none" }))?;
    match expiry::of(row.account.wallet, &row.public_keys) {
        Ok(keys) => {
            for key in keys {
                print::line(format_args!("{key}"))?;
            }
        }
        Err(error) => print::line(format_args!("the wallet's keys: {error}"))?,
    }
    if let Some(at) = row.keys_checked_at {
        print::line(format_args!("the wallet's keys were asked for at {}", at.rfc3339()))?;
    }
    Ok(())
}

async fn enable(desk: &Desk, id: AccountId, enabled: bool) -> anyhow::Result<()> {
    let row = desk.account(id).await?;
    if enabled && row.secrets.is_none() {
        bail!("channel account {id} was never finished: enrol it anew");
    }
    let change = AccountChange { enabled: Some(enabled), ..AccountChange::default() };
    if !desk.store.update_account(id, row.version, change).await? {
        bail!("channel account {id} was changed by somebody else at the same time: run it again");
    }
    Ok(print::line(format_args!("channel account {id} is {}", if enabled { "enabled" } else { "disabled" }))?)
}
