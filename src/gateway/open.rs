//! From an account's row to its gateway or verifier: the one place that knows which wallet reads which JSON.

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::{
    Gateway, NoticeVerifier,
    alipay::{
        AlipayApp, AlipayGateway, AlipayNoticeVerifier, AlipayPublicKeys, AlipaySecrets, AlipaySettings, CodeExchange,
    },
    wechat::{WechatApp, WechatGateway, WechatNoticeVerifier, WechatPublicKeys, WechatSecrets, WechatSettings},
};
use crate::domain::{id::AppId, wallet::Wallet};

/// A mini-program of the account, its secret part opened.
pub struct OpenApp {
    pub app_id: AppId,
    pub secrets: Option<SecretString>,
}

/// The gateway of one account. Errors: one line for the operator, nothing secret in it.
pub fn gateway(
    wallet: Wallet,
    settings: &str,
    public_keys: &str,
    secrets: &SecretString,
    apps: Vec<OpenApp>,
    http: reqwest::Client,
) -> Result<Arc<dyn Gateway>, String> {
    match wallet {
        Wallet::WechatPay => {
            let apps = apps.into_iter().map(wechat_app);
            Ok(Arc::new(WechatGateway::new(
                &WechatSettings::from_json(settings)?,
                &WechatSecrets::from_json(secrets)?,
                WechatPublicKeys::from_json(public_keys)?,
                apps.collect::<Result<_, _>>()?,
                http,
            )?))
        }
        Wallet::Alipay => {
            let apps = apps.into_iter().map(alipay_app);
            Ok(Arc::new(AlipayGateway::new(
                AlipaySettings::from_json(settings)?,
                AlipaySecrets::from_json(secrets.expose_secret())?,
                AlipayPublicKeys::from_json(public_keys)?,
                apps.collect::<Result<_, _>>()?,
                http,
            )?))
        }
    }
}

/// The sealed part of a WeChat mini-program.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WechatAppSecrets {
    app_secret: SecretString,
}

fn wechat_app(app: OpenApp) -> Result<WechatApp, String> {
    let read = |text: &SecretString| {
        // serde's own words would quote what it met.
        serde_json::from_str::<WechatAppSecrets>(text.expose_secret())
            .map_err(|_| format!("the sealed part of mini-program {} cannot be read", app.app_id))
    };
    let secrets = app.secrets.as_ref().map(read).transpose()?;
    Ok(WechatApp { app_id: app.app_id, app_secret: secrets.map(|secrets| secrets.app_secret) })
}

/// A mini-program of Alipay without a sealed part takes only `identifyId`.
fn alipay_app(app: OpenApp) -> Result<AlipayApp, String> {
    match &app.secrets {
        Some(secrets) => AlipayApp::from_json(app.app_id, secrets.expose_secret()),
        None => Ok(AlipayApp { app_id: app.app_id, exchange: CodeExchange::Never }),
    }
}

/// Whether codes are exchanged with this sealed part. Errors: it cannot be read.
pub fn takes_code(wallet: Wallet, app_id: &AppId, secrets: &SecretString) -> Result<bool, String> {
    let app = OpenApp { app_id: app_id.clone(), secrets: Some(secrets.clone()) };
    match wallet {
        Wallet::WechatPay => Ok(wechat_app(app)?.app_secret.is_some()),
        Wallet::Alipay => Ok(alipay_app(app)?.exchange != CodeExchange::Never),
    }
}

/// Whether an account tells its wallet where a payer called from. Settings that cannot be read: no; whoever opens the account
/// tells of them.
pub fn tells_payer_ip(wallet: Wallet, settings: &str) -> bool {
    let extras = match wallet {
        Wallet::WechatPay => WechatSettings::from_json(settings).map(|settings| settings.extras),
        Wallet::Alipay => AlipaySettings::from_json(settings).map(|settings| settings.extras),
    };
    extras.is_ok_and(|extras| extras.payer_ip)
}

/// The verifier of one account's notices: public keys alone. Errors: one line for the operator.
pub fn verifier(wallet: Wallet, settings: &str, public_keys: &str) -> Result<Arc<dyn NoticeVerifier>, String> {
    Ok(match wallet {
        Wallet::WechatPay => Arc::new(WechatNoticeVerifier::new(&WechatPublicKeys::from_json(public_keys)?)?),
        Wallet::Alipay => Arc::new(AlipayNoticeVerifier::new(
            AlipaySettings::from_json(settings)?,
            AlipayPublicKeys::from_json(public_keys)?,
        )?),
    })
}
