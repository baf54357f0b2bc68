//! One trade and what may happen to it: pure, with the time handed in.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::failure::Failure;
use super::refund::Refund;

/// State of a trade, in Alipay's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TradeStatus {
    /// Created and unpaid; in the payer's bill list.
    WaitBuyerPay,
    /// Paid; partial refunds leave it here.
    TradeSuccess,
    /// Paid, and the refund period is over.
    TradeFinished,
    /// Timed out or closed unpaid, or refunded in full after payment.
    TradeClosed,
}

impl TradeStatus {
    /// As it stands on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WaitBuyerPay => "WAIT_BUYER_PAY",
            Self::TradeSuccess => "TRADE_SUCCESS",
            Self::TradeFinished => "TRADE_FINISHED",
            Self::TradeClosed => "TRADE_CLOSED",
        }
    }
}

/// Whose number an `out_trade_no` is: the calling app and the merchant's app behind its token.
///
/// A query by anyone else is answered `ACQ.TRADE_NOT_EXIST`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Owner {
    /// The app that signs the calls.
    pub app_id: String,
    /// The merchant's app: that of the `app_auth_token`, or the calling app itself.
    pub auth_app_id: String,
}

/// A trade at the simulated Alipay. Times are Unix milliseconds, amounts fen.
#[derive(Debug, Clone, Serialize)]
pub struct Trade {
    /// Alipay's number, 28 digits.
    pub trade_no: String,
    /// The merchant's number.
    pub out_trade_no: String,
    /// Who created it.
    pub owner: Owner,
    /// Who is paid.
    pub seller_id: String,
    /// The user it is bound to, by `user_id`, whatever id the create named.
    pub user_id: String,
    /// Mini-program in which the cashier opens.
    pub op_app_id: String,
    /// What is to be paid.
    pub amount_fen: u64,
    /// Shown to the payer.
    pub subject: String,
    /// `body` of the create, comes back in notices.
    pub body: Option<String>,
    /// Comes back in notices only.
    pub passback_params: Option<String>,
    /// Where notices go.
    pub notify_url: Option<String>,
    /// The whole `biz_content` of the first create: repeats must equal it.
    pub biz_content: Value,
    /// Present state; read it after [`Trade::settle`].
    pub status: TradeStatus,
    /// Created.
    pub created_ms: i64,
    /// Until when queries and closes do not see it yet (a create whose answer was lost).
    pub hidden_until_ms: i64,
    /// When it closes by itself.
    pub expires_ms: i64,
    /// Paid.
    pub paid_ms: Option<i64>,
    /// Closed, or refunded in full.
    pub closed_ms: Option<i64>,
    /// Money that went back, oldest first.
    pub refunds: Vec<Refund>,
}

/// What a press on "pay" came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paid {
    /// The money moved now.
    Now,
    /// It had been paid before.
    Before,
    /// Closed or expired: nothing to pay.
    Refused,
}

impl Trade {
    /// Lets time do what it does: past `expires_ms` an unpaid trade closes by itself.
    ///
    /// Answers whether it closed just now.
    pub fn settle(&mut self, now_ms: i64) -> bool {
        let due = self.status == TradeStatus::WaitBuyerPay && now_ms >= self.expires_ms;
        if due {
            self.status = TradeStatus::TradeClosed;
            self.closed_ms = Some(self.expires_ms);
        }
        due
    }

    /// Whether queries see it.
    pub fn visible(&self, now_ms: i64) -> bool {
        now_ms >= self.hidden_until_ms
    }

    /// A create with a number that exists: `Ok` when it may be answered like the first one.
    ///
    /// Errors, in the order they are looked for: `TRADE_HAS_SUCCESS`, `TRADE_HAS_CLOSE`, `TRADE_BUYER_NOT_MATCH`,
    /// `CONTEXT_INCONSISTENT`.
    pub fn repeat(&self, user_id: &str, biz_content: &Value) -> Result<(), Failure> {
        match self.status {
            TradeStatus::TradeSuccess | TradeStatus::TradeFinished => Err(Failure::business("TRADE_HAS_SUCCESS")),
            TradeStatus::TradeClosed => Err(Failure::business("TRADE_HAS_CLOSE")),
            TradeStatus::WaitBuyerPay if self.user_id != user_id => Err(Failure::business("TRADE_BUYER_NOT_MATCH")),
            TradeStatus::WaitBuyerPay if self.biz_content != *biz_content => {
                Err(Failure::business("CONTEXT_INCONSISTENT"))
            }
            TradeStatus::WaitBuyerPay => Ok(()),
        }
    }

    /// Closes an unpaid trade; anything else is refused, a second close too.
    pub fn close(&mut self, now_ms: i64) -> Result<(), Failure> {
        if self.status != TradeStatus::WaitBuyerPay {
            return Err(Failure::business("TRADE_STATUS_ERROR"));
        }
        self.status = TradeStatus::TradeClosed;
        self.closed_ms = Some(now_ms);
        Ok(())
    }

    /// Moves the money, once.
    pub fn pay(&mut self, now_ms: i64) -> Paid {
        match self.status {
            TradeStatus::WaitBuyerPay => {
                self.status = TradeStatus::TradeSuccess;
                self.paid_ms = Some(now_ms);
                Paid::Now
            }
            TradeStatus::TradeSuccess | TradeStatus::TradeFinished => Paid::Before,
            TradeStatus::TradeClosed => Paid::Refused,
        }
    }

    /// The refund period is over: only a paid trade can get here.
    pub fn finish(&mut self) -> bool {
        let paid = self.status == TradeStatus::TradeSuccess;
        if paid {
            self.status = TradeStatus::TradeFinished;
        }
        paid
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use TradeStatus::*;

    pub(crate) fn trade(status: TradeStatus) -> Trade {
        Trade {
            trade_no: "2026030122001400000000000001".to_owned(),
            out_trade_no: "T20260301000002".to_owned(),
            owner: Owner { app_id: "2021000000000001".to_owned(), auth_app_id: "2021000000000001".to_owned() },
            seller_id: "2088000000000000".to_owned(),
            user_id: "2088000000000009".to_owned(),
            op_app_id: "2021000000000001".to_owned(),
            amount_fen: 8888,
            subject: "s".to_owned(),
            body: None,
            passback_params: None,
            notify_url: None,
            biz_content: serde_json::json!({"total_amount": "88.88"}),
            status,
            created_ms: 0,
            hidden_until_ms: 0,
            expires_ms: 1_000,
            paid_ms: None,
            closed_ms: None,
            refunds: Vec::new(),
        }
    }

    #[test]
    fn every_state_meets_every_event() {
        type After = (bool, Paid, bool, Option<&'static str>, bool);
        let table: [(TradeStatus, TradeStatus, After); 4] = [
            // state, state when its time is over, (expires, pay, closes, what a repeated create says, finishes)
            (WaitBuyerPay, TradeClosed, (true, Paid::Now, true, None, false)),
            (TradeSuccess, TradeSuccess, (false, Paid::Before, false, Some("ACQ.TRADE_HAS_SUCCESS"), true)),
            (TradeFinished, TradeFinished, (false, Paid::Before, false, Some("ACQ.TRADE_HAS_SUCCESS"), false)),
            (TradeClosed, TradeClosed, (false, Paid::Refused, false, Some("ACQ.TRADE_HAS_CLOSE"), false)),
        ];
        for (state, expired, (expires, pays, closes, repeats, finishes)) in table {
            let fresh = || trade(state);
            let mut late = fresh();
            assert!(!late.settle(999));
            assert_eq!(late.settle(1_000), expires, "{state:?}");
            assert_eq!(late.status, expired);
            assert_eq!(fresh().pay(1), pays, "{state:?}");
            let mut closing = fresh();
            match closing.close(1) {
                Ok(()) => assert!(closes && closing.closed_ms == Some(1)),
                Err(failure) => {
                    assert!(!closes, "{state:?}");
                    assert_eq!(failure.sub_code, "ACQ.TRADE_STATUS_ERROR");
                    assert_eq!(closing.status, state);
                }
            }
            let same = fresh();
            let repeat = same.repeat(&same.user_id, &same.biz_content.clone());
            assert_eq!(repeat.err().map(|failure| failure.sub_code).as_deref(), repeats);
            assert_eq!(fresh().finish(), finishes, "{state:?}");
        }
    }

    #[test]
    fn a_repeat_must_equal_the_first() {
        let first = trade(WaitBuyerPay);
        let other = serde_json::json!({"total_amount": "88.89"});
        let refusal = |user: &str, body: &Value| first.repeat(user, body).unwrap_err().sub_code;
        assert_eq!(refusal("2088000000000008", &first.biz_content), "ACQ.TRADE_BUYER_NOT_MATCH");
        assert_eq!(refusal("2088000000000008", &other), "ACQ.TRADE_BUYER_NOT_MATCH");
        assert_eq!(refusal(&first.user_id, &other), "ACQ.CONTEXT_INCONSISTENT");
    }
}
