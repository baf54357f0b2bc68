//! Keys and secrets come from files or stdin, never from an argument.

use std::{
    convert::Infallible,
    fs::File,
    io::{self, Read},
    path::PathBuf,
    str::FromStr,
};

use anyhow::{Context, bail};
use secrecy::SecretString;
use zeroize::Zeroizing;

/// No key or certificate chain is longer.
const BYTES_MAX: u64 = 64 * 1024;

/// Where a key is read from: a file, or `-` for stdin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source(PathBuf);

impl FromStr for Source {
    type Err = Infallible;
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(PathBuf::from(text)))
    }
}

/// Reads the sources of one command, of which one may be stdin.
#[derive(Debug, Default)]
pub struct Inputs {
    stdin_taken: bool,
}

impl Inputs {
    /// The text without blanks around it; `what` is the argument that named the source.
    ///
    /// Errors: not to be read, not UTF-8, empty, over 64 KiB; nothing of the text is in them.
    pub fn secret(&mut self, what: &str, source: &Source) -> anyhow::Result<SecretString> {
        let path = source.0.display();
        let bytes = if source.0.as_os_str() == "-" {
            if std::mem::replace(&mut self.stdin_taken, true) {
                bail!("{what}: stdin is read once; only one argument may be `-`");
            }
            read(io::stdin().lock()).with_context(|| format!("{what}: stdin"))?
        } else {
            let file = File::open(&source.0).with_context(|| format!("{what}: {path} cannot be read"))?;
            read(file).with_context(|| format!("{what}: {path}"))?
        };
        let text = std::str::from_utf8(&bytes).ok().with_context(|| format!("{what}: not a text"))?;
        let text = text.trim_start_matches('\u{feff}').trim();
        if text.is_empty() {
            bail!("{what}: nothing in it");
        }
        Ok(SecretString::from(text))
    }

    /// As [`Inputs::secret`], for an argument that may be absent.
    pub fn optional_secret(&mut self, what: &str, source: Option<&Source>) -> anyhow::Result<Option<SecretString>> {
        source.map(|source| self.secret(what, source)).transpose()
    }

    /// As [`Inputs::secret`], for what everyone may know.
    pub fn text(&mut self, what: &str, source: &Source) -> anyhow::Result<String> {
        use secrecy::ExposeSecret;
        Ok(self.secret(what, source)?.expose_secret().to_owned())
    }
}

fn read(from: impl Read) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(8 * 1024));
    from.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > BYTES_MAX {
        bail!("larger than {BYTES_MAX} bytes: not a key");
    }
    Ok(bytes)
}
