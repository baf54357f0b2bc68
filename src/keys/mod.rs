//! Keys: sealed at rest, opened by the role that may, signing and verifying.

pub mod aead;
pub mod certificate;
pub mod mac;
pub mod payinfo;
pub mod pem;
pub mod rsa;
pub mod seal;
pub mod vault;
pub mod webhook;

pub use mac::{CodeHashKey, MacKey};
pub use payinfo::{PayInfoError, PayInfoKeys, PayInfoSigner};
pub use rsa::{RsaSigner, RsaVerifier};
pub use seal::{Back, Front, Place, Sealed};
pub use vault::{Vault, VaultError};
pub use webhook::WebhookSigner;

/// Published and derived vectors, read in tests of every room that signs or verifies.
#[cfg(test)]
pub(crate) mod test_vectors {
    /// The exact text of `tests/data/vectors/{path}`.
    pub fn read(path: &str) -> String {
        let file = format!("{}/tests/data/vectors/{path}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    pub fn wechat_json(file: &str) -> serde_json::Value {
        serde_json::from_str(&read(&format!("wechat/{file}"))).unwrap()
    }
}
