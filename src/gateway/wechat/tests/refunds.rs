//! Refunds: frozen, sent, asked about.

use super::{
    super::fake::{Fake, closed_port},
    *,
};
use crate::gateway::{RefundStatus, Refused};

fn refund_ask() -> RefundAsk {
    RefundAsk {
        out_trade_no: number(),
        out_refund_no: refund_number(),
        amount: Fen::new(40).unwrap(),
        total: Fen::new(100).unwrap(),
        reason: Some(" 不要了😀\n".into()),
        notify_url: "https://pay.example.com/notify/wechat/1".into(),
    }
}

fn answer(change: impl FnOnce(&mut Value)) -> Reply {
    let mut body = json!({
        "refund_id": "50000000382019052709732678859", "out_refund_no": refund_number().to_string(),
        "transaction_id": "4200001234202509010123456789", "out_trade_no": number().to_string(), "channel": "ORIGINAL",
        "status": "PROCESSING", "create_time": "2025-09-01T16:04:00+08:00",
        "amount": {"total": 100, "refund": 40, "payer_total": 90, "payer_refund": 36, "currency": "CNY", "from": []}
    });
    change(&mut body);
    ok(&body.to_string())
}

#[test]
fn a_refund_is_frozen_in_one_form() {
    let frozen = gateway("http://127.0.0.1:1").freeze_refund(&refund_ask()).unwrap();
    let rest = format!(r#""out_trade_no":"{}","out_refund_no":"{}","reason":"不要了","#, number(), refund_number())
        + r#""notify_url":"https://pay.example.com/notify/wechat/1","amount":{"refund":40,"total":100,"currency":"CNY"}}"#;
    assert_eq!(frozen.body, format!("{{{rest}"));
    assert_eq!(frozen.notify_url, "https://pay.example.com/notify/wechat/1");
    let provider = gateway_of(provider(), "http://127.0.0.1:1", "", pinned());
    let frozen = provider.freeze_refund(&refund_ask()).unwrap();
    assert_eq!(frozen.body, format!(r#"{{"sub_mchid":"{MCHID}",{rest}"#));
    // Words must not keep money from going back.
    for (reason, kept) in [(None, None), (Some("😀"), None), (Some("长"), Some("长"))] {
        let ask = RefundAsk { reason: reason.map(str::to_owned), ..refund_ask() };
        let body: Value = serde_json::from_str(&provider.freeze_refund(&ask).unwrap().body).unwrap();
        assert_eq!(body["reason"].as_str(), kept);
    }
    let long = RefundAsk { reason: Some("长".repeat(200)), ..refund_ask() };
    let body: Value = serde_json::from_str(&provider.freeze_refund(&long).unwrap().body).unwrap();
    assert_eq!(body["reason"].as_str().unwrap().chars().count(), 80);
}

#[test]
fn a_refund_that_would_surely_be_refused_is_not_frozen() {
    for ask in [
        RefundAsk { amount: Fen::new(101).unwrap(), ..refund_ask() },
        RefundAsk { total: Fen::MAX, ..refund_ask() },
        RefundAsk { notify_url: "http://pay.example.com/notify".into(), ..refund_ask() },
        RefundAsk { notify_url: "https://pay.example.com/notify?a=1".into(), ..refund_ask() },
        RefundAsk { notify_url: format!("https://pay.example.com/{}", "a".repeat(256)), ..refund_ask() },
    ] {
        assert!(gateway("http://127.0.0.1:1").freeze_refund(&ask).is_err(), "{ask:?}");
    }
}

#[tokio::test]
async fn a_refund_is_signed_and_told_with_what_the_caller_compares() {
    let done = |body: &mut Value| {
        body["status"] = "SUCCESS".into();
        body["success_time"] = "2025-09-01T16:05:00+08:00".into();
    };
    let fake = Fake::start([answer(|_| ()), answer(done), answer(done)]).await;
    let gateway = gateway(&fake.url);
    let frozen = gateway.freeze_refund(&refund_ask()).unwrap();
    let seen = gateway.refund(&number(), &refund_number(), &frozen).await.unwrap();
    let expected = RefundSeen {
        status: RefundStatus::Processing,
        wallet_refund_no: Some("50000000382019052709732678859".into()),
        amount: Fen::new(40).ok(),
        total: Fen::new(100).ok(),
        at: None,
    };
    assert_eq!(seen, expected);
    // The same number again is the same refund.
    let again = gateway.refund(&number(), &refund_number(), &frozen).await.unwrap();
    let at = Timestamp::parse_rfc3339("2025-09-01T16:05:00+08:00");
    let succeeded = RefundSeen { status: RefundStatus::Success, at, ..expected };
    assert_eq!(again, succeeded);
    let found = gateway.refund_query(&number(), &refund_number()).await.unwrap();
    assert_eq!(found, RefundFound::Seen(succeeded));
    let seen = fake.seen();
    for sent in &seen[..2] {
        assert_eq!((sent.method.as_str(), sent.path.as_str()), ("POST", "/v3/refund/domestic/refunds"));
        assert_eq!(sent.body, frozen.body);
        sent.assert_signed_by(MCHID);
    }
    assert_eq!(seen[2].path, format!("/v3/refund/domestic/refunds/{}", refund_number()));
    seen[2].assert_signed_by(MCHID);
}

#[tokio::test]
async fn a_provider_asks_for_its_merchant() {
    let fake = Fake::start([refusal(404, "RESOURCE_NOT_EXISTS")]).await;
    let gateway = gateway_of(provider(), &fake.url, "", pinned());
    assert_eq!(gateway.refund_query(&number(), &refund_number()).await.unwrap(), RefundFound::NotExist);
    let path = format!("/v3/refund/domestic/refunds/{}?sub_mchid={MCHID}", refund_number());
    assert_eq!(fake.seen()[0].path, path);
    fake.seen()[0].assert_signed_by("1900000100");
}

#[tokio::test]
async fn an_answer_about_another_refund_is_unknown_and_never_a_success() {
    let replies = [
        answer(|body| body["out_refund_no"] = "R1".into()),
        answer(|body| body["out_trade_no"] = "T1".into()),
        answer(|body| body["amount"]["refund"] = 41.into()),
        answer(|body| body["amount"]["total"] = 101.into()),
        answer(|body| body["amount"]["currency"] = "HKD".into()),
        answer(|body| body["amount"]["refund"] = 0.into()),
        answer(|body| body["status"] = "BRAND_NEW".into()),
        answer(|body| _ = body.as_object_mut().unwrap().remove("status")),
        answer(|body| body["refund_id"] = "a b".into()),
        ok("{}"),
        Reply::Unsigned(200, "{}".into()),
        Reply::Signed(202, "{}".into()),
        Reply::Unsigned(403, "<html>".into()),
        Reply::Drop,
    ];
    let count = replies.len();
    let fake = Fake::start(replies.clone()).await;
    let gateway = gateway(&fake.url);
    let frozen = gateway.freeze_refund(&refund_ask()).unwrap();
    for at in 0..count {
        let result = gateway.refund(&number(), &refund_number(), &frozen).await;
        assert!(matches!(result, Err(GatewayError::Unknown { .. })), "{at}: {result:?}");
    }
    // A question has no bytes to compare amounts with: its caller compares them with the row.
    let fake = Fake::start(replies).await;
    let gateway = super::gateway(&fake.url);
    for at in 0..count {
        let result = gateway.refund_query(&number(), &refund_number()).await;
        let told = [2, 3].contains(&at);
        assert_eq!(matches!(result, Err(GatewayError::Unknown { .. })), !told, "{at}: {result:?}");
    }
}

#[tokio::test]
async fn what_a_refused_refund_asks_for_reaches_the_caller() {
    let fake = Fake::start([refusal(403, "NOT_ENOUGH"), refusal(429, "FREQUENCY_LIMITED")]).await;
    let gateway = gateway(&fake.url);
    let frozen = gateway.freeze_refund(&refund_ask()).unwrap();
    let refused = gateway.refund(&number(), &refund_number(), &frozen).await.unwrap_err();
    assert!(matches!(refused, GatewayError::Refused { why: Refused::NotEnough, .. }), "{refused}");
    let throttled = gateway.refund(&number(), &refund_number(), &frozen).await.unwrap_err();
    assert!(matches!(throttled, GatewayError::Unknown { .. }), "{throttled}");
    let (dead, _held) = closed_port();
    let unsent = super::gateway(&dead).refund(&number(), &refund_number(), &frozen).await.unwrap_err();
    assert!(matches!(unsent, GatewayError::Busy { .. }), "{unsent}");
    // The first copy may have arrived.
    let (main, backup) = (Fake::start([Reply::Drop]).await, Fake::start([refusal(403, "NOT_ENOUGH")]).await);
    let both = gateway_of(direct(), &main.url, &backup.url, pinned());
    let result = both.refund(&number(), &refund_number(), &frozen).await;
    assert!(matches!(result, Err(GatewayError::Unknown { .. })), "{result:?}");
}

#[tokio::test]
async fn the_bytes_of_another_refund_are_not_sent() {
    let fake = Fake::start([]).await;
    let gateway = gateway(&fake.url);
    let frozen = gateway.freeze_refund(&refund_ask()).unwrap();
    let other = OutRefundNo::parse("01hzy3v9k2m4n6p8q0r2s4t6v9").unwrap();
    let refused = gateway.refund(&number(), &other, &frozen).await.unwrap_err();
    assert!(matches!(refused, GatewayError::Refused { why: Refused::Order, .. }), "{refused}");
    assert!(fake.seen().is_empty());
}
