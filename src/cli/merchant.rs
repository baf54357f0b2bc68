//! Merchants, the keys that sign their requests, and the secrets that sign what they are told.

use std::net::IpAddr;

use anyhow::bail;
use clap::{Args, Subcommand};
use secrecy::ExposeSecret;

use super::{
    desk::{Desk, yes_no},
    input::{Inputs, Source},
    key::next_free,
    names, print,
};
use crate::{
    domain::{
        id::{CustomerNo, KeyId},
        policy::MoneyPolicy,
    },
    store::KeyMaterial,
};

/// What people read; longer ones break tables and pages.
const NAME_MAX: usize = 64;

#[derive(Debug, Subcommand)]
pub enum MerchantCommand {
    /// Enrol a merchant
    Add {
        /// Its number on the wire (customerNo): 1 to 32 of A-Z a-z 0-9 _ -
        #[arg(value_parser = names::customer_no)]
        customer_no: CustomerNo,
        /// What payers and operators read
        #[arg(long)]
        name: String,
        /// An address its servers call from; several, or none for all
        #[arg(long, value_name = "IP")]
        ip: Vec<IpAddr>,
    },
    /// List the merchants
    List,
    /// Let a merchant call
    Enable {
        #[arg(value_parser = names::customer_no)]
        customer_no: CustomerNo,
    },
    /// Say what becomes of its unexpected money: keep, or refund by itself
    Set {
        #[arg(value_parser = names::customer_no)]
        customer_no: CustomerNo,
        /// A payment that came after its order was closed (default: keep)
        #[arg(long, value_name = "POLICY", value_parser = names::money_policy)]
        late_payment: Option<MoneyPolicy>,
        /// A payment of an order that was paid already (default: refund)
        #[arg(long, value_name = "POLICY", value_parser = names::money_policy)]
        second_payment: Option<MoneyPolicy>,
    },
    /// Refuse a merchant's calls; orders under way go on
    Disable {
        #[arg(value_parser = names::customer_no)]
        customer_no: CustomerNo,
    },
    /// The keys that sign a merchant's requests, and the secrets that sign its events
    #[command(subcommand)]
    Key(MerchantKeyCommand),
}

#[derive(Debug, Subcommand)]
pub enum MerchantKeyCommand {
    /// Add a key: two may be live, so that one can take over
    Add {
        #[arg(value_parser = names::customer_no)]
        customer_no: CustomerNo,
        /// Its name (X-Key-Id); without one, the next free of k1, k2, …
        #[arg(long, value_parser = names::key_id)]
        id: Option<KeyId>,
        #[command(flatten)]
        kind: KeyKind,
    },
    /// List a merchant's keys
    List {
        #[arg(value_parser = names::customer_no)]
        customer_no: CustomerNo,
    },
    /// Take a key out of use
    Retire {
        #[arg(value_parser = names::customer_no)]
        customer_no: CustomerNo,
        #[arg(value_parser = names::key_id)]
        id: KeyId,
    },
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct KeyKind {
    /// Make an HMAC-SHA256 secret; it is printed once
    #[arg(long)]
    hmac: bool,
    /// Make a secret that signs what the merchant is told (whsec_…); it is printed once
    #[arg(long)]
    webhook: bool,
    /// The merchant's RSA public key, PEM or base64; - is stdin
    #[arg(long, value_name = "FILE")]
    rsa_file: Option<Source>,
}

pub async fn run(desk: &Desk, command: MerchantCommand) -> anyhow::Result<()> {
    match command {
        MerchantCommand::Add { customer_no, name, ip } => add(desk, &customer_no, &name, &ip).await,
        MerchantCommand::List => list(desk).await,
        MerchantCommand::Set { customer_no, late_payment, second_payment } => {
            set(desk, &customer_no, late_payment, second_payment).await
        }
        MerchantCommand::Enable { customer_no } => enable(desk, &customer_no, true).await,
        MerchantCommand::Disable { customer_no } => enable(desk, &customer_no, false).await,
        MerchantCommand::Key(MerchantKeyCommand::Add { customer_no, id, kind }) => {
            add_key(desk, &customer_no, id, kind).await
        }
        MerchantCommand::Key(MerchantKeyCommand::List { customer_no }) => list_keys(desk, &customer_no).await,
        MerchantCommand::Key(MerchantKeyCommand::Retire { customer_no, id }) => {
            retire_key(desk, &customer_no, &id).await
        }
    }
}

async fn add(desk: &Desk, customer_no: &CustomerNo, name: &str, ip: &[IpAddr]) -> anyhow::Result<()> {
    let name = name.trim();
    if !(1..=NAME_MAX).contains(&name.chars().count()) || name.chars().any(char::is_control) {
        bail!("--name must be 1 to {NAME_MAX} characters");
    }
    let list: Vec<String> = ip.iter().map(IpAddr::to_string).collect();
    let list = (!list.is_empty()).then(|| list.join(","));
    desk.enroller().merchant(customer_no, name, list).await?;
    Ok(print::line(format_args!(
        "merchant {customer_no} is enrolled; next: `prepay merchant key add {customer_no} --hmac`"
    ))?)
}

async fn list(desk: &Desk) -> anyhow::Result<()> {
    let keys = desk.store.all_merchant_keys().await?;
    let rows = desk.store.merchants().await?.into_iter().map(|merchant| {
        let live = keys.iter().filter(|key| key.merchant == merchant.id && key.live).count();
        [
            merchant.customer_no.to_string(),
            merchant.name,
            yes_no(merchant.enabled),
            live.to_string(),
            merchant.ip_list.unwrap_or_else(|| "all".to_owned()),
        ]
    });
    Ok(print::table(["CUSTOMER_NO", "NAME", "ENABLED", "LIVE KEYS", "CALLS FROM"], &rows.collect::<Vec<_>>())?)
}

async fn enable(desk: &Desk, customer_no: &CustomerNo, enabled: bool) -> anyhow::Result<()> {
    let mut merchant = desk.merchant(customer_no).await?;
    merchant.enabled = enabled;
    desk.store.update_merchant(&merchant).await?;
    Ok(print::line(format_args!("merchant {customer_no} is {}", if enabled { "enabled" } else { "disabled" }))?)
}

async fn set(
    desk: &Desk,
    customer_no: &CustomerNo,
    late: Option<MoneyPolicy>,
    second: Option<MoneyPolicy>,
) -> anyhow::Result<()> {
    let mut merchant = desk.merchant(customer_no).await?;
    merchant.policies.late = late.unwrap_or(merchant.policies.late);
    merchant.policies.second = second.unwrap_or(merchant.policies.second);
    if late.is_some() || second.is_some() {
        desk.store.update_merchant(&merchant).await?;
    }
    let (late, second) = (merchant.policies.late.as_str(), merchant.policies.second.as_str());
    Ok(print::line(format_args!("merchant {customer_no}: late payments: {late}, second payments: {second}"))?)
}

async fn add_key(desk: &Desk, customer_no: &CustomerNo, id: Option<KeyId>, kind: KeyKind) -> anyhow::Result<()> {
    let merchant = desk.merchant(customer_no).await?.id;
    let id = match id {
        Some(id) => id,
        None => next_free(desk.store.merchant_keys(merchant).await?.iter().map(|key| &key.key_id))?,
    };
    match kind.rsa_file {
        Some(source) => {
            let key = Inputs::default().text("--rsa-file", &source)?;
            desk.enroller().rsa_key(merchant, &id, &key).await?;
            print::line(format_args!("key id: {id}"))?;
        }
        None if kind.webhook => {
            desk.needs_back_key()?;
            let secret = desk.enroller().webhook_key(merchant, &id).await?;
            print::line(format_args!("key id: {id}"))?;
            print::line(format_args!("secret: {}", secret.expose_secret()))?;
            print::line("it verifies webhook-signature and is not shown again; hand it to the merchant alone")?;
        }
        None => {
            desk.needs_front_key()?;
            let secret = desk.enroller().hmac_key(merchant, &id).await?;
            print::line(format_args!("key id: {id}"))?;
            print::line(format_args!("secret: {}", secret.expose_secret()))?;
            print::line("the secret is base64 of 32 bytes and is not shown again; hand it to the merchant alone")?;
        }
    }
    Ok(())
}

async fn list_keys(desk: &Desk, customer_no: &CustomerNo) -> anyhow::Result<()> {
    let merchant = desk.merchant(customer_no).await?;
    let keys = desk.store.merchant_keys(merchant.id).await?;
    let rows = keys.into_iter().map(|key| {
        let kind = match key.material {
            KeyMaterial::Hmac { .. } => "hmac",
            KeyMaterial::Rsa { .. } => "rsa",
            KeyMaterial::Webhook { .. } => "webhook",
        };
        [key.key_id.to_string(), kind.to_owned(), yes_no(key.live), key.created_at.rfc3339()]
    });
    Ok(print::table(["ID", "KIND", "LIVE", "MADE"], &rows.collect::<Vec<_>>())?)
}

async fn retire_key(desk: &Desk, customer_no: &CustomerNo, id: &KeyId) -> anyhow::Result<()> {
    let merchant = desk.merchant(customer_no).await?;
    if !desk.store.set_merchant_key_live(merchant.id, id, false).await? {
        bail!("merchant {customer_no} has no key {id}");
    }
    Ok(print::line(format_args!("key {id} of {customer_no} is retired"))?)
}
