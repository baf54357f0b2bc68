//! What merchants' servers and people at the command line do beside the phones.

use prepay::domain::{
    bill::BillDate,
    id::{AttemptNo, OrderId, OutTradeNo},
    time::Timestamp,
};
use reqwest::StatusCode;
use serde_json::json;
use simulator::{BillChange, BillRow, RsaKey};

use super::phone::{Phone, Till};
use crate::{
    cli::{
        deployment::{Deployment, Enrolled},
        parked,
    },
    store::place::Place,
    trip::{
        harness::until,
        inbox::Inbox,
        shop::{now_s, order_body},
    },
};

/// A refund, a close, and events that are sent again one by one and together. What the merchant was answered.
pub async fn merchant_and_events(at: &Deployment, till: &Till<'_>, phone: &mut Phone, inbox: &Inbox) -> String {
    let shop = till.shop;
    let mut body = order_body("TOLD");
    body["notifyUrl"] = json!(inbox.url);
    let order = shop.create(&body).await;
    // Its endpoint fails first, which is kept with the event and logged.
    inbox.says(500);
    phone.pay(till, &order).await;
    let number = inbox.until_heard(1).await[0].id.clone();
    inbox.says(200);
    let refund = json!({ "refundNo": "R1", "orderNo": "TOLD", "refundAmount": 7 });
    let mut answers = shop.post("/api/v1/refunds", &refund).await.1.to_string();
    until("it is refunded", || async { shop.get("/api/v1/refunds/R1").await.1["data"]["refundStatus"] == "SUCCESS" })
        .await;
    shop.new_order("CLOSED").await;
    answers += &shop.post("/api/v1/orders/CLOSED/close", &json!({})).await.1.to_string();

    let resend = format!("/api/v1/notifications/{number}/resend");
    let (status, resent) = shop.post(&resend, &json!({})).await;
    assert_eq!(status, StatusCode::OK, "{resent:#}");
    answers += &resent.to_string();
    until("it is delivered", || async {
        let told = shop.get("/api/v1/orders/TOLD/notifications").await.1;
        told["data"]["notifications"].as_array().unwrap().iter().any(|row| row["lastStatus"] == 200)
    })
    .await;
    answers += &shop.get("/api/v1/orders/TOLD/notifications").await.1.to_string();
    at.ok(&["event", "list", "--customer", "C1"]).await;
    at.ok(&["event", "resend", &number]).await;
    let span = ["--from", "2020-01-01T00:00:00+08:00", "--to", "2100-01-01T00:00:00+08:00"];
    let many = [&["event", "resend", "--customer", "C1", "--state", "delivered"][..], &span].concat();
    until("some are sent again together", || async { !at.ok(&many).await.starts_with("0 events") }).await;
    at.ok(&["event", "endpoints"]).await;
    answers
}

/// A notification of an order that is not there, as after a restore: it is set aside, listed and shown.
pub async fn a_parked_notice(at: &Deployment, enrolled: &Enrolled, place: &Place, till: &Till<'_>, phone: &mut Phone) {
    at.sim.wechat().set_switches(|switches| switches.notices = false);
    let order = till.shop.new_order("GONE").await;
    phone.pay(till, &order).await;
    parked::take_away(place, &order).await;
    let number = at.sim.ledger().payments(order["serialNo"].as_str().unwrap()).pop().expect("it is paid").0;
    at.sim.wechat().notify_now(&enrolled.wechat.mchid, &number, &[]).await.unwrap();
    until("it is set aside", || async { place.store.list_parked(9).await.unwrap().len() == 1 }).await;
    let id = place.store.list_parked(1).await.unwrap().remove(0).id;
    assert!(at.ok(&["parked", "list"]).await.contains(&id));
    assert!(at.ok(&["parked", "show", &id]).await.contains("kind: notice"));
}

/// Bills of every account are fetched, one with a payment that nobody knows.
pub async fn bills(at: &Deployment, enrolled: &Enrolled) {
    let today = BillDate::of(Timestamp::from_secs(i64::try_from(now_s()).unwrap()));
    let date = today.previous().previous();
    let at_ms = date.begin().ms();
    let row = BillRow {
        at_ms,
        created_ms: at_ms,
        out_trade_no: OutTradeNo { order: OrderId::fresh(), attempt: AttemptNo::FIRST }.to_string(),
        trade_no: "4200000000000000000000000001".into(),
        amount_fen: 1999,
        status: "SUCCESS".into(),
        ..BillRow::default()
    };
    at.sim.wechat().change_bills(&enrolled.wechat.mchid, BillChange::Add { row: Box::new(row) });
    let told = at.ok(&["reconcile", "--date", &date.to_string()]).await;
    assert!(told.contains("1 do not agree"), "{told}");
    at.ok(&["reconcile", "list"]).await;
}

/// What is wrong is not quoted: keys that are none, keys that are somebody's but not this one's, servers that refuse.
pub async fn refusals(at: &mut Deployment) {
    at.secret_file("short", "not-thirty-two-characters");
    at.secret_file("torn.pem", "-----BEGIN PRIVATE KEY-----\nMIIEtornkeyofnobodyatall\n-----END PRIVATE KEY-----");
    let whole = RsaKey::generate().unwrap().private_key_pem();
    let half: Vec<&str> =
        whole.lines().enumerate().filter(|(at, _)| !(8..12).contains(at)).map(|(_, line)| line).collect();
    at.secret_file("half.pem", &half.join("\n"));
    for refused in [
        &["channel", "set-wechat", "1", "--apiv3-key-file", "short"][..],
        &["channel", "set-wechat", "1", "--serial-no", "5157F09EFDC096DE", "--private-key-file", "torn.pem"],
        &["channel", "set-wechat", "1", "--serial-no", "5157F09EFDC096DE", "--private-key-file", "half.pem"],
        &["channel", "set-alipay", "2", "--private-key-file", "torn.pem"],
        &["channel", "set-alipay", "2", "--private-key-file", "short"],
        &["channel", "set-alipay", "2", "--alipay-public-key-file", "own.next"],
    ] {
        at.fails(refused).await;
    }
    // A secret where its file's name belongs.
    let given = format!("given{}", uuid::Uuid::now_v7().simple());
    at.is_secret(&given);
    let ours = at.variables.clone();
    at.file("settings.toml", &format!("[database]\nurl = postgres://prepay:{given}@127.0.0.1:1/prepay\n"));
    for (variable, value, commands) in [
        ("PREPAY_KEYS", format!("1:{given}"), &["channel", "list"][..]),
        ("PREPAY_KEYS__BACK", format!("1:{given}"), &["channel", "list"]),
        ("PREPAY_KEYS__BACK_FILE", format!("1:{given}"), &["channel", "list"]),
        ("PREPAY_KEYS__BACK_FILE", "short".to_owned(), &["doctor"]),
        ("PREPAY_DATABASE", format!("postgres://prepay:{given}@127.0.0.1:1/prepay"), &["migrate"]),
        ("PREPAY_DATABASE__URL", format!("postgres://prepay:{given}@127.0.0.1:1/prepay"), &["merchant", "list"]),
        ("PREPAY_DATABASE__URL", format!("mysql://prepay:{given}@127.0.0.1:1/prepay"), &["doctor"]),
        ("PREPAY_BROKER__URL", format!("amqp://prepay:{given}@127.0.0.1:1/%2f"), &["queue", "depth"]),
        ("PREPAY_BROKER__URL", format!("amqp://prepay:{given}@127.0.0.1:1/%2f"), &["doctor"]),
        ("PREPAY_SETTINGS", "settings.toml".to_owned(), &["merchant", "list"]),
    ] {
        at.variables.clone_from(&ours);
        // Given beside what it stands for, it could be passed over.
        at.variables.retain(|name, _| !name.starts_with(variable.trim_end_matches("_FILE")));
        if variable != "PREPAY_DATABASE" {
            at.set("PREPAY_DATABASE__ACQUIRE_TIMEOUT_MS", "200");
        }
        at.set(variable, &value);
        let done = at.run(commands).await;
        assert_eq!(done.code, 1, "{variable} {commands:?}: {done:?}");
    }
    at.variables = ours;
}
