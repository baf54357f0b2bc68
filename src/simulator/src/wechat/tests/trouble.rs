//! Faults, unreachable hosts, the control API and the ledger's file.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use super::Shop;
use crate::wechat::MerchantOptions;
use crate::{Call, Event, Fault, FaultKind, Match, Options, Reach, Wallet};

fn fault(call: Call, kind: FaultKind) -> Fault {
    Fault::once(Wallet::Wechat, call, kind)
}

fn code(code: &str) -> String {
    code.to_owned()
}

#[tokio::test]
async fn a_fault_strikes_before_or_after_the_effect() {
    let shop = Shop::open().await;
    let wechat = shop.simulator.wechat();
    // Kind, status (0: no answer), whether the order came to be.
    let table = [
        (FaultKind::Delay { ms: 1 }, 200, true),
        (FaultKind::DelayAnswer { ms: 1 }, 200, true),
        (FaultKind::FailBefore { status: 500, code: code("SYSTEM_ERROR") }, 500, false),
        (FaultKind::FailAfter { status: 500, code: code("SYSTEM_ERROR") }, 500, true),
        (FaultKind::FrequencyLimited, 429, false),
        (FaultKind::FrequencyLimitedAfter, 429, true),
        (FaultKind::HtmlBefore, 502, false),
        (FaultKind::HtmlAfter, 502, true),
        (FaultKind::CloseBefore, 0, false),
        (FaultKind::LoseAnswer, 0, true),
        (FaultKind::HangBefore { ms: 50 }, 0, false),
        (FaultKind::HangAfter { ms: 50 }, 0, true),
        (FaultKind::CutBody, 0, true),
        (FaultKind::TruncatedJson, 200, true),
    ];
    for (at, (kind, status, created)) in table.into_iter().enumerate() {
        let number = format!("T0000{at:02}");
        shop.simulator.faults().add(fault(Call::Prepay, kind.clone()).when(Match::number(&number)));
        let call = shop.call("POST", "/v3/pay/transactions/jsapi", shop.order(&number));
        let got = shop.try_send(call).await;
        assert_eq!(got.as_ref().map_or(0, |got| got.status), status, "{kind:?}");
        assert_eq!(wechat.order(&shop.merchant.mchid, &number).is_some(), created, "{kind:?}");
        if kind == FaultKind::TruncatedJson {
            let got = got.expect("an answer");
            assert!(
                got.is_signed_by(&shop.merchant.public_key_pem) && serde_json::from_slice::<Value>(&got.body).is_err()
            );
        }
        // The same call again finds whatever was done.
        assert_eq!(shop.prepay(&shop.order(&number)).await.status, 200, "{kind:?}");
        assert_eq!(shop.simulator.ledger().count(&number, Call::Prepay, Event::Created), 1);
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_takes_nothing_back() {
    let shop = Shop::open().await;
    shop.simulator.faults().add(fault(Call::Prepay, FaultKind::Delay { ms: 3_000 }));
    let order = shop.order("T00001");
    let arrived = || shop.simulator.ledger().count("T00001", Call::Prepay, Event::Request) == 1;
    tokio::select! {
        answered = shop.prepay(&order) => panic!("{answered:?}"),
        () = super::notices::until(arrived) => {}
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while shop.simulator.wechat().order(&shop.merchant.mchid, "T00001").is_none() {
        assert!(Instant::now() < deadline, "the effect was lost");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn answers_lie_on_demand() {
    let shop = Shop::open().await;
    let mchid = shop.merchant.mchid.as_str();
    shop.prepay_id("T00001").await;
    shop.prepay_id("T00002").await;
    let table = [
        (FaultKind::WrongSignature, false),
        (FaultKind::SignTest, false),
        (FaultKind::UndecodableSignature, false),
        (FaultKind::Unsigned, false),
        (FaultKind::MissingHeader { name: "Wechatpay-Nonce".into() }, false),
        (FaultKind::UnknownSerial, true),
        (FaultKind::TimestampShift { seconds: 301 }, true),
        (FaultKind::WrongAmount { fen: 1 }, true),
        (FaultKind::WrongMerchant { merchant: "1".into() }, true),
        (FaultKind::AnswerOf { out_trade_no: "T00002".into() }, true),
    ];
    for (kind, verifies) in table {
        shop.simulator.faults().add(fault(Call::Query, kind.clone()));
        let got = shop.query("T00001").await;
        assert_eq!((got.status, got.is_signed_by(&shop.merchant.public_key_pem)), (200, verifies), "{kind:?}");
        let body = got.json();
        match kind {
            FaultKind::UnknownSerial => {
                assert_ne!(got.header("Wechatpay-Serial"), shop.merchant.public_key_id)
            }
            FaultKind::WrongAmount { fen } => assert_eq!(body["amount"]["total"], fen),
            FaultKind::WrongMerchant { merchant } => assert_eq!(body["mchid"], merchant.as_str()),
            FaultKind::AnswerOf { out_trade_no } => {
                assert_eq!(body["out_trade_no"], out_trade_no.as_str())
            }
            _ => assert_eq!(body["mchid"], mchid),
        }
    }
    shop.simulator.faults().add(fault(Call::Close, FaultKind::PaidMeanwhile));
    assert_eq!(shop.close("T00001").await.told(), (400, "ORDER_PAID".into()));
}

#[tokio::test]
async fn the_backup_has_the_same_state_when_the_main_is_away() {
    let shop = Shop::open().await;
    shop.prepay_id("T00001").await;
    let query = |base: String| {
        let target = format!("/v3/pay/transactions/out-trade-no/T00001?mchid={}", shop.merchant.mchid);
        let mut call = shop.call("GET", target, "");
        call.base = Some(base);
        shop.try_send(call)
    };
    let (main, backup) = (shop.simulator.base_url(), shop.simulator.backup_url());
    assert_ne!(main, backup);
    assert!(query(main.clone()).await.is_ok());
    shop.simulator.set_main_reach(Reach::Refused);
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match query(main.clone()).await {
            Err(error) if error.is_connect() => break,
            _ => assert!(Instant::now() < deadline, "still reachable"),
        }
    }
    assert_eq!(query(backup).await.expect("an answer").status, 200);
    let line = shop
        .simulator
        .ledger()
        .of_number("T00001")
        .into_iter()
        .rfind(|line| line.event == Event::Request)
        .expect("a line");
    assert_eq!(line.note.as_deref(), Some("backup"));
    shop.simulator.set_main_reach(Reach::Up);
    while query(main.clone()).await.is_err() {
        assert!(Instant::now() < deadline, "not back");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    shop.simulator.shutdown().await;
    assert!(query(main).await.is_err());
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_eight_seconds() {
    let shop = Shop::open().await;
    let address = shop.simulator.base_url().replace("http://", "");
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("connects");
    let began = Instant::now();
    let mut rest = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut rest)).await;
    assert!(read.is_ok(), "still open");
    assert!(began.elapsed().as_secs() >= 7, "{:?}", began.elapsed());
}

#[tokio::test]
async fn another_process_can_do_the_same_over_http() {
    let simulator = crate::Simulator::start(Options::default()).await.expect("starts");
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let post = |path: &str, body: Value| {
        let request = client.post(format!("{}/_sim/{path}", simulator.control_url())).json(&body);
        async move {
            let answer = request.send().await.expect("an answer");
            (answer.status().as_u16(), answer.json::<Value>().await.expect("JSON"))
        }
    };
    let (status, merchant) = post("wechat/merchants", json!({ "key_mode": "certificate" })).await;
    assert_eq!(status, 200);
    let mchid = merchant["mchid"].as_str().expect("a number");
    let (_, app) = post("wechat/apps", json!({ "mchid": mchid })).await;
    let (_, login) = post("wechat/codes", json!({ "appid": app["appid"] })).await;
    assert!(login["code"].is_string() && login["openid"].is_string());
    let (status, switches) = post("wechat/switches", json!({ "repeated_prepay": "same", "notice_delay_ms": 5 })).await;
    assert_eq!((status, &switches["repeated_prepay"], &switches["sign_errors"]), (200, &json!("same"), &json!(true)));
    assert_eq!(simulator.wechat().switches().notice_delay_ms, 5);
    for (path, body, status) in [
        ("wechat/switches", json!({ "no_such": 1 }), 400),
        ("wechat/pay", json!({ "mchid": mchid, "out_trade_no": "T00001" }), 409),
        ("wechat/nothing", json!({}), 404),
        ("faults", json!({ "wallet": "wechat", "call": "prepay", "fault": { "kind": "lose_answer" } }), 200),
        ("faults", json!({ "wallet": "wechat", "call": "prepay", "fault": { "kind": "nothing" } }), 400),
        ("clock", json!({ "advance_ms": 1000, "schedule_scale": 0.5 }), 200),
        ("latency", json!(1), 200),
        ("reach", json!({ "main": "silent" }), 200),
    ] {
        assert_eq!(post(path, body.clone()).await.0, status, "{path} {body}");
    }
    assert_eq!((simulator.faults().list().len(), simulator.clock().offset_ms()), (1, 1000));
    let ledger = client.get(format!("{}/_sim/ledger?from=0", simulator.control_url())).send().await.expect("an answer");
    assert!(ledger.json::<Vec<crate::Entry>>().await.expect("lines").is_empty());
}

#[tokio::test]
async fn the_ledger_reaches_its_file_before_the_answer() {
    let path = std::env::temp_dir().join(format!("ledger-{}.jsonl", crate::chance::text(12)));
    let options = Options { ledger: Some(path.clone()), ..Options::default() };
    let shop = Shop::open_with(options, MerchantOptions::default()).await;
    shop.prepay_id("T00001").await;
    let text = std::fs::read_to_string(&path).expect("a file");
    let lines: Vec<crate::Entry> = text.lines().map(|line| serde_json::from_str(line).expect("a line")).collect();
    assert_eq!(lines.iter().map(|line| line.event).collect::<Vec<_>>(), [Event::Request, Event::Created]);
    assert_eq!(lines, shop.simulator.ledger().entries());
    assert!(!text.contains(&shop.openid) && !text.contains(&shop.merchant.apiv3_key));
    assert!(shop.simulator.ledger().is_complete_on_disk());
    std::fs::remove_file(path).expect("removes");
}
