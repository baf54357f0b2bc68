//! Who pays. An identity is personal data: its `Debug` and `Display` never show it.

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

use super::{address::is_public, id::IdError, wallet::Wallet};

/// What kind of name a payer id is; Alipay takes a different request field for each (`alipay.md` §4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PayerKind {
    /// WeChat's openid, valid within one appid.
    WechatOpenid,
    /// Alipay's user id: 16 digits starting 2088.
    AlipayUserId,
    /// Alipay's open id, valid within one APPID.
    AlipayOpenId,
}

impl PayerKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WechatOpenid => "wechat_openid",
            Self::AlipayUserId => "alipay_user_id",
            Self::AlipayOpenId => "alipay_open_id",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::WechatOpenid, Self::AlipayUserId, Self::AlipayOpenId].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// The payer within one app. Two are equal when kind and id are, byte for byte.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Payer {
    pub kind: PayerKind,
    id: String,
}

impl Payer {
    /// An id is 1 to 128 of `A-Z a-z 0-9 _ -` (a real openid has 28, an Alipay open id up to 128).
    /// Errors: [`IdError`].
    pub fn new(kind: PayerKind, id: impl Into<String>) -> Result<Self, IdError> {
        const WHAT: &str = "payer id";
        let id = id.into();
        if !(1..=128).contains(&id.len()) {
            return Err(IdError::Length { what: WHAT, min: 1, max: 128 });
        }
        if !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
            return Err(IdError::Character { what: WHAT, allowed: "A-Z a-z 0-9 _ -" });
        }
        Ok(Self { kind, id })
    }

    /// Reads `identifyId` as the link's wallet would have it (`mini-program.md`, point 2). Errors: [`IdError`].
    pub fn from_identify_id(wallet: Wallet, id: &str) -> Result<Self, IdError> {
        let kind = match wallet {
            Wallet::WechatPay => PayerKind::WechatOpenid,
            Wallet::Alipay if looks_like_alipay_user_id(id) => PayerKind::AlipayUserId,
            Wallet::Alipay => PayerKind::AlipayOpenId,
        };
        Self::new(kind, id)
    }

    /// The id itself, for the wallet and for the merchant whose payer this is; never for a log.
    pub fn expose_id(&self) -> &str {
        &self.id
    }
}

/// 16 digits starting 2088.
pub fn looks_like_alipay_user_id(id: &str) -> bool {
    id.len() == 16 && id.starts_with("2088") && id.bytes().all(|b| b.is_ascii_digit())
}

impl fmt::Debug for Payer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payer({}, ***)", self.kind.as_str())
    }
}

/// A login code (`wx.login`) or auth code (`my.getAuthCode`): single use, worth a login. `Debug` never shows it.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LoginCode(String);

impl LoginCode {
    /// 1 to 128 visible ASCII characters. Errors: [`IdError`].
    pub fn parse(code: impl Into<String>) -> Result<Self, IdError> {
        const WHAT: &str = "code";
        let code = code.into();
        if !(1..=128).contains(&code.len()) {
            return Err(IdError::Length { what: WHAT, min: 1, max: 128 });
        }
        if !code.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(IdError::Character { what: WHAT, allowed: "visible ASCII" });
        }
        Ok(Self(code))
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for LoginCode {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        Self::parse(text)
    }
}

impl From<LoginCode> for String {
    fn from(code: LoginCode) -> String {
        code.0
    }
}

impl fmt::Debug for LoginCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LoginCode(***)")
    }
}

/// Where a payer called from, as far as it is public; for the wallet alone. `Debug` never shows it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "IpAddr", into = "IpAddr")]
pub struct PayerIp(IpAddr);

impl PayerIp {
    /// `None`: the address is of some network of its own and names nobody outside it.
    pub fn new(ip: IpAddr) -> Option<Self> {
        Some(ip.to_canonical()).filter(|ip| is_public(*ip)).map(Self)
    }

    /// The address itself, for the wallet; never for a log.
    pub fn expose(self) -> IpAddr {
        self.0
    }
}

impl TryFrom<IpAddr> for PayerIp {
    type Error = &'static str;
    fn try_from(ip: IpAddr) -> Result<Self, Self::Error> {
        Self::new(ip).ok_or("not a public address")
    }
}

impl From<PayerIp> for IpAddr {
    fn from(ip: PayerIp) -> IpAddr {
        ip.0
    }
}

impl fmt::Debug for PayerIp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PayerIp(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identify_id_is_read_by_wallet_and_shape() {
        let kind = |wallet, id| Payer::from_identify_id(wallet, id).map(|payer| payer.kind);
        assert_eq!(kind(Wallet::WechatPay, "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"), Ok(PayerKind::WechatOpenid));
        assert_eq!(kind(Wallet::Alipay, "2088102146225135"), Ok(PayerKind::AlipayUserId));
        assert_eq!(kind(Wallet::Alipay, "20881021462251350"), Ok(PayerKind::AlipayOpenId));
        assert_eq!(
            kind(Wallet::Alipay, "074a1CcTG1LelxKe4xQC0zgNdId0nxi95b5lsNpazWYoCo5"),
            Ok(PayerKind::AlipayOpenId)
        );
        assert!(kind(Wallet::WechatPay, "a b").is_err());
    }

    #[test]
    fn an_identity_never_shows_itself() {
        let payer = Payer::new(PayerKind::WechatOpenid, "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o").unwrap();
        assert!(!format!("{payer:?}").contains("oUpF"));
        assert!(!format!("{:?}", LoginCode::parse("0e1OCv1w3SXU").unwrap()).contains("0e1O"));
        assert_eq!(format!("{:?}", PayerIp::new("1.1.1.1".parse().unwrap())), "Some(PayerIp(***))");
    }

    #[test]
    fn only_a_public_address_is_a_payers() {
        let told = |ip: &str| PayerIp::new(ip.parse().unwrap()).map(|ip| ip.expose().to_string());
        for (ip, is) in [("1.1.1.1", "1.1.1.1"), ("::ffff:1.1.1.1", "1.1.1.1"), ("2400:3200::1", "2400:3200::1")] {
            assert_eq!(told(ip).as_deref(), Some(is), "{ip}");
        }
        for ip in ["10.0.0.1", "192.168.1.7", "100.64.0.1", "127.0.0.1", "::1", "fd00::1", "fe80::1", "::ffff:10.0.0.1"]
        {
            assert_eq!(told(ip), None, "{ip}");
        }
        let read =
            |text: &str| serde_json::from_str::<PayerIp>(text).ok().map(|ip| serde_json::to_string(&ip).unwrap());
        assert_eq!(read(r#""1.1.1.1""#).as_deref(), Some(r#""1.1.1.1""#));
        assert_eq!((read(r#""10.0.0.1""#), read(r#""someone""#)), (None, None));
    }
}
