//! WeChat Pay's public keys, as an account has them pinned: a public key with its ID, platform certificates, or both
//! during a migration (`wechat-pay.md` §3.3). Which one signed is told by `Wechatpay-Serial`; there is no falling back.

use serde::{Deserialize, Serialize};

use crate::{
    domain::time::Timestamp,
    keys::{
        RsaVerifier,
        certificate::{Certificate, same_serial},
    },
};

/// The prefix is part of the ID.
const PUBLIC_KEY_PREFIX: &str = "PUB_KEY_ID_";

/// The pinned set as it stands in the store: a JSON list, nothing secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WechatPublicKeys(pub Vec<WechatPublicKey>);

/// One pinned key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WechatPublicKey {
    /// `PUB_KEY_ID_…`, or a platform certificate's serial in upper-case hex.
    pub id: String,
    pub kind: KeyKind,
    /// A public key (`PUBLIC KEY`), or the certificate.
    pub pem: String,
    /// A certificate's end, Unix milliseconds; public keys have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyKind {
    PublicKey,
    Certificate,
}

impl WechatPublicKeys {
    /// An empty text is an empty set: certificates are then fetched before anything verifies. Errors: words for the operator.
    pub fn from_json(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_str(text).map_err(|error| format!("WeChat Pay's public keys cannot be read: {error}"))
    }

    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers serialize")
    }

    /// Pins WeChat Pay's public key, as downloaded from the merchant platform. Errors: words for the operator.
    pub fn pin_public_key(&mut self, id: &str, text: &str) -> Result<(), String> {
        let id = id.trim();
        if !id.strip_prefix(PUBLIC_KEY_PREFIX).is_some_and(|rest| !rest.is_empty() && is_plain(rest)) {
            return Err(format!(
                "the id of WeChat Pay's public key begins {PUBLIC_KEY_PREFIX}, and the prefix is part of it"
            ));
        }
        let key = RsaVerifier::parse(text).map_err(|error| format!("WeChat Pay's public key {id}: {error}"))?;
        self.put(WechatPublicKey { id: id.to_owned(), kind: KeyKind::PublicKey, pem: key.to_pem(), not_after: None });
        Ok(())
    }

    /// Pins a platform certificate under its own serial. Errors: words for the operator.
    pub fn pin_certificate(&mut self, text: &str) -> Result<(), String> {
        let certificate = Certificate::parse(text).map_err(|error| format!("platform certificate: {error}"))?;
        self.pin_read_certificate(&certificate);
        Ok(())
    }

    pub(super) fn pin_read_certificate(&mut self, certificate: &Certificate) {
        self.put(WechatPublicKey {
            id: certificate.serial().to_owned(),
            kind: KeyKind::Certificate,
            pem: certificate.to_pem(),
            not_after: Some(certificate.not_after()),
        });
    }

    /// Without the certificates that ended before `now`. Public keys stay.
    pub(super) fn unexpired(mut self, now: Timestamp) -> Self {
        self.0.retain(|key| key.not_after.is_none_or(|end| end > now));
        self
    }

    /// Replaces the key of the same id; the order is fixed, so that equal sets are equal texts.
    fn put(&mut self, key: WechatPublicKey) {
        self.0.retain(|known| known.id != key.id);
        self.0.push(key);
        self.0.sort_by(|one, other| one.id.cmp(&other.id));
    }

    /// The set, read and checked. Errors: words for the operator.
    pub(super) fn pinned(&self) -> Result<Pinned, String> {
        let mut keys = Vec::with_capacity(self.0.len());
        for key in &self.0 {
            let refuse = |what: String| format!("WeChat Pay's key {}: {what}", key.id);
            let verifier = RsaVerifier::parse(&key.pem).map_err(|error| refuse(error.to_string()))?;
            match key.kind {
                KeyKind::PublicKey if !key.id.starts_with(PUBLIC_KEY_PREFIX) => {
                    return Err(refuse(format!("the id of a public key begins {PUBLIC_KEY_PREFIX}")));
                }
                KeyKind::Certificate => {
                    let certificate = Certificate::parse(&key.pem).map_err(|error| refuse(error.to_string()))?;
                    if !same_serial(certificate.serial(), &key.id) {
                        return Err(refuse(format!("the certificate's own serial is {}", certificate.serial())));
                    }
                }
                KeyKind::PublicKey => {}
            }
            keys.push((key.clone(), verifier));
        }
        Ok(Pinned { keys })
    }
}

/// The set, ready to verify.
#[derive(Debug)]
pub(super) struct Pinned {
    keys: Vec<(WechatPublicKey, RsaVerifier)>,
}

impl Pinned {
    /// The key of exactly this id. A certificate's end is not judged: WeChat decides when it stops using one, and a set that is
    /// refreshed loses it by itself.
    pub fn find(&self, id: &str) -> Option<&RsaVerifier> {
        self.keys.iter().find(|(key, _)| key.id == id).map(|(_, verifier)| verifier)
    }

    /// What `Wechatpay-Serial` of a request asks answers to be signed with: the public key where there is one, else the
    /// certificate that lasts longest.
    pub fn preferred(&self) -> Option<&str> {
        let best = self.keys.iter().max_by_key(|(key, _)| (key.kind == KeyKind::PublicKey, key.not_after));
        best.map(|(key, _)| key.id.as_str())
    }

    pub fn has_public_key(&self) -> bool {
        self.keys.iter().any(|(key, _)| key.kind == KeyKind::PublicKey)
    }
}

/// Only what ids and serials are made of, and not long: fit for a log.
pub(super) fn is_plain(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::test_vectors::read;

    fn both() -> WechatPublicKeys {
        let mut keys = WechatPublicKeys::default();
        keys.pin_certificate(&read("wechat/java/wechat_pay_certificate.pem")).unwrap();
        keys.pin_public_key("PUB_KEY_ID_01", &read("wechat/go/public_key.pem")).unwrap();
        keys
    }

    #[test]
    fn both_kinds_stand_together_and_the_public_key_is_preferred() {
        let keys = both();
        let pinned = WechatPublicKeys::from_json(&keys.to_json()).unwrap().pinned().unwrap();
        assert_eq!(pinned.preferred(), Some("PUB_KEY_ID_01"));
        assert!(pinned.find("PUB_KEY_ID_01").is_some());
        assert!(pinned.find("440024045C4A427599D09BB4E3DE0279F2E813FD").is_some());
        for unknown in ["01", "PUB_KEY_ID_0", "", "440024045c4a427599d09bb4e3de0279f2e813fd"] {
            assert!(pinned.find(unknown).is_none(), "{unknown}");
        }
        assert_eq!(WechatPublicKeys::from_json("").unwrap().pinned().unwrap().preferred(), None);
    }

    #[test]
    fn an_ended_certificate_leaves_and_a_key_pinned_twice_stands_once() {
        let mut keys = both();
        keys.pin_certificate(&read("wechat/java/wechat_pay_certificate.pem")).unwrap();
        assert_eq!(keys.0.len(), 2);
        let end = keys.0.iter().find_map(|key| key.not_after).unwrap();
        assert_eq!(keys.clone().unexpired(Timestamp::from_secs(end.secs() - 1)).0.len(), 2);
        assert_eq!(keys.unexpired(end).0.len(), 1);
    }

    #[test]
    fn a_wrong_pin_is_refused() {
        let mut keys = WechatPublicKeys::default();
        assert!(keys.pin_public_key("0119000001", &read("wechat/go/public_key.pem")).is_err());
        assert!(keys.pin_public_key("PUB_KEY_ID_", &read("wechat/go/public_key.pem")).is_err());
        assert!(keys.pin_public_key("PUB_KEY_ID_1", "nonsense").is_err());
        assert!(keys.pin_certificate(&read("wechat/go/public_key.pem")).is_err());
        let mut renamed = both();
        renamed.0[0].id = "440024045C4A427599D09BB4E3DE0279F2E813FE".into();
        assert!(renamed.pinned().unwrap_err().contains("own serial"));
    }
}
