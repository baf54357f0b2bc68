//! What an operator writes down for an Alipay account, and what of it is secret.

use std::fmt;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use zeroize::Zeroize;

use crate::{domain::id::AppId, gateway::Extras};

/// Whose application calls (`alipay.md` §10).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The merchant's own application.
    #[default]
    Own,
    /// A third-party application on the merchant's behalf; `app_auth_token` names the merchant.
    Provider,
}

/// How requests and answers are signed; one APPID works in one mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signing {
    #[default]
    PublicKey,
    Certificate,
}

/// Which request field carries an open id. A user id (`2088…`) always goes to `buyer_id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OpenIdField {
    /// `buyer_open_id` when the mini-program is the calling application, else `op_buyer_open_id`. Which one Alipay prefers
    /// in the first case is unconfirmed (`alipay.md` §4.2), hence the other two.
    #[default]
    Auto,
    BuyerOpenId,
    OpBuyerOpenId,
}

/// Which id is taken when the answer to a code carries both, as it does while an application migrates to open ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PreferredId {
    /// The same person in every application, so it is right whichever application calls.
    #[default]
    UserId,
    OpenId,
}

/// An account's settings: the JSON text of its row, without anything secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlipaySettings {
    /// The calling application's APPID.
    pub app_id: AppId,
    #[serde(default)]
    pub mode: Mode,
    /// Provider mode: the merchant's APPID, as `auth_app_id` names it in notices. With it, notices of the provider's other
    /// merchants are told apart.
    #[serde(default)]
    pub merchant_app_id: Option<AppId>,
    #[serde(default)]
    pub signing: Signing,
    /// The receiver's `2088…` number. Checked in notices that carry one; never sent (`alipay.md` §5.1: normally omit).
    #[serde(default)]
    pub seller_id: Option<String>,
    #[serde(default = "production")]
    pub gateway_url: String,
    #[serde(default)]
    pub open_id_field: OpenIdField,
    #[serde(default)]
    pub preferred_id: PreferredId,
    #[serde(default, skip_serializing_if = "Extras::is_off")]
    pub extras: Extras,
}

/// Alipay's production gateway.
pub const PRODUCTION: &str = "https://openapi.alipay.com/gateway.do";

fn production() -> String {
    PRODUCTION.to_owned()
}

impl AlipaySettings {
    /// Errors: words for the operator.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let settings: Self = serde_json::from_str(text).map_err(|error| format!("settings of the account: {error}"))?;
        if settings.mode == Mode::Own && settings.merchant_app_id.is_some() {
            return Err("merchant_app_id belongs to mode provider".to_owned());
        }
        if settings.seller_id.as_deref().is_some_and(|id| !is_2088(id)) {
            return Err("seller_id must be 16 digits starting 2088".to_owned());
        }
        Ok(settings)
    }
}

fn is_2088(id: &str) -> bool {
    crate::domain::payer::looks_like_alipay_user_id(id)
}

/// What is sealed for an account. `Debug` shows nothing; wiped when dropped.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlipaySecrets {
    /// The calling application's private key, PKCS#1 or PKCS#8, PEM or bare base64.
    pub private_key: String,
    /// Public-key mode: the one before, while the console may still hold its public half.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub older_private_key: Option<String>,
    /// Provider mode: the merchant's authorisation.
    #[serde(default)]
    pub app_auth_token: Option<String>,
}

impl AlipaySecrets {
    /// Errors: words for the operator, without anything of the text.
    pub fn from_json(text: &str) -> Result<Self, String> {
        read("secrets of the account", text)
    }
}

impl fmt::Debug for AlipaySecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AlipaySecrets(***)")
    }
}

impl Drop for AlipaySecrets {
    fn drop(&mut self) {
        self.private_key.zeroize();
        self.older_private_key.zeroize();
        self.app_auth_token.zeroize();
    }
}

/// The public keys of an application: JSON text in the store, rewritten when Alipay's certificate got a successor.
///
/// Public-key mode needs `alipay_public_key` and may have the older one; certificate mode needs the other three.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlipayPublicKeys {
    /// Alipay's key for this APPID, as the console shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alipay_public_key: Option<String>,
    /// The one before, while Alipay may still sign with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub older_alipay_public_key: Option<String>,
    /// Alipay's certificates as PEM, each perhaps followed by its authority's; several while a successor takes over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alipay_certs: Vec<String>,
    /// The application's own certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_cert: Option<String>,
    /// Alipay's root file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_cert: Option<String>,
}

impl AlipayPublicKeys {
    /// Errors: words for the operator, without anything of the text (a private key may have been pasted into it).
    pub fn from_json(text: &str) -> Result<Self, String> {
        read("public keys", text)
    }

    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts and lists of texts become JSON")
    }
}

/// As whom a mini-program's auth codes are exchanged: a code belongs to the mini-program it was made in, so the caller must
/// be that mini-program (`alipay.md` §4.1, §10). The sealed JSON text of the mini-program.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "as", rename_all = "snake_case", deny_unknown_fields)]
pub enum CodeExchange {
    /// The mini-program is the account's calling application; no `app_auth_token` goes with it, in provider mode neither.
    CallingApp,
    /// The mini-program has its own key pair at Alipay.
    OwnKey {
        private_key: String,
        #[serde(default)]
        signing: Signing,
        public_keys: AlipayPublicKeys,
    },
    /// The account's third-party application is authorised by the mini-program.
    AppAuthToken { app_auth_token: String },
    /// Codes are not taken here, only `identifyId`.
    Never,
}

impl fmt::Debug for CodeExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CallingApp => "CallingApp",
            Self::OwnKey { .. } => "OwnKey(***)",
            Self::AppAuthToken { .. } => "AppAuthToken(***)",
            Self::Never => "Never",
        })
    }
}

impl Drop for CodeExchange {
    fn drop(&mut self) {
        match self {
            Self::OwnKey { private_key, .. } => private_key.zeroize(),
            Self::AppAuthToken { app_auth_token } => app_auth_token.zeroize(),
            Self::CallingApp | Self::Never => {}
        }
    }
}

/// A mini-program that pays through an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlipayApp {
    pub app_id: AppId,
    pub exchange: CodeExchange,
}

impl AlipayApp {
    /// `exchange` is the JSON text of [`CodeExchange`], such as `{"as":"calling_app"}`.
    /// Errors: words for the operator, without anything of the text.
    pub fn from_json(app_id: AppId, exchange: &str) -> Result<Self, String> {
        let what = format!("code exchange of mini-program {app_id}");
        Ok(Self { exchange: read(&what, exchange)?, app_id })
    }
}

/// Reads JSON that may hold secrets: serde's own message would quote them.
fn read<T: DeserializeOwned>(what: &str, text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| {
        let why = match error.classify() {
            serde_json::error::Category::Data => "a field is missing, unknown, doubled or of the wrong kind",
            _ => "not JSON",
        };
        format!("{what}: {why} (line {}, column {})", error.line(), error.column())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_have_defaults_and_no_unknown_fields() {
        let settings = AlipaySettings::from_json(r#"{"app_id":"2021000000000001"}"#).unwrap();
        assert_eq!(settings.gateway_url, PRODUCTION);
        assert_eq!((settings.mode, settings.signing), (Mode::Own, Signing::PublicKey));
        assert!(AlipaySettings::from_json(r#"{"app_id":"1","appid":"2"}"#).is_err());
        assert!(AlipaySettings::from_json(r#"{"app_id":"1","seller_id":"1234"}"#).is_err());
        assert!(AlipaySettings::from_json(r#"{"app_id":"1","merchant_app_id":"2"}"#).is_err());
        assert!(AlipaySettings::from_json(r#"{"app_id":"1","extras":{"goods_tag":"x"}}"#).is_err());
    }

    /// A row that uses none of them is read by a release that does not know them.
    #[test]
    fn what_is_off_is_not_in_the_row() {
        let mut settings = AlipaySettings::from_json(r#"{"app_id":"2021000000000001"}"#).unwrap();
        let text = |settings: &AlipaySettings| serde_json::to_string(settings).unwrap();
        assert!(!text(&settings).contains("extras"));
        settings.extras.goods_detail = true;
        assert!(text(&settings).ends_with(r#","extras":{"goods_detail":true}}"#));
        assert_eq!(AlipaySettings::from_json(&text(&settings)), Ok(settings));
    }

    #[test]
    fn a_secret_never_shows_itself() {
        for text in
            [r#"{"private_key":"S3CR3T","other":1}"#, r#"{"private_key":["S3CR3T"]}"#, r#"{"S3CR3T":1}"#, "S3CR3T"]
        {
            assert!(!AlipaySecrets::from_json(text).unwrap_err().contains("S3CR3T"), "{text}");
        }
        let secrets = AlipaySecrets::from_json(r#"{"private_key":"S3CR3T"}"#).unwrap();
        assert!(!format!("{secrets:?}").contains("S3CR3T"));
        assert!(secrets.older_private_key.is_none() && !serde_json::to_string(&secrets).unwrap().contains("older"));
        let both = AlipaySecrets::from_json(r#"{"private_key":"N3W","older_private_key":"S3CR3T"}"#).unwrap();
        assert!(!format!("{both:?}").contains("S3CR3T"));
        let app_id = AppId::parse("2021000000000009").unwrap();
        let app = AlipayApp::from_json(app_id.clone(), r#"{"as":"app_auth_token","app_auth_token":"S3CR3T"}"#).unwrap();
        assert!(!format!("{app:?}").contains("S3CR3T"));
        assert!(!AlipayApp::from_json(app_id, r#"{"as":"S3CR3T"}"#).unwrap_err().contains("S3CR3T"));
    }
}
