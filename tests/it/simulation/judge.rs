//! Whether a history, at rest, kept every promise: the wallets' books against our rows.

use std::collections::{BTreeMap, BTreeSet};

use prepay::{
    domain::{
        attempt::{Attempt, AttemptState, Retirement},
        event::GIVEN_UP_AFTER,
        id::{CommandId, OrderId},
        order::{Order, OrderState},
        outcome::{Outcome, PayParams},
        refund::{Refund, RefundState},
        time::Timestamp,
        wallet::Wallet,
    },
    gateway::RefundStatus,
    queue::Published,
    store::{AnomalyRow, HistoryRow},
};

use super::{
    acts::payer_id,
    deployment::EventRow,
    history::History,
    unexpected::Rows,
    wallet::{Books, Number},
};

/// Pairs of a state and an event that it took.
pub type Pairs = BTreeSet<(String, String)>;

pub struct Judge {
    pub broken: Vec<String>,
}

macro_rules! check {
    ($judge:expr, $holds:expr, $($what:tt)+) => {
        if !$holds {
            $judge.broken.push(format!($($what)+));
        }
    };
}
pub(super) use check;

/// What does not hold, and what was reached.
pub async fn judge(history: &History<'_>) -> (Vec<String>, Pairs) {
    let broken = std::mem::take(&mut history.wallets.books().broken);
    let mut judge = Judge { broken };
    let mut pairs = Pairs::new();
    judge.commands(history).await;
    for command in history.deployment.took_in_spite().await {
        judge.broken.push(format!("command {command} took an order although it had its outcome"));
    }
    for id in &history.orders {
        judge.order(history, *id, &mut pairs).await;
    }
    (judge.broken, pairs)
}

impl Judge {
    async fn commands(&mut self, history: &History<'_>) {
        let ids: Vec<CommandId> = history.issued.keys().copied().collect();
        let outcomes: BTreeMap<_, _> = history.steps.store.outcomes(&ids).await.unwrap().into_iter().collect();
        let books = history.wallets.books();
        for (id, issued) in &history.issued {
            let outcome = outcomes.get(id);
            match issued.published {
                Published::Kept => check!(self, outcome.is_some(), "command {id} was accepted and has no outcome"),
                Published::Refused(_) => {
                    check!(self, outcome.is_none(), "command {id} was refused and has an outcome");
                    check!(self, !books.called_for.contains(id), "command {id} was refused and called a wallet");
                }
                Published::Unknown => {}
            }
            let nothing_was_done =
                matches!(outcome, Some(Outcome::Busy { .. } | Outcome::Expired)) && !history.excused.contains(id);
            check!(
                self,
                !nothing_was_done || !books.called_for.contains(id),
                "command {id} is told {outcome:?} after a wallet was called for it"
            );
            let Some(Outcome::Ready { params }) = outcome else { continue };
            let (wallet, ticket) = match params {
                PayParams::Wechat { package, .. } => (Wallet::WechatPay, package.trim_start_matches("prepay_id=")),
                PayParams::Alipay { trade_no } => (Wallet::Alipay, trade_no.as_str()),
            };
            let number = books.numbers.iter().find(|(_, number)| number.tickets.iter().any(|known| known == ticket));
            let Some((no, number)) = number else {
                self.broken.push(format!("command {id} is told a ticket that no wallet gave: {ticket}"));
                continue;
            };
            check!(self, no.order == issued.command.order, "command {id} is told a ticket of another order");
            check!(self, wallet == issued.command.wallet, "command {id} is told a ticket of another wallet");
            check!(self, number.payer == payer_id(wallet, issued.payer), "command {id} is told another payer's ticket");
        }
        for reply in &history.told {
            let stands = outcomes.get(&reply.command);
            check!(
                self,
                stands == Some(&reply.outcome),
                "command {} was told {:?}, and {stands:?} stands",
                reply.command,
                reply.outcome
            );
        }
    }

    async fn order(&mut self, history: &History<'_>, id: OrderId, pairs: &mut Pairs) {
        let store = &history.steps.store;
        let order = store.load_order(id).await.unwrap().unwrap();
        let anomalies = store.anomalies(id).await.unwrap();
        let rows = store.history(id).await.unwrap();
        let mut before = "waiting".to_owned();
        for (at, row) in rows.iter().enumerate() {
            check!(self, row.version == at as i64 + 1, "{id}: the history has a gap at {at}");
            check!(
                self,
                before != "paid" || row.state == "paid",
                "{id}: paid became {} by {:?}",
                row.state,
                row.events
            );
            pairs.extend(row.events.iter().map(|event| (before.clone(), event.clone())));
            before.clone_from(&row.state);
        }
        check!(self, rows.len() as i64 == order.version, "{id}: version {} of {} rows", order.version, rows.len());
        check!(
            self,
            before == order.state.name(),
            "{id}: the history ends {before}, the order is {}",
            order.state.name()
        );
        check!(self, order.lease.is_none(), "{id}: a lease is left");

        let opens = |row: &HistoryRow| row.events.iter().any(|event| event == "attempt_started");
        let closing = rows.iter().skip_while(|row| !row.events.iter().any(|event| event == "close_requested"));
        check!(self, !closing.clone().any(opens), "{id}: a number is opened after the merchant closed it");
        check!(
            self,
            order.state.name() != "waiting" || !order.is_closing() || order.is_disputed(),
            "{id}: a close is left"
        );
        let refunds = store.refunds_of(id).await.unwrap();
        let events = history.deployment.events_of(id).await;
        let reserves = history.deployment.reserves_of(id).await;
        self.told(&order, &refunds, &events);

        let now = history.wallets.clock.now();
        let mut books = history.wallets.books();
        self.heard(&order, &rows, &events, (&books, now));
        self.refunds(&order, &refunds, &books);
        let rows = Rows { history: &rows, anomalies: &anomalies, refunds: &refunds, reserves: &reserves };
        self.unexpected(&order, &rows, history.policies, &mut books);
        let payable = books.payable_numbers(id, now);
        check!(self, payable.is_empty(), "{id}: at rest, and {payable:?} can be paid");
        for (no, number) in books.numbers.iter().filter(|(no, _)| no.order == id) {
            match order.attempt(no.attempt) {
                Some(attempt) => self.number(&order, attempt, number, &anomalies),
                None => self.broken.push(format!("{no} is at its wallet and not on the row")),
            }
        }
        for attempt in &order.attempts {
            let no = order.out_trade_no(attempt.no);
            let is_known = books.numbers.contains_key(&no);
            check!(self, !attempt.may_be_payable(), "{no}: at rest, and it is still asked about: {:?}", attempt.state);
            let holds = match attempt.state {
                AttemptState::Retired { how: Retirement::Refused | Retirement::Lapsed } => !is_known,
                _ => is_known,
            };
            check!(self, holds, "{no} is {} here; known at its wallet: {is_known}", attempt.state.name());
        }
        self.ends_well(&order);
    }

    /// What the wallet holds under a number is what the row says.
    fn number(&mut self, order: &Order, attempt: &Attempt, number: &Number, anomalies: &[AnomalyRow]) {
        let no = order.out_trade_no(attempt.no);
        check!(self, attempt.frozen == number.bytes, "{no}: the row has other bytes than its wallet");
        match (&number.payment, &attempt.state) {
            (Some(paid), AttemptState::Paid { payment }) => {
                check!(self, payment.trade_no == paid.trade_no, "{no}: another payment than its wallet's");
                check!(self, payment.payer_amount == paid.payer_amount, "{no}: the payer paid another amount");
                check!(self, paid.amount == Some(order.amount), "{no} is paid with another amount, and so taken");
            }
            (Some(paid), AttemptState::Disputed { trade_no, .. }) => {
                check!(self, *trade_no == paid.trade_no, "{no}: another payment than its wallet's is disputed");
                check!(self, paid.amount != Some(order.amount), "{no} is paid as ordered and disputed");
                let told = anomalies.iter().any(|anomaly| anomaly.attempt == attempt.no);
                check!(self, told, "{no} is disputed, and nobody is told");
            }
            (Some(paid), AttemptState::LetGo { trade_no, .. }) => {
                check!(self, number.is_let_go, "{no}: its money was let go by nobody");
                check!(self, *trade_no == paid.trade_no, "{no}: another payment than its wallet's was let go");
            }
            (Some(_), state) => self.broken.push(format!("{no} is paid at its wallet and {} here", state.name())),
            (None, AttemptState::Paid { .. } | AttemptState::Disputed { .. } | AttemptState::LetGo { .. }) => {
                self.broken.push(format!("{no} is {} here and unpaid at its wallet", attempt.state.name()));
            }
            (None, _) => {}
        }
    }

    /// A merchant hears of each ending once.
    fn told(&mut self, order: &Order, refunds: &[Refund], events: &[EventRow]) {
        let of = |row: &&EventRow, kind: &str, refund: &str| {
            row.kind == kind && (refund.is_empty() || row.refund_no == refund)
        };
        let count = |kind: &str, refund: &str| events.iter().filter(|row| of(row, kind, refund)).count();
        let id = order.id;
        let paid = usize::from(matches!(order.state, OrderState::Paid { .. }));
        check!(self, count("PAY", "") == paid, "{id} is {} and told paid: {events:?}", order.state.name());
        let closed = usize::from(matches!(order.state, OrderState::Closed { .. }));
        check!(self, count("CLOSE", "") >= closed, "{id} is closed and not told: {events:?}");
        for refund in refunds {
            let ended = usize::from(refund.state.refund_status() != "PROCESSING");
            let told = count("REFUND", refund.refund_no.as_str());
            check!(
                self,
                told == ended,
                "{id}: refund {} is {} and told {told} times",
                refund.refund_no,
                refund.state.name()
            );
        }
    }

    /// Whatever was written for a merchant was taken by it, and nothing was heard that is not so. The order in which it is heard
    /// is judged when it is, see [`super::shops`].
    fn heard(&mut self, order: &Order, rows: &[HistoryRow], events: &[EventRow], (books, now): (&Books, Timestamp)) {
        let id = order.id;
        for event in events {
            let taken = books.shops.iter().any(|heard| heard.id == event.id && heard.accepted);
            let holds = match event.state.as_str() {
                "delivered" => taken,
                "withdrawn" => event.kind == "CLOSE" && matches!(order.state, OrderState::Paid { .. }),
                // Given up after a day without an answer.
                "parked" => now.since(event.created_at) > GIVEN_UP_AFTER,
                _ => false,
            };
            check!(self, holds, "{id}: an event {} ends {}, taken: {taken}", event.kind, event.state);
        }
        let since = |state: &str| rows.iter().find(|row| row.state == state).map(|row| row.at);
        for heard in books.shops.iter().filter(|heard| heard.order == id) {
            let is_so = match heard.kind.as_str() {
                "PAY" => since("paid"),
                "CLOSE" => since("closed"),
                _ => continue,
            };
            check!(self, is_so.is_some_and(|at| at <= heard.at), "{id}: {} is heard before it is so", heard.kind);
        }
    }

    /// What went back at the wallet is what the rows say, and never more than was paid.
    fn refunds(&mut self, order: &Order, refunds: &[Refund], books: &Books) {
        for refund in refunds {
            let no = refund.out_refund_no();
            let at_wallet = books.backs.get(&no).map(|back| back.status);
            let holds = match refund.state {
                RefundState::Succeeded { .. } => at_wallet == Some(RefundStatus::Success),
                RefundState::Failed { .. } => matches!(at_wallet, None | Some(RefundStatus::Closed)),
                RefundState::Abnormal => at_wallet == Some(RefundStatus::Abnormal),
                RefundState::Waiting | RefundState::Sent | RefundState::Processing => false,
            };
            check!(self, holds, "refund {no} is {} here and {at_wallet:?} at its wallet", refund.state.name());
        }
        for (no, back) in books.backs.iter().filter(|(_, back)| back.number.order == order.id) {
            let known = refunds.iter().any(|refund| refund.out_refund_no() == *no && refund.amount == back.amount);
            check!(self, known, "refund {no} of {} fen is at its wallet and not on a row", back.amount.get());
        }
        for attempt in &order.attempts {
            let no = order.out_trade_no(attempt.no);
            let back = books.given_back(no, true);
            check!(
                self,
                attempt.refunded.get() == back,
                "{no}: {} fen went back, the row says {}",
                back,
                attempt.refunded.get()
            );
            check!(self, back <= order.amount.get(), "{no}: more went back than was paid");
        }
    }

    fn ends_well(&mut self, order: &Order) {
        let paid = |attempt: &&Attempt| matches!(attempt.state, AttemptState::Paid { .. });
        let first = order.attempts.iter().find(paid);
        let holds = match (&order.state, first) {
            (OrderState::Paid { by }, Some(_)) => order.attempt(*by).as_ref().is_some_and(paid),
            (OrderState::Closed { .. }, None) => true,
            (OrderState::Waiting, None) => order.is_disputed(),
            _ => false,
        };
        check!(self, holds, "{} ends {}, paid: {}", order.id, order.state.name(), first.is_some());
    }
}
