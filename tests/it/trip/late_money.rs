//! Money that comes when it should not: kept or given back as its merchant says, once, and never in the way of the rest.

use prepay::domain::{id::CustomerNo, policy::MoneyPolicy};
use serde_json::{Value, json};

use super::{
    harness::{World, until},
    sides::{Side, number},
};

/// Where an order is paid first and where a second time: twice at one wallet, or once at each.
const TWICE: [(&str, [Side; 2]); 4] = [
    ("A1", [Side::Wechat, Side::Wechat]),
    ("A2", [Side::Alipay, Side::Alipay]),
    ("A3", [Side::Wechat, Side::Alipay]),
    ("A4", [Side::Alipay, Side::Wechat]),
];

impl World {
    /// The wallet said closed, and was wrong: our rows as they are then.
    pub(super) async fn believe_closed(&self, order: &Value, order_state: &str) {
        let id = order["serialNo"].as_str().unwrap();
        self.place
            .sql(&format!("UPDATE attempts SET state = 'closed', next_query_at = NULL WHERE order_id = '{id}'"))
            .await;
        let closed_at = if order_state == "closed" { "created_at" } else { "NULL" };
        let sql = format!("UPDATE orders SET state = '{order_state}', closed_at = {closed_at} WHERE id = '{id}'");
        self.place.sql(&sql).await;
    }

    pub(super) async fn policy(&self, late: MoneyPolicy, second: MoneyPolicy) {
        let customer_no = CustomerNo::parse(self.shop.customer_no.clone()).unwrap();
        let mut merchant = self.place.store.merchant_by_customer_no(&customer_no).await.unwrap().unwrap();
        (merchant.policies.late, merchant.policies.second) = (late, second);
        assert!(self.place.store.update_merchant(&merchant).await.unwrap());
    }

    /// An order that was paid after it was closed.
    async fn paid_late(&self, order_no: &str, side: Side) -> Value {
        let order = self.shop.new_order(order_no).await;
        let person = self.person(side);
        let data = self.tap_ready(&order, &person).await;
        self.believe_closed(&order, "closed").await;
        self.press_pay(&data, &person).await.unwrap();
        self.until_status(order_no, "SUCCESS").await;
        order
    }

    /// An order that was paid twice, under two numbers, each at its wallet: the first payment is heard of last.
    async fn paid_twice(&self, order_no: &str, [first, second]: [Side; 2]) -> Value {
        let order = self.shop.new_order(order_no).await;
        let (ann, ben) = (self.person(first), self.person(second));
        let data = self.tap_ready(&order, &ann).await;
        self.lose_all_notices();
        self.press_pay(&data, &ann).await.unwrap();
        self.believe_closed(&order, "waiting").await;
        let data = self.tap_ready(&order, &ben).await;
        self.press_pay(&data, &ben).await.unwrap();
        for (n, side) in [(2, second), (1, first)] {
            self.until_taken(side, &number(&order, n)).await;
            let paid = self.until_status(order_no, "SUCCESS").await;
            assert_eq!((&paid["outTradeNo"], &paid["payType"]), (&json!(number(&order, 2)), &json!(second.name())));
        }
        self.sim.wechat().set_switches(|switches| switches.notices = true);
        self.sim.alipay().set_switches(|switches| switches.notify = true);
        order
    }

    /// All of the payment that made it paid goes back at its merchant's wish, whatever became of the other one.
    async fn is_refundable(&self, order_no: &str, order: &Value) {
        assert_eq!(self.shop.order(order_no).await["refundedAmount"], 0);
        let (kept, refund_no) = (number(order, 2), format!("{order_no}-R1"));
        assert_eq!(self.refund_taken(&refund_no, order_no, 1999).await["outTradeNo"], json!(kept));
        self.until_refund(&refund_no, "SUCCESS").await;
        assert_eq!(self.sim.ledger().refunded_fen(&kept), 1999);
    }

    /// What became of each anomaly, once all are decided.
    pub(super) async fn decided(&self, order_no: &str, wanted: &[(&str, &str)]) {
        let wanted: Vec<_> = wanted.iter().map(|(kind, handled)| ((*kind).to_owned(), (*handled).to_owned())).collect();
        until("every anomaly is decided", || async {
            let order = self.shop.order(order_no).await;
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let rows = order["anomalies"].as_array().unwrap().iter();
            rows.map(|row| (text(&row["kind"]), text(&row["handled"]))).collect::<Vec<_>>() == wanted
        })
        .await;
    }
}

pub async fn a_late_payment_is_kept_and_makes_the_order_paid(world: World) -> World {
    for (order_no, side) in [("A1", Side::Wechat), ("A2", Side::Alipay)] {
        let order = world.paid_late(order_no, side).await;
        world.decided(order_no, &[("CLOSED_NUMBER_PAID", "KEPT"), ("LATE_PAYMENT", "KEPT")]).await;
        assert_eq!(world.sim.ledger().refunds_of(&number(&order, 1)), 0);
    }
    world
}

pub async fn a_late_payment_goes_back_where_its_merchant_says_so(world: World) -> World {
    world.policy(MoneyPolicy::Refund, MoneyPolicy::Refund).await;
    for (order_no, side) in [("A1", Side::Wechat), ("A2", Side::Alipay)] {
        let order = world.paid_late(order_no, side).await;
        world.decided(order_no, &[("CLOSED_NUMBER_PAID", "KEPT"), ("LATE_PAYMENT", "REFUNDED")]).await;
        let refund = world.until_refund(&format!("SYS-{}", number(&order, 1)), "SUCCESS").await;
        assert_eq!((&refund["initiator"], &refund["refundAmount"]), (&json!("SYSTEM"), &json!(1999)));
        let told = world.shop.order(order_no).await;
        assert_eq!((&told["payStatus"], &told["refundedAmount"]), (&json!("SUCCESS"), &json!(1999)));
        assert_eq!(world.sim.ledger().refunded(&number(&order, 1)).len(), 1);
    }
    world
}

pub async fn a_second_payment_goes_back_once_and_the_first_stays_refundable(world: World) -> World {
    for (order_no, sides) in TWICE {
        let order = world.paid_twice(order_no, sides).await;
        let second = number(&order, 1);
        world.decided(order_no, &[("CLOSED_NUMBER_PAID", "KEPT"), ("SECOND_PAYMENT", "REFUNDED")]).await;
        // Decided again, as a scheduler that died in the middle would: still one refund.
        world.place.sql("UPDATE anomalies SET handled = 'due'").await;
        world.decided(order_no, &[("CLOSED_NUMBER_PAID", "KEPT"), ("SECOND_PAYMENT", "REFUNDED")]).await;
        world.until_refund(&format!("SYS-{second}"), "SUCCESS").await;
        assert_eq!(world.sim.ledger().refunded(&second).len(), 1);
        // Out of its own payment: nothing is set aside of the other.
        assert_eq!(world.rows_about(&order).await.given_back, [(1999, 1999), (0, 0)]);
        world.is_refundable(order_no, &order).await;
        assert_eq!(world.rows_about(&order).await.given_back, [(1999, 1999), (1999, 1999)]);
    }
    world
}

pub async fn a_second_payment_stays_where_its_merchant_says_so(world: World) -> World {
    world.policy(MoneyPolicy::Keep, MoneyPolicy::Keep).await;
    let kept = [("CLOSED_NUMBER_PAID", "KEPT"), ("SECOND_PAYMENT", "KEPT")];
    for (order_no, sides) in TWICE {
        let order = world.paid_twice(order_no, sides).await;
        world.decided(order_no, &kept).await;
        world.is_refundable(order_no, &order).await;
        assert_eq!(world.rows_about(&order).await.given_back, [(0, 0), (1999, 1999)]);
        world.decided(order_no, &kept).await;
        assert_eq!(world.sim.ledger().refunds_of(&number(&order, 1)), 0);
    }
    world
}

pub async fn a_kept_second_payment_is_given_back_by_hand(world: World) -> World {
    world.policy(MoneyPolicy::Keep, MoneyPolicy::Keep).await;
    for (order_no, side) in [("A1", Side::Wechat), ("A2", Side::Alipay)] {
        let order = world.paid_twice(order_no, [side, side]).await;
        world.decided(order_no, &[("CLOSED_NUMBER_PAID", "KEPT"), ("SECOND_PAYMENT", "KEPT")]).await;
        let args = ["refund", "make", order_no, "--customer", "C1", "--attempt", "1", "--reason", "重复支付，款项退回"];
        let said = world.operator(&args).await;
        let second = number(&order, 1);
        let refund_no = format!("SYS-{second}-2");
        assert!(said.contains(&refund_no), "{said}");
        let refund = world.until_refund(&refund_no, "SUCCESS").await;
        assert_eq!((&refund["initiator"], &refund["refundAmount"]), (&json!("SYSTEM"), &json!(1999)));
        world.decided(order_no, &[("CLOSED_NUMBER_PAID", "KEPT"), ("SECOND_PAYMENT", "REFUNDED")]).await;
        assert_eq!(world.sim.ledger().refunded(&second).len(), 1);
        // The order's own payment is as it was.
        assert_eq!(world.shop.order(order_no).await["refundedAmount"], 0);
    }
    world
}

/// The wallet refuses each send for want of money, so nothing of it can arrive.
pub async fn a_refund_without_balance_is_cancelled_and_never_made(world: World) -> World {
    let order = world.paid_by("A1", Side::Wechat).await;
    let mchid = &world.wechat.merchant.mchid;
    world.sim.wechat().set_balance(mchid, Some(100));
    assert_eq!(world.refund_taken("R1", "A1", 700).await["hint"], "NOT_ENOUGH");
    world.operator(&["refund", "cancel", "R1", "--customer", "C1"]).await;
    let failed = world.until_refund("R1", "FAIL").await;
    assert_eq!(failed["failReason"], "cancelled");
    world.sim.wechat().set_balance(mchid, Some(10_000));
    // All of the payment can go back under another number.
    world.refund_taken("R2", "A1", 1999).await;
    world.until_refund("R2", "SUCCESS").await;
    assert_eq!(world.sim.ledger().refunded(&number(&order, 1)).len(), 1);
    world
}
