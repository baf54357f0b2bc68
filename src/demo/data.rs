//! The demo's folder: a SQLite file, two master keys, and a lock.
//!
//! With `--data` it is kept. On the next run merchant, deployment keys and orders are still there, while the simulated
//! wallets have forgotten everything: `enrolment` gives the merchant fresh accounts at them.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use secrecy::{ExposeSecret, SecretString};

use crate::keys::vault::fresh_master_key;

/// An open folder; nobody else's demo uses it meanwhile.
pub struct Data {
    pub folder: PathBuf,
    /// Removed with this value.
    pub temporary: bool,
    pub front_key: SecretString,
    pub back_key: SecretString,
    /// Held, not read: the system lets go of it when the process ends, however it ends.
    _lock: File,
}

impl Data {
    /// Opens the folder, or makes one that is gone at the end; keys are made the first time, readable by their owner alone.
    ///
    /// Errors: a folder that cannot be written to, or that another demo uses.
    pub fn open(kept: Option<&Path>) -> anyhow::Result<Self> {
        let folder = match kept {
            Some(folder) => {
                fs::create_dir_all(folder).with_context(|| format!("--data {}: cannot be made", folder.display()))?;
                // The database library is given an address, and a relative one would be read as a host.
                folder.canonicalize().with_context(|| format!("--data {}", folder.display()))?
            }
            None => make_temporary()?,
        };
        let opened = Self::in_folder(&folder, kept.is_none());
        if opened.is_err() && kept.is_none() {
            // Nothing of anybody's is in it; that it stays is no worse than what is reported.
            let _ = fs::remove_dir_all(&folder);
        }
        opened
    }

    fn in_folder(folder: &Path, temporary: bool) -> anyhow::Result<Self> {
        let name = folder.display();
        if name.to_string().contains(['?', '#', '%']) {
            bail!("--data {name}: the path may hold no ? # %");
        }
        let path = folder.join("demo.lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let lock = lock.with_context(|| format!("{} cannot be written", path.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!("another demo is using {name}: stop it, or choose another --data"),
            Err(TryLockError::Error(error)) => {
                return Err(error).context(format!("{} cannot be locked", path.display()));
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
            temporary,
            front_key: master_key(&folder.join("front.key"))?,
            back_key: master_key(&folder.join("back.key"))?,
            _lock: lock,
        })
    }

    pub fn database_url(&self) -> String {
        format!("sqlite://{}", self.folder.join("demo.db").display())
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        if self.temporary
            && let Err(error) = fs::remove_dir_all(&self.folder)
        {
            tracing::warn!(folder = %self.folder.display(), %error, "the temporary folder stays behind");
        }
    }
}

fn make_temporary() -> anyhow::Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("prepay-demo-{}", uuid::Uuid::now_v7().simple()));
    let mut make = fs::DirBuilder::new();
    // Others may look into the system's temporary folder, not into this one.
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut make, 0o700);
    make.create(&folder).with_context(|| format!("{} cannot be made: name a folder with --data", folder.display()))?;
    Ok(folder)
}

/// The key in this file, made if there is none.
fn master_key(path: &Path) -> anyhow::Result<SecretString> {
    match fs::read_to_string(path) {
        Ok(text) => return Ok(text.into()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("{} cannot be read", path.display())),
    }
    let key = fresh_master_key();
    let mut options = OpenOptions::new();
    options.create_new(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(path).and_then(|mut file| {
        file.write_all(key.expose_secret().as_bytes())?;
        // A key that is lost takes with it what it sealed, so it is on disk before it seals anything.
        file.sync_all()
    });
    written.with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(key)
}
