//! What an account adds to its prepays, as its wallet receives it: frozen with the number, whatever is set or said later.

use prepay::{front::Proxies, store::AccountChange};
use reqwest::Method;
use serde_json::{Value, json};
use simulator::{Call, Event, FaultKind};

use super::{
    caller::{Said, assert_processing, assert_ready},
    harness::World,
    shop::order_body,
    sides::{Person, Side, number},
};

/// Every field of a prepay that is there for a setting alone, at either wallet.
const ADDED: [&str; 9] = [
    "goods_tag",
    "limit_pay",
    "detail",
    "scene_info",
    "settle_info",
    "goods_detail",
    "disable_pay_channels",
    "extend_params",
    "business_params",
];

fn everything() -> Value {
    json!({ "profit_sharing": true, "goods_detail": true, "no_credit": true, "payer_ip": true })
}

/// Writes both accounts' settings, as an operator would; whoever starts after this knows them.
async fn set(world: &World, extras: Value, goods_tag: Option<&str>) {
    for account in [world.wechat.account, world.alipay.account] {
        let row = world.place.store.account(account).await.unwrap().unwrap();
        let mut settings: Value = serde_json::from_str(&row.settings).unwrap();
        settings["extras"] = extras.clone();
        if account == world.wechat.account {
            settings["goods_tag"] = json!(goods_tag);
        }
        let change = AccountChange { settings: Some(settings.to_string()), ..AccountChange::default() };
        assert!(world.place.store.update_account(account, row.version, change).await.unwrap());
    }
}

/// The calls come from 127.0.0.1, as from an ingress; it is believed if it is named here.
async fn trusting(world: World, proxies: &str) -> World {
    let proxies = Proxies::parse([proxies]).unwrap();
    world.restart(|settings| settings.front.trusted_proxies = proxies).await
}

async fn order_of_goods(world: &World, order_no: &str) -> Value {
    let mut body = order_body(order_no);
    body["goodNo"] = json!("SKU-1");
    world.shop.create(&body).await
}

async fn call_from(world: &World, body: &Value, forwarded: Option<&str>) -> Said {
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(forwarded.map(|forwarded| ("x-forwarded-for", forwarded)));
    world.ask(Method::POST, "/pay", &headers, body.to_string()).await
}

/// A fresh login of theirs from this address, which is answered with parameters.
async fn tap_from(world: &World, order: &Value, person: &Person, forwarded: Option<&str>) -> Value {
    let said = call_from(world, &world.login_body(order, person), forwarded).await;
    assert_ready(&said.pair());
    said.json()["data"].clone()
}

/// What the wallet received for the order's first number beyond what a payment needs.
fn added(world: &World, side: Side, order: &Value) -> Value {
    let number = number(order, 1);
    let body = match side {
        Side::Wechat => world.sim.wechat().prepay_body(&world.wechat.merchant.mchid, &number),
        Side::Alipay => world.sim.alipay().trade(&world.alipay.app.app_id, &number).map(|trade| trade.biz_content),
    };
    let body = body.unwrap_or_else(|| panic!("{side:?} never received {number}"));
    ADDED.into_iter().filter_map(|name| Some((name.to_owned(), body.get(name)?.clone()))).collect()
}

/// All of it, for a payer who called from 1.1.1.1.
fn all_of_it(side: Side) -> Value {
    match side {
        Side::Wechat => json!({
            "goods_tag": "SPRING",
            "limit_pay": ["no_credit"],
            "detail": { "goods_detail": [
                { "merchant_goods_id": "SKU-1", "goods_name": "一杯咖啡", "quantity": 1, "unit_price": 1999 },
            ] },
            "scene_info": { "payer_client_ip": "1.1.1.1" },
            "settle_info": { "profit_sharing": true },
        }),
        Side::Alipay => json!({
            "goods_detail": [{ "goods_id": "SKU-1", "goods_name": "一杯咖啡", "quantity": 1, "price": "19.99" }],
            "disable_pay_channels": "credit_group",
            "extend_params": { "royalty_freeze": "true" },
            "business_params": { "mc_create_trade_ip": "1.1.1.1" },
        }),
    }
}

pub async fn an_account_adds_what_it_is_set_to_and_is_paid(world: World) -> World {
    let world = trusting(world, "127.0.0.0/8").await;
    for side in Side::BOTH {
        let (order, person) = (order_of_goods(&world, side.name()).await, world.person(side));
        tap_from(&world, &order, &person, Some("1.1.1.1")).await;
        assert_eq!(added(&world, side, &order), json!({}), "nothing is added unasked");
    }
    set(&world, everything(), Some("SPRING")).await;
    let world = world.restart(|_| ()).await;
    for side in Side::BOTH {
        let order_no = format!("{}1", side.name());
        let (order, person) = (order_of_goods(&world, &order_no).await, world.person(side));
        let data = tap_from(&world, &order, &person, Some("1.1.1.1")).await;
        assert_eq!(added(&world, side, &order), all_of_it(side));
        world.press_pay(&data, &person).await.unwrap();
        world.until_status(&order_no, "SUCCESS").await;
    }
    world
}

pub async fn no_payer_chooses_the_address_that_a_wallet_is_told(world: World) -> World {
    set(&world, json!({ "payer_ip": true }), None).await;
    let world = trusting(world, "127.0.0.0/8").await;
    for (n, (forwarded, told)) in [
        // The caller wrote the first, our proxy the second.
        (Some("8.8.8.8, 1.1.1.1"), Some("1.1.1.1")),
        (Some("8.8.8.8, 192.168.1.7"), None),
        (Some("8.8.8.8, unknown"), None),
        (None, None),
    ]
    .into_iter()
    .enumerate()
    {
        assert_told(&world, &n.to_string(), forwarded, told).await;
    }
    // Nobody believes whoever calls from there.
    let world = trusting(world, "10.0.0.0/8").await;
    assert_told(&world, "apart", Some("1.1.1.1"), None).await;
    world
}

/// What both wallets are told of a payer whose call comes with this header.
async fn assert_told(world: &World, name: &str, forwarded: Option<&str>, told: Option<&str>) {
    for side in Side::BOTH {
        let order = order_of_goods(world, &format!("{}-{name}", side.name())).await;
        tap_from(world, &order, &world.person(side), forwarded).await;
        let wanted = match (side, told) {
            (_, None) => json!({}),
            (Side::Wechat, Some(ip)) => json!({ "scene_info": { "payer_client_ip": ip } }),
            (Side::Alipay, Some(ip)) => json!({ "business_params": { "mc_create_trade_ip": ip } }),
        };
        assert_eq!(added(world, side, &order), wanted, "{forwarded:?}");
    }
}

pub async fn a_number_keeps_what_its_first_send_added(world: World) -> World {
    set(&world, everything(), Some("SPRING")).await;
    let world = trusting(world, "127.0.0.0/8").await;
    let mut begun = Vec::new();
    for side in Side::BOTH {
        let (order, person) = (order_of_goods(&world, side.name()).await, world.person(side));
        world.fault_always(side, Call::Prepay, &order, FaultKind::LoseAnswer);
        let body = world.login_body(&order, &person);
        assert_processing(&call_from(&world, &body, Some("1.1.1.1")).await.pair());
        begun.push((side, order, person, body));
    }
    set(&world, json!({}), None).await;
    let world = world.restart(|_| ()).await;
    world.sim.faults().clear();
    for (side, order, person, body) in begun {
        let number = number(&order, 1);
        let sends = || {
            let lines = world.sim.ledger().of_number(&number);
            lines.iter().filter(|line| (line.call, line.event) == (Call::Prepay, Event::Request)).count()
        };
        let before = sends();
        // From another place, and after the settings changed.
        let data = world.pay_patiently(&body).await;
        assert!(sends() > before, "{side:?}: it was sent again");
        assert_eq!(world.sim.ledger().bodies_of(&number), 1, "{side:?}");
        assert_eq!(added(&world, side, &order), all_of_it(side));
        world.press_pay(&data, &person).await.unwrap();
        assert_eq!(world.until_status(side.name(), "SUCCESS").await["outTradeNo"], json!(number));

        let next = order_of_goods(&world, &format!("{}1", side.name())).await;
        tap_from(&world, &next, &person, Some("1.1.1.1")).await;
        assert_eq!(added(&world, side, &next), json!({}), "the next number is of the settings as they are now");
    }
    world
}
