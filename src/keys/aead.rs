//! AES-256-GCM, as our sealed values and WeChat Pay's resources use it.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    rand,
};

/// Bytes of a nonce and of a tag.
pub const NONCE_LEN: usize = 12;
pub const TAG_LEN: usize = 16;

/// A key of 32 bytes. `Debug` shows nothing of it.
pub struct AesKey(LessSafeKey);

impl AesKey {
    pub fn new(key: &[u8; 32]) -> Self {
        Self(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("an AES-256 key has 32 bytes, as this one")))
    }

    /// Nonce (random), ciphertext and tag, in this order.
    pub fn seal(&self, associated_data: &[u8], plain: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).expect("the generator aborts rather than fails");
        let mut sealed = nonce.to_vec();
        sealed.extend_from_slice(&self.seal_with(nonce, associated_data, plain));
        sealed
    }

    /// Ciphertext and tag. A nonce used twice breaks the key: outside of tests only [`AesKey::seal`] calls this.
    pub(crate) fn seal_with(&self, nonce: [u8; NONCE_LEN], associated_data: &[u8], plain: &[u8]) -> Vec<u8> {
        // Room for the tag from the start, so that no copy of the plain text is left behind by growing.
        let mut sealed = Vec::with_capacity(plain.len() + TAG_LEN);
        sealed.extend_from_slice(plain);
        self.0
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(associated_data), &mut sealed)
            .expect("AES-GCM seals anything below 64 GiB");
        sealed
    }

    /// Opens `ciphertext` (with its tag at the end). `None`: nonce not 12 bytes, too short, or damaged; nothing says which.
    pub fn open(&self, nonce: &[u8], associated_data: &[u8], ciphertext: &[u8]) -> Option<Vec<u8>> {
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let (ciphertext, tag) = ciphertext.split_at_checked(ciphertext.len().checked_sub(TAG_LEN)?)?;
        let mut plain = vec![0; ciphertext.len()];
        self.0.open_separate_gather(nonce, Aad::from(associated_data), ciphertext, tag, &mut plain).ok()?;
        Some(plain)
    }
}

impl std::fmt::Debug for AesKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AesKey(***)")
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::STANDARD};

    use super::*;
    use crate::keys::test_vectors::{read, wechat_json};

    #[test]
    fn published_ciphertexts_open_and_false_ones_do_not() {
        let vectors = wechat_json("published.json");
        let (mut opened, mut other_size) = (0, 0);
        for vector in vectors["aes_gcm"].as_array().unwrap() {
            let text = |key: &str| vector[key].as_str().unwrap();
            let Ok(key) = <&[u8; 32]>::try_from(text("key").as_bytes()) else {
                // WeChat's APIv3 keys have 32 bytes; the one vector with 16 is AES-128 and cannot be ours.
                assert_eq!(vector["bits"], 128);
                other_size += 1;
                continue;
            };
            let key = AesKey::new(key);
            let (nonce, aad, ciphertext, plain) = match vector["file"].as_str() {
                Some(file) => {
                    let answer: serde_json::Value = serde_json::from_str(&read(&format!("wechat/{file}"))).unwrap();
                    let sealed = answer["data"][0]["encrypt_certificate"].as_object().unwrap();
                    let part = |name: &str| sealed[name].as_str().unwrap().to_owned();
                    let plain = read(&format!("wechat/{}", text("plaintext_file")));
                    (part("nonce"), part("associated_data"), part("ciphertext"), plain)
                }
                None => (
                    text("nonce").to_owned(),
                    text("associated_data").to_owned(),
                    text("ciphertext").to_owned(),
                    text("plaintext").to_owned(),
                ),
            };
            let ciphertext = STANDARD.decode(ciphertext).unwrap();
            let found = key.open(nonce.as_bytes(), aad.as_bytes(), &ciphertext).unwrap();
            assert_eq!(String::from_utf8(found).unwrap().trim_end(), plain.trim_end());
            assert_eq!(key.open(nonce.as_bytes(), b"bad-associatedData", &ciphertext), None);
            assert_eq!(key.open(b"bad-4a9R25RW", aad.as_bytes(), &ciphertext), None);
            assert_eq!(key.open(nonce.as_bytes(), aad.as_bytes(), &[0; 128]), None);
            for cut in [0, 15, 16, ciphertext.len() - 1] {
                assert_eq!(key.open(nonce.as_bytes(), aad.as_bytes(), &ciphertext[..cut]), None);
            }
            assert_eq!(key.open(b"", aad.as_bytes(), &ciphertext), None);
            opened += 1;
        }
        assert_eq!((opened, other_size), (2, 1));
    }

    #[test]
    fn what_was_sealed_opens() {
        let key = AesKey::new(&[7; 32]);
        for plain in [b"".as_slice(), b"secret"] {
            let sealed = key.seal(b"place", plain);
            let (nonce, rest) = sealed.split_at(NONCE_LEN);
            assert_eq!(key.open(nonce, b"place", rest).as_deref(), Some(plain));
            assert_eq!(key.open(nonce, b"elsewhere", rest), None);
        }
        assert_ne!(key.seal(b"", b"same"), key.seal(b"", b"same"), "a nonce is drawn each time");
    }
}
