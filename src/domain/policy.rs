//! What a merchant wants done with money that came late, or a second time.

use super::{
    attempt::AttemptState,
    id::AttemptNo,
    order::{AnomalyKind, Handled, Order},
};

/// The answer to one kind of unexpected money.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MoneyPolicy {
    Keep,
    Refund,
}

impl MoneyPolicy {
    /// The name in columns and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Refund => "refund",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Keep, Self::Refund].into_iter().find(|policy| policy.as_str() == text)
    }
}

/// A merchant's policies. By default the only payment of an order is kept however late, any further one given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MoneyPolicies {
    /// For a payment that made a closed order paid.
    pub late: MoneyPolicy,
    /// For a payment of an order that another one had paid.
    pub second: MoneyPolicy,
}

impl Default for MoneyPolicies {
    fn default() -> Self {
        Self { late: MoneyPolicy::Keep, second: MoneyPolicy::Refund }
    }
}

impl MoneyPolicies {
    /// What becomes of an anomaly that was due; `detail` is the anomaly's own text.
    ///
    /// A refund names a number, and a number that was paid twice would give back its first payment: that is a person's.
    pub fn decide(self, order: &Order, attempt: AttemptNo, kind: AnomalyKind, detail: &str) -> Handled {
        let Some(AttemptState::Paid { payment }) = order.attempt(attempt).map(|attempt| &attempt.state) else {
            return Handled::Person;
        };
        if detail != AnomalyKind::of_payment(&payment.trade_no) {
            return Handled::Person;
        }
        let pays = order.paying_attempt().is_some_and(|paying| paying.no == attempt);
        let policy = match kind {
            AnomalyKind::LatePayment if pays => self.late,
            AnomalyKind::LatePayment | AnomalyKind::SecondPayment if !pays => self.second,
            // An order that waited for money has it; when it did not wait, the anomaly beside this one decides.
            AnomalyKind::ClosedNumberPaid => MoneyPolicy::Keep,
            _ => return Handled::Person,
        };
        match policy {
            MoneyPolicy::Keep => Handled::Kept,
            MoneyPolicy::Refund => Handled::Refunded,
        }
    }
}
