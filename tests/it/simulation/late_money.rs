//! Money that nobody expects any more, or not like this: payments of numbers that were closed, found by notices or, where all of
//! those are lost, by bills; and disputed money, which a person looks at.

use std::time::Duration;

use prepay::{
    domain::{
        attempt::AttemptState,
        bill::{BillDate, DiscrepancyKind, Repair, RunState},
        id::{AccountId, OrderId, OutTradeNo},
        order::OrderEvent,
        wallet::Wallet,
    },
    store::{BillRun, BillTotals, Found},
};

use super::{dice::Dice, engine::Kind, history::History, merchant, wallet::Wallets};

impl History<'_> {
    /// A number is paid that was closed, or whose time is over: its payer was at the password.
    pub fn pay_late(&mut self) {
        let now = self.wallets.clock.now();
        let mut books = self.wallets.books();
        if !books.is_late {
            return;
        }
        let over: Vec<OutTradeNo> = books
            .numbers
            .iter()
            .filter(|(_, number)| number.payment.is_none() && !number.is_payable(now))
            .map(|(no, _)| *no)
            .collect();
        if !over.is_empty() {
            books.take_payment(*self.dice.pick(&over), now);
        }
    }

    /// Somebody looks at an order whose money is disputed, and lets it go: in these histories it is of another amount.
    pub fn person_decides(&mut self) {
        let (steps, id) = (self.steps.clone(), *self.dice.pick(&self.orders));
        let (wallets, mut dice) = (self.wallets.clone(), Dice::seeded(self.dice.roll()));
        self.start(Kind::Merchant, None, async move {
            let order = steps.store.load_order(id).await.unwrap().unwrap();
            let disputed = |state: &AttemptState| matches!(state, AttemptState::Disputed { .. });
            let disputed: Vec<_> =
                order.attempts.iter().filter(|attempt| disputed(&attempt.state)).map(|attempt| attempt.no).collect();
            if disputed.is_empty() {
                return;
            }
            let attempt = *dice.pick(&disputed);
            let number = order.out_trade_no(attempt);
            {
                let mut books = wallets.books();
                books.say(|| format!("the money of {number} is let go"));
                books.count("disputed payments that a person let go");
                if let Some(number) = books.numbers.get_mut(&number) {
                    number.is_let_go = true;
                }
            }
            merchant::change(steps.clone(), id, OrderEvent::DisputeLetGo { attempt, note: "not ours".into() }).await;
            let order = steps.store.load_order(id).await.unwrap().unwrap();
            if order.attempt(attempt).is_none_or(|attempt| !matches!(attempt.state, AttemptState::LetGo { .. })) {
                wallets.books().broke(format!("the money of {number} was let go, and its row does not say so"));
            }
        });
    }

    /// What a wallet's bill names and our rows do not have is found, as the matching of bills finds it. Answers how many payments.
    pub async fn bills_come(&mut self) -> usize {
        self.gate.open();
        let mut missing: Vec<(AccountId, Found)> = Vec::new();
        for id in self.orders.clone() {
            let order = self.steps.store.load_order(id).await.unwrap().unwrap();
            let settled = |number: &OutTradeNo| {
                order.attempt(number.attempt).is_some_and(|attempt| {
                    use AttemptState::{Disputed, LetGo, Paid};
                    matches!(attempt.state, Paid { .. } | Disputed { .. } | LetGo { .. })
                })
            };
            let books = self.wallets.books();
            // What was paid in time is found by questions, or lost: no bill may hide that.
            let paid = books.numbers.iter().filter(|(no, number)| no.order == id && number.is_paid_late);
            let news = paid.filter(|(no, _)| !settled(no)).map(|(no, number)| {
                let account = if number.wallet == Wallet::WechatPay {
                    self.deployment.wechat.0
                } else {
                    self.deployment.alipay.0
                };
                (account, missing_here(*no, id))
            });
            missing.extend(news);
        }
        let now = self.wallets.clock.now();
        for (account, found) in &missing {
            let run = look(*account, BillDate::of(now));
            self.steps.store.record_discrepancies(&run, std::slice::from_ref(found), now).await.unwrap();
        }
        self.gate.settle(&self.wallets).await;
        for (_, found) in &missing {
            self.wallets.books().count("times that a bill named a payment first");
            self.say(|| format!("a bill names {} as paid", found.out_trade_no));
        }
        missing.len()
    }

    /// The scheduler asks about what bills brought to light.
    pub fn ask_about_bills(&mut self) {
        self.say(|| format!("#{} the scheduler asks about bills", self.waits.len()));
        let (steps, wallets) = (self.process.steps.clone(), self.wallets.clone());
        self.start(Kind::Bill, None, async move { asked(&wallets, steps.ask_about_bills(3).await.is_ok()) });
    }

    /// Payments of which nothing was heard come to light by bills, one day or another.
    pub async fn bills_tell(&mut self) -> bool {
        let found = self.bills_come().await > 0;
        for _ in 0..20 {
            self.gate.open();
            let next = self.deployment.next_bill_question().await;
            self.gate.settle(&self.wallets).await;
            let Some(next) = next else { return found };
            self.time_passes(next.since(self.wallets.clock.now()).max(Duration::from_secs(1))).await;
            self.ask_about_bills();
            self.finish().await;
        }
        self.wallets.books().broken.push("what a bill brought to light is never settled".into());
        found
    }
}

/// It may fail as the store does, and is asked again.
fn asked(wallets: &Wallets, is_done: bool) {
    if !is_done {
        wallets.books().failed();
    }
}

fn missing_here(number: OutTradeNo, order: OrderId) -> Found {
    Found {
        kind: DiscrepancyKind::MissingHere,
        out_trade_no: number.to_string(),
        out_refund_no: None,
        order: Some(order),
        ours: "not paid".into(),
        theirs: "paid".into(),
        repair: Repair::AskPayment,
    }
}

fn look(account: AccountId, date: BillDate) -> BillRun {
    BillRun {
        id: 1,
        account,
        date,
        state: RunState::Matched,
        tries: 1,
        totals: BillTotals::default(),
        next_at: None,
        last_error: None,
        matched_at: None,
    }
}
