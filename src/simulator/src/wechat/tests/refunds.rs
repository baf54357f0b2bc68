//! Refunds: each refusal, each ending, and who hears of it.

use std::time::Duration;

use serde_json::{Value, json};

use super::notices::{Mailbox, decrypt, shop_with, until};
use super::{Got, Shop};
use crate::wechat::{LimitedRefund, MerchantOptions, RefundEnding, RefundStatus};
use crate::{Call, Event, Fault, FaultKind, Match, Options, Wallet};

async fn shop() -> Shop {
    let shop = Shop::open().await;
    shop.simulator.wechat().set_switches(|switches| switches.refund_ending = RefundEnding::Never);
    shop
}

fn a_minute(shop: &Shop) {
    shop.simulator.clock().advance(Duration::from_secs(60));
}

#[tokio::test]
async fn a_refund_number_refunds_once_and_answers_as_it_stands() {
    let shop = shop().await;
    let (wechat, mchid) = (shop.simulator.wechat(), shop.merchant.mchid.as_str());
    shop.paid("T00001").await;
    assert_eq!(shop.refund_query("R1").await.told(), (404, "RESOURCE_NOT_EXISTS".into()));
    let wanted = shop.wanted("T00001", "R1", 500);
    let first = shop.refund(&wanted).await;
    assert_eq!((first.status, &first.json()["status"]), (200, &json!("PROCESSING")));
    assert!(first.is_signed_by(&shop.merchant.public_key_pem));
    assert_eq!(first.json()["amount"]["payer_refund"], 500);
    assert!(first.json()["refund_id"].as_str().is_some_and(|id| id.starts_with("50") && id.len() == 29));
    assert_eq!(shop.refund(&wanted).await.json(), first.json(), "the same number is the same refund");
    assert_eq!(shop.refund(&shop.wanted("T00001", "R1", 501)).await.told(), (400, "INVALID_REQUEST".into()));
    assert_eq!(shop.query("T00001").await.json()["trade_state"], "REFUND");
    assert!(first.json().get("success_time").is_none());

    assert!(wechat.end_refund(mchid, "R1", RefundStatus::Success));
    assert!(!wechat.end_refund(mchid, "R1", RefundStatus::Closed), "an end is an end");
    let after = shop.refund_query("R1").await.json();
    assert_eq!((&after["status"], &after["out_trade_no"]), (&json!("SUCCESS"), &json!("T00001")));
    assert!(after["success_time"].is_string());
    assert_eq!(shop.refund(&wanted).await.json()["status"], "SUCCESS");
    let ledger = shop.simulator.ledger();
    assert_eq!(ledger.refunded("T"), [("T00001".to_owned(), "R1".to_owned(), 500)]);
    assert_eq!((ledger.refunds_of("T00001"), ledger.refund_bodies_of("T00001", "R1")), (4, 2));
    assert_eq!(ledger.count("T00001", Call::Refund, Event::RefundAccepted), 1);
    assert_eq!(ledger.refund_queries_of("T00001"), 1, "the first query named an unknown refund");
}

#[tokio::test]
async fn what_cannot_be_refunded_is_refused_and_leaves_nothing() {
    let shop = shop().await;
    let wechat = shop.simulator.wechat();
    shop.paid("T00001").await;
    shop.prepay_id("T00002").await;
    let spoilt = |pointer: &str, value: Value| {
        let mut wanted = shop.wanted("T00001", "R1", 500);
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
        wanted.pointer_mut(parent).expect("a parent")[key] = value;
        wanted
    };
    let table = [
        (shop.wanted("T00003", "R1", 1), (404, "RESOURCE_NOT_EXISTS")),
        (shop.wanted("T00002", "R1", 1), (400, "INVALID_REQUEST")),
        (shop.wanted("T00001", "R1", 2000), (400, "INVALID_REQUEST")),
        (shop.wanted("T00001", "R1", 0), (400, "PARAM_ERROR")),
        (shop.wanted("T00001", "R.1", 1), (400, "PARAM_ERROR")),
        (spoilt("/amount/total", json!(2000)), (400, "INVALID_REQUEST")),
        (spoilt("/amount/currency", json!("USD")), (400, "PARAM_ERROR")),
        (spoilt("/amount/from", json!([{ "account": "AVAILABLE", "amount": 499 }])), (400, "PARAM_ERROR")),
        (spoilt("/transaction_id", json!("4200")), (400, "PARAM_ERROR")),
        (spoilt("/notify_url", json!("https://a.example/n?b=1")), (400, "PARAM_ERROR")),
        (spoilt("/sub_mchid", json!("1900000001")), (403, "NO_AUTH")),
    ];
    for (wanted, told) in table {
        assert_eq!(shop.refund(&wanted).await.told(), (told.0, told.1.to_owned()), "{wanted}");
    }
    wechat.set_balance(&shop.merchant.mchid, Some(499));
    assert_eq!(shop.refund(&shop.wanted("T00001", "R1", 500)).await.told(), (403, "NOT_ENOUGH".into()));
    assert_eq!(shop.query("T00001").await.json()["trade_state"], "SUCCESS");
    assert_eq!(shop.refund_query("R1").await.status, 404);
    // Funded, the same number is taken; then the next has to wait.
    wechat.set_balance(&shop.merchant.mchid, Some(500));
    assert_eq!(shop.refund(&shop.wanted("T00001", "R1", 500)).await.status, 200);
    wechat.set_balance(&shop.merchant.mchid, None);
    assert_eq!(shop.refund(&shop.wanted("T00001", "R2", 1)).await.told(), (429, "FREQUENCY_LIMITED".into()));
    assert_eq!(shop.refund_query("R2").await.status, 404, "not executed");
    wechat.set_switches(|switches| switches.limited_refund = LimitedRefund::Executed);
    assert_eq!(shop.refund(&shop.wanted("T00001", "R2", 1)).await.told(), (429, "FREQUENCY_LIMITED".into()));
    assert_eq!(shop.refund_query("R2").await.json()["status"], "PROCESSING", "executed all the same");
    // A closed refund gives its amount back; one that holds does not.
    a_minute(&shop);
    assert_eq!(shop.refund(&shop.wanted("T00001", "R3", 1499)).await.told(), (400, "INVALID_REQUEST".into()));
    assert!(wechat.end_refund(&shop.merchant.mchid, "R2", RefundStatus::Closed));
    assert_eq!(shop.refund(&shop.wanted("T00001", "R3", 1499)).await.status, 200);
}

#[tokio::test]
async fn an_order_is_refunded_fifty_times_within_a_year() {
    let shop = shop().await;
    shop.simulator.wechat().set_switches(|switches| switches.refund_spacing_ms = 0);
    shop.paid("T00001").await;
    for nth in 0..50 {
        assert_eq!(shop.refund(&shop.wanted("T00001", &format!("R{nth}"), 1)).await.status, 200, "{nth}");
    }
    assert_eq!(shop.refund(&shop.wanted("T00001", "R50", 1)).await.told(), (400, "INVALID_REQUEST".into()));
    shop.paid("T00002").await;
    shop.simulator.clock().advance(Duration::from_secs(365 * 24 * 3600 + 60));
    assert_eq!(shop.refund(&shop.wanted("T00002", "S1", 1)).await.told(), (400, "INVALID_REQUEST".into()));
}

#[tokio::test]
async fn a_refund_is_told_with_its_own_words_until_it_is_taken() {
    let mailbox = Mailbox::open(&[204, 500, 204]).await;
    let shop = shop_with(&mailbox).await;
    shop.paid("T00001").await;
    mailbox.wait_for(1).await;
    assert_eq!(shop.refund(&shop.wanted("T00001", "R1", 500)).await.status, 200);
    let ledger = shop.simulator.ledger();
    until(|| ledger.count("T00001", Call::RefundNotify, Event::NoticeAccepted) == 1).await;
    assert_eq!((ledger.refund_notices_of("T00001"), ledger.notices_of("T00001")), (2, 1));
    let got = mailbox.got.lock().expect("no panic");
    let notices: Vec<&Got> = got.iter().skip(1).collect();
    for notice in &notices {
        assert!(notice.is_signed_by(&shop.merchant.public_key_pem));
        let body = notice.json();
        assert_eq!((&body["event_type"], &body["id"]), (&json!("REFUND.SUCCESS"), &notices[0].json()["id"]));
        assert_eq!(body["resource"]["associated_data"], "refund");
        let told = decrypt(&shop, &body);
        assert_eq!((&told["refund_status"], &told["out_refund_no"]), (&json!("SUCCESS"), &json!("R1")));
        assert_eq!((&told["mchid"], &told["amount"]["refund"]), (&json!(shop.merchant.mchid), &json!(500)));
        assert!(told.get("status").is_none() && told["success_time"].is_string());
    }
}

#[tokio::test]
async fn an_abnormal_refund_goes_to_a_card_and_faults_strike_refunds_by_number() {
    let mailbox = Mailbox::open(&[200]).await;
    let shop = shop_with(&mailbox).await;
    let (wechat, mchid) = (shop.simulator.wechat(), shop.merchant.mchid.as_str());
    wechat.set_switches(|switches| switches.refund_ending = RefundEnding::Abnormal);
    wechat.set_switches(|switches| switches.notices = false);
    shop.paid("T00001").await;
    let lost = Fault::once(Wallet::Wechat, Call::Refund, FaultKind::LoseAnswer).when(Match::refund("R1"));
    shop.simulator.faults().add(lost);
    let lose = Fault::once(Wallet::Wechat, Call::RefundNotify, FaultKind::Lose).when(Match::refund("R1"));
    shop.simulator.faults().add(lose);
    assert!(
        shop.try_send(shop.call("POST", "/v3/refund/domestic/refunds", shop.wanted("T00001", "R1", 500)))
            .await
            .is_err()
    );
    mailbox.wait_for(1).await;
    let refund = wechat.refund_of(mchid, "R1").expect("it took effect");
    assert_eq!((refund.status, shop.simulator.ledger().refunded("T").len()), (RefundStatus::Abnormal, 0));
    let target = format!("/v3/refund/domestic/refunds/{}/apply-abnormal-refund", refund.refund_id);
    let card = json!({ "out_refund_no": "R1", "type": "USER_BANK_CARD" });
    assert_eq!(shop.send(shop.call("POST", target.clone(), card)).await.told(), (400, "PARAM_ERROR".into()));
    let card = json!({ "out_refund_no": "R1", "type": "MERCHANT_BANK_CARD" });
    assert_eq!(shop.send(shop.call("POST", target.clone(), card.clone())).await.json()["status"], "PROCESSING");
    mailbox.wait_for(2).await;
    assert_eq!(shop.simulator.ledger().refunded_fen("T00001"), 500);
    assert_eq!(shop.send(shop.call("POST", target, card)).await.told(), (400, "INVALID_REQUEST".into()));
    let wrong = Fault::once(Wallet::Wechat, Call::RefundQuery, FaultKind::WrongAmount { fen: 1 });
    shop.simulator.faults().add(wrong);
    assert_eq!(shop.refund_query("R1").await.json()["amount"]["refund"], 1);
    let kinds: Vec<Value> =
        mailbox.got.lock().expect("no panic").iter().map(|got| got.json()["event_type"].clone()).collect();
    assert_eq!(kinds, ["REFUND.ABNORMAL", "REFUND.SUCCESS"]);
}

#[tokio::test]
async fn a_provider_refunds_for_its_sub_merchant() {
    let shop = Shop::open_with(Options::default(), MerchantOptions::default()).await;
    let wechat = shop.simulator.wechat();
    let sp_mchid = shop.merchant.mchid.as_str();
    let sub_mchid = wechat.new_sub_merchant(sp_mchid).expect("a provider");
    let order = json!({
        "sp_appid": shop.app.appid, "sp_mchid": sp_mchid, "sub_mchid": sub_mchid, "description": "茶",
        "out_trade_no": "T00001", "notify_url": shop.notify_url, "amount": { "total": 1999 },
        "payer": { "sp_openid": shop.openid },
    });
    assert_eq!(shop.send(shop.call("POST", "/v3/pay/partner/transactions/jsapi", order)).await.status, 200);
    wechat.pay(sp_mchid, "T00001").expect("payable");
    let mut wanted = shop.wanted("T00001", "R1", 1);
    assert_eq!(shop.refund(&wanted).await.told(), (404, "RESOURCE_NOT_EXISTS".into()), "sub_mchid is missing");
    wanted["sub_mchid"] = json!(sub_mchid);
    assert_eq!(shop.refund(&wanted).await.status, 200);
    assert_eq!(shop.refund_query("R1").await.told(), (400, "PARAM_ERROR".into()));
    assert_eq!(shop.refund_query(&format!("R1?sub_mchid={sub_mchid}")).await.status, 200);
    assert_eq!(shop.refund_query("R1?sub_mchid=1").await.told(), (404, "RESOURCE_NOT_EXISTS".into()));
}

#[tokio::test]
async fn another_process_ends_refunds_and_changes_bills_through_the_control_routes() {
    let shop = shop().await;
    let mchid = shop.merchant.mchid.as_str();
    shop.paid("T00001").await;
    assert_eq!(shop.refund(&shop.wanted("T00001", "R1", 500)).await.status, 200);
    let base = shop.simulator.control_url();
    let post = async |path: &str, body: Value| -> Value {
        let sent = shop.client.post(format!("{base}/_sim/wechat/{path}")).json(&body).send().await.expect("an answer");
        assert_eq!(sent.status(), 200, "{path}");
        sent.json().await.expect("JSON")
    };
    let named = json!({ "mchid": mchid, "out_refund_no": "R1", "status": "ABNORMAL" });
    assert_eq!(post("end_refund", named.clone()).await, json!(true));
    assert_eq!(post("refund", named).await["status"], "ABNORMAL");
    assert_eq!(post("refunds", json!({ "mchid": mchid, "out_trade_no": "T00001" })).await[0]["refund_fen"], 500);
    post("balance", json!({ "mchid": mchid, "balance_fen": 1 })).await;
    post("refund_notify_url", json!({ "mchid": mchid, "url": shop.notify_url })).await;
    let change = json!({ "change": "leave_out", "out_trade_no": "T00001", "out_refund_no": null });
    post("change_bills", json!({ "mchid": mchid, "change": change })).await;
    let bill = json!({ "prefix": "M", "rows": 9, "refund_every": 3 });
    let made_up = json!({ "mchid": mchid, "date": "2026-02-28", "bill": bill });
    assert_eq!(post("synthetic_bill", made_up).await, json!(true));
    post("true_bills", json!({ "mchid": mchid })).await;
    let switches = post("switches", json!({ "bills": "ready", "refund_ending": "closed" })).await;
    assert_eq!((&switches["bills"], &switches["refund_spacing_ms"]), (&json!("ready"), &json!(60_000)));
}
