//! payInfo: what a link carries, before a key signs it and after one checked it.

use std::time::Duration;

use super::{
    id::{MerchantId, OrderId},
    time::Timestamp,
    wallet::Wallet,
};

/// The payload of a payInfo: 27 bytes, no amount, no name.
///
/// Layout, big endian: order id 16, merchant 4, wallet 1, expiry in Unix seconds 4, generation 2
/// (`mini-program.md`, payInfo).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PayInfo {
    pub order: OrderId,
    pub merchant: MerchantId,
    pub wallet: Wallet,
    /// Whole seconds; it only stops new attempts.
    pub expire_at: Timestamp,
    /// Every link of an order with an older generation is revoked.
    pub generation: u16,
}

impl PayInfo {
    pub const LENGTH: usize = 27;
    /// How long after its expiry a good tag is still passed on, so that the order's row gives the answer.
    pub const ANSWERED_AFTER_EXPIRY: Duration = Duration::from_secs(30 * 24 * 3600);

    pub fn to_bytes(&self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[..16].copy_from_slice(self.order.as_bytes());
        bytes[16..20].copy_from_slice(&self.merchant.0.to_be_bytes());
        bytes[20] = self.wallet.byte();
        bytes[21..25].copy_from_slice(&u32::try_from(self.expire_at.secs()).unwrap_or(u32::MAX).to_be_bytes());
        bytes[25..].copy_from_slice(&self.generation.to_be_bytes());
        bytes
    }

    /// `None` when the length or the wallet is not one of ours.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::LENGTH] = bytes.try_into().ok()?;
        let (order, rest) = bytes.split_first_chunk::<16>()?;
        let (merchant, rest) = rest.split_first_chunk::<4>()?;
        let (wallet, rest) = rest.split_first()?;
        let (expire, generation) = rest.split_first_chunk::<4>()?;
        Some(Self {
            order: OrderId::from_bytes(*order),
            merchant: MerchantId(u32::from_be_bytes(*merchant)),
            wallet: Wallet::from_byte(*wallet)?,
            expire_at: Timestamp::from_secs(i64::from(u32::from_be_bytes(*expire))),
            generation: u16::from_be_bytes(generation.try_into().ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_survives_its_bytes() {
        let info = PayInfo {
            order: OrderId::fresh(),
            merchant: MerchantId(7),
            wallet: Wallet::Alipay,
            expire_at: Timestamp::from_secs(4_000_000_000),
            generation: 513,
        };
        assert_eq!(PayInfo::from_bytes(&info.to_bytes()), Some(info));
        assert_eq!(PayInfo::from_bytes(&[0; 26]), None);
        assert_eq!(PayInfo::from_bytes(&[0; 27]), None, "wallet 0 is nobody");
    }
}
