//! Codes, trades, the cashier: what changes, and what is refused.

use std::time::Duration;

use serde_json::{Value, json};
use simulator::alipay::{AppOptions, CloseRefusal, IdMode, Kind, Press, ResultCode, TradeStatus};
use simulator::{Call, Event};

use crate::client::{Client, gmt8, start};

#[tokio::test]
async fn an_order_makes_its_trip() {
    let simulator = start().await;
    let client = Client::new(&simulator, AppOptions::default());
    let alipay = simulator.alipay();
    let user = alipay.new_user();
    let code = alipay.new_auth_code(&client.app.app_id, &user.user_id).unwrap();
    let token = client.token(&code).await.ok();
    assert!(token.get("code").is_none() && token.get("user_id").is_none());
    let open_id = token["open_id"].as_str().unwrap();
    assert_eq!(open_id.len(), 47);

    let order = client.order("T1", open_id);
    let created = client.create(&order, None).await.ok();
    let trade_no = created["trade_no"].as_str().unwrap();
    assert_eq!(trade_no.len(), 28);
    assert_eq!(client.create(&order, None).await.ok()["trade_no"], trade_no);
    let waiting = client.query("T1").await.ok();
    assert_eq!(waiting["trade_status"], "WAIT_BUYER_PAY");
    assert_eq!((&waiting["total_amount"], &waiting["receipt_amount"]), (&json!("88.88"), &json!("0.00")));
    assert_eq!(waiting["buyer_open_id"], open_id);
    assert!(waiting.get("send_pay_date").is_none());

    assert_eq!(alipay.trade_pay(trade_no, &user.user_id, Press::Cancel).await, ResultCode::Cancelled);
    assert_eq!(alipay.trade_pay("T1", &user.user_id, Press::Pay).await, ResultCode::Failed);
    let stranger = alipay.new_user();
    assert_eq!(alipay.trade_pay(trade_no, &stranger.user_id, Press::Pay).await, ResultCode::Cancelled);
    assert_eq!(alipay.trade_pay(trade_no, &user.user_id, Press::Pay).await, ResultCode::Processed);
    assert_eq!(alipay.trade_pay(trade_no, &user.user_id, Press::Pay).await, ResultCode::Cancelled);

    let paid = client.call("alipay.trade.query", &json!({ "trade_no": trade_no, "out_trade_no": "else" })).await.ok();
    assert_eq!(paid["trade_status"], "TRADE_SUCCESS");
    assert_eq!(paid["receipt_amount"], "88.88");
    assert_eq!(paid["fund_bill_list"][0]["fund_channel"], "ALIPAYACCOUNT");
    client.close("T1").await.refused("ACQ.TRADE_STATUS_ERROR");
    client.create(&order, None).await.refused("ACQ.TRADE_HAS_SUCCESS");
    assert_eq!(simulator.ledger().payments("T1"), [("T1".to_owned(), 8888)]);
    assert_eq!(simulator.ledger().count("T1", Call::Prepay, Event::Created), 1);
    assert_eq!((simulator.ledger().prepays_of("T1"), simulator.ledger().bodies_of("T1")), (3, 1));
    assert_eq!(simulator.ledger().exchanges_of(&code), 1);
}

#[tokio::test]
async fn a_code_works_once_for_its_application_and_its_time() {
    let simulator = start().await;
    let alipay = simulator.alipay();
    let user = alipay.new_user();
    for (id_mode, has_user_id, has_open_id) in
        [(IdMode::UserId, true, false), (IdMode::OpenId, false, true), (IdMode::Both, true, true)]
    {
        let client = Client::new(&simulator, AppOptions { id_mode, ..AppOptions::default() });
        let code = alipay.new_auth_code(&client.app.app_id, &user.user_id).unwrap();
        let token = client.token(&code).await.ok();
        assert_eq!((token.get("user_id").is_some(), token.get("open_id").is_some()), (has_user_id, has_open_id));
        let again = client.token(&code).await;
        again.refused("isv.code-invalid");
        assert_eq!((again.node_name.as_str(), &again.node["code"]), ("error_response", &json!("40002")));
    }
    let client = Client::new(&simulator, AppOptions::default());
    let other = Client::new(&simulator, AppOptions::default());
    client.token("unknown").await.refused("isv.code-invalid");
    let code = alipay.new_auth_code(&client.app.app_id, &user.user_id).unwrap();
    other.token(&code).await.refused("isv.code-invalid");
    client.token(&code).await.ok();
    let late = alipay.new_auth_code(&client.app.app_id, &user.user_id).unwrap();
    simulator.clock().advance(Duration::from_secs(181));
    client.token(&late).await.refused("isv.code-invalid");
    let mut params = client.params("alipay.system.oauth.token");
    params.insert("grant_type".into(), "password".into());
    client.signed(params).await.refused("isv.grant-type-invalid");
}

#[tokio::test]
async fn each_refusal_of_a_create_has_its_name() {
    let simulator = start().await;
    let alipay = simulator.alipay();
    let client = Client::new(&simulator, AppOptions::default());
    let elsewhere = Client::new(&simulator, AppOptions::default());
    let user = alipay.new_user();
    let open_id = alipay.open_id(&client.app.app_id, &user.user_id).unwrap();
    let foreign_open_id = alipay.open_id(&elsewhere.app.app_id, &user.user_id).unwrap();
    let other_user = alipay.open_id(&client.app.app_id, &alipay.new_user().user_id).unwrap();

    let with = |changes: Value| {
        let mut order = client.order("R1", &open_id);
        for (name, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => order.as_object_mut().unwrap().remove(name),
                value => order.as_object_mut().unwrap().insert(name.clone(), value.clone()),
            };
        }
        order
    };
    let refusals = [
        (json!({ "buyer_open_id": null, "buyer_id": user.user_id }), "ACQ.BUYER_NOT_EXIST"),
        (json!({ "buyer_open_id": user.user_id }), "ACQ.BUYER_NOT_EXIST"),
        (json!({ "buyer_open_id": foreign_open_id }), "ACQ.BUYER_NOT_EXIST"),
        (json!({ "buyer_open_id": null }), "ACQ.INVALID_PARAMETER"),
        (json!({ "buyer_id": user.user_id }), "ACQ.INVALID_PARAMETER"),
        (json!({ "op_app_id": null }), "ACQ.OPEN_ID_NOT_TINY_APP"),
        (json!({ "op_app_id": "2021999999999999" }), "ACQ.OPEN_ID_NOT_TINY_APP"),
        (json!({ "op_app_id": elsewhere.app.app_id }), "ACQ.UNBOUND_APPLICATION"),
        (json!({ "product_code": null }), "ACQ.PRODUCT_NOT_SUPPORT_IN_TINY_APP"),
        (json!({ "seller_id": "2088000000000001" }), "ACQ.INVALID_RECEIVE_ACCOUNT"),
        (json!({ "time_expire": gmt8(-5) }), "ACQ.NOW_TIME_AFTER_EXPIRE_TIME_ERROR"),
        (json!({ "total_amount": "88.8" }), "ACQ.INVALID_PARAMETER"),
        (json!({ "subject": "a=b" }), "ACQ.INVALID_PARAMETER"),
    ];
    for (changes, sub_code) in refusals {
        client.create(&with(changes), None).await.refused(sub_code);
    }
    // Refused creates made nothing.
    let missing = client.query("R1").await;
    missing.refused("ACQ.TRADE_NOT_EXIST");
    assert_eq!(missing.node["receipt_amount"], "0.00");

    client.create(&with(json!({})), None).await.ok();
    client.create(&with(json!({ "total_amount": "88.89" })), None).await.refused("ACQ.CONTEXT_INCONSISTENT");
    client.create(&with(json!({ "buyer_open_id": other_user })), None).await.refused("ACQ.TRADE_BUYER_NOT_MATCH");
    elsewhere.query("R1").await.refused("ACQ.TRADE_NOT_EXIST");
    elsewhere.close("R1").await.refused("ACQ.TRADE_NOT_EXIST");
    client.close("R1").await.ok();
    client.close("R1").await.refused("ACQ.TRADE_STATUS_ERROR");
    alipay.set_switches(|switches| switches.close_refusal = CloseRefusal::ReasonTradeStatusInvalid);
    client.close("R1").await.refused("ACQ.REASON_TRADE_STATUS_INVALID");
    client.create(&with(json!({})), None).await.refused("ACQ.TRADE_HAS_CLOSE");
    assert_eq!(client.query("R1").await.ok()["trade_status"], "TRADE_CLOSED");
}

#[tokio::test]
async fn a_buyer_is_named_the_way_the_application_is_told() {
    let simulator = start().await;
    let alipay = simulator.alipay();
    let by_user_id = Client::new(&simulator, AppOptions { id_mode: IdMode::UserId, ..AppOptions::default() });
    let mini = Client::new(
        &simulator,
        AppOptions { seller_id: Some(by_user_id.app.seller_id.clone()), ..AppOptions::default() },
    );
    let user = alipay.new_user();
    let mini_open_id = alipay.open_id(&mini.app.app_id, &user.user_id).unwrap();
    alipay.bind_op_app(&by_user_id.app.app_id, &mini.app.app_id).unwrap();

    let mut order = by_user_id.order("B1", "x");
    order.as_object_mut().unwrap().remove("buyer_open_id");
    order["buyer_id"] = json!(user.user_id);
    by_user_id.create(&order, None).await.ok();
    let seen = by_user_id.query("B1").await.ok();
    assert_eq!((&seen["buyer_user_id"], seen.get("buyer_open_id")), (&json!(user.user_id), None));

    // The user's name at the mini-program goes into op_buyer_open_id when another application calls.
    let mut order = by_user_id.order("B2", "x");
    order["op_app_id"] = json!(mini.app.app_id);
    order["buyer_open_id"] = json!(mini_open_id);
    by_user_id.create(&order, None).await.refused("ACQ.BUYER_NOT_EXIST");
    order.as_object_mut().unwrap().remove("buyer_open_id");
    order["op_buyer_open_id"] = json!(mini_open_id);
    by_user_id.create(&order, None).await.ok();
    assert!(alipay.unbind_op_app(&by_user_id.app.app_id, &mini.app.app_id));
    order["out_trade_no"] = json!("B3");
    by_user_id.create(&order, None).await.refused("ACQ.UNBOUND_APPLICATION");
}

#[tokio::test]
async fn a_provider_acts_with_the_merchants_token() {
    let simulator = start().await;
    let alipay = simulator.alipay();
    let merchant = Client::new(&simulator, AppOptions::default());
    let mut provider = Client::new(&simulator, AppOptions { kind: Kind::ThirdParty, ..AppOptions::default() });
    provider.query("P1").await.refused("isv.self-invoke-forbidden");
    provider.app_auth_token = Some("202603BBnobody".to_owned());
    provider.query("P1").await.refused("aop.invalid-app-auth-token");
    let token = alipay.new_app_auth_token(&provider.app.app_id, &merchant.app.app_id).unwrap();
    assert!(alipay.new_app_auth_token(&merchant.app.app_id, &merchant.app.app_id).is_err());
    provider.app_auth_token = Some(token.clone());

    let user = alipay.new_user();
    let code = alipay.new_auth_code(&merchant.app.app_id, &user.user_id).unwrap();
    let open_id = provider.token(&code).await.ok()["open_id"].as_str().unwrap().to_owned();
    let mut order = provider.order("P1", "x");
    order.as_object_mut().unwrap().remove("buyer_open_id");
    order["op_app_id"] = json!(merchant.app.app_id);
    order["op_buyer_open_id"] = json!(open_id);
    order["seller_id"] = json!(merchant.app.seller_id);
    provider.create(&order, None).await.ok();
    assert_eq!(provider.query("P1").await.ok()["trade_status"], "WAIT_BUYER_PAY");

    // The number is the pair's: neither the merchant alone nor another token sees it.
    merchant.query("P1").await.refused("ACQ.TRADE_NOT_EXIST");
    let other = Client::new(&simulator, AppOptions::default());
    let other_token = alipay.new_app_auth_token(&provider.app.app_id, &other.app.app_id).unwrap();
    provider.app_auth_token = Some(other_token);
    provider.query("P1").await.refused("ACQ.TRADE_NOT_EXIST");
    let mut thief = Client::new(&simulator, AppOptions { kind: Kind::ThirdParty, ..AppOptions::default() });
    thief.app_auth_token = Some(token);
    thief.query("P1").await.refused("isv.invalid-auth-relations");
}

#[tokio::test]
async fn a_trade_closes_at_its_time_whether_or_not_somebody_looks() {
    let simulator = start().await;
    let alipay = simulator.alipay();
    let client = Client::new(&simulator, AppOptions::default());
    let user = alipay.new_user();
    let open_id = alipay.open_id(&client.app.app_id, &user.user_id).unwrap();
    let order = client.order("E1", &open_id);
    let created = client.create(&order, None).await.ok();
    simulator.clock().advance(Duration::from_secs(1801));
    let trade_no = created["trade_no"].as_str().unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while simulator.ledger().count("E1", Call::Close, Event::Closed) == 0 {
        assert!(std::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(alipay.trade(&client.app.app_id, "E1").unwrap().status, TradeStatus::TradeClosed);
    assert!(!alipay.pay_from_bills(trade_no, &user.user_id));
    assert_eq!(alipay.trade_pay(trade_no, &user.user_id, Press::Pay).await, ResultCode::Cancelled);
    assert!(simulator.ledger().payable_numbers("E1").is_empty());
}

#[tokio::test]
async fn a_number_with_two_trades_is_paid_once() {
    let simulator = start().await;
    let alipay = simulator.alipay();
    alipay.set_switches(|switches| switches.repeat_makes_new_trade_no = true);
    let client = Client::new(&simulator, AppOptions::default());
    let user = alipay.new_user();
    let open_id = alipay.open_id(&client.app.app_id, &user.user_id).unwrap();
    let order = client.order("N1", &open_id);
    let first = client.create(&order, None).await.ok()["trade_no"].as_str().unwrap().to_owned();
    let second = client.create(&order, None).await.ok()["trade_no"].as_str().unwrap().to_owned();
    assert_ne!(first, second);
    assert!(alipay.pay_from_bills(&first, &user.user_id));
    assert!(!alipay.pay_from_bills(&second, &user.user_id));
    assert_eq!(client.query("N1").await.ok()["trade_no"], first.as_str());
    assert_eq!(simulator.ledger().payments("N1").len(), 1);
}
