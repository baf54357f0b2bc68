//! Which requests are let in.

use std::time::Duration;

use serde_json::json;

use super::{Call, Shop};
use crate::wechat::{ForeignOpenid, KeyMode, MerchantOptions};
use crate::{Fault, FaultKind, Options};

#[tokio::test]
async fn a_request_is_let_in_only_as_signed() {
    let shop = Shop::open().await;
    let other =
        shop.simulator.wechat().new_merchant(MerchantOptions { own_key: true, ..Default::default() }).expect("enrols");
    type Spoil<'a> = Box<dyn Fn(&mut Call<'_>) + 'a>;
    let table: Vec<(&str, Spoil<'_>, (u16, &str))> = vec![
        ("proper", Box::new(|_| {}), (200, "")),
        ("290 s old", Box::new(|call| call.timestamp -= 290), (200, "")),
        ("301 s old", Box::new(|call| call.timestamp -= 302), (401, "SIGN_ERROR")),
        ("330 s ahead", Box::new(|call| call.timestamp += 330), (401, "SIGN_ERROR")),
        ("another body", Box::new(|call| call.signed_body = Some("{}".into())), (401, "SIGN_ERROR")),
        ("an unknown serial", Box::new(|call| call.serial_no = "00".into()), (401, "SIGN_ERROR")),
        ("another's serial", Box::new(|call| call.serial_no.clone_from(&other.serial_no)), (401, "SIGN_ERROR")),
        ("an unknown mchid", Box::new(|call| call.mchid = "1".into()), (401, "SIGN_ERROR")),
        ("no Accept", Box::new(|call| call.accept = false), (400, "PARAM_ERROR")),
        ("no User-Agent", Box::new(|call| call.user_agent = false), (400, "PARAM_ERROR")),
        (
            "another mchid in the body",
            Box::new(|call| call.body = call.body.replace(&shop.merchant.mchid, &other.mchid)),
            (401, "SIGN_ERROR"),
        ),
        (
            "unknown key",
            Box::new(|call| call.body = call.body.replace("description", "descriptions")),
            (400, "PARAM_ERROR"),
        ),
        ("null", Box::new(|call| call.body = call.body.replace(r#""CNY""#, "null")), (400, "PARAM_ERROR")),
        ("emoji", Box::new(|call| call.body = call.body.replace("咖啡", "😀")), (400, "PARAM_ERROR")),
        ("total 0", Box::new(|call| call.body = call.body.replace("1999", "0")), (400, "PARAM_ERROR")),
        ("a short number", Box::new(|call| call.body = call.body.replace("T00001", "T0001")), (400, "PARAM_ERROR")),
        (
            "a query in notify_url",
            Box::new(|call| call.body = call.body.replace("/notify", "/notify?a=1")),
            (400, "PARAM_ERROR"),
        ),
        (
            "a foreign app",
            Box::new(|call| call.body = call.body.replace(&shop.app.appid, "wx0000000000000000")),
            (400, "APPID_MCHID_NOT_MATCH"),
        ),
        ("a foreign openid", Box::new(|call| call.body = call.body.replace(&shop.openid, "o0")), (400, "PARAM_ERROR")),
    ];
    for (what, spoil, expected) in table {
        let mut call = shop.call("POST", "/v3/pay/transactions/jsapi", shop.order("T00001"));
        spoil(&mut call);
        let got = shop.send(call).await;
        assert_eq!(got.told(), (expected.0, expected.1.to_owned()), "{what}");
        assert!(got.header("Request-ID").contains('-'), "{what}");
    }
    // Refused first calls create nothing.
    assert!(shop.simulator.wechat().order(&shop.merchant.mchid, "T0001").is_none());
    assert_eq!(shop.simulator.wechat().orders(&shop.merchant.mchid, "T").len(), 1);
}

#[tokio::test]
async fn a_missing_openid_is_named_and_a_foreign_one_follows_the_switch() {
    let shop = Shop::open().await;
    let mut order = shop.order("T00001");
    order["payer"] = json!({});
    let got = shop.prepay(&order).await;
    assert_eq!((got.status, got.json()["detail"]["field"].as_str()), (400, Some("/body/payer/openid")));
    assert!(got.header("Request-ID").ends_with("-268501013"));

    let app = shop.simulator.wechat().new_app(&shop.merchant.mchid);
    order["payer"] = json!({ "openid": shop.simulator.wechat().new_openid(&app.appid) });
    assert_eq!(shop.prepay(&order).await.told(), (400, "PARAM_ERROR".into()));
    shop.simulator.wechat().set_switches(|switches| switches.foreign_openid = ForeignOpenid::OpenidMismatch);
    assert_eq!(shop.prepay(&order).await.told(), (500, "OPENID_MISMATCH".into()));
}

#[tokio::test]
async fn answers_are_signed_with_the_key_of_the_mode() {
    for (mode, asked_certificate, by_certificate) in [
        (KeyMode::PublicKey, false, false),
        (KeyMode::PublicKey, true, false),
        (KeyMode::Certificate, false, true),
        (KeyMode::Certificate, true, true),
        (KeyMode::Mixed, false, false),
        (KeyMode::Mixed, true, true),
    ] {
        let shop = Shop::open_with(Options::default(), MerchantOptions { key_mode: mode, ..Default::default() }).await;
        let certificate_key =
            crate::keys::shared(crate::keys::shared_number::WECHAT_CERTIFICATES).expect("a key").public_key_pem();
        let mut call = shop.call("POST", "/v3/pay/transactions/jsapi", shop.order("T00001"));
        if asked_certificate {
            call.asked = Some(shop.merchant.platform_serial_no.clone());
        }
        let got = shop.send(call).await;
        let (serial, key) = if by_certificate {
            (&shop.merchant.platform_serial_no, &certificate_key)
        } else {
            (&shop.merchant.public_key_id, &shop.merchant.public_key_pem)
        };
        assert_eq!(got.header("Wechatpay-Serial"), serial, "{mode:?} {asked_certificate}");
        assert!(got.is_signed_by(key), "{mode:?} {asked_certificate}");
        assert_eq!(got.header("Content-Type"), "application/json; charset=utf-8");
        assert_eq!(got.header("Keep-Alive"), "timeout=8");
    }
}

#[tokio::test]
async fn errors_are_signed_by_switch_and_204_over_an_empty_body() {
    let shop = Shop::open().await;
    let got = shop.query("T00001").await;
    assert!(got.status == 404 && got.is_signed_by(&shop.merchant.public_key_pem));
    shop.simulator.wechat().set_switches(|switches| switches.sign_errors = false);
    let got = shop.query("T00001").await;
    assert!(got.status == 404 && got.header("Wechatpay-Signature").is_empty());
    shop.prepay_id("T00001").await;
    let got = shop.close("T00001").await;
    assert!(got.status == 204 && got.body.is_empty() && got.is_signed_by(&shop.merchant.public_key_pem));
}

#[tokio::test]
async fn certificates_are_listed_only_to_those_who_have_them() {
    let shop = Shop::open().await;
    let list = || async { shop.send(shop.call("GET", "/v3/certificates", "")).await };
    assert_eq!(list().await.told(), (404, "RESOURCE_NOT_EXISTS".into()));
    let wechat = shop.simulator.wechat();
    assert!(wechat.set_key_mode(&shop.merchant.mchid, KeyMode::Certificate));
    assert_eq!(list().await.json()["data"].as_array().map(Vec::len), Some(1));
    let second = wechat.add_platform_certificate().expect("a certificate");
    assert!(wechat.sign_with_certificate(&second) && !wechat.remove_platform_certificate(&second));
    let got = list().await;
    assert_eq!(got.json()["data"].as_array().map(Vec::len), Some(2));
    assert_eq!(got.header("Wechatpay-Serial"), second);
    assert!(wechat.remove_platform_certificate(&shop.merchant.platform_serial_no));
    assert_eq!(list().await.json()["data"][0]["serial_no"], second.as_str());
}

#[tokio::test]
async fn prepays_past_the_limit_of_a_second_are_told_to_wait() {
    let shop = Shop::open().await;
    shop.simulator.wechat().set_switches(|switches| switches.prepays_per_second = Some(1));
    let mut limited = 0;
    for _ in 0..4 {
        limited += usize::from(shop.prepay(&shop.order("T00001")).await.told() == (429, "FREQUENCY_LIMITED".into()));
    }
    assert!(limited >= 1, "four prepays did not take four seconds");
}

#[tokio::test]
async fn a_second_api_certificate_is_valid_beside_the_first_until_it_is_revoked() {
    let mut shop = Shop::open().await;
    let second = shop.simulator.wechat().new_merchant_key(&shop.merchant.mchid).expect("a key").expect("known");
    let first = shop.prepay(&shop.order("T00001")).await.status;
    shop.key = std::sync::Arc::new(crate::RsaKey::from_pkcs8_pem(&second.private_key_pem).expect("a key"));
    shop.merchant.serial_no.clone_from(&second.serial_no);
    assert_eq!((first, shop.prepay(&shop.order("T00002")).await.status), (200, 200));
    assert!(shop.simulator.wechat().revoke_merchant_key(&shop.merchant.mchid, &second.serial_no));
    assert_eq!(shop.prepay(&shop.order("T00002")).await.status, 401);
}

#[tokio::test]
async fn a_code_is_good_once_for_five_minutes_in_its_app() {
    let shop = Shop::open().await;
    let wechat = shop.simulator.wechat();
    let (app, secret) = (shop.app.appid.as_str(), shop.app.app_secret.as_str());
    let other = wechat.new_app(&shop.merchant.mchid);
    let code = wechat.new_code(app, &shop.openid);
    let late = wechat.new_code(app, &shop.openid);
    for (what, appid, secret, code, errcode) in [
        ("another app", other.appid.as_str(), other.app_secret.as_str(), code.as_str(), 40029),
        ("an unknown app", "wx0", secret, code.as_str(), 40013),
        ("a wrong secret", app, "s", code.as_str(), 40125),
        ("an unknown code", app, secret, "c", 40029),
        ("no code", app, secret, "", 41008),
        ("the code", app, secret, code.as_str(), 0),
        ("the code again", app, secret, code.as_str(), 40163),
    ] {
        let got = shop.exchange(appid, secret, code).await;
        assert_eq!((got.status, got.header("Content-Type")), (200, "text/plain"), "{what}");
        let body = got.json();
        assert_eq!(body["errcode"].as_i64().unwrap_or(0), errcode, "{what}");
        if errcode == 0 {
            assert_eq!(body["openid"], shop.openid.as_str());
            assert!(body["session_key"].is_string() && body.get("unionid").is_none());
        } else {
            assert!(body["errmsg"].as_str().expect("text").contains("rid: "), "{what}");
        }
    }
    shop.simulator.clock().advance(Duration::from_secs(301));
    assert_eq!(shop.exchange(app, secret, &late).await.json()["errcode"], 40029);
    assert_eq!(shop.simulator.ledger().exchanges_of(&code), 5);

    // A lost answer has burnt the code; so has a -1 after the effect.
    for kind in [FaultKind::LoseAnswer, FaultKind::FailAfter { status: 200, code: "-1".into() }] {
        let code = wechat.new_code(app, &shop.openid);
        let fault = Fault::once(crate::Wallet::Wechat, crate::Call::Exchange, kind).when(crate::Match::code(&code));
        shop.simulator.faults().add(fault);
        let url = format!(
            "{}/sns/jscode2session?appid={app}&secret={secret}&js_code={code}&grant_type=authorization_code",
            shop.simulator.base_url()
        );
        let _ = shop.client.get(url).send().await;
        assert_eq!(shop.exchange(app, secret, &code).await.json()["errcode"], 40163);
    }
    let post =
        shop.client.post(format!("{}/sns/jscode2session", shop.simulator.base_url())).send().await.expect("an answer");
    assert_eq!(post.json::<serde_json::Value>().await.expect("JSON")["errcode"], 43001);
}
