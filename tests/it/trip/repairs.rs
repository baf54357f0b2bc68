//! What a bill brought to light is asked about: the wallet's word goes through the one door, and what it does not settle stays open.

use prepay::{
    domain::{
        attempt::AttemptState,
        bill::{BillDate, DiscrepancyKind, DiscrepancyState, Repair},
        id::{AttemptNo, OrderId},
        order::{Order, OrderState},
    },
    steps::reconcile::Repaired,
    store::Discrepancy,
};
use secrecy::ExposeSecret;
use serde_json::Value;
use simulator::{
    BillChange, Bills, Call, FaultKind,
    wechat::{RefundEnding, RefundStatus},
};

use super::{
    harness::{World, until},
    sides::{Side, number},
};

impl World {
    /// The one open discrepancy about a number.
    async fn open_about(&self, number: &str) -> Discrepancy {
        let mut open = self.found(DiscrepancyState::Open).await;
        open.retain(|row| row.found.number() == number);
        assert_eq!(open.len(), 1, "{number}: {open:?}");
        open.remove(0)
    }

    async fn discrepancy(&self, id: i64) -> Discrepancy {
        self.place.store.discrepancy(id).await.unwrap().unwrap()
    }

    /// As an operator types it, at a desk that has the workers' master key.
    async fn repaired_by_hand(&self, id: i64) -> String {
        let (id, key) = (id.to_string(), self.settings.keys.back.as_ref().unwrap());
        let variables = [("PREPAY_KEYS__BACK", key.expose_secret())];
        self.operator_with(&["reconcile", "repair", &id], &variables).await
    }

    async fn stored(&self, order: &Value) -> Order {
        let id = OrderId::parse(order["serialNo"].as_str().unwrap()).unwrap();
        self.place.store.load_order(id).await.unwrap().unwrap()
    }
}

/// Every end that a refund has at WeChat Pay: told by its bill alone, and taken from its answer.
pub async fn a_refund_whose_end_nobody_heard_of_is_repaired_by_asking(world: World) -> World {
    let (side, account, mchid) = (Side::Wechat, world.wechat.account, &world.wechat.merchant.mchid);
    world.set_bills(Bills::Ready);
    let books = world.books().await;
    for (order_no, ending, status, state) in [
        ("A1", RefundEnding::Success, "SUCCESS", "succeeded"),
        ("A2", RefundEnding::Abnormal, "ABNORMAL", "abnormal"),
        ("A3", RefundEnding::Closed, "FAIL", "failed"),
    ] {
        let order = world.paid_by(order_no, side).await;
        world.sim.wechat().set_switches(|switches| {
            (switches.refund_notices, switches.refund_ending) = (false, ending);
        });
        world.fault_always(side, Call::RefundQuery, &order, FaultKind::HtmlBefore);
        let refund = world.refund_taken(order_no, order_no, 700).await["serialNo"].as_str().unwrap().to_owned();
        world.until_left_alone("state = 'processing'").await;
        until("the wallet has ended it", || async {
            world.sim.wechat().refund_of(mchid, &refund).unwrap().status != RefundStatus::Processing
        })
        .await;

        let date = world.day_of(&order).await;
        assert_eq!(books.matched(account, date).await.totals.discrepancies, 1, "{ending:?}");
        let row = world.open_about(&refund).await;
        assert_eq!((row.found.kind, row.found.repair), (DiscrepancyKind::StatusDiffers, Repair::AskRefund));
        let said = books.steps.repair(row.id).await.unwrap();
        assert!(matches!(said, Repaired::No(_)), "the wallet did not tell: {said:?}");
        let open = world.discrepancy(row.id).await;
        assert!(open.state == DiscrepancyState::Open && open.note.is_some(), "for the next person: {open:?}");
        world.until_refund(order_no, "PROCESSING").await;

        world.sim.faults().clear();
        let said = books.steps.repair(row.id).await.unwrap();
        assert_eq!(said, Repaired::Yes(format!("the wallet was asked, and the refund is {state}")));
        world.until_refund(order_no, status).await;
        assert_eq!(world.discrepancy(row.id).await.state, DiscrepancyState::Repaired);
        let again = books.steps.repair(row.id).await.unwrap();
        assert_eq!(again, Repaired::NotOpen(DiscrepancyState::Repaired));
        assert_eq!(books.matched(account, date).await.totals.discrepancies, 0, "{ending:?}");
    }
    world
}

/// We call it paid back and no bill names it: whatever the wallet says that is not just that settles nothing.
pub async fn a_refund_that_no_bill_names_is_repaired_by_hand(world: World) -> World {
    world.set_bills(Bills::Ready);
    world.sim.alipay().set_switches(|switches| switches.refund_status_after_ms = 0);
    let books = world.books().await;
    for side in Side::BOTH {
        let order_no = side.name();
        let order = world.paid_by(order_no, side).await;
        let refund = world.refund_taken(order_no, order_no, 700).await["serialNo"].as_str().unwrap().to_owned();
        world.until_refund(order_no, "SUCCESS").await;
        let (out_trade_no, out_refund_no) = (number(&order, 1), Some(refund.clone()));
        world.change_bills(side, BillChange::LeaveOut { out_trade_no, out_refund_no });
        books.matched(world.account(side), world.day_of(&order).await).await;
        let row = world.open_about(&refund).await;
        assert_eq!((row.found.kind, row.found.repair), (DiscrepancyKind::MissingThere, Repair::AskRefund));

        for (lie, says) in
            [(FaultKind::HtmlBefore, ""), (FaultKind::WrongAmount { fen: 1 }, "another refund under this number")]
        {
            let fault = world.fault(side, Call::RefundQuery, &order, lie.clone());
            let said = books.steps.repair(row.id).await.unwrap();
            assert!(matches!(&said, Repaired::No(why) if why.contains(says)), "{lie:?}: {said:?}");
            assert_eq!(world.sim.faults().struck(fault), 1, "{lie:?}");
            let open = world.discrepancy(row.id).await;
            assert!(open.state == DiscrepancyState::Open, "{lie:?}: {open:?}");
            assert!(open.note.is_some_and(|note| note.contains(says)), "{lie:?}");
        }
        let said = world.repaired_by_hand(row.id).await;
        assert_eq!(said.trim(), "repaired: the wallet was asked, and the refund is succeeded");
        assert_eq!(world.discrepancy(row.id).await.state, DiscrepancyState::Repaired);
        let again = world.repaired_by_hand(row.id).await;
        assert_eq!(again.trim(), "nothing to do: it is repaired already");
        assert_eq!(world.shop.order(order_no).await["refundedAmount"], 700);
    }
    world
}

/// Nobody told us of a payment, and the bill has it with another amount. The wallet's own word decides: the bill was wrong, or
/// the payment is a person's.
pub async fn an_amount_that_differs_unheard_is_asked_about(mut world: World) -> World {
    world.set_bills(Bills::Ready);
    world.lose_all_notices();
    let mut opened = Vec::new();
    for (side, wrong) in Side::BOTH.into_iter().flat_map(|side| [(side, "bill"), (side, "payment")]) {
        let order = world.shop.new_order(&format!("{}-{wrong}", side.name())).await;
        let person = world.person(side);
        let data = world.tap_ready(&order, &person).await;
        opened.push((side, wrong, order, person, data));
    }
    // Nobody asks from here on.
    world.stop_roles().await;
    let books = world.books().await;
    let today = BillDate::of(world.clock.now());
    let mut for_a_person = Vec::new();
    for (side, wrong, order, person, data) in opened {
        let (account, sent) = (world.account(side), number(&order, 1));
        world.press_pay(&data, &person).await.unwrap();
        let (out_trade_no, out_refund_no) = (sent.clone(), None);
        world.change_bills(side, BillChange::Amount { out_trade_no, out_refund_no, fen: 1 });
        books.matched(account, today).await;
        let row = world.open_about(&sent).await;
        assert_eq!((row.found.kind, row.found.repair), (DiscrepancyKind::AmountDiffers, Repair::AskPayment));

        let silent = world.fault(side, Call::Query, &order, FaultKind::HtmlBefore);
        assert!(matches!(books.steps.repair(row.id).await.unwrap(), Repaired::No(_)));
        assert_eq!(world.sim.faults().struck(silent), 1);
        assert_eq!(world.stored(&order).await.state, OrderState::Open);
        assert!(world.discrepancy(row.id).await.note.is_some(), "for the next person");

        if wrong == "payment" {
            world.fault(side, Call::Query, &order, FaultKind::WrongAmount { fen: 1 });
        }
        let said = books.steps.repair(row.id).await.unwrap();
        let stored = world.stored(&order).await;
        let attempt = &stored.attempt(AttemptNo::FIRST).unwrap().state;
        if wrong == "payment" {
            let waits = "the payment is disputed and waits for a person: paid 1 fen, ordered 1999 fen";
            assert_eq!(said, Repaired::Yes(waits.to_owned()));
            assert!(matches!(attempt, AttemptState::Disputed { .. }), "{attempt:?}");
        } else {
            assert_eq!(said, Repaired::Yes("the wallet says paid, and now it is".to_owned()));
            assert!(matches!(attempt, AttemptState::Paid { .. }), "{attempt:?}");
            assert_eq!(stored.state, OrderState::Paid { by: AttemptNo::FIRST });
        }
        assert_eq!(world.discrepancy(row.id).await.state, DiscrepancyState::Repaired);

        // The bill says it still: no question helps any more.
        books.matched(account, today).await;
        let again = world.open_about(&sent).await;
        assert_eq!((again.id, again.found.repair), (row.id, Repair::Person));
        assert_eq!(books.steps.repair(row.id).await.unwrap(), Repaired::ForAPerson);
        world.true_bills(side);
        books.matched(account, today).await;
        for_a_person.extend((wrong == "payment").then_some((DiscrepancyKind::StatusDiffers, sent)));
    }
    for_a_person.sort();
    assert_eq!(world.open_kinds().await, for_a_person, "a dispute ends by a person's word alone");
    world
}
