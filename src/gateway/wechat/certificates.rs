//! `GET /v3/certificates`: platform certificates, sealed with the APIv3 key (`wechat-pay.md` §3.4).

use super::{
    client::{CallError, Client},
    keys::{Pinned, WechatPublicKeys},
    notify::open_resource,
    refusal::{Refusal, not_sent},
    wire::CertificatesAnswer,
};
use crate::{
    domain::{time::Timestamp, wallet::Wallet},
    gateway::{GatewayError, Refused},
    keys::{
        aead::AesKey,
        certificate::{Certificate, same_serial},
    },
};

const PATH: &str = "/v3/certificates";

/// The account's pinned keys with the present certificates among them. `None`: the account has no platform certificate, and a
/// public key does not move by itself.
///
/// The very first answer is verified with the certificates in it: that the APIv3 key opens them proves who sealed them.
/// Certificates past their end leave; all others stay, because an old one may be used until its end.
pub(super) async fn fetch(
    client: &Client,
    apiv3_keys: &[AesKey],
    pinned: &WechatPublicKeys,
) -> Result<Option<WechatPublicKeys>, GatewayError> {
    let unknown = |cause: String| GatewayError::Unknown { wallet: Wallet::WechatPay, cause };
    let lost = |error: CallError| match error {
        CallError::NotSent(cause) => not_sent(&cause),
        CallError::Unknown(cause) => unknown(cause),
    };
    let raw = client.send(reqwest::Method::GET, PATH, "").await.map_err(lost)?;
    if raw.status != 200 {
        let answer = client.believe(raw, &client.keys).map_err(lost)?;
        let refusal = Refusal::read(answer.status, &answer.body);
        if refusal.is_no_certificate() {
            return Ok(None);
        }
        return Err(refusal.of_any_call().unwrap_or_else(|| refusal.unknown()));
    }
    let mut keys = pinned.clone();
    for certificate in read(&raw.body, apiv3_keys)? {
        keys.pin_read_certificate(&certificate);
    }
    let with_fresh: Pinned = keys.pinned().map_err(unknown)?;
    client.believe(raw, &with_fresh).map_err(lost)?;
    let now: Timestamp = (client.clock)();
    Ok(Some(keys.unexpired(now)))
}

/// Opens every certificate of an answer. Errors: [`GatewayError`].
fn read(body: &[u8], apiv3_keys: &[AesKey]) -> Result<Vec<Certificate>, GatewayError> {
    let unknown = |cause: &str| GatewayError::Unknown { wallet: Wallet::WechatPay, cause: cause.to_owned() };
    let answer: CertificatesAnswer =
        serde_json::from_slice(body).map_err(|_| unknown("the certificates' answer is not the JSON of one"))?;
    let mut certificates = Vec::new();
    for entry in &answer.data {
        let plain = open_resource(apiv3_keys, &entry.encrypt_certificate).ok_or_else(|| GatewayError::Refused {
            wallet: Wallet::WechatPay,
            code: "the certificates do not open with the account's APIv3 key".into(),
            why: Refused::Configuration,
        })?;
        let text = String::from_utf8(plain).map_err(|_| unknown("a certificate is no text"))?;
        let certificate = Certificate::parse(&text).map_err(|_| unknown("a certificate cannot be read"))?;
        if !same_serial(certificate.serial(), &entry.serial_no) {
            return Err(unknown("a certificate has another serial than its entry says"));
        }
        certificates.push(certificate);
    }
    if certificates.is_empty() {
        return Err(unknown("an answer without certificates"));
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::test_vectors::read as file;

    const APIV3_KEY: &[u8; 32] = b"a7cde1ZJB1kG2e7VfTs3jQzaWizur8Gb";

    #[test]
    fn the_published_answer_opens_to_its_certificate() {
        let body = file("wechat/java/certificates_response.json");
        let certificates = read(body.as_bytes(), &[AesKey::new(APIV3_KEY)]).unwrap();
        assert_eq!(certificates.len(), 1);
        assert_eq!(certificates[0].serial(), "5DEA10EF55877E3CF6C33255C2E7DEFFF7E427EC");
        let published = Certificate::parse(&file("wechat/java/certificates_response.decrypted.pem")).unwrap();
        assert_eq!(certificates[0].der(), published.der());
        // During a change of the APIv3 key both are tried.
        assert!(read(body.as_bytes(), &[AesKey::new(&[0; 32]), AesKey::new(APIV3_KEY)]).is_ok());
    }

    #[test]
    fn a_false_answer_pins_nothing() {
        let body = file("wechat/java/certificates_response.json");
        let key = || [AesKey::new(APIV3_KEY)];
        let strange = read(body.as_bytes(), &[AesKey::new(&[0; 32])]).unwrap_err();
        assert!(matches!(strange, GatewayError::Refused { why: Refused::Configuration, .. }), "{strange}");
        let renamed = body.replace("5DEA10EF", "5DEA10EE");
        assert_ne!(renamed, body);
        for wrong in [renamed.as_str(), "", "{}", r#"{"data":[]}"#] {
            assert!(matches!(read(wrong.as_bytes(), &key()), Err(GatewayError::Unknown { .. })), "{wrong}");
        }
    }
}
