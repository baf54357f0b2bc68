//! Bills: applied for, downloaded, checked, read.

use std::{io::Write, time::Duration};

use flate2::{Compression, write::GzEncoder};

use super::{super::fake::Fake, *};
use crate::{
    domain::money::Sum,
    gateway::{BillKind, BillRow, RefundStatus},
};

const SHA1: &str = "9bb6cd819be348f17a9cbcedddc8eb62fefbd790";

fn csv() -> Vec<u8> {
    read("wechat/bill.ALL.csv").into_bytes()
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut to = GzEncoder::new(Vec::new(), Compression::fast());
    to.write_all(plain).unwrap();
    to.finish().unwrap()
}

fn applied(hash: &str, url: &str) -> Reply {
    ok(&json!({"hash_type": "SHA1", "hash_value": hash, "download_url": url}).to_string())
}

const FILE_URL: &str = "FAKE_URL/v3/billdownload/file?token=abc_-1&tartype=gzip";

fn day() -> BillDate {
    BillDate::parse("2019-02-19").unwrap()
}

fn limits() -> BillLimits {
    BillLimits { timeout: Duration::from_secs(8), ..BillLimits::default() }
}

#[tokio::test]
async fn a_bill_is_fetched_checked_and_read() {
    // Packed or not, in capitals or not.
    for (file, hash) in [(gzip(&csv()), SHA1.to_uppercase()), (csv(), SHA1.to_owned())] {
        let folder = tempfile::tempdir().unwrap();
        let into = folder.path().join("bill");
        let fake = Fake::start([applied(&hash, FILE_URL), Reply::File(file)]).await;
        let gateway = gateway(&fake.url);
        let bill = gateway.bill(day(), &into, BillLimits::default()).await.unwrap();
        assert_eq!(bill, BillFile { path: into, bytes: 14686 });
        assert_eq!(std::fs::read(&bill.path).unwrap(), csv());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing half stays");
        let seen = fake.seen();
        assert_eq!(seen[0].path, "/v3/bill/tradebill?bill_date=2019-02-19&bill_type=ALL&tar_type=GZIP");
        assert_eq!(seen[1].path, "/v3/billdownload/file?token=abc_-1&tartype=gzip");
        seen.iter().for_each(|seen| seen.assert_signed_by(MCHID));
        let rows: Vec<BillRow> = gateway.read_bill(&bill).unwrap().map(Result::unwrap).collect();
        let of = |kind| rows.iter().filter(move |row| row.kind == kind).map(|row| row.amount.get());
        assert_eq!((rows.len(), of(BillKind::Refund).count()), (45, 14));
        assert_eq!((of(BillKind::Pay).sum::<i64>(), of(BillKind::Refund).sum::<i64>()), (47, 14));
        assert_eq!(
            rows[0],
            BillRow {
                kind: BillKind::Refund,
                out_trade_no: "autotest_20190216081946_82335".into(),
                out_refund_no: Some("REF4200000263201902167700963919".into()),
                wallet_trade_no: "4200000263201902167700134212".into(),
                wallet_refund_no: Some("50000709672019011908420787722".into()),
                amount: Fen::MIN,
                received: Sum::new(1).ok(),
                refund_status: Some(RefundStatus::Success),
                at: Timestamp::parse_china_text("2019-02-19 05:01:46").unwrap(),
                app_id: Some("wxab8acd895ab1638a".into()),
                mchid: Some("1921000401".into()),
                sub_mchid: None,
            }
        );
        let paid = &rows[2];
        assert_eq!((paid.kind, paid.amount.get(), paid.received), (BillKind::Pay, 3, Sum::new(3).ok()));
        assert_eq!((&paid.out_refund_no, &paid.wallet_refund_no, paid.refund_status), (&None, &None, None));
    }
}

#[tokio::test]
async fn a_provider_asks_for_its_merchants_bill() {
    let fake = Fake::start([refusal(400, "NO_STATEMENT_EXIST")]).await;
    let gateway = gateway_of(provider(), &fake.url, "", pinned());
    let folder = tempfile::tempdir().unwrap();
    let none = gateway.bill(day(), &folder.path().join("bill"), BillLimits::default()).await.unwrap_err();
    assert!(matches!(none, BillError::None), "{none}");
    let path = format!("/v3/bill/tradebill?bill_date=2019-02-19&bill_type=ALL&tar_type=GZIP&sub_mchid={MCHID}");
    assert_eq!(fake.seen()[0].path, path);
}

#[tokio::test]
async fn a_bill_that_is_not_the_one_told_leaves_nothing_behind() {
    let mut cut = gzip(&csv());
    cut.truncate(cut.len() / 2);
    let mut changed = csv();
    changed[1000] ^= 1;
    let small = BillLimits { packed_max: 1000, ..limits() };
    let bomb = BillLimits { plain_max: 1000, ..limits() };
    let told = || applied(SHA1, FILE_URL);
    let cases = [
        (vec![told(), Reply::File(gzip(&changed))], limits(), "SHA-1"),
        (vec![told(), Reply::File(cut)], limits(), "does not unpack"),
        (vec![told(), Reply::File(Vec::new())], limits(), "SHA-1"),
        (vec![told(), Reply::File(csv())], small, "larger"),
        (vec![told(), Reply::File(gzip(&csv()))], bomb, "larger"),
        (vec![applied(SHA1, "https://evil.example.com/v3/billdownload/file?token=1")], limits(), "host"),
        (vec![applied("abc", FILE_URL)], limits(), "checksum"),
        (vec![told(), refusal(400, "INVALID_REQUEST")], limits(), "unknown"),
        (vec![told(), refusal(403, "NO_AUTH")], limits(), "unknown"),
        (vec![told(), refusal(429, "FREQUENCY_LIMITED")], limits(), "busy"),
        (vec![told(), Reply::Unsigned(302, String::new())], limits(), "unknown"),
        (vec![told(), Reply::Drop], limits(), "unknown"),
        (vec![Reply::Unsigned(200, "{}".into())], limits(), "unknown"),
        (vec![ok("{}")], limits(), "unknown"),
        (vec![refusal(400, "STATEMENT_CREATING")], limits(), "not ready"),
    ];
    for (replies, limits, why) in cases {
        let folder = tempfile::tempdir().unwrap();
        let asked = replies.len();
        let fake = Fake::start(replies).await;
        let gateway = gateway(&fake.url);
        let error = super::bill::fetch(&gateway, day(), &folder.path().join("bill"), limits).await.unwrap_err();
        assert!(error.to_string().contains(why), "{error} is not {why}");
        assert!(!error.to_string().contains("token"), "{error}");
        assert_eq!(fake.seen().len(), asked, "{why}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{why}");
    }
}
