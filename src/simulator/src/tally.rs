//! What tests ask the ledger: how often, how much, how many at one time.

use std::collections::BTreeSet;

use crate::ground::{Call, Wallet};
use crate::ledger::{Event, Ledger};

impl Ledger {
    /// How many lines of a number are of this call and event.
    pub fn count(&self, out_trade_no: &str, call: Call, event: Event) -> usize {
        self.of_number(out_trade_no).iter().filter(|line| line.call == call && line.event == event).count()
    }

    /// Prepay requests that arrived for a number, refused ones included.
    pub fn prepays_of(&self, out_trade_no: &str) -> usize {
        self.count(out_trade_no, Call::Prepay, Event::Request)
    }

    /// Query requests that arrived for a number.
    pub fn queries_of(&self, out_trade_no: &str) -> usize {
        self.count(out_trade_no, Call::Query, Event::Request)
    }

    /// Close requests that arrived for a number.
    pub fn closes_of(&self, out_trade_no: &str) -> usize {
        self.count(out_trade_no, Call::Close, Event::Request)
    }

    /// Refund requests that arrived for a number, repeats and refused ones included.
    pub fn refunds_of(&self, out_trade_no: &str) -> usize {
        self.count(out_trade_no, Call::Refund, Event::Request)
    }

    /// Refund queries that arrived for a number.
    pub fn refund_queries_of(&self, out_trade_no: &str) -> usize {
        self.count(out_trade_no, Call::RefundQuery, Event::Request)
    }

    /// Exchange requests that arrived with a code.
    pub fn exchanges_of(&self, code: &str) -> usize {
        self.of_code(code).iter().filter(|line| line.event == Event::Request).count()
    }

    /// Different business bytes sent as prepay of a number; 1 for a merchant's side that freezes them.
    pub fn bodies_of(&self, out_trade_no: &str) -> usize {
        self.of_number(out_trade_no)
            .into_iter()
            .filter(|line| line.call == Call::Prepay && line.event == Event::Request)
            .filter_map(|line| line.body_sha256)
            .collect::<BTreeSet<_>>()
            .len()
    }

    /// Different business bytes sent as refund of a number under one out_refund_no; 1 for a side that freezes them.
    pub fn refund_bodies_of(&self, out_trade_no: &str, out_refund_no: &str) -> usize {
        self.of_number(out_trade_no)
            .into_iter()
            .filter(|line| line.call == Call::Refund && line.event == Event::Request)
            .filter(|line| line.out_refund_no.as_deref() == Some(out_refund_no))
            .filter_map(|line| line.body_sha256)
            .collect::<BTreeSet<_>>()
            .len()
    }

    /// Notifications of refunds that left for a number.
    pub fn refund_notices_of(&self, out_trade_no: &str) -> usize {
        self.count(out_trade_no, Call::RefundNotify, Event::NoticeSent)
    }

    /// Notifications of payments that left for a number.
    pub fn notices_of(&self, out_trade_no: &str) -> usize {
        self.count(out_trade_no, Call::Notify, Event::NoticeSent)
    }

    /// Numbers with this prefix that a payer could pay now: created, neither closed nor paid.
    pub fn payable_numbers(&self, prefix: &str) -> Vec<String> {
        let mut payable = BTreeSet::new();
        self.replay(prefix, |event, number, _| turn(&mut payable, event, number));
        payable.into_iter().map(|(_, number)| number).collect()
    }

    /// The most numbers with this prefix that were payable at one time, over both wallets.
    pub fn payable_at_once_max(&self, prefix: &str) -> usize {
        let mut payable = BTreeSet::new();
        let mut most = 0;
        self.replay(prefix, |event, number, _| {
            turn(&mut payable, event, number);
            most = most.max(payable.len());
        });
        most
    }

    /// Numbers with this prefix that were paid, with the amount in fen, in order of payment.
    pub fn payments(&self, prefix: &str) -> Vec<(String, i64)> {
        let mut paid = Vec::new();
        self.replay(prefix, |event, (_, number), amount| {
            if event == Event::Paid {
                paid.push((number, amount.unwrap_or_default()));
            }
        });
        paid
    }

    /// Money that went back for numbers with this prefix: number, out_refund_no, fen; in order of the refunds.
    pub fn refunded(&self, prefix: &str) -> Vec<(String, String, i64)> {
        let mut refunded = Vec::new();
        self.walk(prefix, |line| {
            if line.event == Event::Refunded {
                let number = line.out_trade_no.unwrap_or_default();
                refunded.push((number, line.out_refund_no.unwrap_or_default(), line.amount_fen.unwrap_or_default()));
            }
        });
        refunded
    }

    /// Fen that went back for one number, all refunds together.
    pub fn refunded_fen(&self, out_trade_no: &str) -> i64 {
        let lines = self.of_number(out_trade_no).into_iter();
        lines.filter(|line| line.event == Event::Refunded).filter_map(|line| line.amount_fen).sum()
    }

    fn replay(&self, prefix: &str, mut each: impl FnMut(Event, (bool, String), Option<i64>)) {
        self.walk(prefix, |line| {
            let number = line.out_trade_no.unwrap_or_default();
            each(line.event, (line.wallet == Wallet::Alipay, number), line.amount_fen);
        });
    }
}

fn turn(payable: &mut BTreeSet<(bool, String)>, event: Event, number: (bool, String)) {
    match event {
        Event::Created => {
            payable.insert(number);
        }
        Event::Closed | Event::Paid => {
            payable.remove(&number);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Entry;

    fn line(event: Event, number: &str) -> Entry {
        Entry::new(Wallet::Wechat, Call::Prepay, event).out_trade_no(number)
    }

    #[test]
    fn payable_numbers_follow_create_close_and_pay() {
        let ledger = Ledger::open(None, 100).expect("no file");
        for (event, number, payable, most) in [
            (Event::Request, "A1", 0, 0),
            (Event::Created, "A1", 1, 1),
            (Event::Repeated, "A1", 1, 1),
            (Event::Created, "B1", 1, 1),
            (Event::Closed, "A1", 0, 1),
            (Event::Created, "A2", 1, 1),
            (Event::Created, "A3", 2, 2),
            (Event::Paid, "A2", 1, 2),
        ] {
            ledger.record(line(event, number));
            assert_eq!(ledger.payable_numbers("A").len(), payable, "{event:?} {number}");
            assert_eq!(ledger.payable_at_once_max("A"), most, "{event:?} {number}");
        }
        assert_eq!(ledger.payments("A"), [("A2".to_owned(), 0)]);
        assert_eq!(ledger.prepays_of("A1"), 1);
    }

    #[test]
    fn money_that_went_back_is_counted_by_refund() {
        let ledger = Ledger::open(None, 100).expect("no file");
        for (event, number, refund, fen) in [
            (Event::RefundAccepted, "A1", "R1", 5),
            (Event::Refunded, "A1", "R1", 5),
            (Event::RefundFailed, "A1", "R2", 7),
            (Event::Refunded, "B1", "R3", 9),
            (Event::Refunded, "A1", "R4", 1),
        ] {
            ledger.record(line(event, number).out_refund_no(refund).amount_fen(fen));
        }
        let told = [("A1".to_owned(), "R1".to_owned(), 5), ("A1".to_owned(), "R4".to_owned(), 1)];
        assert_eq!((ledger.refunded("A"), ledger.refunded_fen("A1")), (told.into(), 6));
    }
}
