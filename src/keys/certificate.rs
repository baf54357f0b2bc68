//! X.509 certificates, as far as the wallets need them: serial, key, life.

use std::fmt;

use x509_parser::prelude::{FromDer, X509Certificate};

use super::{
    pem::{pem_blocks, to_pem},
    rsa::{KeyError, RsaVerifier},
};
use crate::domain::time::Timestamp;

const A_CERTIFICATE: &str = "an X.509 certificate with an RSA key";

/// A certificate with an RSA key. Nothing here says whom it was issued by or whether to trust it.
#[derive(Clone)]
pub struct Certificate {
    der: Vec<u8>,
    serial: String,
    not_before: Timestamp,
    not_after: Timestamp,
    public_key: RsaVerifier,
}

impl Certificate {
    /// Reads the first certificate of a PEM text or bare base64. Errors: [`KeyError`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let blocks = pem_blocks(text);
        let mut error = KeyError::Empty;
        for block in &blocks {
            match Self::from_der(&block.der) {
                Ok(certificate) => return Ok(certificate),
                Err(refused) => error = refused,
            }
        }
        Err(error)
    }

    /// Errors: [`KeyError`].
    pub fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        let unreadable = KeyError::Unreadable { wanted: A_CERTIFICATE };
        let (rest, read) = X509Certificate::from_der(der).map_err(|_| unreadable.clone())?;
        if !rest.is_empty() {
            return Err(unreadable);
        }
        Ok(Self {
            der: der.to_vec(),
            serial: serial_text(read.raw_serial()),
            not_before: Timestamp::from_secs(read.validity().not_before.timestamp()),
            not_after: Timestamp::from_secs(read.validity().not_after.timestamp()),
            public_key: RsaVerifier::from_der(read.public_key().raw)?,
        })
    }

    /// Hex, upper case, whole bytes, without leading zero bytes (WeChat's are 40 characters, `wechat-pay.md` §2).
    pub fn serial(&self) -> &str {
        &self.serial
    }

    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    pub fn public_key(&self) -> &RsaVerifier {
        &self.public_key
    }

    pub fn into_public_key(self) -> RsaVerifier {
        self.public_key
    }

    pub fn der(&self) -> &[u8] {
        &self.der
    }

    pub fn to_pem(&self) -> String {
        to_pem("CERTIFICATE", &self.der)
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({}, until {})", self.serial, self.not_after)
    }
}

/// Whether two texts name the same serial: hex in either case, leading zeros left aside, because tools differ in them.
pub fn same_serial(one: &str, other: &str) -> bool {
    let bare = |text: &str| text.trim().trim_start_matches('0').to_ascii_uppercase();
    bare(one) == bare(other)
}

fn serial_text(raw: &[u8]) -> String {
    use std::fmt::Write;
    let significant = raw.iter().position(|byte| *byte != 0).map_or(&raw[..0], |at| &raw[at..]);
    significant.iter().fold(String::with_capacity(40), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02X}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::test_vectors::read;

    #[test]
    fn serials_are_those_the_merchant_platform_shows() {
        for (file, serial) in [
            ("java/merchant_certificate.pem", "5F1C72E2A8931B72A2E13AF8DEE92471EB397115"),
            ("java/wechat_pay_certificate.pem", "440024045C4A427599D09BB4E3DE0279F2E813FD"),
            ("java/certificates_response.decrypted.pem", "5DEA10EF55877E3CF6C33255C2E7DEFFF7E427EC"),
            ("go/certificate_D7CE59D1F522D701.pem", "D7CE59D1F522D701"),
            ("go/certificate_F5765756002FDD77.pem", "F5765756002FDD77"),
        ] {
            let certificate = Certificate::parse(&read(&format!("wechat/{file}"))).unwrap();
            assert_eq!(certificate.serial(), serial, "{file}");
            let again = Certificate::parse(&certificate.to_pem()).unwrap();
            assert_eq!((again.serial(), again.der()), (certificate.serial(), certificate.der()));
        }
    }

    #[test]
    fn a_life_is_read() {
        let certificate = Certificate::parse(&read("wechat/java/wechat_pay_certificate.pem")).unwrap();
        assert!(certificate.not_before() < certificate.not_after());
        assert!(certificate.not_after().rfc3339().starts_with("2025-05-09"), "{}", certificate.not_after());
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        assert_eq!(Certificate::parse("").unwrap_err(), KeyError::Empty);
        assert!(Certificate::parse(&read("wechat/go/public_key.pem")).is_err());
        assert!(same_serial("005f1C", "5F1c"));
        assert!(!same_serial("5F1C", "5F1D"));
    }
}
