//! Notices as a merchant's `notify_url` gets them, and the control routes that start them from another process.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use simulator::alipay::{AppOptions, EmptyValues, Mode, Press};
use simulator::{Call, Event, Fault, FaultKind, PublicKey, RsaKey, Wallet};

use crate::client::{Client, start};
use crate::sink::Sink;

fn verifies(client: &Client, notice: &BTreeMap<String, String>, keep_empty: bool) -> bool {
    let text: Vec<String> = notice
        .iter()
        .filter(|(name, value)| !matches!(name.as_str(), "sign" | "sign_type") && (keep_empty || !value.is_empty()))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let key = PublicKey::from_pem(&client.app.alipay_public_key_pem).unwrap();
    key.verifies(text.join("&").as_bytes(), &notice["sign"])
}

#[tokio::test]
async fn a_payment_is_told_until_seven_bytes_say_success() {
    let simulator = start().await;
    simulator.clock().set_schedule_scale(0.000_01);
    let alipay = simulator.alipay();
    let client = Client::new(&simulator, AppOptions::default());
    let user = alipay.new_user();
    let open_id = alipay.open_id(&client.app.app_id, &user.user_id).unwrap();
    let sink = Sink::start(&["fail", "SUCCESS", "success\n"]).await;

    let mut order = client.order("N1", &open_id);
    order["passback_params"] = json!("a%3D1%26b%3D+2");
    let created = client.create(&order, Some(&sink.url)).await.ok();
    let trade_no = created["trade_no"].as_str().unwrap();
    alipay.trade_pay(trade_no, &user.user_id, Press::Pay).await;
    let notices = sink.arrived(4).await;
    for notice in &notices {
        assert!(verifies(&client, notice, true), "{notice:?}");
        assert_eq!(notice["notify_id"], notices[0]["notify_id"]);
        assert_eq!((notice["trade_status"].as_str(), notice["total_amount"].as_str()), ("TRADE_SUCCESS", "88.88"));
        assert_eq!(notice["passback_params"], "a%3D1%26b%3D+2");
        assert_eq!(notice["buyer_open_id"], open_id);
        assert_eq!(notice["seller_id"], client.app.seller_id);
        assert_eq!(notice["body"], "");
    }
    let ledger = simulator.ledger();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while ledger.count("N1", Call::Notify, Event::NoticeAccepted) == 0 {
        assert!(std::time::Instant::now() < deadline);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(ledger.notices_of("N1"), 4);
}

#[tokio::test]
async fn notices_get_lost_doubled_and_wrong_on_demand() {
    let simulator = start().await;
    simulator.clock().set_schedule_scale(0.000_01);
    let alipay = simulator.alipay();
    let client = Client::new(&simulator, AppOptions::default());
    let user = alipay.new_user();
    let open_id = alipay.open_id(&client.app.app_id, &user.user_id).unwrap();
    let pay = async |number: &str, url: &str, kind: FaultKind| {
        simulator.faults().add(Fault::once(Wallet::Alipay, Call::Notify, kind));
        let created = client.create(&client.order(number, &open_id), Some(url)).await.ok();
        assert!(alipay.pay_from_bills(created["trade_no"].as_str().unwrap(), &user.user_id));
    };

    let lost = Sink::start(&[]).await;
    pay("M1", &lost.url, FaultKind::Lose).await;
    lost.arrived(1).await;
    assert_eq!(simulator.ledger().count("M1", Call::Notify, Event::NoticeLost), 1);

    let doubled = Sink::start(&[]).await;
    pay("M2", &doubled.url, FaultKind::Double).await;
    let pair = doubled.arrived(2).await;
    assert_eq!(pair[0]["notify_id"], pair[1]["notify_id"]);

    let wrong = Sink::start(&[]).await;
    pay("M3", &wrong.url, FaultKind::WrongAmount { fen: 1 }).await;
    let notice = &wrong.arrived(1).await[0];
    assert!(verifies(&client, notice, true) && notice["total_amount"] == "0.01");

    let forged = Sink::start(&[]).await;
    pay("M4", &forged.url, FaultKind::WrongSignature).await;
    assert!(!verifies(&client, &forged.arrived(1).await[0], true));

    let empty = Sink::start(&[]).await;
    alipay.set_switches(|switches| switches.empty_values = EmptyValues::Unsigned);
    pay("M5", &empty.url, FaultKind::Delay { ms: 1 }).await;
    let notice = &empty.arrived(1).await[0];
    assert!(notice["body"].is_empty() && verifies(&client, notice, false) && !verifies(&client, notice, true));
}

#[tokio::test]
async fn a_notice_can_be_sent_by_hand() {
    let simulator = start().await;
    let alipay = simulator.alipay();
    let client = Client::new(&simulator, AppOptions::default());
    let user = alipay.new_user();
    let open_id = alipay.open_id(&client.app.app_id, &user.user_id).unwrap();
    let sink = Sink::start(&["fail"]).await;
    let app_id = client.app.app_id.as_str();
    client.create(&client.order("H1", &open_id), Some(&sink.url)).await.ok();
    let lie = FaultKind::WrongMerchant { merchant: "2088000000000001".to_owned() };
    let (status, body) = alipay.notify_now(app_id, "H1", &[lie]).await.unwrap();
    assert_eq!((status, body.as_ref()), (200, &b"fail"[..]));
    let notice = &sink.arrived(1).await[0];
    assert_eq!(notice["trade_status"], "WAIT_BUYER_PAY");
    assert_eq!(notice["seller_id"], "2088000000000001");
    assert!(verifies(&client, notice, true));
    assert!(alipay.notify_now(app_id, "H2", &[]).await.is_err());
    assert!(alipay.pay_number(app_id, "H1").is_some() && alipay.pay_number(app_id, "H1").is_none());
    assert_eq!(alipay.trades(app_id, "H").len(), 1);
}

#[tokio::test]
async fn keys_of_both_sides_can_be_changed_at_the_console() {
    let simulator = start().await;
    let alipay = simulator.alipay();
    let mut client = Client::new(&simulator, AppOptions::default());
    let app_id = client.app.app_id.clone();
    let user = alipay.new_user();
    let open_id = alipay.open_id(&app_id, &user.user_id).unwrap();
    let sink = Sink::start(&[]).await;
    client.create(&client.order("R1", &open_id), Some(&sink.url)).await.ok();

    let own = RsaKey::generate().unwrap();
    alipay.set_app_key(&app_id, own.public().clone()).unwrap();
    client.query("R1").await.refused("isv.invalid-signature");
    client.key = own;
    client.query("R1").await.ok();

    let alipays = RsaKey::generate().unwrap();
    let (base64, pem) = (alipays.public_key_base64(), alipays.public_key_pem());
    alipay.set_alipay_key(&app_id, alipays).unwrap();
    assert_eq!(client.query("R1").await.verified, Some(false));
    (client.app.alipay_public_key, client.app.alipay_public_key_pem) = (base64, pem);
    client.query("R1").await.ok();
    alipay.notify_now(&app_id, "R1", &[]).await.unwrap();
    assert!(verifies(&client, &sink.arrived(1).await[0], true));

    let certified = alipay.new_app(AppOptions { mode: Mode::Certificate, ..AppOptions::default() });
    assert!(alipay.set_app_key(&certified.app_id, client.key.public().clone()).is_err());
}

#[tokio::test]
async fn a_close_is_told_by_switch_only() {
    let simulator = start().await;
    let alipay = simulator.alipay();
    let client = Client::new(&simulator, AppOptions::default());
    let user = alipay.new_user();
    let open_id = alipay.open_id(&client.app.app_id, &user.user_id).unwrap();
    let sink = Sink::start(&[]).await;
    client.create(&client.order("K1", &open_id), Some(&sink.url)).await.ok();
    client.close("K1").await.ok();
    alipay.set_switches(|switches| switches.notify_closed = true);
    client.create(&client.order("K2", &open_id), Some(&sink.url)).await.ok();
    client.close("K2").await.ok();
    let notices = sink.arrived(1).await;
    assert_eq!(notices[0]["out_trade_no"], "K2");
    assert_eq!(notices[0]["trade_status"], "TRADE_CLOSED");
    assert!(notices[0].contains_key("gmt_close") && !notices[0].contains_key("gmt_payment"));
    assert_eq!(simulator.ledger().notices_of("K1"), 0);
}

#[tokio::test]
async fn another_process_can_do_the_same_through_the_control_routes() {
    let simulator = start().await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let base = simulator.base_url();
    let post = async |path: &str, body: Value| -> Value {
        let response = http.post(format!("{base}/_sim/alipay/{path}")).json(&body).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        response.json().await.unwrap()
    };
    let app = post("apps", json!({ "mode": "certificate", "id_mode": "both" })).await;
    assert!(app["app_private_key_pem"].is_string() && app["alipay_cert_sn"].is_string());
    let user = post("users", Value::Null).await;
    let phone = json!({ "app_id": app["app_id"], "user_id": user["user_id"] });
    assert_eq!(post("auth_codes", phone.clone()).await["code"].as_str().unwrap().len(), 32);
    assert_eq!(post("open_ids", phone).await["open_id"].as_str().unwrap().len(), 47);
    let switches = post("switches", json!({ "layout": "blanks" })).await;
    assert_eq!((&switches["layout"], &switches["sign_failures"]), (&json!("blanks"), &json!(true)));
    let switches = post("switches", json!({ "bills": "ready", "fund_change": "never_y" })).await;
    assert_eq!((&switches["bills"], &switches["refund_status_after_ms"]), (&json!("ready"), &json!(10_000)));
    let row = json!({ "change": "add", "row": { "out_trade_no": "X1", "amount_fen": 7 } });
    assert_eq!(post("change_bills", json!({ "seller_id": "2088", "change": row })).await, Value::Null);
    let bill = json!({ "prefix": "M", "rows": 3 });
    let made_up = json!({ "seller_id": "2088", "date": "2026-02-28", "bill": bill });
    assert_eq!(post("synthetic_bill", made_up).await, json!(true));
    assert_eq!(post("true_bills", json!({ "seller_id": "2088" })).await, Value::Null);
    assert_eq!(post("balance", json!({ "seller_id": "2088", "balance_fen": 5 })).await, Value::Null);
    let paid = post("trade_pay", json!({ "trade_no": "1", "user_id": user["user_id"] })).await;
    assert_eq!(paid["result_code"], "4000");
    assert_eq!(post("trade", json!({ "app_id": app["app_id"], "out_trade_no": "x" })).await, Value::Null);
}
