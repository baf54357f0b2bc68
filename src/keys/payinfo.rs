//! The tag of payInfo: who may mint a link, and how one is told from a forgery.
//!
//! Text: `v1.<key id>.<base64url payload>.<base64url tag>`; the tag is the first 16 bytes of HMAC-SHA256 over the text before
//! the last dot, so version and key id are under it too (`mini-program.md`, payInfo).

use std::{collections::BTreeMap, fmt};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretSlice};

use super::mac::{MacKey, equal_in_constant_time};
use crate::domain::{id::KeyId, payinfo::PayInfo, time::Timestamp};

/// A payInfo is at most this long (`mini-program.md`, field table).
pub const MAX_LENGTH: usize = 1024;

const VERSION: &str = "v1";
const TAG_LEN: usize = 16;

/// Why a text is no payInfo of ours. Every one of them is 2106 to a phone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PayInfoError {
    #[error("payInfo is longer than {MAX_LENGTH} characters")]
    TooLong,
    #[error("payInfo has not the form of one")]
    Form,
    /// Not (yet, or any more) among our keys.
    #[error("payInfo names an unknown key")]
    UnknownKey,
    #[error("payInfo has a wrong tag")]
    Tag,
}

/// Why a set of keys cannot serve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayInfoKeysError {
    #[error("payInfo key {0} is not 32 bytes")]
    Length(KeyId),
    #[error("payInfo key {0} is there twice")]
    Twice(KeyId),
    #[error("the payInfo key {0} that signs is not among the keys")]
    NoSigner(KeyId),
}

/// A key and the hour from which new links are made with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayInfoSigner {
    pub key: KeyId,
    pub from: Timestamp,
}

impl PayInfoSigner {
    pub fn has_begun(&self, now: Timestamp) -> bool {
        self.from <= now
    }
}

/// The keys that sign, each from its hour on, and all that verify. Whoever holds it swaps the whole ring when the keys change;
/// an hour that comes changes nothing in the store, and is known here.
pub struct PayInfoKeys {
    first: KeyId,
    later: Vec<PayInfoSigner>,
    keys: BTreeMap<KeyId, MacKey>,
}

impl PayInfoKeys {
    /// `first` signs until the hour of one of `later`, which are in the order they were made: the last one whose hour has come
    /// signs.
    ///
    /// Errors: [`PayInfoKeysError`].
    pub fn new(
        first: KeyId,
        later: Vec<PayInfoSigner>,
        keys: impl IntoIterator<Item = (KeyId, SecretSlice<u8>)>,
    ) -> Result<Self, PayInfoKeysError> {
        let mut ring = BTreeMap::new();
        for (id, secret) in keys {
            let secret = secret.expose_secret();
            if secret.len() != 32 {
                return Err(PayInfoKeysError::Length(id));
            }
            if ring.insert(id.clone(), MacKey::new(secret)).is_some() {
                return Err(PayInfoKeysError::Twice(id));
            }
        }
        if let Some(unknown) =
            later.iter().map(|signer| &signer.key).chain([&first]).find(|key| !ring.contains_key(key))
        {
            return Err(PayInfoKeysError::NoSigner(unknown.clone()));
        }
        Ok(Self { first, later, keys: ring })
    }

    /// The key for links of now; stored with the order, it makes the same link again ([`PayInfoKeys::mint`]).
    pub fn current(&self, now: Timestamp) -> &KeyId {
        let begun = self.later.iter().rfind(|signer| signer.has_begun(now));
        begun.map_or(&self.first, |signer| &signer.key)
    }

    /// Whether links of this key still work: a retired one is gone from the ring.
    pub fn has(&self, key_id: &KeyId) -> bool {
        self.keys.contains_key(key_id)
    }

    /// About 70 characters of `A-Z a-z 0-9 . _ -`, so that decoding it as a URL any number of times changes nothing.
    /// `None`: that key is gone.
    pub fn mint(&self, key_id: &KeyId, info: &PayInfo) -> Option<String> {
        let key = self.keys.get(key_id)?;
        let mut text = format!("{VERSION}.{key_id}.{}", URL_SAFE_NO_PAD.encode(info.to_bytes()));
        let tag = tag_text(key, &text);
        text.push('.');
        text.push_str(&tag);
        Some(text)
    }

    /// Compares the tag, in constant time, before the payload is decoded. Neither expiry nor generation is judged.
    ///
    /// Each link has exactly one text: the tag is compared as text, and the payload's text is what was signed.
    ///
    /// Errors: [`PayInfoError`].
    pub fn check(&self, text: &str) -> Result<PayInfo, PayInfoError> {
        if text.len() > MAX_LENGTH {
            return Err(PayInfoError::TooLong);
        }
        let (signed, tag) = text.rsplit_once('.').ok_or(PayInfoError::Form)?;
        let mut parts = signed.split('.');
        let (Some(VERSION), Some(key_id), Some(payload), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(PayInfoError::Form);
        };
        let key_id = KeyId::parse(key_id).map_err(|_| PayInfoError::Form)?;
        let key = self.keys.get(&key_id).ok_or(PayInfoError::UnknownKey)?;
        if !equal_in_constant_time(tag_text(key, signed).as_bytes(), tag.as_bytes()) {
            return Err(PayInfoError::Tag);
        }
        let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| PayInfoError::Form)?;
        PayInfo::from_bytes(&payload).ok_or(PayInfoError::Form)
    }
}

impl fmt::Debug for PayInfoKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signers = self.later.len() + 1;
        write!(f, "PayInfoKeys({signers} sign, {} verify)", self.keys.len())
    }
}

fn tag_text(key: &MacKey, signed: &str) -> String {
    URL_SAFE_NO_PAD.encode(&key.tag(signed.as_bytes())[..TAG_LEN])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{
        id::{MerchantId, OrderId},
        time::Timestamp,
        wallet::Wallet,
    };

    fn id(text: &str) -> KeyId {
        KeyId::parse(text).unwrap()
    }

    fn secrets(keys: &[(&str, u8)]) -> Vec<(KeyId, SecretSlice<u8>)> {
        keys.iter().map(|(name, byte)| (id(name), SecretSlice::from(vec![*byte; 32]))).collect()
    }

    /// The first of the keys signs.
    fn ring(keys: &[(&str, u8)]) -> PayInfoKeys {
        PayInfoKeys::new(id(keys[0].0), Vec::new(), secrets(keys)).unwrap()
    }

    fn mint(keys: &PayInfoKeys, info: &PayInfo) -> String {
        keys.mint(keys.current(Timestamp::from_secs(0)), info).unwrap()
    }

    fn info(order: [u8; 16], generation: u16) -> PayInfo {
        PayInfo {
            order: OrderId::from_bytes(order),
            merchant: MerchantId(7),
            wallet: Wallet::WechatPay,
            expire_at: Timestamp::from_secs(1_772_337_600),
            generation,
        }
    }

    #[test]
    fn a_link_survives_and_keeps_its_text() {
        let keys = ring(&[("p1", 1)]);
        let text = mint(&keys, &info([9; 16], 1));
        assert_eq!(keys.check(&text), Ok(info([9; 16], 1)));
        // A link in a merchant's hands must stay good: this text may never change.
        assert_eq!(text, "v1.p1.CQkJCQkJCQkJCQkJCQkJCQAAAAd3aaO5wAAB.X3a2WvfZ1BYuL7xwxeRiVQ");
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)));
    }

    #[test]
    fn keys_rotate_and_old_links_stay_good() {
        let old = ring(&[("p1", 1)]);
        let both = ring(&[("p2", 2), ("p1", 1)]);
        let new = ring(&[("p2", 2)]);
        let link = mint(&old, &info([9; 16], 1));
        assert!(both.check(&link).is_ok());
        assert_eq!(both.mint(&id("p1"), &info([9; 16], 1)), Some(link.clone()));
        assert_eq!(new.check(&link), Err(PayInfoError::UnknownKey));
        assert_eq!(new.mint(&id("p1"), &info([9; 16], 1)), None);
        // Same name, other bytes; and another name in front of the same tag.
        assert_eq!(ring(&[("p1", 3)]).check(&link), Err(PayInfoError::Tag));
        assert_eq!(both.check(&link.replace(".p1.", ".p2.")), Err(PayInfoError::Tag));
    }

    #[test]
    fn what_has_not_the_form_is_refused() {
        let keys = ring(&[("p1", 1)]);
        let link = mint(&keys, &info([9; 16], 1));
        assert_eq!(keys.check(&"a".repeat(1025)), Err(PayInfoError::TooLong));
        let (head, tag) = link.rsplit_once('.').unwrap();
        for wrong in [
            "",
            ".",
            "...",
            "....",
            head,
            tag,
            &format!(" {link}"),
            &format!("{link}="),
            &format!("{link}\n"),
            &format!("{link}."),
            &format!("{head}.x.{tag}"),
            &link.replace("v1", "v2"),
            &link.replace("p1", "订单"),
        ] {
            assert!(keys.check(wrong).is_err(), "{wrong}");
        }
        let short = PayInfoKeys::new(id("a"), Vec::new(), [(id("a"), SecretSlice::from(vec![1; 31]))]).unwrap_err();
        assert_eq!(short, PayInfoKeysError::Length(id("a")));
        let none = PayInfoKeys::new(id("b"), Vec::new(), secrets(&[("a", 1)])).unwrap_err();
        assert_eq!(none, PayInfoKeysError::NoSigner(id("b")));
        let later = vec![PayInfoSigner { key: id("c"), from: Timestamp::from_secs(1) }];
        let none = PayInfoKeys::new(id("a"), later, secrets(&[("a", 1)])).unwrap_err();
        assert_eq!(none, PayInfoKeysError::NoSigner(id("c")));
    }

    #[test]
    fn each_key_signs_from_its_hour_on() {
        let later = [("p2", 100), ("p3", 300), ("p4", 200)];
        let later = later.map(|(name, from)| PayInfoSigner { key: id(name), from: Timestamp::from_secs(from) });
        let all = secrets(&[("p1", 1), ("p2", 2), ("p3", 3), ("p4", 4)]);
        let keys = PayInfoKeys::new(id("p1"), later.to_vec(), all).unwrap();
        for (now, signs) in [(0, "p1"), (99, "p1"), (100, "p2"), (199, "p2"), (200, "p4"), (300, "p4"), (400, "p4")] {
            assert_eq!(keys.current(Timestamp::from_secs(now)), &id(signs), "at {now}: the one that was made last");
        }
    }

    proptest! {
        #[test]
        fn no_other_text_is_a_link(order: [u8; 16], generation: u16, at in 0usize..80, with in "[A-Za-z0-9._=~ -]") {
            let keys = ring(&[("p1", 1), ("p2", 2)]);
            let link = mint(&keys, &info(order, generation));
            prop_assert_eq!(keys.check(&link), Ok(info(order, generation)));
            let at = at % link.len();
            let mut replaced = link.clone();
            replaced.replace_range(at..=at, &with);
            prop_assert_eq!(keys.check(&replaced).is_ok(), replaced == link);
            let mut inserted = link.clone();
            inserted.insert_str(at, &with);
            prop_assert!(keys.check(&inserted).is_err());
            prop_assert!(keys.check(&link[..at]).is_err());
        }

        #[test]
        fn no_text_is_a_panic(text in "\\PC{0,200}") {
            prop_assert!(ring(&[("p1", 1)]).check(&text).is_err());
        }
    }
}
