//! What a channel account at WeChat Pay is made of: settings in clear, secrets sealed, mini-programs beside it.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize};
use zeroize::Zeroizing;

use crate::{
    domain::id::AppId,
    gateway::{Extras, http::check_base_url},
    keys::{RsaSigner, aead::AesKey},
};

/// The nearest access point, and the remote one for when it does not answer (`wechat-pay.md` §0, §11).
pub const MAIN_HOST: &str = "https://api.mch.weixin.qq.com";
pub const BACKUP_HOST: &str = "https://api2.mch.weixin.qq.com";
/// Where login codes are exchanged (`wechat-pay.md` §1).
pub const LOGIN_HOST: &str = "https://api.weixin.qq.com";

/// Kept as JSON in the account's row; holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WechatSettings {
    pub mode: Mode,
    /// Serial of the merchant API certificate, hex: not a `PUB_KEY_ID_…`, not the platform certificate's.
    pub serial_no: String,
    /// Absent: [`MAIN_HOST`]. A path in it is taken for a proxy's prefix and is not signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// Absent: [`BACKUP_HOST`] when `base_url` is absent too, else none. Empty: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_url: Option<String>,
    /// Absent: [`LOGIN_HOST`] when `base_url` is absent too, else `base_url`, so that nothing of a simulated account leaves for
    /// the real hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_url: Option<String>,
    #[serde(default, skip_serializing_if = "Extras::is_off")]
    pub extras: Extras,
    /// Names the promotions that may apply: `goods_tag`, string(32) (`wechat-pay.md` §4.1). Alipay has no such field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goods_tag: Option<String>,
}

/// Whose contract it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Mode {
    /// 普通商户: the merchant signs for itself.
    Direct { mchid: String },
    /// 服务商: the provider signs for a sub-merchant. An order in the provider's own mini-program (`sp_appid`) names the payer by
    /// `sp_openid` and sends no `sub_appid`; in any other it names `sub_appid` and `sub_openid`.
    Provider { sp_mchid: String, sp_appid: AppId, sub_mchid: String },
}

impl Mode {
    /// Holder of the merchant API certificate: the `mchid` of every signature.
    pub fn signing_mchid(&self) -> &str {
        match self {
            Self::Direct { mchid } => mchid,
            Self::Provider { sp_mchid, .. } => sp_mchid,
        }
    }
}

/// The settings with every default filled in and checked.
#[derive(Debug, Clone)]
pub(super) struct Hosts {
    pub main: String,
    pub backup: Option<String>,
    pub login: String,
}

impl WechatSettings {
    /// Errors: words for the operator.
    pub fn from_json(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| format!("settings of the WeChat account cannot be read: {error}"))
    }

    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts and enums serialize")
    }

    /// Errors: words for the operator.
    pub(super) fn check(&self) -> Result<Hosts, String> {
        let numbers: &[(&str, &str)] = match &self.mode {
            Mode::Direct { mchid } => &[("mchid", mchid)],
            Mode::Provider { sp_mchid, sub_mchid, .. } => &[("sp_mchid", sp_mchid), ("sub_mchid", sub_mchid)],
        };
        for (name, number) in numbers {
            if !(1..=32).contains(&number.len()) || !number.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(format!("{name} must be 1 to 32 digits"));
            }
        }
        if self.serial_no.is_empty() || !self.serial_no.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(
                "serial_no must be the hex serial of the merchant API certificate, as the merchant platform shows it"
                    .into(),
            );
        }
        if self.goods_tag.as_deref().is_some_and(|tag| !is_goods_tag(tag)) {
            return Err("goods_tag must be 1 to 32 characters, without emoji and control characters".into());
        }
        let official = self.base_url.is_none();
        let main = check_base_url(self.base_url.as_deref().unwrap_or(MAIN_HOST))?;
        let backup = match self.backup_url.as_deref() {
            Some("") => None,
            Some(url) => Some(check_base_url(url)?),
            None => official.then(|| BACKUP_HOST.to_owned()),
        };
        let login = match self.login_url.as_deref() {
            Some(url) => check_base_url(url)?,
            None if official => LOGIN_HOST.to_owned(),
            None => main.clone(),
        };
        Ok(Hosts { main, backup, login })
    }
}

fn is_goods_tag(tag: &str) -> bool {
    (1..=32).contains(&tag.chars().count()) && tag.chars().all(|c| c.len_utf8() <= 3 && !c.is_control())
}

/// Sealed with the back's master key, as JSON.
pub struct WechatSecrets {
    /// Private key of the merchant API certificate, in any form.
    pub private_key: SecretString,
    /// 32 bytes of ASCII, as set in the merchant platform.
    pub apiv3_key: SecretString,
    /// The APIv3 key before, while notices sealed with it may still arrive (`wechat-pay.md` §7.3).
    pub older_apiv3_key: Option<SecretString>,
}

impl WechatSecrets {
    /// Errors: words for the operator; nothing of the text.
    pub fn from_json(text: &SecretString) -> Result<Self, String> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Wire {
            #[serde(deserialize_with = "secret")]
            private_key: SecretString,
            #[serde(deserialize_with = "secret")]
            apiv3_key: SecretString,
            #[serde(default, deserialize_with = "optional_secret")]
            older_apiv3_key: Option<SecretString>,
        }
        let wire: Wire = serde_json::from_str(text.expose_secret()).map_err(|error| {
            // serde's own words quote what it met.
            format!("secrets of the WeChat account cannot be read (line {}, column {})", error.line(), error.column())
        })?;
        Ok(Self { private_key: wire.private_key, apiv3_key: wire.apiv3_key, older_apiv3_key: wire.older_apiv3_key })
    }

    pub fn to_json(&self) -> SecretString {
        #[derive(Serialize)]
        struct Wire<'a> {
            private_key: &'a str,
            apiv3_key: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            older_apiv3_key: Option<&'a str>,
        }
        let wire = Wire {
            private_key: self.private_key.expose_secret(),
            apiv3_key: self.apiv3_key.expose_secret(),
            older_apiv3_key: self.older_apiv3_key.as_ref().map(|key| key.expose_secret()),
        };
        SecretString::from(serde_json::to_string(&wire).expect("texts serialize"))
    }

    /// Errors: words for the operator.
    pub(super) fn signer(&self) -> Result<RsaSigner, String> {
        RsaSigner::parse(self.private_key.expose_secret())
            .map_err(|error| format!("private_key of the merchant API certificate: {error}"))
    }

    /// The APIv3 keys, newest first. Errors: words for the operator.
    pub(super) fn apiv3_keys(&self) -> Result<Vec<AesKey>, String> {
        let read = |name: &str, key: &SecretString| {
            <&[u8; 32]>::try_from(key.expose_secret().as_bytes()).map(AesKey::new).map_err(|_| {
                format!("{name} must be 32 characters, as set in the merchant platform (no base64, no hex)")
            })
        };
        let mut keys = vec![read("apiv3_key", &self.apiv3_key)?];
        if let Some(older) = &self.older_apiv3_key {
            keys.push(read("older_apiv3_key", older)?);
        }
        Ok(keys)
    }
}

fn secret<'de, D: Deserializer<'de>>(from: D) -> Result<SecretString, D::Error> {
    // Copied into an exact allocation; the first one is wiped.
    Ok(SecretString::from(Zeroizing::new(String::deserialize(from)?).as_str()))
}

fn optional_secret<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SecretString>, D::Error> {
    let text = Option::<String>::deserialize(from)?.map(Zeroizing::new);
    Ok(text.map(|text| SecretString::from(text.as_str())))
}

impl fmt::Debug for WechatSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WechatSecrets(***)")
    }
}

/// A mini-program that pays through the account. Name every one that ever did: an answer about another app is *foreign*.
#[derive(Clone)]
pub struct WechatApp {
    pub app_id: AppId,
    /// Without it no code is exchanged here, and phones send `identifyId`.
    pub app_secret: Option<SecretString>,
}

impl fmt::Debug for WechatApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WechatApp({}, {})", self.app_id, if self.app_secret.is_some() { "takes codes" } else { "no secret" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(more: &str) -> Result<Hosts, String> {
        let text = format!(r#"{{"mode":{{"direct":{{"mchid":"1900000109"}}}},"serial_no":"5F1C"{more}}}"#);
        WechatSettings::from_json(&text)?.check()
    }

    #[test]
    fn hosts_are_the_real_ones_unless_told_and_never_mixed() {
        let hosts = settings("").unwrap();
        assert_eq!(hosts.main, MAIN_HOST);
        assert_eq!(hosts.backup.as_deref(), Some(BACKUP_HOST));
        assert_eq!(hosts.login, LOGIN_HOST);
        let simulated = settings(r#","base_url":"http://127.0.0.1:9/wechat/""#).unwrap();
        assert_eq!(simulated.main, "http://127.0.0.1:9/wechat");
        assert_eq!((simulated.backup, simulated.login.as_str()), (None, "http://127.0.0.1:9/wechat"));
        assert_eq!(settings(r#","backup_url":"""#).unwrap().backup, None);
    }

    /// A row that uses none of them is read by a release that does not know them.
    #[test]
    fn what_is_off_is_not_in_the_row() {
        let text = r#"{"mode":{"direct":{"mchid":"1900000109"}},"serial_no":"5F1C"}"#;
        let mut settings = WechatSettings::from_json(text).unwrap();
        assert_eq!(settings.to_json(), text);
        settings.extras.payer_ip = true;
        settings.goods_tag = Some("SPRING".into());
        let more = r#","extras":{"payer_ip":true},"goods_tag":"SPRING"}"#;
        assert_eq!(settings.to_json(), format!("{}{more}", text.strip_suffix('}').unwrap()));
        assert_eq!(WechatSettings::from_json(&settings.to_json()), Ok(settings));
    }

    #[test]
    fn mistakes_are_told_apart() {
        for (more, says) in [
            (r#","base_url":"http://api.mch.weixin.qq.com""#, "must be https"),
            (r#","surprise":1"#, "unknown field"),
            (r#","serial_no2":"x""#, "unknown field"),
            (r#","extras":{"surprise":true}"#, "unknown field"),
            (r#","goods_tag":"""#, "goods_tag must be"),
            (r#","goods_tag":"SPRING😀""#, "goods_tag must be"),
            (r#","goods_tag":"123456789012345678901234567890123""#, "goods_tag must be"),
        ] {
            let error = settings(more).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
        let provider = r#"{"mode":{"provider":{"sp_mchid":"1","sp_appid":"wx1","sub_mchid":"x"}},"serial_no":"5F"}"#;
        assert!(WechatSettings::from_json(provider).unwrap().check().unwrap_err().contains("sub_mchid"));
        let serial = r#"{"mode":{"direct":{"mchid":"1"}},"serial_no":"PUB_KEY_ID_01"}"#;
        assert!(WechatSettings::from_json(serial).unwrap().check().unwrap_err().contains("serial_no"));
    }

    #[test]
    fn secrets_survive_their_json_and_show_nothing() {
        let secrets = WechatSecrets {
            private_key: SecretString::from("pem"),
            apiv3_key: SecretString::from("a7cde1ZJB1kG2e7VfTs3jQzaWizur8Gb"),
            older_apiv3_key: None,
        };
        let again = WechatSecrets::from_json(&secrets.to_json()).unwrap();
        assert_eq!(again.apiv3_key.expose_secret(), secrets.apiv3_key.expose_secret());
        assert!(again.apiv3_keys().is_ok() && again.older_apiv3_key.is_none());
        assert!(!format!("{again:?}").contains("pem"));
        let error =
            WechatSecrets::from_json(&SecretString::from(r#"{"private_key":"hush","apiv3_key":"hush""#)).unwrap_err();
        assert!(!error.contains("hush"), "{error}");
        let error = WechatSecrets::from_json(&SecretString::from(r#"{"private_key":4711}"#)).unwrap_err();
        assert!(!error.contains("4711"), "{error}");
    }
}
