//! Merchants, their mini-programs and their accounts, down to signed calls that cost nothing.

use std::time::Duration;

use super::Report;
use crate::{
    cli::{channel::expiry, desk::Desk, mini_program::sample_link},
    domain::{id::OrderId, wallet::Wallet},
    gateway::http,
    keys::Back,
    steps::{Channel, Registry},
    store::Account,
};

/// A certificate that ends sooner is to be renewed now.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Each merchant that may call must be able to sign and to be paid somewhere.
pub async fn merchants(report: &mut Report, desk: &Desk) -> anyhow::Result<()> {
    let merchants = desk.store.merchants().await?;
    let keys = desk.store.all_merchant_keys().await?;
    let programs = desk.store.mini_programs().await?;
    if merchants.is_empty() {
        return report.lacks("merchants", "enrol one: `prepay merchant add CUSTOMER_NO --name …`");
    }
    for merchant in merchants.into_iter().filter(|merchant| merchant.enabled) {
        let (no, check) = (&merchant.customer_no, format!("merchant {}", merchant.customer_no));
        match keys.iter().filter(|key| key.merchant == merchant.id && key.live).count() {
            0 => report.lacks(&check, format_args!("a key: `prepay merchant key add {no} --hmac`"))?,
            live => report.ok(&check, format_args!("{live} live keys"))?,
        }
        let own: Vec<_> = programs.iter().filter(|row| row.enabled && row.program.merchant == merchant.id).collect();
        if own.is_empty() {
            report.lacks(&check, format_args!("a mini-program: `prepay mini-program add {no} --channel ID …`"))?;
        }
        for row in own {
            let program = &row.program;
            let check = format!("mini-program {} of {no}", program.app_id);
            match sample_link(program, &desk.settings) {
                Ok(lines) => report.ok(&check, lines.join("; "))?,
                Err(error) => report.failed(&check, format_args!("{error:#}"))?,
            }
            if program.wallet == Wallet::WechatPay && program.original_id.is_none() {
                report.hint(&check, "no --original-id: apps that open it by gh_… must be told elsewhere")?;
            }
        }
    }
    Ok(())
}

/// Each account must open, and its wallet must take its signature.
pub async fn accounts(report: &mut Report, desk: &Desk, offline: bool) -> anyhow::Result<()> {
    let rows = desk.store.accounts().await?;
    if rows.is_empty() {
        return report
            .lacks("channel accounts", "enrol one: `prepay channel add-wechat …` or `prepay channel add-alipay …`");
    }
    for row in rows.iter().filter(|row| row.account.enabled) {
        certificates(report, desk, row)?;
    }
    if !desk.vault.holds::<Back>() {
        return report.lacks("channel accounts", "keys.back_file is not set here, so none can be opened");
    }
    let http = http::client(&desk.settings.http_settings())?;
    let registry = Registry::new(
        desk.store.clone(),
        desk.vault.clone(),
        http,
        desk.clock.clone(),
        desk.settings.budget_settings(),
    );
    if let Err(error) = registry.reload().await {
        return report.failed("channel accounts", error);
    }
    for row in &rows {
        let check = name(row);
        match registry.channel(row.account.id) {
            None => report.hint(&check, "disabled")?,
            Some(channel) => examine(report, &check, &channel, offline).await?,
        }
    }
    Ok(())
}

fn name(row: &Account) -> String {
    format!("channel account {} ({} {})", row.account.id, row.account.wallet, row.account.number)
}

async fn examine(report: &mut Report, check: &str, channel: &Channel, offline: bool) -> anyhow::Result<()> {
    let gateway = match channel.gateway() {
        Ok(gateway) => gateway,
        Err(why) => return report.failed(check, format_args!("{why}: `prepay channel set-…`")),
    };
    report.ok(check, "its keys open and fit together")?;
    if offline {
        return report.hint(check, "not asked at the wallet (--offline)");
    }
    for line in gateway.examine(OrderId::fresh()).await {
        let check = format!("{check}: {}", line.check);
        match line.result {
            Ok(told) => report.ok(check, told)?,
            Err(what_to_do) => report.failed(check, what_to_do)?,
        }
    }
    Ok(())
}

fn certificates(report: &mut Report, desk: &Desk, row: &Account) -> anyhow::Result<()> {
    let now = desk.clock.now();
    let pinned = match expiry::of(row.account.wallet, &row.public_keys) {
        Ok(pinned) => pinned,
        Err(error) => return report.failed(name(row), error),
    };
    for key in pinned {
        let check = format!("{}: {}", name(row), key.what);
        match key.ends {
            None => {}
            Some(ends) if ends <= now => {
                report.failed(
                    check,
                    format_args!("ended {}: give a new one with `prepay channel set-…`", ends.rfc3339()),
                )?;
            }
            Some(ends) if ends <= now.plus(RENEW_BEFORE) => {
                report.lacks(check, format_args!("ends {}: renew it now", ends.rfc3339()))?;
            }
            Some(ends) => report.ok(check, format_args!("until {}", ends.rfc3339()))?,
        }
    }
    if row.account.wallet == Wallet::WechatPay {
        report.hint(
            name(row),
            "the merchant API certificate lasts five years and only the merchant platform shows its end: note it down",
        )?;
    }
    Ok(())
}
