//! Who pays: one number per payer, one payer at a time, and nobody gets another's parameters.

use std::{collections::BTreeSet, net::SocketAddr};

use futures_util::future::join_all;
use prepay::{
    app::{App, Roles},
    domain::id::AppId,
    enrol::MiniProgramParts,
};
use serde_json::{Value, json};
use simulator::{Call, Event, FaultKind, alipay::AppOptions};

use super::{
    caller::{assert_ready, assert_refused},
    harness::{Via, World, free_addr, until},
    shop::{order_body, pay_info},
    sides::{Person, Side, number},
};

pub async fn the_same_code_again_gives_the_same_prepay_from_one_exchange(world: World) -> World {
    for (order_no, side) in [("A1", Side::Wechat), ("A2", Side::Alipay)] {
        let order = world.shop.new_order(order_no).await;
        let body = world.login_body(&order, &world.person(side));
        let first = world.pay_patiently(&body).await;
        for _ in 0..3 {
            let said = world.pay(body.clone()).await;
            assert_ready(&said);
            assert_eq!(side.ticket(&said.1["data"]), side.ticket(&first));
        }
        assert_eq!(world.sim.ledger().exchanges_of(body["code"].as_str().unwrap()), 1);
        assert_eq!(world.sim.ledger().prepays_of(&number(&order, 1)), 1);
        assert_eq!(world.numbers_created(&order), 1);
    }
    world
}

pub async fn twenty_equal_calls_at_once_are_one_exchange_and_one_prepay(world: World) -> World {
    for (order_no, side) in [("A1", Side::Wechat), ("A2", Side::Alipay)] {
        let order = world.shop.new_order(order_no).await;
        let body = world.login_body(&order, &world.person(side));
        let answers = join_all((0..20).map(|_| world.pay(body.clone()))).await;
        let first = side.ticket(&answers[0].1["data"]);
        for said in &answers {
            assert_ready(said);
            assert_eq!(side.ticket(&said.1["data"]), first);
        }
        assert_eq!(world.sim.ledger().exchanges_of(body["code"].as_str().unwrap()), 1);
        assert_eq!(world.sim.ledger().prepays_of(&number(&order, 1)), 1);
        assert_eq!(world.numbers_created(&order), 1);
    }
    world
}

/// Two taps, two logins, and the merchant's own identifyId beside them: nothing that a front could join.
pub async fn one_payer_who_comes_in_many_ways_at_once_has_one_prepay(world: World) -> World {
    for (order_no, side) in [("A1", Side::Wechat), ("A2", Side::Alipay)] {
        let order = world.shop.new_order(order_no).await;
        let person = world.person(side);
        let mut bodies = vec![json!({ "payInfo": pay_info(&order, side.name()), "identifyId": person.identify_id })];
        bodies.extend((0..5).map(|_| world.login_body(&order, &person)));
        let data = join_all(bodies.iter().map(|body| world.pay_patiently(body))).await;
        for one in &data {
            assert_eq!(side.ticket(one), side.ticket(&data[0]));
        }
        assert_eq!((world.numbers_created(&order), world.sim.ledger().bodies_of(&number(&order, 1))), (1, 1));
        for body in &bodies[1..] {
            let code = body["code"].as_str().unwrap();
            assert_eq!((world.exchanged(code), world.sim.ledger().exchanges_of(code)), (1, 1));
        }
        world.press_pay(&data[3], &person).await.unwrap();
        world.until_status(order_no, "SUCCESS").await;
    }
    world
}

/// The same call at two fronts, carried out by two workers: there is nothing to join, only the row.
pub async fn two_fronts_and_two_workers_make_one_prepay(mut world: World) -> World {
    if world.via == Via::Embedded {
        return world;
    }
    let first = world.settings.front.listen;
    let second = free_addr();
    world.settings.front.listen = second;
    for roles in [Roles::FRONT, Roles::WORKER] {
        world.apps.push(App::start(&world.settings, roles).await.unwrap());
    }
    world.until_ready().await;
    for round in 0..5 {
        for side in Side::BOTH {
            let order = world.shop.new_order(&format!("{}{round}", side.name())).await;
            let person = world.person(side);
            let body = world.login_body(&order, &person);
            let post = async |addr: SocketAddr| {
                loop {
                    let answer = world.phone.post(format!("http://{addr}/pay")).json(&body).send().await.unwrap();
                    let answer: Value = answer.json().await.unwrap();
                    if answer["code"] != "202" {
                        assert_eq!(answer["code"], "200", "{answer:#}");
                        return side.ticket(&answer["data"]);
                    }
                }
            };
            let tickets = join_all([first, second, first, second].map(post)).await;
            assert!(tickets.iter().all(|ticket| *ticket == tickets[0]), "{tickets:?}");
            assert_eq!(world.sim.ledger().exchanges_of(body["code"].as_str().unwrap()), 1);
            assert_eq!(world.sim.ledger().prepays_of(&number(&order, 1)), 1);
        }
    }
    world
}

pub async fn a_code_belongs_to_the_order_it_came_with(world: World) -> World {
    for (first, second, side) in [("A1", "A2", Side::Wechat), ("B1", "B2", Side::Alipay)] {
        let (one, other) = (world.shop.new_order(first).await, world.shop.new_order(second).await);
        let person = world.person(side);
        let code = world.code_of(&person);
        assert_ready(&world.pay(json!({ "payInfo": pay_info(&one, side.name()), "code": code })).await);
        let stolen = json!({ "payInfo": pay_info(&other, side.name()), "code": code });
        assert_refused(&world.pay(stolen.clone()).await, "3002");
        assert_refused(&world.pay(stolen).await, "3002");
        assert_eq!(world.sim.ledger().exchanges_of(&code), 1);
        assert_eq!(world.numbers_created(&other), 0);
        assert_ready(&world.tap(&other, &person).await);
    }
    world
}

pub async fn a_refused_code_asks_for_a_login_and_a_fresh_one_works(world: World) -> World {
    for (order_no, side) in [("A1", Side::Wechat), ("A2", Side::Alipay)] {
        let order = world.shop.new_order(order_no).await;
        let refused = json!({ "payInfo": pay_info(&order, side.name()), "code": "0e1OCv1w3SXUT13aMD0w3ZASFJ3OCv1c" });
        assert_refused(&world.pay(refused.clone()).await, "3002");
        assert_refused(&world.pay(refused).await, "3002");
        assert_eq!(world.numbers_created(&order), 0);
        assert_ready(&world.tap(&order, &world.person(side)).await);
    }
    world
}

/// Somebody else's openid is refused by the wallet, not by us; the link works for its payer afterwards.
pub async fn an_identity_that_the_wallet_does_not_know_is_3002(world: World) -> World {
    use simulator::wechat::ForeignOpenid;
    for (order_no, foreign) in [("A1", ForeignOpenid::ParamError), ("A2", ForeignOpenid::OpenidMismatch)] {
        world.sim.wechat().set_switches(|switches| switches.foreign_openid = foreign);
        let order = world.shop.new_order(order_no).await;
        let body = json!({ "payInfo": pay_info(&order, "WECHAT"), "identifyId": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o" });
        let said = world.pay(body).await;
        // Without the field's name WeChat's PARAM_ERROR could be anything of ours.
        let code = if foreign == ForeignOpenid::ParamError { said.1["errCode"].as_str().unwrap() } else { "3002" };
        assert!(["3002", "1001"].contains(&code), "{said:?}");
        assert_refused(&said, code);
        assert_ready(&world.tap(&order, &world.person(Side::Wechat)).await);
    }
    let order = world.shop.new_order("A3").await;
    assert_refused(&world.pay(json!({ "payInfo": pay_info(&order, "ALIPAY"), "identifyId": "nobody" })).await, "3002");
    assert_ready(&world.tap(&order, &world.person(Side::Alipay)).await);
    world
}

pub async fn another_payer_gets_a_new_number_after_the_old_one_is_closed(world: World) -> World {
    for (order_no, side) in [("A1", Side::Wechat), ("A2", Side::Alipay)] {
        let order = world.shop.new_order(order_no).await;
        let (ann, ben) = (world.person(side), world.person(side));
        let anns = world.tap_ready(&order, &ann).await;
        let bens = world.tap_ready(&order, &ben).await;
        assert_ne!(side.ticket(&anns), side.ticket(&bens));
        assert_closed_before_created(&world, &number(&order, 1), &number(&order, 2));
        assert!(world.press_pay(&anns, &ann).await.is_err(), "the first one's parameters are dead");
        assert!(world.press_pay(&bens, &ann).await.is_err(), "and the second's are not theirs");
        world.press_pay(&bens, &ben).await.unwrap();
        let paid = world.until_status(order_no, "SUCCESS").await;
        assert_eq!(paid["payerId"], json!(ben.identify_id));
        assert_eq!(paid["outTradeNo"], json!(number(&order, 2)));
        assert_eq!(world.payable_at_once_max(&order), 1);
    }
    world
}

pub async fn the_other_wallet_gets_a_number_after_the_first_one_is_closed(world: World) -> World {
    let order = world.shop.new_order("A1").await;
    let (wechat, alipay) = (world.person(Side::Wechat), world.person(Side::Alipay));
    let first = world.tap_ready(&order, &wechat).await;
    let second = world.tap_ready(&order, &alipay).await;
    assert_closed_before_created(&world, &number(&order, 1), &number(&order, 2));
    let third = world.tap_ready(&order, &wechat).await;
    assert_closed_before_created(&world, &number(&order, 2), &number(&order, 3));
    assert!(world.press_pay(&first, &wechat).await.is_err());
    assert!(world.press_pay(&second, &alipay).await.is_err());
    world.press_pay(&third, &wechat).await.unwrap();
    let paid = world.until_status("A1", "SUCCESS").await;
    assert_eq!(paid["payType"], "WECHAT");
    assert_eq!(world.payable_at_once_max(&order), 1);
    assert_eq!(world.sim.ledger().payments(order["serialNo"].as_str().unwrap()).len(), 1);
    world
}

/// Five people, two wallets, all at once: whoever is told 200 last may pay, and only once.
pub async fn a_crowd_on_one_link_pays_once(world: World) -> World {
    let order = world.shop.new_order("A1").await;
    let crowd: Vec<Person> = (0..5).map(|n| world.person(Side::BOTH[n % 2])).collect();
    let bodies: Vec<_> = crowd.iter().map(|person| world.login_body(&order, person)).collect();
    let answers = join_all(bodies.iter().map(|body| world.pay(body.clone()))).await;
    let ready = answers.iter().zip(&crowd).filter(|((_, answer), _)| answer["code"] == "200");
    let tickets: Vec<String> = ready.map(|((_, answer), person)| person.side.ticket(&answer["data"])).collect();
    assert_eq!(tickets.iter().collect::<BTreeSet<_>>().len(), tickets.len(), "one person's parameters went to another");
    let mut paid = 0;
    for ((_, answer), person) in answers.iter().zip(&crowd) {
        if answer["code"] == "200" && world.press_pay(&answer["data"], person).await.is_ok() {
            paid += 1;
        }
    }
    assert!(paid <= 1, "{answers:#?}");
    if paid == 0 {
        // Everybody was told to wait or to come again: then the first who does gets on.
        let data = world.pay_patiently(&world.login_body(&order, &crowd[0])).await;
        world.press_pay(&data, &crowd[0]).await.unwrap();
    }
    world.until_status("A1", "SUCCESS").await;
    assert_eq!(world.payable_at_once_max(&order), 1, "{answers:#?}");
    world
}

pub async fn paid_meanwhile_is_told_to_the_next_payer(world: World) -> World {
    world.lose_all_notices();
    for (order_no, side) in [("A1", Side::Wechat), ("A2", Side::Alipay)] {
        let order = world.shop.new_order(order_no).await;
        let (ann, ben) = (world.person(side), world.person(side));
        let anns = world.tap_ready(&order, &ann).await;
        world.press_pay(&anns, &ann).await.unwrap();
        assert_refused(&world.tap(&order, &ben).await, "2101");
        assert_eq!(world.until_status(order_no, "SUCCESS").await["payerId"], json!(ann.identify_id));
        assert_eq!(world.numbers_created(&order), 1);
    }
    world
}

/// The payment is faster than our close: the refused close is asked about, and paid wins.
pub async fn a_payment_that_wins_against_the_close_is_told(world: World) -> World {
    world.lose_all_notices();
    for (order_no, side) in [("A1", Side::Wechat), ("A2", Side::Alipay)] {
        let order = world.shop.new_order(order_no).await;
        world.tap_ready(&order, &world.person(side)).await;
        let fault = world.fault(side, Call::Close, &order, FaultKind::PaidMeanwhile);
        assert_refused(&world.tap(&order, &world.person(side)).await, "2101");
        assert_eq!(world.sim.faults().struck(fault), 1);
        assert_eq!(world.until_status(order_no, "SUCCESS").await["outTradeNo"], json!(number(&order, 1)));
        assert_eq!(world.numbers_created(&order), 1);
    }
    world
}

pub async fn a_link_is_not_passed_round_without_end(world: World) -> World {
    let order = world.shop.new_order("A1").await;
    let people: Vec<Person> = (0..6).map(|_| world.person(Side::Wechat)).collect();
    for person in &people {
        assert_ready(&world.tap(&order, person).await);
    }
    let stranger = world.person(Side::Wechat);
    assert_refused(&world.tap(&order, &stranger).await, "3005");
    assert_refused(&world.tap(&order, &people[0]).await, "3005");
    // Whoever holds it goes on.
    let data = world.tap_ready(&order, &people[5]).await;
    assert_eq!(world.numbers_created(&order), 6);
    world.press_pay(&data, &people[5]).await.unwrap();
    world.until_status("A1", "SUCCESS").await;
    assert_eq!(world.payable_at_once_max(&order), 1);
    world
}

pub async fn whoever_cancels_may_pay_after_all_with_the_same_prepay(world: World) -> World {
    for (order_no, side) in [("A1", Side::Wechat), ("A2", Side::Alipay)] {
        let order = world.shop.new_order(order_no).await;
        let person = world.person(side);
        let first = world.tap_ready(&order, &person).await;
        world.press_cancel(&first, &person).await;
        let second = world.tap_ready(&order, &person).await;
        assert_eq!(side.ticket(&first), side.ticket(&second));
        assert_eq!(world.sim.ledger().prepays_of(&number(&order, 1)), 1);
        world.press_pay(&second, &person).await.unwrap();
        world.until_status(order_no, "SUCCESS").await;
    }
    world
}

/// Parameters of ten seconds ago are not given out again before the wallet was asked.
pub async fn a_payer_who_paid_unheard_is_not_sent_to_pay_again(world: World) -> World {
    world.lose_all_notices();
    let order = world.shop.new_order("A1").await;
    let person = world.person(Side::Wechat);
    let data = world.tap_ready(&order, &person).await;
    // The scheduler's own questions are not what is counted here.
    world.place.sql("UPDATE attempts SET next_query_at = next_query_at + 600000").await;
    let asked = world.sim.ledger().queries_of(&number(&order, 1));
    assert_ready(&world.tap(&order, &person).await);
    assert_eq!(world.sim.ledger().queries_of(&number(&order, 1)), asked, "a quick second tap costs nothing");
    world.press_pay(&data, &person).await.unwrap();
    world.place.sql("UPDATE attempts SET handed_out_at = handed_out_at - 11000").await;
    assert_refused(&world.tap(&order, &person).await, "2101");
    world.until_status("A1", "SUCCESS").await;
    world
}

/// A prepay_id lives two hours; from 110 minutes on the same bytes are sent again under the same number.
pub async fn an_old_prepay_is_renewed_under_its_number(world: World) -> World {
    use simulator::wechat::RepeatedPrepay;
    for (order_no, position) in [("A1", RepeatedPrepay::New), ("A2", RepeatedPrepay::Same)] {
        world.sim.wechat().set_switches(|switches| switches.repeated_prepay = position);
        let order = world.shop.new_order(order_no).await;
        let person = world.person(Side::Wechat);
        let first = world.tap_ready(&order, &person).await;
        world.place.sql("UPDATE attempts SET ticket_at = ticket_at - 6601000").await;
        let second = world.tap_ready(&order, &person).await;
        let same = first["package"] == second["package"];
        assert_eq!(same, position == RepeatedPrepay::Same);
        let ledger = world.sim.ledger();
        let sent = number(&order, 1);
        assert_eq!((ledger.prepays_of(&sent), ledger.bodies_of(&sent), world.numbers_created(&order)), (2, 1, 1));
        world.press_pay(&second, &person).await.unwrap();
        world.until_status(order_no, "SUCCESS").await;
    }
    world
}

pub async fn a_mini_program_without_secret_takes_identify_ids_alone(world: World) -> World {
    let app = world.sim.wechat().new_app(&world.wechat.merchant.mchid);
    let own = world.sim.alipay().new_app(AppOptions::default());
    world.sim.alipay().bind_op_app(&world.alipay.app.app_id, &own.app_id).unwrap();
    for (account, app_id) in [(world.wechat.account, &app.appid), (world.alipay.account, &own.app_id)] {
        let program = MiniProgramParts {
            account,
            app_id: AppId::parse(app_id.clone()).unwrap(),
            original_id: None,
            path: "pages/pay/index".into(),
            query_template: None,
            env_version: None,
            secrets: None,
        };
        world.enroller().mini_program(program).await.unwrap();
    }
    let mut body = order_body("A1");
    body["miniPrograms"] = json!({ "WECHAT": app.appid, "ALIPAY": own.app_id });
    until("the fronts know the mini-programs", || async {
        world.shop.post("/api/v1/orders", &body).await.0 == reqwest::StatusCode::OK
    })
    .await;
    let order = world.shop.create(&body).await;
    let openid = world.sim.wechat().new_openid(&app.appid);
    let code = world.sim.wechat().new_code(&app.appid, &openid);
    assert_refused(&world.pay(json!({ "payInfo": pay_info(&order, "WECHAT"), "code": code })).await, "3002");
    assert_eq!(world.sim.ledger().exchanges_of(&code), 0);
    let said = world.pay(json!({ "payInfo": pay_info(&order, "WECHAT"), "code": code, "identifyId": openid })).await;
    assert_ready(&said);
    assert_eq!(said.1["data"]["appId"], json!(app.appid));

    let user = world.sim.alipay().new_user().user_id;
    let code = world.sim.alipay().new_auth_code(&own.app_id, &user).unwrap();
    let open_id = world.sim.alipay().open_id(&own.app_id, &user).unwrap();
    assert_refused(&world.pay(json!({ "payInfo": pay_info(&order, "ALIPAY"), "code": code })).await, "3002");
    assert_eq!(world.sim.ledger().exchanges_of(&code), 0);
    assert_ready(&world.pay(json!({ "payInfo": pay_info(&order, "ALIPAY"), "identifyId": open_id })).await);
    world
}

/// The order of things at the wallets: the old number dead, then the new one alive.
#[track_caller]
fn assert_closed_before_created(world: &World, old: &str, new: &str) {
    let at = |number: &str, event: Event| {
        let lines = world.sim.ledger().of_number(number);
        lines.iter().find(|line| line.event == event).unwrap_or_else(|| panic!("{number} was never {event:?}")).sequence
    };
    assert!(at(old, Event::Closed) < at(new, Event::Created), "{new} was opened beside {old}");
}
