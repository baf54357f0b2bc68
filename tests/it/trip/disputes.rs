//! A wallet calls a number paid, and not as the order is: it blocks until a person decides, by the command line.

use prepay::domain::id::OrderId;
use serde_json::{Value, json};
use simulator::{Call, FaultKind};

use super::{
    caller::assert_refused,
    harness::{World, until},
    inbox::Inbox,
    notices::assert_taken,
    shop::order_body,
    sides::{Person, Side, number},
};

impl World {
    /// What an operator types, on this deployment's database: what it printed.
    pub async fn operator(&self, args: &[&str]) -> String {
        self.operator_with(args, &[]).await
    }

    /// The same with more than the database in its environment.
    pub async fn operator_with(&self, args: &[&str], variables: &[(&str, &str)]) -> String {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_prepay"));
        command.args(args).env_clear().env("PREPAY_DATABASE__URL", &self.place.url).envs(variables.iter().copied());
        let done = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let (out, err) = (String::from_utf8(done.stdout).unwrap(), String::from_utf8(done.stderr).unwrap());
        assert!(done.status.success() && err.is_empty(), "{args:?}: {out}{err}");
        out
    }

    async fn decide(&self, order_no: &str, how: &str) -> String {
        let note = ["--note", "王: looked at the wallet"];
        let what = ["order", "decide", order_no, "--customer", "C1", "--attempt", "1", how];
        self.operator(&[&what[..], &note].concat()).await
    }

    /// An order whose first number was paid, and whose wallet tells that with a lie.
    async fn disputed(&self, order_no: &str, side: Side, inbox: &Inbox, lie: &FaultKind) -> Value {
        let mut body = order_body(order_no);
        body["notifyUrl"] = json!(inbox.url);
        let (order, person) = (self.shop.create(&body).await, self.person(side));
        // Nobody asks the wallet: what the row learns, it learns from notices.
        self.fault_always(side, Call::Query, &order, FaultKind::HtmlBefore);
        self.pay_in_silence(&order, &person).await;
        assert_taken(side, &self.notify(side, &number(&order, 1), std::slice::from_ref(lie)).await);
        self.until_anomaly(order_no, "PERSON").await;
        assert_eq!(self.shop.order(order_no).await["payStatus"], "PROCESSING");
        assert_refused(&self.tap(&order, &self.person(side)).await, "2002");
        order
    }

    async fn pay_in_silence(&self, order: &Value, person: &Person) {
        self.lose_all_notices();
        let data = self.tap_ready(order, person).await;
        self.press_pay(&data, person).await.unwrap();
    }

    async fn until_anomaly(&self, order_no: &str, handled: &str) {
        until(&format!("the dispute is {handled}"), || async {
            let told = &self.shop.order(order_no).await["anomalies"][0];
            told["kind"] == "DISPUTED" && told["handled"] == handled
        })
        .await;
    }

    /// How often this stands in an order's history.
    async fn happened(&self, order: &Value, event: &str) -> usize {
        self.history_of(order).await.iter().filter(|(_, events)| events.split(',').any(|one| one == event)).count()
    }

    /// Every event of an order that its merchant was told, in sequence.
    async fn told(&self, order_no: &str) -> Vec<String> {
        let mut told = self.notifications(order_no).await;
        told.sort_by_key(|event| event["sequence"].as_i64());
        told.iter().map(|event| event["eventType"].as_str().unwrap().to_owned()).collect()
    }
}

pub async fn a_payment_that_is_let_go_makes_room_for_another(world: World) -> World {
    let inbox = Inbox::open().await;
    world.webhook_secret(&world.shop, "w1").await;
    for side in Side::BOTH {
        let order_no = side.name();
        let lie = FaultKind::WrongAmount { fen: 1 };
        let order = world.disputed(order_no, side, &inbox, &lie).await;
        let said = world.decide(order_no, "--let-go").await;
        assert!(said.contains("let_go") && said.contains("waiting (WAITPAY)"), "{said}");
        let stored = world.shop.order(order_no).await;
        assert_eq!((&stored["payStatus"], &stored["attempts"][0]["status"]), (&json!("WAITPAY"), &json!("LET_GO")));
        assert_eq!(stored["anomalies"][0]["handled"], "LET_GO");

        // The wallet says it again, and nobody is stopped by it.
        assert_taken(side, &world.notify(side, &number(&order, 1), std::slice::from_ref(&lie)).await);
        let person = world.person(side);
        world.pay_in_silence(&order, &person).await;
        assert_taken(side, &world.notify(side, &number(&order, 1), &[lie]).await);
        assert_taken(side, &world.notify(side, &number(&order, 2), &[]).await);
        let paid = world.until_status(order_no, "SUCCESS").await;
        assert_eq!(paid["outTradeNo"], json!(number(&order, 2)));
        world.until_notified(order_no, "DELIVERED").await;
        assert_eq!(world.told(order_no).await, ["PAY"]);
        assert_eq!(world.happened(&order, "payment_disputed").await, 1);
        assert_eq!(world.shop.order(order_no).await["anomalies"].as_array().unwrap().len(), 1);
    }
    world
}

pub async fn a_payment_to_another_payee_is_taken_and_told_once(world: World) -> World {
    let inbox = Inbox::open().await;
    world.webhook_secret(&world.shop, "w1").await;
    for side in Side::BOTH {
        let order_no = side.name();
        let lie = FaultKind::WrongMerchant { merchant: "2088000000000001".into() };
        let order = world.disputed(order_no, side, &inbox, &lie).await;
        let said = world.decide(order_no, "--take").await;
        assert!(said.contains("paid (SUCCESS)"), "{said}");
        let paid = world.shop.order(order_no).await;
        assert_eq!((&paid["payStatus"], &paid["outTradeNo"]), (&json!("SUCCESS"), &json!(number(&order, 1))));
        assert_eq!(paid["anomalies"][0]["handled"], "KEPT");
        // Said again, as before and as it is: known.
        assert_taken(side, &world.notify(side, &number(&order, 1), &[lie]).await);
        assert_taken(side, &world.notify(side, &number(&order, 1), &[]).await);
        assert!(world.decide(order_no, "--take").await.contains("paid (SUCCESS)"));
        world.until_notified(order_no, "DELIVERED").await;
        assert_eq!(world.told(order_no).await, ["PAY"]);
        let happened =
            (world.happened(&order, "payment_confirmed").await, world.happened(&order, "dispute_taken").await);
        assert_eq!(happened, (0, 1));
        assert_eq!(paid["anomalies"].as_array().unwrap().len(), 1);
    }
    world
}

/// Closing waits for the person; the commit that lets the money go is the one that closes.
pub async fn a_dispute_ends_in_the_close_that_waited_for_it(world: World) -> World {
    let inbox = Inbox::open().await;
    world.webhook_secret(&world.shop, "w1").await;
    let lie = FaultKind::WrongAmount { fen: 1 };
    let order = world.disputed("A1", Side::Wechat, &inbox, &lie).await;
    let (_, answer) = world.shop.post("/api/v1/orders/A1/close", &json!({})).await;
    assert_eq!(answer["data"]["status"], "FAIL", "{answer:#}");
    assert!(world.decide("A1", "--let-go").await.contains("closed (CLOSE)"));
    world.until_notified("A1", "DELIVERED").await;
    assert_eq!(world.told("A1").await, ["CLOSE"]);
    let history =
        world.place.store.history(OrderId::parse(order["serialNo"].as_str().unwrap()).unwrap()).await.unwrap();
    let last = history.last().unwrap();
    assert_eq!((last.state.as_str(), last.note.as_deref()), ("closed", Some("王: looked at the wallet")));
    world
}
