//! Certificate mode: serial numbers as Alipay writes them, and the chain of a downloaded successor (`alipay.md` §2.3).

use base64::{Engine, engine::general_purpose::STANDARD};
use md5::{Digest, Md5};
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};

use crate::{
    domain::time::Timestamp,
    keys::{pem, rsa::RsaVerifier},
};

/// Signatures of the RSA family, SHA-1 included: what counts for the root number. SM2 and ECDSA roots do not.
const RSA_FAMILY: &str = "1.2.840.113549.1.1.";
/// sha256WithRSAEncryption: the only signature believed inside a chain.
const SHA256_WITH_RSA: &str = "1.2.840.113549.1.1.11";

/// A certificate of Alipay's: what its answers and notices are verified with.
#[derive(Clone)]
pub struct AlipayCertificate {
    /// `alipay_cert_sn`: 32 lower-case hex characters.
    pub sn: String,
    /// RFC 2253. It names the merchant's Alipay-side key, so a successor has the same.
    pub subject: String,
    pub key: RsaVerifier,
    /// As it was given, authorities included.
    pub pem: String,
}

impl AlipayCertificate {
    /// Reads the first certificate of a PEM text, which may go on with its authority's.
    ///
    /// Errors: words for an operator. Whether to trust it is for the caller to know.
    pub fn parse(text: &str) -> Result<Self, String> {
        let blocks = pem::pem_blocks(text);
        let first = blocks.first().ok_or("no certificate found: neither PEM nor base64")?;
        let certificate = read(&first.der)?;
        Ok(Self {
            sn: sn_of(&certificate)?,
            subject: rfc2253(certificate.subject())?,
            key: RsaVerifier::from_der(certificate.public_key().raw).map_err(|error| error.to_string())?,
            pem: text.to_owned(),
        })
    }
}

/// The number of the first certificate of a PEM text: `app_cert_sn`. Errors: words for an operator.
pub fn cert_sn(text: &str) -> Result<String, String> {
    let blocks = pem::pem_blocks(text);
    let first = blocks.first().ok_or("no certificate found: neither PEM nor base64")?;
    sn_of(&read(&first.der)?)
}

/// The numbers of the RSA certificates of a root file, joined with `_` in file order: `alipay_root_cert_sn`.
///
/// The production file begins with an SM2 root that many parsers refuse: what cannot be read is skipped.
/// Errors: no RSA certificate in it.
pub fn root_cert_sn(text: &str) -> Result<String, String> {
    let mut numbers = Vec::new();
    for block in pem::pem_blocks(text) {
        let Ok(certificate) = read(&block.der) else { continue };
        if certificate.signature_algorithm.algorithm.to_id_string().starts_with(RSA_FAMILY) {
            numbers.push(sn_of(&certificate)?);
        }
    }
    if numbers.is_empty() { Err("the root file holds no RSA certificate".to_owned()) } else { Ok(numbers.join("_")) }
}

/// Reads a downloaded certificate and believes it when its number is the wanted one, its subject is that of a pinned one and
/// its chain ends at a root of the local file.
///
/// The download itself is not verified by anyone's SDK (`alipay.md` §2.3). The chain alone would not do: every merchant's
/// application certificate ends at the same roots.
/// Errors: words for a log.
pub fn successor(
    text: &str,
    wanted_sn: &str,
    pinned_subjects: &[&str],
    root_file: &str,
    now: Timestamp,
) -> Result<AlipayCertificate, String> {
    let certificate = AlipayCertificate::parse(text)?;
    if certificate.sn != wanted_sn {
        return Err(format!("asked for certificate {wanted_sn}, got {}", certificate.sn));
    }
    if !pinned_subjects.contains(&certificate.subject.as_str()) {
        return Err(format!("certificate {wanted_sn} names another subject than the pinned ones"));
    }
    check_chain(text, root_file, now)?;
    Ok(certificate)
}

/// Whether the first certificate of `text` leads, over the others in it, to a root of `root_file`, everything valid `now`.
fn check_chain(text: &str, root_file: &str, now: Timestamp) -> Result<(), String> {
    /// Alipay's chains have one authority between leaf and root.
    const AUTHORITIES_MAX: usize = 4;
    let (blocks, root_blocks) = (pem::pem_blocks(text), pem::pem_blocks(root_file));
    let roots: Vec<X509Certificate<'_>> = root_blocks.iter().filter_map(|block| read(&block.der).ok()).collect();
    let mut chain = blocks.iter().map(|block| read(&block.der));
    let mut current = chain.next().ok_or("no certificate found")??;
    let authorities: Vec<X509Certificate<'_>> = chain.take(AUTHORITIES_MAX).collect::<Result<_, _>>()?;
    for _ in 0..=AUTHORITIES_MAX {
        if !is_valid(&current, now) {
            return Err("a certificate of the chain is not valid now".to_owned());
        }
        if roots.iter().any(|root| is_valid(root, now) && signed_by(&current, root)) {
            return Ok(());
        }
        match authorities.iter().find(|authority| may_sign(authority) && signed_by(&current, authority)) {
            Some(authority) => current = authority.clone(),
            None => break,
        }
    }
    Err("the chain does not lead to a root of the local root file".to_owned())
}

fn is_valid(certificate: &X509Certificate<'_>, now: Timestamp) -> bool {
    let validity = certificate.validity();
    (validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&now.secs())
}

fn may_sign(authority: &X509Certificate<'_>) -> bool {
    let usage = match authority.key_usage() {
        Ok(usage) => usage.is_none_or(|usage| usage.value.key_cert_sign()),
        Err(_) => false,
    };
    authority.is_ca() && usage
}

fn signed_by(certificate: &X509Certificate<'_>, issuer: &X509Certificate<'_>) -> bool {
    certificate.issuer().as_raw() == issuer.subject().as_raw()
        && certificate.signature_algorithm.algorithm.to_id_string() == SHA256_WITH_RSA
        && RsaVerifier::from_der(issuer.public_key().raw).is_ok_and(|key| {
            key.verify(certificate.tbs_certificate.as_ref(), &STANDARD.encode(&certificate.signature_value.data))
                .is_ok()
        })
}

fn read(der: &[u8]) -> Result<X509Certificate<'_>, String> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err("not a certificate that can be read".to_owned()),
    }
}

/// Lower-case hex MD5 of the issuer in RFC 2253 form and the serial number in decimal, always 32 characters.
///
/// MD5 is a name here, not a proof.
fn sn_of(certificate: &X509Certificate<'_>) -> Result<String, String> {
    let text = format!("{}{}", rfc2253(certificate.issuer())?, certificate.serial);
    let digest = Md5::digest(text.as_bytes());
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A name in RFC 2253 form: last part first, no blanks, as Java's `X500Principal.getName()` prints it.
///
/// Errors: a kind of attribute whose spelling there is not known to us.
fn rfc2253(name: &X509Name<'_>) -> Result<String, String> {
    let mut parts = Vec::new();
    for rdn in name.iter_rdn() {
        let mut attributes = Vec::new();
        for attribute in rdn.iter() {
            let short = match attribute.attr_type().to_id_string().as_str() {
                "2.5.4.3" => "CN",
                "2.5.4.6" => "C",
                "2.5.4.7" => "L",
                "2.5.4.8" => "ST",
                "2.5.4.9" => "STREET",
                "2.5.4.10" => "O",
                "2.5.4.11" => "OU",
                "0.9.2342.19200300.100.1.1" => "UID",
                "0.9.2342.19200300.100.1.25" => "DC",
                other => {
                    return Err(format!("the certificate's name holds attribute {other}, whose spelling is unknown"));
                }
            };
            let value = attribute.as_str().map_err(|_| format!("the certificate's {short} is no text"))?;
            attributes.push(format!("{short}={}", escaped(value)));
        }
        parts.push(attributes.join("+"));
    }
    parts.reverse();
    Ok(parts.join(","))
}

fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (at, c) in value.chars().enumerate() {
        let at_an_end = (at == 0 && matches!(c, ' ' | '#')) || (at == last && c == ' ');
        if at_an_end || matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';') {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::alipay::testing;

    #[test]
    fn every_number_of_the_vectors_is_computed() {
        let vectors = testing::json("cert_sn.json");
        let files = vectors["files"].as_array().unwrap();
        for file in files {
            let path = file["file"].as_str().unwrap();
            let text = testing::read(path);
            let sn = if file["kind"] == "root" { root_cert_sn(&text) } else { cert_sn(&text) };
            assert_eq!(sn.as_deref(), Ok(file["expected"].as_str().unwrap()), "{path}");
            let blocks = pem::pem_blocks(&text);
            let listed = file["certificates"].as_array().unwrap();
            assert_eq!(blocks.len(), listed.len(), "{path}");
            for (block, told) in blocks.iter().zip(listed) {
                // The SM2 root may be unreadable to us: it does not count.
                let Ok(certificate) = read(&block.der) else {
                    assert_eq!(told["counts_for_root_sn"], false, "{path}");
                    continue;
                };
                assert_eq!(sn_of(&certificate).as_deref(), Ok(told["sn"].as_str().unwrap()), "{path}");
                let issuer = rfc2253(certificate.issuer());
                assert_eq!(issuer.as_deref(), Ok(told["issuer_reversed"].as_str().unwrap()));
                assert_eq!(certificate.serial.to_string(), told["serial_decimal"].as_str().unwrap());
                let oid = certificate.signature_algorithm.algorithm.to_id_string();
                assert_eq!(oid, told["signature_oid"].as_str().unwrap());
                assert_eq!(oid.starts_with(RSA_FAMILY), told["counts_for_root_sn"].as_bool().unwrap());
            }
        }
        assert_eq!(files.len(), 12);
    }

    #[test]
    fn real_chains_lead_to_the_production_root() {
        let root = testing::read("certs/published/alipay_root_production.crt");
        let now = Timestamp::from_secs(1_672_531_200); // 2023-01-01
        let chained = testing::read("certs/published/php_alipay_with_chain.crt");
        assert_eq!(check_chain(&chained, &root, now), Ok(()));
        let later = Timestamp::from_secs(1_893_456_000); // 2030-01-01
        assert!(check_chain(&chained, &root, later).is_err(), "expired");
        let bare = testing::read("certs/published/node_alipay.crt");
        assert!(check_chain(&bare, &root, now).is_err(), "its authority is missing");
        let derived = testing::read("certs/derived/alipay.crt");
        assert!(check_chain(&derived, &root, now).is_err(), "another root");
        let sandbox = testing::read("certs/published/gopay_sandbox_alipay_with_chain.crt");
        assert!(check_chain(&sandbox, &root, now).is_err(), "the sandbox has its own root");
    }

    #[test]
    fn only_a_successor_of_the_pinned_certificate_is_believed() {
        let file = |name: &str| testing::read(&format!("certs/succession/{name}.crt"));
        let root = file("root");
        let pinned = AlipayCertificate::parse(&file("alipay_first")).unwrap();
        let now = Timestamp::from_secs(1_800_000_000);
        let attempt = |name: &str| {
            let text = file(name);
            let sn = cert_sn(&text).unwrap();
            successor(&text, &sn, &[&pinned.subject], &root, now).map(|found| found.sn)
        };
        assert_eq!(attempt("alipay_second"), cert_sn(&file("alipay_second")));
        assert!(attempt("another_merchants_app").unwrap_err().contains("another subject"));
        assert!(attempt("alipay_forged").unwrap_err().contains("does not lead"));
        let wrong = successor(&file("alipay_second"), &pinned.sn, &[&pinned.subject], &root, now);
        assert!(wrong.err().unwrap().contains("asked for"));
    }

    #[test]
    fn names_are_escaped_as_rfc_2253_has_it() {
        assert_eq!(escaped("a,b+c"), "a\\,b\\+c");
        assert_eq!(escaped(" #x "), "\\ #x\\ ");
        assert_eq!(escaped("#x"), "\\#x");
        assert_eq!(escaped("杭州"), "杭州");
    }
}
