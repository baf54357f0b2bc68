//! Names of things: parsed once at the edge, never mixed up afterwards.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("{what} must be {min} to {max} characters")]
    Length { what: &'static str, min: usize, max: usize },
    #[error("{what} holds a character that is not allowed; allowed: {allowed}")]
    Character { what: &'static str, allowed: &'static str },
}

/// A text id: its own type, a length in bytes, an alphabet.
macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $min:literal..=$max:literal, $allowed:literal, $is_allowed:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Errors: [`IdError::Length`], [`IdError::Character`].
            pub fn parse(text: impl Into<String>) -> Result<Self, IdError> {
                let text = text.into();
                if !($min..=$max).contains(&text.len()) {
                    return Err(IdError::Length { what: $what, min: $min, max: $max });
                }
                let is_allowed: fn(u8) -> bool = $is_allowed;
                if !text.bytes().all(is_allowed) {
                    return Err(IdError::Character { what: $what, allowed: $allowed });
                }
                Ok(Self(text))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
    };
}

text_id!(
    /// The merchant's own number for an order (`orderNo`), unique per merchant, compared byte for byte.
    OrderNo, "orderNo", 1..=64, "A-Z a-z 0-9 _ -",
    |b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'
);
text_id!(
    /// The merchant's own number for a refund (`refundNo`), unique per merchant, compared byte for byte.
    RefundNo, "refundNo", 1..=64, "A-Z a-z 0-9 _ -",
    |b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'
);
text_id!(
    /// A merchant as it names itself on the wire (`customerNo`).
    CustomerNo, "customerNo", 1..=32, "A-Z a-z 0-9 _ -",
    |b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'
);
text_id!(
    /// A mini-program's appid (WeChat: `wx…`, at most 32; Alipay: APPID, at most 32).
    AppId, "appid", 1..=32, "A-Z a-z 0-9 _ -",
    |b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'
);
text_id!(
    /// The wallet's number for a payment (WeChat `transaction_id`, at most 32; Alipay `trade_no`, at most 64).
    TradeNo, "trade_no", 1..=64, "A-Z a-z 0-9 _ -",
    |b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'
);
text_id!(
    /// The name of a key inside the deployment, as it rides in payInfo and `X-Key-Id`.
    KeyId, "key id", 1..=32, "A-Z a-z 0-9 _ -",
    |b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'
);

/// Crockford's base32 in lower case without i, l, o, u: what a person can read out, and sorts as the bytes do.
const BASE32: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// An id of ours that people read: a version 7 UUID, written as 26 base32 characters.
macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Uuid);

        impl $name {
            pub fn fresh() -> Self {
                Self(Uuid::now_v7())
            }

            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// Errors: [`IdError::Length`], [`IdError::Character`].
            pub fn parse(text: &str) -> Result<Self, IdError> {
                read_base32($what, text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_base32(self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.to_string()
            }
        }
    };
}

uuid_id!(
    /// Our number for an order: a version 7 UUID, written as 26 base32 characters.
    OrderId, "order id"
);
uuid_id!(
    /// Our number for a refund: a version 7 UUID, written as 26 base32 characters.
    RefundId, "refund id"
);

fn read_base32(what: &'static str, text: &str) -> Result<Uuid, IdError> {
    if text.len() != 26 {
        return Err(IdError::Length { what, min: 26, max: 26 });
    }
    let refused = IdError::Character { what, allowed: "base32 of Crockford, lower case" };
    let mut value: u128 = 0;
    for (at, byte) in text.bytes().enumerate() {
        let digit = BASE32.iter().position(|b| *b == byte).ok_or_else(|| refused.clone())? as u128;
        // 26 x 5 = 130 bits: the first character carries three only.
        if at == 0 && digit > 7 {
            return Err(refused);
        }
        value = (value << 5) | digit;
    }
    Ok(Uuid::from_u128(value))
}

fn write_base32(id: Uuid, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let value = id.as_u128();
    for at in (0..26).rev() {
        let digit = (value >> (at * 5)) & 31;
        write!(f, "{}", BASE32[digit as usize] as char)?;
    }
    Ok(())
}

/// The number of one command: made by the front, one per call that it publishes; its outcome is stored under it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CommandId(Uuid);

impl CommandId {
    pub fn fresh() -> Self {
        Self(Uuid::now_v7())
    }

    /// Errors: [`IdError::Character`].
    pub fn parse(text: &str) -> Result<Self, IdError> {
        Uuid::parse_str(text)
            .map(Self)
            .map_err(|_| IdError::Character { what: "command id", allowed: "a hyphenated UUID" })
    }
}

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CommandId({})", self.0)
    }
}

/// Our internal number of a merchant: what payInfo carries in four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MerchantId(pub u32);

impl fmt::Display for MerchantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Our internal number of a channel account: it stands in the path of its notify URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AccountId(pub u32);

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Our internal number of a mini-program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MiniProgramId(pub u32);

impl fmt::Display for MiniProgramId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Which try of an order this is: 1 to 99, the last two digits of its number at the wallet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AttemptNo(u8);

impl AttemptNo {
    pub const FIRST: Self = Self(1);

    pub fn new(number: u8) -> Option<Self> {
        (1..=99).contains(&number).then_some(Self(number))
    }

    pub fn get(self) -> u8 {
        self.0
    }

    /// The next number, `None` after 99.
    pub fn next(self) -> Option<Self> {
        Self::new(self.0 + 1)
    }
}

/// The number of one attempt at a wallet: the order's id and two digits, 28 bytes of `0-9 a-z`.
///
/// WeChat Pay takes 6 to 32 of digits, letters, `_-|*`, unique per mchid; Alipay 64 of letters, digits, `_`.
/// Derived, never drawn: after a restore from backup a lost row meets its own number at the wallet again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OutTradeNo {
    pub order: OrderId,
    pub attempt: AttemptNo,
}

impl OutTradeNo {
    /// Errors: [`IdError`] when it is not a number of ours.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        const WHAT: &str = "out_trade_no";
        let (order, attempt) = text.split_at_checked(26).ok_or(IdError::Length { what: WHAT, min: 28, max: 28 })?;
        if attempt.len() != 2 {
            return Err(IdError::Length { what: WHAT, min: 28, max: 28 });
        }
        let refused = IdError::Character { what: WHAT, allowed: "an order id and two digits, 01 to 99" };
        if !attempt.bytes().all(|b| b.is_ascii_digit()) {
            return Err(refused);
        }
        let attempt = attempt.parse().ok().and_then(AttemptNo::new).ok_or(refused)?;
        Ok(Self { order: OrderId::parse(order)?, attempt })
    }
}

impl fmt::Display for OutTradeNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:02}", self.order, self.attempt.get())
    }
}

impl fmt::Debug for OutTradeNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OutTradeNo({self})")
    }
}

impl TryFrom<String> for OutTradeNo {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        Self::parse(&text)
    }
}

impl From<OutTradeNo> for String {
    fn from(number: OutTradeNo) -> String {
        number.to_string()
    }
}

/// The number of one refund at a wallet (`out_refund_no`, Alipay's `out_request_no`): the refund's id, 26 bytes of `0-9 a-z`.
///
/// It is the idempotency key at both wallets: one number refunds once, whatever the repeats. WeChat Pay takes 64 of digits,
/// letters, `_-|*@`; Alipay 64.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OutRefundNo(pub RefundId);

impl OutRefundNo {
    /// Errors: [`IdError`] when it is not a number of ours.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        RefundId::parse(text).map(Self)
    }
}

impl fmt::Display for OutRefundNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for OutRefundNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OutRefundNo({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_id_survives_its_text() {
        for _ in 0..100 {
            let id = OrderId::fresh();
            assert_eq!(id.to_string().len(), 26);
            assert_eq!(OrderId::parse(&id.to_string()), Ok(id));
        }
        let last = OrderId::from_bytes([0xff; 16]);
        assert_eq!(last.to_string(), format!("7{}", "z".repeat(25)));
        assert!(OrderId::parse(&"z".repeat(26)).is_err(), "131 bits do not fit");
    }

    #[test]
    fn a_number_names_its_order_and_attempt() {
        let number = OutTradeNo { order: OrderId::fresh(), attempt: AttemptNo::FIRST };
        assert_eq!(number.to_string().len(), 28);
        assert_eq!(OutTradeNo::parse(&number.to_string()), Ok(number));
        for foreign in ["", "1", &"é".repeat(14), &format!("{}00", number.order), &format!("{}+1", number.order)] {
            assert!(OutTradeNo::parse(foreign).is_err(), "{foreign}");
        }
    }

    #[test]
    fn a_refunds_number_at_the_wallet_is_its_id() {
        let id = RefundId::fresh();
        let number = OutRefundNo(id);
        assert_eq!(number.to_string(), id.to_string());
        assert_eq!(OutRefundNo::parse(&number.to_string()), Ok(number));
        for foreign in ["", "R1", &format!("{id}01"), &"z".repeat(26)] {
            assert!(OutRefundNo::parse(foreign).is_err(), "{foreign}");
        }
    }

    #[test]
    fn ids_refuse_what_is_not_theirs() {
        assert!(OrderNo::parse("A-1_z").is_ok());
        assert!(OrderNo::parse("").is_err());
        assert!(OrderNo::parse("a b").is_err());
        assert!(OrderNo::parse("x".repeat(65)).is_err());
        assert!(OrderNo::parse("订单").is_err());
    }
}
