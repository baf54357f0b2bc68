//! Money that goes back, as the wallets hold it: one number refunds once, never more than was paid.

use std::time::Duration;

use prepay::{
    domain::{
        attempt::Frozen,
        id::{OutRefundNo, OutTradeNo},
        money::Fen,
        time::Timestamp,
        wallet::Wallet,
    },
    gateway::{RefundFound, RefundSeen, RefundStatus, Refused},
};
use serde_json::Value;

use super::{notices::About, wallet::Books};

/// One refund at its wallet.
pub struct Back {
    pub number: OutTradeNo,
    pub amount: Fen,
    bytes: Frozen,
    pub status: RefundStatus,
    pub at: Timestamp,
}

impl Back {
    /// WeChat is at it for some time.
    fn goes_on(&mut self, roll: usize) {
        if self.status == RefundStatus::Processing {
            self.status = match roll {
                0..=6 => RefundStatus::Success,
                7 => RefundStatus::Abnormal,
                8 => RefundStatus::Closed,
                _ => RefundStatus::Processing,
            };
        }
    }

    fn seen(&self, wallet: Wallet) -> RefundSeen {
        RefundSeen {
            status: self.status,
            wallet_refund_no: (wallet == Wallet::WechatPay).then(|| "5030000709".to_owned()),
            amount: Some(self.amount),
            total: None,
            at: (self.status == RefundStatus::Success).then_some(self.at),
        }
    }
}

impl Books {
    /// What went back, or is on its way, of a number's payment.
    pub fn given_back(&self, number: OutTradeNo, only_done: bool) -> i64 {
        let counts = |back: &&Back| match back.status {
            RefundStatus::Success => true,
            RefundStatus::Processing | RefundStatus::Abnormal => !only_done,
            RefundStatus::Closed => false,
        };
        let of = self.backs.values().filter(|back| back.number == number);
        of.filter(counts).map(|back| back.amount.get()).sum()
    }

    /// A refund ends at its wallet with nobody asking, and the wallet tells it.
    pub fn refund_ends(&mut self) {
        let open = self.backs.iter().filter(|(_, back)| back.status == RefundStatus::Processing);
        let open: Vec<OutRefundNo> = open.map(|(no, _)| *no).collect();
        if open.is_empty() {
            return;
        }
        let (no, roll) = (*self.dice.pick(&open), self.dice.below(10));
        if let Some(back) = self.backs.get_mut(&no) {
            back.goes_on(roll);
        }
        self.news.push(About::Refund(no));
        self.say(|| format!("refund {no} goes on at its wallet"));
    }

    /// A refund arrives, on time or late. Errors: it makes nothing.
    pub fn refund_arrives(
        &mut self,
        number: OutTradeNo,
        no: &OutRefundNo,
        bytes: &Frozen,
        now: Timestamp,
    ) -> Result<RefundSeen, Refused> {
        let paid = self.numbers.get(&number).and_then(|number| number.payment.as_ref().map(|_| number));
        let Some((wallet, total)) = paid.map(|number| (number.wallet, number.amount)) else {
            self.broke(format!("{number} is to be given back, and nobody paid it"));
            return Err(Refused::Order);
        };
        if let Some(back) = self.backs.get(no) {
            if back.bytes != *bytes {
                let what = format!("refund {no} is sent with other bytes than before");
                self.broke(what);
                return Err(Refused::Order);
            }
            return Ok(back.seen(wallet));
        }
        let body: Value = serde_json::from_str(&bytes.body).unwrap();
        let amount = match wallet {
            Wallet::WechatPay => Fen::new(body["amount"]["refund"].as_i64().unwrap()).unwrap(),
            Wallet::Alipay => Fen::from_yuan(body["refund_amount"].as_str().unwrap()).unwrap(),
        };
        if self.given_back(number, false) + amount.get() > total.get() {
            self.broke(format!("more than was paid of {number} is to be given back"));
            return Err(Refused::Order);
        }
        if self.short_until.is_some_and(|until| now < until) && !self.is_calm {
            self.count("refunds without balance");
            return Err(Refused::NotEnough);
        }
        let status = if wallet == Wallet::Alipay { RefundStatus::Success } else { RefundStatus::Processing };
        let back = Back { number, amount, bytes: bytes.clone(), status, at: now };
        let seen = back.seen(wallet);
        self.backs.insert(*no, back);
        if status == RefundStatus::Success {
            self.news.push(About::Refund(*no));
        }
        self.say(|| format!("{} fen of {number} go back as {no}", amount.get()));
        Ok(seen)
    }

    pub fn refund_query_arrives(&mut self, number: OutTradeNo, no: &OutRefundNo, now: Timestamp) -> RefundFound {
        let is_calm = self.is_calm;
        let is_hidden = !is_calm && self.dice.percent(40);
        let wallet = self.numbers.get(&number).map(|number| number.wallet);
        let roll = self.dice.below(10);
        // A wallet may not find for a while what it is making (`alipay.md` §8.2, `wechat-pay.md` §8.2).
        let shown_after = Duration::from_secs(if wallet == Some(Wallet::Alipay) { 10 } else { 60 });
        let back = self.backs.get_mut(no).filter(|back| !is_hidden || now.since(back.at) >= shown_after);
        match (back, wallet) {
            (Some(back), Some(wallet)) => {
                if back.status == RefundStatus::Abnormal && (is_calm || roll < 4) {
                    // A person settled it there.
                    back.status = RefundStatus::Success;
                } else {
                    back.goes_on(roll);
                }
                RefundFound::Seen(back.seen(wallet))
            }
            // Alipay has no other word for what it never received.
            (None, Some(Wallet::Alipay)) => RefundFound::Seen(RefundSeen {
                status: RefundStatus::Processing,
                wallet_refund_no: None,
                amount: None,
                total: None,
                at: None,
            }),
            _ => RefundFound::NotExist,
        }
    }
}
