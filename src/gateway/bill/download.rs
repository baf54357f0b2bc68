//! A bill's way onto the disk: bounded in bytes and time, in memory never more than a piece.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::io::AsyncWriteExt;

use super::{BillError, unusable};
use crate::gateway::http::send_error;

/// Bounds of one bill. A row has some 400 bytes, so by default this is a day of tens of millions of payments. While it is unpacked
/// both lie on the disk.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// As it travels.
    pub packed_max: u64,
    /// Unpacked.
    pub plain_max: u64,
    /// For the whole download.
    pub timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            packed_max: 2 * 1024 * 1024 * 1024,
            plain_max: 16 * 1024 * 1024 * 1024,
            timeout: Duration::from_secs(15 * 60),
        }
    }
}

/// A file that is gone when this is, unless it is kept: no half of a bill stays behind.
pub struct Unfinished {
    path: PathBuf,
    kept: bool,
}

impl Unfinished {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), kept: false }
    }

    /// Beside `into`, for what is downloaded and not unpacked yet.
    pub fn packed(into: &Path) -> Self {
        let mut name = into.as_os_str().to_owned();
        name.push(".packed");
        Self::new(name)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn keep(mut self) -> PathBuf {
        self.kept = true;
        self.path.clone()
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.kept {
            // Nothing to do about a file that will not go; it is this user's alone.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// An empty file that only its owner reads: bills name payers.
pub fn create(path: &Path) -> Result<File, BillError> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|error| on_disk(&error))
}

pub fn on_disk(error: &std::io::Error) -> BillError {
    unusable(format!("the file for it: {error}"))
}

/// Writes a body of at most `packed_max` bytes to `to`.
pub async fn save(mut response: reqwest::Response, to: &Unfinished, limits: Limits) -> Result<(), BillError> {
    let mut file = tokio::fs::File::from_std(create(to.path())?);
    let mut length: u64 = 0;
    let piece = |error| unusable(format!("the download: {}", send_error(error)));
    while let Some(chunk) = response.chunk().await.map_err(piece)? {
        length += chunk.len() as u64;
        if length > limits.packed_max {
            return Err(unusable(format!("it is larger than {} bytes", limits.packed_max)));
        }
        file.write_all(&chunk).await.map_err(|error| on_disk(&error))?;
    }
    file.flush().await.map_err(|error| on_disk(&error))
}

/// Copies at most `plain_max` bytes, each piece shown to `look`. Answers how many.
pub fn unpack(
    mut from: impl Read,
    to: &mut File,
    limits: Limits,
    mut look: impl FnMut(&[u8]),
) -> Result<u64, BillError> {
    let mut piece = vec![0; 64 * 1024];
    let mut length: u64 = 0;
    loop {
        let read = from.read(&mut piece).map_err(|error| unusable(format!("it does not unpack: {error}")))?;
        if read == 0 {
            to.flush().map_err(|error| on_disk(&error))?;
            return Ok(length);
        }
        length += read as u64;
        if length > limits.plain_max {
            return Err(unusable(format!("it is larger than {} bytes unpacked", limits.plain_max)));
        }
        look(&piece[..read]);
        to.write_all(&piece[..read]).map_err(|error| on_disk(&error))?;
    }
}

/// Runs what blocks where it may.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BillError> + Send + 'static,
) -> Result<T, BillError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| unusable(format!("unpacking died: {error}")))?
}
