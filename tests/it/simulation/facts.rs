//! What a step was told by a wallet must stand in our rows when the step is over, whoever was first meanwhile.

use prepay::{
    domain::{
        attempt::AttemptState,
        id::{OrderId, OutRefundNo, OutTradeNo},
        refund::RefundState,
    },
    store::Store,
};

use super::{history::History, wallet::Books};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    /// Paid, with whatever amount.
    Paid(OutTradeNo),
    /// Closed.
    Shut(OutTradeNo),
    PaidBack(OrderId, OutRefundNo),
}

impl Books {
    /// Whoever is polled hears it.
    pub fn tells(&mut self, fact: Fact) {
        if let Some(actor) = self.actor {
            self.heard.push((actor, fact));
        }
    }

    /// Whoever is polled could not write down all that it heard, and says so: it is heard again.
    pub fn failed(&mut self) {
        if let Some(actor) = self.actor {
            self.forget(actor);
        }
    }

    pub fn forget(&mut self, actor: usize) {
        self.heard.retain(|(of, _)| *of != actor);
    }

    /// What an actor heard that is over.
    pub fn heard_by(&mut self, actor: usize) -> Vec<Fact> {
        let heard = self.heard.iter().filter(|(of, _)| *of == actor).map(|(_, fact)| *fact).collect();
        self.forget(actor);
        heard
    }
}

impl History<'_> {
    /// What an actor was told that is over stands in our rows.
    pub async fn facts_are_kept(&mut self, actor: usize) {
        let facts = self.wallets.books().heard_by(actor);
        if facts.is_empty() {
            return;
        }
        self.gate.open();
        for fact in facts {
            let is_kept = is_kept(&self.deployment.store, fact).await;
            let mut books = self.wallets.books();
            books.count("facts told by wallets and looked for");
            if !is_kept {
                books.broke(format!("#{actor} was told {fact:?} and ended, and no row says so"));
            }
        }
        self.gate.settle(&self.wallets).await;
    }
}

/// Whether it stands in our rows.
async fn is_kept(store: &Store, fact: Fact) -> bool {
    match fact {
        Fact::Paid(no) | Fact::Shut(no) => {
            let order = store.load_order(no.order).await.unwrap().unwrap();
            let attempt = order.attempt(no.attempt).expect("a number is at its wallet and not on the row");
            match fact {
                Fact::Paid(_) => matches!(
                    attempt.state,
                    AttemptState::Paid { .. } | AttemptState::Disputed { .. } | AttemptState::LetGo { .. }
                ),
                _ => !attempt.may_be_payable(),
            }
        }
        Fact::PaidBack(order, no) => {
            let refunds = store.refunds_of(order).await.unwrap();
            let refund = refunds.iter().find(|refund| refund.out_refund_no() == no);
            refund.is_some_and(|refund| matches!(refund.state, RefundState::Succeeded { .. }))
        }
    }
}
