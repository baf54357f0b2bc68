//! What is not HTTP, and what is no order. The phone's bad input: `phone.rs`; bad signatures: `signatures.rs`, `notices.rs`.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::{
    caller::{assert_ready, read_answer},
    harness::World,
    orders_api::{ORDERS, assert_error},
    shop::order_body,
    sides::Side,
    watched::Scraped,
};

/// hyper 1.12 answers by itself what it cannot parse, and has no hook for words of ours: a status, no body, and the end of the
/// connection. No client that speaks HTTP meets it but the one with more than 100 fields, or a header beyond 32 KiB (64 where one
/// read brings so much).
pub async fn what_is_not_http_is_refused_without_words_and_disturbs_nobody(world: World) -> World {
    let post = |fields: &str| format!("POST /pay HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
    let many: String = (0..200).map(|n| format!("x-{n}: a\r\n")).collect();
    for (what, sent, status) in [
        ("no words of HTTP", "hello, is this the shop?\r\n\r\n".to_owned(), "400"),
        ("TLS on a plain port", "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\r\n\r\n".into(), "400"),
        ("another HTTP", "POST /pay HTTP/3.7\r\nhost: a\r\n\r\n".into(), "400"),
        ("no path", "POST\r\nhost: a\r\n\r\n".into(), "400"),
        ("a blank in a name", post("x y: a\r\n"), "400"),
        ("a control character in a value", post("x: a\u{1}b\r\n"), "400"),
        ("a folded line", post("x: a\r\n b\r\n"), "400"),
        ("two lengths", post("content-length: 1\r\ncontent-length: 2\r\n"), "400"),
        ("a length of letters", post("content-length: x\r\n"), "400"),
        ("an unknown transfer coding", post("transfer-encoding: gzip\r\n"), "400"),
        ("a header too large", post(&format!("x: {}\r\n", "a".repeat(80_000))), "431"),
        ("too many headers", post(&many), "431"),
        ("a path too long", format!("POST /{} HTTP/1.1\r\nhost: a\r\n\r\n", "a".repeat(80_000)), "431"),
    ] {
        let mut stream = world.connect().await;
        // Refused before all of it is read.
        let _ = stream.write_all(sent.as_bytes()).await;
        let said = read_answer(&mut stream, Duration::from_secs(5)).await;
        let said = said.unwrap_or_else(|| panic!("{what}: no answer"));
        let (head, body) = said.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{what}: {said:?}"));
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {said}");
        assert!(head.contains("content-length: 0") && head.contains("connection: close"), "{what}: {said}");
        assert_eq!(body, "", "{what}");
    }
    let order = world.shop.new_order("A1").await;
    assert_ready(&world.tap(&order, &world.person(Side::Wechat)).await);
    world
}

/// Signed as published, and yet no order: each is told, nothing is made.
pub async fn what_a_merchants_server_sends_that_is_no_order_is_told(world: World) -> World {
    let good = order_body("A1").to_string();
    let with = |field: &str| good.replacen('{', &format!("{{{field},"), 1);
    let mut not_utf8 = good.clone().into_bytes();
    let at = not_utf8.iter().position(|byte| *byte == b'h').unwrap();
    not_utf8[at] = 0xff;
    let bodies: [(&str, Vec<u8>); 8] = [
        ("broken", good[..good.len() - 1].into()),
        ("not UTF-8", not_utf8),
        ("a second word after it", format!("{good}{{}}").into()),
        ("a field twice", with(r#""orderAmount":1"#).into()),
        // A misspelt field would be an order without it.
        ("an unknown field", with(r#""notifyurl":"https://shop.example.com/n""#).into()),
        ("a lone surrogate", with(r#""attach":"\ud800""#).into()),
        ("a number beyond numbers", good.replace("1999", "1e400").into()),
        ("nested without end", format!("{}{}", r#"{"a":"#.repeat(10_000), "}".repeat(10_000)).into()),
    ];
    for (what, body) in bodies {
        let said = world.shop.send(world.shop.call(Method::POST, ORDERS, &body)).await;
        assert!(said.0 == StatusCode::BAD_REQUEST, "{what}: {said:?}");
        assert_error(&said, 400, "1008");
    }
    assert_eq!(world.place.rows_of("orders").await, 0);
    world
}

/// Whatever comes to a notification's address, its wallet would send it again: it is never taken, and parks nothing.
pub async fn what_is_no_notice_is_refused_in_the_wallets_words(world: World) -> World {
    let roads = [("wechat", world.wechat.account), ("alipay", world.alipay.account)];
    let bodies: [(&str, Vec<u8>); 8] = [
        ("nothing", Vec::new()),
        ("an empty object", b"{}".into()),
        ("a broken object", br#"{"id":"1","resource":"#.into()),
        ("wrong types", br#"{"id":1,"resource":[]}"#.into()),
        ("not UTF-8", b"\xff\xfe{\"id\":\"\xff\"}".into()),
        ("a form of nothing", b"sign=&sign_type=RSA2&trade_status=TRADE_SUCCESS".into()),
        ("a field twice", b"sign=YQ&sign=Yg&sign_type=RSA2&out_trade_no=1&out_trade_no=2".into()),
        ("a body too large", vec![b'a'; 64 * 1024 + 1]),
    ];
    for (wallet, account) in roads {
        for (what, body) in &bodies {
            let said = world.ask(Method::POST, &format!("/notify/{wallet}/{account}"), &[], body.clone()).await;
            assert_refuses(wallet, said.status, &said.text, what);
        }
    }
    let scraped = Scraped::from(&world, 0).await;
    for (wallet, _) in roads {
        let counted =
            |verdict: &str| scraped.sum("prepay_notices_total", &[("wallet", wallet), ("verdict", verdict)]) >= 1.0;
        assert!(counted("forged") && counted("unreadable"), "{wallet}");
    }
    assert_eq!(world.place.rows_of("parked").await, 0);
    world
}

/// WeChat Pay reads the status, Alipay the word.
fn assert_refuses(wallet: &str, status: u16, text: &str, what: &str) {
    if wallet == "wechat" {
        assert!(status >= 400 && text.contains("FAIL"), "{wallet}, {what}: {status} {text}");
    } else {
        assert_ne!(text.trim(), "success", "{what}");
        assert!(!text.is_empty(), "{what}: {status}");
    }
}

/// The phone's own: `phone.rs`, `a_slow_sender_does_not_hold_a_connection`.
pub async fn a_slow_body_is_given_up_on_every_road(world: World) -> World {
    let world = world.restart(|settings| settings.front.body_timeout_ms = 500).await;
    let call = world.shop.call(Method::POST, ORDERS, order_body("A1").to_string().as_bytes());
    let signed: String = call.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let (wechat, alipay) = (world.wechat.account, world.alipay.account);
    for (path, fields, words) in [
        ("/pay/info".to_owned(), "", "1008"),
        ("/pay/result".into(), "", "1008"),
        (ORDERS.into(), signed.as_str(), "1008"),
        (format!("/notify/wechat/{wechat}"), "", "FAIL"),
        (format!("/notify/alipay/{alipay}"), "", "fail"),
    ] {
        let mut stream = world.connect().await;
        let begin = format!("POST {path} HTTP/1.1\r\nhost: a\r\n{fields}content-length: 2000\r\n\r\n{{");
        stream.write_all(begin.as_bytes()).await.unwrap();
        let said = read_answer(&mut stream, Duration::from_secs(5)).await.unwrap_or_else(|| panic!("{path}: silence"));
        assert!(said.contains(words), "{path}: {said}");
    }
    assert_eq!(world.place.rows_of("orders").await, 0);
    assert_eq!(world.shop.post(ORDERS, &json!({})).await.0, StatusCode::BAD_REQUEST, "others are served");
    world
}
