//! What stands before any merchant: master keys, address, database, the deployment's own keys.

use std::time::Instant;

use super::Report;
use crate::{
    cli::desk::Desk,
    clock::{Clock, OFFSET_ALARM},
    config::Settings,
    front::Keyring,
    keys::{Back, Front, Vault},
    store::{KeyPurpose, KeyState, Store},
};

pub fn master_keys(report: &mut Report, settings: &Settings) -> anyhow::Result<()> {
    for (name, role, text) in [
        ("keys.front_file", "the fronts", settings.keys.front_text()),
        ("keys.back_file", "worker and scheduler", settings.keys.back_text()),
    ] {
        let text = match text {
            Ok(text) => text,
            Err(error) => {
                report.failed(name, format_args!("{error:#}"))?;
                continue;
            }
        };
        let Some(text) = text else {
            report
                .lacks(name, format_args!("the master key of {role}: `prepay key master --out FILE`, then set it"))?;
            continue;
        };
        let (front, back) = if name == "keys.front_file" { (Some(&text), None) } else { (None, Some(&text)) };
        match Vault::new(front, back) {
            Ok(_) => report.ok(name, format_args!("the master key of {role} is at hand"))?,
            Err(error) => report.failed(name, error)?,
        }
    }
    Ok(())
}

pub fn public_url(report: &mut Report, settings: &Settings) -> anyhow::Result<()> {
    const CHECK: &str = "front.public_url";
    if settings.front.public_url.is_empty() {
        return report.lacks(CHECK, "set it to the https address under which phones and wallets reach the fronts");
    }
    match settings.public_url() {
        Err(error) => report.failed(CHECK, format_args!("{error:#}")),
        Ok(url) if url.starts_with("http://") => {
            report.lacks(CHECK, format_args!("{url} serves simulated wallets on this machine; phones need https"))
        }
        Ok(url) => report.ok(CHECK, format_args!("pages post to {url}/pay, wallets to {url}/notify/…")),
    }
}

/// Answers whether the tables are all there.
pub async fn database(report: &mut Report, store: &Store) -> anyhow::Result<bool> {
    let kind = store.kind().as_str();
    match store.pending_migrations().await {
        Err(error) => {
            let error = anyhow::Error::from(error);
            report.failed("database", format_args!("{kind}: the state of its tables cannot be read: {error:#}"))?;
            return Ok(false);
        }
        Ok(pending) if !pending.is_empty() => {
            report
                .lacks("database", format_args!("{kind}: migrations {}: run `prepay migrate`", pending.join(", ")))?;
            return Ok(false);
        }
        Ok(_) => report.ok("database", format_args!("{kind}, every migration is there"))?,
    }
    let later = store.later_migrations().await?;
    if !later.is_empty() {
        report.hint("database", format_args!("a later release has migrated it: {}", later.join(", ")))?;
    }
    let asked = Instant::now();
    match store.now().await {
        Err(error) => report.failed("clock", anyhow::Error::from(error))?,
        Ok(now) => {
            let apart_ms = Clock::system().begin(now, asked.elapsed());
            if u128::from(apart_ms.unsigned_abs()) > OFFSET_ALARM.as_millis() {
                report.failed(
                    "clock",
                    format_args!("this machine's and the database's are {apart_ms} ms apart: check NTP on both"),
                )?;
            } else {
                report.ok("clock", format_args!("{apart_ms} ms from the database's"))?;
            }
        }
    }
    Ok(true)
}

/// The keys that payInfo and spent codes need.
pub async fn keys(report: &mut Report, desk: &Desk) -> anyhow::Result<()> {
    let pay_info = desk.store.deployment_keys(KeyPurpose::PayInfo).await?;
    if !pay_info.iter().any(|key| key.state == KeyState::Signing) {
        report.lacks("payInfo key", "make one: `prepay key create payinfo`")?;
    } else if desk.vault.holds::<Front>() {
        match Keyring::load(&desk.store, &desk.vault, desk.clock.now()).await {
            Ok(_) => report.ok("payInfo key", "opens and signs")?,
            Err(error) => report.failed("payInfo key", error)?,
        }
    }
    let code_hash = desk.store.deployment_keys(KeyPurpose::CodeHash).await?;
    match code_hash.iter().rfind(|key| key.state == KeyState::Signing) {
        None => report.lacks("code-hash key", "make one: `prepay key create code-hash`")?,
        Some(_) if !desk.vault.holds::<Back>() => {}
        // Opened with the accounts.
        Some(key) => report.ok("code-hash key", format_args!("{} is in use", key.key_id))?,
    }
    Ok(())
}
