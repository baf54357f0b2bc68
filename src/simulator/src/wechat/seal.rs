//! Signatures in both directions and the AES-256-GCM of notifications and certificates.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::chance;
use crate::faults::FaultKind;
use crate::keys::RsaKey;

/// Start of a signature that must be refused.
const SIGNTEST: &str = "WECHATPAY/SIGNTEST/";
const TYPE: &str = "WECHATPAY2-SHA256-RSA2048";

/// What a merchant signs: five lines, each ended by LF.
pub(crate) fn request_message(method: &str, target: &str, timestamp: &str, nonce: &str, body: &[u8]) -> Vec<u8> {
    let mut message = format!("{method}\n{target}\n{timestamp}\n{nonce}\n").into_bytes();
    message.extend_from_slice(body);
    message.push(b'\n');
    message
}

/// What WeChat signs, for answers and notifications alike: three lines, each ended by LF.
pub(crate) fn answer_message(timestamp: &str, nonce: &str, body: &[u8]) -> Vec<u8> {
    let mut message = format!("{timestamp}\n{nonce}\n").into_bytes();
    message.extend_from_slice(body);
    message.push(b'\n');
    message
}

/// What the phone's parameters are signed over: four lines, each ended by LF.
pub(crate) fn pay_message(appid: &str, timestamp: &str, nonce: &str, package: &str) -> Vec<u8> {
    format!("{appid}\n{timestamp}\n{nonce}\n{package}\n").into_bytes()
}

/// One of WeChat's keys with its name on the wire.
pub(crate) struct Sealer<'a> {
    /// Certificate serial or `PUB_KEY_ID_…`.
    pub serial: &'a str,
    pub key: &'a RsaKey,
    /// Signs what must not verify.
    pub stranger: &'a RsaKey,
}

impl Sealer<'_> {
    /// The `Wechatpay-*` headers of a body, with the lies of `kinds`.
    pub(crate) fn headers(&self, now_s: i64, body: &[u8], kinds: &[FaultKind]) -> Vec<(&'static str, String)> {
        let mut now_s = now_s;
        let mut key = self.key;
        let mut serial = self.serial.to_owned();
        for kind in kinds {
            match kind {
                FaultKind::Unsigned => return Vec::new(),
                FaultKind::TimestampShift { seconds } => now_s += seconds,
                FaultKind::WrongSignature => key = self.stranger,
                FaultKind::UnknownSerial => serial = chance::hex(&chance::bytes::<20>()).to_uppercase(),
                _ => {}
            }
        }
        let timestamp = now_s.to_string();
        let nonce = chance::text(32);
        let mut signature = key.sign(&answer_message(&timestamp, &nonce, body));
        if kinds.contains(&FaultKind::SignTest) {
            // The probe keeps the length of a signature; nothing in it has to decode.
            signature.replace_range(..SIGNTEST.len(), SIGNTEST);
        }
        if kinds.contains(&FaultKind::UndecodableSignature) {
            // Odd trailing bits: one character short, and without padding.
            signature = format!("{}=", &signature[..signature.len() - 3]);
        }
        let mut headers = vec![
            ("Wechatpay-Timestamp", timestamp),
            ("Wechatpay-Nonce", nonce),
            ("Wechatpay-Signature", signature),
            ("Wechatpay-Serial", serial),
            ("Wechatpay-Signature-Type", TYPE.to_owned()),
        ];
        for kind in kinds {
            if let FaultKind::MissingHeader { name } = kind {
                headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
            }
        }
        headers
    }
}

/// Base64 of ciphertext and tag. `key` is the APIv3 key, 32 ASCII bytes as they are; `nonce` has 12 characters.
pub(crate) fn encrypt(key: &str, nonce: &str, associated_data: &str, plain: &[u8]) -> String {
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_bytes()).expect("an APIv3 key has 32 bytes"));
    let nonce = Nonce::try_assume_unique_for_key(nonce.as_bytes()).expect("our nonces have 12 bytes");
    let mut sealed = plain.to_vec();
    key.seal_in_place_append_tag(nonce, Aad::from(associated_data.as_bytes()), &mut sealed)
        .expect("a notification is short enough for AES-GCM");
    STANDARD.encode(sealed)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::keys::PublicKey;

    const DERIVED: &str = include_str!("../../tests/data/wechat/derived.json");
    const MERCHANT_KEY: &str = include_str!("../../tests/data/wechat/merchant_private_key.pem");
    const WECHAT_KEY: &str = include_str!("../../tests/data/wechat/wechat_pay_private_key.pem");
    const CERTIFICATES: &str = include_str!("../../tests/data/wechat/certificates_response.json");
    const CERTIFICATE: &str = include_str!("../../tests/data/wechat/certificates_response.decrypted.pem");
    const APIV3_KEY: &str = "a7cde1ZJB1kG2e7VfTs3jQzaWizur8Gb";

    fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
        value.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no {pointer}"))
    }

    #[test]
    fn the_published_request_signatures_come_out_byte_for_byte() {
        let vectors: Value = serde_json::from_str(DERIVED).expect("JSON");
        let key = RsaKey::from_pkcs8_pem(MERCHANT_KEY).expect("a key");
        let requests = vectors["requests"].as_array().expect("requests");
        assert_eq!(requests.len(), 5);
        for request in requests {
            let (method, url) = (text(request, "/method"), text(request, "/url"));
            let body = text(request, "/body");
            let message =
                request_message(method, url, text(request, "/timestamp"), text(request, "/nonce"), body.as_bytes());
            assert_eq!(String::from_utf8(message.clone()).expect("UTF-8"), text(request, "/message"));
            assert_eq!(key.sign(&message), text(request, "/signature"), "{method} {url}");
            assert!(key.public().verifies(&message, text(request, "/signature")));
        }
    }

    #[test]
    fn the_published_pay_sign_comes_out_byte_for_byte() {
        let vectors: Value = serde_json::from_str(DERIVED).expect("JSON");
        let vector = &vectors["request_payment"];
        let message = pay_message(
            text(vector, "/app_id"),
            text(vector, "/client_params/timeStamp"),
            text(vector, "/client_params/nonceStr"),
            text(vector, "/client_params/package"),
        );
        assert_eq!(String::from_utf8(message.clone()).expect("UTF-8"), text(vector, "/message"));
        let key = RsaKey::from_pkcs8_pem(MERCHANT_KEY).expect("a key");
        assert_eq!(key.sign(&message), text(vector, "/client_params/paySign"));
    }

    #[test]
    fn the_published_certificate_is_encrypted_to_the_same_bytes() {
        let answer: Value = serde_json::from_str(CERTIFICATES).expect("JSON");
        let sealed = &answer["data"][0]["encrypt_certificate"];
        let ours = encrypt(APIV3_KEY, text(sealed, "/nonce"), text(sealed, "/associated_data"), CERTIFICATE.as_bytes());
        let trimmed = encrypt(
            APIV3_KEY,
            text(sealed, "/nonce"),
            text(sealed, "/associated_data"),
            CERTIFICATE.trim_end().as_bytes(),
        );
        assert!([ours, trimmed].contains(&text(sealed, "/ciphertext").to_owned()));
        assert_eq!(
            encrypt(APIV3_KEY, "uluk4a9R25RW", "associatedData", b"message"),
            "ulwSiIajGClcvcOYvOQ7+l+0PAbzzwI="
        );
    }

    #[test]
    fn lies_do_not_verify_and_the_truth_does() {
        let key = RsaKey::from_pkcs8_pem(WECHAT_KEY).expect("a key");
        let stranger = RsaKey::from_pkcs8_pem(MERCHANT_KEY).expect("a key");
        let sealer = Sealer { serial: "S", key: &key, stranger: &stranger };
        let public = PublicKey::from_pem(&key.public_key_pem()).expect("a key");
        let check = |kinds: &[FaultKind]| {
            let headers = sealer.headers(1_000, b"{}", kinds);
            let find = |name: &str| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
            let message =
                answer_message(find("Wechatpay-Timestamp").unwrap_or(""), find("Wechatpay-Nonce").unwrap_or(""), b"{}");
            (
                find("Wechatpay-Signature").is_some_and(|signature| public.verifies(&message, signature)),
                find("Wechatpay-Serial") == Some("S"),
                find("Wechatpay-Timestamp").unwrap_or("").to_owned(),
            )
        };
        let then = |seconds: i64| seconds.to_string();
        assert_eq!(check(&[]), (true, true, then(1000)));
        assert_eq!(check(&[FaultKind::WrongSignature]), (false, true, then(1000)));
        assert_eq!(check(&[FaultKind::SignTest]), (false, true, then(1000)));
        assert_eq!(check(&[FaultKind::UndecodableSignature]), (false, true, then(1000)));
        assert_eq!(check(&[FaultKind::UnknownSerial]), (true, false, then(1000)));
        assert_eq!(check(&[FaultKind::TimestampShift { seconds: -301 }]), (true, true, then(699)));
        assert_eq!(check(&[FaultKind::MissingHeader { name: "wechatpay-nonce".into() }]), (false, true, then(1000)));
        assert_eq!(check(&[FaultKind::Unsigned]), (false, false, String::new()));
    }
}
