//! The payer's phone: `my.tradePay`, and paying from the bill list without any page of ours.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Alipay;
use super::book::Book;
use super::trade::{Paid, TradeStatus};
use crate::faults::{FaultKind, Keys};
use crate::ground::{Call, Wallet};
use crate::ledger::{Entry, Event};

/// What the payer does in the cashier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Press {
    Pay,
    Cancel,
}

/// `resultCode` of `my.tradePay`. None of them proves or disproves a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResultCode {
    /// 9000: processed.
    Processed,
    /// 8000: still processing.
    Processing,
    /// 6004: unknown, may be paid.
    Unknown,
    /// 6001: the payer left; also a wrong tradeNO or another buyer.
    Cancelled,
    /// 6002: the network broke.
    Network,
    /// 4000: failed.
    Failed,
}

impl ResultCode {
    /// The code as the mini-program gets it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Processed => "9000",
            Self::Processing => "8000",
            Self::Unknown => "6004",
            Self::Cancelled => "6001",
            Self::Network => "6002",
            Self::Failed => "4000",
        }
    }

    fn of(code: u16) -> Self {
        match code {
            9000 => Self::Processed,
            8000 => Self::Processing,
            6004 => Self::Unknown,
            6001 => Self::Cancelled,
            6002 => Self::Network,
            _ => Self::Failed,
        }
    }
}

impl Alipay {
    /// `my.tradePay({tradeNO})` on the phone of `user_id`.
    ///
    /// Faults on [`Call::Cashier`] choose the code: `fail_before` answers its status (say 9000) without a payment,
    /// `fail_after` with one; `close_before` and `lose_answer` are 6002, the two `hang`s 6004 after their time.
    pub async fn trade_pay(&self, trade_no: &str, user_id: &str, press: Press) -> ResultCode {
        if trade_no.len() != 28 || !trade_no.bytes().all(|byte| byte.is_ascii_digit()) {
            return ResultCode::Failed;
        }
        let (merchant, number) = {
            let book = self.book();
            let trade = book.trades.get(trade_no);
            (trade.map(|trade| trade.owner.app_id.clone()), trade.map(|trade| trade.out_trade_no.clone()))
        };
        let keys = Keys { merchant: merchant.as_deref(), out_trade_no: number.as_deref(), ..Keys::default() };
        let plan = self.ground().faults.take(Wallet::Alipay, Call::Cashier, keys);
        let sleep = |ms: u64| tokio::time::sleep(Duration::from_millis(ms));

        for kind in &plan.0 {
            match kind {
                FaultKind::Delay { ms } => sleep(*ms).await,
                FaultKind::FailBefore { status, .. } => return ResultCode::of(*status),
                FaultKind::CloseBefore => return ResultCode::Network,
                FaultKind::HangBefore { ms } => {
                    sleep(*ms).await;
                    return ResultCode::Unknown;
                }
                _ => {}
            }
        }
        let mut result = self.press(trade_no, user_id, press);
        for kind in &plan.0 {
            match kind {
                FaultKind::DelayAnswer { ms } => sleep(*ms).await,
                FaultKind::FailAfter { status, .. } => result = ResultCode::of(*status),
                FaultKind::LoseAnswer => result = ResultCode::Network,
                FaultKind::HangAfter { ms } => {
                    sleep(*ms).await;
                    result = ResultCode::Unknown;
                }
                _ => {}
            }
        }
        result
    }

    /// The payer finds the waiting trade in the bill list and pays it there, without any page of ours.
    ///
    /// True when the money moved now.
    pub fn pay_from_bills(&self, trade_no: &str, user_id: &str) -> bool {
        let before = self.trade_by_no(trade_no).map(|trade| trade.status);
        before == Some(TradeStatus::WaitBuyerPay) && self.press(trade_no, user_id, Press::Pay) == ResultCode::Processed
    }

    /// Pays a number as its buyer, past the page: for races between a payment and a close.
    ///
    /// Answers the trade_no; `None` when there is no such trade or nothing to pay.
    pub fn pay_number(&self, app_id: &str, out_trade_no: &str) -> Option<String> {
        let trade = self.trade(app_id, out_trade_no)?;
        let paid = self.pay(&mut self.book(), &trade.trade_no, self.now_ms());
        (paid == Paid::Now).then_some(trade.trade_no)
    }

    fn press(&self, trade_no: &str, user_id: &str, press: Press) -> ResultCode {
        let now_ms = self.now_ms();
        let mut book = self.book();
        let Some(trade) = self.settle(&mut book, trade_no, now_ms) else {
            let line = Entry::new(Wallet::Alipay, Call::Cashier, Event::NotPaid).trade_no(trade_no);
            self.record(line.note("unknown tradeNO"));
            return ResultCode::Cancelled;
        };
        let refuse = |note: &str| {
            self.record(trade.line(Call::Cashier, Event::NotPaid).note(note));
            // The cashier shows ALI38110 for all of these; leaving that page is a cancellation.
            ResultCode::Cancelled
        };
        if trade.user_id != user_id {
            return refuse("another buyer");
        }
        if press == Press::Cancel {
            return refuse("cancelled");
        }
        match self.pay(&mut book, trade_no, now_ms) {
            Paid::Now => ResultCode::Processed,
            Paid::Before => refuse("paid before"),
            Paid::Refused => refuse("closed"),
        }
    }

    /// Moves the money once per number, and starts the notice.
    pub(crate) fn pay(&self, book: &mut Book, trade_no: &str, now_ms: i64) -> Paid {
        let Some(trade) = self.settle(book, trade_no, now_ms) else {
            return Paid::Refused;
        };
        let numbers = book.of_number(&trade.owner, &trade.out_trade_no);
        let is_paid = |trade_no: &String| book.trades.get(trade_no).is_some_and(|trade| trade.paid_ms.is_some());
        if numbers.iter().any(is_paid) {
            return Paid::Before;
        }
        let Some(paying) = book.trades.get_mut(trade_no) else {
            return Paid::Refused;
        };
        let outcome = paying.pay(now_ms);
        if outcome == Paid::Now {
            let paid = paying.clone();
            for sibling in numbers.iter().filter(|number| *number != trade_no) {
                if let Some(sibling) = book.trades.get_mut(sibling) {
                    // One that was closed before needs nothing more.
                    sibling.close(now_ms).ok();
                }
            }
            self.record(paid.line(Call::Cashier, Event::Paid));
            self.notify(book, &paid);
        }
        outcome
    }
}
