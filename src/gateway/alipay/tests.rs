//! The gateway against a small wallet that checks our signature and signs its answers.

use tokio::net::TcpSocket;

use super::{
    fake::{Answer, FakeWallet},
    *,
};
use crate::{
    domain::money::{Fen, Sum},
    gateway::{
        PaidTrade, Refused,
        http::{self, HttpSettings},
    },
};

mod bills;
mod extras;
mod refunds;
mod two_keys;

fn public_keys() -> AlipayPublicKeys {
    AlipayPublicKeys {
        alipay_public_key: Some(testing::read("keys/derived/alipay_public.pem")),
        ..AlipayPublicKeys::default()
    }
}

fn secrets() -> AlipaySecrets {
    let private_key = testing::read("keys/derived/app_private_pkcs8.pem");
    AlipaySecrets { private_key, older_private_key: None, app_auth_token: None }
}

fn app(app_id: &str, exchange: CodeExchange) -> AlipayApp {
    AlipayApp { app_id: AppId::parse(app_id).unwrap(), exchange }
}

fn http_client() -> reqwest::Client {
    http::client(&HttpSettings::default()).unwrap()
}

fn settings(url: &str, more: &str) -> AlipaySettings {
    AlipaySettings::from_json(&format!(r#"{{"app_id":"2021000000000001","gateway_url":"{url}"{more}}}"#)).unwrap()
}

fn gateway(url: &str) -> AlipayGateway {
    let own = CodeExchange::OwnKey {
        private_key: testing::read("keys/derived/app_private_pkcs1.pem"),
        signing: Signing::PublicKey,
        public_keys: public_keys(),
    };
    let apps = vec![
        app("2021000000000001", CodeExchange::CallingApp),
        app("2021000000000009", own),
        app("2021000000000010", CodeExchange::Never),
    ];
    AlipayGateway::new(settings(url, ""), secrets(), public_keys(), apps, http_client()).unwrap()
}

fn ask(app_id: &str) -> PrepayAsk {
    PrepayAsk {
        out_trade_no: testing::number(),
        amount: Fen::new(8888).unwrap(),
        good_name: "测试商品 A+B 100%".to_owned(),
        good_no: None,
        app_id: AppId::parse(app_id).unwrap(),
        payer: Payer::new(PayerKind::AlipayUserId, "2088102146225135").unwrap(),
        payer_ip: None,
        expire_at: Timestamp::from_secs(1_772_337_600),
        notify_url: "https://pay.example.com/notify/alipay/1".to_owned(),
    }
}

/// A node with our number in it; leaked, because an answer of these tests lives as long as they do.
fn node(text: &str) -> &'static str {
    Box::leak(text.replace("NUMBER", &testing::number().to_string()).into_boxed_str())
}

#[tokio::test]
async fn a_prepay_sends_the_frozen_bytes_and_answers_with_the_trade_no() {
    let made = r#"{"code":"10000","msg":"Success","out_trade_no":"NUMBER","trade_no":"2026030122001400000000000001"}"#;
    let wallet = FakeWallet::start([Answer::Signed(node(made)), Answer::Signed(node(made))]).await;
    let gateway = gateway(&wallet.url);
    let frozen = gateway.freeze(&ask("2021000000000009")).unwrap();
    assert_eq!(gateway.freeze(&ask("2021000000000009")).unwrap(), frozen);
    for _ in 0..2 {
        let ticket = gateway.prepay(&testing::number(), &frozen).await.unwrap();
        assert_eq!(ticket, Ticket("2026030122001400000000000001".to_owned()));
        let app_id = AppId::parse("2021000000000009").unwrap();
        let PayParams::Alipay { trade_no } = gateway.pay_params(&app_id, &ticket, Timestamp::from_ms(0)) else {
            panic!("another wallet's")
        };
        assert_eq!(trade_no, "2026030122001400000000000001");
    }
    for asked in wallet.asked() {
        assert_eq!(asked["method"], "alipay.trade.create");
        assert_eq!(asked["biz_content"], frozen.body);
        assert_eq!(asked["notify_url"], frozen.notify_url);
        assert!(!asked.contains_key("app_auth_token") && !asked.contains_key("app_cert_sn"));
        let sent_at = Timestamp::parse_china_text(&asked["timestamp"]).unwrap();
        assert!(now().since(sent_at).as_secs() < 60 && sent_at <= now());
    }
}

#[tokio::test]
async fn a_prepay_whose_answer_cannot_be_relied_on_is_unknown() {
    let other_number = r#"{"code":"10000","out_trade_no":"another","trade_no":"2026030122001400000000000001"}"#;
    let unsigned = r#"{"alipay_trade_create_response":{"code":"10000","out_trade_no":"NUMBER","trade_no":"1"}}"#;
    let wallet = FakeWallet::start([
        Answer::Signed(other_number),
        Answer::Signed(node(r#"{"code":"10000","out_trade_no":"NUMBER"}"#)),
        Answer::Raw(200, node(unsigned).to_owned()),
        Answer::Raw(200, "<html>busy</html>".to_owned()),
        Answer::Raw(502, "<html>bad gateway</html>".to_owned()),
        Answer::Raw(302, String::new()),
        Answer::Raw(200, format!("{{\"x\":\"{}\"}}", "x".repeat(600 * 1024))),
        Answer::Nothing,
        Answer::Signed(r#"{"code":"20000","sub_code":"isp.unknow-error"}"#),
        Answer::Signed(r#"{"code":"40004","sub_code":"ACQ.SYSTEM_ERROR"}"#),
    ])
    .await;
    let gateway = gateway(&wallet.url);
    let frozen = gateway.freeze(&ask("2021000000000001")).unwrap();
    for at in 0..10 {
        let answered = gateway.prepay(&testing::number(), &frozen).await;
        assert!(matches!(answered, Err(GatewayError::Unknown { .. })), "{at}: {answered:?}");
    }
}

#[tokio::test]
async fn a_refused_prepay_says_whose_move_it_is() {
    let wallet = FakeWallet::start([
        Answer::Signed(r#"{"code":"40004","sub_code":"ACQ.TRADE_HAS_SUCCESS","total_amount":"0.00"}"#),
        Answer::Signed(r#"{"code":"40004","sub_code":"ACQ.BUYER_NOT_EXIST"}"#),
        Answer::Raw(
            200,
            r#"{"alipay_trade_create_response":{"code":"40002","sub_code":"isv.invalid-app-id"}}"#.to_owned(),
        ),
        Answer::Raw(200, r#"{"error_response":{"code":"40006","sub_code":"isv.ip-forbidden"}}"#.to_owned()),
        Answer::Raw(429, String::new()),
    ])
    .await;
    let gateway = gateway(&wallet.url);
    let frozen = gateway.freeze(&ask("2021000000000001")).unwrap();
    let mut told = Vec::new();
    for _ in 0..5 {
        told.push(match gateway.prepay(&testing::number(), &frozen).await.unwrap_err() {
            GatewayError::AskFirst { code, .. } => format!("ask {code}"),
            GatewayError::Refused { code, why, .. } => format!("{why:?} {code}"),
            GatewayError::Busy { code, .. } => format!("busy {code}"),
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(
        told,
        [
            "ask ACQ.TRADE_HAS_SUCCESS",
            "Identity ACQ.BUYER_NOT_EXIST",
            "Configuration isv.invalid-app-id",
            "Configuration isv.ip-forbidden",
            "busy HTTP 429"
        ]
    );
}

#[tokio::test]
async fn a_wallet_that_cannot_be_reached_was_not_asked() {
    // Bound and not listened on, so that nobody else is given the port.
    let kept = TcpSocket::new_v4().unwrap();
    kept.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let gateway = gateway(&format!("http://{}/gateway.do", kept.local_addr().unwrap()));
    let frozen = gateway.freeze(&ask("2021000000000001")).unwrap();
    let answered = gateway.prepay(&testing::number(), &frozen).await;
    assert!(matches!(answered, Err(GatewayError::Busy { .. })), "{answered:?}");
    let code = LoginCode::parse("4b203fe6c11548bcabd8da5bb087a83b").unwrap();
    let exchanged = gateway.exchange(&AppId::parse("2021000000000001").unwrap(), &code).await;
    assert!(matches!(exchanged, Err(ExchangeError::Busy { .. })), "{exchanged:?}");
}

#[tokio::test]
async fn a_query_tells_the_state() {
    let paid = r#"{"code":"10000","out_trade_no":"NUMBER","trade_no":"2026030122001400000000000001","trade_status":"TRADE_SUCCESS","total_amount":"88.88","buyer_pay_amount":"88.88","send_pay_date":"2026-03-01 12:01:30"}"#;
    let wallet = FakeWallet::start([
        Answer::Signed(node(paid)),
        Answer::Signed(node(
            r#"{"code":"10000","out_trade_no":"NUMBER","trade_no":"1","trade_status":"WAIT_BUYER_PAY"}"#,
        )),
        Answer::Signed(node(
            r#"{"code":"10000","out_trade_no":"NUMBER","trade_no":"1","trade_status":"TRADE_CLOSED"}"#,
        )),
        Answer::Signed(r#"{"code":"40004","sub_code":"ACQ.TRADE_NOT_EXIST","buyer_pay_amount":"0.00"}"#),
        Answer::Signed(r#"{"code":"10000","out_trade_no":"other","trade_no":"1","trade_status":"TRADE_CLOSED"}"#),
    ])
    .await;
    let gateway = gateway(&wallet.url);
    let number = testing::number();
    assert_eq!(
        gateway.query(&number).await.unwrap(),
        TradeState::Paid(PaidTrade {
            trade_no: TradeNo::parse("2026030122001400000000000001").unwrap(),
            amount: Fen::new(8888).ok(),
            payer_amount: Sum::new(8888).ok(),
            paid_at: Timestamp::parse_china_text("2026-03-01 12:01:30").unwrap(),
            foreign: None,
        })
    );
    assert_eq!(gateway.query(&number).await.unwrap(), TradeState::Unpaid);
    assert_eq!(gateway.query(&number).await.unwrap(), TradeState::Closed);
    assert_eq!(gateway.query(&number).await.unwrap(), TradeState::NotExist);
    assert!(matches!(gateway.query(&number).await, Err(GatewayError::Unknown { .. })));
    assert_eq!(wallet.asked()[0]["biz_content"], format!(r#"{{"out_trade_no":"{number}"}}"#));
}

#[tokio::test]
async fn a_close_ends_closed_or_asks_first() {
    let wallet = FakeWallet::start([
        Answer::Signed(node(r#"{"code":"10000","out_trade_no":"NUMBER","trade_no":"1"}"#)),
        Answer::Signed(r#"{"code":"40004","sub_code":"ACQ.TRADE_STATUS_ERROR"}"#),
        Answer::Signed(r#"{"code":"40004","sub_code":"ACQ.TRADE_NOT_EXIST"}"#),
        Answer::Nothing,
    ])
    .await;
    let gateway = gateway(&wallet.url);
    let number = testing::number();
    assert_eq!(gateway.close(&number).await.unwrap(), CloseAnswer::Closed);
    assert_eq!(gateway.close(&number).await.unwrap(), CloseAnswer::AskFirst);
    assert_eq!(gateway.close(&number).await.unwrap(), CloseAnswer::NotExist);
    assert!(matches!(gateway.close(&number).await, Err(GatewayError::Unknown { .. })));
}

#[tokio::test]
async fn a_code_becomes_a_payer_under_the_name_the_answer_used() {
    let wallet = FakeWallet::start([
        Answer::Signed(r#"{"user_id":"2088102146225135","access_token":"a","expires_in":1296000}"#),
        Answer::Signed(r#"{"open_id":"083luGU2ef8yeC95sroZ9WGyojnYtj3lBoBA6lY_2PlBrU4","expires_in":"1296000"}"#),
        Answer::Signed(r#"{"user_id":"2088102146225135","open_id":"083luGU2ef8yeC95"}"#),
        Answer::Signed(r#"{"access_token":"a"}"#),
        Answer::Signed(r#"{"code":"40002","sub_code":"isv.code-invalid"}"#),
        Answer::Nothing,
    ])
    .await;
    let gateway = gateway(&wallet.url);
    let code = LoginCode::parse("4b203fe6c11548bcabd8da5bb087a83b").unwrap();
    let calling = AppId::parse("2021000000000001").unwrap();
    let own = AppId::parse("2021000000000009").unwrap();
    let payer = gateway.exchange(&calling, &code).await.unwrap();
    assert_eq!((payer.kind, payer.expose_id()), (PayerKind::AlipayUserId, "2088102146225135"));
    let payer = gateway.exchange(&own, &code).await.unwrap();
    assert_eq!(payer.kind, PayerKind::AlipayOpenId);
    let payer = gateway.exchange(&calling, &code).await.unwrap();
    assert_eq!(payer.kind, PayerKind::AlipayUserId, "both came");
    assert!(matches!(gateway.exchange(&calling, &code).await, Err(ExchangeError::Unknown { .. })));
    assert!(matches!(gateway.exchange(&calling, &code).await, Err(ExchangeError::CodeRefused { .. })));
    assert!(matches!(gateway.exchange(&calling, &code).await, Err(ExchangeError::Unknown { .. })));
    for nobody in ["2021000000000010", "2021000000000011"] {
        let refused = gateway.exchange(&AppId::parse(nobody).unwrap(), &code).await;
        assert!(matches!(refused, Err(ExchangeError::Configuration { .. })), "{refused:?}");
    }

    let asked = wallet.asked();
    assert_eq!(asked.len(), 6);
    assert_eq!(asked[0]["grant_type"], "authorization_code");
    assert_eq!(asked[0]["code"], "4b203fe6c11548bcabd8da5bb087a83b");
    assert!(!asked[0].contains_key("biz_content"));
    assert_eq!((asked[0]["app_id"].as_str(), asked[1]["app_id"].as_str()), ("2021000000000001", "2021000000000009"));
}

#[test]
fn both_ids_are_chosen_by_the_setting() {
    let token = |user_id: Option<&str>, open_id: Option<&str>| TokenAnswer {
        user_id: user_id.map(str::to_owned),
        open_id: open_id.map(str::to_owned),
    };
    let kind = |token, preferred| payer(token, preferred).map(|payer| payer.kind);
    let (user, open) = (Some("2088102146225135"), Some("083luGU2ef8yeC95"));
    assert_eq!(kind(token(user, open), PreferredId::UserId), Ok(PayerKind::AlipayUserId));
    assert_eq!(kind(token(user, open), PreferredId::OpenId), Ok(PayerKind::AlipayOpenId));
    assert_eq!(kind(token(user, None), PreferredId::OpenId), Ok(PayerKind::AlipayUserId));
    assert_eq!(kind(token(None, open), PreferredId::UserId), Ok(PayerKind::AlipayOpenId));
}

#[tokio::test]
async fn a_provider_names_its_merchant_in_every_call_about_a_trade() {
    let wallet = FakeWallet::start([
        Answer::Signed(r#"{"code":"40004","sub_code":"ACQ.TRADE_NOT_EXIST"}"#),
        Answer::Signed(r#"{"open_id":"083luGU2ef8yeC95"}"#),
    ])
    .await;
    let settings = settings(&wallet.url, r#","mode":"provider","merchant_app_id":"2021000000000009""#);
    let mut secrets = secrets();
    secrets.app_auth_token = Some("merchant-token".to_owned());
    let by_token = CodeExchange::AppAuthToken { app_auth_token: "mini-program-token".to_owned() };
    let apps = vec![app("2021000000000009", by_token)];
    let gateway = AlipayGateway::new(settings, secrets, public_keys(), apps, http_client()).unwrap();
    assert_eq!(gateway.query(&testing::number()).await.unwrap(), TradeState::NotExist);
    let code = LoginCode::parse("4b203fe6c11548bcabd8da5bb087a83b").unwrap();
    gateway.exchange(&AppId::parse("2021000000000009").unwrap(), &code).await.unwrap();
    let asked = wallet.asked();
    assert_eq!(asked[0]["app_auth_token"], "merchant-token");
    assert_eq!(
        (asked[1]["app_auth_token"].as_str(), asked[1]["app_id"].as_str()),
        ("mini-program-token", "2021000000000001")
    );
}

#[tokio::test]
async fn a_successor_certificate_is_fetched_with_the_answer_that_needs_it() {
    let second = testing::read("certs/succession/alipay_second.crt");
    let sn = cert_sn(&second).unwrap();
    let content = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &second);
    let not_exist = || Answer::Certified {
        node: r#"{"code":"40004","sub_code":"ACQ.TRADE_NOT_EXIST"}"#.to_owned(),
        key: "certs/succession/second_private.pem",
        sn: sn.clone(),
    };
    let download = format!(
        r#"{{"alipay_open_app_alipaycert_download_response":{{"code":"10000","alipay_cert_content":"{content}"}}}}"#
    );
    let wallet = FakeWallet::start([not_exist(), Answer::Raw(200, download), not_exist()]).await;
    let settings = settings(&wallet.url, r#","signing":"certificate""#);
    let apps = vec![app("2021000000000001", CodeExchange::CallingApp)];
    let gateway = AlipayGateway::new(settings, secrets(), testing::succession_keys(), apps, http_client()).unwrap();
    let text = gateway.fetch_public_keys().await.unwrap().unwrap();
    let kept = AlipayPublicKeys::from_json(&text).unwrap();
    assert_eq!(kept.alipay_certs.len(), 2);
    assert_eq!(cert_sn(&kept.alipay_certs[1]), Ok(sn.clone()));
    assert_eq!(gateway.query(&testing::number()).await.unwrap(), TradeState::NotExist);

    let asked = wallet.asked();
    assert_eq!(asked[1]["method"], "alipay.open.app.alipaycert.download");
    assert_eq!(asked[1]["biz_content"], format!(r#"{{"alipay_cert_sn":"{sn}"}}"#));
    let keys = testing::succession_keys();
    assert_eq!(asked[0]["app_cert_sn"], cert_sn(keys.app_cert.as_deref().unwrap()).unwrap());
    assert_eq!(asked[0]["alipay_root_cert_sn"], root_cert_sn(keys.root_cert.as_deref().unwrap()).unwrap());
}

#[tokio::test]
async fn public_key_mode_has_nothing_to_fetch() {
    let gateway = gateway("http://127.0.0.1:9/gateway.do");
    assert_eq!(gateway.fetch_public_keys().await.unwrap(), None);
}

#[tokio::test]
async fn an_examination_proves_keys_and_registration() {
    let wallet = FakeWallet::start([
        Answer::Signed(r#"{"code":"40004","sub_code":"ACQ.TRADE_NOT_EXIST"}"#),
        Answer::Signed(r#"{"code":"40002","sub_code":"isv.code-invalid"}"#),
        Answer::Raw(200, r#"{"error_response":{"code":"40002","sub_code":"isv.invalid-signature"}}"#.to_owned()),
    ])
    .await;
    let lines = gateway(&wallet.url).examine(OrderId::fresh()).await;
    assert_eq!(lines.len(), 3, "the mini-program without exchange is left out");
    assert!(lines[0].result.is_ok() && lines[1].result.is_ok(), "{lines:?}");
    let advice = lines[2].result.as_ref().unwrap_err();
    assert!(advice.contains("private key") && lines[2].check.contains("2021000000000009"), "{lines:?}");
}

#[test]
fn mixed_up_settings_are_named() {
    let make = |settings: AlipaySettings, secrets: AlipaySecrets, keys: AlipayPublicKeys, apps: Vec<AlipayApp>| {
        AlipayGateway::new(settings, secrets, keys, apps, http_client()).err().unwrap()
    };
    let plain = || settings(PRODUCTION, "");
    let mut with_token = secrets();
    with_token.app_auth_token = Some("t".to_owned());
    let mut unreadable = secrets();
    unreadable.private_key = "x".to_owned();
    let mut with_older = secrets();
    with_older.older_private_key = Some("x".to_owned());
    for (line, wanted) in [
        (make(settings(PRODUCTION, r#","mode":"provider""#), secrets(), public_keys(), vec![]), "needs app_auth_token"),
        (make(plain(), with_token, public_keys(), vec![]), "belongs to mode provider"),
        (make(settings("http://example.com/gateway.do", ""), secrets(), public_keys(), vec![]), "must be https"),
        (
            make(
                plain(),
                secrets(),
                AlipayPublicKeys {
                    alipay_public_key: Some(testing::read("keys/derived/app_public.pem")),
                    ..AlipayPublicKeys::default()
                },
                vec![],
            ),
            "own public key",
        ),
        (make(plain(), unreadable, public_keys(), vec![]), "private_key"),
        (make(plain(), with_older.clone(), public_keys(), vec![]), "older_private_key"),
        (
            make(settings(PRODUCTION, r#","signing":"certificate""#), with_older, public_keys(), vec![]),
            "belongs to public-key mode",
        ),
        (
            make(plain(), secrets(), public_keys(), vec![app("2021000000000009", CodeExchange::CallingApp)]),
            "not the calling application",
        ),
        (
            make(
                plain(),
                secrets(),
                public_keys(),
                vec![app("2021000000000009", CodeExchange::AppAuthToken { app_auth_token: "t".to_owned() })],
            ),
            "mode provider",
        ),
        (
            make(settings(PRODUCTION, r#","signing":"certificate""#), secrets(), public_keys(), vec![]),
            "app_cert is missing",
        ),
    ] {
        assert!(line.starts_with("alipay account 2021000000000001: ") && line.contains(wanted), "{line}");
    }
}

#[test]
fn what_alipay_would_surely_refuse_is_not_frozen() {
    let gateway = gateway(PRODUCTION);
    assert!(gateway.freeze(&ask("2021000000000009")).is_ok());
    assert!(gateway.freeze(&ask("2021000000000011")).is_err(), "a mini-program of another account");
    assert!(gateway.freeze(&PrepayAsk { notify_url: "x".repeat(257), ..ask("2021000000000009") }).is_err());
    assert!(gateway.freeze(&PrepayAsk { good_name: "  ".to_owned(), ..ask("2021000000000009") }).is_err());
    let wechat = Payer::new(PayerKind::WechatOpenid, "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o").unwrap();
    assert!(gateway.freeze(&PrepayAsk { payer: wechat, ..ask("2021000000000009") }).is_err());
}

#[test]
fn a_refusal_shows_no_identity() {
    let error = GatewayError::Refused {
        wallet: Wallet::Alipay,
        code: "ACQ.BUYER_NOT_EXIST".to_owned(),
        why: Refused::Identity,
    };
    assert_eq!(error.to_string(), "alipay refused: ACQ.BUYER_NOT_EXIST");
}
