//! Whether late and second money, at rest, was noted and became what its merchant wants.

use prepay::{
    domain::{
        attempt::{Attempt, AttemptState},
        order::{AnomalyKind, Handled, Order, OrderState},
        policy::{MoneyPolicies, MoneyPolicy},
        refund::{Initiator, Refund, RefundState},
    },
    store::{AnomalyRow, HistoryRow},
};

use super::{
    deployment::Reserve,
    judge::{Judge, check},
    wallet::Books,
};

/// What stands in our rows of one order, but for the order.
pub struct Rows<'a> {
    pub history: &'a [HistoryRow],
    pub anomalies: &'a [AnomalyRow],
    pub refunds: &'a [Refund],
    pub reserves: &'a [Reserve],
}

impl Judge {
    pub fn unexpected(&mut self, order: &Order, rows: &Rows<'_>, policies: MoneyPolicies, books: &mut Books) {
        let came_late = rows.history.windows(2).any(|pair| pair[0].state == "closed" && pair[1].state == "paid");
        for attempt in &order.attempts {
            self.reserve(order, attempt, rows);
            let no = order.out_trade_no(attempt.no);
            let is_paid = matches!(attempt.state, AttemptState::Paid { .. });
            let pays = matches!(order.state, OrderState::Paid { by } if by == attempt.no);
            let wanted = match (is_paid, pays) {
                (true, true) if came_late => Some((AnomalyKind::LatePayment, policies.late)),
                (true, false) => Some((AnomalyKind::SecondPayment, policies.second)),
                _ => None,
            };
            let noted = |kind| rows.anomalies.iter().find(|row| row.attempt == attempt.no && row.kind == kind);
            match wanted.map(|(kind, policy)| (kind, policy, noted(kind))) {
                None => {
                    let by_policy = self.by_policy(attempt, rows).is_some();
                    check!(self, !by_policy, "{no} was given back by a policy, and nothing of it is unexpected");
                }
                Some((kind, _, None)) => self.broken.push(format!("{no} is a {}, and nobody noted it", kind.as_str())),
                Some((kind, policy, Some(row))) => {
                    books.count(match (kind, row.handled) {
                        (AnomalyKind::LatePayment, Handled::Kept) => "late payments kept",
                        (AnomalyKind::LatePayment, Handled::Refunded) => "late payments given back",
                        (AnomalyKind::LatePayment, _) => "late payments left to a person",
                        (_, Handled::Kept) => "second payments kept",
                        (_, Handled::Refunded) => "second payments given back",
                        _ => "second payments left to a person",
                    });
                    self.handled(order, attempt, row, policy, rows);
                }
            }
            // A number that was closed here and paid all the same is noted whatever else it is.
            let late = books.numbers.get(&no).is_some_and(|number| number.is_paid_late);
            if noted(AnomalyKind::ClosedNumberPaid).is_some() {
                check!(self, late, "{no} is noted as paid after it was closed, and was not");
            }
        }
        for row in rows.anomalies {
            let no = order.out_trade_no(row.attempt);
            check!(self, row.handled != Handled::Due, "{no}: {} is still to be decided", row.kind.as_str());
        }
    }

    fn by_policy<'a>(&self, attempt: &Attempt, rows: &Rows<'a>) -> Option<&'a Refund> {
        rows.refunds.iter().find(|refund| refund.attempt == attempt.no && refund.initiator == Initiator::System)
    }

    fn handled(&mut self, order: &Order, attempt: &Attempt, row: &AnomalyRow, policy: MoneyPolicy, rows: &Rows<'_>) {
        let (no, kind) = (order.out_trade_no(attempt.no), row.kind.as_str());
        let left = Refund::left_of(order.amount, attempt.no, rows.refunds);
        let by_policy = self.by_policy(attempt, rows);
        match (policy, row.handled) {
            (MoneyPolicy::Keep, handled) => {
                check!(self, handled == Handled::Kept, "{no}: a {kind} is to be kept and is {handled:?}");
                check!(self, by_policy.is_none(), "{no}: a {kind} is to be kept and was given back by itself");
            }
            (MoneyPolicy::Refund, Handled::Refunded) => {
                check!(self, left == 0, "{no}: a {kind} counts as given back, and {left} fen stay");
            }
            // Only what could not be given back is a person's.
            (MoneyPolicy::Refund, Handled::Person) => {
                let of_it = rows.refunds.iter().filter(|refund| refund.attempt == attempt.no);
                let failed = of_it.clone().any(|refund| matches!(refund.state, RefundState::Failed { .. }));
                check!(self, failed || left == 0, "{no}: a {kind} is left to a person without a reason");
            }
            (MoneyPolicy::Refund, handled) => {
                self.broken.push(format!("{no}: a {kind} is to be given back and is {handled:?}"));
            }
        }
    }

    /// Each payment has its own reserve: what its refunds hold.
    fn reserve(&mut self, order: &Order, attempt: &Attempt, rows: &Rows<'_>) {
        let no = order.out_trade_no(attempt.no);
        let holds = order.amount.get() - Refund::left_of(order.amount, attempt.no, rows.refunds);
        let count = rows
            .refunds
            .iter()
            .filter(|refund| refund.attempt == attempt.no && !matches!(refund.state, RefundState::Failed { .. }));
        let count = count.count() as i64;
        let known = rows.reserves.iter().find(|reserve| reserve.attempt == attempt.no);
        let Some(reserve) = known else { return self.broken.push(format!("{no} has no reserve")) };
        check!(self, reserve.fen == holds, "{no}: {} fen are set aside, its refunds hold {holds}", reserve.fen);
        check!(self, reserve.count == count, "{no}: {} refunds are counted, {count} hold a part", reserve.count);
    }
}
