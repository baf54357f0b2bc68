//! Alipay's public keys of one application, and which of them answers for a signature.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;

use super::{
    certificate::{AlipayCertificate, cert_sn, root_cert_sn, successor},
    settings::{AlipayPublicKeys, Signing},
};
use crate::{
    domain::time::Timestamp,
    keys::rsa::{RsaSigner, RsaVerifier, public_of},
};

/// Why a signature is not to be believed.
#[derive(Debug, PartialEq, Eq)]
pub enum Unverified {
    Wrong,
    /// Signed with a certificate that is not pinned (yet).
    UnknownCertificate(String),
}

/// The keys that verify what Alipay says to one application.
pub struct KeyRing {
    kind: Kind,
}

enum Kind {
    /// The present one, then perhaps the one before.
    PublicKeys(Vec<RsaVerifier>),
    Certificates(Box<Certificates>),
}

struct Certificates {
    app_cert_sn: String,
    root_cert_sn: String,
    /// As given; a successor is kept beside the ones before it.
    given: AlipayPublicKeys,
    known: ArcSwap<Vec<AlipayCertificate>>,
    /// When one was asked for in vain. Held while one is asked for: whoever needs the same one waits for it.
    asked: tokio::sync::Mutex<Option<Instant>>,
}

/// Old certificates fall out of the set past this many; an account normally has one, two while a successor takes over.
const KNOWN_MAX: usize = 8;
/// A number that cannot be fetched is not asked for more often than this.
const ASKED_EVERY: Duration = Duration::from_secs(60);

impl KeyRing {
    /// Errors: words for the operator.
    pub fn new(signing: Signing, given: AlipayPublicKeys) -> Result<Self, String> {
        let kind = match signing {
            Signing::PublicKey => {
                let read =
                    |name: &str, text: &str| RsaVerifier::parse(text).map_err(|error| format!("{name}: {error}"));
                let present = given.alipay_public_key.as_deref().ok_or("alipay_public_key is missing")?;
                let mut keys = vec![read("alipay_public_key", present)?];
                if let Some(older) = &given.older_alipay_public_key {
                    keys.push(read("older_alipay_public_key", older)?);
                }
                Kind::PublicKeys(keys)
            }
            Signing::Certificate => {
                let app_cert = given.app_cert.as_deref().ok_or("app_cert is missing (certificate mode)")?;
                let root_cert = given.root_cert.as_deref().ok_or("root_cert is missing (certificate mode)")?;
                let mut known = Vec::new();
                for text in &given.alipay_certs {
                    known.push(AlipayCertificate::parse(text).map_err(|error| format!("alipay_certs: {error}"))?);
                }
                if known.is_empty() || known.len() > KNOWN_MAX {
                    return Err(format!("alipay_certs must hold 1 to {KNOWN_MAX} certificates (certificate mode)"));
                }
                Kind::Certificates(Box::new(Certificates {
                    app_cert_sn: cert_sn(app_cert).map_err(|error| format!("app_cert: {error}"))?,
                    root_cert_sn: root_cert_sn(root_cert).map_err(|error| format!("root_cert: {error}"))?,
                    given: given.clone(),
                    known: ArcSwap::from_pointee(known),
                    asked: tokio::sync::Mutex::new(None),
                }))
            }
        };
        Ok(Self { kind })
    }

    /// Refuses the mix-ups that make every signature fail: the most frequent mistake is the application's own public key in
    /// the place of Alipay's (`alipay.md` §2.2). Errors: words for the operator.
    pub fn check_against(&self, signer: &RsaSigner) -> Result<(), String> {
        let own = public_of(signer);
        match &self.kind {
            Kind::PublicKeys(keys) if keys.contains(own) => {
                Err("alipay_public_key is the application's own public key; copy \
                 Alipay's public key from the console instead"
                    .to_owned())
            }
            Kind::PublicKeys(_) => Ok(()),
            Kind::Certificates(certificates) => {
                if certificates.known.load().iter().any(|known| &known.key == own) {
                    return Err("alipay_certs holds the application's own certificate; it must be Alipay's".to_owned());
                }
                let app_cert = certificates.given.app_cert.as_deref().unwrap_or_default();
                match RsaVerifier::parse(app_cert) {
                    Ok(key) if &key == own => Ok(()),
                    _ => Err("app_cert was not issued for this private key".to_owned()),
                }
            }
        }
    }

    /// `app_cert_sn` and `alipay_root_cert_sn` of a request in certificate mode.
    pub fn request_numbers(&self) -> Option<(&str, &str)> {
        match &self.kind {
            Kind::PublicKeys(_) => None,
            Kind::Certificates(certificates) => Some((&certificates.app_cert_sn, &certificates.root_cert_sn)),
        }
    }

    /// Verifies over exact bytes, with the certificate that is named, or with each pinned one when none is named (the
    /// sandbox and notices name none, `alipay.md` §7.3).
    pub fn verify(&self, message: &[u8], sign: &str, alipay_cert_sn: Option<&str>) -> Result<(), Unverified> {
        let verified = match &self.kind {
            Kind::PublicKeys(keys) => keys.iter().any(|key| key.verify(message, sign).is_ok()),
            Kind::Certificates(certificates) => {
                let known = certificates.known.load();
                match alipay_cert_sn {
                    None => known.iter().any(|certificate| certificate.key.verify(message, sign).is_ok()),
                    Some(sn) => match known.iter().find(|certificate| certificate.sn == sn) {
                        Some(certificate) => certificate.key.verify(message, sign).is_ok(),
                        None => return Err(Unverified::UnknownCertificate(sn.to_owned())),
                    },
                }
            }
        };
        if verified { Ok(()) } else { Err(Unverified::Wrong) }
    }

    /// Makes the certificate `sn` known: `download` fetches its PEM text, and it is kept when it is a successor of a pinned one.
    /// In vain it is done at most once a minute. Errors: words for a log.
    pub async fn learn<D>(&self, sn: &str, now: Timestamp, download: D) -> Result<(), String>
    where
        D: AsyncFnOnce() -> Result<String, String>,
    {
        let Kind::Certificates(certificates) = &self.kind else {
            return Err("answer names a certificate, but the account is in public-key mode".to_owned());
        };
        let mut asked = certificates.asked.lock().await;
        let known = certificates.known.load_full();
        if known.iter().any(|certificate| certificate.sn == sn) {
            return Ok(());
        }
        if asked.is_some_and(|at| at.elapsed() < ASKED_EVERY) {
            return Err(format!("certificate {sn} is unknown and was asked for a moment ago"));
        }
        *asked = Some(Instant::now());
        let text = download().await?;
        let subjects: Vec<&str> = known.iter().map(|certificate| certificate.subject.as_str()).collect();
        let root_file = certificates.given.root_cert.as_deref().unwrap_or_default();
        let found = successor(&text, sn, &subjects, root_file, now)?;
        tracing::info!(sn, "a successor of Alipay's certificate is known now");
        let mut next = known.to_vec();
        next.push(found);
        if next.len() > KNOWN_MAX {
            next.remove(0);
        }
        certificates.known.store(Arc::new(next));
        *asked = None;
        Ok(())
    }

    /// The text for the store, when a successor was kept since this ring was made.
    pub fn grown(&self) -> Option<AlipayPublicKeys> {
        let Kind::Certificates(certificates) = &self.kind else { return None };
        let texts: Vec<String> = certificates.known.load().iter().map(|certificate| certificate.pem.clone()).collect();
        (texts != certificates.given.alipay_certs)
            .then(|| AlipayPublicKeys { alipay_certs: texts, ..certificates.given.clone() })
    }

    pub fn is_certificates(&self) -> bool {
        matches!(self.kind, Kind::Certificates(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::alipay::testing;

    fn app_signer() -> RsaSigner {
        RsaSigner::parse(&testing::read("keys/derived/app_private_pkcs8.pem")).unwrap()
    }

    #[test]
    fn mixed_up_keys_are_named_before_the_first_call() {
        let ring = |key: &str| {
            let given = AlipayPublicKeys { alipay_public_key: Some(testing::read(key)), ..AlipayPublicKeys::default() };
            KeyRing::new(Signing::PublicKey, given).unwrap()
        };
        assert_eq!(ring("keys/derived/alipay_public.pem").check_against(&app_signer()), Ok(()));
        let own = ring("keys/derived/app_public.pem").check_against(&app_signer()).unwrap_err();
        assert!(own.contains("own public key"), "{own}");
        assert!(KeyRing::new(Signing::PublicKey, AlipayPublicKeys::default()).is_err());

        let good = testing::succession_keys();
        assert_eq!(KeyRing::new(Signing::Certificate, good.clone()).unwrap().check_against(&app_signer()), Ok(()));
        let swapped = AlipayPublicKeys { alipay_certs: vec![good.app_cert.clone().unwrap()], ..good.clone() };
        assert!(KeyRing::new(Signing::Certificate, swapped).unwrap().check_against(&app_signer()).is_err());
        let stranger = AlipayPublicKeys { app_cert: Some(good.alipay_certs[0].clone()), ..good.clone() };
        assert!(KeyRing::new(Signing::Certificate, stranger).unwrap().check_against(&app_signer()).is_err());
        for part in 0..3 {
            let mut missing = good.clone();
            match part {
                0 => missing.app_cert = None,
                1 => missing.root_cert = None,
                _ => missing.alipay_certs.clear(),
            }
            assert!(KeyRing::new(Signing::Certificate, missing).is_err());
        }
    }

    #[test]
    fn the_older_public_key_still_verifies() {
        let public = |name: &str| Some(testing::read(&format!("keys/derived/{name}_public.pem")));
        let signed = |name: &str| {
            let key = testing::read(&format!("keys/derived/{name}_private_pkcs8.pem"));
            RsaSigner::parse(&key).unwrap().sign(b"message")
        };
        let ring = |present: &str, older: Option<&str>| {
            let given = AlipayPublicKeys {
                alipay_public_key: public(present),
                older_alipay_public_key: older.and_then(public),
                ..AlipayPublicKeys::default()
            };
            KeyRing::new(Signing::PublicKey, AlipayPublicKeys::from_json(&given.to_json()).unwrap()).unwrap()
        };
        let both = ring("other", Some("alipay"));
        for name in ["other", "alipay"] {
            assert_eq!(both.verify(b"message", &signed(name), None), Ok(()), "{name}");
        }
        assert_eq!(both.verify(b"message", &signed("app"), None), Err(Unverified::Wrong));
        assert_eq!(ring("other", None).verify(b"message", &signed("alipay"), None), Err(Unverified::Wrong));
        let own = ring("other", Some("app")).check_against(&app_signer()).unwrap_err();
        assert!(own.contains("own public key"), "{own}");
    }

    #[tokio::test]
    async fn a_successor_is_asked_for_once_checked_and_kept() {
        let ring = KeyRing::new(Signing::Certificate, testing::succession_keys()).unwrap();
        let second = testing::read("certs/succession/alipay_second.crt");
        let sn = cert_sn(&second).unwrap();
        let signer = RsaSigner::parse(&testing::read("certs/succession/second_private.pem")).unwrap();
        let sign = signer.sign(b"message");
        assert_eq!(ring.verify(b"message", &sign, Some(&sn)), Err(Unverified::UnknownCertificate(sn.clone())));
        assert_eq!(ring.verify(b"message", &sign, None), Err(Unverified::Wrong));
        let now = Timestamp::from_secs(1_800_000_000);
        assert_eq!(ring.learn(&sn, now, async || Ok(second.clone())).await, Ok(()));
        assert_eq!(ring.learn(&sn, now, async || Err("asked twice".to_owned())).await, Ok(()));
        assert_eq!(ring.verify(b"message", &sign, Some(&sn)), Ok(()));
        assert_eq!(ring.verify(b"message", &sign, None), Ok(()));
        let kept = ring.grown().unwrap();
        assert_eq!(kept.alipay_certs.len(), 2);
        let again = KeyRing::new(Signing::Certificate, AlipayPublicKeys::from_json(&kept.to_json()).unwrap()).unwrap();
        assert_eq!(again.verify(b"message", &sign, Some(&sn)), Ok(()));
        assert!(again.grown().is_none());
    }

    #[tokio::test]
    async fn an_unknown_certificate_is_asked_for_once_a_minute() {
        let ring = KeyRing::new(Signing::Certificate, testing::succession_keys()).unwrap();
        let now = Timestamp::from_secs(1_800_000_000);
        let forged = testing::read("certs/succession/alipay_forged.crt");
        let sn = cert_sn(&forged).unwrap();
        assert!(ring.learn(&sn, now, async || Ok(forged)).await.is_err());
        let refused = ring.learn("ff", now, async || Err("asked twice".to_owned())).await.unwrap_err();
        assert!(refused.contains("a moment ago"), "{refused}");
        assert!(ring.grown().is_none());
    }
}
