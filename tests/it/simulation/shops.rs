//! The merchants' servers, as events reach them: they take, refuse, are slow, are away.

use std::time::Duration;

use async_trait::async_trait;
use prepay::{
    domain::{id::OrderId, time::Timestamp},
    webhook::{Delivery, Tells, Told, Trouble},
};
use serde_json::Value;

use super::wallet::{Books, Wallets};

/// As `WebhookSettings` has it: past it nobody waits for an answer any more.
const TIMEOUT: Duration = Duration::from_secs(5);

pub struct SimulatedShops {
    pub wallets: Wallets,
}

/// An event as a merchant's server heard it.
pub struct Heard {
    pub order: OrderId,
    pub id: String,
    pub kind: String,
    pub sequence: i64,
    pub at: Timestamp,
    pub accepted: bool,
}

/// What becomes of one try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Taken,
    /// Heard, and answered like this.
    Answered(u16),
    /// Heard, and the answer comes too late or never.
    Slow,
    /// Not heard.
    NoConnection,
}

impl Books {
    fn shop_fate(&mut self, now: Timestamp) -> Fate {
        if self.is_calm {
            return Fate::Taken;
        }
        if self.shops_away_until.is_none_or(|until| now >= until) && self.dice.percent(6) {
            let away = *self.dice.pick(&[5, 40, 600, 7_200]);
            self.shops_away_until = Some(now.plus(Duration::from_secs(away)));
        }
        match self.dice.below(100) {
            _ if self.shops_away_until.is_some_and(|until| now < until) => Fate::NoConnection,
            0..=7 => Fate::Answered(500),
            8..=11 => Fate::Answered(503),
            12..=14 => Fate::Answered(200),
            15..=24 => Fate::Slow,
            25..=27 => Fate::NoConnection,
            _ => Fate::Taken,
        }
    }

    /// An event is at its merchant: in its place, and never a close after a payment.
    fn shop_hears(&mut self, event: Heard) {
        let (order, sequence) = (event.order, event.sequence);
        let later = self.shops.iter().filter(|heard| heard.order == order).map(|heard| heard.sequence).max();
        if let Some(later) = later.filter(|later| *later > sequence) {
            self.broke(format!("{order}: event {sequence} ({}) is heard after event {later}", event.kind));
        }
        let was_paid = self.shops.iter().any(|heard| heard.order == order && heard.kind == "PAY");
        if event.kind == "CLOSE" && was_paid {
            self.broke(format!("{order}: a close is heard after a payment"));
        }
        self.shops.push(event);
    }
}

#[async_trait]
impl Tells for SimulatedShops {
    async fn tell(&self, delivery: Delivery<'_>) -> Told {
        let begun = self.wallets.clock.now();
        let body: Value = serde_json::from_str(delivery.body).unwrap();
        assert_eq!(body["notifyId"], delivery.id);
        let text = |name: &str| body[name].as_str().unwrap().to_owned();
        let (order, kind) = (OrderId::parse(&text("serialNo")).unwrap(), text("eventType"));
        let sequence = body["sequence"].as_i64().unwrap();
        let fate = {
            let mut books = self.wallets.books();
            let fate = books.shop_fate(begun);
            books.say(|| format!("  event {sequence} of {order}, {kind}, leaves: {fate:?}"));
            fate
        };
        let timed_out = || self.wallets.clock.now().since(begun) >= TIMEOUT;
        let not = |trouble, status| Told::Not { trouble, status, retry_after: None };
        self.wallets.pause().await;
        if timed_out() {
            return not(Trouble::Timeout, None);
        }
        if fate == Fate::NoConnection {
            self.wallets.books().count("deliveries without a connection");
            return not(Trouble::Connect, None);
        }
        {
            let (mut books, now) = (self.wallets.books(), self.wallets.clock.now());
            books.say(|| format!("  event {sequence} of {order} arrives"));
            let accepted = fate == Fate::Taken;
            books.count(if accepted { "deliveries taken" } else { "deliveries heard and not taken" });
            books.shop_hears(Heard { order, id: delivery.id.to_owned(), kind, sequence, at: now, accepted });
        }
        self.wallets.pause().await;
        match fate {
            Fate::Slow | Fate::NoConnection => not(Trouble::Timeout, None),
            _ if timed_out() => not(Trouble::Timeout, None),
            Fate::Taken => Told::Accepted { status: 200 },
            Fate::Answered(200) => not(Trouble::Answer, Some(200)),
            Fate::Answered(503) => {
                Told::Not { trouble: Trouble::Status, status: Some(503), retry_after: Some(Duration::from_secs(120)) }
            }
            Fate::Answered(status) => not(Trouble::Status, Some(status)),
        }
    }

    fn timeout(&self) -> Duration {
        TIMEOUT
    }
}
