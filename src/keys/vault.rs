//! The vault of a role: the master keys it was started with, which seal and open what the store keeps.
//!
//! Master keys come from files or the environment, never from the database. Each master is a ring: the first key seals,
//! the others still open what they sealed, so that a key is changed by putting a new one in front, sealing everything
//! again, and taking the old one out.

use std::fmt;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use secrecy::{SecretSlice, SecretString};
use zeroize::{Zeroize, Zeroizing};

use super::{
    aead::{AesKey, NONCE_LEN},
    mac::alphanumerics,
    seal::{Back, Front, Master, Place, Sealed},
};
use crate::domain::id::KeyId;

/// The version in front of every sealed text.
const VERSION: &str = "s1";

/// What a vault cannot do, for the operator. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    #[error("this role was started without the {master} master key")]
    NoMaster { master: &'static str },
    #[error("no {master} master key is called {key_id}: give the older key too until everything is sealed anew")]
    UnknownKey { master: &'static str, key_id: String },
    /// Damaged, or copied here from another place, or sealed by a key of the same name with other bytes.
    #[error("a value sealed for {table}.{column} does not open in row {row}")]
    NotOpened { table: String, column: String, row: String },
    #[error("a value in {table}.{column}, row {row}, is no sealed text")]
    NotSealed { table: String, column: String, row: String },
    #[error("{master} master key {at}: {what}")]
    MasterText { master: &'static str, at: usize, what: &'static str },
}

/// The master keys a role holds: the front's, the back's, or (one process in all roles) both.
#[derive(Debug)]
pub struct Vault {
    front: Option<Ring>,
    back: Option<Ring>,
}

struct Ring {
    current: (KeyId, AesKey),
    older: Vec<(KeyId, AesKey)>,
}

impl Ring {
    fn find(&self, key_id: &str) -> Option<&AesKey> {
        std::iter::once(&self.current).chain(&self.older).find(|(id, _)| id.as_str() == key_id).map(|(_, key)| key)
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ring({}, {} older)", self.current.0, self.older.len())
    }
}

impl Vault {
    /// Takes each master as text: `<id>:<base64 of 32 bytes>`, the current one first, older ones after it, separated by line
    /// ends or commas; blank parts and `#` lines are skipped.
    ///
    /// Errors: [`VaultError::MasterText`], which names the place in the text and shows none of it.
    pub fn new(front: Option<&SecretString>, back: Option<&SecretString>) -> Result<Self, VaultError> {
        let ring = |text: Option<&SecretString>, master| text.map(|text| read_ring(text, master)).transpose();
        Ok(Self { front: ring(front, Front::NAME)?, back: ring(back, Back::NAME)? })
    }

    /// Whether this role can seal and open with master `M`.
    pub fn holds<M: Master>(&self) -> bool {
        self.ring::<M>().is_ok()
    }

    /// Seals with the current key. Errors: [`VaultError::NoMaster`].
    pub fn seal<M: Master>(&self, place: Place<'_>, secret: &[u8]) -> Result<Sealed<M>, VaultError> {
        let (key_id, key) = &self.ring::<M>()?.current;
        let sealed = key.seal(&associated_data::<M>(place), secret);
        Ok(Sealed::from_text(format!("{VERSION}.{key_id}.{}", URL_SAFE_NO_PAD.encode(sealed))))
    }

    /// Opens what [`Vault::seal`] sealed for the same place.
    ///
    /// Errors: [`VaultError::NoMaster`], [`VaultError::UnknownKey`], [`VaultError::NotSealed`], [`VaultError::NotOpened`].
    pub fn open<M: Master>(&self, place: Place<'_>, sealed: &Sealed<M>) -> Result<SecretSlice<u8>, VaultError> {
        let mut plain = self.open_plain::<M>(place, sealed)?;
        // Its capacity is its length, so that turning it into a slice moves nothing and leaves no copy behind.
        Ok(SecretSlice::from(std::mem::take(&mut *plain)))
    }

    /// As [`Vault::open`], for secrets that are text. Bytes that are no UTF-8 are [`VaultError::NotOpened`].
    pub fn open_text<M: Master>(&self, place: Place<'_>, sealed: &Sealed<M>) -> Result<SecretString, VaultError> {
        let plain = self.open_plain::<M>(place, sealed)?;
        let text = std::str::from_utf8(&plain).map_err(|_| not_opened(place))?;
        Ok(SecretString::from(text))
    }

    /// Whether a value was sealed with another key than the current one (or cannot be read at all), and is to be sealed anew.
    pub fn needs_reseal<M: Master>(&self, sealed: &Sealed<M>) -> bool {
        let current = self.ring::<M>().ok().map(|ring| ring.current.0.as_str());
        parts(sealed.as_text()).map(|(key_id, _)| key_id) != current
    }

    fn open_plain<M: Master>(&self, place: Place<'_>, sealed: &Sealed<M>) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let ring = self.ring::<M>()?;
        let not_sealed = || VaultError::NotSealed {
            table: place.table.to_owned(),
            column: place.column.to_owned(),
            row: place.row.to_owned(),
        };
        let (key_id, body) = parts(sealed.as_text()).ok_or_else(not_sealed)?;
        let key = ring.find(key_id).ok_or_else(|| VaultError::UnknownKey {
            master: M::NAME,
            // An id is short; what is not one of ours is cut before it is shown.
            key_id: key_id.chars().take(32).collect(),
        })?;
        let bytes = URL_SAFE_NO_PAD.decode(body).map_err(|_| not_sealed())?;
        let (nonce, ciphertext) = bytes.split_at_checked(NONCE_LEN).ok_or_else(not_sealed)?;
        let plain = key.open(nonce, &associated_data::<M>(place), ciphertext).ok_or_else(|| not_opened(place))?;
        Ok(Zeroizing::new(plain))
    }

    fn ring<M: Master>(&self) -> Result<&Ring, VaultError> {
        let ring = if M::NAME == Front::NAME { &self.front } else { &self.back };
        ring.as_ref().ok_or(VaultError::NoMaster { master: M::NAME })
    }
}

/// A master key nobody has yet, as [`Vault::new`] takes it: `<random id>:<base64 of 32 random bytes>`.
pub fn fresh_master_key() -> SecretString {
    let mut key = super::mac::fresh_secret();
    let mut text = String::with_capacity(64);
    text.push_str(&alphanumerics::<8>());
    text.push(':');
    STANDARD.encode_string(key.as_slice(), &mut text);
    key.zeroize();
    let secret = SecretString::from(text.as_str());
    text.zeroize();
    secret
}

fn not_opened(place: Place<'_>) -> VaultError {
    VaultError::NotOpened { table: place.table.to_owned(), column: place.column.to_owned(), row: place.row.to_owned() }
}

/// Key id and body of a sealed text.
fn parts(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix(VERSION)?.strip_prefix('.')?.split_once('.')
}

/// Every part with its length in front, so that no two places give the same bytes.
fn associated_data<M: Master>(place: Place<'_>) -> Vec<u8> {
    let mut data = Vec::new();
    for part in [VERSION, M::NAME, place.table, place.column, place.row] {
        data.extend_from_slice(&(part.len() as u64).to_be_bytes());
        data.extend_from_slice(part.as_bytes());
    }
    data
}

fn read_ring(text: &SecretString, master: &'static str) -> Result<Ring, VaultError> {
    use secrecy::ExposeSecret;
    let mut keys: Vec<(KeyId, AesKey)> = Vec::new();
    let parts = text.expose_secret().lines().filter(|line| !line.trim_start().starts_with('#'));
    for part in parts.flat_map(|line| line.split(',')).map(str::trim).filter(|part| !part.is_empty()) {
        let refuse = |what| VaultError::MasterText { master, at: keys.len() + 1, what };
        let (id, key) = part.split_once(':').ok_or_else(|| refuse("wanted <id>:<base64 of 32 bytes>"))?;
        let id = KeyId::parse(id).map_err(|_| refuse("the id must be 1 to 32 of A-Z a-z 0-9 _ -"))?;
        let bytes = Zeroizing::new(STANDARD.decode(key.trim()).map_err(|_| refuse("the key is not base64"))?);
        let bytes = <&[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| refuse("the key must be 32 bytes"))?;
        if keys.iter().any(|(known, _)| *known == id) {
            return Err(refuse("two keys have the same id"));
        }
        keys.push((id, AesKey::new(bytes)));
    }
    if keys.is_empty() {
        return Err(VaultError::MasterText { master, at: 1, what: "no key in the text" });
    }
    let current = keys.remove(0);
    Ok(Ring { current, older: keys })
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    const PLACE: Place<'_> = Place { table: "channel_accounts", column: "secrets", row: "7" };

    fn key(id: &str, byte: u8) -> String {
        format!("{id}:{}", STANDARD.encode([byte; 32]))
    }

    fn vault(front: &str, back: &str) -> Vault {
        let text = |text: &str| (!text.is_empty()).then(|| SecretString::from(text));
        Vault::new(text(front).as_ref(), text(back).as_ref()).unwrap()
    }

    #[test]
    fn a_value_opens_in_its_place_only() {
        let vault = vault(&key("f1", 1), &key("b1", 1));
        let sealed = vault.seal::<Back>(PLACE, b"secret").unwrap();
        assert!(sealed.as_text().starts_with("s1.b1."));
        assert_eq!(vault.open(PLACE, &sealed).unwrap().expose_secret(), b"secret");
        assert_eq!(vault.open_text(PLACE, &sealed).unwrap().expose_secret(), "secret");
        for elsewhere in [
            Place { row: "8", ..PLACE },
            Place { column: "secret", ..PLACE },
            Place { table: "channel_account", ..PLACE },
            // The same letters, split elsewhere.
            Place { table: "channel_accountss", column: "ecrets", row: "7" },
        ] {
            let refused = vault.open(elsewhere, &sealed).unwrap_err();
            assert!(matches!(refused, VaultError::NotOpened { .. }), "{refused}");
        }
        // The masters have equal bytes here, and still do not open each other's values.
        let other = Sealed::<Front>::from_text(sealed.as_text().replace(".b1.", ".f1."));
        assert!(matches!(vault.open(PLACE, &other), Err(VaultError::NotOpened { .. })));
    }

    #[test]
    fn a_damaged_value_is_an_error_at_every_byte() {
        let vault = vault("", &key("b1", 1));
        let sealed = vault.seal::<Back>(PLACE, b"secret").unwrap();
        let text = sealed.as_text();
        for at in 0..text.len() {
            let mut bytes = text.as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let damaged = Sealed::<Back>::from_text(String::from_utf8(bytes).unwrap());
            assert!(vault.open(PLACE, &damaged).is_err(), "at {at}");
            assert!(vault.open(PLACE, &Sealed::<Back>::from_text(&text[..at])).is_err(), "cut at {at}");
        }
        assert!(vault.open_text(PLACE, &vault.seal::<Back>(PLACE, &[0xff]).unwrap()).is_err());
    }

    #[test]
    fn a_role_without_the_master_cannot_open() {
        let front = vault(&key("f1", 1), "");
        let sealed = vault("", &key("b1", 1)).seal::<Back>(PLACE, b"secret").unwrap();
        assert_eq!(front.open(PLACE, &sealed).unwrap_err(), VaultError::NoMaster { master: "back" });
        assert_eq!(front.seal::<Back>(PLACE, b"").unwrap_err(), VaultError::NoMaster { master: "back" });
        assert!(front.holds::<Front>() && !front.holds::<Back>());
    }

    #[test]
    fn a_key_is_rotated_by_putting_a_new_one_in_front() {
        let old = vault("", &key("b1", 1));
        let both = vault("", &format!("# new one first\n{}\r\n{}\n", key("b2", 2), key("b1", 1)));
        let new = vault("", &key("b2", 2));
        let sealed = old.seal::<Back>(PLACE, b"secret").unwrap();
        assert!(!old.needs_reseal(&sealed) && both.needs_reseal(&sealed));
        let opened = both.open(PLACE, &sealed).unwrap();
        let resealed = both.seal::<Back>(PLACE, opened.expose_secret()).unwrap();
        assert!(!both.needs_reseal(&resealed));
        assert_eq!(new.open(PLACE, &resealed).unwrap().expose_secret(), b"secret");
        let unknown = new.open(PLACE, &sealed).unwrap_err();
        assert_eq!(unknown, VaultError::UnknownKey { master: "back", key_id: "b1".into() });
    }

    #[test]
    fn a_master_text_is_read_strictly_and_never_shown() {
        let read = |text: &str| Vault::new(Some(&SecretString::from(text)), None);
        assert!(read(&format!("{},{}", key("a", 1), key("b", 2))).is_ok());
        let fresh = fresh_master_key();
        assert!(read(fresh.expose_secret()).is_ok());
        assert_ne!(fresh.expose_secret(), fresh_master_key().expose_secret());
        let twice = format!("{},{}", key("a", 1), key("a", 2));
        for wrong in ["", "no-colon-secretpart", "a:c2VjcmV0cGFydA==", "a:secretpart*", &twice, ":AAAA"] {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.starts_with("front master key "), "{error}");
            assert!(!error.contains("secretpart") && !error.contains("c2Vjcm"), "{error}");
        }
        assert!(!format!("{:?}", read(&key("a", 1)).unwrap()).contains("AQEB"));
    }
}
