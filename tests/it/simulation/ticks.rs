//! What happens next, by dice.

use std::time::Duration;

use prepay::queue::QueueName;

use super::{dice::Dice, engine::Kind, history::History, merchant};

impl History<'_> {
    /// From the first order to the last question.
    pub async fn run(&mut self) {
        for _ in 0..1 + self.dice.below(2) {
            self.new_order().await;
        }
        self.gate.settle(&self.wallets).await;
        self.tap().await;
        let is_rough = self.wallets.books().is_rough;
        for _ in 0..if is_rough { 20 + self.dice.below(60) } else { 40 + self.dice.below(120) } {
            self.tick().await;
        }
        if is_rough && self.dice.percent(90) {
            // Most pay where they can.
            self.tap().await;
            self.finish().await;
            self.pay();
            self.ask();
            self.tell_news();
            self.finish().await;
        }
        if self.wallets.books().is_late && self.dice.percent(80) {
            self.money_comes_late().await;
        }
        // Where money came, some of it goes back, while things still go wrong.
        let is_paid = self.wallets.books().numbers.values().any(|number| number.payment.is_some());
        if is_paid && self.dice.percent(if is_rough { 90 } else { 40 }) {
            for _ in 0..20 + self.dice.below(50) {
                self.refund_tick().await;
            }
            if is_rough {
                self.refunds_go_badly().await;
            }
        }
        self.end().await;
    }

    /// The scheduler comes back to refunds again and again; some of its steps are held up for longer than their lease.
    async fn refunds_go_badly(&mut self) {
        for round in 0..5 + self.dice.below(5) {
            if round == 0 || self.dice.percent(30) {
                let (steps, id) = (self.steps.clone(), *self.dice.pick(&self.orders));
                let dice = Dice::seeded(self.dice.roll());
                self.start(Kind::Merchant, None, merchant::refund(steps, id, dice));
                self.finish().await;
            }
            self.give_back();
            if self.dice.percent(50) {
                self.refund_is_told_meanwhile().await;
            }
            if self.dice.percent(50) {
                for _ in 0..self.dice.below(12) {
                    self.turn_any().await;
                }
                let seconds = *self.dice.pick(&[4, 31, 31, 61]);
                self.time_passes(Duration::from_secs(seconds)).await;
                self.give_back();
            }
            self.finish().await;
            let seconds = *self.dice.pick(&[12, 31, 61, 61, 130, 600]);
            self.time_passes(Duration::from_secs(seconds)).await;
        }
    }

    /// The wallet ends a refund and tells it while the scheduler is at that refund.
    async fn refund_is_told_meanwhile(&mut self) {
        self.wallets.books().refund_ends();
        self.tell_news();
        for _ in 0..6 + self.dice.below(12) {
            self.take(QueueName::Notifications);
            self.turn_any().await;
        }
    }

    /// Numbers are closed, by expiry or their merchant, and paid all the same; policies, merchants and people answer to it.
    async fn money_comes_late(&mut self) {
        if self.dice.percent(60) {
            self.tap().await;
            self.finish().await;
        }
        if self.dice.percent(60) {
            let (steps, id) = (self.steps.clone(), *self.dice.pick(&self.orders));
            self.start(Kind::Merchant, None, merchant::close(steps, id));
        } else {
            let seconds = *self.dice.pick(&[60, 350, 2_000, 7_400]);
            self.time_passes(Duration::from_secs(seconds)).await;
        }
        for _ in 0..2 {
            self.ask();
            self.finish().await;
            self.sweep();
        }
        for _ in 0..30 + self.dice.below(60) {
            match self.dice.below(20) {
                0..=6 => {
                    for _ in 0..3 {
                        self.turn_any().await;
                    }
                }
                7 | 8 => self.pay_late(),
                9 | 10 => self.tell_news(),
                11 | 12 => drop(self.take(QueueName::Notifications)),
                13 | 14 => self.decide(),
                15 => self.give_back(),
                16 => {
                    self.bills_come().await;
                    self.ask_about_bills();
                }
                17 => self.person_decides(),
                18 => self.merchant_acts(),
                _ => {
                    let seconds = *self.dice.pick(&[1, 5, 12, 31, 61, 700]);
                    self.time_passes(Duration::from_secs(seconds)).await;
                    self.ask();
                }
            }
        }
    }

    async fn refund_tick(&mut self) {
        if self.restarts && self.dice.percent(2) {
            self.restart().await;
        }
        match self.dice.below(20) {
            0..=6 => {
                for _ in 0..3 {
                    self.turn_any().await;
                }
            }
            7 | 8 => {
                let (steps, id) = (self.steps.clone(), *self.dice.pick(&self.orders));
                let dice = Dice::seeded(self.dice.roll());
                self.start(Kind::Merchant, None, merchant::refund(steps, id, dice));
            }
            9 | 10 => self.give_back(),
            11 => {
                let seconds = *self.dice.pick(&[1, 3, 12, 12, 31, 61, 61, 300, 4_000]);
                self.time_passes(Duration::from_secs(seconds)).await;
            }
            12 => self.ask(),
            13 | 14 => self.deliver(),
            15 | 16 => self.refund_is_told_meanwhile().await,
            17 => drop(self.take(QueueName::Notifications)),
            18 => self.decide(),
            _ => drop(self.late()),
        }
    }

    /// Whoever is ready, by dice; else a worker takes a command, or a little time passes.
    async fn turn_any(&mut self) {
        let ready: Vec<usize> = (0..self.actors.len()).filter(|at| self.actors[*at].is_ready()).collect();
        if !ready.is_empty() {
            let at = *self.dice.pick(&ready);
            self.turn(at).await;
        } else if !self.take(QueueName::Orders) && !self.actors.is_empty() {
            self.time_passes(Duration::from_millis(100)).await;
        }
    }

    async fn tick(&mut self) {
        if self.restarts && self.dice.percent(1) {
            self.restart().await;
        }
        match self.dice.below(113) {
            100..=104 => self.deliver(),
            105 => self.tend(),
            106 | 107 => self.pay_late(),
            108 => self.person_decides(),
            109 => self.wallets.books().refund_ends(),
            110 => {
                self.bills_come().await;
            }
            111 => self.ask_about_bills(),
            112 => self.decide(),
            0..=54 => self.turn_any().await,
            55..=64 => drop(self.take(QueueName::Orders)),
            65..=69 => drop(self.take(QueueName::Notifications)),
            70..=74 => self.tap().await,
            75..=78 => self.pay(),
            79..=82 => self.tell_news(),
            83..=86 => drop(self.late()),
            87..=91 => {
                const SPANS_MS: [u64; 14] =
                    [1, 50, 100, 100, 500, 500, 1_000, 1_000, 3_000, 6_000, 11_000, 11_000, 40_000, 300_000];
                let hours = if self.dice.percent(4) { 3_600_000 * self.dice.below(30) as u64 } else { 0 };
                let span = Duration::from_millis(*self.dice.pick(&SPANS_MS) + hours);
                self.time_passes(span).await;
            }
            92..=95 => self.ask(),
            96 => self.give_back(),
            97 => match self.dice.below(3) {
                0 => self.sweep(),
                1 => self.pull_forward(),
                _ => self.decide(),
            },
            _ => self.merchant_acts(),
        }
    }
}
