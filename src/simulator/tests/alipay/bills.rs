//! Business bills: when there is one, what its address is good for, that it is a ZIP with what happened.

use std::time::Duration;

use serde_json::json;
use simulator::alipay::{AppOptions, BillErrors};
use simulator::{BillChange, Bills, Call, Fault, FaultKind, Simulator, SyntheticBill, Wallet};

use crate::client::{Answered, Client, gmt8, start};

const METHOD: &str = "alipay.data.dataservice.bill.downloadurl.query";

async fn ask(client: &Client, date: &str) -> Answered {
    client.call(METHOD, &json!({ "bill_type": "trade", "bill_date": date })).await
}

async fn paid(simulator: &Simulator, client: &Client, number: &str) {
    let user = simulator.alipay().new_user();
    let open_id = simulator.alipay().open_id(&client.app.app_id, &user.user_id).unwrap();
    client.create(&client.order(number, &open_id), None).await.ok();
    simulator.alipay().pay_number(&client.app.app_id, number).unwrap();
}

async fn fetch(answered: Answered) -> reqwest::Result<(String, Vec<u8>)> {
    let node = answered.ok();
    let url = node["bill_download_url"].as_str().unwrap();
    let answer = reqwest::Client::builder().no_proxy().build()?.get(url).send().await?;
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    Ok((kind, answer.bytes().await?.to_vec()))
}

/// A payment before China's midnight and a look after it are about two days.
async fn until_midnight_is_not_near() {
    while gmt8(60)[..10] != gmt8(0)[..10] {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test]
async fn a_bill_has_its_day_and_its_errors() {
    until_midnight_is_not_near().await;
    let simulator = start().await;
    let alipay = simulator.alipay();
    let client = Client::new(&simulator, AppOptions::default());
    paid(&simulator, &client, "T1").await;
    let today = gmt8(0)[..10].to_owned();
    ask(&client, &today).await.refused("INVAILID_ARGUMENTS");
    ask(&client, "2026-02-30").await.refused("INVAILID_ARGUMENTS");
    ask(&client, "2024-02-28").await.refused("BILL_NOT_EXIST");
    alipay.set_switches(|switches| switches.bill_errors = BillErrors::Live);
    ask(&client, "2024-02-28").await.refused("isp.bill_not_exist");
    let other = json!({ "bill_type": "signcustomer", "bill_date": today });
    client.call(METHOD, &other).await.refused("isp.type_not_supported");
    alipay.set_switches(|switches| switches.empty_bills = true);
    let empty = ask(&client, "2024-02-28").await.ok();
    assert_eq!(empty["bill_file_code"], "EMPTY_DATA_WITH_BILL_FILE");
    alipay.set_switches(|switches| switches.bills = Bills::Creating);
    ask(&client, &today).await.refused("isp.bill_not_exist");
}

#[tokio::test]
async fn an_address_is_good_for_thirty_seconds() {
    until_midnight_is_not_near().await;
    let simulator = start().await;
    let alipay = simulator.alipay();
    let client = Client::new(&simulator, AppOptions::default());
    let seller_id = client.app.seller_id.as_str();
    alipay.set_switches(|switches| switches.bills = Bills::Ready);
    paid(&simulator, &client, "T1").await;
    alipay.refund_by_hand(&client.app.app_id, "T1", 8888).unwrap();
    let today = gmt8(0)[..10].to_owned();
    let (kind, whole) = fetch(ask(&client, &today).await).await.unwrap();
    assert_eq!((kind.as_str(), &whole[..4]), ("application/zip", &b"PK\x03\x04"[..]));
    let change = BillChange::LeaveOut { out_trade_no: "T1".into(), out_refund_no: None };
    alipay.change_bills(seller_id, change);
    let (_, less) = fetch(ask(&client, &today).await).await.unwrap();
    assert!(less.len() < whole.len());
    simulator.faults().add(Fault::once(Wallet::Alipay, Call::BillFile, FaultKind::CutBody));
    assert!(fetch(ask(&client, &today).await).await.is_err());

    let answered = ask(&client, &today).await;
    simulator.clock().advance(Duration::from_secs(31));
    let (kind, _) = fetch(answered).await.unwrap();
    assert!(kind.starts_with("text/html"), "a page for people, with 200");

    let bill = SyntheticBill { prefix: "M".into(), suffix: String::new(), rows: 20_000, refund_every: 0 };
    assert!(alipay.set_synthetic_bill(seller_id, "2026-02-28", bill));
    simulator.clock().set_offset_ms(0);
    let (_, made_up) = fetch(ask(&client, "2026-02-28").await).await.unwrap();
    assert_eq!((&made_up[made_up.len() - 22..][..4], made_up.len() > 100_000), (&b"PK\x05\x06"[..], true));
    alipay.true_bills(seller_id);
    assert!(fetch(ask(&client, &today).await).await.unwrap().1.len() > less.len(), "the row is back");
}
