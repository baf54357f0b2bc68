//! RSA2: the strings that are signed at the gateway and in notices, and the signatures over them.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::keys::RsaKey;

/// Parameters of a request or a notice, decoded once, sorted by name as the signature wants them.
pub type Params = BTreeMap<String, String>;

/// The private key as the tools for languages other than Java write it: PKCS#1 in armour.
pub fn pkcs1_pem(key: &RsaKey) -> String {
    let pkcs8 = pkcs8_der(key);
    armour("RSA PRIVATE KEY", pkcs1_of(&pkcs8).expect("a PKCS#8 wrapper holds a key"))
}

/// PKCS#8 DER of a private key.
pub fn pkcs8_der(key: &RsaKey) -> Vec<u8> {
    STANDARD.decode(key.private_key_base64()).expect("what was just encoded decodes")
}

/// What a request signs: everything sent except `sign` and empty values, sorted, values raw.
///
/// `sign_type` is part of it, unlike in notices. Source: Alipay gateway v2, "string to sign".
pub fn request_text(params: &Params) -> String {
    joined(params, |name, value| name != "sign" && !value.is_empty())
}

/// What a notice signs: everything except `sign` and `sign_type`.
///
/// Alipay's own pages disagree about empty values, hence `keep_empty`.
pub fn notice_text(params: &Params, keep_empty: bool) -> String {
    joined(params, |name, value| name != "sign" && name != "sign_type" && (keep_empty || !value.is_empty()))
}

fn joined(params: &Params, keep: impl Fn(&str, &str) -> bool) -> String {
    let mut text = String::new();
    for (name, value) in params.iter().filter(|(name, value)| keep(name, value)) {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(name);
        text.push('=');
        text.push_str(value);
    }
    text
}

/// PEM of `der`, 64 characters a line.
pub(crate) fn armour(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

/// The RSAPrivateKey inside a PKCS#8 wrapper: SEQUENCE { version, algorithm, OCTET STRING { it } }.
fn pkcs1_of(pkcs8: &[u8]) -> Option<&[u8]> {
    let (_, inside, _) = der_item(pkcs8)?;
    let (_, _, after_version) = der_item(inside)?;
    let (_, _, after_algorithm) = der_item(after_version)?;
    let (tag, key, _) = der_item(after_algorithm)?;
    (tag == 0x04).then_some(key)
}

/// One DER item: its tag, its content, and what follows it.
fn der_item(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let digits = usize::from(first & 0x7f);
        let (number, rest) = rest.split_at_checked(digits)?;
        let length =
            number.iter().try_fold(0usize, |sum, byte| sum.checked_mul(256)?.checked_add(usize::from(*byte)))?;
        (length, rest)
    };
    let (content, after) = rest.split_at_checked(length)?;
    Some((tag, content, after))
}

#[cfg(test)]
mod tests {
    use super::super::form;
    use super::*;

    #[test]
    fn the_key_inside_pkcs8_is_the_pkcs1_one() {
        let eight = include_str!("../../tests/data/alipay/keys/derived/app_private_pkcs8.pem");
        let one = include_str!("../../tests/data/alipay/keys/derived/app_private_pkcs1.pem");
        let key = RsaKey::from_pkcs8_pem(eight).unwrap();
        assert_eq!(pkcs1_pem(&key), one);
    }

    #[test]
    fn request_vectors_agree() {
        let file: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/data/alipay/request_sign.json")).unwrap();
        let pem = include_str!("../../tests/data/alipay/keys/derived/app_private_pkcs8.pem");
        let key = RsaKey::from_pkcs8_pem(pem).unwrap();
        for case in file["cases"].as_array().unwrap() {
            let name = case["name"].as_str().unwrap();
            let params: Params = serde_json::from_value(case["params"].clone()).unwrap();
            let text = request_text(&params);
            assert_eq!(case["string_to_sign"], text, "{name}");
            assert_eq!(case["sign"], key.sign(text.as_bytes()), "{name}");

            let body = |field: &str| case[field].as_str().unwrap_or_default();
            let split = form::params(Some(body("url_query")), body("form_body").as_bytes()).unwrap();
            let whole = form::params(None, body("all_in_body").as_bytes()).unwrap();
            for received in [split, whole] {
                assert_eq!(request_text(&received), text, "{name}");
                assert!(key.public().verifies(text.as_bytes(), &received["sign"]), "{name}");
            }
        }
    }

    #[test]
    fn a_request_signs_sign_type_and_drops_empty_values() {
        let params = Params::from(
            [("sign", "x"), ("sign_type", "RSA2"), ("a", ""), ("b", "1 + 1%")]
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        assert_eq!(request_text(&params), "b=1 + 1%&sign_type=RSA2");
        assert_eq!(notice_text(&params, true), "a=&b=1 + 1%");
        assert_eq!(notice_text(&params, false), "b=1 + 1%");
    }
}
