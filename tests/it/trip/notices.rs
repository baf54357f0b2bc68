//! Wallets tell of payments, late, twice, falsely or never: the order follows the money and nothing else.

use futures_util::future::join_all;
use prepay::domain::{id::OrderId, order::Order};
use serde_json::{Value, json};
use simulator::{Call, Event, FaultKind};
use tokio::time::{Duration, Instant, sleep};

use super::{
    caller::assert_refused,
    harness::{World, until},
    shop::pay_info,
    sides::{Person, Side, number},
    watched::Scraped,
};

/// A call that waits for what a wallet says, on a machine that is in no hurry.
const PATIENT_MS: u64 = 8_000;

impl World {
    /// The wallet tells of a paid number now, with these lies; what it is answered.
    pub async fn notify(&self, side: Side, number: &str, lies: &[FaultKind]) -> (u16, String) {
        self.notify_of(side, self.merchant_no(side), number, lies).await
    }

    /// The same of any merchant's number.
    pub async fn notify_of(&self, side: Side, merchant: &str, number: &str, lies: &[FaultKind]) -> (u16, String) {
        let (status, body) = match side {
            Side::Wechat => {
                let told = self.sim.wechat().notify_now(merchant, number, lies).await.unwrap();
                (told.status, told.body)
            }
            Side::Alipay => self.sim.alipay().notify_now(merchant, number, lies).await.unwrap(),
        };
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    pub async fn history_of(&self, order: &Value) -> Vec<(i64, String)> {
        let id = OrderId::parse(order["serialNo"].as_str().unwrap()).unwrap();
        let rows = self.place.store.history(id).await.unwrap();
        rows.into_iter().map(|row| (row.version, row.events.join(","))).collect()
    }

    /// The same, and its wallet answers no question either: what the row learns, it learns from a notice.
    pub async fn paid_untold(&self, order_no: &str, side: Side) -> (Value, Person) {
        let (order, person) = (self.shop.new_order(order_no).await, self.person(side));
        self.fault_always(side, Call::Query, &order, FaultKind::CloseBefore);
        let data = self.tap_ready(&order, &person).await;
        self.press_pay(&data, &person).await.unwrap();
        (order, person)
    }

    /// An order that its payer paid and nobody was told of.
    pub async fn paid_unheard(&self, order_no: &str, side: Side) -> (Value, Person) {
        let (order, person) = (self.shop.new_order(order_no).await, self.person(side));
        let data = self.tap_ready(&order, &person).await;
        self.press_pay(&data, &person).await.unwrap();
        (order, person)
    }
}

/// Taken, in the wallet's own words.
pub fn assert_taken(side: Side, (status, body): &(u16, String)) {
    assert_eq!(*status, 200, "{body}");
    match side {
        Side::Wechat => assert_eq!(serde_json::from_str::<Value>(body).unwrap()["code"], "SUCCESS"),
        Side::Alipay => assert_eq!(body, "success"),
    }
}

/// Not taken, so that the wallet comes again.
fn assert_not_taken(side: Side, (status, body): &(u16, String), what: &str) {
    match side {
        Side::Wechat => assert!(*status >= 400, "{what}: {status} {body}"),
        Side::Alipay => assert_ne!(body, "success", "{what}"),
    }
}

pub async fn a_notice_pays_and_its_repeats_change_nothing(world: World) -> World {
    world.lose_all_notices();
    for (order_no, side) in [("A1", Side::Wechat), ("A2", Side::Alipay)] {
        let (order, _) = world.paid_unheard(order_no, side).await;
        let sent = number(&order, 1);
        assert_taken(side, &world.notify(side, &sent, &[]).await);
        let paid = world.until_status(order_no, "SUCCESS").await;
        let history = world.history_of(&order).await;
        for said in join_all((0..5).map(|_| world.notify(side, &sent, &[]))).await {
            assert_taken(side, &said);
        }
        // The queue has been worked off when a later notice of another order has had its effect.
        let other_no = format!("{order_no}x");
        let (other, _) = world.paid_unheard(&other_no, side).await;
        assert_taken(side, &world.notify(side, &number(&other, 1), &[]).await);
        world.until_status(&other_no, "SUCCESS").await;
        assert_eq!(world.history_of(&order).await, history, "same versions, same events");
        assert_eq!(world.shop.order(order_no).await, paid);
    }
    world
}

pub async fn five_notices_at_once_pay_once(world: World) -> World {
    world.lose_all_notices();
    for (order_no, side) in [("A1", Side::Wechat), ("A2", Side::Alipay)] {
        let (order, _) = world.paid_unheard(order_no, side).await;
        let sent = number(&order, 1);
        for said in join_all((0..5).map(|_| world.notify(side, &sent, &[]))).await {
            assert_taken(side, &said);
        }
        let paid = world.until_status(order_no, "SUCCESS").await;
        assert_eq!(paid["anomalies"], json!([]));
        let confirmed = |history: Vec<(i64, String)>| {
            history.iter().filter(|(_, events)| events.contains("payment_confirmed")).count()
        };
        assert_eq!(confirmed(world.history_of(&order).await), 1);
    }
    world
}

/// WeChat's own habits: each delivery doubled, a false probe before the first, Alipay's empty values in every spelling.
pub async fn the_wallets_habits_do_not_matter(world: World) -> World {
    use simulator::{alipay::EmptyValues, wechat::AssociatedData};
    let positions = [
        (AssociatedData::Absent, EmptyValues::Signed),
        (AssociatedData::Empty, EmptyValues::Unsigned),
        (AssociatedData::Transaction, EmptyValues::Absent),
    ];
    for (n, (associated_data, empty_values)) in positions.into_iter().enumerate() {
        world.sim.wechat().set_switches(|switches| {
            (switches.notice_doubled, switches.notice_probe, switches.associated_data) = (true, true, associated_data);
        });
        world
            .sim
            .alipay()
            .set_switches(|switches| (switches.notify_doubled, switches.empty_values) = (true, empty_values));
        for side in Side::BOTH {
            let order_no = format!("{}{n}", side.name());
            let (order, _) = world.paid_unheard(&order_no, side).await;
            world.until_status(&order_no, "SUCCESS").await;
            let count = |event| world.sim.ledger().count(&number(&order, 1), Call::Notify, event);
            until("a delivery was taken", || async { count(Event::NoticeAccepted) > 0 }).await;
            assert_eq!(count(Event::ProbeAccepted), 0, "a probe must be refused");
        }
    }
    world
}

pub async fn a_forged_notice_is_refused_and_changes_no_row(world: World) -> World {
    world.lose_all_notices();
    for (order_no, side) in [("A1", Side::Wechat), ("A2", Side::Alipay)] {
        let (order, _) = world.paid_untold(order_no, side).await;
        let sent = number(&order, 1);
        let mut lies = vec![FaultKind::WrongSignature, FaultKind::UndecodableSignature, FaultKind::Unsigned];
        if side == Side::Wechat {
            let missing = |name: &str| FaultKind::MissingHeader { name: name.into() };
            lies.extend([
                FaultKind::SignTest,
                FaultKind::UnknownSerial,
                // One from the future comes nearer while it travels.
                FaultKind::TimestampShift { seconds: 330 },
                FaultKind::TimestampShift { seconds: -302 },
                missing("Wechatpay-Timestamp"),
                missing("Wechatpay-Nonce"),
                missing("Wechatpay-Signature"),
                missing("Wechatpay-Serial"),
            ]);
        }
        let history = world.history_of(&order).await;
        for lie in lies {
            let said = world.notify(side, &sent, std::slice::from_ref(&lie)).await;
            assert_not_taken(side, &said, &format!("{lie:?}"));
        }
        let asked = |(_, events): &&(i64, String)| events != "asked";
        let now = world.history_of(&order).await;
        assert!(now.iter().filter(asked).eq(history.iter().filter(asked)), "{now:?}");
        assert_taken(side, &world.notify(side, &sent, &[]).await);
        world.until_status(order_no, "SUCCESS").await;
        assert_eq!(world.place.rows_of("parked").await, 0, "nothing forged travelled the queue");
    }
    world
}

pub async fn a_payment_of_another_amount_or_payee_waits_for_a_person(world: World) -> World {
    world.lose_all_notices();
    for side in Side::BOTH {
        let lies = [
            FaultKind::WrongAmount { fen: 1 },
            FaultKind::WrongAmount { fen: 2000 },
            FaultKind::WrongMerchant { merchant: "2088000000000001".into() },
        ];
        for (n, lie) in lies.into_iter().enumerate() {
            let order_no = format!("{}{n}", side.name());
            let (order, person) = world.paid_untold(&order_no, side).await;
            world.notify(side, &number(&order, 1), std::slice::from_ref(&lie)).await;
            let deadline = Instant::now() + Duration::from_secs(10);
            let stored = loop {
                let stored = world.shop.order(&order_no).await;
                if stored["anomalies"] != json!([]) {
                    break stored;
                }
                assert!(Instant::now() < deadline, "{side:?} {lie:?} {stored:#}");
                sleep(Duration::from_millis(50)).await;
            };
            assert_eq!(stored["anomalies"][0]["kind"], "DISPUTED", "{side:?} {lie:?}");
            assert_eq!(stored["anomalies"][0]["outTradeNo"], json!(number(&order, 1)));
            assert_ne!(stored["payStatus"], "SUCCESS", "{side:?} {lie:?}");
            // Neither this payer nor another gets a number that could be paid on top.
            for payer in [person, world.person(side), world.person(Side::Wechat)] {
                assert_refused(&world.tap(&order, &payer).await, "2002");
            }
            assert_eq!(world.numbers_created(&order), 1);
        }
    }
    world
}

/// A query lies as a notice may, and is judged alike.
pub async fn a_queried_payment_of_another_amount_waits_for_a_person(world: World) -> World {
    world.lose_all_notices();
    for side in Side::BOTH {
        let order_no = side.name();
        let (order, person) = (world.shop.new_order(order_no).await, world.person(side));
        let data = world.tap_ready(&order, &person).await;
        world.fault_always(side, Call::Query, &order, FaultKind::WrongAmount { fen: 1 });
        world.press_pay(&data, &person).await.unwrap();
        let (_, answer) = world.post("/pay/result", &json!({ "payInfo": pay_info(&order, side.name()) })).await;
        assert_ne!(answer["data"]["payStatus"], "SUCCESS");
        until("the dispute is visible", || async {
            world.shop.order(order_no).await["anomalies"][0]["kind"] == "DISPUTED"
        })
        .await;
        assert_ne!(world.shop.order(order_no).await["payStatus"], "SUCCESS");
    }
    world
}

/// What looks foreign to accounts that were read before may be a mini-program's that was enrolled since.
pub async fn nobody_disputes_a_payment_by_accounts_that_cannot_be_read(world: World) -> World {
    world.lose_all_notices();
    let (order, person) = (world.shop.new_order("A1").await, world.person(Side::Wechat));
    let data = world.tap_ready(&order, &person).await;
    let lie = world.fault_always(Side::Wechat, Call::Query, &order, FaultKind::WrongAmount { fen: 1 });
    world.place.sql("UPDATE registry SET id = 2").await;
    world.press_pay(&data, &person).await.unwrap();
    let before = world.sim.faults().struck(lie);
    let asked = json!({ "payInfo": pay_info(&order, "WECHAT") });
    until("the wallet was asked twice", || async {
        world.post("/pay/result", &asked).await;
        world.sim.faults().struck(lie) >= before + 2
    })
    .await;
    assert_eq!(world.shop.order("A1").await["anomalies"], json!([]));
    world.place.sql("UPDATE registry SET id = 1").await;
    until("the dispute is visible", || async {
        world.post("/pay/result", &asked).await;
        world.shop.order("A1").await["anomalies"][0]["kind"] == "DISPUTED"
    })
    .await;
    world
}

pub async fn a_page_that_asks_hears_of_a_payment_whose_notice_was_lost(world: World) -> World {
    let world = world.restart(|settings| settings.front.result_wait_ms = PATIENT_MS).await;
    world.lose_all_notices();
    for (order_no, side) in [("A1", Side::Wechat), ("A2", Side::Alipay)] {
        let (order, _) = world.paid_unheard(order_no, side).await;
        let started = Instant::now();
        let link = json!({ "payInfo": pay_info(&order, side.name()) });
        let (_, answer) = world.post("/pay/result", &link).await;
        let expected = json!({ "code": "200", "msg": "操作成功", "data": { "payStatus": "SUCCESS" } });
        assert_eq!(answer, expected, "after {:?}", started.elapsed());
        assert_eq!(world.shop.order(order_no).await["payStatus"], "SUCCESS");
    }
    world
}

impl World {
    pub(super) async fn synced(&self, order_no: &str) -> Value {
        let target = format!("/api/v1/orders/{order_no}?sync=true");
        let (_, answer) = self.shop.send(self.shop.call(reqwest::Method::GET, &target, b"")).await;
        answer["data"].clone()
    }
}

/// The merchant's own question goes to the wallet first, when it asks for that.
pub async fn a_merchant_that_syncs_hears_of_a_payment_whose_notice_was_lost(world: World) -> World {
    let world = world.restart(|settings| settings.front.result_wait_ms = PATIENT_MS).await;
    world.lose_all_notices();
    for (order_no, side) in [("A1", Side::Wechat), ("A2", Side::Alipay)] {
        world.paid_unheard(order_no, side).await;
        let synced = world.synced(order_no).await;
        assert_eq!((&synced["payStatus"], &synced["synced"]), (&json!("SUCCESS"), &json!(true)), "{synced:#}");
    }
    world
}

/// Open, being closed and past its expiry: what the wallet did not say it is not called to have said.
pub async fn no_merchant_is_told_synced_while_the_wallet_is_silent(world: World) -> World {
    // A wallet that is silent for long is left alone, which is another test's.
    let world = world
        .restart(|settings| (settings.worker.account_failures_to_open, settings.front.result_wait_ms) = (1_000, 1_000))
        .await;
    world.lose_all_notices();
    for side in Side::BOTH {
        let named = ["open", "closing", "over"].map(|how| format!("{}-{how}", side.name()));
        let mut orders = Vec::new();
        for order_no in &named {
            let order = world.shop.new_order(order_no).await;
            world.tap_ready(&order, &world.person(side)).await;
            world.fault_always(side, Call::Query, &order, FaultKind::HtmlBefore);
            orders.push(order);
        }
        let (status, answer) = world.shop.post(&format!("/api/v1/orders/{}/close", named[1]), &json!({})).await;
        assert_eq!((status.as_u16(), &answer["data"]["status"]), (200, &json!("FAIL")), "{answer:#}");
        let over = world.clock.now().minus(Order::SETTLED_AFTER_EXPIRY + Duration::from_secs(1));
        let id = orders[2]["serialNo"].as_str().unwrap();
        world.place.sql(&format!("UPDATE orders SET expire_at = {} WHERE id = '{id}'", over.ms())).await;
        for (order_no, order) in named.iter().zip(&orders) {
            let asked = world.sim.ledger().queries_of(&number(order, 1));
            // A question that is under way is left alone; then the next call asks.
            until("the wallet was asked", async || {
                let synced = world.synced(order_no).await;
                assert_eq!(
                    (&synced["payStatus"], &synced["synced"]),
                    (&json!("PROCESSING"), &json!(false)),
                    "{synced:#}"
                );
                world.sim.ledger().queries_of(&number(order, 1)) > asked
            })
            .await;
        }
        world.sim.faults().clear();
        for (order_no, status) in named.iter().zip(["PROCESSING", "CLOSE", "CLOSE"]) {
            let told = async || {
                let synced = world.synced(order_no).await;
                synced["payStatus"] == status && synced["synced"] == true
            };
            until("the wallet says how it stands", told).await;
        }
    }
    world
}

/// Once in three seconds per order, however often the page asks.
pub async fn a_page_that_asks_all_the_time_does_not_hammer_the_wallet(world: World) -> World {
    let world = world.restart(|settings| settings.front.result_wait_ms = PATIENT_MS).await;
    world.lose_all_notices();
    let order = world.shop.new_order("A1").await;
    let started = Instant::now();
    world.tap_ready(&order, &world.person(Side::Wechat)).await;
    let link = json!({ "payInfo": pay_info(&order, "WECHAT") });
    join_all((0..20).map(|_| world.post("/pay/result", &link))).await;
    let most = 1 + usize::try_from(started.elapsed().as_secs() / 3 + started.elapsed().as_secs() / 5).unwrap();
    let asked = world.sim.ledger().queries_of(&number(&order, 1));
    assert!((1..=most).contains(&asked), "{asked} questions in {:?}", started.elapsed());
    world
}

/// Every notice lost, nobody asks: the scheduler does, within 30 s.
pub async fn a_payment_nobody_hears_of_is_found_by_asking(world: World) -> World {
    world.lose_all_notices();
    let started = Instant::now();
    world.paid_unheard("A1", Side::Wechat).await;
    world.paid_unheard("A2", Side::Alipay).await;
    for order_no in ["A1", "A2"] {
        world.until_status(order_no, "SUCCESS").await;
    }
    assert!(started.elapsed() < Duration::from_secs(30));
    world
}

/// The payer is faster than the wallet's answer to us: the notice comes before the prepay is committed.
pub async fn a_notice_before_the_prepays_answer_pays(world: World) -> World {
    for (order_no, side) in [("A1", Side::Wechat), ("A2", Side::Alipay)] {
        let order = world.shop.new_order(order_no).await;
        world.fault(side, Call::Prepay, &order, FaultKind::DelayAnswer { ms: 4_500 });
        let person = world.person(side);
        let phone = world.tap(&order, &person);
        let payer = async {
            until("the number is open at the wallet", || async { world.numbers_created(&order) == 1 }).await;
            world.pay_number(side, &number(&order, 1)).unwrap();
            world.until_status(order_no, "SUCCESS").await
        };
        let (said, paid) = tokio::join!(phone, payer);
        assert_refused(&said, "2101");
        assert_eq!(paid["anomalies"], json!([]));
    }
    world
}

/// A merchant changed its APIv3 key at the wallet alone: its notices cannot be read, and nobody else's wait for that.
pub async fn notices_that_cannot_be_read_keep_nobody_elses_waiting(world: World) -> World {
    world.lose_all_notices();
    let (theirs, _) = world.paid_unheard("A1", Side::Wechat).await;
    let (ours, _) = world.paid_unheard("A2", Side::Alipay).await;
    // Only a notice tells of it.
    world.fault_always(Side::Alipay, Call::Query, &ours, FaultKind::HtmlBefore);
    world.sim.wechat().new_apiv3_key(&world.wechat.merchant.mchid).unwrap();
    let counted = async || Scraped::from(&world, 0).await.sum("prepay_parked_total", &[]);
    let counted_before = counted().await;
    let their_number = number(&theirs, 1);
    // Half of the sixteen places may wait for them: a new key may be entered a moment later. The embedded broker keeps what was
    // settled alone: the wallet is told to come again with those.
    let mut said = Vec::new();
    for _ in 0..4 {
        said.extend(join_all((0..16).map(|_| world.notify(Side::Wechat, &their_number, &[]))).await);
    }
    assert!(said.iter().filter(|(status, _)| *status == 200).count() >= 56, "{said:?}");
    let told = Instant::now();
    assert_taken(Side::Alipay, &world.notify(Side::Alipay, &number(&ours, 1), &[]).await);
    world.until_status("A2", "SUCCESS").await;
    // Those that wait do so for fifteen seconds, of which three or so are over.
    assert!(told.elapsed() < Duration::from_secs(10), "{:?}", told.elapsed());
    until("the rest waits for a person", || async { world.place.rows_of("parked").await >= 56 }).await;
    // Tests beside this one count there as well, so it is no less than that.
    let alarmed = counted().await - counted_before;
    assert!(alarmed >= 56.0, "an alarm can hear of each: {alarmed}");
    world
}
