//! The end of a history: nothing new goes wrong, and everything that was begun comes to rest.

use std::time::Duration;

use prepay::{
    domain::order::{Order, OrderState},
    queue::QueueName,
};

use super::{engine::Actor, history::History};

impl History<'_> {
    /// Everything that runs or waits in a queue comes to its end.
    pub async fn finish(&mut self) {
        for _ in 0..5_000 {
            while self.take(QueueName::Orders) || self.take(QueueName::Notifications) {}
            if self.actors.is_empty() {
                self.gate.settle(&self.wallets).await;
                if !self.take(QueueName::Orders) && !self.take(QueueName::Notifications) {
                    return;
                }
            }
            match self.actors.iter().position(Actor::is_ready) {
                Some(at) => self.turn(at).await,
                None => self.time_passes(Duration::from_millis(100)).await,
            }
        }
        self.wallets.books().broken.push("something runs for ever".into());
    }

    /// Nothing new goes wrong: what was begun comes to rest, and the scheduler asks until there is nothing left to ask.
    pub async fn end(&mut self) {
        self.say(|| "-- the end begins".into());
        self.is_ending = true;
        self.finish().await;
        while self.late() {}
        self.wallets.books().is_calm = true;
        for pass in 0..6u64 {
            self.comes_to_rest(pass).await;
            // What nobody told is in the bills.
            if !self.bills_tell().await {
                break;
            }
        }
        self.all_is_told().await;
        self.gate.open();
    }

    /// The scheduler asks, closes, gives back and decides until there is nothing left to do.
    async fn comes_to_rest(&mut self, pass: u64) {
        for round in pass * 40..(pass + 1) * 40 {
            let now = self.wallets.clock.now();
            let (mut rest, mut waiting, mut refunds) = (Vec::new(), false, false);
            self.gate.open();
            let undecided = !self.steps.store.due_anomalies(0, 1).await.unwrap().is_empty();
            rest.extend(undecided.then_some(now));
            for id in self.orders.clone() {
                let order = self.steps.store.load_order(id).await.unwrap().unwrap();
                let waits = order.state == OrderState::Waiting && !order.is_disputed();
                let settled_at = order.expire_at.plus(Order::SETTLED_AFTER_EXPIRY + Duration::from_secs(1));
                rest.extend(order.attempts.iter().filter_map(|attempt| attempt.next_query_at).map(|due| {
                    // After two rounds of the timetable, on to the expiry, then to the end of a day after it.
                    match round {
                        0..=1 => due,
                        2..=3 => due.max(settled_at),
                        _ => due.max(order.expire_at.plus(Order::LAPSED_AFTER_EXPIRY + Duration::from_secs(1))),
                    }
                }));
                waiting |= waits;
                for refund in self.steps.store.refunds_of(id).await.unwrap() {
                    refunds |= refund.next_at.is_some();
                    rest.extend(refund.next_at);
                }
                rest.extend(waits.then_some(settled_at));
            }
            rest.extend(self.wallets.books().next_copy().map(|(_, when)| when));
            self.gate.settle(&self.wallets).await;
            let Some(next) = rest.into_iter().min() else { return };
            if self.dice.percent(15) {
                self.pay();
            }
            if self.dice.percent(30) {
                self.tell_news();
            }
            if round < 20 && self.dice.percent(20) {
                self.pay_late();
            }
            // A question that somebody holds who died is free again after its lease.
            let at_least = Duration::from_secs(if round == 0 { 1 } else { 31 });
            self.time_passes(next.since(now).max(at_least)).await;
            self.ask();
            self.finish().await;
            if waiting {
                self.sweep();
                self.finish().await;
            }
            if refunds {
                self.give_back();
                self.finish().await;
            }
            if undecided {
                self.decide();
                self.finish().await;
            }
            self.deliver();
            self.finish().await;
        }
        self.wallets.books().broken.push("it does not come to rest".into());
    }

    /// Merchants' servers take everything by now: their events go out, one after the other.
    async fn all_is_told(&mut self) {
        for _ in 0..200 {
            self.gate.open();
            let next = self.deployment.next_event().await;
            self.gate.settle(&self.wallets).await;
            let Some(next) = next else { return };
            // What waits for another event of its order is due all the while.
            self.time_passes(next.since(self.wallets.clock.now()).max(Duration::from_secs(1))).await;
            self.tend();
            self.finish().await;
            self.deliver();
            self.finish().await;
        }
        self.wallets.books().broken.push("an event is not delivered however often it is tried".into());
    }
}
