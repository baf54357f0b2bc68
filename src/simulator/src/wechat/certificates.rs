//! `GET /v3/certificates`, and the rotation of platform certificates.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Wechat;
use super::refusal::Refusal;
use super::seal;
use super::state::{KeyMode, Merchant, PlatformCertificate};
use crate::chance;
use crate::keys::{KeyError, RsaKey, Subject, shared, shared_number};

impl Wechat {
    pub(super) fn certificates(&self, merchant: &Merchant) -> Result<Value, Refusal> {
        if merchant.key_mode == KeyMode::PublicKey {
            return Err(Refusal::new(
                404,
                "RESOURCE_NOT_EXISTS",
                "无可用的平台证书，请在商户平台-API安全申请使用微信支付公钥。",
                "268448000",
            ));
        }
        let listed = self.state().certificates.clone();
        let data: Vec<Value> = listed
            .iter()
            .map(|listed| {
                let nonce = chance::text(12);
                json!({
                    "serial_no": listed.certificate.serial_no,
                    "effective_time": super::rfc3339(listed.certificate.not_before.unix_timestamp() * 1000),
                    "expire_time": super::rfc3339(listed.certificate.not_after.unix_timestamp() * 1000),
                    "encrypt_certificate": {
                        "algorithm": "AEAD_AES_256_GCM",
                        "nonce": nonce,
                        "associated_data": "certificate",
                        "ciphertext": seal::encrypt(&merchant.apiv3_key, &nonce, "certificate", listed.certificate.pem.as_bytes()),
                    },
                })
            })
            .collect();
        Ok(json!({ "data": data }))
    }

    /// Lists one more platform certificate, which signs nothing yet; tells its serial.
    pub fn add_platform_certificate(&self) -> Result<String, KeyError> {
        let turn = self.state().certificates.len() % 2;
        let added =
            platform_certificate(shared(shared_number::WECHAT_CERTIFICATES + turn)?, self.ground.clock.now_s())?;
        let serial_no = added.certificate.serial_no.clone();
        self.state().certificates.push(added);
        Ok(serial_no)
    }

    /// Signs with a listed certificate from now on; false when it is not listed.
    pub fn sign_with_certificate(&self, serial_no: &str) -> bool {
        let mut state = self.state();
        let listed = state.certificates.iter().any(|listed| listed.certificate.serial_no == serial_no);
        if listed {
            state.signing = serial_no.to_owned();
        }
        listed
    }

    /// Lists a certificate no more; false for the one that signs or an unknown one.
    pub fn remove_platform_certificate(&self, serial_no: &str) -> bool {
        let mut state = self.state();
        let before = state.certificates.len();
        if state.signing != serial_no {
            state.certificates.retain(|listed| listed.certificate.serial_no != serial_no);
        }
        before != state.certificates.len()
    }
}

/// A platform certificate of this key, valid from a day ago for five years.
pub(super) fn platform_certificate(key: Arc<RsaKey>, now_s: i64) -> Result<PlatformCertificate, KeyError> {
    let not_before = super::beijing(now_s * 1000) - time::Duration::days(1);
    let certificate = key.certificate(&Subject {
        common_name: "Tenpay.com sign",
        organization: "Tenpay.com",
        not_before,
        not_after: not_before + time::Duration::days(5 * 365),
    })?;
    Ok(PlatformCertificate { certificate, key })
}
