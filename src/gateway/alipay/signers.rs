//! The private keys of one application, and which of them the wallet takes.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::keys::rsa::RsaSigner;

/// The present private key and, in public-key mode, perhaps the one before.
///
/// An application has one public key at the console, and a request does not name the key that signed it: while a new one is
/// known here and not yet there, only the wallet's answer tells which of the two it takes.
pub struct Signers {
    present: RsaSigner,
    older: Option<RsaSigner>,
    /// The older one was taken last. Until one was refused, the present one goes first.
    older_first: AtomicBool,
}

/// One of them.
#[derive(Debug, Clone, Copy)]
pub struct Signer<'a> {
    pub key: &'a RsaSigner,
    pub is_older: bool,
}

impl Signers {
    pub fn new(present: RsaSigner, older: Option<RsaSigner>) -> Self {
        Self { present, older, older_first: AtomicBool::new(false) }
    }

    pub fn each(&self) -> impl Iterator<Item = &RsaSigner> {
        std::iter::once(&self.present).chain(&self.older)
    }

    /// The one that goes first, and the other if there is one.
    pub fn in_order(&self) -> (Signer<'_>, Option<Signer<'_>>) {
        let present = Signer { key: &self.present, is_older: false };
        let Some(key) = &self.older else { return (present, None) };
        let older = Signer { key, is_older: true };
        // It orders nothing else in memory: read late, it costs one call that is refused.
        if self.older_first.load(Ordering::Relaxed) { (older, Some(present)) } else { (present, Some(older)) }
    }

    /// The wallet took this one after it had refused the other: it goes first from now on. Whether that is new.
    pub fn was_taken(&self, signer: Signer<'_>) -> bool {
        self.older_first.swap(signer.is_older, Ordering::Relaxed) != signer.is_older
    }
}
