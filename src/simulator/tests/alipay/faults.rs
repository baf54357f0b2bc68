//! What goes wrong on demand, and what it leaves behind.

use std::time::Duration;

use serde_json::json;
use simulator::alipay::{AppOptions, Press, ResultCode};
use simulator::{Call, Event, Fault, FaultKind, Match, Simulator, Wallet};

use crate::client::{Client, start};

struct Scene {
    simulator: Simulator,
    client: Client,
    user_id: String,
    open_id: String,
}

async fn scene() -> Scene {
    let simulator = start().await;
    let client = Client::new(&simulator, AppOptions::default());
    let user_id = simulator.alipay().new_user().user_id;
    let open_id = simulator.alipay().open_id(&client.app.app_id, &user_id).unwrap();
    Scene { simulator, client, user_id, open_id }
}

impl Scene {
    fn fault(&self, call: Call, kind: FaultKind) {
        self.simulator.faults().add(Fault::once(Wallet::Alipay, call, kind));
    }
}

fn unknown(after: bool) -> FaultKind {
    let (status, code) = (200, "isp.unknow-error".to_owned());
    if after { FaultKind::FailAfter { status, code } } else { FaultKind::FailBefore { status, code } }
}

#[tokio::test]
async fn an_unknown_outcome_may_or_may_not_have_happened() {
    let scene = scene().await;
    let client = &scene.client;
    let order = client.order("F1", &scene.open_id);
    scene.fault(Call::Prepay, unknown(false));
    let answer = client.create(&order, None).await;
    answer.refused("isp.unknow-error");
    assert_eq!(answer.node["code"], "20000");
    client.query("F1").await.refused("ACQ.TRADE_NOT_EXIST");

    scene.simulator.alipay().set_switches(|switches| switches.lost_create_hidden_ms = 60_000);
    scene.fault(Call::Prepay, unknown(true));
    client.create(&order, None).await.refused("isp.unknow-error");
    client.query("F1").await.refused("ACQ.TRADE_NOT_EXIST");
    client.close("F1").await.refused("ACQ.TRADE_NOT_EXIST");
    let again = client.create(&order, None).await.ok();
    scene.simulator.clock().advance(Duration::from_secs(60));
    assert_eq!(client.query("F1").await.ok()["trade_no"], again["trade_no"]);
    assert_eq!(scene.simulator.ledger().count("F1", Call::Prepay, Event::Created), 1);
}

#[tokio::test]
async fn a_lost_token_answer_has_burnt_the_code() {
    let scene = scene().await;
    let (alipay, client) = (scene.simulator.alipay(), &scene.client);
    for (kind, burnt) in [(unknown(false), false), (unknown(true), true), (FaultKind::FrequencyLimited, false)] {
        let code = alipay.new_auth_code(&client.app.app_id, &scene.user_id).unwrap();
        let fault = Fault::once(Wallet::Alipay, Call::Exchange, kind).when(Match::code(&code));
        scene.simulator.faults().add(fault);
        assert_eq!(client.token(&code).await.node_name, "error_response");
        let second = client.token(&code).await;
        assert_eq!(second.sub_code() == "isv.code-invalid", burnt);
    }
}

#[tokio::test]
async fn a_limited_call_is_not_executed() {
    let scene = scene().await;
    scene.fault(Call::Prepay, FaultKind::FrequencyLimited);
    let order = scene.client.order("F2", &scene.open_id);
    let limited = scene.client.create(&order, None).await;
    limited.refused("isv.app-call-limited");
    assert_eq!(limited.node["code"], "40005");
    scene.client.query("F2").await.refused("ACQ.TRADE_NOT_EXIST");
}

#[tokio::test]
async fn an_answer_that_does_not_come_leaves_its_effect() {
    let scene = scene().await;
    let client = &scene.client;
    for (number, kind, effect) in [
        ("G1", FaultKind::CloseBefore, false),
        ("G2", FaultKind::LoseAnswer, true),
        ("G3", FaultKind::CutBody, true),
        ("G4", FaultKind::HangBefore { ms: 50 }, false),
        ("G5", FaultKind::HangAfter { ms: 50 }, true),
    ] {
        let mut params = client.params("alipay.trade.create");
        params.insert("biz_content".to_owned(), client.order(number, &scene.open_id).to_string());
        client.sign(&mut params);
        scene.fault(Call::Prepay, kind.clone());
        let body = match client.send(&params).await {
            Ok(response) => response.text().await,
            Err(error) => Err(error),
        };
        assert!(body.is_err(), "{kind:?}");
        assert_eq!(client.query(number).await.sub_code().is_empty(), effect, "{kind:?}");
    }
    scene.fault(Call::Query, FaultKind::HtmlAfter);
    let mut params = client.params("alipay.trade.query");
    params.insert("biz_content".to_owned(), json!({ "out_trade_no": "G2" }).to_string());
    client.sign(&mut params);
    assert_eq!(client.send(&params).await.unwrap().status(), 502);
}

#[tokio::test]
async fn another_orders_answer_and_another_amount_are_validly_signed() {
    let scene = scene().await;
    let client = &scene.client;
    for number in ["A1", "A2"] {
        client.create(&client.order(number, &scene.open_id), None).await.ok();
    }
    scene.fault(Call::Query, FaultKind::AnswerOf { out_trade_no: "A2".to_owned() });
    assert_eq!(client.query("A1").await.ok()["out_trade_no"], "A2");
    scene.fault(Call::Prepay, FaultKind::AnswerOf { out_trade_no: "A2".to_owned() });
    assert_eq!(client.create(&client.order("A3", &scene.open_id), None).await.ok()["out_trade_no"], "A2");
    scene.fault(Call::Query, FaultKind::WrongAmount { fen: 1 });
    assert_eq!(client.query("A1").await.ok()["total_amount"], "0.01");
}

#[tokio::test]
async fn a_close_can_lose_its_race_with_the_payer() {
    let scene = scene().await;
    let client = &scene.client;
    client.create(&client.order("W1", &scene.open_id), None).await.ok();
    scene.fault(Call::Close, FaultKind::PaidMeanwhile);
    client.close("W1").await.refused("ACQ.TRADE_STATUS_ERROR");
    assert_eq!(client.query("W1").await.ok()["trade_status"], "TRADE_SUCCESS");
    assert_eq!(scene.simulator.ledger().payments("W1").len(), 1);
}

#[tokio::test]
async fn the_cashiers_code_proves_nothing() {
    let scene = scene().await;
    let client = &scene.client;
    let alipay = scene.simulator.alipay();
    let cashier = |status: u16, paid: bool| {
        let code = String::new();
        if paid { FaultKind::FailAfter { status, code } } else { FaultKind::FailBefore { status, code } }
    };
    for (number, kind, result, paid) in [
        ("Q1", cashier(9000, false), ResultCode::Processed, false),
        ("Q2", cashier(8000, true), ResultCode::Processing, true),
        ("Q3", cashier(6004, true), ResultCode::Unknown, true),
        ("Q4", cashier(6001, true), ResultCode::Cancelled, true),
        ("Q5", FaultKind::LoseAnswer, ResultCode::Network, true),
        ("Q6", FaultKind::CloseBefore, ResultCode::Network, false),
        ("Q7", cashier(4000, false), ResultCode::Failed, false),
    ] {
        let created = client.create(&client.order(number, &scene.open_id), None).await.ok();
        let trade_no = created["trade_no"].as_str().unwrap();
        scene.fault(Call::Cashier, kind);
        assert_eq!(alipay.trade_pay(trade_no, &scene.user_id, Press::Pay).await, result, "{number}");
        assert_eq!(alipay.trade_by_no(trade_no).unwrap().paid_ms.is_some(), paid, "{number}");
    }
}
