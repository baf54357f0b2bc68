//! The deployment's own keys: master keys, payInfo keys, the key under which spent login codes are known.

use std::{
    fs::OpenOptions,
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use secrecy::ExposeSecret;

use super::{desk::Desk, names, print, reseal};
use crate::{
    domain::id::KeyId,
    keys::vault::fresh_master_key,
    store::{DeploymentKey, KeyPurpose, KeyState},
};

#[derive(Debug, Args)]
pub struct MasterArgs {
    /// Write it there, readable by its owner alone; an existing file is not touched
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a master key, as keys.front_file and keys.back_file take it
    Master(MasterArgs),
    /// Make a key of the deployment
    Create {
        purpose: Purpose,
        /// Its name; without one, the next free of k1, k2, …
        #[arg(long, value_parser = names::key_id)]
        id: Option<KeyId>,
        /// A payInfo key signs at once: only when every front was stopped
        #[arg(long)]
        now: bool,
    },
    /// List the deployment's keys
    List,
    /// Take a key out of use; links made with a payInfo key die with it
    Retire {
        purpose: Purpose,
        #[arg(value_parser = names::key_id)]
        id: KeyId,
    },
    /// Seal everything anew that was sealed with an older master key
    Reseal,
}

/// What a key of the deployment is for.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Purpose {
    /// Tags the payInfo of links
    Payinfo,
    /// Hashes spent login codes
    CodeHash,
}

impl Purpose {
    const fn stored(self) -> KeyPurpose {
        match self {
            Self::Payinfo => KeyPurpose::PayInfo,
            Self::CodeHash => KeyPurpose::CodeHash,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Payinfo => "payinfo",
            Self::CodeHash => "code-hash",
        }
    }
}

/// Prints a fresh master key, or writes it to a file of its own. Needs no settings: it is what settings begin with.
pub fn master(args: &MasterArgs) -> anyhow::Result<()> {
    let key = fresh_master_key();
    match &args.out {
        None => print::line(key.expose_secret())?,
        Some(path) => {
            write_new(path, key.expose_secret())?;
            print::line(format_args!("written to {}; keep a copy apart from the database's backups", path.display()))?;
        }
    }
    Ok(())
}

fn write_new(path: &Path, text: &str) -> anyhow::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = match file {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("--out: {} exists, and a master key in use must not be lost", path.display())
        }
        other => other.with_context(|| format!("--out: {} cannot be made", path.display()))?,
    };
    file.write_all(format!("{text}\n").as_bytes())?;
    Ok(file.sync_all()?)
}

/// Runs a command that needs the database.
pub async fn run(desk: &Desk, command: KeyCommand) -> anyhow::Result<()> {
    match command {
        KeyCommand::Master(args) => master(&args),
        KeyCommand::Create { purpose, id, now } => create(desk, purpose, id, now).await,
        KeyCommand::List => list(desk).await,
        KeyCommand::Retire { purpose, id } => retire(desk, purpose, &id).await,
        KeyCommand::Reseal => reseal::run(desk).await,
    }
}

async fn create(desk: &Desk, purpose: Purpose, id: Option<KeyId>, now: bool) -> anyhow::Result<()> {
    let known = desk.store.deployment_keys(purpose.stored()).await?;
    let id = match id {
        Some(id) => id,
        None => next_free(known.iter().map(|key| &key.key_id))?,
    };
    let first = !known.iter().any(|key| key.state == KeyState::Signing);
    match purpose {
        Purpose::Payinfo => {
            desk.needs_front_key()?;
            // Every front must know it before one of them makes links with it.
            let delay = Duration::from_millis(2 * desk.settings.reload_every_ms);
            let signs_in = if first || now { Duration::ZERO } else { delay };
            desk.enroller().pay_info_key(&id, signs_in).await?;
            if signs_in.is_zero() {
                print::line(format_args!("payinfo key {id} signs"))?;
            } else {
                print::line(format_args!(
                    "payinfo key {id} verifies; it signs in {} s",
                    signs_in.as_secs_f32().ceil()
                ))?;
            }
        }
        Purpose::CodeHash => {
            desk.needs_back_key()?;
            desk.enroller().code_hash_key(&id).await?;
            print::line(format_args!("code-hash key {id} is in use"))?;
            if !first {
                print::line(
                    "login codes spent in the last minutes are not known under it: their calls sent again are answered 3002",
                )?;
            }
        }
    }
    Ok(())
}

/// `k1`, `k2`, …: payInfo carries the name, so it is short.
pub fn next_free<'a>(taken: impl Iterator<Item = &'a KeyId> + Clone) -> anyhow::Result<KeyId> {
    let free = (1..=10_000_u32).map(|number| format!("k{number}"));
    let free = free.into_iter().find(|name| taken.clone().all(|key| key.as_str() != name.as_str()));
    Ok(KeyId::parse(free.context("no name of the form k1, k2, … is free: give --id")?)?)
}

async fn list(desk: &Desk) -> anyhow::Result<()> {
    let now = desk.clock.now();
    let mut rows = Vec::new();
    for purpose in [Purpose::Payinfo, Purpose::CodeHash] {
        let keys = desk.store.deployment_keys(purpose.stored()).await?;
        let current = keys.iter().rfind(|key| key.state == KeyState::Signing && key.signs_from <= now);
        let current = current.map(|key| key.key_id.clone());
        for key in keys {
            let state = match key.state {
                KeyState::Signing if Some(&key.key_id) == current.as_ref() => "in use".to_owned(),
                KeyState::Signing if key.signs_from > now => format!("signs from {}", key.signs_from.rfc3339()),
                KeyState::Signing | KeyState::Verifying => "verifies".to_owned(),
                KeyState::Retired => "retired".to_owned(),
            };
            rows.push([purpose.name().to_owned(), key.key_id.to_string(), state, key.created_at.rfc3339()]);
        }
    }
    Ok(print::table(["PURPOSE", "ID", "STATE", "MADE"], &rows)?)
}

async fn retire(desk: &Desk, purpose: Purpose, id: &KeyId) -> anyhow::Result<()> {
    let now = desk.clock.now();
    let keys = desk.store.deployment_keys(purpose.stored()).await?;
    let signs = |key: &DeploymentKey| key.state == KeyState::Signing && key.signs_from <= now;
    if !keys.iter().any(|key| key.key_id == *id) {
        bail!("there is no {} key {id} (`prepay key list`)", purpose.name());
    }
    if !keys.iter().any(|key| key.key_id != *id && signs(key)) {
        bail!("no other {} key signs yet: make one and wait until `prepay key list` shows it in use", purpose.name());
    }
    desk.store.set_deployment_key_state(purpose.stored(), id, KeyState::Retired).await?;
    Ok(print::line(format_args!("{} key {id} is retired", purpose.name()))?)
}
