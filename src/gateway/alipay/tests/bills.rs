//! Bills against the small wallet.

use std::{io::Write, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use zip::{ZipWriter, write::SimpleFileOptions};

use super::*;
use crate::gateway::{BillKind, BillRow, RefundStatus};

fn archive() -> Vec<u8> {
    let text: String = testing::read("bill/trade_zip.base64.txt").split_whitespace().collect();
    STANDARD.decode(text).unwrap()
}

fn link() -> Answer {
    Answer::Signed(
        r#"{"code":"10000","msg":"Success","bill_download_url":"FAKE_URL/file?bizType=trade&token=secret1"}"#,
    )
}

fn day() -> BillDate {
    BillDate::parse("2026-02-28").unwrap()
}

#[tokio::test]
async fn a_bill_is_fetched_taken_out_and_read() {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("bill");
    let wallet = FakeWallet::start([link(), Answer::File(archive())]).await;
    let gateway = gateway(&wallet.url);
    let bill = gateway.bill(day(), &into, BillLimits::default()).await.unwrap();
    assert_eq!(bill, BillFile { path: into, bytes: 1371 });
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing half stays");
    let asked = wallet.asked();
    assert_eq!(asked[0]["method"], "alipay.data.dataservice.bill.downloadurl.query");
    assert_eq!(asked[0]["biz_content"], r#"{"bill_date":"2026-02-28","bill_type":"trade"}"#);
    assert_eq!((asked[1]["method"].as_str(), asked[1]["path"].as_str()), ("GET", "/file?bizType=trade&token=secret1"));
    let rows: Vec<BillRow> = gateway.read_bill(&bill).unwrap().map(Result::unwrap).collect();
    let expected = testing::json("bill/expected.json");
    let expected = expected["detail_rows"].as_array().unwrap();
    assert_eq!(rows.len(), expected.len());
    for (row, wanted) in rows.iter().zip(expected) {
        let text = |name: &str| wanted[name].as_str().unwrap();
        assert_eq!((row.wallet_trade_no.as_str(), row.out_trade_no.as_str()), (text("trade_no"), text("out_trade_no")));
        let (kind, status) = match text("kind") {
            "交易" => (BillKind::Pay, None),
            _ => (BillKind::Refund, Some(RefundStatus::Success)),
        };
        assert_eq!((row.kind, row.refund_status), (kind, status));
        assert_eq!(row.amount.to_yuan(), text("order_amount").trim_start_matches('-'));
        assert_eq!(row.received, Sum::from_yuan(text("received").trim_start_matches('-')).ok());
        assert_eq!(row.out_refund_no.as_deref().unwrap_or_default(), text("refund_request_no"));
        assert_eq!(row.mchid.as_deref(), Some("20880000000000000156"));
    }
    assert_eq!(rows[1].at, Timestamp::parse_china_text("2026-02-28 11:00:00").unwrap());
}

fn zipped(files: &[(&str, &str)]) -> Vec<u8> {
    let mut to = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, text) in files {
        to.start_file(*name, SimpleFileOptions::default()).unwrap();
        to.write_all(&encoding_rs::GBK.encode(text).0).unwrap();
    }
    to.finish().unwrap().into_inner()
}

#[tokio::test]
async fn what_is_no_bill_leaves_nothing_behind() {
    let limits = BillLimits { timeout: Duration::from_secs(8), ..BillLimits::default() };
    let mut broken = archive();
    // A byte of the compressed rows: the checksum finds it.
    broken[900] ^= 1;
    let mut cut = archive();
    cut.truncate(cut.len() - 30);
    let detail = testing::read("bill/trade_detail_utf8.txt");
    let many: Vec<(String, &str)> = (0..20).map(|at| (format!("{at}"), detail.as_str())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, text)| (name.as_str(), *text)).collect();
    let summary = testing::read("bill/trade_summary_utf8.txt");
    let elsewhere = Answer::Signed(r#"{"code":"10000","bill_download_url":"http://evil.example.com/file?token=1"}"#);
    let cases = [
        (vec![link(), Answer::File(broken)], limits, "unpack"),
        (vec![link(), Answer::File(cut)], limits, "archive"),
        (vec![link(), Answer::File(b"<html>".to_vec())], limits, "archive"),
        (vec![link(), Answer::File(zipped(&[("../../evil", &summary)]))], limits, "no file with rows"),
        (vec![link(), Answer::File(zipped(&[("odd", "\u{1}"), ("empty", "")]))], limits, "no file with rows"),
        (vec![link(), Answer::File(zipped(&many))], limits, "20 files"),
        (vec![link(), Answer::File(archive())], BillLimits { packed_max: 100, ..limits }, "larger"),
        (vec![link(), Answer::File(archive())], BillLimits { plain_max: 100, ..limits }, "larger"),
        (vec![link(), Answer::Raw(403, String::new())], limits, "unknown"),
        (vec![link(), Answer::Raw(302, String::new())], limits, "unknown"),
        (vec![link(), Answer::Nothing], limits, "unknown"),
        (vec![elsewhere], limits, "host"),
        (vec![Answer::Signed(r#"{"code":"10000"}"#)], limits, "bill_download_url"),
        (vec![Answer::Signed(r#"{"code":"40004","sub_code":"isp.bill_not_exist"}"#)], limits, "no bill"),
        (
            vec![Answer::Signed(
                r#"{"code":"10000","bill_file_code":"EMPTY_DATA_WITH_BILL_FILE","bill_download_url":"x"}"#,
            )],
            limits,
            "no bill",
        ),
    ];
    for (answers, limits, why) in cases {
        let folder = tempfile::tempdir().unwrap();
        let count = answers.len();
        let wallet = FakeWallet::start(answers).await;
        let gateway = gateway(&wallet.url);
        let error = super::bill::fetch(&gateway, day(), &folder.path().join("bill"), limits).await.unwrap_err();
        assert!(error.to_string().contains(why), "{error} is not {why}");
        assert!(!error.to_string().contains("token"), "{error}");
        assert_eq!(wallet.asked().len(), count, "{why}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{why}");
    }
}
