//! Refunds against the small wallet.

use super::*;
use crate::gateway::RefundStatus;

fn refund_number() -> OutRefundNo {
    OutRefundNo::parse("01hzy3v9k2m4n6p8q0r2s4t6v8").unwrap()
}

fn refund_ask() -> RefundAsk {
    RefundAsk {
        out_trade_no: testing::number(),
        out_refund_no: refund_number(),
        amount: Fen::new(880).unwrap(),
        total: Fen::new(8888).unwrap(),
        reason: Some(" 不要了 a=b\n".to_owned()),
        notify_url: "https://pay.example.com/notify/alipay/1".to_owned(),
    }
}

#[tokio::test]
async fn a_refund_moves_money_once_and_says_so_once() {
    let moved = r#"{"code":"10000","msg":"Success","fund_change":"Y","gmt_refund_pay":"2026-03-01 13:00:00","out_trade_no":"NUMBER","refund_fee":"20.00","send_back_fee":"8.80","trade_no":"1"}"#;
    let repeated = r#"{"code":"10000","msg":"Success","fund_change":"N","out_trade_no":"NUMBER","refund_fee":"20.00"}"#;
    let silent = r#"{"code":"10000","msg":"Success","out_trade_no":"NUMBER"}"#;
    let wallet = FakeWallet::start([moved, repeated, silent].map(|text| Answer::Signed(node(text)))).await;
    let gateway = gateway(&wallet.url);
    let frozen = gateway.freeze_refund(&refund_ask()).unwrap();
    assert_eq!(
        frozen.body,
        format!(
            r#"{{"out_trade_no":"{}","refund_amount":"8.80","out_request_no":"{}","refund_reason":"不要了 a＝b"}}"#,
            testing::number(),
            refund_number()
        )
    );
    let refund = async || gateway.refund(&testing::number(), &refund_number(), &frozen).await.unwrap();
    let seen = refund().await;
    assert_eq!((seen.status, seen.amount), (RefundStatus::Success, None), "refund_fee is no amount of this refund");
    assert_eq!(seen.at, Timestamp::parse_china_text("2026-03-01 13:00:00"));
    for _ in 0..2 {
        assert_eq!(refund().await.status, RefundStatus::Processing, "nothing definite");
    }
    for asked in wallet.asked() {
        assert_eq!((asked["method"].as_str(), &asked["biz_content"]), ("alipay.trade.refund", &frozen.body));
        assert!(!asked.contains_key("notify_url"));
    }
    let too_much = RefundAsk { amount: Fen::new(8889).unwrap(), ..refund_ask() };
    assert!(gateway.freeze_refund(&too_much).is_err());
    let silent = RefundAsk { reason: Some(" ".to_owned()), ..refund_ask() };
    assert!(!gateway.freeze_refund(&silent).unwrap().body.contains("refund_reason"));
}

#[tokio::test]
async fn a_refund_whose_answer_cannot_be_relied_on_is_unknown() {
    let wallet = FakeWallet::start([
        Answer::Signed(r#"{"code":"10000","fund_change":"Y","out_trade_no":"another","refund_fee":"8.80"}"#),
        Answer::Signed(r#"{"code":"10000","fund_change":"Y","refund_fee":"8.80"}"#),
        Answer::Signed(node(r#"{"code":"10000","fund_change":"Y","out_trade_no":"NUMBER","refund_fee":"8.79"}"#)),
        Answer::Signed(node(r#"{"code":"10000","fund_change":"Y","out_trade_no":"NUMBER","refund_fee":"8.8"}"#)),
        Answer::Raw(502, "<html>".to_owned()),
        Answer::Nothing,
        Answer::Signed(r#"{"code":"40004","sub_code":"ACQ.SYSTEM_ERROR","refund_fee":"0.00"}"#),
    ])
    .await;
    let gateway = gateway(&wallet.url);
    let frozen = gateway.freeze_refund(&refund_ask()).unwrap();
    for at in 0..7 {
        let result = gateway.refund(&testing::number(), &refund_number(), &frozen).await;
        assert!(matches!(result, Err(GatewayError::Unknown { .. })), "{at}: {result:?}");
    }
}

#[tokio::test]
async fn a_question_about_a_refund_believes_one_word_alone() {
    let node = |text: &str| Answer::Signed(node(&text.replace("REFUND_NO", &refund_number().to_string())));
    let wallet = FakeWallet::start([
        node(
            r#"{"code":"10000","out_request_no":"REFUND_NO","out_trade_no":"NUMBER","refund_amount":"8.80","refund_status":"REFUND_SUCCESS","total_amount":"88.88","gmt_refund_pay":"2026-03-01 13:00:00"}"#,
        ),
        node(r#"{"code":"10000","msg":"Success"}"#),
        node(r#"{"code":"10000","out_request_no":"REFUND_NO","out_trade_no":"NUMBER","refund_amount":"8.80"}"#),
        Answer::Signed(r#"{"code":"40004","sub_code":"ACQ.TRADE_NOT_EXIST"}"#),
        node(r#"{"code":"10000","out_request_no":"R1","out_trade_no":"NUMBER","refund_status":"REFUND_SUCCESS"}"#),
        node(r#"{"code":"10000","out_request_no":"REFUND_NO","refund_status":"REFUND_SUCCESS"}"#),
        node(r#"{"code":"10000","out_request_no":"R1"}"#),
        node(
            r#"{"code":"10000","out_request_no":"REFUND_NO","out_trade_no":"NUMBER","refund_amount":"8.8","refund_status":"REFUND_SUCCESS"}"#,
        ),
    ])
    .await;
    let gateway = gateway(&wallet.url);
    let found = async || gateway.refund_query(&testing::number(), &refund_number()).await;
    let expected = RefundSeen {
        status: RefundStatus::Success,
        wallet_refund_no: None,
        amount: Fen::new(880).ok(),
        total: Fen::new(8888).ok(),
        at: Timestamp::parse_china_text("2026-03-01 13:00:00"),
    };
    assert_eq!(found().await.unwrap(), RefundFound::Seen(expected));
    for _ in 0..2 {
        let RefundFound::Seen(seen) = found().await.unwrap() else { panic!("it may succeed yet") };
        assert_eq!(seen.status, RefundStatus::Processing);
    }
    assert_eq!(found().await.unwrap(), RefundFound::NotExist);
    for at in 0..4 {
        let result = found().await;
        assert!(matches!(result, Err(GatewayError::Unknown { .. })), "{at}: {result:?}");
    }
    let asked = &wallet.asked()[0];
    assert_eq!(asked["method"], "alipay.trade.fastpay.refund.query");
    assert_eq!(
        asked["biz_content"],
        format!(
            r#"{{"out_trade_no":"{}","out_request_no":"{}","query_options":["gmt_refund_pay"]}}"#,
            testing::number(),
            refund_number()
        )
    );
}

#[tokio::test]
async fn the_bytes_of_another_refund_are_not_sent() {
    let wallet = FakeWallet::start([]).await;
    let gateway = gateway(&wallet.url);
    let frozen = gateway.freeze_refund(&refund_ask()).unwrap();
    let other = OutRefundNo::parse("01hzy3v9k2m4n6p8q0r2s4t6v9").unwrap();
    let refused = gateway.refund(&testing::number(), &other, &frozen).await.unwrap_err();
    assert!(matches!(refused, GatewayError::Refused { why: Refused::Order, .. }), "{refused}");
    assert!(wallet.asked().is_empty());
}
