//! Another merchant's wallet tells the truth, at this merchant's address or about this merchant's number.

use serde_json::json;
use simulator::{Call, FaultKind};

use super::{
    harness::{EnrolledAlipay, EnrolledWechat, World, until},
    shop::{Shop, pay_info},
    sides::{Side, number},
    told::{Told, not_received, received},
};

/// Another merchant, and its accounts at both wallets.
pub type Others = (Shop, EnrolledWechat, EnrolledAlipay);

/// The number under which a wallet knows them.
pub fn their_no((_, wechat, alipay): &Others, side: Side) -> &str {
    match side {
        Side::Wechat => &wechat.merchant.mchid,
        Side::Alipay => &alipay.app.app_id,
    }
}

impl World {
    /// A number of theirs that was paid, and nobody was told of.
    pub async fn strangers_payment(&self, others: &Others, side: Side) -> String {
        let (shop, wechat, _) = others;
        let theirs = their_no(others, side);
        let payer = match side {
            Side::Wechat => self.sim.wechat().new_openid(&wechat.app.appid),
            Side::Alipay => {
                let user = self.sim.alipay().new_user().user_id;
                self.sim.alipay().open_id(theirs, &user).unwrap()
            }
        };
        let order = shop.new_order(side.name()).await;
        let (_, answer) = self.pay(json!({ "payInfo": pay_info(&order, side.name()), "identifyId": payer })).await;
        assert_eq!(answer["code"], "200", "{answer:#}");
        let paid = number(&order, 1);
        let moved = match side {
            Side::Wechat => self.sim.wechat().pay(theirs, &paid),
            Side::Alipay => self.sim.alipay().pay_number(theirs, &paid),
        };
        moved.unwrap();
        paid
    }

    /// Their genuine notice of a payment, as their own account at the wallet would send it.
    pub async fn strangers_notice(&self, others: &Others, side: Side) -> Told {
        let paid = self.strangers_payment(others, side).await;
        self.genuine(side, their_no(others, side), &paid)
    }
}

pub async fn another_merchants_notice_pays_nothing_here(world: World) -> World {
    let others = world.another_shop("C2").await;
    world.lose_all_notices();
    for (side, wallet, other_wallet) in [(Side::Wechat, "wechat", "alipay"), (Side::Alipay, "alipay", "wechat")] {
        let order = world.shop.new_order(side.name()).await;
        world.tap_ready(&order, &world.person(side)).await;
        world.fault_always(side, Call::Query, &order, FaultKind::CloseBefore);
        let before = world.rows_about(&order).await;
        let theirs = world.strangers_notice(&others, side).await;
        let at = |wallet: &str| Told { path: format!("/notify/{wallet}/{}", world.account(side)), ..theirs.clone() };
        assert_ne!(at(wallet).path, theirs.path);
        assert_eq!(world.tell(&at(wallet)).await, not_received(side), "at another account's address");
        let (status, text) = world.tell(&at(other_wallet)).await;
        assert_eq!(status, 404, "an account is not found under the other wallet's path: {text}");
        assert_eq!(world.rows_about(&order).await, before);
    }
    world
}

/// Signed, sealed and filled in as that account's notices are: only the number is ours. It cannot come right by coming
/// again, so the wallet is told to stop, and a person looks.
pub async fn a_genuine_notice_that_names_another_accounts_number_is_set_aside(world: World) -> World {
    let others = world.another_shop("C2").await;
    world.lose_all_notices();
    for (parked, side) in (1..).zip(Side::BOTH) {
        let (order, person) = (world.shop.new_order(side.name()).await, world.person(side));
        let data = world.tap_ready(&order, &person).await;
        world.fault_always(side, Call::Query, &order, FaultKind::CloseBefore);
        let (sent, mut rows) = (number(&order, 1), world.rows_about(&order).await);
        let paid = world.strangers_payment(&others, side).await;
        let lie = FaultKind::AnswerOf { out_trade_no: sent.clone() };
        let said = world.notify_of(side, their_no(&others, side), &paid, &[lie]).await;
        assert_eq!(said, received(side), "the wallet stops");
        until("it is set aside for a person", || async { world.place.rows_of("parked").await == parked }).await;
        let why = format!("{sent} belongs to channel account {}", world.account(side));
        let aside = world.place.store.list_parked(10).await.unwrap();
        assert!(aside.iter().any(|row| row.kind.as_deref() == Some("notice") && row.reason == why), "{aside:?}");
        rows.parked = parked;
        assert_eq!(world.rows_about(&order).await, rows, "that is all");

        // What its own account tells pays it.
        world.press_pay(&data, &person).await.unwrap();
        assert_eq!(world.notify(side, &sent, &[]).await, received(side));
        assert_eq!(world.until_status(side.name(), "SUCCESS").await["anomalies"], json!([]));
    }
    world
}
