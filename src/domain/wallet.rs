//! WeChat Pay or Alipay, as the payer sees it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A wallet. Wire name (`wallets`, `payType`): `WECHAT`, `ALIPAY`; in routes, columns and logs: `wechat`, `alipay`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Wallet {
    #[serde(rename = "WECHAT")]
    WechatPay,
    #[serde(rename = "ALIPAY")]
    Alipay,
}

impl Wallet {
    pub const ALL: [Self; 2] = [Self::WechatPay, Self::Alipay];

    /// The name in routes, columns, metric labels and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WechatPay => "wechat",
            Self::Alipay => "alipay",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|wallet| wallet.as_str() == text)
    }

    /// The name that merchants use.
    pub const fn wire_name(self) -> &'static str {
        match self {
            Self::WechatPay => "WECHAT",
            Self::Alipay => "ALIPAY",
        }
    }

    /// The byte inside payInfo.
    pub const fn byte(self) -> u8 {
        match self {
            Self::WechatPay => b'w',
            Self::Alipay => b'a',
        }
    }

    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|wallet| wallet.byte() == byte)
    }
}

impl fmt::Display for Wallet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
