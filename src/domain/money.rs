//! Money: whole fen, checked, never a fraction.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a number or text is not an amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    #[error("an amount is {min} to {max} fen", min = Fen::MIN.get(), max = Fen::MAX.get())]
    Range,
    #[error("an amount in yuan has digits, a dot and exactly two decimals")]
    Yuan,
}

/// An amount of money in fen (1/100 yuan): 1 to 9,999,999,999.
///
/// Source: `merchant-api.md` (amounts); Alipay `total_amount` 0.01 to 99999999.99; WeChat Pay's `amount.total` is an
/// integer above 0 without a published maximum, so with WeChat among the wallets [`Fen::WECHAT_MAX`] is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct Fen(i64);

impl Fen {
    pub const MIN: Self = Self(1);
    pub const MAX: Self = Self(9_999_999_999);
    /// What a 32-bit reader on the other side can hold.
    pub const WECHAT_MAX: Self = Self(2_147_483_647);

    /// Errors: [`MoneyError::Range`].
    pub fn new(fen: i64) -> Result<Self, MoneyError> {
        (Self::MIN.0..=Self::MAX.0).contains(&fen).then_some(Self(fen)).ok_or(MoneyError::Range)
    }

    pub const fn get(self) -> i64 {
        self.0
    }

    /// Reads `"88.88"`; Alipay's form, see `alipay.md`, conventions. Errors: [`MoneyError`].
    pub fn from_yuan(text: &str) -> Result<Self, MoneyError> {
        let (yuan, fen) = text.split_once('.').ok_or(MoneyError::Yuan)?;
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(yuan) || !digits(fen) || fen.len() != 2 || yuan.len() > 12 {
            return Err(MoneyError::Yuan);
        }
        let yuan: i64 = yuan.parse().map_err(|_| MoneyError::Yuan)?;
        let fen: i64 = fen.parse().map_err(|_| MoneyError::Yuan)?;
        Self::new(yuan.checked_mul(100).and_then(|all| all.checked_add(fen)).ok_or(MoneyError::Range)?)
    }

    /// Writes `"88.88"`.
    pub fn to_yuan(self) -> String {
        format!("{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

/// A sum of money in fen that may be nothing: what a payer paid after coupons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct Sum(i64);

impl Sum {
    pub const NOTHING: Self = Self(0);
    pub const MAX: Self = Self(Fen::MAX.0);

    /// Errors: [`MoneyError::Range`].
    pub fn new(fen: i64) -> Result<Self, MoneyError> {
        (0..=Fen::MAX.0).contains(&fen).then_some(Self(fen)).ok_or(MoneyError::Range)
    }

    pub const fn get(self) -> i64 {
        self.0
    }

    /// Reads `"0.00"` and up. Errors: [`MoneyError`].
    pub fn from_yuan(text: &str) -> Result<Self, MoneyError> {
        if text == "0.00" { Ok(Self::NOTHING) } else { Fen::from_yuan(text).map(|fen| Self(fen.0)) }
    }
}

impl TryFrom<i64> for Sum {
    type Error = MoneyError;
    fn try_from(fen: i64) -> Result<Self, MoneyError> {
        Self::new(fen)
    }
}

impl From<Sum> for i64 {
    fn from(sum: Sum) -> i64 {
        sum.0
    }
}

impl TryFrom<i64> for Fen {
    type Error = MoneyError;
    fn try_from(fen: i64) -> Result<Self, MoneyError> {
        Self::new(fen)
    }
}

impl From<Fen> for i64 {
    fn from(fen: Fen) -> i64 {
        fen.0
    }
}

impl fmt::Display for Fen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} fen", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn yuan_is_read_exactly() {
        assert_eq!(Fen::from_yuan("19.99"), Fen::new(1999));
        assert_eq!(Fen::from_yuan("0.01"), Ok(Fen::MIN));
        assert_eq!(Fen::from_yuan("99999999.99"), Ok(Fen::MAX));
        for wrong in
            ["", ".", "1", "1.", ".10", "1.1", "1.001", "-1.00", "+1.00", "1e2.00", " 1.00", "1,000.00", "１.00"]
        {
            assert_eq!(Fen::from_yuan(wrong), Err(MoneyError::Yuan), "{wrong}");
        }
        assert_eq!(Fen::from_yuan("0.00"), Err(MoneyError::Range));
        assert_eq!(Sum::from_yuan("0.00"), Ok(Sum::NOTHING));
        assert_eq!(Sum::from_yuan("0.01"), Sum::new(1));
        assert!(Sum::from_yuan("-0.01").is_err() && Sum::new(-1).is_err());
        assert_eq!(Fen::from_yuan("100000000.00"), Err(MoneyError::Range));
    }

    proptest! {
        #[test]
        fn fen_round_trips_through_yuan(fen in 1i64..=9_999_999_999) {
            let fen = Fen::new(fen).unwrap();
            prop_assert_eq!(Fen::from_yuan(&fen.to_yuan()), Ok(fen));
        }
    }
}
