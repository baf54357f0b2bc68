//! The trip as it goes on a good day.

use reqwest::StatusCode;
use serde_json::{Value, json};
use simulator::wechat::Press;

use super::{harness::World, shop::pay_info};

pub async fn a_code_becomes_signed_parameters(world: World) -> World {
    let order = world.shop.new_order("A1").await;
    let (openid, code) = world.wechat_login();
    let (status, answer) = world.pay(json!({ "payInfo": pay_info(&order, "WECHAT"), "code": code })).await;
    assert_eq!((status, &answer["code"]), (StatusCode::OK, &json!("200")), "{answer:#}");
    assert_sample_keys(&answer, include_str!("../../data/samples/wechat-success.json"));
    let paid = world.sim.wechat().request_payment(&answer["data"], &openid, Press::Pay).unwrap();
    assert_eq!(paid.err_msg, "requestPayment:ok");
    let order = world.until_status("A1", "SUCCESS").await;
    assert_eq!(order["payType"], "WECHAT");
    assert_eq!(order["channelTradeNo"], json!(paid.transaction_id.unwrap()));
    world
}

pub async fn an_identify_id_becomes_signed_parameters(world: World) -> World {
    let order = world.shop.new_order("A1").await;
    let (openid, _) = world.wechat_login();
    let body = json!({ "payInfo": pay_info(&order, "WECHAT"), "identifyId": openid, "code": "spent" });
    let (_, answer) = world.pay(body).await;
    assert_eq!(answer["code"], "200", "{answer:#}");
    let paid = world.sim.wechat().request_payment(&answer["data"], &openid, Press::Pay);
    assert!(paid.is_ok(), "{paid:?}");
    world
}

pub async fn alipay_code_becomes_a_trade_no(world: World) -> World {
    let order = world.shop.new_order("A1").await;
    let (user, code) = world.alipay_login();
    let (_, answer) = world.pay(json!({ "payInfo": pay_info(&order, "ALIPAY"), "code": code })).await;
    assert_eq!(answer["code"], "200", "{answer:#}");
    let trade_no = answer["data"]["tradeNo"].as_str().unwrap();
    let result = world.sim.alipay().trade_pay(trade_no, &user.user_id, simulator::alipay::Press::Pay).await;
    assert_eq!(result.as_str(), "9000");
    let order = world.until_status("A1", "SUCCESS").await;
    assert_eq!((&order["payType"], &order["channelTradeNo"]), (&json!("ALIPAY"), &json!(trade_no)));
    world
}

pub async fn a_paid_order_says_so(world: World) -> World {
    let order = world.shop.new_order("A1").await;
    let (openid, code) = world.wechat_login();
    let body = json!({ "payInfo": pay_info(&order, "WECHAT"), "code": code });
    let (_, answer) = world.pay(body.clone()).await;
    world.sim.wechat().request_payment(&answer["data"], &openid, Press::Pay).unwrap();
    world.until_status("A1", "SUCCESS").await;
    let (status, answer) = world.pay(body).await;
    assert_eq!(status, StatusCode::OK);
    let mut sample: Value = serde_json::from_str(include_str!("../../data/samples/already-paid.json")).unwrap();
    sample["errCode"] = json!("2101");
    assert_eq!(answer, sample);
    world
}

/// Exactly the keys of the published sample, and values of the same kind.
fn assert_sample_keys(answer: &Value, sample: &str) {
    fn shape(value: &Value) -> Value {
        match value {
            Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), shape(value))).collect(),
            Value::String(_) => json!("text"),
            other => other.clone(),
        }
    }
    let sample: Value = serde_json::from_str(sample).unwrap();
    assert_eq!(shape(answer), shape(&sample));
}
