//! Values sealed at rest: the store keeps them and cannot open them.

use std::{fmt, marker::PhantomData};

/// Sealed with the master key of the fronts: merchants' request keys and payInfo keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Front {}

/// Sealed with the master key of workers and scheduler: everything a wallet or a payer could be robbed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Back {}

/// Which master key a value is sealed with; the type keeps the two apart.
pub trait Master: sealed::Sealed {
    const NAME: &'static str;
}

impl Master for Front {
    const NAME: &'static str = "front";
}

impl Master for Back {
    const NAME: &'static str = "back";
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Front {}
    impl Sealed for super::Back {}
}

/// Where a sealed value lives. It is the associated data: a value copied to another row does not open there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    pub table: &'a str,
    pub column: &'a str,
    pub row: &'a str,
}

/// A value only its master key opens. Text form: `s1.<master key id>.<base64url of nonce, ciphertext, tag>`.
pub struct Sealed<M> {
    text: String,
    master: PhantomData<fn() -> M>,
}

impl<M> Sealed<M> {
    /// Takes what a column held; whether it opens is seen when it is opened.
    pub fn from_text(text: impl Into<String>) -> Self {
        Self { text: text.into(), master: PhantomData }
    }

    pub fn as_text(&self) -> &str {
        &self.text
    }
}

impl<M> Clone for Sealed<M> {
    fn clone(&self) -> Self {
        Self::from_text(self.text.clone())
    }
}

impl<M> PartialEq for Sealed<M> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl<M> Eq for Sealed<M> {}

impl<M> fmt::Debug for Sealed<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed(***)")
    }
}
