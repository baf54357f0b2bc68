//! Notices: verified over their raw bytes with public keys alone, opened with the APIv3 key (`wechat-pay.md` §7).

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    keys::{Pinned, WechatPublicKeys, is_plain},
    sign::{Signed, Unverified},
    trade::Payee,
    wire::{Envelope, RefundAnswer, Resource, Transaction},
};
use crate::{
    domain::id::{OutRefundNo, OutTradeNo},
    gateway::{Notice, NoticeError, NoticeVerifier, RawNotice, RefundNotice, RefundStatus, Trade, Verified},
    keys::aead::AesKey,
};

const ALGORITHM: &str = "AEAD_AES_256_GCM";

/// Verifies notices of one account with WeChat Pay's public keys: all that a front needs.
#[derive(Debug)]
pub struct WechatNoticeVerifier {
    keys: Pinned,
}

impl WechatNoticeVerifier {
    /// Errors: words for the operator.
    pub fn new(public_keys: &WechatPublicKeys) -> Result<Self, String> {
        Ok(Self { keys: public_keys.pinned()? })
    }
}

impl NoticeVerifier for WechatNoticeVerifier {
    fn verify(&self, raw: &RawNotice) -> Result<(), NoticeError> {
        verify(&self.keys, raw)
    }

    /// The body is ignored by the current pages and shown by an older guide (§7.4).
    fn accepted(&self) -> (u16, &'static str) {
        (200, r#"{"code":"SUCCESS","message":"成功"}"#)
    }

    /// Any 4xx or 5xx means "send it again" (§7.4); one answer for every reason teaches a forger nothing.
    fn rejected(&self) -> (u16, &'static str) {
        (500, r#"{"code":"FAIL","message":"失败"}"#)
    }
}

/// The window is judged by the time received, so that a worker's second look holds as the front's first did.
pub(super) fn verify(keys: &Pinned, raw: &RawNotice) -> Result<(), NoticeError> {
    let verified =
        Signed::read(|name| raw.header(name)).and_then(|signed| signed.verify(keys, &raw.body, raw.received_at));
    verified.map_err(|why| match why {
        Unverified::Refused(why) => NoticeError::Forged(why),
        Unverified::UnknownKey(id) => NoticeError::UnknownKey(id),
    })
}

/// Verifies, decrypts and reads. `apiv3_keys`: the present key, then an older one.
pub(super) fn open(
    keys: &Pinned,
    apiv3_keys: &[AesKey],
    payee: &Payee,
    raw: &RawNotice,
) -> Result<Verified<Notice>, NoticeError> {
    verify(keys, raw)?;
    let unreadable = |what: &str| NoticeError::Unreadable(what.to_owned());
    let envelope: Envelope =
        serde_json::from_slice(&raw.body).map_err(|_| unreadable("the envelope is not the JSON of a notice"))?;
    let read: fn(&Payee, &RawNotice, &[u8], &str) -> Result<Notice, NoticeError> = match envelope.event_type.as_str() {
        "TRANSACTION.SUCCESS" => payment,
        "REFUND.SUCCESS" | "REFUND.ABNORMAL" | "REFUND.CLOSED" => refund,
        kind => {
            let kind = if is_plain(&kind.replace('.', "_")) { kind } else { "unknown" };
            return Ok(Verified::by_signature(Notice::Other(format!("a notice of kind {kind}"))));
        }
    };
    let plain = open_resource(apiv3_keys, &envelope.resource)
        .ok_or_else(|| unreadable("the resource does not open with the account's APIv3 key"))?;
    read(payee, raw, &plain, &envelope.event_type).map(Verified::by_signature)
}

fn payment(payee: &Payee, raw: &RawNotice, plain: &[u8], _kind: &str) -> Result<Notice, NoticeError> {
    let transaction: Transaction = serde_json::from_slice(plain)
        .map_err(|_| NoticeError::Unreadable("the resource is not the JSON of a payment".into()))?;
    let Ok(out_trade_no) = OutTradeNo::parse(&transaction.out_trade_no) else {
        return Ok(Notice::Other("an out_trade_no of another system".into()));
    };
    let state = payee.read(&transaction, raw.received_at).map_err(NoticeError::Unreadable)?;
    Ok(Notice::Payment(Trade { out_trade_no, state }))
}

/// §8.3. `kind` and `refund_status` say the same thing twice; where they differ nothing is believed.
fn refund(payee: &Payee, _raw: &RawNotice, plain: &[u8], kind: &str) -> Result<Notice, NoticeError> {
    let unreadable = |what: &str| NoticeError::Unreadable(what.to_owned());
    let answer: RefundAnswer =
        serde_json::from_slice(plain).map_err(|_| unreadable("the resource is not the JSON of a refund"))?;
    let (Ok(out_trade_no), Ok(out_refund_no)) =
        (OutTradeNo::parse(&answer.out_trade_no), OutRefundNo::parse(&answer.out_refund_no))
    else {
        return Ok(Notice::Other("a refund of another system, or one made in the merchant platform".into()));
    };
    // A stranger's refund moves nothing of ours.
    if let Some(field) = payee.foreign_refund(&answer) {
        return Ok(Notice::Other(format!("a refund whose {field} is not this account's")));
    }
    let seen = super::refund::read(&answer, answer.refund_status.as_deref()).map_err(NoticeError::Unreadable)?;
    let of_kind = match kind {
        "REFUND.SUCCESS" => RefundStatus::Success,
        "REFUND.ABNORMAL" => RefundStatus::Abnormal,
        _ => RefundStatus::Closed,
    };
    if seen.status != of_kind {
        return Err(unreadable("refund_status and event_type differ"));
    }
    Ok(Notice::Refund(RefundNotice { out_trade_no, out_refund_no, seen, trade: None }))
}

/// Opens an AEAD_AES_256_GCM resource with the first key that fits (§7.3).
pub(super) fn open_resource(apiv3_keys: &[AesKey], resource: &Resource) -> Option<Vec<u8>> {
    if resource.algorithm != ALGORITHM {
        return None;
    }
    let ciphertext = STANDARD.decode(&resource.ciphertext).ok()?;
    let associated_data = resource.associated_data.as_deref().unwrap_or_default();
    apiv3_keys.iter().find_map(|key| key.open(resource.nonce.as_bytes(), associated_data.as_bytes(), &ciphertext))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{super::settings::Mode, *};
    use crate::{
        domain::{id::AppId, time::Timestamp},
        gateway::TradeState,
        keys::test_vectors::{read, wechat_json},
    };

    fn aes(text: &str) -> AesKey {
        AesKey::new(text.as_bytes().try_into().unwrap())
    }

    fn raw(vector: &Value) -> RawNotice {
        let headers = vector["headers"].as_object().unwrap().iter();
        RawNotice {
            headers: headers.map(|(name, value)| (name.to_lowercase(), value.as_str().unwrap().to_owned())).collect(),
            body: read(&format!("wechat/{}", vector["body_file"].as_str().unwrap())).into_bytes(),
            received_at: Timestamp::from_secs(1_756_713_600),
        }
    }

    fn pinned(derived: &Value) -> WechatPublicKeys {
        let mut keys = WechatPublicKeys::default();
        keys.pin_certificate(&read("wechat/java/wechat_pay_certificate.pem")).unwrap();
        let id = derived["public_key_id"].as_str().unwrap();
        keys.pin_public_key(id, &read("wechat/java/wechat_pay_public_key.pem")).unwrap();
        keys
    }

    fn direct() -> Payee {
        Payee {
            mode: Mode::Direct { mchid: "1900000109".into() },
            apps: vec![AppId::parse("wxd678efh567hg6787").unwrap()],
        }
    }

    fn provider() -> Payee {
        Payee {
            mode: Mode::Provider {
                sp_mchid: "1900000100".into(),
                sp_appid: AppId::parse("wx8888888888888888").unwrap(),
                sub_mchid: "1900000109".into(),
            },
            ..direct()
        }
    }

    #[test]
    fn every_derived_notification_opens_to_its_plaintext() {
        let derived = wechat_json("derived.json");
        let verifier = WechatNoticeVerifier::new(&pinned(&derived)).unwrap();
        let (mut opened, mut trades) = (0, 0);
        for vector in derived["notifications"].as_array().unwrap() {
            let raw = raw(vector);
            verifier.verify(&raw).unwrap();
            let envelope: Envelope = serde_json::from_slice(&raw.body).unwrap();
            let present = aes(vector["api_v3_key"].as_str().unwrap());
            let plain = open_resource(&[present], &envelope.resource).unwrap();
            assert_eq!(String::from_utf8(plain.clone()).unwrap(), vector["plaintext"].as_str().unwrap());
            // After a change of the key the older one still opens; a strange one alone does not.
            let older = aes(vector["api_v3_key"].as_str().unwrap());
            let strange = || aes("00000000000000000000000000000000");
            assert!(open_resource(&[strange(), older], &envelope.resource).is_some());
            assert!(open_resource(&[strange()], &envelope.resource).is_none());
            opened += 1;
            if envelope.event_type == "TRANSACTION.SUCCESS" {
                let transaction: Transaction = serde_json::from_slice(&plain).unwrap();
                let payee = if transaction.sp_mchid.is_some() { provider() } else { direct() };
                let state = payee.read(&transaction, raw.received_at).unwrap();
                let TradeState::Paid(paid) = state else { panic!("{state:?}") };
                assert_eq!((paid.amount.unwrap().get(), paid.foreign), (100, None));
                assert_eq!(paid.paid_at.rfc3339(), "2025-09-01T16:00:00+08:00");
                // To the account of the other mode it is a stranger's.
                let other = if transaction.sp_mchid.is_some() { direct() } else { provider() };
                let state = other.read(&transaction, raw.received_at).unwrap();
                assert!(matches!(state, TradeState::Paid(paid) if paid.foreign.is_some()));
                trades += 1;
            }
        }
        assert_eq!((opened, trades), (3, 2));
    }

    #[test]
    fn a_notice_of_another_system_or_kind_is_set_aside() {
        let derived = wechat_json("derived.json");
        let keys = pinned(&derived).pinned().unwrap();
        let notices = derived["notifications"].as_array().unwrap();
        let opened = |at: usize| {
            let aes = [aes(notices[at]["api_v3_key"].as_str().unwrap())];
            open(&keys, &aes, &direct(), &raw(&notices[at])).unwrap().into_inner()
        };
        assert_eq!(opened(0), Notice::Other("an out_trade_no of another system".into()));
        assert_eq!(opened(2), Notice::Other("a refund of another system, or one made in the merchant platform".into()));
        let strange = [aes("00000000000000000000000000000000")];
        let refused = open(&keys, &strange, &direct(), &raw(&notices[0])).unwrap_err();
        assert!(matches!(refused, NoticeError::Unreadable(_)), "{refused}");
    }

    #[test]
    fn a_forged_probed_or_doubled_notice_is_refused() {
        let derived = wechat_json("derived.json");
        let verifier = WechatNoticeVerifier::new(&pinned(&derived)).unwrap();
        let good = raw(&derived["notifications"][0]);
        let with = |change: &dyn Fn(&mut RawNotice)| {
            let mut raw = good.clone();
            change(&mut raw);
            verifier.verify(&raw).unwrap_err()
        };
        let set = |name: &'static str, value: &'static str| {
            move |raw: &mut RawNotice| {
                raw.headers.iter_mut().filter(|(key, _)| key == name).for_each(|(_, old)| *old = value.to_owned());
            }
        };
        let forged = |error: NoticeError| assert!(matches!(error, NoticeError::Forged(_)), "{error}");
        forged(with(&set("wechatpay-signature", "WECHATPAY/SIGNTEST/odd")));
        forged(with(&set("wechatpay-timestamp", "1756713601")));
        forged(with(&|raw| raw.received_at = Timestamp::from_secs(1_756_713_900)));
        forged(with(&|raw| raw.body.push(b'\n')));
        forged(with(&|raw| raw.headers.push(("Wechatpay-Serial".into(), "x".into()))));
        forged(with(&|raw| raw.headers.clear()));
        let unknown = with(&set("wechatpay-serial", "PUB_KEY_ID_9"));
        assert!(matches!(unknown, NoticeError::UnknownKey(id) if id == "PUB_KEY_ID_9"));
        forged(with(&set("wechatpay-serial", "two\nlines")));
    }

    #[test]
    fn answers_are_what_wechat_takes() {
        let verifier = WechatNoticeVerifier::new(&WechatPublicKeys::default()).unwrap();
        let json = |text: &str| serde_json::from_str::<Value>(text).unwrap()["code"].clone();
        let ((ok, yes), (not_ok, no)) = (verifier.accepted(), verifier.rejected());
        assert_eq!((ok, json(yes)), (200, "SUCCESS".into()));
        assert_eq!((not_ok, json(no)), (500, "FAIL".into()));
    }
}
