//! Freezing, prepay, query, close.

use super::{
    super::fake::{Fake, closed_port},
    *,
};
use crate::gateway::Refused;

#[test]
fn a_direct_body_is_frozen_in_one_form() {
    let frozen = gateway("http://127.0.0.1:1").freeze(&ask()).unwrap();
    let expected = format!(
        r#"{{"appid":"{APP}","mchid":"{MCHID}","description":"咖啡（大杯）& \"甜\"","out_trade_no":"{}","#,
        number()
    ) + r#""time_expire":"2025-09-01T16:30:00+08:00","notify_url":"https://pay.example.com/notify/wechat/1","#
        + r#""amount":{"total":100,"currency":"CNY"},"payer":{"openid":"oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"}}"#;
    assert_eq!(frozen.body, expected);
    assert_eq!(frozen.notify_url, "https://pay.example.com/notify/wechat/1");
}

#[test]
fn a_providers_body_names_the_payer_by_the_app_the_phone_logged_in_to() {
    let gateway = gateway_of(provider(), "http://127.0.0.1:1", "", pinned());
    let frozen = gateway.freeze(&ask()).unwrap().body;
    let start = r#"{"sp_appid":"wx8888888888888888","sp_mchid":"1900000100","#;
    assert!(
        frozen.starts_with(&format!(r#"{start}"sub_appid":"{APP}","sub_mchid":"{MCHID}","description":"#)),
        "{frozen}"
    );
    assert!(frozen.ends_with(&format!(r#""payer":{{"sub_openid":"{OPENID}"}}}}"#)), "{frozen}");
    let own = gateway.freeze(&PrepayAsk { app_id: app("wx8888888888888888"), ..ask() }).unwrap().body;
    assert!(own.starts_with(&format!(r#"{start}"sub_mchid":"{MCHID}","description":"#)), "{own}");
    assert!(own.ends_with(&format!(r#""payer":{{"sp_openid":"{OPENID}"}}}}"#)), "{own}");
}

#[test]
fn what_wechat_would_surely_refuse_is_not_frozen() {
    let gateway = gateway("http://127.0.0.1:1");
    let with = |change: fn(&mut PrepayAsk)| {
        let mut ask = ask();
        change(&mut ask);
        gateway.freeze(&ask)
    };
    assert!(with(|ask| ask.good_name = "字".repeat(127)).is_ok());
    assert!(with(|ask| ask.notify_url = "http://127.0.0.1:8080/notify/wechat/1".into()).is_ok());
    for refused in [
        with(|ask| ask.good_name = "字".repeat(128)),
        with(|ask| ask.good_name = "咖啡☕😀".into()),
        with(|ask| ask.good_name = "a\nb".into()),
        with(|ask| ask.good_name = " ".into()),
        with(|ask| ask.amount = Fen::MAX),
        with(|ask| ask.app_id = app("wx0000000000000000")),
        with(|ask| ask.payer = Payer::new(PayerKind::AlipayOpenId, "x").unwrap()),
        with(|ask| ask.notify_url = "https://pay.example.com/notify?a=1".into()),
        with(|ask| ask.notify_url = "http://pay.example.com/notify".into()),
        with(|ask| ask.notify_url = format!("https://pay.example.com/{}", "a".repeat(255))),
    ] {
        let why = refused.unwrap_err();
        assert!(!why.contains(OPENID), "{why}");
    }
}

#[tokio::test]
async fn a_prepay_is_signed_and_its_verified_answer_is_a_ticket() {
    for (mode, path, mchid) in [
        (direct(), "/v3/pay/transactions/jsapi", MCHID),
        (provider(), "/v3/pay/partner/transactions/jsapi", "1900000100"),
    ] {
        let fake = Fake::start([ok(TICKET)]).await;
        let gateway = gateway_of(mode, &fake.url, "", pinned());
        let frozen = gateway.freeze(&ask()).unwrap();
        let ticket = gateway.prepay(&number(), &frozen).await.unwrap();
        assert_eq!(ticket.0, "wx01090000000000abcdef0123456789ab00");
        let seen = &fake.seen()[0];
        assert_eq!((seen.method.as_str(), seen.path.as_str(), &seen.body), ("POST", path, &frozen.body));
        assert_eq!(seen.header("content-type"), "application/json");
        assert_eq!(seen.header("wechatpay-serial"), public_key_id());
        seen.assert_signed_by(mchid);
    }
}

#[tokio::test]
async fn an_answer_that_does_not_verify_is_unknown_and_never_a_ticket() {
    let spoilt = |header, value, double| Reply::Spoilt { status: 200, body: TICKET.into(), header, value, double };
    let replies = [
        Reply::Unsigned(200, TICKET.into()),
        spoilt("Wechatpay-Signature", "WECHATPAY/SIGNTEST/odd", false),
        spoilt("Wechatpay-Signature", "", false),
        spoilt("Wechatpay-Signature", "AAAA", true),
        spoilt("Wechatpay-Serial", "PUB_KEY_ID_9", false),
        spoilt("Wechatpay-Timestamp", "1756713900", false),
        spoilt("Wechatpay-Signature-Type", "WECHATPAY2-SM2-WITH-SM3", false),
        ok("{}"),
        ok("not json"),
        ok(r#"{"prepay_id":""}"#),
        ok(r#"{"prepay_id":"wx1\nwx2"}"#),
        Reply::Signed(202, TICKET.into()),
        Reply::Signed(204, String::new()),
        Reply::Unsigned(302, String::new()),
        // An error whose signature is wrong decides nothing, one of a strange page neither.
        Reply::Spoilt {
            status: 400,
            body: r#"{"code":"PARAM_ERROR","message":"m"}"#.into(),
            header: "Wechatpay-Signature",
            value: "AAAA",
            double: false,
        },
        Reply::Unsigned(403, "<html>".into()),
        Reply::Drop,
    ];
    let count = replies.len();
    let fake = Fake::start(replies).await;
    let gateway = gateway(&fake.url);
    let frozen = gateway.freeze(&ask()).unwrap();
    for at in 0..count {
        let result = gateway.prepay(&number(), &frozen).await;
        assert!(matches!(result, Err(GatewayError::Unknown { .. })), "{at}: {result:?}");
    }
    assert_eq!(fake.seen().len(), count);
}

#[tokio::test]
async fn an_error_is_taken_signed_or_without_signature() {
    let body = r#"{"code":"APPID_MCHID_NOT_MATCH","message":"m"}"#;
    let fake = Fake::start([Reply::Unsigned(400, body.into()), Reply::Signed(400, body.into())]).await;
    let gateway = gateway(&fake.url);
    let frozen = gateway.freeze(&ask()).unwrap();
    for _ in 0..2 {
        let error = gateway.prepay(&number(), &frozen).await.unwrap_err();
        assert!(matches!(error, GatewayError::Refused { why: Refused::Configuration, .. }), "{error}");
    }
}

#[tokio::test]
async fn the_backup_gets_the_very_same_request_once() {
    let (main, backup) = (Fake::start([Reply::Drop]).await, Fake::start([ok(TICKET)]).await);
    let gateway = gateway_of(direct(), &main.url, &backup.url, pinned());
    let frozen = gateway.freeze(&ask()).unwrap();
    gateway.prepay(&number(), &frozen).await.unwrap();
    let (first, second) = (&main.seen()[0], &backup.seen()[0]);
    assert_eq!((&first.path, &first.body), (&second.path, &second.body));
    assert_eq!(first.header("authorization"), second.header("authorization"));
    second.assert_signed_by(MCHID);
    // An answer of the main host, whatever it is, goes nowhere else.
    let (main, backup) = (Fake::start([refusal(500, "SYSTEM_ERROR")]).await, Fake::start([ok(TICKET)]).await);
    let gateway = gateway_of(direct(), &main.url, &backup.url, pinned());
    assert!(matches!(gateway.prepay(&number(), &frozen).await, Err(GatewayError::Unknown { .. })));
    assert_eq!(backup.seen().len(), 0);
}

#[tokio::test]
async fn what_was_surely_not_sent_is_told_apart_from_what_may_have_been() {
    let busy = |result: &Result<Ticket, GatewayError>| matches!(result, Err(GatewayError::Busy { .. }));
    let unknown = |result: &Result<Ticket, GatewayError>| matches!(result, Err(GatewayError::Unknown { .. }));
    let ((dead, _held), (dead_too, _held_too)) = (closed_port(), closed_port());
    let frozen = gateway(&dead).freeze(&ask()).unwrap();
    let prepay =
        async |main: &str, backup: &str| gateway_of(direct(), main, backup, pinned()).prepay(&number(), &frozen).await;
    assert!(busy(&prepay(&dead, "").await));
    assert!(busy(&prepay(&dead, &dead_too).await));
    // The first copy may have arrived: neither a refusal nor "busy" of the second host says anything about it.
    for second in [refusal(403, "RULE_LIMIT"), refusal(429, "FREQUENCY_LIMITED"), Reply::Drop] {
        let (main, backup) = (Fake::start([Reply::Drop]).await, Fake::start([second]).await);
        let result = prepay(&main.url, &backup.url).await;
        assert!(unknown(&result), "{result:?}");
    }
    let main = Fake::start([Reply::Drop]).await;
    assert!(unknown(&prepay(&main.url, &dead).await));
    // The main host was not reached at all: the backup's word is definite.
    let backup = Fake::start([refusal(403, "RULE_LIMIT")]).await;
    let result = prepay(&dead, &backup.url).await;
    assert!(matches!(result, Err(GatewayError::Refused { why: Refused::Order, .. })), "{result:?}");
}

#[tokio::test]
async fn a_query_tells_paid_unpaid_closed_and_not_exist() {
    let state = |state: &str| {
        let mut body = paid_body(MCHID);
        body["trade_state"] = state.into();
        ok(&body.to_string())
    };
    let fake = Fake::start([
        ok(&paid_body(MCHID).to_string()),
        state("NOTPAY"),
        state("CLOSED"),
        refusal(404, "ORDERNOTEXIST"),
        Reply::Unsigned(404, r#"{"code":"ORDER_NOT_EXIST","message":"m"}"#.into()),
        ok(&paid_body("1900000110").to_string()),
        state("REVOKED"),
        Reply::Unsigned(404, "<html>".into()),
    ])
    .await;
    let gateway = gateway(&fake.url);
    let Ok(TradeState::Paid(paid)) = gateway.query(&number()).await else { panic!("not paid") };
    assert_eq!((paid.amount, paid.foreign), (Some(Fen::new(100).unwrap()), None));
    assert_eq!(gateway.query(&number()).await.unwrap(), TradeState::Unpaid);
    assert_eq!(gateway.query(&number()).await.unwrap(), TradeState::Closed);
    assert_eq!(gateway.query(&number()).await.unwrap(), TradeState::NotExist);
    assert_eq!(gateway.query(&number()).await.unwrap(), TradeState::NotExist);
    let Ok(TradeState::Paid(paid)) = gateway.query(&number()).await else { panic!("not paid") };
    assert_eq!(paid.foreign.as_deref(), Some("mchid"));
    for _ in 0..2 {
        assert!(matches!(gateway.query(&number()).await, Err(GatewayError::Unknown { .. })));
    }
    let seen = &fake.seen()[0];
    assert_eq!(seen.path, format!("/v3/pay/transactions/out-trade-no/{}?mchid={MCHID}", number()));
    seen.assert_signed_by(MCHID);
}

#[tokio::test]
async fn a_close_is_believed_only_when_verified() {
    let fake = Fake::start([
        Reply::Signed(204, String::new()),
        Reply::Unsigned(204, String::new()),
        refusal(400, "ORDERPAID"),
        refusal(404, "ORDER_NOT_EXIST"),
        Reply::Signed(200, "{}".into()),
    ])
    .await;
    let gateway = gateway_of(provider(), &fake.url, "", pinned());
    assert_eq!(gateway.close(&number()).await.unwrap(), CloseAnswer::Closed);
    assert!(matches!(gateway.close(&number()).await, Err(GatewayError::Unknown { .. })));
    assert_eq!(gateway.close(&number()).await.unwrap(), CloseAnswer::AskFirst);
    assert_eq!(gateway.close(&number()).await.unwrap(), CloseAnswer::NotExist);
    assert!(matches!(gateway.close(&number()).await, Err(GatewayError::Unknown { .. })));
    let seen = &fake.seen()[0];
    assert_eq!(seen.path, format!("/v3/pay/partner/transactions/out-trade-no/{}/close", number()));
    assert_eq!(seen.body, format!(r#"{{"sp_mchid":"1900000100","sub_mchid":"{MCHID}"}}"#));
    seen.assert_signed_by("1900000100");
}
