//! The public keys an account has pinned, and when certificates among them end.

use std::fmt;

use crate::{
    domain::{time::Timestamp, wallet::Wallet},
    gateway::{
        alipay::AlipayPublicKeys,
        wechat::{KeyKind, WechatPublicKeys},
    },
    keys::certificate::Certificate,
};

/// One pinned key or certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    pub what: String,
    /// `None`: it has no end.
    pub ends: Option<Timestamp>,
}

impl fmt::Display for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ends {
            Some(ends) => write!(f, "{}, until {}", self.what, ends.rfc3339()),
            None => f.write_str(&self.what),
        }
    }
}

/// What an account has pinned. Errors: its text cannot be read, in words for the operator.
pub fn of(wallet: Wallet, public_keys: &str) -> Result<Vec<Pinned>, String> {
    match wallet {
        Wallet::WechatPay => {
            let keys = WechatPublicKeys::from_json(public_keys)?.0.into_iter().map(|key| Pinned {
                what: match key.kind {
                    KeyKind::PublicKey => format!("public key {}", key.id),
                    KeyKind::Certificate => format!("platform certificate {}", key.id),
                },
                ends: key.not_after,
            });
            Ok(keys.collect())
        }
        Wallet::Alipay => {
            let keys = AlipayPublicKeys::from_json(public_keys)?;
            let mut pinned = Vec::new();
            if keys.alipay_public_key.is_some() {
                pinned.push(Pinned { what: "Alipay's public key".to_owned(), ends: None });
            }
            if keys.older_alipay_public_key.is_some() {
                pinned.push(Pinned { what: "Alipay's older public key".to_owned(), ends: None });
            }
            for text in &keys.alipay_certs {
                pinned.push(certificate("Alipay's certificate", text)?);
            }
            if let Some(text) = &keys.app_cert {
                pinned.push(certificate("the application's certificate", text)?);
            }
            Ok(pinned)
        }
    }
}

fn certificate(what: &str, text: &str) -> Result<Pinned, String> {
    let read = Certificate::parse(text).map_err(|error| format!("{what}: {error}"))?;
    Ok(Pinned { what: format!("{what} {}", read.serial()), ends: Some(read.not_after()) })
}
