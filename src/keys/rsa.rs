//! RSA: the `rsa` crate reads and checks keys in every form people have them, `aws-lc-rs` signs and verifies.
//!
//! SHA-256 with PKCS#1 v1.5 is what both wallets speak (`wechat-pay.md` §2, Alipay's `RSA2`). A signature takes about
//! 0.3 ms of processor time with a 2048-bit key: it is made inline. Handing it to another thread would cost about as
//! much as it saves, until a measurement shows otherwise.

use std::fmt;

use ::rsa::{
    RsaPrivateKey, RsaPublicKey,
    pkcs1::{DecodeRsaPrivateKey, DecodeRsaPublicKey},
    pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey},
    traits::PublicKeyParts,
};
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair},
};
use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    certificate::Certificate,
    pem::{PemBlock, pem_blocks, to_pem},
};

/// The shortest modulus that is taken, in bits.
pub const MIN_BITS: usize = 2048;

/// Why a text is not a key. Written for the operator who pasted it; holds nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("no key found: neither PEM nor base64")]
    Empty,
    #[error("found {found} where {wanted} was wanted")]
    Kind { found: &'static str, wanted: &'static str },
    #[error("not {wanted} that can be read")]
    Unreadable { wanted: &'static str },
    #[error("the private key does not hold together: its numbers do not belong to one key")]
    Inconsistent,
    #[error("the key has {bits} bits; at least {MIN_BITS} are needed")]
    Short { bits: usize },
}

const A_PRIVATE_KEY: &str = "an RSA private key (PKCS#1 or PKCS#8)";
const A_PUBLIC_KEY: &str = "an RSA public key or certificate";

/// A signature that does not hold: wrong, of another length, or not even base64. The difference is nobody's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("signature does not verify")]
pub struct BadSignature;

/// Signs with a private key. `Debug` shows nothing of it; the numbers are wiped when it is dropped.
pub struct RsaSigner {
    key: RsaKeyPair,
    public: RsaVerifier,
}

impl RsaSigner {
    /// Reads PKCS#1 or PKCS#8, as PEM (CRLF, one line, words around it) or bare base64; the armour's label is not trusted.
    ///
    /// Errors: [`KeyError`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let blocks = pem_blocks(text);
        let key = blocks.iter().find_map(|block| {
            RsaPrivateKey::from_pkcs8_der(&block.der).ok().or_else(|| RsaPrivateKey::from_pkcs1_der(&block.der).ok())
        });
        let key = key.ok_or_else(|| why_not(&blocks, A_PRIVATE_KEY))?;
        key.validate().map_err(|_| KeyError::Inconsistent)?;
        let public = RsaVerifier::new(key.to_public_key())?;
        // Written anew, so that what signs is exactly what was checked (the CRT numbers of the text are recomputed).
        let der = key.to_pkcs8_der().map_err(|_| KeyError::Unreadable { wanted: A_PRIVATE_KEY })?;
        let key = RsaKeyPair::from_pkcs8(der.as_bytes()).map_err(|_| KeyError::Inconsistent)?;
        Ok(Self { key, public })
    }

    /// SHA-256 with RSA PKCS#1 v1.5, standard base64 with padding, one line. Deterministic.
    pub fn sign(&self, message: &[u8]) -> String {
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
            .expect("a checked key of at least 2048 bits signs any message into a buffer of its own length");
        STANDARD.encode(signature)
    }
}

impl fmt::Debug for RsaSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RsaSigner(***)")
    }
}

/// The public half of a signer: for showing it, and for checks like "this is your own key, not the wallet's".
pub fn public_of(signer: &RsaSigner) -> &RsaVerifier {
    &signer.public
}

/// Verifies with a public key. Two are equal when modulus and exponent are.
pub struct RsaVerifier {
    key: RsaPublicKey,
    parsed: ParsedPublicKey,
}

impl RsaVerifier {
    /// Reads SubjectPublicKeyInfo or PKCS#1, as PEM or bare base64, or the key of an X.509 certificate (the first one of
    /// several). A certificate's validity is not judged here.
    ///
    /// Errors: [`KeyError`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let blocks = pem_blocks(text);
        for block in &blocks {
            if let Some(key) = public_key_from_der(&block.der) {
                return Self::new(key);
            }
            if let Ok(certificate) = Certificate::from_der(&block.der) {
                return Ok(certificate.into_public_key());
            }
        }
        Err(why_not(&blocks, A_PUBLIC_KEY))
    }

    /// Reads a DER SubjectPublicKeyInfo or PKCS#1 key. Errors: [`KeyError`].
    pub fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        Self::new(public_key_from_der(der).ok_or(KeyError::Unreadable { wanted: A_PUBLIC_KEY })?)
    }

    fn new(key: RsaPublicKey) -> Result<Self, KeyError> {
        let bits = key.n().bits();
        if bits < MIN_BITS {
            return Err(KeyError::Short { bits });
        }
        let unreadable = KeyError::Unreadable { wanted: A_PUBLIC_KEY };
        let der = key.to_public_key_der().map_err(|_| unreadable.clone())?;
        let parsed = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, der.as_bytes()).map_err(|_| unreadable)?;
        Ok(Self { key, parsed })
    }

    /// SHA-256 with RSA PKCS#1 v1.5; `signature` is standard base64 with padding.
    ///
    /// Errors: [`BadSignature`], also for what is no base64 or ends in stray bits (WeChat's probes do, `wechat-pay.md` §3.2).
    pub fn verify(&self, message: &[u8], signature: &str) -> Result<(), BadSignature> {
        let signature = STANDARD.decode(signature).map_err(|_| BadSignature)?;
        self.parsed.verify_sig(message, &signature).map_err(|_| BadSignature)
    }

    /// The key as PEM SubjectPublicKeyInfo: what a merchant uploads at a wallet, and what we keep of a wallet's.
    pub fn to_pem(&self) -> String {
        to_pem("PUBLIC KEY", &self.to_der())
    }

    /// The key as DER SubjectPublicKeyInfo.
    pub fn to_der(&self) -> Vec<u8> {
        self.key.to_public_key_der().map(|der| der.as_bytes().to_vec()).unwrap_or_default()
    }

    pub fn bits(&self) -> usize {
        self.key.n().bits()
    }
}

impl Clone for RsaVerifier {
    fn clone(&self) -> Self {
        Self { key: self.key.clone(), parsed: self.parsed.clone() }
    }
}

impl PartialEq for RsaVerifier {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for RsaVerifier {}

impl fmt::Debug for RsaVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RsaVerifier({} bits)", self.bits())
    }
}

fn public_key_from_der(der: &[u8]) -> Option<RsaPublicKey> {
    RsaPublicKey::from_public_key_der(der).ok().or_else(|| RsaPublicKey::from_pkcs1_der(der).ok())
}

/// What was pasted instead of the wanted key: most "bad keys" are good keys of the wrong kind.
fn why_not(blocks: &[PemBlock], wanted: &'static str) -> KeyError {
    let Some(block) = blocks.first() else { return KeyError::Empty };
    let label = block.label.as_str();
    let found = if label.contains("ENCRYPTED") {
        "an encrypted private key"
    } else if label.contains("EC PRIVATE") {
        "an EC key"
    } else if Certificate::from_der(&block.der).is_ok() {
        "a certificate"
    } else if public_key_from_der(&block.der).is_some() {
        "a public key"
    } else if RsaPrivateKey::from_pkcs8_der(&block.der).is_ok() || RsaPrivateKey::from_pkcs1_der(&block.der).is_ok() {
        "a private key"
    } else {
        return KeyError::Unreadable { wanted };
    };
    KeyError::Kind { found, wanted }
}

#[cfg(test)]
mod tests {
    use ::rsa::pkcs1::EncodeRsaPrivateKey;

    use super::*;
    use crate::keys::test_vectors::{read, wechat_json};

    fn forms(label: &str, der: &[u8]) -> Vec<String> {
        let pem = to_pem(label, der);
        let bare = STANDARD.encode(der);
        vec![
            pem.clone(),
            pem.replace('\n', "\r\n"),
            pem.replace('\n', "\\n"),
            pem.replace('\n', " "),
            pem.replace(label, "ANY LABEL"),
            bare.clone(),
            bare.trim_end_matches('=').to_owned(),
            bare.as_bytes().chunks(76).map(|line| String::from_utf8_lossy(line) + "\r\n").collect(),
            format!("  {bare}\n"),
        ]
    }

    #[test]
    fn a_private_key_is_read_in_every_form() {
        let pem = read("wechat/java/merchant_private_key.pem");
        let signer = RsaSigner::parse(&pem).unwrap();
        let key = RsaPrivateKey::from_pkcs8_der(&pem_blocks(&pem)[0].der).unwrap();
        let mut read = 0;
        for form in forms("PRIVATE KEY", key.to_pkcs8_der().unwrap().as_bytes())
            .into_iter()
            .chain(forms("RSA PRIVATE KEY", key.to_pkcs1_der().unwrap().as_bytes()))
        {
            assert_eq!(public_of(&RsaSigner::parse(&form).unwrap()), public_of(&signer));
            read += 1;
        }
        assert_eq!(read, 18);
    }

    #[test]
    fn a_public_key_is_read_in_every_form_and_from_a_certificate() {
        let certificate = read("wechat/java/wechat_pay_certificate.pem");
        let verifier = RsaVerifier::parse(&certificate).unwrap();
        assert_eq!(RsaVerifier::parse(&read("wechat/java/wechat_pay_public_key.pem")).unwrap(), verifier);
        let pkcs1 = ::rsa::pkcs1::EncodeRsaPublicKey::to_pkcs1_der(&verifier.key).unwrap();
        for form in forms("PUBLIC KEY", &verifier.to_der())
            .into_iter()
            .chain(forms("RSA PUBLIC KEY", pkcs1.as_bytes()))
            .chain(forms("CERTIFICATE", &pem_blocks(&certificate)[0].der))
        {
            assert_eq!(RsaVerifier::parse(&form).unwrap(), verifier);
        }
        assert_eq!(RsaVerifier::parse(&verifier.to_pem()).unwrap(), verifier);
    }

    #[test]
    fn the_wrong_thing_is_named() {
        let refusal = |text: &str| RsaSigner::parse(text).unwrap_err().to_string();
        assert!(refusal(&read("wechat/java/merchant_certificate.pem")).contains("found a certificate"));
        assert!(refusal(&read("wechat/go/public_key.pem")).contains("found a public key"));
        assert_eq!(RsaSigner::parse(" "), Err(KeyError::Empty));
        assert_eq!(RsaSigner::parse("AAAA").unwrap_err(), KeyError::Unreadable { wanted: A_PRIVATE_KEY });
        let private = read("wechat/go/private_key.pem");
        let found = RsaVerifier::parse(&private).unwrap_err().to_string();
        assert_eq!(found, "found a private key where an RSA public key or certificate was wanted");
        // An answer about a key holds nothing of the key.
        assert!(!format!("{:?}", RsaSigner::parse(&private).unwrap()).contains("MII"));
    }

    impl PartialEq for RsaSigner {
        fn eq(&self, other: &Self) -> bool {
            self.public == other.public
        }
    }

    #[test]
    fn a_short_key_is_refused() {
        // n = 2^1023 + 1155 with e = 65537: only its length is looked at.
        let n = (::rsa::BigUint::from(1u8) << 1023) + 1155u32;
        let key = RsaPublicKey::new_unchecked(n, ::rsa::BigUint::from(65537u32));
        let der = key.to_public_key_der().unwrap();
        assert_eq!(RsaVerifier::from_der(der.as_bytes()).unwrap_err(), KeyError::Short { bits: 1024 });
    }

    #[test]
    fn published_signatures_are_reproduced() {
        let vectors = wechat_json("published.json");
        let mut signed = 0;
        for vector in vectors["rsa_sign"].as_array().unwrap() {
            let text = |key: &str| vector[key].as_str().unwrap();
            let signer = RsaSigner::parse(&read(&format!("wechat/{}", text("private_key")))).unwrap();
            let message = text("message").as_bytes();
            assert_eq!(signer.sign(message), text("signature"), "{}", text("source"));
            assert_eq!(public_of(&signer).verify(message, text("signature")), Ok(()));
            for file in ["public_key", "certificate"].iter().filter_map(|key| vector[key].as_str()) {
                let verifier = RsaVerifier::parse(&read(&format!("wechat/{file}"))).unwrap();
                assert_eq!(verifier.verify(message, text("signature")), Ok(()));
            }
            if let Some(file) = vector["must_fail_with_key"].as_str() {
                let other = RsaVerifier::parse(&read(&format!("wechat/{file}"))).unwrap();
                assert_eq!(other.verify(message, text("signature")), Err(BadSignature));
            }
            signed += 1;
        }
        assert_eq!(signed, 2);
    }

    #[test]
    fn one_flipped_bit_or_a_broken_text_does_not_verify() {
        let signer = RsaSigner::parse(&read("wechat/java/merchant_private_key.pem")).unwrap();
        let verifier = public_of(&signer);
        let signature = signer.sign(b"message");
        let bytes = STANDARD.decode(&signature).unwrap();
        for bit in (0..bytes.len() * 8).step_by(97) {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(verifier.verify(b"message", &STANDARD.encode(flipped)), Err(BadSignature));
        }
        let stray = signature.replacen("==", "", 1);
        for broken in ["", "=", "A", "é", "WECHATPAY/SIGNTEST/A==", stray.as_str(), &format!("{signature}\n")] {
            assert_eq!(verifier.verify(b"message", broken), Err(BadSignature), "{broken}");
        }
        assert_eq!(verifier.verify(b"messagf", &signature), Err(BadSignature));
    }
}
