use super::*;
use crate::gateway::{alipay::testing, bill::BillRow};

fn read(text: &str) -> Vec<Result<BillRow, BillError>> {
    let bytes = encoding_rs::GBK.encode(text).0.into_owned();
    match Rows::open(bytes.as_slice()) {
        Ok(rows) => rows.collect(),
        Err(error) => vec![Err(error)],
    }
}

/// The one error of a bill, and how many rows came besides.
fn error(text: &str) -> (usize, String) {
    let mut errors = Vec::new();
    let mut rows = 0;
    for item in read(text) {
        match item {
            Ok(_) => rows += 1,
            Err(error) => errors.push(error.to_string()),
        }
    }
    assert_eq!(errors.len(), 1, "{errors:?}");
    (rows, errors.remove(0))
}

fn detail() -> String {
    testing::read("bill/trade_detail_utf8.txt")
}

#[test]
fn totals_that_do_not_fit_the_rows_are_told_last() {
    assert!(read(&detail()).iter().all(Result::is_ok));
    for (from, to, why) in [
        ("#交易合计：2笔", "#交易合计：3笔", "交易合计"),
        ("商家实收共89.88元", "商家实收共89.87元", "交易合计"),
        ("商家实收退款共-8.80元", "商家实收退款共-8.81元", "退款合计"),
        ("#退款合计：1笔", "#退款合计：一笔", "退款合计"),
    ] {
        let (rows, told) = error(&detail().replace(from, to));
        assert_eq!(rows, 3);
        assert!(told.contains(why), "{told}");
    }
    let end = detail().find("#-----------------------------------------业务明细列表结束").unwrap();
    assert_eq!(error(&detail()[..end]), (3, "the bill cannot be used: it ends before its rows do".into()));
    // A day without business is a bill with nothing in it.
    let header_end = detail().find("2026022822001400000000000001").unwrap();
    let empty = format!("{}#---业务明细列表结束---\r\n#交易合计：0笔，商家实收共0.00元\r\n", &detail()[..header_end]);
    assert!(read(&empty).is_empty());
}

#[test]
fn a_row_that_cannot_be_read_is_told_and_the_next_follows() {
    for (from, to, why) in [
        (",88.88,88.88,", ",88.8x,88.88,", "订单金额"),
        (",88.88,88.88,", ",-88.88,88.88,", "订单金额"),
        (",88.88,88.88,", ",88.88,x,", "商家实收"),
        ("交易,测试商品 A,", "转账,测试商品 A,", "业务类型"),
        ("交易,测试商品 A,", "交易,", "24 fields of 25"),
        (",88.88,88.88,", ",88.88,88,88,", "完成时间"),
        ("2026-02-28 10:00:30", "", "完成时间"),
        (",T20260228000001\t", ",\t", "商户订单号"),
    ] {
        let text = detail().replacen(from, to, 1);
        // The tab may stand before or behind the comma.
        let text = if text == detail() { detail().replacen("T20260228000001", "", 1) } else { text };
        let (rows, told) = error(&text);
        assert_eq!(rows, 2, "{why}");
        assert!(told.contains("line 6") && told.contains(why), "{told}");
    }
    assert!(error(&detail().replace("业务类型", "别的")).1.contains("业务类型"));
    assert!(error("").1.contains("header"));
    let bytes = [detail().as_bytes(), &[0xff]].concat();
    assert!(Rows::open(bytes.as_slice()).is_err(), "UTF-8 is not what Alipay writes");
}

/// The name is the merchant's own: it may hold whatever a CSV is made of.
#[test]
fn a_products_name_does_not_make_a_day_unusable() {
    let whole: Vec<BillRow> = read(&detail()).into_iter().map(Result::unwrap).collect();
    for name in ["测试,商品 A", "\"测试,商品\" A", "\"测试,商品 A\"", "5\" ,,, A", ",", "测试商品 A,"] {
        let text = detail().replacen("交易,测试商品 A,", &format!("交易,{name},"), 1);
        assert_ne!(text, detail());
        let rows: Vec<BillRow> = read(&text).into_iter().map(Result::unwrap).collect();
        assert_eq!(rows, whole, "{name}");
        // The remark repeats it, or has commas of its own.
        for remark in [name, "", "a", ",,x,2026-02-28 10:00:00"] {
            let text = text.replacen("-0.53,0.00,测试商品 A", &format!("-0.53,0.00,{remark}"), 1);
            assert!(text.contains(&format!("-0.53,0.00,{remark}")));
            let rows: Vec<BillRow> = read(&text).into_iter().map(Result::unwrap).collect();
            assert_eq!(rows, whole, "{name} and {remark}");
        }
    }
    // More commas than both can have.
    assert!(error(&detail().replacen("测试商品 A", &",".repeat(300), 1)).1.contains("line 6 has 325 fields of 25"));
}

/// A text that was cut in the middle of a character keeps no day open; a number that was is told.
#[test]
fn half_a_character_is_no_harm_in_a_text() {
    let bytes = encoding_rs::GBK.encode(&detail()).0.into_owned();
    let (name, _, _) = encoding_rs::GBK.encode("测试商品 A");
    let at = bytes.windows(name.len()).position(|window| window == &*name).unwrap();
    let cut = [&bytes[..at], &name[..3], &bytes[at + name.len()..]].concat();
    let rows: Vec<BillRow> = Rows::open(cut.as_slice()).unwrap().map(Result::unwrap).collect();
    assert_eq!(rows, read(&detail()).into_iter().map(Result::unwrap).collect::<Vec<_>>());
    let number = b"T20260228000001";
    let at = bytes.windows(number.len()).position(|window| window == number).unwrap();
    let cut = [&bytes[..at], b"\xb2".as_slice(), &bytes[at + 4..]].concat();
    let told: Vec<String> =
        Rows::open(cut.as_slice()).unwrap().filter_map(Result::err).map(|error| error.to_string()).collect();
    assert!(told.len() == 1 && told[0].contains("line 6: 商户订单号"), "{told:?}");
}

#[test]
fn only_alipays_hosts_are_asked_for_a_file() {
    let production = "https://openapi.alipay.com/gateway.do";
    let sandbox = "https://openapi-sandbox.dl.alipaydev.com/gateway.do";
    let simulated = "http://127.0.0.1:8902/gateway.do";
    let url = |gateway: &str, told: &str| file_url(gateway, told).map(String::from);
    let told = "http://dwbillcenter.alipay.com/downloadBillFile.resource?bizType=trade&token=1";
    assert_eq!(url(production, told).unwrap(), told.replace("http:", "https:"));
    assert_eq!(url(production, &told.replace("http:", "https:")).unwrap(), told.replace("http:", "https:"));
    assert!(url(sandbox, "http://dwbillcenter.dl.alipaydev.com/x").is_ok());
    assert_eq!(url(simulated, "http://127.0.0.1:8902/x").unwrap(), "http://127.0.0.1:8902/x");
    for (gateway, told) in [
        (production, "http://dwbillcenter.dl.alipaydev.com/x"),
        (production, "https://alipay.com.evil.example/x"),
        (production, "https://evilalipay.com/x"),
        (production, "https://user@dwbillcenter.alipay.com/x"),
        (production, "https://dwbillcenter.alipay.com:444/x"),
        (production, "ftp://dwbillcenter.alipay.com/x"),
        (production, "http://127.0.0.1:8902/x"),
        (production, "x"),
        (simulated, "http://dwbillcenter.alipay.com/x"),
        (simulated, "http://127.0.0.2:8902/x"),
    ] {
        assert!(url(gateway, told).is_err(), "{told}");
    }
}

proptest::proptest! {
    /// Whatever stands in a file: rows, errors, an end, and no panic.
    #[test]
    fn no_file_breaks_it(
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400),
        text in "(,|\n|\t|#|交易|退款|9{15}\\.00|-|列表结束|#交易合计：|笔|商家实收共|元){0,80}",
    ) {
        let all = encoding_rs::GBK.encode(&detail()).0.into_owned();
        let header = all.windows(2).enumerate().filter(|(_, two)| two == b"\r\n").nth(4).unwrap().0 + 2;
        let text = encoding_rs::GBK.encode(&text).0.into_owned();
        for rest in [bytes, text] {
            let file = [&all[..header], &rest].concat();
            proptest::prop_assert!(Rows::open(file.as_slice()).unwrap().count() <= 500);
            let _ = Rows::open(rest.as_slice());
        }
    }
}
