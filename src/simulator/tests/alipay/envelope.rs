//! What the gateway looks at before a method, and how its answers are written.

use serde_json::json;
use simulator::alipay::{AppOptions, KeyFormat, Layout, Mode};
use simulator::{Call, Fault, FaultKind, Wallet};

use crate::client::{Client, gmt8, start};

#[tokio::test]
async fn a_parameter_the_gateway_misses_or_dislikes_is_named() {
    let simulator = start().await;
    let client = Client::new(&simulator, AppOptions::default());
    let eight_hours_off = gmt8(-8 * 3600);
    let table = [
        ("app_id", None, "isv.missing-app-id"),
        ("app_id", Some("2021000000000000"), "isv.invalid-app-id"),
        ("method", None, "isv.missing-method"),
        ("method", Some("alipay.trade.precreate"), "isv.invalid-method"),
        ("format", Some("XML"), "isv.invalid-format"),
        ("charset", None, "isv.invalid-charset"),
        ("charset", Some("latin1"), "isv.invalid-charset"),
        ("sign_type", None, "isv.missing-signature-type"),
        ("sign_type", Some("RSA"), "isv.invalid-signature-type"),
        ("timestamp", None, "isv.missing-timestamp"),
        ("timestamp", Some("2026-03-01T12:00:00"), "isv.invalid-timestamp"),
        ("timestamp", Some(&eight_hours_off), "isv.illegal-timestamp"),
        ("version", None, "isv.missing-version"),
        ("version", Some("2.0"), "isv.invalid-version"),
        ("notify_url", Some("https://x.example/?body=1"), "isv.suspected-attack"),
        ("encrypt_type", Some("AES"), "isv.invalid-encrypt-type"),
        ("biz_content", Some("{"), "isv.illegal-json"),
        ("biz_content", Some("{}"), "ACQ.INVALID_PARAMETER"),
    ];
    for (name, value, sub_code) in table {
        let mut params = client.params("alipay.trade.query");
        params.insert("biz_content".to_owned(), json!({ "out_trade_no": "T1" }).to_string());
        match value {
            Some(value) => params.insert(name.to_owned(), value.to_owned()),
            None => params.remove(name),
        };
        client.signed(params).await.refused(sub_code);
    }
}

#[tokio::test]
async fn app_id_comes_before_the_signature_and_charset_is_signed_as_spelled() {
    let simulator = start().await;
    let client = Client::new(&simulator, AppOptions::default());
    let mut params = client.params("alipay.trade.query");
    params.insert("biz_content".to_owned(), json!({ "out_trade_no": "T1" }).to_string());
    let mut unsigned = params.clone();
    client.answered(client.send(&unsigned).await.unwrap()).await.refused("isv.missing-signature");
    unsigned.insert("sign".to_owned(), "nonsense".to_owned());
    let invalid = client.answered(client.send(&unsigned).await.unwrap()).await;
    invalid.refused("isv.invalid-signature");
    assert_eq!(invalid.verified, Some(true));
    unsigned.insert("app_id".to_owned(), "2021000000000000".to_owned());
    let nobody = client.answered(client.send(&unsigned).await.unwrap()).await;
    nobody.refused("isv.invalid-app-id");
    assert_eq!(nobody.verified, None);

    client.sign(&mut params);
    params.insert("charset".to_owned(), "utf-8".to_owned());
    client.answered(client.send(&params).await.unwrap()).await.refused("isv.invalid-signature");
    client.sign(&mut params);
    client.answered(client.send(&params).await.unwrap()).await.refused("ACQ.TRADE_NOT_EXIST");
}

#[tokio::test]
async fn every_layout_can_be_verified_over_its_raw_bytes() {
    let simulator = start().await;
    let alipay = simulator.alipay();
    let client = Client::new(&simulator, AppOptions::default());
    let user = alipay.new_user();
    let open_id = alipay.open_id(&client.app.app_id, &user.user_id).unwrap();
    client.create(&client.order("L1", &open_id), None).await.ok();
    for layout in [Layout::Plain, Layout::EscapedSlashes, Layout::Blanks, Layout::Decoys, Layout::SignFirst] {
        alipay.set_switches(|switches| switches.layout = layout);
        assert_eq!(client.query("L1").await.ok()["trade_status"], "WAIT_BUYER_PAY", "{layout:?}");
    }
    alipay.set_switches(|switches| switches.layout = Layout::DoubledNode);
    let doubled = client.query("L1").await;
    assert_eq!(doubled.raw.matches("alipay_trade_query_response").count(), 2);
    assert!(doubled.raw.contains("TRADE_SUCCESS"));

    alipay.set_switches(|switches| switches.layout = Layout::Plain);
    alipay.set_switches(|switches| switches.sign_failures = false);
    assert_eq!(client.query("L9").await.verified, None);
    client.query("L1").await.ok();
}

#[tokio::test]
async fn lies_about_signatures_are_told_on_demand() {
    let simulator = start().await;
    let alipay = simulator.alipay();
    let client = Client::new(&simulator, AppOptions::default());
    let other = Client::new(&simulator, AppOptions::default());
    assert_ne!(client.app.alipay_public_key, other.app.alipay_public_key);
    let user = alipay.new_user();
    let open_id = alipay.open_id(&client.app.app_id, &user.user_id).unwrap();
    client.create(&client.order("S1", &open_id), None).await.ok();
    for (kind, verified) in [
        (FaultKind::WrongSignature, Some(false)),
        (FaultKind::UndecodableSignature, Some(false)),
        (FaultKind::Unsigned, None),
    ] {
        simulator.faults().add(Fault::once(Wallet::Alipay, Call::Query, kind));
        assert_eq!(client.query("S1").await.verified, verified);
    }
    simulator.faults().add(Fault::once(Wallet::Alipay, Call::Query, FaultKind::TruncatedJson));
    let mut params = client.params("alipay.trade.query");
    params.insert("biz_content".to_owned(), json!({ "out_trade_no": "S1" }).to_string());
    client.sign(&mut params);
    let text = client.send(&params).await.unwrap().text().await.unwrap();
    assert!(serde_json::from_str::<serde_json::Value>(&text).is_err());
}

#[tokio::test]
async fn certificate_mode_names_serial_numbers_both_ways() {
    let simulator = start().await;
    let alipay = simulator.alipay();
    let options = AppOptions { mode: Mode::Certificate, ..AppOptions::default() };
    let mut client = Client::new(&simulator, options);
    let user = alipay.new_user();
    let open_id = alipay.open_id(&client.app.app_id, &user.user_id).unwrap();
    let created = client.create(&client.order("C1", &open_id), None).await;
    assert_eq!(created.cert_sn, client.app.alipay_cert_sn);
    created.ok();
    assert_eq!(client.app.alipay_root_cert_pem.as_ref().unwrap().matches("BEGIN").count(), 3);

    let new_sn = alipay.renew_alipay_cert(&client.app.app_id).unwrap();
    let renewed = client.query("C1").await;
    assert_eq!(renewed.cert_sn.as_ref(), Some(&new_sn));
    renewed.ok();
    let download = "alipay.open.app.alipaycert.download";
    let answer = client.call(download, &json!({ "alipay_cert_sn": new_sn })).await.ok();
    use base64::Engine as _;
    let content = answer["alipay_cert_content"].as_str().unwrap();
    let pem = base64::engine::general_purpose::STANDARD.decode(content).unwrap();
    assert!(pem.starts_with(b"-----BEGIN CERTIFICATE-----"));

    alipay.set_switches(|switches| switches.wrong_cert_sn = true);
    let wrong = client.query("C1").await.cert_sn.unwrap();
    assert_ne!(wrong, new_sn);
    client.call(download, &json!({ "alipay_cert_sn": wrong })).await.refused("isv.alipay-cert-not-exist");

    client.app.app_cert_sn = None;
    client.query("C1").await.refused("isv.missing-app-cert-sn");
    client.app.app_cert_sn = Some("00".to_owned());
    client.query("C1").await.refused("isv.app-cert-not-exist");
}

#[tokio::test]
async fn keys_come_in_both_formats() {
    let simulator = start().await;
    for (key_format, label) in [(KeyFormat::Pkcs1, "BEGIN RSA PRIVATE KEY"), (KeyFormat::Pkcs8, "BEGIN PRIVATE KEY")] {
        let app = simulator.alipay().new_app(AppOptions { key_format, ..AppOptions::default() });
        assert!(app.app_private_key_pem.contains(label));
        assert!(!format!("{app:?}").contains("BEGIN"));
        assert!(app.app_id.len() == 16 && app.seller_id.starts_with("2088") && app.seller_id.len() == 16);
    }
}

#[tokio::test]
async fn the_product_must_be_signed() {
    let simulator = start().await;
    let client = Client::new(&simulator, AppOptions { may_collect: false, ..AppOptions::default() });
    client.query("T1").await.refused("isv.insufficient-isv-permissions");
}
