//! What a phone may post, and what it is answered whatever it posts.

use std::{collections::BTreeSet, time::Duration};

use prepay::{
    domain::{
        id::{CustomerNo, KeyId, OrderId},
        payinfo::PayInfo,
        time::Timestamp,
        wallet::Wallet,
    },
    keys::{Front, PayInfoKeys, Place},
    store::{DeploymentSecret, KeyPurpose},
};
use reqwest::Method;
use secrecy::SecretSlice;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, time::sleep};

use super::{
    caller::{assert_ready, assert_refused, form, read_answer},
    harness::World,
    shop::{now_s, order_body, pay_info},
    sides::Side,
};

pub async fn a_body_is_told_apart_by_looking(world: World) -> World {
    let order = world.shop.new_order("A1").await;
    let (link, payer) = (pay_info(&order, "WECHAT"), world.person(Side::Wechat).identify_id);
    let as_json = json!({ "payInfo": link, "identifyId": payer }).to_string();
    let as_form = form(&[("payInfo", &link), ("identifyId", &payer)]);
    let unknown = json!({ "payInfo": link, "identifyId": payer, "more": { "a": [1] }, "amount": 1 }).to_string();
    let mut packages = BTreeSet::new();
    for content_type in
        [None, Some("application/json"), Some("application/x-www-form-urlencoded"), Some("text/plain"), Some("?")]
    {
        for body in
            [&as_json, &as_form, &unknown, &format!("\u{feff} \r\n\t{as_json}\n"), &format!("{as_form}&x=1&x=2")]
        {
            let headers: Vec<_> = content_type.map(|value| ("content-type", value)).into_iter().collect();
            let said = world.ask(Method::POST, "/pay", &headers, body.clone()).await;
            assert_ready(&said.pair());
            packages.insert(Side::Wechat.ticket(&said.json()["data"]));
        }
    }
    assert_eq!(packages.len(), 1, "one payer, one prepay: {packages:?}");
    world
}

pub async fn values_are_trimmed_and_absent_words_are_absent(world: World) -> World {
    let order = world.shop.new_order("A1").await;
    let (link, person) = (pay_info(&order, "WECHAT"), world.person(Side::Wechat));
    let payer = &person.identify_id;
    assert_ready(&world.pay(json!({ "payInfo": format!(" \n{link}\t "), "identifyId": format!(" {payer} ") })).await);
    for absent in [json!(null), json!(""), json!("  "), json!("null"), json!("undefined"), json!(" undefined ")] {
        let said = world.pay(json!({ "payInfo": link, "code": absent, "identifyId": payer })).await;
        assert_ready(&said);
        let said = world.pay(json!({ "payInfo": link, "code": world.code_of(&person), "identifyId": absent })).await;
        assert_ready(&said);
        assert_refused(&world.pay(json!({ "payInfo": link, "code": absent, "identifyId": absent })).await, "3002");
        assert_refused(&world.pay(json!({ "payInfo": absent, "identifyId": payer })).await, "1003");
    }
    assert_refused(&world.pay(json!({ "payInfo": link })).await, "3002");
    for nothing in ["", "{}", "payInfo=&code=x", "a=b", " "] {
        assert_refused(&world.ask(Method::POST, "/pay", &[], nothing).await.pair(), "1003");
    }
    world
}

pub async fn what_cannot_be_read_is_1008_and_reaches_no_wallet(world: World) -> World {
    let order = world.shop.new_order("A1").await;
    let link = pay_info(&order, "WECHAT");
    let json_with = |rest: &str| format!(r#"{{"payInfo":"{link}",{rest}}}"#).into_bytes();
    let form_with = |rest: &str| format!("payInfo={link}&{rest}").into_bytes();
    let long = "c".repeat(129);
    let mut bodies = vec![
        json_with(r#""code":"a","code":"b""#),
        form_with("code=a&code=b"),
        form_with("identifyId=a&identifyId=b"),
        form_with(&format!("payInfo={link}x")),
        json_with(r#""code":1"#),
        json_with(r#""code":true"#),
        json_with(r#""code":["a"]"#),
        json_with(r#""code":{"a":1}"#),
        json_with(r#""identifyId":7"#),
        br#"{"payInfo":7,"code":"a"}"#.to_vec(),
        json_with(r#""code":"a"#),
        br#"{"payInfo""#.to_vec(),
        [json_with(r#""code":"a""#), b" x".to_vec()].concat(),
        [json_with(r#""code":"a""#), b"{}".to_vec()].concat(),
        json_with(r#""code":"a\u0001b""#),
        json_with(r#""code":"a\nb""#),
        json_with(r#""code":"a😀""#),
        json_with(r#""identifyId":"o😀""#),
        json_with(r#""identifyId":"o\u0000""#),
        json_with(r#""identifyId":"o b""#),
        form_with("code=%F0%9F%98%80"),
        form_with("identifyId=a%00b"),
        form_with("code=%ff"),
        json_with(&format!(r#""code":"{long}""#)),
        json_with(&format!(r#""identifyId":"{long}""#)),
        json_with(&format!(r#""code":"a","pad":"{}""#, "p".repeat(8192))),
        form_with(&format!("code=a&pad={}", "p".repeat(8192))),
    ];
    let mut not_utf8 = json_with(r#""code":"a?b""#);
    let at = not_utf8.iter().position(|byte| *byte == b'?').unwrap();
    not_utf8[at] = 0xff;
    bodies.push(not_utf8);
    let before = world.wallet_lines();
    for body in bodies {
        let said = world.ask(Method::POST, "/pay", &[], body.clone()).await;
        assert!(said.json()["errCode"] == "1008", "{} {said:?}", String::from_utf8_lossy(&body[..body.len().min(300)]));
        assert_refused(&said.pair(), "1008");
    }
    assert_eq!(world.wallet_lines(), before, "nothing of this reached a wallet");
    // The largest that is read.
    let payer = world.person(Side::Wechat).identify_id;
    let head = format!(r#"{{"payInfo":"{link}","identifyId":"{payer}","pad":""#);
    let largest = format!("{head}{}\"}}", "p".repeat(8192 - head.len() - 2));
    assert_eq!(largest.len(), 8192);
    assert_ready(&world.ask(Method::POST, "/pay", &[], largest).await.pair());
    // The same twice says the same.
    assert_ready(
        &world
            .ask(Method::POST, "/pay", &[], form(&[("payInfo", &link), ("identifyId", &payer), ("identifyId", &payer)]))
            .await
            .pair(),
    );
    world
}

pub async fn a_link_that_is_not_ours_is_2106_whichever_character_is_wrong(world: World) -> World {
    let order = world.shop.new_order("A1").await;
    let (link, payer) = (pay_info(&order, "WECHAT"), world.person(Side::Wechat).identify_id);
    let mut links: Vec<String> = (0..link.len())
        .flat_map(|at| {
            let other = if &link[at..=at] == "A" { "B" } else { "A" };
            [format!("{}{other}{}", &link[..at], &link[at + 1..]), format!("{}{}", &link[..at], &link[at + 1..])]
        })
        .collect();
    links.extend([
        format!("{link}A"),
        format!("{link}="),
        format!("{link}."),
        format!("v1.{link}"),
        link.to_uppercase(),
        format!("{link}{}", "A".repeat(1025)),
        "v1.k1.AAAA.AAAA".into(),
        "…".repeat(300),
        // Another deployment's key under the name of ours.
        mint(&world, &order, Wallet::WechatPay, 3600, Some([7; 32])).await,
    ]);
    let before = world.wallet_lines();
    for wrong in &links {
        let said = world.pay(json!({ "payInfo": wrong, "identifyId": payer })).await;
        assert_refused(&said, "2106");
    }
    for path in ["/pay/info", "/pay/result"] {
        for wrong in links.iter().step_by(10) {
            assert_refused(&world.post(path, &json!({ "payInfo": wrong })).await, "2106");
        }
    }
    assert_eq!(world.wallet_lines(), before);
    assert_eq!(mint(&world, &order, Wallet::WechatPay, 7200, None).await.len(), link.len(), "the forger knew the form");
    assert_ready(&world.pay(json!({ "payInfo": link, "identifyId": payer })).await);
    world
}

/// The expiry only stops new attempts; for 30 days the order's row gives the answer.
pub async fn an_expired_link_still_tells_how_the_order_ended(world: World) -> World {
    let order = world.shop.new_order("A1").await;
    let person = world.person(Side::Wechat);
    let data = world.tap_ready(&order, &person).await;
    world.press_pay(&data, &person).await.unwrap();
    world.until_status("A1", "SUCCESS").await;
    const DAY: i64 = 24 * 3600;
    for (age, answer) in [(60, "2101"), (30 * DAY - 60, "2101"), (30 * DAY + 60, "2106"), (400 * DAY, "2106")] {
        let link = mint(&world, &order, Wallet::WechatPay, -age, None).await;
        assert_refused(&world.pay(json!({ "payInfo": link, "code": "any" })).await, answer);
    }

    let order = world.shop.new_order("A2").await;
    let link = pay_info(&order, "WECHAT");
    let id = order["serialNo"].as_str().unwrap();
    for left_s in [-3600, 0, 55] {
        let at = (i64::try_from(now_s()).unwrap() + left_s) * 1000;
        world.place.sql(&format!("UPDATE orders SET expire_at = {at} WHERE id = '{id}'")).await;
        assert_refused(&world.pay(json!({ "payInfo": link, "code": world.code_of(&person) })).await, "3101");
    }
    assert_eq!(world.numbers_created(&order), 0, "under 60 s nothing is opened any more");
    world
}

pub async fn the_other_wallet_is_shown_the_door(world: World) -> World {
    let order = world.shop.new_order("A1").await;
    let (wechat, alipay) = (pay_info(&order, "WECHAT"), pay_info(&order, "ALIPAY"));
    let referer = [("referer", "https://servicewechat.com/wx0123456789abcdef/12/page-frame.html")];
    let person = world.person(Side::Wechat);
    let before = world.wallet_lines();
    let body = json!({ "payInfo": alipay, "code": world.code_of(&person) }).to_string();
    assert_refused(&world.ask(Method::POST, "/pay", &referer, body).await.pair(), "3004");
    assert_refused(&world.pay(json!({ "payInfo": wechat, "identifyId": "2088102146225135" })).await, "3004");
    assert_eq!(world.wallet_lines(), before);
    // Without a hint the refused code is all there is.
    assert_refused(&world.pay(json!({ "payInfo": alipay, "code": world.code_of(&person) })).await, "3002");
    // A hint is never required, and the right one changes nothing.
    let body = json!({ "payInfo": wechat, "code": world.code_of(&person) }).to_string();
    assert_ready(&world.ask(Method::POST, "/pay", &referer, body).await.pair());
    let body = json!({ "payInfo": wechat, "code": world.code_of(&person) }).to_string();
    assert_ready(&world.ask(Method::POST, "/pay", &[("referer", "https://example.com/")], body).await.pair());
    world
}

pub async fn only_post_is_taken(world: World) -> World {
    for path in ["/pay", "/pay/info", "/pay/result"] {
        for method in [Method::GET, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
            let said = world.ask(method.clone(), path, &[], "").await;
            assert_eq!(said.status, 405, "{method} {path}");
            assert_eq!(said.json()["code"], "405", "{method} {path}");
        }
    }
    world
}

pub async fn every_answer_is_json_that_nobody_stores(world: World) -> World {
    let order = world.shop.new_order("A1").await;
    let (link, person) = (pay_info(&order, "WECHAT"), world.person(Side::Wechat));
    let good = json!({ "payInfo": link, "identifyId": person.identify_id }).to_string();
    let info = json!({ "payInfo": link }).to_string();
    for (method, path, body, status) in [
        (Method::POST, "/pay", good.as_str(), 200),
        (Method::POST, "/pay", "{", 200),
        (Method::POST, "/pay", "", 200),
        (Method::POST, "/pay", r#"{"payInfo":"x"}"#, 200),
        (Method::POST, "/pay/info", info.as_str(), 200),
        (Method::POST, "/pay/result", info.as_str(), 200),
        (Method::POST, "/pay/info", "x", 200),
        (Method::GET, "/pay", "", 405),
        (Method::GET, "/pay/info", "", 405),
        (Method::POST, "/pay/nothing", "", 404),
        (Method::GET, "/", "", 404),
        (Method::POST, "//pay", "", 404),
        (Method::GET, "/%ff", "", 404),
        (Method::GET, "/..%2f..%2fetc/passwd", "", 404),
        (Method::POST, "/notify/wechat/999999", "{}", 404),
        (Method::POST, "/notify/wechat/x", "{}", 404),
        (Method::POST, "/notify/paypal/1", "{}", 404),
        (Method::GET, "/notify/wechat/1", "", 405),
        (Method::POST, "/api/v1/orders", "{}", 401),
        (Method::GET, "/api/v1/orders/A1", "", 401),
        (Method::GET, "/api/v1/nothing", "", 404),
        (Method::DELETE, "/api/v1/orders/A1", "", 404),
    ] {
        let said = world.ask(method.clone(), path, &[], body.to_owned()).await;
        let what = format!("{method} {path} {said:?}");
        assert_eq!(said.status, status, "{what}");
        assert_eq!(said.header("content-type"), "application/json; charset=utf-8", "{what}");
        assert_eq!(said.header("cache-control"), "no-store", "{what}");
        assert!(said.text.starts_with('{'), "no BOM, no blank: {what}");
        let answer = said.json();
        assert!(answer["code"].is_string() && answer["msg"].is_string(), "{what}");
        assert_eq!(answer["code"] == "200", path.starts_with("/pay") && answer.get("data").is_some(), "{what}");
    }
    world
}

pub async fn chunked_bodies_are_taken_and_bounded_alike(world: World) -> World {
    let order = world.shop.new_order("A1").await;
    let payer = world.person(Side::Wechat).identify_id;
    let good = json!({ "payInfo": pay_info(&order, "WECHAT"), "identifyId": payer }).to_string();
    let large = format!("{}{}", good, " ".repeat(9000));
    for (body, wanted) in [(&good, "\"code\":\"200\""), (&large, "1008")] {
        let mut stream = world.connect().await;
        let mut text = "POST /pay HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n".to_owned();
        for piece in body.as_bytes().chunks(50) {
            text += &format!("{:x}\r\n{}\r\n", piece.len(), String::from_utf8_lossy(piece));
        }
        text += "0\r\n\r\n";
        // An answer may come before all of it is read.
        let _ = stream.write_all(text.as_bytes()).await;
        let said = read_answer(&mut stream, Duration::from_secs(10)).await.expect("an answer");
        assert!(said.starts_with("HTTP/1.1 200 ") && said.contains(wanted), "{said}");
    }
    world
}

pub async fn a_slow_sender_does_not_hold_a_connection(world: World) -> World {
    let world = world
        .restart(|settings| (settings.front.header_timeout_ms, settings.front.body_timeout_ms) = (1_000, 1_000))
        .await;
    let header = "POST /pay HTTP/1.1\r\nhost: a\r\nx-slow: ";
    let body = "POST /pay HTTP/1.1\r\nhost: a\r\ncontent-length: 2000\r\n\r\n{\"payInfo\":\"";
    for (begin, answered) in [("", false), (header, false), (body, true)] {
        let mut stream = world.connect().await;
        stream.write_all(begin.as_bytes()).await.unwrap();
        let (mut from, mut to) = stream.split();
        let trickle = async {
            loop {
                // A byte now and then must not buy more time.
                sleep(Duration::from_millis(50)).await;
                if !begin.is_empty() && to.write_all(b"a").await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let said = tokio::select! {
            said = read_answer(&mut from, Duration::from_secs(5)) => said,
            () = trickle => unreachable!(),
        };
        let said = said.unwrap_or_else(|| panic!("still open: {begin:?}"));
        assert_eq!(said.contains("1008"), answered, "{begin:?}: {said}");
    }
    // Meanwhile and afterwards others are served.
    let order = world.shop.create(&order_body("A1")).await;
    assert_ready(&world.tap(&order, &world.person(Side::Wechat)).await);
    world
}

pub async fn the_page_is_shown_what_is_paid_and_how_it_stands(world: World) -> World {
    for (order_no, side) in [("A1", Side::Wechat), ("A2", Side::Alipay)] {
        let order = world.shop.new_order(order_no).await;
        let link = json!({ "payInfo": pay_info(&order, side.name()) });
        let shown = |status: &str| json!({ "code": "200", "msg": "操作成功", "data": { "goodName": "一杯咖啡", "orderAmount": 1999, "payStatus": status } });
        assert_eq!(world.post("/pay/info", &link).await.1, shown("WAITPAY"));
        let person = world.person(side);
        let data = world.tap_ready(&order, &person).await;
        assert_eq!(world.post("/pay/info", &link).await.1, shown("PROCESSING"));
        world.press_pay(&data, &person).await.unwrap();
        world.until_status(order_no, "SUCCESS").await;
        assert_eq!(world.post("/pay/info", &link).await.1, shown("SUCCESS"));
        let result = json!({ "code": "200", "msg": "操作成功", "data": { "payStatus": "SUCCESS" } });
        assert_eq!(world.post("/pay/result", &link).await.1, result);
        for path in ["/pay/info", "/pay/result"] {
            assert_refused(&world.post(path, &json!({})).await, "1003");
        }
    }
    world
}

/// A link of an order that ends `in_s` seconds from now, made with the deployment's key or somebody else's.
async fn mint(world: &World, order: &Value, wallet: Wallet, in_s: i64, key: Option<[u8; 32]>) -> String {
    let store = &world.place.store;
    let stored = store.deployment_keys(KeyPurpose::PayInfo).await.unwrap().remove(0);
    let DeploymentSecret::PayInfo(sealed) = &stored.secret else { panic!("a payInfo key") };
    let row = format!("{}/{}", KeyPurpose::PayInfo.as_str(), stored.key_id);
    let place = Place { table: "deployment_keys", column: "secret", row: &row };
    let secret = match key {
        Some(other) => SecretSlice::from(other.to_vec()),
        None => world.vault.open::<Front>(place, sealed).unwrap(),
    };
    let key_id: KeyId = stored.key_id;
    let keys = PayInfoKeys::new(key_id.clone(), Vec::new(), [(key_id.clone(), secret)]).unwrap();
    let customer_no = CustomerNo::parse(world.shop.customer_no.clone()).unwrap();
    let merchant = store.merchant_by_customer_no(&customer_no).await.unwrap().unwrap().id;
    let order = OrderId::parse(order["serialNo"].as_str().unwrap()).unwrap();
    let expire_at = Timestamp::from_secs(i64::try_from(now_s()).unwrap() + in_s);
    keys.mint(&key_id, &PayInfo { order, merchant, wallet, expire_at, generation: 0 }).unwrap()
}
