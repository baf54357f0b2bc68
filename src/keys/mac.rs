//! HMAC-SHA256 and its small kin: requests of merchants, keyed hashes of login codes, nonces, digests.

use std::fmt;

use aws_lc_rs::{constant_time, digest, hmac, rand};
use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::rsa::BadSignature;
use crate::domain::{id::AppId, payer::LoginCode};

/// A secret that signs and verifies texts, such as a merchant's requests (`merchant-api.md`, signature of a request).
pub struct MacKey(hmac::Key);

impl MacKey {
    /// `secret`: the bytes themselves (a merchant's secret is shown as base64 and decoded before it comes here).
    pub fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// Standard base64 with padding, 44 characters.
    pub fn sign(&self, text: &[u8]) -> String {
        STANDARD.encode(self.tag(text))
    }

    /// Compares in constant time. Errors: [`BadSignature`], also for what is no base64.
    pub fn verify(&self, text: &[u8], signature: &str) -> Result<(), BadSignature> {
        let tag = STANDARD.decode(signature).map_err(|_| BadSignature)?;
        hmac::verify(&self.0, text, &tag).map_err(|_| BadSignature)
    }

    /// The whole tag.
    pub fn tag(&self, text: &[u8]) -> [u8; 32] {
        let mut tag = [0; 32];
        tag.copy_from_slice(hmac::sign(&self.0, text).as_ref());
        tag
    }
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacKey(***)")
    }
}

/// Hashes login codes, so that the store knows a spent code again without keeping what was worth a login.
#[derive(Debug)]
pub struct CodeHashKey(MacKey);

impl CodeHashKey {
    pub fn new(secret: &[u8]) -> Self {
        Self(MacKey::new(secret))
    }

    /// The appid is part of it: a code belongs to one app.
    pub fn hash(&self, app_id: &AppId, code: &LoginCode) -> [u8; 32] {
        let (app_id, code) = (app_id.as_str(), Zeroizing::new(code.expose().to_owned()));
        // An appid holds no line end, so the two cannot run into each other.
        let text = Zeroizing::new(format!("login code\n{app_id}\n{}", code.as_str()));
        self.0.tag(text.as_bytes())
    }
}

/// Lower-case hex SHA-256, as the signed text of a merchant's request carries it for the body.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&sha256(bytes))
}

pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut sum = [0; 32];
    sum.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    sum
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| DIGITS[digit as usize] as char).collect()
}

/// 32 random letters and digits: the nonce of a request (`wechat-pay.md` §2).
pub fn nonce_text() -> String {
    alphanumerics::<32>()
}

/// `N` random letters and digits, each equally likely.
pub fn alphanumerics<const N: usize>() -> String {
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut text = String::with_capacity(N);
    let mut bytes = [0; 64];
    while text.len() < N {
        fill(&mut bytes);
        // 248 = 4 x 62: what is above would favour the first letters.
        let drawn = bytes.iter().filter(|byte| **byte < 248).map(|byte| LETTERS[usize::from(byte % 62)] as char);
        text.extend(drawn.take(N - text.len()));
    }
    text
}

/// 32 random bytes: a secret for a merchant, payInfo or code hashes.
pub fn fresh_secret() -> Zeroizing<[u8; 32]> {
    let mut secret = Zeroizing::new([0; 32]);
    fill(secret.as_mut_slice());
    secret
}

/// Compares in time that depends on the lengths alone.
pub fn equal_in_constant_time(one: &[u8], other: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(one, other).is_ok()
}

fn fill(bytes: &mut [u8]) {
    rand::fill(bytes).expect("the generator aborts rather than fails");
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn hmac_is_that_of_rfc_4231() {
        // Test case 2.
        let key = MacKey::new(b"Jefe");
        let text = b"what do ya want for nothing?";
        let tag = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hex(&key.tag(text)), tag);
        let signature = key.sign(text);
        assert_eq!(key.verify(text, &signature), Ok(()));
        for wrong in ["", "=", "AAAA", signature.trim_end_matches('='), &signature.replace('W', "X")] {
            assert_eq!(key.verify(text, wrong), Err(BadSignature), "{wrong}");
        }
        assert_eq!(key.verify(b"what do ya want for nothing!", &signature), Err(BadSignature));
        assert_eq!(MacKey::new(b"jefe").verify(text, &signature), Err(BadSignature));
    }

    #[test]
    fn a_code_hash_names_app_and_code() {
        let key = CodeHashKey::new(&[1; 32]);
        let hash = |key: &CodeHashKey, app: &str, code: &str| {
            key.hash(&AppId::parse(app).unwrap(), &LoginCode::parse(code).unwrap())
        };
        let one = hash(&key, "wx1", "code");
        assert_eq!(one, hash(&key, "wx1", "code"));
        for other in
            [hash(&key, "wx1", "codf"), hash(&key, "wx2", "code"), hash(&CodeHashKey::new(&[2; 32]), "wx1", "code")]
        {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn small_helpers_do_what_they_say() {
        assert_eq!(sha256_hex(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        let nonces: HashSet<String> = (0..100).map(|_| nonce_text()).collect();
        assert_eq!(nonces.len(), 100);
        assert!(nonces.iter().all(|text| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_alphanumeric())));
        assert!(equal_in_constant_time(b"a", b"a"));
        assert!(!equal_in_constant_time(b"a", b"b") && !equal_in_constant_time(b"a", b"ab"));
        assert_ne!(*fresh_secret(), *fresh_secret());
    }
}
