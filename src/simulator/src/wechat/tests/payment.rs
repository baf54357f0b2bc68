//! The payment page: each of its checks.

use std::time::Duration;

use serde_json::{Value, json};

use super::Shop;
use crate::wechat::{CashierReason, Press};
use crate::{Call, Fault, FaultKind, Match, Wallet};

#[tokio::test]
async fn the_page_opens_only_for_what_the_merchant_signed() {
    let shop = Shop::open().await;
    let wechat = shop.simulator.wechat();
    let prepay_id = shop.prepay_id("T00001").await;
    let other_app = wechat.new_app(&shop.merchant.mchid);
    type Spoil<'a> = Box<dyn Fn(&mut Value) + 'a>;
    let table: Vec<(CashierReason, Spoil<'_>)> = vec![
        (CashierReason::Signature, Box::new(|params| params["nonceStr"] = json!("another"))),
        (CashierReason::Signature, Box::new(|params| params["timeStamp"] = json!("1"))),
        (CashierReason::Signature, Box::new(|params| params["appId"] = json!(other_app.appid))),
        (CashierReason::Parameters, Box::new(|params| params["timeStamp"] = json!(1))),
        (CashierReason::Parameters, Box::new(|params| params["paySign"] = Value::Null)),
        (CashierReason::SignType, Box::new(|params| params["signType"] = json!("MD5"))),
        (CashierReason::UnknownPrepay, Box::new(|params| params["package"] = json!("prepay_id=wx0"))),
        (CashierReason::UnknownPrepay, Box::new(|params| params["package"] = json!(prepay_id))),
        (CashierReason::AppId, Box::new(|params| *params = shop.params_of(&other_app.appid, &prepay_id))),
    ];
    for (reason, spoil) in table {
        let mut params = shop.params(&prepay_id);
        spoil(&mut params);
        let error = wechat.request_payment(&params, &shop.openid, Press::Pay).expect_err("refused");
        assert_eq!(error.reason, reason, "{params}");
        assert!(error.err_msg.starts_with("requestPayment:fail "));
    }
    let error = wechat.request_payment(&shop.params(&prepay_id), "o0", Press::Pay).expect_err("refused");
    assert_eq!(error.reason, CashierReason::Payer);

    let cancelled = wechat.request_payment(&shop.params(&prepay_id), &shop.openid, Press::Cancel).expect("opens");
    assert_eq!((cancelled.err_msg.as_str(), cancelled.transaction_id), ("requestPayment:fail cancel", None));
    assert_eq!(shop.query("T00001").await.json()["trade_state"], "NOTPAY");

    let paid = wechat.request_payment(&shop.params(&prepay_id), &shop.openid, Press::Pay).expect("opens");
    assert_eq!(paid.err_msg, "requestPayment:ok");
    assert_eq!(shop.query("T00001").await.json()["transaction_id"].as_str(), paid.transaction_id.as_deref());
    let error = wechat.request_payment(&shop.params(&prepay_id), &shop.openid, Press::Pay).expect_err("refused");
    assert_eq!(error.reason, CashierReason::AlreadyPaid);
    assert_eq!(shop.simulator.ledger().payments("T").len(), 1);
}

#[tokio::test]
async fn the_page_does_not_open_for_what_is_late_or_closed() {
    let shop = Shop::open().await;
    let wechat = shop.simulator.wechat();
    let mut short = shop.order("T00001");
    short["time_expire"] = json!("2020-01-01T00:00:00+08:00");
    let short = shop.prepay(&short).await.json()["prepay_id"].as_str().expect("a ticket").to_owned();
    let long = shop.prepay_id("T00002").await;
    let closed = shop.prepay_id("T00003").await;
    shop.close("T00003").await;
    let open = |prepay_id: &str| {
        wechat
            .request_payment(&shop.params(prepay_id), &shop.openid, Press::Cancel)
            .map(|_| ())
            .map_err(|error| error.reason)
    };
    assert_eq!((open(&short), open(&long), open(&closed)), (Ok(()), Ok(()), Err(CashierReason::Closed)));
    shop.simulator.clock().advance(Duration::from_secs(61));
    assert_eq!((open(&short), open(&long)), (Err(CashierReason::OrderExpired), Ok(())));
    shop.simulator.clock().advance(Duration::from_secs(2 * 3600));
    assert_eq!(open(&long), Err(CashierReason::PrepayExpired));
    // A fresh prepay_id of the same number opens it again; the old one stays shut.
    let fresh = shop.prepay_id("T00002").await;
    assert_eq!((open(&fresh), open(&long)), (Ok(()), Err(CashierReason::PrepayExpired)));
}

#[tokio::test]
async fn a_payment_can_look_failed_to_the_phone() {
    let shop = Shop::open().await;
    let prepay_id = shop.prepay_id("T00001").await;
    let kind = FaultKind::FailAfter { status: 500, code: "SYSTEM_ERROR".into() };
    shop.simulator.faults().add(Fault::once(Wallet::Wechat, Call::Cashier, kind).when(Match::number("T00001")));
    let error = shop.simulator.wechat().request_payment(&shop.params(&prepay_id), &shop.openid, Press::Pay);
    assert_eq!(error.expect_err("looks failed").reason, CashierReason::Fault);
    assert_eq!(shop.query("T00001").await.json()["trade_state"], "SUCCESS");
}
