//! Genuine notices of payments and refunds, changed in every way a forger could: refused, and no row changes. Repeats are
//! acknowledged without change.

use serde_json::Value;
use simulator::{Call, FaultKind};

use super::{
    forger::{Forgeries, forgeries},
    harness::{World, until},
    refunds::NEVER_MS,
    sides::{Side, number},
    told::{Told, not_received, received},
};

impl World {
    /// Every forgery is refused, plain and disguised, and none changes a row about the order.
    async fn assert_all_refused(&self, side: Side, order: &Value, genuine: &Told, forgeries: &Forgeries) {
        let before = self.rows_about(order).await;
        for (what, forgery) in forgeries {
            assert_ne!(forgery, genuine, "{what}");
            // Neither where it seems to come from nor what it claims to be for changes the verdict.
            let disguised = forgery.also("X-Forwarded-For", "127.0.0.1").also("X-Forwarded-Host", "localhost");
            for told in [forgery, &disguised] {
                assert_eq!(self.tell(told).await, not_received(side), "{what}");
            }
        }
        assert_eq!(self.rows_about(order).await, before, "{} forgeries of {side:?}", forgeries.len());
    }
}

pub async fn no_change_to_a_genuine_notice_is_taken(world: World) -> World {
    world.lose_all_notices();
    let others = world.another_shop("C2").await;
    for side in Side::BOTH {
        let (order_no, merchant) = (side.name(), world.merchant_no(side));
        let (order, person) = (world.shop.new_order(order_no).await, world.person(side));
        // Nobody asks the wallet either: what the row learns, it learns from a notice.
        world.fault_always(side, Call::Query, &order, FaultKind::CloseBefore);
        let data = world.tap_ready(&order, &person).await;
        world.press_pay(&data, &person).await.unwrap();
        let genuine = world.genuine(side, merchant, &number(&order, 1));
        let stranger = world.strangers_notice(&others, side).await;
        world.assert_all_refused(side, &order, &genuine, &forgeries(side, &genuine, &stranger)).await;

        let mut still_genuine = vec![
            ("behind odd forwarding headers", genuine.also("X-Forwarded-For", "6.6.6.6").also("Forwarded", "for=_x")),
            ("with cookies and encodings", genuine.also("Cookie", "a=b").also("Accept-Encoding", "gzip")),
        ];
        if side == Side::Wechat {
            // There is one type, and it is taken for that one where none is named. First, so that it is what pays.
            let kind = genuine.at("Wechatpay-Signature-Type");
            still_genuine.insert(0, ("without its signature's type", genuine.with_header(kind, &[])));
        }
        for (what, told) in still_genuine {
            assert_eq!(world.tell(&told).await, received(side), "{what}");
        }
        world.until_status(order_no, "SUCCESS").await;
        let paid = world.rows_about(&order).await;
        assert_eq!(world.tell(&genuine).await, received(side), "a repeat is acknowledged");
        if side == Side::Alipay {
            // Alipay repeats for a day and its notices carry no signed moment that could be compared.
            let noted = world.sim.clock().offset_ms();
            world.sim.clock().set_offset_ms(noted - 86_400_000);
            let old = world.genuine(side, merchant, &number(&order, 1));
            world.sim.clock().set_offset_ms(noted);
            assert_eq!(world.tell(&old).await, received(side), "a notice of yesterday is acknowledged");
        } else {
            // The window is five minutes. Nearer to its edge a slow machine decides.
            for (age_s, taken) in [(290, true), (301, false)] {
                let shift = [FaultKind::TimestampShift { seconds: -age_s }];
                let told = world.sim.wechat().notify_now(merchant, &number(&order, 1), &shift).await.unwrap();
                assert_eq!(told.status == 200, taken, "{age_s} s");
            }
        }
        // The repeats have been worked off when a later notice has had its effect.
        let (last, person) = (world.shop.new_order(&format!("{order_no}x")).await, world.person(side));
        let data = world.tap_ready(&last, &person).await;
        world.press_pay(&data, &person).await.unwrap();
        world.until_taken(side, &number(&last, 1)).await;
        world.until_status(&format!("{order_no}x"), "SUCCESS").await;
        assert_eq!(world.rows_about(&order).await, paid, "repeats change nothing");
    }
    world
}

/// Money that goes back is told of as well. The answer to the refund was lost: a notice alone tells how it ended.
pub async fn no_change_to_a_notice_of_a_refund_is_taken(world: World) -> World {
    let others = world.another_shop("C2").await;
    let orders = [world.paid_by("WECHAT", Side::Wechat).await, world.paid_by("ALIPAY", Side::Alipay).await];
    world.lose_all_notices();
    world.sim.wechat().set_switches(|switches| switches.refund_notices = false);
    for (side, order) in Side::BOTH.into_iter().zip(&orders) {
        let (refund_no, sent) = (side.name(), number(order, 1));
        world.fault(side, Call::Refund, order, FaultKind::HtmlAfter);
        world.fault_always(side, Call::RefundQuery, order, FaultKind::HtmlBefore);
        let refund = world.refund_taken(refund_no, side.name(), 700).await;
        let out_refund_no = refund["serialNo"].as_str().unwrap();
        world.until_left_alone("state = 'sent' AND hint IS NOT NULL").await;
        until("the wallet has made it", || async { world.sim.ledger().refunded_fen(&sent) == 700 }).await;
        let genuine = world.genuine_of_refund(side, &sent, out_refund_no);
        let stranger = world.strangers_notice(&others, side).await;
        world.assert_all_refused(side, order, &genuine, &forgeries(side, &genuine, &stranger)).await;

        world.sim.faults().clear();
        assert_eq!(world.tell(&genuine).await, received(side));
        // WeChat Pay's tells the end. Alipay's tells the sum of a trade's refunds: a reason to ask at once.
        let untouched = format!("SELECT COUNT(*) FROM refunds WHERE next_at = {NEVER_MS}");
        until("it is taken in", || async { world.place.number(&untouched).await == 0 }).await;
        world.hurried(world.until_refund(refund_no, "SUCCESS")).await;
        assert_eq!(world.sim.ledger().refunded(&sent).len(), 1);
    }
    world
}
