//! Refunds of trades: once per request number, what is left, what is told later.

use std::time::Duration;

use serde_json::{Value, json};
use simulator::alipay::{AppOptions, EarlyRefund};
use simulator::{Call, Event, Fault, FaultKind, Match, Simulator, Wallet};

use crate::client::{Answered, Client, start};
use crate::sink::Sink;

/// An application, and paid trades of 88.88 yuan.
struct Counter {
    simulator: Simulator,
    client: Client,
    open_id: String,
}

impl Counter {
    async fn open() -> Self {
        let simulator = start().await;
        let client = Client::new(&simulator, AppOptions::default());
        let user = simulator.alipay().new_user();
        let open_id = simulator.alipay().open_id(&client.app.app_id, &user.user_id).unwrap();
        Self { simulator, client, open_id }
    }

    async fn paid(&self, number: &str, notify_url: Option<&str>) {
        self.client.create(&self.client.order(number, &self.open_id), notify_url).await.ok();
        self.simulator.alipay().pay_number(&self.client.app.app_id, number).unwrap();
    }

    async fn refund(&self, number: &str, request: &str, yuan: &str) -> Answered {
        let biz = json!({ "out_trade_no": number, "out_request_no": request, "refund_amount": yuan });
        self.client.call("alipay.trade.refund", &biz).await
    }

    async fn refund_query(&self, number: &str, request: &str) -> Value {
        let biz = json!({ "out_trade_no": number, "out_request_no": request, "query_options": ["gmt_refund_pay"] });
        self.client.call("alipay.trade.fastpay.refund.query", &biz).await.ok()
    }

    fn wait(&self, seconds: u64) {
        self.simulator.clock().advance(Duration::from_secs(seconds));
    }
}

#[tokio::test]
async fn a_request_number_moves_money_once() {
    let counter = Counter::open().await;
    counter.simulator.alipay().set_switches(|switches| switches.refund_spacing_ms = 60_000);
    counter.paid("T1", None).await;
    let first = counter.refund("T1", "R1", "10.00").await.ok();
    assert_eq!((&first["fund_change"], &first["refund_fee"]), (&json!("Y"), &json!("10.00")));
    let again = counter.refund("T1", "R1", "10.00").await.ok();
    assert_eq!((&again["fund_change"], &again["refund_fee"]), (&json!("N"), &json!("10.00")));
    counter.refund("T1", "R1", "10.01").await.refused("ACQ.DISCORDANT_REPEAT_REQUEST");
    counter.refund("T1", "R2", "1.00").await.refused("isv.method-call-limited");
    counter.simulator.alipay().set_switches(|switches| switches.early_refund = EarlyRefund::SystemError);
    counter.refund("T1", "R2", "1.00").await.refused("ACQ.SYSTEM_ERROR");
    assert_eq!(counter.client.query("T1").await.ok()["trade_status"], "TRADE_SUCCESS");
    counter.wait(60);
    counter.refund("T1", "R2", "78.89").await.refused("ACQ.REFUND_AMT_NOT_EQUAL_TOTAL");
    let rest = counter.refund("T1", "R2", "78.88").await.ok();
    assert_eq!((&rest["fund_change"], &rest["refund_fee"]), (&json!("Y"), &json!("88.88")), "cumulative");
    // Refunded in full it is closed, and the numbers known answer as before.
    let closed = counter.client.query("T1").await.ok();
    assert_eq!(closed["trade_status"], "TRADE_CLOSED");
    assert!(closed["send_pay_date"].is_string());
    counter.refund("T1", "R3", "0.01").await.refused("ACQ.TRADE_HAS_CLOSE");
    assert_eq!(counter.refund("T1", "R2", "78.88").await.ok()["fund_change"], "N");
    let ledger = counter.simulator.ledger();
    let moved = [("T1".to_owned(), "R1".to_owned(), 1000), ("T1".to_owned(), "R2".to_owned(), 7888)];
    assert_eq!(ledger.refunded("T1"), moved);
    assert_eq!((ledger.refunds_of("T1"), ledger.refund_bodies_of("T1", "R1")), (9, 2));
}

#[tokio::test]
async fn what_cannot_be_refunded_is_refused_and_moves_nothing() {
    let counter = Counter::open().await;
    let alipay = counter.simulator.alipay();
    counter.client.create(&counter.client.order("T1", &counter.open_id), None).await.ok();
    counter.refund("T1", "R1", "1.00").await.refused("ACQ.TRADE_STATUS_ERROR");
    counter.refund("T2", "R1", "1.00").await.refused("ACQ.TRADE_NOT_EXIST");
    counter.paid("T3", None).await;
    alipay.set_seller_balance(&counter.client.app.seller_id, Some(99));
    counter.refund("T3", "R1", "1.00").await.refused("ACQ.SELLER_BALANCE_NOT_ENOUGH");
    alipay.set_seller_balance(&counter.client.app.seller_id, Some(100));
    assert_eq!(counter.refund("T3", "R1", "1.00").await.ok()["fund_change"], "Y", "the same number, funded");
    for biz in [
        json!({ "out_trade_no": "T3", "out_request_no": "R2", "refund_amount": "1" }),
        json!({ "out_trade_no": "T3", "refund_amount": "1.00" }),
        json!({ "out_trade_no": "T3", "out_request_no": "R2", "refund_amount": "1.00", "x": "" }),
    ] {
        counter.client.call("alipay.trade.refund", &biz).await.refused("ACQ.INVALID_PARAMETER");
    }
    let trade = alipay.trade(&counter.client.app.app_id, "T3").unwrap();
    assert_eq!(trade.refunded_fen(), 100);
    alipay.finish(&trade.trade_no).unwrap();
    counter.refund("T3", "R2", "1.00").await.refused("ACQ.TRADE_HAS_FINISHED");
}

#[tokio::test]
async fn a_refund_is_told_ten_seconds_later() {
    let counter = Counter::open().await;
    counter.paid("T1", None).await;
    let lost = Fault::once(Wallet::Alipay, Call::Refund, FaultKind::LoseAnswer).when(Match::refund("R1"));
    counter.simulator.faults().add(lost);
    let mut params = counter.client.params("alipay.trade.refund");
    let biz = json!({ "out_trade_no": "T1", "out_request_no": "R1", "refund_amount": "1.00" });
    params.insert("biz_content".into(), biz.to_string());
    counter.client.sign(&mut params);
    assert!(counter.client.send(&params).await.is_err());
    assert_eq!(counter.refund("T1", "R1", "1.00").await.ok()["fund_change"], "N", "the lost call moved the money");
    let fresh = counter.refund_query("T1", "R1").await;
    assert!(fresh.get("refund_status").is_none());
    let unknown = counter.refund_query("T1", "R2").await;
    assert_eq!((unknown.get("refund_status"), &unknown["code"]), (None, &json!("10000")));
    counter.wait(10);
    let told = counter.refund_query("T1", "R1").await;
    assert_eq!((&told["refund_status"], &told["refund_amount"]), (&json!("REFUND_SUCCESS"), &json!("1.00")));
    assert!(told["gmt_refund_pay"].is_string());
    let wrong = Fault::once(Wallet::Alipay, Call::RefundQuery, FaultKind::WrongAmount { fen: 5 });
    counter.simulator.faults().add(wrong);
    assert_eq!(counter.refund_query("T1", "R1").await["refund_amount"], "0.05");
}

#[tokio::test]
async fn a_refund_is_told_at_the_address_of_its_order() {
    let counter = Counter::open().await;
    let sink = Sink::start(&[]).await;
    counter.paid("T1", Some(&sink.url)).await;
    counter.refund("T1", "R1", "8.88").await.ok();
    counter.wait(3);
    counter.refund("T1", "R2", "80.00").await.ok();
    sink.arrived(3).await;
    let notices: Vec<_> = sink.seen().into_iter().filter(|notice| notice.contains_key("out_biz_no")).collect();
    let of = |number: &str| notices.iter().find(|notice| notice["out_biz_no"] == number).unwrap();
    assert_eq!((of("R1")["trade_status"].as_str(), of("R1")["refund_fee"].as_str()), ("TRADE_SUCCESS", "8.88"));
    assert_eq!((of("R2")["trade_status"].as_str(), of("R2")["refund_fee"].as_str()), ("TRADE_CLOSED", "88.88"));
    assert_eq!((of("R1")["gmt_refund"].len(), of("R2")["gmt_close"].len()), (23, 19));
    assert_eq!(counter.simulator.ledger().refund_notices_of("T1"), 2);
    assert_eq!(counter.simulator.ledger().count("T1", Call::Notify, Event::NoticeSent), 1);
}
