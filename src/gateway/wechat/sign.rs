//! The texts that are signed, byte for byte: requests, answers and notices, and what the phone hands to its wallet.

use crate::{domain::time::Timestamp, keys::RsaSigner};

use super::keys::{Pinned, is_plain};

/// The only signature type of RSA; assumed when the header is absent (`wechat-pay.md` §3.1).
pub(super) const SIGNATURE_TYPE: &str = "WECHATPAY2-SHA256-RSA2048";

/// |now − timestamp| from here on is refused (`wechat-pay.md` §3.1).
const WINDOW_S: u64 = 300;

/// Five lines, each ended by LF, the last one too (`wechat-pay.md` §2). `path_and_query` exactly as sent.
pub(super) fn request_text(method: &str, path_and_query: &str, timestamp: &str, nonce: &str, body: &str) -> String {
    format!("{method}\n{path_and_query}\n{timestamp}\n{nonce}\n{body}\n")
}

/// The `Authorization` header of a request.
pub(super) fn authorization(
    signer: &RsaSigner,
    mchid: &str,
    serial_no: &str,
    timestamp: &str,
    nonce: &str,
    request_text: &str,
) -> String {
    let signature = signer.sign(request_text.as_bytes());
    format!(
        "{SIGNATURE_TYPE} mchid=\"{mchid}\",nonce_str=\"{nonce}\",timestamp=\"{timestamp}\",serial_no=\"{serial_no}\",\
         signature=\"{signature}\""
    )
}

/// Four lines, each ended by LF (`wechat-pay.md` §5). `app_id` is the running mini-program's.
pub(super) fn payment_text(app_id: &str, timestamp: &str, nonce: &str, package: &str) -> String {
    format!("{app_id}\n{timestamp}\n{nonce}\n{package}\n")
}

/// The signature headers of an answer or a notice.
pub(super) struct Signed<'a> {
    timestamp: &'a str,
    nonce: &'a str,
    serial: &'a str,
    signature: &'a str,
}

/// Why something is not WeChat Pay's word. The texts are safe to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unverified {
    Refused(&'static str),
    UnknownKey(String),
}

impl std::fmt::Display for Unverified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(why) => f.write_str(why),
            Self::UnknownKey(id) => write!(f, "signed with {id}, which is not pinned"),
        }
    }
}

impl<'a> Signed<'a> {
    pub const TIMESTAMP: &'static str = "wechatpay-timestamp";
    pub const NONCE: &'static str = "wechatpay-nonce";
    pub const SERIAL: &'static str = "wechatpay-serial";
    pub const SIGNATURE: &'static str = "wechatpay-signature";
    pub const TYPE: &'static str = "wechatpay-signature-type";

    /// `header` answers with the value of a header that stands exactly once.
    pub fn read(header: impl Fn(&str) -> Option<&'a str>) -> Result<Self, Unverified> {
        let needed = |name, why| header(name).filter(|value| !value.is_empty()).ok_or(Unverified::Refused(why));
        let signed = Self {
            timestamp: needed(Self::TIMESTAMP, "Wechatpay-Timestamp is not there exactly once")?,
            nonce: needed(Self::NONCE, "Wechatpay-Nonce is not there exactly once")?,
            serial: needed(Self::SERIAL, "Wechatpay-Serial is not there exactly once")?,
            signature: needed(Self::SIGNATURE, "Wechatpay-Signature is not there exactly once")?,
        };
        if header(Self::TYPE).is_some_and(|kind| kind != SIGNATURE_TYPE) {
            return Err(Unverified::Refused("Wechatpay-Signature-Type is another one"));
        }
        Ok(signed)
    }

    /// Verifies over the raw bytes, with the key that the serial names and no other.
    ///
    /// Probes (`WECHATPAY/SIGNTEST/…`) fail here by themselves: they are signatures that do not hold (`wechat-pay.md` §3.2).
    pub fn verify(&self, keys: &Pinned, body: &[u8], now: Timestamp) -> Result<(), Unverified> {
        if !is_plain(self.serial) {
            return Err(Unverified::Refused("Wechatpay-Serial has not the form of one"));
        }
        let digits = self.timestamp.len() <= 12 && self.timestamp.bytes().all(|byte| byte.is_ascii_digit());
        let at = self.timestamp.parse::<i64>().ok().filter(|_| digits);
        let at = at.ok_or(Unverified::Refused("Wechatpay-Timestamp is no number of seconds"))?;
        if now.secs().abs_diff(at) >= WINDOW_S {
            return Err(Unverified::Refused("Wechatpay-Timestamp is five minutes or more away"));
        }
        let key = keys.find(self.serial).ok_or_else(|| Unverified::UnknownKey(self.serial.to_owned()))?;
        key.verify(&answer_text(self.timestamp, self.nonce, body), self.signature)
            .map_err(|_| Unverified::Refused("signature does not verify"))
    }
}

/// Three lines, each ended by LF (`wechat-pay.md` §3.1).
pub(super) fn answer_text(timestamp: &str, nonce: &str, body: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(timestamp.len() + nonce.len() + body.len() + 3);
    for line in [timestamp.as_bytes(), nonce.as_bytes(), body] {
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{
        super::keys::{WechatPublicKey, WechatPublicKeys},
        *,
    };
    use crate::keys::{
        rsa::public_of,
        test_vectors::{read, wechat_json},
    };

    pub(crate) fn text<'a>(vector: &'a Value, key: &str) -> &'a str {
        vector[key].as_str().unwrap_or_else(|| panic!("{key} in {vector}"))
    }

    /// The Java certificate under its serial and its key under the public key ID of `derived.json`.
    fn derived_keys(derived: &Value) -> Pinned {
        let mut keys = WechatPublicKeys::default();
        keys.pin_certificate(&read("wechat/java/wechat_pay_certificate.pem")).unwrap();
        keys.pin_public_key(text(derived, "public_key_id"), &read("wechat/java/wechat_pay_public_key.pem")).unwrap();
        keys.pinned().unwrap()
    }

    fn verify(keys: &Pinned, headers: &Value, body: &[u8], now_s: i64) -> Result<(), Unverified> {
        let headers = headers.as_object().unwrap();
        let header = |name: &str| {
            headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).and_then(|(_, value)| value.as_str())
        };
        Signed::read(header)?.verify(keys, body, Timestamp::from_secs(now_s))
    }

    #[test]
    fn every_derived_request_is_signed_byte_for_byte() {
        let derived = wechat_json("derived.json");
        let signer = RsaSigner::parse(&read("wechat/java/merchant_private_key.pem")).unwrap();
        let mut signed = 0;
        for vector in derived["requests"].as_array().unwrap() {
            let (timestamp, nonce) = (text(vector, "timestamp"), text(vector, "nonce"));
            let message =
                request_text(text(vector, "method"), text(vector, "url"), timestamp, nonce, text(vector, "body"));
            assert_eq!(message, text(vector, "message"));
            assert_eq!(signer.sign(message.as_bytes()), text(vector, "signature"));
            let (mchid, serial) = (text(&derived, "mchid"), text(&derived, "merchant_serial_no"));
            let header = authorization(&signer, mchid, serial, timestamp, nonce, &message);
            assert_eq!(header, text(vector, "authorization"));
            public_of(&signer).verify(message.as_bytes(), text(vector, "signature")).unwrap();
            signed += 1;
        }
        assert_eq!(signed, 5);
    }

    #[test]
    fn every_published_layout_is_reproduced() {
        let published = wechat_json("published.json");
        let layouts = published["message_layout"].as_array().unwrap();
        for vector in layouts {
            let message = request_text(
                text(vector, "method"),
                text(vector, "canonical_url"),
                text(vector, "timestamp"),
                text(vector, "nonce"),
                text(vector, "body"),
            );
            assert_eq!(message, text(vector, "message"), "{}", text(vector, "source"));
        }
        assert_eq!(layouts.len(), 3);
        assert_eq!(answer_text("T", "NONCE1234567890", b"BODY"), b"T\nNONCE1234567890\nBODY\n");
        assert_eq!(answer_text("T", "NONCE1234567890", b""), b"T\nNONCE1234567890\n\n");
    }

    #[test]
    fn the_phones_signature_is_reproduced() {
        let derived = wechat_json("derived.json");
        let vector = &derived["request_payment"];
        let client = &vector["client_params"];
        let message = payment_text(
            text(vector, "app_id"),
            text(client, "timeStamp"),
            text(client, "nonceStr"),
            text(client, "package"),
        );
        assert_eq!(message, text(vector, "message"));
        let signer = RsaSigner::parse(&read("wechat/java/merchant_private_key.pem")).unwrap();
        assert_eq!(signer.sign(message.as_bytes()), text(client, "paySign"));
    }

    #[test]
    fn every_derived_answer_verifies_or_fails_as_it_must() {
        let derived = wechat_json("derived.json");
        let keys = derived_keys(&derived);
        let (mut valid, mut invalid) = (0, 0);
        for vector in derived["responses"].as_array().unwrap() {
            let body = text(vector, "body").as_bytes();
            if let Some(message) = vector["message"].as_str() {
                let headers = &vector["headers"];
                let (at, nonce) = (text(headers, "Wechatpay-Timestamp"), text(headers, "Wechatpay-Nonce"));
                assert_eq!(answer_text(at, nonce, body), message.as_bytes());
            }
            let result = verify(&keys, &vector["headers"], body, 1_756_713_600);
            if vector["valid"].as_bool().unwrap() {
                assert_eq!(result, Ok(()));
                valid += 1;
            } else {
                let why = text(vector, "why");
                let unknown = Unverified::UnknownKey("7777777777777777777777777777777777777777".into());
                let expected =
                    if why == "unknown serial" { unknown } else { Unverified::Refused("signature does not verify") };
                assert_eq!(result, Err(expected), "{why}");
                invalid += 1;
            }
        }
        assert_eq!((valid, invalid), (4, 3));
    }

    #[test]
    fn every_notification_verifies_within_its_window_only() {
        let derived = wechat_json("derived.json");
        let keys = derived_keys(&derived);
        let published = wechat_json("published.json");
        let go = WechatPublicKeys(vec![WechatPublicKey {
            id: "D7CE59D1F522D701".into(),
            kind: super::super::keys::KeyKind::Certificate,
            pem: read("wechat/go/certificate_D7CE59D1F522D701.pem"),
            not_after: None,
        }]);
        let go = go.pinned().unwrap();
        let of_go = &published["notification"];
        let mut notices: Vec<(&Pinned, &Value)> = vec![(&go, of_go)];
        notices.extend(derived["notifications"].as_array().unwrap().iter().map(|vector| (&keys, vector)));
        assert_eq!(notices.len(), 4);
        for (keys, vector) in notices {
            let body = read(&format!("wechat/{}", text(vector, "body_file")));
            let at: i64 = text(&vector["headers"], "Wechatpay-Timestamp").parse().unwrap();
            let check = |body: &[u8], now| verify(keys, &vector["headers"], body, now);
            for now in [at - 299, at, at + 299] {
                assert_eq!(check(body.as_bytes(), now), Ok(()));
            }
            for now in [at - 300, at + 300, 0, i64::MAX / 1000] {
                let late = Unverified::Refused("Wechatpay-Timestamp is five minutes or more away");
                assert_eq!(check(body.as_bytes(), now), Err(late));
            }
            // Trimmed, re-encoded or cut bodies.
            for changed in [format!("{body}\n"), body.replace(':', ": "), body[..body.len() - 1].to_owned()] {
                assert_eq!(check(changed.as_bytes(), at), Err(Unverified::Refused("signature does not verify")));
            }
            // Every header is needed, whole.
            for name in ["Wechatpay-Timestamp", "Wechatpay-Nonce", "Wechatpay-Serial", "Wechatpay-Signature"] {
                let mut headers = vector["headers"].clone();
                headers.as_object_mut().unwrap().remove(name);
                assert!(verify(keys, &headers, body.as_bytes(), at).is_err(), "without {name}");
                for broken in ["", "x", "+1", "17567136001756713600", "WECHATPAY/SIGNTEST/x", "a\u{e9}"] {
                    headers[name] = broken.into();
                    assert!(verify(keys, &headers, body.as_bytes(), at).is_err(), "{name}: {broken}");
                }
            }
            // The type may be missing, but not be another one.
            let mut headers = vector["headers"].clone();
            headers.as_object_mut().unwrap().remove("Wechatpay-Signature-Type");
            assert_eq!(verify(keys, &headers, body.as_bytes(), at), Ok(()));
            headers["Wechatpay-Signature-Type"] = "WECHATPAY2-SM2-WITH-SM3".into();
            assert!(verify(keys, &headers, body.as_bytes(), at).is_err());
        }
    }
}
