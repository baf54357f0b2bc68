//! What a merchant's server is promised: orders made once, links that live as said, and nobody else's hand in it.

use std::{collections::BTreeSet, time::Duration};

use futures_util::future::join_all;
use prepay::domain::{
    id::{OrderId, OrderNo},
    order::Order,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    caller::{assert_ready, assert_refused},
    harness::World,
    shop::{now_s, order_body, pay_info},
    sides::{Side, number},
};

pub const ORDERS: &str = "/api/v1/orders";

/// The order body with one field set; `null` takes it away.
fn with(field: &str, value: Value) -> Value {
    let mut body = order_body("X1");
    match value {
        Value::Null => drop(body.as_object_mut().unwrap().remove(field)),
        value => body[field] = value,
    }
    body
}

#[track_caller]
pub fn assert_error((status, answer): &(StatusCode, Value), wanted: u16, err_code: &str) {
    assert_eq!((status.as_u16(), &answer["errCode"]), (wanted, &json!(err_code)), "{answer:#}");
    assert_eq!(answer["code"], json!(wanted.to_string()));
    assert!(answer["msg"].as_str().is_some_and(|msg| !msg.is_empty()));
    assert!(answer["traceId"].as_str().is_some_and(|id| !id.is_empty()));
}

pub async fn the_same_content_again_is_the_same_order(world: World) -> World {
    let body = order_body("A1");
    let first = world.shop.create(&body).await;
    assert_eq!(first["duplicate"], false);
    assert_eq!(
        (&first["payStatus"], &first["orderAmount"], &first["orderNo"]),
        (&json!("WAITPAY"), &json!(1999), &json!("A1"))
    );
    let mut again = world.shop.create(&body).await;
    assert_eq!(again["duplicate"], true);
    again["duplicate"] = json!(false);
    assert_eq!(again, first, "the same links while they live");
    for (field, other) in [
        ("orderAmount", json!(2000)),
        ("goodName", json!("两杯咖啡")),
        ("notifyUrl", json!("http://127.0.0.1:9/other")),
        ("expireMinutes", json!(60)),
        ("wallets", json!(["WECHAT"])),
        ("goodNo", json!("G1")),
        ("attach", json!("a")),
    ] {
        let mut body = body.clone();
        body[field] = other;
        assert_error(&world.shop.post(ORDERS, &body).await, 409, "2107");
    }
    // Byte for byte: another spelling is another order.
    assert_ne!(world.shop.create(&order_body("a1")).await["serialNo"], first["serialNo"]);
    // Another merchant's A1 is another order.
    let (other, _, _) = world.another_shop("C2").await;
    assert_eq!(other.create(&body).await["duplicate"], false);
    // A paid one is still the same order, without links.
    let person = world.person(Side::Wechat);
    let data = world.tap_ready(&first, &person).await;
    world.press_pay(&data, &person).await.unwrap();
    world.until_status("A1", "SUCCESS").await;
    let paid = world.shop.create(&body).await;
    assert_eq!((&paid["duplicate"], &paid["payStatus"], &paid["links"]), (&json!(true), &json!("SUCCESS"), &json!([])));
    world
}

pub async fn ten_equal_creates_at_once_make_one_order(world: World) -> World {
    let body = order_body("A1");
    let made = join_all((0..10).map(|_| world.shop.create(&body))).await;
    let serials: BTreeSet<_> = made.iter().map(|order| order["serialNo"].as_str().unwrap()).collect();
    assert_eq!(serials.len(), 1);
    assert_eq!(made.iter().filter(|order| order["duplicate"] == false).count(), 1);
    assert_eq!(world.place.rows_of("orders").await, 1);
    // Different content for one number, at once: one wins, the others are told.
    let bodies: Vec<Value> = (1..=10)
        .map(|fen| json!({ "orderNo": "A2", "orderAmount": fen, "goodName": "x", "notifyUrl": "http://127.0.0.1:9/n" }))
        .collect();
    let answers = join_all(bodies.iter().map(|body| world.shop.post(ORDERS, body))).await;
    assert_eq!(answers.iter().filter(|(status, _)| *status == StatusCode::OK).count(), 1);
    for said in answers.iter().filter(|(status, _)| *status != StatusCode::OK) {
        assert_error(said, 409, "2107");
    }
    world
}

pub async fn what_is_wrong_with_an_order_is_told_and_nothing_is_made(world: World) -> World {
    for field in ["orderNo", "orderAmount", "goodName", "notifyUrl"] {
        assert_error(&world.shop.post(ORDERS, &with(field, Value::Null)).await, 400, "1003");
    }
    let long = |n: usize| json!("一".repeat(n));
    for (field, value) in [
        ("orderNo", json!("")),
        ("orderNo", json!("A 1")),
        ("orderNo", json!("订单")),
        ("orderNo", json!("A/1")),
        ("orderNo", json!("A".repeat(65))),
        ("orderNo", json!(1)),
        ("orderAmount", json!(0)),
        ("orderAmount", json!(-1)),
        ("orderAmount", json!(19.99)),
        ("orderAmount", json!(2000.0)),
        ("orderAmount", json!("1999")),
        ("orderAmount", json!(2_147_483_648_i64)),
        ("orderAmount", json!(10_000_000_000_i64)),
        ("orderAmount", json!(true)),
        ("goodName", json!("")),
        ("goodName", json!("  \u{3000}")),
        ("goodName", json!("a\u{7}b")),
        ("goodName", json!("a\nb")),
        ("goodName", json!("咖啡☕😀")),
        ("goodName", long(65)),
        ("goodNo", long(65)),
        ("attach", long(129)),
        ("notifyUrl", json!("")),
        ("notifyUrl", json!("shop.example.com/n")),
        ("notifyUrl", json!("ftp://shop.example.com/n")),
        ("notifyUrl", json!("javascript:alert(1)")),
        ("notifyUrl", json!("https://u:p@shop.example.com/n")),
        ("notifyUrl", json!(format!("https://shop.example.com/{}", "n".repeat(240)))),
        ("expireMinutes", json!(4)),
        ("expireMinutes", json!(0)),
        ("expireMinutes", json!(-120)),
        ("expireMinutes", json!(10_081)),
        ("expireMinutes", json!(7.5)),
        ("expireMinutes", json!("120")),
        ("wallets", json!([])),
        ("wallets", json!(["PAYPAL"])),
        ("wallets", json!("WECHAT")),
        ("wallets", json!(["wechat"])),
        ("miniPrograms", json!({ "WECHAT": "wx0000000000000000" })),
        ("miniPrograms", json!({ "ALIPAY": "wx" })),
        ("miniPrograms", json!({ "PAYPAL": "wx" })),
    ] {
        let said = world.shop.post(ORDERS, &with(field, value.clone())).await;
        assert!(said.0 == StatusCode::BAD_REQUEST, "{field} {value}: {said:?}");
        assert_error(&said, 400, "1008");
    }
    let mut chosen = with("wallets", json!(["WECHAT"]));
    chosen["miniPrograms"] = json!({ "ALIPAY": world.alipay.app.app_id });
    assert_error(&world.shop.post(ORDERS, &chosen).await, 400, "1008");
    for broken in ["", "{", "[]", "null", "x", r#"{"orderNo":"A1","orderNo":"A2"}"#] {
        let said = world.shop.send(world.shop.call(Method::POST, ORDERS, broken.as_bytes())).await;
        assert_eq!(said.0, StatusCode::BAD_REQUEST, "{broken:?}: {said:?}");
    }
    let large = json!({ "orderNo": "A1", "pad": "p".repeat(70_000) }).to_string();
    assert_eq!(
        world.shop.send(world.shop.call(Method::POST, ORDERS, large.as_bytes())).await.0,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(world.place.rows_of("orders").await, 0);
    world
}

pub async fn the_largest_and_smallest_orders_are_taken(world: World) -> World {
    let only_alipay = |mut body: Value, n: usize| {
        body["wallets"] = json!(["ALIPAY"]);
        body["orderNo"] = json!(format!("B{n}"));
        body
    };
    for (n, (field, value)) in [
        ("orderAmount", json!(1)),
        ("orderAmount", json!(2_147_483_647_i64)),
        ("goodName", json!("一".repeat(64))),
        ("goodNo", json!("一".repeat(64))),
        ("attach", json!("一".repeat(128))),
        ("expireMinutes", json!(5)),
        ("expireMinutes", json!(10_080)),
        ("orderNo", json!("A_-".repeat(21))),
        ("notifyUrl", json!(format!("https://shop.example.com/{}", "n".repeat(231)))),
    ]
    .into_iter()
    .enumerate()
    {
        let mut body = with(field, value.clone());
        if field != "orderNo" {
            body["orderNo"] = json!(format!("A{n}"));
        }
        let order = world.shop.create(&body).await;
        let minutes = body["expireMinutes"].as_i64().unwrap_or(120);
        let left = time::OffsetDateTime::parse(
            order["expireTime"].as_str().unwrap(),
            &time::format_description::well_known::Rfc3339,
        )
        .unwrap()
        .unix_timestamp()
            - i64::try_from(now_s()).unwrap();
        // The front's clock is the database's, which it knows to a quarter of a second.
        assert!((minutes * 60 - 20..=minutes * 60 + 2).contains(&left), "{minutes} {left}");
    }
    // Without WeChat its limits do not hold.
    for (n, (field, value)) in
        [("orderAmount", json!(9_999_999_999_i64)), ("goodName", json!("咖啡😀"))].into_iter().enumerate()
    {
        let order = world.shop.create(&only_alipay(with(field, value), n)).await;
        assert_ready(&world.tap(&order, &world.person(Side::Alipay)).await);
    }
    world
}

pub async fn unsafe_notify_urls_are_refused_where_strangers_may_order(world: World) -> World {
    let world = world.restart(|settings| settings.front.allow_private_notify_urls = false).await;
    for url in [
        "http://shop.example.com/n",
        "https://127.0.0.1/n",
        "https://10.0.0.1/n",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/n",
        "https://[::ffff:127.0.0.1]/n",
        "https://0x7f.1/n",
        "https://2130706433/n",
        "https://0177.0.0.1/n",
        "https://localhost/n",
        "https://LOCALHOST./n",
        "https://shop.localhost/n",
        "https://redis/n",
        "https://db.internal/n",
        "https://printer.local/n",
        "https://user@shop.example.com/n",
        "https://shop.example.com/n#part",
        "file:///etc/passwd",
        "gopher://shop.example.com/n",
    ] {
        let said = world.shop.post(ORDERS, &with("notifyUrl", json!(url))).await;
        assert!(said.0 == StatusCode::BAD_REQUEST, "{url}: {said:?}");
        assert_error(&said, 400, "1008");
    }
    world.shop.create(&with("notifyUrl", json!("https://shop.example.com/n?a=b"))).await;
    world
}

pub async fn links_name_everything_that_opens_the_mini_program(world: World) -> World {
    let order = world.shop.new_order("A1").await;
    let links = order["links"].as_array().unwrap();
    assert_eq!(links.len(), 2);
    let interface = format!("{}/pay", world.settings.front.public_url);
    for (link, wallet, app_id) in
        [(&links[0], "WECHAT", &world.wechat.app.appid), (&links[1], "ALIPAY", &world.alipay.app.app_id)]
    {
        let pay_info = link["payInfo"].as_str().unwrap();
        assert_eq!(
            (&link["wallet"], &link["appId"], &link["path"]),
            (&json!(wallet), &json!(app_id), &json!("pages/pay/index"))
        );
        assert_eq!(link["interfaceUrl"], json!(interface));
        assert_eq!(link["expireTime"], order["expireTime"]);
        assert_eq!(link["query"], json!(format!("payInfo={pay_info}&url={interface}")));
        assert!(
            pay_info.len() <= 128 && pay_info.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)),
            "{pay_info}"
        );
        let scheme = link["scheme"].as_str().unwrap();
        assert!(scheme.contains(&format!("payInfo%3D{pay_info}%26url%3D")), "the query is encoded once: {scheme}");
    }
    assert!(links[0]["scheme"].as_str().unwrap().starts_with("weixin://dl/business/?appid="));
    assert!(links[1]["scheme"].as_str().unwrap().starts_with("alipays://platformapi/startapp?appId="));
    assert!(links[1]["url"].as_str().unwrap().starts_with("https://ds.alipay.com/?scheme=alipays%3A%2F%2F"));
    assert_eq!(links[0]["originalId"], "gh_0123456789ab");
    for wallet in ["WECHAT", "ALIPAY"] {
        let mut body = order_body(wallet);
        body["wallets"] = json!([wallet]);
        let order = world.shop.create(&body).await;
        let names: Vec<_> = order["links"].as_array().unwrap().iter().map(|link| link["wallet"].clone()).collect();
        assert_eq!(names, [json!(wallet)]);
    }
    world
}

pub async fn revoked_links_open_nothing_and_stop_nothing_that_was_handed_out(world: World) -> World {
    let order = world.shop.new_order("A1").await;
    let path = "/api/v1/orders/A1/links";
    let (status, answer) = world.shop.post(path, &json!({})).await;
    assert_eq!(
        (status, &answer["data"]["links"]),
        (StatusCode::OK, &order["links"]),
        "nothing was revoked: the same links"
    );
    let person = world.person(Side::Wechat);
    let data = world.tap_ready(&order, &person).await;
    let (status, fresh) = world.shop.post(path, &json!({ "revokeOld": true })).await;
    assert_eq!(status, StatusCode::OK, "{fresh:#}");
    let fresh = fresh["data"].clone();
    for side in Side::BOTH {
        let (old, new) = (pay_info(&order, side.name()), pay_info(&fresh, side.name()));
        assert_ne!(old, new);
        let old = json!({ "payInfo": old });
        assert_refused(&world.pay(json!({ "payInfo": old["payInfo"], "code": "any" })).await, "2106");
        assert_refused(&world.post("/pay/info", &old).await, "2106");
        assert_refused(&world.post("/pay/result", &old).await, "2106");
        assert_eq!(world.post("/pay/info", &json!({ "payInfo": new })).await.1["code"], "200");
    }
    assert_eq!(world.shop.order("A1").await["links"], fresh["links"]);
    let again = world.pay(json!({ "payInfo": pay_info(&fresh, "WECHAT"), "identifyId": person.identify_id })).await;
    assert_ready(&again);
    assert_eq!(again.1["data"]["package"], data["package"], "the number lives on under the new link");
    world.press_pay(&data, &person).await.unwrap();
    world.until_status("A1", "SUCCESS").await;
    // Paid is told whatever the link's age.
    for links in [&order, &fresh] {
        assert_refused(&world.pay(json!({ "payInfo": pay_info(links, "WECHAT"), "code": "any" })).await, "2101");
    }
    world
}

pub async fn an_order_tells_its_story_to_its_merchant_alone(world: World) -> World {
    let order = world.shop.new_order("A1").await;
    let fresh = world.shop.order("A1").await;
    assert_eq!(
        (&fresh["payStatus"], &fresh["attempts"], &fresh["anomalies"]),
        (&json!("WAITPAY"), &json!([]), &json!([]))
    );
    assert!(fresh.get("payType").is_none());
    let person = world.person(Side::Wechat);
    let data = world.tap_ready(&order, &person).await;
    assert_eq!(world.shop.order("A1").await["payStatus"], "PROCESSING");
    world.press_pay(&data, &person).await.unwrap();
    let paid = world.until_status("A1", "SUCCESS").await;
    let at_wallet = world.sim.wechat().order(&world.wechat.merchant.mchid, &number(&order, 1)).unwrap();
    assert_eq!(paid["channelTradeNo"], json!(at_wallet.transaction_id));
    assert_eq!(
        (&paid["payAmount"], &paid["orderAmount"], &paid["refundedAmount"]),
        (&json!(1999), &json!(1999), &json!(0))
    );
    assert_eq!((&paid["payerId"], &paid["outTradeNo"]), (&json!(person.identify_id), &json!(number(&order, 1))));
    assert_eq!((&paid["links"], &paid["attempts"][0]["status"]), (&json!([]), &json!("PAID")));
    assert!(paid["payTime"].as_str().unwrap().contains('T'));

    let (other, _, _) = world.another_shop("C2").await;
    assert_error(&other.get("/api/v1/orders/A1").await, 404, "2104");
    assert_error(&other.post("/api/v1/orders/A1/links", &json!({ "revokeOld": true })).await, 404, "2104");
    assert_error(&world.shop.get("/api/v1/orders/A2").await, 404, "2104");
    assert_eq!(world.shop.order("A1").await, paid);
    world
}

/// Ninety seconds past its expiry, with nothing payable anywhere: closed, and told so.
pub async fn an_order_nobody_paid_in_time_is_closed(world: World) -> World {
    let made = world.shop.new_order("A1").await;
    let store = &world.place.store;
    let id = OrderId::parse(made["serialNo"].as_str().unwrap()).unwrap();
    let mut expired = store.load_order(id).await.unwrap().unwrap();
    expired.id = OrderId::fresh();
    expired.order_no = OrderNo::parse("A2").unwrap();
    expired.expire_at = world.clock.now().minus(Order::SETTLED_AFTER_EXPIRY + Duration::from_secs(1));
    store.insert_order(&expired).await.unwrap();
    let order = world.until_status("A2", "CLOSE").await;
    assert!(order["closeTime"].is_string(), "{order:#}");
    assert_eq!(world.shop.order("A1").await["payStatus"], "WAITPAY");
    world
}
