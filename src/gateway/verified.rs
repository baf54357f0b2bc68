//! What was not verified cannot be used.

/// A value whose origin a wallet's signature proved. Only the gateways' verifying code makes one.
///
/// ```compile_fail
/// // The field is private and there is no public constructor.
/// let forged = prepay::gateway::Verified { value: 1 };
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified<T> {
    value: T,
}

impl<T> Verified<T> {
    /// For the code that has just checked a signature over the bytes `value` was read from.
    pub(in crate::gateway) fn by_signature(value: T) -> Self {
        Self { value }
    }

    pub fn get(&self) -> &T {
        &self.value
    }

    pub fn into_inner(self) -> T {
        self.value
    }
}
