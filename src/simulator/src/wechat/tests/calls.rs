//! Prepay again, query, close: the tables.

use std::time::Duration;

use serde_json::{Value, json};

use super::Shop;
use crate::wechat::{ChangedPrepay, MerchantOptions, PaidPrepay, Press, RepeatedPrepay, UnknownClose};
use crate::{Event, Options};

#[tokio::test]
async fn a_number_asked_for_again_answers_by_its_state() {
    let shop = Shop::open().await;
    let (wechat, mchid) = (shop.simulator.wechat(), shop.merchant.mchid.as_str());
    let changed = |number: &str| {
        let mut order = shop.order(number);
        order["time_expire"] = json!("2099-01-01T00:00:00+08:00");
        order
    };
    // Unpaid and the same: new or the same prepay_id.
    let first = shop.prepay_id("T00001").await;
    let second = shop.prepay_id("T00001").await;
    assert_ne!(first, second);
    wechat.set_switches(|switches| switches.repeated_prepay = RepeatedPrepay::Same);
    assert_eq!(shop.prepay_id("T00001").await, second);
    shop.simulator.clock().advance(Duration::from_secs(2 * 3600 + 1));
    assert_ne!(shop.prepay_id("T00001").await, second);
    // Different parameters.
    assert_eq!(shop.prepay(&changed("T00001")).await.told(), (403, "OUT_TRADE_NO_USED".into()));
    wechat.set_switches(|switches| switches.changed_prepay = ChangedPrepay::InvalidRequest);
    assert_eq!(shop.prepay(&changed("T00001")).await.told(), (400, "INVALID_REQUEST".into()));
    // Paid: whatever the parameters.
    wechat.pay(mchid, "T00001").expect("payable");
    for order in [shop.order("T00001"), changed("T00001")] {
        assert_eq!(shop.prepay(&order).await.told(), (400, "ORDERPAID".into()));
    }
    wechat.set_switches(|switches| switches.paid_prepay = PaidPrepay::InvalidRequest);
    assert_eq!(shop.prepay(&shop.order("T00001")).await.told(), (400, "INVALID_REQUEST".into()));
    // Closed.
    shop.prepay_id("T00002").await;
    assert_eq!(shop.close("T00002").await.status, 204);
    for order in [shop.order("T00002"), changed("T00002")] {
        assert_eq!(shop.prepay(&order).await.told(), (400, "ORDER_CLOSED".into()));
    }
    // Expired: closed to a prepay, NOTPAY to a query.
    let mut short = shop.order("T00003");
    short["time_expire"] = json!("2020-01-01T00:00:00+08:00");
    assert_eq!(shop.prepay(&short).await.status, 200);
    assert_eq!(shop.prepay(&short).await.status, 200, "raised to a minute from now");
    shop.simulator.clock().advance(Duration::from_secs(61));
    assert_eq!(shop.prepay(&short).await.told(), (400, "ORDER_CLOSED".into()));
    assert_eq!(shop.query("T00003").await.json()["trade_state"], "NOTPAY");
}

#[tokio::test]
async fn a_query_tells_what_the_state_has() {
    let shop = Shop::open().await;
    let (wechat, mchid) = (shop.simulator.wechat(), shop.merchant.mchid.as_str());
    assert_eq!(shop.query("T00001").await.told(), (404, "ORDER_NOT_EXIST".into()));
    let mut order = shop.order("T00001");
    order["attach"] = json!("a=1");
    assert_eq!(shop.prepay(&order).await.status, 200);
    let keys = |value: &Value| {
        let mut keys: Vec<String> = value.as_object().expect("an object").keys().cloned().collect();
        keys.sort();
        keys.join(" ")
    };
    let unpaid = shop.query("T00001").await.json();
    assert_eq!(keys(&unpaid), "amount appid attach mchid out_trade_no trade_state trade_state_desc");
    wechat.set_switches(|switches| switches.unpaid_amount = false);
    assert!(shop.query("T00001").await.json().get("amount").is_none());

    let transaction_id = wechat.pay(mchid, "T00001").expect("payable");
    let paid = shop.query("T00001").await.json();
    assert_eq!(
        keys(&paid),
        "amount appid attach bank_type mchid out_trade_no payer success_time trade_state trade_state_desc trade_type transaction_id"
    );
    assert_eq!((paid["trade_state"].as_str(), paid["amount"]["total"].as_i64()), (Some("SUCCESS"), Some(1999)));
    let by_id = format!("/v3/pay/transactions/id/{transaction_id}?mchid={mchid}");
    assert_eq!(shop.send(shop.call("GET", by_id, "")).await.json(), paid);

    assert!(wechat.refund_by_hand(mchid, "T00001"));
    assert_eq!(shop.query("T00001").await.json()["trade_state"], "REFUND");
    assert_eq!(shop.prepay(&order).await.told(), (400, "ORDERPAID".into()));

    shop.prepay_id("T00002").await;
    shop.simulator.clock().advance(Duration::from_secs(7 * 24 * 3600 + 1));
    assert_eq!(shop.query("T00002").await.json()["trade_state"], "CLOSED");

    for (target, status) in [
        ("/v3/pay/transactions/out-trade-no/T00001".to_owned(), 400),
        ("/v3/pay/transactions/out-trade-no/T00001?mchid=1".to_owned(), 401),
        (format!("/v3/pay/transactions/out-trade-no/T00001?mchid={mchid}&x=1"), 400),
        (format!("/v3/pay/partner/transactions/out-trade-no/T00001?sp_mchid={mchid}&sub_mchid=1"), 404),
    ] {
        assert_eq!(shop.send(shop.call("GET", target.clone(), "")).await.status, status, "{target}");
    }
}

#[tokio::test]
async fn a_close_answers_by_state() {
    let shop = Shop::open().await;
    let (wechat, mchid) = (shop.simulator.wechat(), shop.merchant.mchid.as_str());
    assert_eq!(shop.close("T00001").await.told(), (404, "ORDER_NOT_EXIST".into()));
    wechat.set_switches(|switches| switches.unknown_close = UnknownClose::NoContent);
    assert_eq!(shop.close("T00001").await.status, 204);
    shop.prepay_id("T00001").await;
    assert_eq!(shop.close("T00001").await.status, 204);
    assert_eq!(shop.close("T00001").await.status, 204);
    assert_eq!(shop.query("T00001").await.json()["trade_state"], "CLOSED");
    assert!(wechat.pay(mchid, "T00001").is_none());
    shop.prepay_id("T00002").await;
    wechat.pay(mchid, "T00002").expect("payable");
    assert_eq!(shop.close("T00002").await.told(), (400, "ORDER_PAID".into()));
    assert_eq!(shop.query("T00002").await.json()["trade_state"], "SUCCESS");
    let ledger = shop.simulator.ledger();
    assert_eq!(ledger.count("T00001", crate::Call::Close, Event::Closed), 1);
    assert_eq!(
        (ledger.closes_of("T00001"), ledger.payments("T"), ledger.payable_at_once_max("T")),
        (4, vec![("T00002".into(), 1999)], 1)
    );
}

#[tokio::test]
async fn a_number_with_a_bar_is_signed_as_it_is_sent() {
    let shop = Shop::open().await;
    shop.prepay_id("A|B*_-1").await;
    assert_eq!(shop.query("A%7CB%2A_-1").await.json()["out_trade_no"], "A|B*_-1");
}

#[tokio::test]
async fn a_provider_orders_for_its_sub_merchants() {
    let shop = Shop::open_with(Options::default(), MerchantOptions::default()).await;
    let wechat = shop.simulator.wechat();
    let sp_mchid = shop.merchant.mchid.as_str();
    let sub_mchid = wechat.new_sub_merchant(sp_mchid).expect("a provider");
    let sub_app = wechat.new_app(&sub_mchid);
    let sub_openid = wechat.new_openid(&sub_app.appid);
    let order = |number: &str| {
        json!({
            "sp_appid": shop.app.appid, "sp_mchid": sp_mchid, "sub_appid": sub_app.appid, "sub_mchid": sub_mchid,
            "description": "茶", "out_trade_no": number, "notify_url": shop.notify_url,
            "amount": { "total": 100 }, "payer": { "sub_openid": sub_openid },
        })
    };
    let prepay = |body: Value| async { shop.send(shop.call("POST", "/v3/pay/partner/transactions/jsapi", body)).await };
    let prepay_id = prepay(order("T00001")).await.json()["prepay_id"].as_str().expect("a ticket").to_owned();
    let spoilt = |pointer: &str, value: Value| {
        let mut body = order("T00002");
        *body.pointer_mut(pointer).expect("there") = value;
        body
    };
    for (body, told) in [
        (spoilt("/sub_mchid", json!("1")), (403, "NO_AUTH")),
        (spoilt("/sub_mchid", json!(sp_mchid)), (400, "PARAM_ERROR")),
        (spoilt("/sub_appid", json!(shop.app.appid)), (400, "APPID_MCHID_NOT_MATCH")),
        (spoilt("/payer", json!({})), (400, "PARAM_ERROR")),
        (spoilt("/payer", json!({ "sp_openid": sub_openid })), (400, "PARAM_ERROR")),
        (spoilt("/payer", json!({ "sp_openid": shop.openid })), (200, "")),
    ] {
        assert_eq!(prepay(body.clone()).await.told(), (told.0, told.1.to_owned()), "{body}");
    }
    // The page runs in the sub-merchant's mini-program and the provider signs for it.
    let wrong = shop.params(&prepay_id);
    assert!(wechat.request_payment(&wrong, &sub_openid, Press::Pay).is_err());
    wechat.request_payment(&shop.params_of(&sub_app.appid, &prepay_id), &sub_openid, Press::Pay).expect("paid");
    let target = format!("/v3/pay/partner/transactions/out-trade-no/T00001?sp_mchid={sp_mchid}&sub_mchid={sub_mchid}");
    let paid = shop.send(shop.call("GET", target, "")).await.json();
    assert_eq!((&paid["payer"], &paid["sub_mchid"]), (&json!({ "sub_openid": sub_openid }), &json!(sub_mchid)));
    let close = "/v3/pay/partner/transactions/out-trade-no/T00002/close";
    let got = shop.send(shop.call("POST", close, json!({ "sp_mchid": sp_mchid, "sub_mchid": sub_mchid }))).await;
    assert_eq!(got.status, 204);
}
