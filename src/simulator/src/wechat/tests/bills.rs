//! Trade bills: when there is one, what is in it, what its address is good for.

use std::io::Read;
use std::time::Duration;

use serde_json::json;

use super::{Got, Shop};
use crate::{BillChange, BillRow, Bills, Call, Event, Fault, FaultKind, SyntheticBill, Wallet, chance};

/// Today in Beijing as the wallets have it, moved by some days.
fn date(shop: &Shop, days: i64) -> String {
    let at = crate::wechat::beijing(shop.simulator.clock().now_ms()) + time::Duration::days(days);
    format!("{:04}-{:02}-{:02}", at.year(), u8::from(at.month()), at.day())
}

/// Moves the wallets' clock to this hour of the next day in Beijing.
fn tomorrow_at(shop: &Shop, hour: u64) {
    let clock = shop.simulator.clock();
    let into_day_ms = (clock.now_ms() + 8 * 3600 * 1000).rem_euclid(24 * 3600 * 1000);
    clock.advance(Duration::from_millis((24 + hour) * 3600 * 1000 - u64::try_from(into_day_ms).expect("positive")));
}

async fn ask(shop: &Shop, query: &str) -> Got {
    shop.send(shop.call("GET", format!("/v3/bill/tradebill?{query}"), "")).await
}

fn target(asked: &Got) -> String {
    let url = asked.json()["download_url"].as_str().expect("an address").to_owned();
    url[url.find("/v3/").expect("a path")..].to_owned()
}

/// The rows of a bill without its head and sums.
async fn rows(shop: &Shop, query: &str) -> Vec<Vec<String>> {
    let asked = ask(shop, query).await;
    let file = shop.send(shop.call("GET", target(&asked), "")).await;
    let text = String::from_utf8(file.body).expect("UTF-8");
    let lines: Vec<&str> = text.split("\r\n").collect();
    let rows = &lines[1..lines.len() - 3];
    rows.iter().map(|row| row[1..].split(",`").map(str::to_owned).collect()).collect()
}

/// All of a test happens on one day in China, whenever it runs.
fn away_from_midnight(shop: &Shop) {
    tomorrow_at(shop, 12);
}

fn sha1(bytes: &[u8]) -> String {
    use aws_lc_rs::digest;
    chance::hex(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref())
}

#[tokio::test]
async fn a_bill_tells_every_payment_and_refund_of_its_day() {
    let shop = Shop::open().await;
    away_from_midnight(&shop);
    shop.paid("T00001").await;
    shop.paid("T00002").await;
    shop.prepay_id("T00003").await;
    assert_eq!(shop.refund(&shop.wanted("T00002", "R1", 500)).await.status, 200);
    let day = date(&shop, 0);
    assert_eq!(ask(&shop, &format!("bill_date={day}")).await.told(), (400, "PARAM_ERROR".into()), "not over");
    tomorrow_at(&shop, 8);
    assert_eq!(ask(&shop, &format!("bill_date={day}")).await.told(), (400, "STATEMENT_CREATING".into()));
    tomorrow_at(&shop, 9);
    let before = date(&shop, -30);
    assert_eq!(ask(&shop, &format!("bill_date={before}")).await.told(), (400, "NO_STATEMENT_EXIST".into()));
    for wrong in
        ["bill_date=2026-1-1".to_owned(), format!("bill_date={day}&x=1"), format!("bill_date={day}&bill_type=X")]
    {
        assert_eq!(ask(&shop, &wrong).await.told(), (400, "PARAM_ERROR".into()), "{wrong}");
    }

    let asked = ask(&shop, &format!("bill_date={day}&tar_type=GZIP")).await;
    assert!(asked.is_signed_by(&shop.merchant.public_key_pem));
    let file = shop.send(shop.call("GET", target(&asked), "")).await;
    assert_eq!((file.status, file.header("Wechatpay-Signature")), (200, ""), "files are not signed");
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(file.body.as_slice()).read_to_end(&mut plain).expect("gzip");
    assert_eq!((&asked.json()["hash_type"], &asked.json()["hash_value"]), (&json!("SHA1"), &json!(sha1(&plain))));

    let all = rows(&shop, &format!("bill_date={day}")).await;
    let told: Vec<_> =
        all.iter().map(|row| (row[6].as_str(), row[9].as_str(), row[12].as_str(), row[16].as_str())).collect();
    assert_eq!(told.len(), 3);
    for row in [
        ("T00001", "SUCCESS", "19.99", "0.00"),
        ("T00002", "SUCCESS", "19.99", "0.00"),
        ("T00002", "REFUND", "0.00", "5.00"),
    ] {
        assert!(told.contains(&row), "{told:?}");
    }
    assert_eq!(rows(&shop, &format!("bill_date={day}&bill_type=SUCCESS")).await[0].len(), 20);
    let refunds = rows(&shop, &format!("bill_date={day}&bill_type=REFUND")).await;
    assert_eq!((refunds.len(), refunds[0].len(), refunds[0][17].as_str()), (1, 29, "R1"));
}

#[tokio::test]
async fn an_address_is_good_once_for_thirty_seconds_and_its_merchant() {
    let shop = Shop::open().await;
    away_from_midnight(&shop);
    shop.simulator.wechat().set_switches(|switches| switches.bills = Bills::Ready);
    shop.paid("T00001").await;
    let query = format!("bill_date={}", date(&shop, 0));
    let used = target(&ask(&shop, &query).await);
    let late = target(&ask(&shop, &query).await);
    assert_eq!(shop.send(shop.call("GET", used.clone(), "")).await.status, 200);
    shop.simulator.clock().advance(Duration::from_secs(31));
    for stale in [used, late, "/v3/billdownload/file?token=none".to_owned()] {
        assert_eq!(shop.send(shop.call("GET", stale, "")).await.told(), (400, "INVALID_REQUEST".into()));
    }
    let fresh = target(&ask(&shop, &query).await);
    let mut unsigned = shop.call("GET", fresh.clone(), "");
    unsigned.signed_body = Some("else".to_owned());
    assert_eq!(shop.send(unsigned).await.status, 401);
    let cut = Fault::once(Wallet::Wechat, Call::BillFile, FaultKind::CutBody);
    shop.simulator.faults().add(cut);
    assert!(shop.try_send(shop.call("GET", fresh, "")).await.is_err());
    shop.simulator.faults().add(Fault::once(Wallet::Wechat, Call::Bill, FaultKind::WrongHash));
    let lied = ask(&shop, &query).await;
    let file = shop.send(shop.call("GET", target(&lied), "")).await;
    assert_ne!(lied.json()["hash_value"], json!(sha1(&file.body)));
    let lines = shop.simulator.ledger().entries();
    assert_eq!(lines.iter().filter(|line| line.call == Call::BillFile && line.event == Event::Billed).count(), 3);
}

#[tokio::test]
async fn a_bill_differs_from_what_happened_on_demand() {
    let shop = Shop::open().await;
    away_from_midnight(&shop);
    let (wechat, mchid) = (shop.simulator.wechat(), shop.merchant.mchid.as_str());
    wechat.set_switches(|switches| switches.bills = Bills::Ready);
    for number in ["T00001", "T00002", "T00003"] {
        shop.paid(number).await;
    }
    let named = |number: &str| (number.to_owned(), None);
    let (out_trade_no, out_refund_no) = named("T00001");
    wechat.change_bills(mchid, BillChange::LeaveOut { out_trade_no, out_refund_no });
    let (out_trade_no, out_refund_no) = named("T00002");
    wechat.change_bills(mchid, BillChange::Amount { out_trade_no, out_refund_no, fen: 1 });
    let row = BillRow { out_trade_no: "X00001".into(), amount_fen: 7, status: "SUCCESS".into(), ..BillRow::default() };
    wechat.change_bills(mchid, BillChange::Add { row: Box::new(row) });
    let query = format!("bill_date={}", date(&shop, 0));
    let told = |rows: Vec<Vec<String>>| -> Vec<(String, String)> {
        rows.into_iter().map(|row| (row[6].clone(), row[12].clone())).collect()
    };
    let pair = |number: &str, yuan: &str| (number.to_owned(), yuan.to_owned());
    let mut changed = told(rows(&shop, &query).await);
    changed.sort();
    assert_eq!(changed, [pair("T00002", "0.01"), pair("T00003", "19.99"), pair("X00001", "0.07")]);
    wechat.true_bills(mchid);
    assert_eq!(told(rows(&shop, &query).await).len(), 3);

    let bill = SyntheticBill { prefix: "M".into(), suffix: String::new(), rows: 20_000, refund_every: 4 };
    assert!(wechat.set_synthetic_bill(mchid, "2026-02-28", bill.clone()));
    let asked = ask(&shop, "bill_date=2026-02-28").await;
    let file = shop.send(shop.call("GET", target(&asked), "")).await;
    assert_eq!(asked.json()["hash_value"], json!(sha1(&file.body)));
    let text = String::from_utf8(file.body).expect("UTF-8");
    assert_eq!(text.lines().count(), 20_003);
    assert!(text.contains(&format!("`{},`", bill.row(9_999, 0).out_refund_no)));
    shop.simulator.faults().add(Fault::once(Wallet::Wechat, Call::BillFile, FaultKind::CutBody));
    let asked = ask(&shop, "bill_date=2026-02-28").await;
    assert!(shop.try_send(shop.call("GET", target(&asked), "")).await.is_err(), "it breaks off");
}
