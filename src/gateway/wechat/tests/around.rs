//! Login codes, the phone's parameters, notices, certificates, the examination.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    super::fake::{Fake, closed_port},
    *,
};
use crate::{
    domain::outcome::PayParams,
    gateway::{NoticeVerifier, RefundStatus, Refused, Trade},
    keys::{RsaSigner, RsaVerifier, aead::AesKey},
};

#[tokio::test]
async fn a_code_is_exchanged_once_and_again_only_on_minus_one() {
    let session = format!(r#"{{"openid":"{OPENID}","session_key":"aHVzaA=="}}"#);
    let busy = || Reply::Unsigned(200, r#"{"errcode":-1,"errmsg":"system error"}"#.into());
    let fake = Fake::start([
        Reply::Unsigned(200, session.clone()),
        busy(),
        Reply::Unsigned(200, session),
        busy(),
        busy(),
        Reply::Unsigned(200, r#"{"errcode":40029,"errmsg":"invalid code"}"#.into()),
        Reply::Unsigned(502, String::new()),
        Reply::Drop,
    ])
    .await;
    let gateway = gateway(&fake.url);
    let code = LoginCode::parse("0e1OCv1w3SXUT13aMD0w3ZASFJ3OCv1c&secret=x").unwrap();
    let exchange = async || gateway.exchange(&app(APP), &code).await;
    let payer = exchange().await.unwrap();
    assert_eq!((payer.kind, payer.expose_id()), (PayerKind::WechatOpenid, OPENID));
    assert_eq!(
        fake.seen()[0].path,
        format!(
            "/sns/jscode2session?appid={APP}&secret={APP_SECRET}&js_code=0e1OCv1w3SXUT13aMD0w3ZASFJ3OCv1c%26secret%3Dx\
             &grant_type=authorization_code"
        )
    );
    exchange().await.unwrap();
    assert_eq!(fake.seen().len(), 3);
    assert!(matches!(exchange().await, Err(ExchangeError::Busy { .. })));
    assert_eq!(fake.seen().len(), 5);
    assert!(matches!(exchange().await, Err(ExchangeError::CodeRefused { code, .. }) if code == "40029"));
    for _ in 0..2 {
        let error = exchange().await.unwrap_err();
        assert!(matches!(error, ExchangeError::Unknown { .. }), "{error}");
        assert!(!format!("{error:?}").contains(APP_SECRET) && !format!("{error:?}").contains("0e1OCv1"), "{error:?}");
    }
    assert_eq!(fake.seen().len(), 8, "a lost answer is not asked for again");
    let without = gateway.exchange(&app("wx8888888888888888"), &code).await;
    assert!(matches!(without, Err(ExchangeError::Configuration { .. })));
    let (dead, _held) = closed_port();
    let error = super::gateway(&dead).exchange(&app(APP), &code).await.unwrap_err();
    assert!(matches!(error, ExchangeError::Busy { .. }), "{error}");
    assert!(!format!("{error:?} {error}").contains(APP_SECRET));
}

#[test]
fn parameters_for_the_phone_verify_with_the_merchants_key() {
    let ticket = Ticket("wx01090000000000abcdef0123456789ab00".into());
    let params = gateway("http://127.0.0.1:1").pay_params(&app(APP), &ticket, NOW);
    let PayParams::Wechat { app_id, time_stamp, nonce_str, package, sign_type, pay_sign } = params else { panic!() };
    assert_eq!((time_stamp.as_str(), sign_type.as_str(), nonce_str.len()), ("1756713600", "RSA", 32));
    assert_eq!(package, format!("prepay_id={}", ticket.0));
    let text = format!("{app_id}\n{time_stamp}\n{nonce_str}\n{package}\n");
    let key = RsaVerifier::parse(&read("wechat/java/merchant_certificate.pem")).unwrap();
    key.verify(text.as_bytes(), &pay_sign).unwrap();
}

fn sealed(plain: &str) -> Value {
    let aes = AesKey::new(APIV3_KEY.as_bytes().try_into().unwrap());
    let nonce = "nTFYh0aBcD12";
    let ciphertext = STANDARD.encode(aes.seal_with(*b"nTFYh0aBcD12", b"x", plain.as_bytes()));
    json!({"algorithm": "AEAD_AES_256_GCM", "nonce": nonce, "associated_data": "x", "ciphertext": ciphertext})
}

fn notice(event_type: &str, plain: &str) -> RawNotice {
    let body =
        json!({"id": "1", "event_type": event_type, "resource_type": "encrypt-resource", "resource": sealed(plain)});
    let body = body.to_string().into_bytes();
    let signer = RsaSigner::parse(&read("wechat/java/wechat_pay_private_key.pem")).unwrap();
    let text = sign::answer_text("1756713600", "n", &body);
    let headers = [
        ("wechatpay-timestamp", "1756713600".to_owned()),
        ("wechatpay-nonce", "n".to_owned()),
        ("wechatpay-serial", public_key_id()),
        ("wechatpay-signature", signer.sign(&text)),
    ];
    let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    RawNotice { headers, body, received_at: NOW }
}

#[test]
fn a_notice_about_our_number_is_verified_opened_and_compared() {
    let gateway = gateway("http://127.0.0.1:1");
    let verifier = WechatNoticeVerifier::new(&pinned()).unwrap();
    let raw = notice("TRANSACTION.SUCCESS", &paid_body(MCHID).to_string());
    verifier.verify(&raw).unwrap();
    let opened = gateway.open_notice(&raw).unwrap().into_inner();
    let Notice::Payment(Trade { out_trade_no, state: TradeState::Paid(paid) }) = opened else { panic!("{opened:?}") };
    assert_eq!((out_trade_no, paid.foreign), (number(), None));
    // Another merchant's payment under our number.
    let opened = gateway.open_notice(&notice("TRANSACTION.SUCCESS", &paid_body("1").to_string())).unwrap().into_inner();
    let Notice::Payment(Trade { state: TradeState::Paid(paid), .. }) = opened else { panic!("{opened:?}") };
    assert_eq!(paid.foreign.as_deref(), Some("mchid"));
    let opened = gateway.open_notice(&notice("TRANSACTION.BRAND_NEW", "{}")).unwrap().into_inner();
    assert_eq!(opened, Notice::Other("a notice of kind TRANSACTION.BRAND_NEW".into()));
    let unreadable = gateway.open_notice(&notice("TRANSACTION.SUCCESS", "{}")).unwrap_err();
    assert!(matches!(unreadable, NoticeError::Unreadable(_)), "{unreadable}");
}

fn refund_notice(change: impl FnOnce(&mut Value)) -> Value {
    let mut plain = json!({
        "mchid": MCHID, "out_trade_no": number().to_string(), "transaction_id": "4200001234202509010123456789",
        "out_refund_no": refund_number().to_string(), "refund_id": "50000000382019052709732678859",
        "refund_status": "SUCCESS", "success_time": "2025-09-01T16:05:00+08:00",
        "user_received_account": "支付用户零钱",
        "amount": {"total": 100, "refund": 40, "payer_total": 90, "payer_refund": 36}
    });
    change(&mut plain);
    plain
}

#[test]
fn a_notice_about_our_refund_is_opened_and_compared() {
    let gateway = gateway("http://127.0.0.1:1");
    let open = |kind: &str, plain: &Value| gateway.open_notice(&notice(kind, &plain.to_string()));
    for (word, status) in
        [("SUCCESS", RefundStatus::Success), ("ABNORMAL", RefundStatus::Abnormal), ("CLOSED", RefundStatus::Closed)]
    {
        let plain = refund_notice(|plain| {
            plain["refund_status"] = word.into();
            if word != "SUCCESS" {
                plain["success_time"] = Value::Null;
            }
        });
        let Notice::Refund(told) = open(&format!("REFUND.{word}"), &plain).unwrap().into_inner() else { panic!() };
        assert_eq!((told.out_trade_no, told.out_refund_no), (number(), refund_number()));
        assert_eq!((told.seen.status, told.trade), (status, None));
        assert_eq!((told.seen.amount, told.seen.total), (Fen::new(40).ok(), Fen::new(100).ok()));
        assert_eq!(told.seen.wallet_refund_no.as_deref(), Some("50000000382019052709732678859"));
        assert_eq!(told.seen.at.is_some(), word == "SUCCESS");
    }
    for (change, why) in [
        (("mchid", "1900000110"), "a refund whose mchid is not this account's"),
        (("out_refund_no", "R1"), "a refund of another system, or one made in the merchant platform"),
        (("out_trade_no", "T1"), "a refund of another system, or one made in the merchant platform"),
    ] {
        let plain = refund_notice(|plain| plain[change.0] = change.1.into());
        assert_eq!(open("REFUND.SUCCESS", &plain).unwrap().into_inner(), Notice::Other(why.into()));
    }
    for plain in [
        refund_notice(|plain| plain["refund_status"] = "CLOSED".into()),
        refund_notice(|plain| plain["refund_status"] = "PROCESSING".into()),
        refund_notice(|plain| plain["refund_status"] = Value::Null),
        refund_notice(|plain| plain["amount"]["refund"] = 0.into()),
        json!({}),
    ] {
        let refused = open("REFUND.SUCCESS", &plain).unwrap_err();
        assert!(matches!(refused, NoticeError::Unreadable(_)), "{refused}");
    }
    let kind = open("REFUND.BRAND_NEW", &refund_notice(|_| ())).unwrap().into_inner();
    assert_eq!(kind, Notice::Other("a notice of kind REFUND.BRAND_NEW".into()));
}

const CERTIFICATE_SERIAL: &str = "440024045C4A427599D09BB4E3DE0279F2E813FD";

/// A certificates' answer, signed with the certificate that is in it.
fn certificates(entry_serial: &str) -> Reply {
    let certificate = read("wechat/java/wechat_pay_certificate.pem");
    let body = json!({"data": [{"serial_no": entry_serial, "encrypt_certificate": sealed(&certificate)}]});
    let (header, value) = ("Wechatpay-Serial", CERTIFICATE_SERIAL);
    Reply::Spoilt { status: 200, body: body.to_string(), header, value, double: false }
}

#[tokio::test]
async fn the_first_certificates_verify_by_themselves_and_then_everything_by_them() {
    // The published certificate ended in May 2025.
    let while_it_lived = Timestamp::from_secs(1_740_000_000);
    let clock = || -> Clock { Arc::new(move || while_it_lived) };
    let frozen = gateway("http://127.0.0.1:1").freeze(&ask()).unwrap();
    let by_certificate = Reply::Spoilt {
        status: 200,
        body: TICKET.into(),
        header: "Wechatpay-Serial",
        value: CERTIFICATE_SERIAL,
        double: false,
    };
    let fake = Fake::start_at(
        while_it_lived.secs(),
        [
            certificates(CERTIFICATE_SERIAL),
            certificates(CERTIFICATE_SERIAL),
            by_certificate.clone(),
            by_certificate,
            ok(TICKET),
        ],
    )
    .await;
    let empty = gateway_of(direct(), &fake.url, "", WechatPublicKeys::default()).with_clock(clock());
    let first = empty.fetch_public_keys().await.unwrap().unwrap();
    let ids =
        |text: &str| WechatPublicKeys::from_json(text).unwrap().0.iter().map(|key| key.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&first), [CERTIFICATE_SERIAL]);
    // Beside a public key, in the week of a migration.
    let both =
        gateway_of(direct(), &fake.url, "", pinned()).with_clock(clock()).fetch_public_keys().await.unwrap().unwrap();
    assert_eq!(ids(&both), [CERTIFICATE_SERIAL, &public_key_id()]);
    // Unpinned, the certificate's signature is nobody's; pinned, it is WeChat's, and so is the public key's.
    assert!(matches!(empty.prepay(&number(), &frozen).await, Err(GatewayError::Unknown { .. })));
    let keys = WechatPublicKeys::from_json(&both).unwrap();
    let gateway = gateway_of(direct(), &fake.url, "", keys).with_clock(clock());
    for _ in 0..2 {
        gateway.prepay(&number(), &frozen).await.unwrap();
    }
    let seen = fake.seen();
    assert_eq!((seen[0].path.as_str(), seen[0].header("wechatpay-serial")), ("/v3/certificates", ""));
    assert_eq!(seen[4].header("wechatpay-serial"), public_key_id());
}

#[tokio::test]
async fn certificates_that_are_false_ended_or_absent_pin_nothing() {
    let fake = Fake::start([
        certificates(CERTIFICATE_SERIAL),
        certificates("440024045C4A427599D09BB4E3DE0279F2E813FE"),
        Reply::Unsigned(404, r#"{"code":"RESOURCE_NOT_EXISTS","message":"m"}"#.into()),
        refusal(401, "SIGN_ERROR"),
    ])
    .await;
    let gateway = gateway(&fake.url);
    let ended = gateway.fetch_public_keys().await.unwrap().unwrap();
    assert_eq!(ended, pinned().to_json(), "the public key stays, the ended certificate is not pinned");
    assert!(matches!(gateway.fetch_public_keys().await, Err(GatewayError::Unknown { .. })), "another serial");
    assert_eq!(gateway.fetch_public_keys().await.unwrap(), None);
    let error = gateway.fetch_public_keys().await.unwrap_err();
    assert!(matches!(error, GatewayError::Refused { why: Refused::Configuration, .. }), "{error}");
}

#[tokio::test]
async fn an_examination_says_what_to_do() {
    let fake = Fake::start([
        refusal(404, "ORDER_NOT_EXIST"),
        refusal(404, "RESOURCE_NOT_EXISTS"),
        Reply::Unsigned(200, r#"{"errcode":40029,"errmsg":"invalid code"}"#.into()),
        refusal(401, "SIGN_ERROR"),
        refusal(404, "RESOURCE_NOT_EXISTS"),
        Reply::Unsigned(200, r#"{"errcode":40125,"errmsg":"invalid appsecret"}"#.into()),
    ])
    .await;
    let gateway = gateway(&fake.url);
    let good = gateway.examine(OrderId::from_bytes([2; 16])).await;
    assert_eq!(good.len(), 4);
    assert!(good.iter().all(|line| line.result.is_ok()), "{good:?}");
    let bad = gateway.examine(OrderId::from_bytes([2; 16])).await;
    assert!(bad[0].result.as_ref().unwrap_err().contains("serial_no"), "{bad:?}");
    assert!(bad[2].result.as_ref().unwrap_err().contains("AppSecret"), "{bad:?}");
    assert!(!format!("{bad:?}").contains(APP_SECRET));
}
