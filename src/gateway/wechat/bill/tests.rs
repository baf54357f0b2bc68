use super::{super::settings::WechatSettings, *};
use crate::{gateway::bill::BillRow, keys::test_vectors};

/// The published bill as lines.
fn lines() -> Vec<String> {
    test_vectors::read("wechat/bill.ALL.csv").lines().map(str::to_owned).collect()
}

fn read(lines: &[String]) -> Vec<Result<BillRow, BillError>> {
    let text = lines.join("\n");
    match Rows::open(text.as_bytes()) {
        Ok(rows) => rows.collect(),
        Err(error) => vec![Err(error)],
    }
}

/// The one error of a bill, and how many rows came besides.
fn error(lines: &[String]) -> (usize, String) {
    let mut errors = Vec::new();
    let mut rows = 0;
    for item in read(lines) {
        match item {
            Ok(_) => rows += 1,
            Err(error) => errors.push(error.to_string()),
        }
    }
    assert_eq!(errors.len(), 1, "{errors:?}");
    (rows, errors.remove(0))
}

#[test]
fn a_bill_whose_end_does_not_fit_its_rows_says_so_last() {
    assert!(read(&lines()).iter().all(Result::is_ok));
    let mut short = lines();
    short.remove(5);
    assert_eq!(error(&short), (44, "the bill cannot be used: its summary counts 45 rows, the file has 44".into()));
    let mut cut = lines();
    cut.truncate(20);
    assert_eq!(error(&cut), (19, "the bill cannot be used: it ends without a summary".into()));
    for (from, to, column) in
        [("`0.47,`0.14\n", "`0.48,`0.14\n", "订单总金额"), ("`0.47,`0.14\n", "`0.47,`0.15\n", "申请退款总金额")]
    {
        let other = (lines().join("\n") + "\n").replace(from, to);
        let (rows, why) = error(&other.lines().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(rows, 45);
        assert!(why.contains(column), "{why}");
    }
}

#[test]
fn a_row_that_cannot_be_read_is_told_and_the_next_follows() {
    for (from, to, column) in [
        ("`0.03,`0.00,`0,`0,", "`0.o3,`0.00,`0,`0,", "应结订单金额"),
        ("`NATIVE,`SUCCESS", "`NATIVE,`BRAND_NEW", "交易状态"),
        ("`2019-02-19 01:52:32,", "`yesterday,", "交易时间"),
        ("`autotest_20190219015232_89201,", "`0,", "商户订单号"),
        ("`39.00%,`0.03,`0.00,`", "`39.00%,`0.00,`0.00,`", "订单金额"),
        (",`39.00%", "", "26 fields of 27"),
    ] {
        let mut changed = lines();
        changed[3] = changed[3].replace(from, to);
        assert_ne!(changed[3], lines()[3], "{column}");
        let (rows, why) = error(&changed);
        assert_eq!(rows, 44, "{column}");
        assert!(why.contains("line 4") && why.contains(column), "{why}");
    }
}

#[test]
fn commas_in_names_and_older_columns_are_read() {
    let mut changed = lines();
    changed[3] = changed[3].replace("`autotest,`", "`咖啡，大杯,热,`");
    assert!(read(&changed).iter().all(Result::is_ok));
    let whole: Vec<BillRow> = read(&lines()).into_iter().map(Result::unwrap).collect();
    for name in ["咖啡,`大杯,`热", ",`,`", "`0.03,`0.00"] {
        let mut ticked = lines();
        ticked[3] = ticked[3].replace("`autotest,`", &format!("`{name},`"));
        assert_ne!(ticked[3], lines()[3]);
        assert_eq!(read(&ticked).into_iter().map(Result::unwrap).collect::<Vec<_>>(), whole, "{name}");
    }
    changed[0] = changed[0].replace("订单金额,申请退款金额", "总金额,别的").replace("应结总金额", "应结订单金额");
    assert_eq!(read(&changed).len(), 45);
    assert!(read(&changed).iter().all(Result::is_ok));
    let mut without = lines();
    without[0] = without[0].replace("商户订单号", "别的");
    assert!(error(&without).1.contains("商户订单号"));
    assert!(error(&[]).1.contains("column"));
}

#[test]
fn only_wechats_hosts_and_the_set_ones_are_asked_for_a_file() {
    let hosts = |settings: &str| {
        let text = format!(r#"{{"mode":{{"direct":{{"mchid":"1900000109"}}}},"serial_no":"5F"{settings}}}"#);
        WechatSettings::from_json(&text).unwrap().check().unwrap()
    };
    let official = hosts("");
    let path = "/v3/billdownload/file?token=abc&tartype=gzip";
    for host in ["api.mch.weixin.qq.com", "api2.mch.weixin.qq.com", "api.wechatpay.cn", "api2.wechatpay.cn"] {
        assert_eq!(file_path(&official, &format!("https://{host}{path}")).as_deref(), Ok(path));
    }
    for other in [
        "http://api.mch.weixin.qq.com/v3/x",
        "https://api.mch.weixin.qq.com.evil.example/v3/x",
        "https://api.mch.weixin.qq.com@evil.example/v3/x",
        "https://api.mch.weixin.qq.com:444/v3/x",
        "https://evil.example/https://api.mch.weixin.qq.com/v3/x",
        "http://127.0.0.1:80/v3/x",
        "https://api.mch.weixin.qq.com/v3/a b",
        "https://api.mch.weixin.qq.com/v3/../x",
        "https://api.mch.weixin.qq.com/v3/x#y",
        "https://api.mch.weixin.qq.com",
        "",
    ] {
        assert!(file_path(&official, other).is_err(), "{other}");
    }
    let simulated = hosts(r#","base_url":"http://127.0.0.1:8901/prefix""#);
    assert_eq!(file_path(&simulated, &format!("http://127.0.0.1:8901/prefix{path}")).as_deref(), Ok(path));
    assert!(file_path(&simulated, &format!("http://127.0.0.1:8902{path}")).is_err());
}

proptest::proptest! {
    /// Whatever stands in a file: rows, errors, an end, and no panic.
    #[test]
    fn no_file_breaks_it(
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400),
        text in "(`|,|,`|\n|\r\n|0|9{15}\\.00|-|SUCCESS|REFUND|2019-02-19 05:01:46){0,80}",
    ) {
        let header = test_vectors::read("wechat/bill.ALL.csv").lines().next().unwrap().to_owned();
        for rest in [&bytes[..], text.as_bytes()] {
            let file = [header.as_bytes(), b"\n`", rest].concat();
            proptest::prop_assert!(Rows::open(file.as_slice()).unwrap().count() <= 500);
            proptest::prop_assert!(Rows::open(rest).is_err());
        }
    }
}
