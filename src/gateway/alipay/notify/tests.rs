use super::*;
use crate::{
    domain::{
        id::{AppId, TradeNo},
        money::{Fen, Sum},
    },
    gateway::{PaidTrade, alipay::testing},
    keys::rsa::RsaSigner,
};

fn settings(app_id: &str) -> AlipaySettings {
    AlipaySettings::from_json(&serde_json::json!({ "app_id": app_id }).to_string()).unwrap()
}

fn verifier(key: &str) -> AlipayNoticeVerifier {
    let keys = AlipayPublicKeys { alipay_public_key: Some(testing::read(key)), ..AlipayPublicKeys::default() };
    AlipayNoticeVerifier::new(settings("2021000000000001"), keys).unwrap()
}

fn ours() -> AlipayNoticeVerifier {
    verifier("keys/derived/alipay_public.pem")
}

fn raw(body: impl Into<Vec<u8>>) -> RawNotice {
    RawNotice { headers: Vec::new(), body: body.into(), received_at: Timestamp::from_secs(1_772_337_700) }
}

/// A notice about a number of ours, changed and signed.
fn signed(changes: &[(&str, &str)]) -> RawNotice {
    let number = testing::number().to_string();
    let mut fields: BTreeMap<&str, &str> = BTreeMap::from([
        ("notify_time", "2026-03-01 12:01:31"),
        ("notify_type", "trade_status_sync"),
        ("notify_id", "2026030100222120131000000000000001"),
        ("app_id", "2021000000000001"),
        ("auth_app_id", "2021000000000001"),
        ("charset", "utf-8"),
        ("version", "1.0"),
        ("trade_no", "2026030122001400000000000001"),
        ("out_trade_no", &number),
        ("seller_id", "2088000000000000"),
        ("trade_status", "TRADE_SUCCESS"),
        ("total_amount", "88.88"),
        ("buyer_pay_amount", "80.00"),
        ("gmt_payment", "2026-03-01 12:01:30"),
        ("subject", "折扣 50%+券 A&B=C"),
    ]);
    for (name, value) in changes {
        if value.is_empty() {
            fields.remove(name)
        } else {
            fields.insert(name, value)
        };
    }
    let text: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let signer = RsaSigner::parse(&testing::read("keys/derived/alipay_private_pkcs8.pem")).unwrap();
    let sign = signer.sign(text.join("&").as_bytes());
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(&fields).append_pair("sign_type", "RSA2").append_pair("sign", &sign);
    raw(form.finish())
}

fn open(verifier: &AlipayNoticeVerifier, raw: &RawNotice) -> Notice {
    verifier.open(raw).unwrap().into_inner()
}

fn state(notice: Notice) -> TradeState {
    match notice {
        Notice::Payment(trade) => {
            assert_eq!(trade.out_trade_no, testing::number());
            trade.state
        }
        other => panic!("not about a payment: {other:?}"),
    }
}

#[test]
fn every_notice_vector_verifies_or_fails_as_told() {
    let vectors = testing::json("notify_verify.json");
    let cases = vectors["cases"].as_array().unwrap();
    let (mut good, mut bad) = (0, 0);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let text = |key: &str| case[key].as_str().unwrap();
        let verifier = verifier(text("public_key"));
        let notice = raw(text("form_body"));
        let form = Form::parse(&notice.body).unwrap();
        for (key, value) in case["params"].as_object().unwrap() {
            if text("charset") == "utf-8" {
                assert_eq!(form.get(key), Some(value.as_str().unwrap().as_bytes()), "{name}: {key}");
            }
        }
        if name.contains("wrongly keeping sign_type") {
            // The same body as the good sample: what must fail is the other string.
            let string = text("string_to_verify").as_bytes();
            assert!(string.windows(10).any(|part| part == b"sign_type="));
            assert_eq!(verifier.keys.verify(string, form.text("sign").unwrap(), None), Err(Unverified::Wrong));
            assert!(!form.strings_to_verify().contains(&string.to_vec()), "{name}: it is never tried");
            bad += 1;
            continue;
        }
        if text("expect") == "must fail" {
            assert!(matches!(verifier.verify(&notice), Err(NoticeError::Forged("wrong signature"))), "{name}");
            bad += 1;
            continue;
        }
        assert!(verifier.verify(&notice).is_ok(), "{name}");
        if text("charset") == "utf-8" {
            let wanted = text("string_to_verify").as_bytes().to_vec();
            assert!(form.strings_to_verify().contains(&wanted), "{name}: the string is the told one");
        }
        // Their numbers are T2026…: verified, and another system's.
        assert!(matches!(open(&verifier, &notice), Notice::Other(_)), "{name}");
        good += 1;
    }
    assert_eq!((cases.len(), good, bad), (15, 12, 3));
}

#[test]
fn every_state_vector_is_read() {
    let vectors = testing::json("notify_verify.json");
    for (part, wanted) in [
        ("partial refund", "paid"),
        ("full refund", "paid"),
        ("unpaid order closed", "closed"),
        ("second delivery", "paid"),
        ("total_amount differs", "paid 1 fen"),
        ("charset GBK", "paid"),
    ] {
        let cases = vectors["cases"].as_array().unwrap();
        let case = cases.iter().find(|case| case["name"].as_str().unwrap().contains(part)).unwrap();
        // The vectors' numbers are not of our shape: the same fields under a number of ours, after verifying.
        let mut form = ours().verified_form(&raw(case["form_body"].as_str().unwrap())).unwrap();
        form.fields.insert(b"out_trade_no".to_vec(), testing::number().to_string().into_bytes());
        let read = match state(ours().read(&form, Timestamp::from_ms(0)).unwrap()) {
            TradeState::Paid(paid) if paid.amount == Some(Fen::MIN) => "paid 1 fen",
            TradeState::Paid(paid) => {
                assert_eq!(paid.paid_at.china_text(), "2026-03-01 12:01:30");
                "paid"
            }
            TradeState::Closed => "closed",
            other => panic!("{other:?}"),
        };
        assert_eq!(read, wanted, "{part}");
    }
}

#[test]
fn a_payment_is_told_with_what_the_caller_compares() {
    assert_eq!(
        state(open(&ours(), &signed(&[]))),
        TradeState::Paid(PaidTrade {
            trade_no: TradeNo::parse("2026030122001400000000000001").unwrap(),
            amount: Fen::new(8888).ok(),
            payer_amount: Sum::new(8000).ok(),
            paid_at: Timestamp::parse_china_text("2026-03-01 12:01:30").unwrap(),
            foreign: None,
        })
    );
    assert_eq!(state(open(&ours(), &signed(&[("trade_status", "WAIT_BUYER_PAY")]))), TradeState::Unpaid);
    let closed = [("trade_status", "TRADE_CLOSED"), ("gmt_payment", "")];
    assert_eq!(state(open(&ours(), &signed(&closed))), TradeState::Closed);
    let refunded = [("trade_status", "TRADE_CLOSED"), ("gmt_payment", ""), ("refund_fee", "88.88")];
    let TradeState::Paid(paid) = state(open(&ours(), &signed(&refunded))) else { panic!("it was paid") };
    assert_eq!(paid.paid_at.china_text(), "2026-03-01 12:01:31", "the time of the notice stands in");
    let nothing_refunded = [("trade_status", "TRADE_CLOSED"), ("gmt_payment", ""), ("refund_fee", "0.00")];
    assert_eq!(state(open(&ours(), &signed(&nothing_refunded))), TradeState::Closed);
}

#[test]
fn a_refund_of_ours_is_told_with_the_payment_beside_it() {
    let refund = OutRefundNo::parse("01hzy3v9k2m4n6p8q0r2s4t6v8").unwrap();
    let number = refund.to_string();
    let told = [("refund_fee", "8.80"), ("gmt_refund", "2026-03-01 13:00:00.123"), ("out_biz_no", &number)];
    let Notice::Refund(notice) = open(&ours(), &signed(&told)) else { panic!("not a refund") };
    assert_eq!((notice.out_trade_no, notice.out_refund_no), (testing::number(), refund));
    assert_eq!(
        notice.seen,
        RefundSeen {
            status: RefundStatus::Success,
            wallet_refund_no: None,
            amount: None,
            total: Fen::new(8888).ok(),
            at: Timestamp::parse_china_text("2026-03-01 13:00:00"),
        }
    );
    assert!(matches!(notice.trade, Some(TradeState::Paid(_))));
    // Refunded in full the trade is closed, and still was paid.
    let full = [told[0], told[1], told[2], ("trade_status", "TRADE_CLOSED"), ("gmt_payment", "")];
    assert!(matches!(open(&ours(), &signed(&full)), Notice::Refund(notice) if notice.trade.is_some()));
    // One made in the merchant's own console, or one that tells no money or no time, is news of the payment alone.
    for change in [("out_biz_no", "R1"), ("out_biz_no", ""), ("refund_fee", "0.00"), ("gmt_refund", "")] {
        let changed = [told[0], told[1], told[2], change];
        assert!(matches!(state(open(&ours(), &signed(&changed))), TradeState::Paid(_)), "{change:?}");
    }
    // A stranger's never touches a refund of ours.
    let stranger = [told[0], told[1], told[2], ("app_id", "2021000000000555"), ("auth_app_id", "2021000000000555")];
    assert!(matches!(open(&ours(), &signed(&stranger)), Notice::Payment(_)));
}

#[test]
fn what_is_signed_but_senseless_is_parked() {
    for change in [("trade_status", "TRADE_PENDING"), ("total_amount", "88.8"), ("trade_no", "")] {
        let opened = ours().open(&signed(&[change]));
        assert!(matches!(opened, Err(NoticeError::Unreadable(_))), "{change:?}");
    }
}

#[test]
fn a_strangers_notice_is_told_apart() {
    let foreign = |verifier: &AlipayNoticeVerifier, changes: &[(&str, &str)]| match open(verifier, &signed(changes)) {
        Notice::Payment(Trade { state: TradeState::Paid(paid), .. }) => paid.foreign,
        other => panic!("{other:?}"),
    };
    let stranger = [("app_id", "2021000000000555"), ("auth_app_id", "2021000000000555")];
    assert_eq!(foreign(&ours(), &stranger).as_deref(), Some("app_id"));
    // Either id may be the account's.
    assert_eq!(foreign(&ours(), &stranger[..1]), None);
    assert_eq!(foreign(&ours(), &stranger[1..]), None);

    // A stranger's "closed" or "waiting" moves nothing of ours.
    for status in ["TRADE_CLOSED", "WAIT_BUYER_PAY"] {
        let changes = [stranger[0], stranger[1], ("trade_status", status), ("gmt_payment", "")];
        assert!(matches!(open(&ours(), &signed(&changes)), Notice::Other(_)), "{status}");
    }

    let mut with_seller = ours();
    with_seller.settings.seller_id = Some("2088000000000000".to_owned());
    assert_eq!(foreign(&with_seller, &[]), None);
    assert_eq!(foreign(&with_seller, &[("seller_id", "")]), None);
    assert_eq!(foreign(&with_seller, &[("seller_id", "2088000000000009")]).as_deref(), Some("seller_id"));

    let mut provider = ours();
    provider.settings.mode = Mode::Provider;
    assert_eq!(foreign(&provider, &[("auth_app_id", "2021000000000555")]), None);
    provider.settings.merchant_app_id = AppId::parse("2021000000000009").ok();
    assert_eq!(foreign(&provider, &[("auth_app_id", "2021000000000009")]), None);
    assert_eq!(foreign(&provider, &[("app_id", "2021000000000009"), ("auth_app_id", "")]), None);
    assert_eq!(foreign(&provider, &[("auth_app_id", "2021000000000555")]).as_deref(), Some("auth_app_id"));
}

#[test]
fn what_is_not_about_one_of_our_numbers_is_not_ours() {
    for change in
        [("out_trade_no", "T20260301000002"), ("out_trade_no", ""), ("notify_type", "another"), ("notify_type", "")]
    {
        assert!(matches!(open(&ours(), &signed(&[change])), Notice::Other(_)), "{change:?}");
    }
}

#[test]
fn a_changed_doubled_or_otherwise_signed_form_is_refused() {
    let good = signed(&[]);
    let text = String::from_utf8(good.body.clone()).unwrap();
    assert!(ours().verify(&good).is_ok());
    for (body, why) in [
        (text.replace("88.88", "88.89"), "wrong signature"),
        (format!("{text}&total_amount=0.01"), "a name stands twice"),
        (format!("{text}&trade%5Fstatus=TRADE_SUCCESS"), "a name stands twice"),
        (format!("{text}&new=1"), "wrong signature"),
        (text.replace("sign_type=RSA2", "sign_type=RSA"), "sign_type is not RSA2"),
        (text.replace("&sign_type=RSA2", ""), "sign_type is not RSA2"),
        (text.replace("&sign=", "&gone="), "no signature"),
        (text.replace("%2B", "+"), "wrong signature"),
        (String::new(), "sign_type is not RSA2"),
        ((0..300).map(|at| format!("f{at}=1&")).collect(), "too many fields"),
    ] {
        match ours().verify(&raw(body)) {
            Err(NoticeError::Forged(told)) => assert_eq!(told, why),
            other => panic!("{why}: {other:?}"),
        }
    }
    // Empties may have been added on the way: they are never read.
    let padded = raw(format!("{text}&refund_fee="));
    let TradeState::Paid(_) = state(open(&ours(), &padded)) else { panic!("still paid") };
    let certified = raw(format!("{text}&alipay_cert_sn=40e6e5ff701ea737a8509cf9a3bb7550"));
    assert!(ours().verify(&certified).is_ok(), "signed without alipay_cert_sn");
}

#[test]
fn certificate_mode_knows_its_certificates() {
    let settings = AlipaySettings::from_json(r#"{"app_id":"2021000000000001","signing":"certificate"}"#).unwrap();
    let verifier = AlipayNoticeVerifier::new(settings, testing::succession_keys()).unwrap();
    assert!(verifier.verify(&signed(&[])).is_ok(), "none is named: each is tried");
    match verifier.verify(&signed(&[("alipay_cert_sn", "40e6e5ff701ea737a8509cf9a3bb7550")])) {
        Err(NoticeError::UnknownKey(sn)) => assert_eq!(sn, "40e6e5ff701ea737a8509cf9a3bb7550"),
        other => panic!("{other:?}"),
    }
}

proptest::proptest! {
    /// Whatever bytes come: an answer, no panic, and never "verified".
    #[test]
    fn no_form_breaks_it(body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
        let mut form = b"sign_type=RSA2&sign=AAAA&".to_vec();
        form.extend_from_slice(&body);
        assert!(ours().verify(&raw(form)).is_err());
        let _ = ours().verify(&raw(body));
    }
}

#[test]
fn only_seven_bytes_are_received() {
    assert_eq!(ours().accepted(), (200, "success"));
    let (status, body) = ours().rejected();
    assert!(status >= 400 && body != "success");
}
