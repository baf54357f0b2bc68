//! Certificates of the certificate mode: their serial numbers as Alipay computes them, and a chain to hand out.

use md5::{Digest as _, Md5};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, PKCS_ECDSA_P384_SHA384,
    PKCS_RSA_SHA256, SerialNumber,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::pem::Pem;

use super::sign::pkcs8_der;
use crate::chance;
use crate::keys::RsaKey;

/// The certificate Alipay's own root file begins with. It is signed with SM2, which many X.509 parsers
/// do not know and root serial numbers leave out; here so that clients meet it.
const SM2_ROOT: &str = include_str!("sm2_root.crt");

/// Algorithms whose certificates count for a root serial number: PKCS#1, the RSA family.
const RSA_FAMILY: &str = "1.2.840.113549.1.1";

/// The SN of the first certificate in `pem`: MD5 over the issuer, last part first, and the serial in decimal.
///
/// `None` when `pem` begins with no certificate. Source: Alipay, "certificate mode"; SDKs' `antcertutil`.
pub fn cert_sn(pem: &str) -> Option<String> {
    let first = Pem::iter_from_buffer(pem.as_bytes()).next()?.ok()?;
    let cert = first.parse_x509().ok()?;
    Some(sn(&cert))
}

/// The SNs of every RSA certificate in `pem`, in file order, joined with `_`.
///
/// What does not parse is left out as well: a root file is no reason to fail.
pub fn root_sn(pem: &str) -> String {
    let mut sns = Vec::new();
    for block in Pem::iter_from_buffer(pem.as_bytes()).filter_map(Result::ok) {
        if let Ok(cert) = block.parse_x509()
            && cert.signature_algorithm.algorithm.to_id_string().starts_with(RSA_FAMILY)
        {
            sns.push(sn(&cert));
        }
    }
    sns.join("_")
}

fn sn(cert: &X509Certificate<'_>) -> String {
    let issuer: Vec<String> = cert
        .issuer()
        .iter_rdn()
        .map(|rdn| {
            let parts: Vec<String> = rdn
                .iter()
                .map(|part| {
                    let value = part.as_str().unwrap_or_default();
                    format!("{}={}", short_name(&part.attr_type().to_id_string()), escaped(value))
                })
                .collect();
            parts.join("+")
        })
        .collect();
    let reversed: Vec<String> = issuer.into_iter().rev().collect();
    let text = format!("{}{}", reversed.join(","), cert.serial);
    chance::hex(&Md5::digest(text.as_bytes()))
}

/// RFC 2253 names; anything else keeps its dotted number.
fn short_name(oid: &str) -> &str {
    match oid {
        "2.5.4.3" => "CN",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "STREET",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "0.9.2342.19200300.100.1.1" => "UID",
        "0.9.2342.19200300.100.1.25" => "DC",
        other => other,
    }
}

fn escaped(value: &str) -> String {
    value
        .chars()
        .flat_map(|c| {
            let backslash = matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';').then_some('\\');
            backslash.into_iter().chain([c])
        })
        .collect()
}

/// A certification authority as Alipay has one: a root, and the intermediate that signs the leaves.
pub struct Authority {
    intermediate_key: KeyPair,
    intermediate: CertificateParams,
    intermediate_pem: String,
    root_file: String,
}

impl Authority {
    /// Makes one, with a root file of an SM2, an RSA and an ECDSA certificate.
    pub fn new(root_key: &RsaKey, intermediate_key: &RsaKey) -> Self {
        let root_key = rcgen_pair(root_key);
        let root = authority_params("Simulated Certification Authority R1");
        let root_pem = root.self_signed(&root_key).expect("complete parameters make a certificate").pem();
        let ecdsa_key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).expect("the system makes EC keys");
        let ecdsa_pem = authority_params("Simulated Certification Authority E1")
            .self_signed(&ecdsa_key)
            .expect("complete parameters make a certificate")
            .pem();

        let intermediate_key = rcgen_pair(intermediate_key);
        let intermediate = authority_params("Simulated Certification Authority Class 2 R1");
        let intermediate_pem = intermediate
            .signed_by(&intermediate_key, &Issuer::from_params(&root, &root_key))
            .expect("complete parameters make a certificate")
            .pem();
        Self {
            intermediate_key,
            intermediate,
            intermediate_pem,
            root_file: format!("{SM2_ROOT}{}{}", unix(&root_pem), unix(&ecdsa_pem)),
        }
    }

    /// The root file as the console hands it out.
    pub fn root_file(&self) -> &str {
        &self.root_file
    }

    /// A leaf for `key`, alone, as an application's certificate comes.
    pub fn app_cert(&self, key: &RsaKey, app_id: &str, seller_id: &str) -> String {
        self.leaf(key, &format!("{seller_id}-{app_id}"))
    }

    /// A leaf for `key` and the intermediate behind it, as Alipay's certificate comes.
    pub fn alipay_cert(&self, key: &RsaKey) -> String {
        format!("{}{}", self.leaf(key, "Simulated Alipay"), unix(&self.intermediate_pem))
    }

    fn leaf(&self, key: &RsaKey, common_name: &str) -> String {
        let mut params = params(common_name);
        params.is_ca = IsCa::ExplicitNoCa;
        let public = rcgen_pair(key);
        let issuer = Issuer::from_params(&self.intermediate, &self.intermediate_key);
        let leaf = params.signed_by(&public, &issuer).expect("complete parameters make a certificate");
        unix(&leaf.pem())
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority(***)")
    }
}

fn rcgen_pair(key: &RsaKey) -> KeyPair {
    KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8_der(key).as_slice().into(), &PKCS_RSA_SHA256)
        .expect("an RSA pair signs certificates")
}

fn authority_params(common_name: &str) -> CertificateParams {
    let mut params = params(common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn params(common_name: &str) -> CertificateParams {
    let mut name = DistinguishedName::new();
    name.push(DnType::CountryName, "CN");
    name.push(DnType::OrganizationName, "Simulated Financial");
    name.push(DnType::OrganizationalUnitName, "Certification Authority");
    name.push(DnType::CommonName, common_name);
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.not_before = rcgen::date_time_ymd(2025, 1, 1);
    params.not_after = rcgen::date_time_ymd(2045, 1, 1);
    // Sixteen bytes with the highest bit clear, as Alipay's serials have; printed in decimal they are long.
    let mut serial = chance::bytes::<16>();
    serial[0] = 0x20;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params
}

fn unix(pem: &str) -> String {
    pem.replace("\r\n", "\n")
}

/// The certificate of `pem` as `alipay.open.app.alipaycert.download` answers it.
pub fn downloadable(pem: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(pem)
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! files {
        ($($name:literal),* $(,)?) => {
            [$(($name, include_str!(concat!("../../tests/data/alipay/", $name)))),*]
        };
    }

    #[test]
    fn serial_numbers_of_published_files() {
        let files = files!(
            "certs/published/node_app.crt",
            "certs/published/node_alipay.crt",
            "certs/published/alipay_root_production.crt",
            "certs/published/php_alipay_with_chain.crt",
            "certs/published/php_app.crt",
            "certs/published/easysdk_alipay_with_chain.crt",
            "certs/published/easysdk_app.crt",
            "certs/published/gopay_sandbox_alipay_with_chain.crt",
            "certs/published/gopay_sandbox_app.crt",
            "certs/derived/root.crt",
            "certs/derived/alipay.crt",
            "certs/derived/app.crt",
        );
        let expected: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/data/alipay/cert_sn.json")).unwrap();
        let expected = expected["files"].as_array().unwrap();
        assert_eq!(files.len(), expected.len());
        for ((name, pem), vector) in files.into_iter().zip(expected) {
            assert_eq!(vector["file"], name);
            let sn = match vector["kind"].as_str() {
                Some("root") => root_sn(pem),
                _ => cert_sn(pem).unwrap(),
            };
            assert_eq!(vector["expected"], sn, "{name}");
        }
    }

    #[test]
    fn a_fresh_chain_verifies_and_its_root_file_counts_one_certificate() {
        let key = RsaKey::generate().unwrap();
        let authority = Authority::new(&key, &key);
        let file = authority.alipay_cert(&key);
        assert_eq!(file.matches("BEGIN CERTIFICATE").count(), 2);
        assert_eq!(cert_sn(&file).unwrap().len(), 32);
        assert_eq!(authority.root_file().matches("BEGIN CERTIFICATE").count(), 3);
        assert_eq!(root_sn(authority.root_file()).len(), 32);

        let blocks: Vec<Pem> = Pem::iter_from_buffer(file.as_bytes()).map(Result::unwrap).collect();
        let leaf = blocks[0].parse_x509().unwrap();
        let public = super::super::sign::armour("PUBLIC KEY", leaf.public_key().raw);
        assert_eq!(public, key.public_key_pem());
        let intermediate = blocks[1].parse_x509().unwrap();
        assert_eq!(leaf.issuer().as_raw(), intermediate.subject().as_raw());
        assert_ne!(cert_sn(&file), cert_sn(&authority.alipay_cert(&key)));
    }
}
