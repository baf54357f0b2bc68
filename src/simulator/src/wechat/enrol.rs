//! What a merchant gets when it enrols: numbers, keys, certificates, apps; and what its payers bring along.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use super::Wechat;
use super::state::{ApiCertificate, App, CODE_LIFE_MS, Code, KeyMode, Merchant};
use crate::chance;
use crate::keys::{KeyError, RsaKey, Subject, shared, shared_number};

/// Login codes remembered before the expired ones are dropped.
const CODES_MAX: usize = 200_000;

/// How a merchant enrols.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MerchantOptions {
    /// A number of its own choice; `None`: a new one of 10 digits.
    pub mchid: Option<String>,
    pub key_mode: KeyMode,
    /// A key nobody else in this process signs with (takes longer to make).
    pub own_key: bool,
}

/// All a merchant (or service provider) has to configure. Debug shows the numbers only.
#[derive(Clone, Serialize, Deserialize)]
pub struct WechatMerchant {
    /// mchid, or sp_mchid of a service provider.
    pub mchid: String,
    /// Serial of the merchant API certificate, 40 hexadecimal digits.
    pub serial_no: String,
    /// PKCS#8 PEM.
    pub private_key_pem: String,
    pub merchant_certificate_pem: String,
    /// 32 ASCII characters.
    pub apiv3_key: String,
    /// `PUB_KEY_ID_` and digits.
    pub public_key_id: String,
    /// WeChat's public key.
    pub public_key_pem: String,
    /// The platform certificate that signs now.
    pub platform_serial_no: String,
    pub platform_certificate_pem: String,
    pub key_mode: KeyMode,
}

impl fmt::Debug for WechatMerchant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("WechatMerchant")
            .field("mchid", &self.mchid)
            .field("serial_no", &self.serial_no)
            .finish_non_exhaustive()
    }
}

/// A mini-program. Debug shows the appid only.
#[derive(Clone, Serialize, Deserialize)]
pub struct WechatApp {
    pub appid: String,
    pub app_secret: String,
}

impl fmt::Debug for WechatApp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("WechatApp").field("appid", &self.appid).finish_non_exhaustive()
    }
}

/// A further API certificate of a merchant. Debug shows the serial only.
#[derive(Clone, Serialize, Deserialize)]
pub struct MerchantKey {
    pub serial_no: String,
    pub private_key_pem: String,
    pub merchant_certificate_pem: String,
}

impl fmt::Debug for MerchantKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("MerchantKey").field("serial_no", &self.serial_no).finish_non_exhaustive()
    }
}

impl Wechat {
    /// Enrols a merchant; a service provider enrols the same way and then takes sub-merchants.
    ///
    /// Errors: only when no key can be made.
    pub fn new_merchant(&self, options: MerchantOptions) -> Result<WechatMerchant, KeyError> {
        let mchid = options.mchid.unwrap_or_else(|| chance::digits(10));
        let (key, certificate) = self.api_certificate(&mchid, options.own_key)?;
        let merchant = Merchant {
            mchid: mchid.clone(),
            certificates: vec![certificate],
            apiv3_key: chance::text(32),
            public_key_id: format!("PUB_KEY_ID_{}", chance::digits(35)),
            key_mode: options.key_mode,
            subs: Vec::new(),
        };
        let platform = self.signing_certificate();
        let enrolled = WechatMerchant {
            mchid: mchid.clone(),
            serial_no: key.serial_no,
            private_key_pem: key.private_key_pem,
            merchant_certificate_pem: key.merchant_certificate_pem,
            apiv3_key: merchant.apiv3_key.clone(),
            public_key_id: merchant.public_key_id.clone(),
            public_key_pem: self.public_key.public_key_pem(),
            platform_serial_no: platform.certificate.serial_no,
            platform_certificate_pem: platform.certificate.pem,
            key_mode: options.key_mode,
        };
        self.state().merchants.insert(mchid, Arc::new(merchant));
        Ok(enrolled)
    }

    /// A sub-merchant that accepted the service provider; tells its sub_mchid. `None` for an unknown provider.
    pub fn new_sub_merchant(&self, sp_mchid: &str) -> Option<String> {
        let sub_mchid = chance::digits(10);
        self.change_merchant(sp_mchid, |merchant| merchant.subs.push(sub_mchid.clone())).then_some(sub_mchid)
    }

    /// A further API certificate, valid beside the ones before. `None` for an unknown merchant.
    pub fn new_merchant_key(&self, mchid: &str) -> Result<Option<MerchantKey>, KeyError> {
        let (key, certificate) = self.api_certificate(mchid, true)?;
        Ok(self.change_merchant(mchid, |merchant| merchant.certificates.push(certificate.clone())).then_some(key))
    }

    /// Revokes an API certificate; false when the merchant is unknown.
    pub fn revoke_merchant_key(&self, mchid: &str, serial_no: &str) -> bool {
        self.change_merchant(mchid, |merchant| merchant.certificates.retain(|known| known.serial_no != serial_no))
    }

    /// Sets a new APIv3 key and tells it; notifications are encrypted with it from now on.
    pub fn new_apiv3_key(&self, mchid: &str) -> Option<String> {
        let apiv3_key = chance::text(32);
        self.set_apiv3_key(mchid, &apiv3_key).then_some(apiv3_key)
    }

    /// The same with a key of the merchant's choice, 32 characters; false when it is unknown.
    pub fn set_apiv3_key(&self, mchid: &str, apiv3_key: &str) -> bool {
        self.change_merchant(mchid, |merchant| apiv3_key.clone_into(&mut merchant.apiv3_key))
    }

    /// Moves a merchant between public key and platform certificate; false when it is unknown.
    pub fn set_key_mode(&self, mchid: &str, key_mode: KeyMode) -> bool {
        self.change_merchant(mchid, |merchant| merchant.key_mode = key_mode)
    }

    /// A mini-program bound to a merchant, service provider or sub-merchant.
    pub fn new_app(&self, mchid: &str) -> WechatApp {
        let appid = format!("wx{}", chance::hex(&chance::bytes::<8>()));
        let app_secret = chance::hex(&chance::bytes::<16>());
        let app = App { app_secret: app_secret.clone(), mchids: vec![mchid.to_owned()] };
        self.state().apps.insert(appid.clone(), app);
        WechatApp { appid, app_secret }
    }

    /// Binds an app to one more merchant; false when the app is unknown.
    pub fn bind_app(&self, appid: &str, mchid: &str) -> bool {
        match self.state().apps.get_mut(appid) {
            Some(app) => {
                app.mchids.push(mchid.to_owned());
                true
            }
            None => false,
        }
    }

    /// A person, as this app knows them.
    pub fn new_openid(&self, appid: &str) -> String {
        let openid = format!("o{}", chance::text(27));
        self.state().openids.insert(openid.clone(), appid.to_owned());
        openid
    }

    /// What `wx.login` gives the mini-program on this person's phone: good once, for five minutes.
    ///
    /// The openid becomes known under the app if it was not.
    pub fn new_code(&self, appid: &str, openid: &str) -> String {
        let code = format!("0{}", chance::text(31));
        let issued_ms = self.ground.clock.now_ms();
        let mut state = self.state();
        if state.codes.len() >= CODES_MAX {
            // Long expired ones answer 40029 either way.
            state.codes.retain(|_, code| issued_ms - code.issued_ms <= 2 * CODE_LIFE_MS);
        }
        state.openids.entry(openid.to_owned()).or_insert_with(|| appid.to_owned());
        state
            .codes
            .insert(code.clone(), Code { appid: appid.to_owned(), openid: openid.to_owned(), issued_ms, used: false });
        code
    }

    fn api_certificate(&self, mchid: &str, own_key: bool) -> Result<(MerchantKey, ApiCertificate), KeyError> {
        let key = if own_key {
            Arc::new(RsaKey::generate()?)
        } else {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % shared_number::TURNS;
            shared(shared_number::WECHAT_MERCHANTS + turn)?
        };
        let not_before = super::beijing(self.ground.clock.now_ms()) - time::Duration::days(1);
        let certificate = key.certificate(&Subject {
            common_name: mchid,
            organization: "微信商户系统",
            not_before,
            not_after: not_before + time::Duration::days(5 * 365),
        })?;
        let known = ApiCertificate { serial_no: certificate.serial_no.clone(), public: key.public().clone() };
        let handed = MerchantKey {
            serial_no: certificate.serial_no,
            private_key_pem: key.private_key_pem(),
            merchant_certificate_pem: certificate.pem,
        };
        Ok((handed, known))
    }

    fn change_merchant(&self, mchid: &str, change: impl FnOnce(&mut Merchant)) -> bool {
        match self.state().merchants.get_mut(mchid) {
            Some(merchant) => {
                change(Arc::make_mut(merchant));
                true
            }
            None => false,
        }
    }
}
