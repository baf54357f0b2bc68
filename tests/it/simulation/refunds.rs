//! Money that goes back, as the wallets hold it: one number refunds once, never more than was paid.

use prepay::{
    domain::{
        attempt::Frozen,
        id::{OutRefundNo, OutTradeNo},
        money::Fen,
        time::Timestamp,
        wallet::Wallet,
    },
    gateway::{RefundFound, RefundSeen, RefundStatus},
};
use serde_json::Value;

use super::wallet::Books;

/// One refund at its wallet.
pub struct Back {
    pub number: OutTradeNo,
    pub amount: Fen,
    bytes: Frozen,
    pub status: RefundStatus,
    at: Timestamp,
}

impl Back {
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

    /// A refund arrives, on time or late. `None`: it is refused for good.
    pub fn refund_arrives(
        &mut self,
        number: OutTradeNo,
        no: &OutRefundNo,
        bytes: &Frozen,
        now: Timestamp,
    ) -> Option<RefundSeen> {
        let paid = self.numbers.get(&number).and_then(|number| number.payment.as_ref().map(|_| number));
        let Some((wallet, total)) = paid.map(|number| (number.wallet, number.amount)) else {
            self.broke(format!("{number} is to be given back, and nobody paid it"));
            return None;
        };
        if let Some(back) = self.backs.get(no) {
            if back.bytes != *bytes {
                let what = format!("refund {no} is sent with other bytes than before");
                self.broke(what);
                return None;
            }
            return Some(back.seen(wallet));
        }
        let body: Value = serde_json::from_str(&bytes.body).unwrap();
        let amount = match wallet {
            Wallet::WechatPay => Fen::new(body["amount"]["refund"].as_i64().unwrap()).unwrap(),
            Wallet::Alipay => Fen::from_yuan(body["refund_amount"].as_str().unwrap()).unwrap(),
        };
        if self.given_back(number, false) + amount.get() > total.get() {
            self.broke(format!("more than was paid of {number} is to be given back"));
            return None;
        }
        let status = if wallet == Wallet::Alipay { RefundStatus::Success } else { RefundStatus::Processing };
        let back = Back { number, amount, bytes: bytes.clone(), status, at: now };
        let seen = back.seen(wallet);
        self.backs.insert(*no, back);
        self.say(|| format!("{} fen of {number} go back as {no}", amount.get()));
        Some(seen)
    }

    pub fn refund_query_arrives(&mut self, number: OutTradeNo, no: &OutRefundNo) -> RefundFound {
        let wallet = self.numbers.get(&number).map(|number| number.wallet);
        let roll = self.dice.below(10);
        match (self.backs.get_mut(no), wallet) {
            (Some(back), Some(wallet)) => {
                if back.status == RefundStatus::Processing {
                    back.status = match roll {
                        0..=6 => RefundStatus::Success,
                        7 => RefundStatus::Abnormal,
                        8 => RefundStatus::Closed,
                        _ => RefundStatus::Processing,
                    };
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
