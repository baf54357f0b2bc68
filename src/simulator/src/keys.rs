//! RSA-2048 keys and certificates, as a merchant platform hands them out.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use time::OffsetDateTime;

/// A key could not be read or a certificate not be made.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct KeyError(String);

/// An RSA key pair that signs and verifies SHA-256 with PKCS#1 v1.5.
pub struct RsaKey {
    pair: KeyPair,
    public: PublicKey,
    pkcs8: Vec<u8>,
}

impl RsaKey {
    /// A new 2048-bit key; takes tens of milliseconds.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|_| KeyError("no key could be made".into()))?;
        Self::from_pair(pair)
    }

    /// Reads a PKCS#8 PEM.
    pub fn from_pkcs8_pem(pem: &str) -> Result<Self, KeyError> {
        let der = pem_body(pem)?;
        let pair = KeyPair::from_pkcs8(&der).map_err(|error| KeyError(format!("no PKCS#8 RSA key: {error}")))?;
        Self::from_pair(pair)
    }

    fn from_pair(pair: KeyPair) -> Result<Self, KeyError> {
        let private: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| KeyError("the key cannot be written".into()))?;
        let public: PublicKeyX509Der<'_> =
            pair.public_key().as_der().map_err(|_| KeyError("the key cannot be written".into()))?;
        let public = PublicKey::from_spki(public.as_ref())?;
        Ok(Self { pkcs8: private.as_ref().to_vec(), public, pair })
    }

    /// Signature in Base64 (standard alphabet, padded).
    pub fn sign(&self, message: &[u8]) -> String {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &aws_lc_rs::rand::SystemRandom::new(), message, &mut signature)
            .expect("a key that was checked signs");
        STANDARD.encode(signature)
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// PKCS#8 PEM.
    pub fn private_key_pem(&self) -> String {
        pem("PRIVATE KEY", &self.pkcs8)
    }

    /// PKCS#8 DER in one line of Base64, as Alipay's tools hand it out.
    pub fn private_key_base64(&self) -> String {
        STANDARD.encode(&self.pkcs8)
    }

    /// X.509 SubjectPublicKeyInfo PEM.
    pub fn public_key_pem(&self) -> String {
        pem("PUBLIC KEY", &self.public.spki)
    }

    /// X.509 SubjectPublicKeyInfo DER in one line of Base64.
    pub fn public_key_base64(&self) -> String {
        STANDARD.encode(&self.public.spki)
    }

    /// A self-signed certificate of this key with a random 20-byte serial.
    pub fn certificate(&self, subject: &Subject<'_>) -> Result<Certificate, KeyError> {
        let issuer =
            rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&self.pkcs8.as_slice().into(), &rcgen::PKCS_RSA_SHA256)
                .map_err(|error| KeyError(error.to_string()))?;
        let mut params = rcgen::CertificateParams::default();
        let mut serial: [u8; 20] = crate::chance::bytes();
        // Positive and without a leading zero byte, so that the serial has its 40 digits everywhere.
        serial[0] = (serial[0] & 0x7f) | 0x10;
        params.serial_number = Some(rcgen::SerialNumber::from_slice(&serial));
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, subject.common_name);
        params.distinguished_name.push(rcgen::DnType::OrganizationName, subject.organization);
        params.distinguished_name.push(rcgen::DnType::CountryName, "CN");
        params.not_before = subject.not_before;
        params.not_after = subject.not_after;
        let certificate = params.self_signed(&issuer).map_err(|error| KeyError(error.to_string()))?;
        Ok(Certificate {
            serial_no: crate::chance::hex(&serial).to_uppercase(),
            pem: pem("CERTIFICATE", certificate.der()),
            not_before: subject.not_before,
            not_after: subject.not_after,
        })
    }
}

/// Whose certificate it is, and from when to when it holds.
pub struct Subject<'a> {
    pub common_name: &'a str,
    pub organization: &'a str,
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
}

/// A certificate and what its holder must know of it.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// 40 hexadecimal digits, upper case.
    pub serial_no: String,
    pub pem: String,
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
}

/// A public key to verify with.
#[derive(Debug, Clone)]
pub struct PublicKey {
    spki: Vec<u8>,
    parsed: Arc<ParsedPublicKey>,
}

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo PEM, or its bare Base64.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        Self::from_spki(&pem_body(pem)?)
    }

    fn from_spki(spki: &[u8]) -> Result<Self, KeyError> {
        let parsed = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, spki)
            .map_err(|error| KeyError(format!("no RSA public key: {error}")))?;
        Ok(Self { spki: spki.to_vec(), parsed: Arc::new(parsed) })
    }

    /// Whether `signature` (Base64) is this key's signature of `message`.
    pub fn verifies(&self, message: &[u8], signature: &str) -> bool {
        STANDARD.decode(signature).is_ok_and(|signature| self.parsed.verify_sig(message, &signature).is_ok())
    }
}

/// A key of this process by its number, made at first use.
///
/// Simulators of one test run share them: making a key costs tens of milliseconds, and tests make hundreds of merchants.
pub(crate) fn shared(number: usize) -> Result<Arc<RsaKey>, KeyError> {
    static KEYS: OnceLock<Mutex<Vec<Option<Arc<RsaKey>>>>> = OnceLock::new();
    let mut keys = KEYS.get_or_init(|| Mutex::new(Vec::new())).lock().unwrap_or_else(PoisonError::into_inner);
    if keys.len() <= number {
        keys.resize(number + 1, None);
    }
    if let Some(key) = &keys[number] {
        return Ok(key.clone());
    }
    let key = Arc::new(RsaKey::generate()?);
    keys[number] = Some(key.clone());
    Ok(key)
}

/// Numbers of [`shared`] keys, so that no two owners sign alike.
pub(crate) mod shared_number {
    /// A key nobody knows, for wrong signatures.
    pub const STRANGER: usize = 0;
    pub const WECHAT_PUBLIC_KEY: usize = 1;
    /// Two platform certificates, used in turns.
    pub const WECHAT_CERTIFICATES: usize = 2;
    /// What Alipay signs with towards its applications, used in turns.
    pub const ALIPAY: usize = 11;
    /// Alipay's root and the intermediate below it.
    pub const ALIPAY_AUTHORITY: usize = 14;
    /// Alipay applications, used in turns.
    pub const ALIPAY_APPS: usize = 5;
    /// WeChat merchants, used in turns.
    pub const WECHAT_MERCHANTS: usize = 8;
    /// How many keys applications or merchants take turns with.
    pub const TURNS: usize = 3;
}

fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in body.as_bytes().chunks(64) {
        text.push_str(std::str::from_utf8(line).expect("Base64 is ASCII"));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

fn pem_body(pem: &str) -> Result<Vec<u8>, KeyError> {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
    STANDARD.decode(body).map_err(|error| KeyError(format!("no PEM: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_signs_what_its_public_half_verifies() {
        let key = RsaKey::generate().expect("a key");
        let signature = key.sign(b"message");
        let public = PublicKey::from_pem(&key.public_key_pem()).expect("reads");
        assert!(public.verifies(b"message", &signature));
        assert!(!public.verifies(b"massage", &signature));
        assert!(!public.verifies(b"message", "not base64!"));
        let again = RsaKey::from_pkcs8_pem(&key.private_key_pem()).expect("reads");
        assert_eq!(again.sign(b"message"), signature);
    }

    #[test]
    fn a_certificate_carries_its_serial_and_key() {
        let key = shared(shared_number::STRANGER).expect("a key");
        let now = OffsetDateTime::now_utc();
        let subject = Subject {
            common_name: "1900000109",
            organization: "test",
            not_before: now,
            not_after: now + time::Duration::days(5),
        };
        let certificate = key.certificate(&subject).expect("a certificate");
        let der = pem_body(&certificate.pem).expect("PEM");
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).expect("DER");
        assert_eq!(parsed.raw_serial_as_string().replace(':', "").to_uppercase(), certificate.serial_no);
        assert_eq!(parsed.public_key().raw, key.public.spki);
    }
}
