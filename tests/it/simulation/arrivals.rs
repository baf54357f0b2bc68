//! What a request does to the books when it arrives.

use std::time::Duration;

use prepay::{
    domain::{
        attempt::{Frozen, Ticket},
        id::{OrderId, OutTradeNo},
        money::Fen,
        time::Timestamp,
        wallet::Wallet,
    },
    gateway::{CloseAnswer, TradeState},
};
use serde_json::Value;

use super::{
    dice::Dice,
    notices::About,
    wallet::{Books, NotMade, Number},
};

impl Books {
    /// A prepay arrives, on time or late.
    pub fn prepay_arrives(&mut self, no: OutTradeNo, bytes: &Frozen, now: Timestamp) -> Result<Ticket, NotMade> {
        let order = no.order;
        if let Some(number) = self.numbers.get_mut(&no) {
            number.closes_by_itself(now);
            if number.bytes != *bytes {
                self.broke(format!("{no} is sent with other bytes than before"));
                return Err(NotMade::OtherBytes);
            }
            if number.payment.is_some() {
                return Err(NotMade::Paid);
            }
            if number.is_closed {
                return Err(NotMade::Closed);
            }
            // WeChat's prepay_id may be the same or a new one; Alipay's trade_no is the trade's.
            if number.wallet == Wallet::WechatPay && self.dice.percent(50) {
                number.created += 1;
                number.tickets.push(format!("wx{no}{}", number.created));
            }
            return Ok(Ticket(number.tickets.last().unwrap().clone()));
        }
        let number = made(no, bytes, now, &mut self.dice);
        if now >= number.expire_at {
            return Err(NotMade::Expired);
        }
        let ticket = Ticket(number.tickets[0].clone());
        self.numbers.insert(no, number);
        let beside = |(of, number): &(&OutTradeNo, &Number)| of.order == order && **of != no && number.counts(now);
        if let Some((other, _)) = self.numbers.iter().find(beside) {
            let what = format!("{no} can be paid beside {other}");
            self.broke(what);
        }
        Ok(ticket)
    }

    pub fn payable_numbers(&self, order: OrderId, now: Timestamp) -> Vec<OutTradeNo> {
        self.numbers
            .iter()
            .filter(|(no, number)| no.order == order && number.is_payable(now))
            .map(|(no, _)| *no)
            .collect()
    }

    pub fn query_arrives(&mut self, no: OutTradeNo, now: Timestamp) -> TradeState {
        let Some(number) = self.numbers.get_mut(&no) else { return TradeState::NotExist };
        number.closes_by_itself(now);
        match &number.payment {
            Some(payment) => TradeState::Paid(payment.clone()),
            None if now < number.shown_at => TradeState::NotExist,
            None if number.is_closed => TradeState::Closed,
            None => TradeState::Unpaid,
        }
    }

    pub fn close_arrives(&mut self, no: OutTradeNo, now: Timestamp) -> CloseAnswer {
        // A payment may win the race.
        if !self.is_calm && self.dice.percent(8) {
            self.pay(no, now);
        }
        let Some(number) = self.numbers.get_mut(&no) else { return CloseAnswer::NotExist };
        number.closes_by_itself(now);
        if number.payment.is_some() {
            return CloseAnswer::AskFirst;
        }
        if now < number.shown_at {
            return CloseAnswer::NotExist;
        }
        if number.is_closed {
            // WeChat repeats its 204, Alipay points at the state.
            return if number.wallet == Wallet::WechatPay { CloseAnswer::Closed } else { CloseAnswer::AskFirst };
        }
        number.is_closed = true;
        if number.wallet == Wallet::Alipay && self.dice.percent(30) {
            self.news.push(About::Trade(no));
        }
        // The payer was at the password.
        if self.is_late && !self.is_calm && self.dice.percent(20) {
            self.take_payment(no, now);
        }
        CloseAnswer::Closed
    }
}

/// Reads the bytes as the wallet does.
fn made(no: OutTradeNo, bytes: &Frozen, now: Timestamp, dice: &mut Dice) -> Number {
    let body: Value = serde_json::from_str(&bytes.body).expect("frozen bytes are JSON");
    assert_eq!(body["out_trade_no"], no.to_string(), "the number of the bytes is another one");
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let alipay = body["total_amount"].is_string();
    let lag = if alipay && dice.percent(15) { 1 + dice.below(8) } else { 0 };
    let payer = if alipay { text("buyer_id") } else { body["payer"]["openid"].as_str().unwrap().to_owned() };
    let (wallet, amount, expire_at) = if alipay {
        let amount = Fen::from_yuan(&text("total_amount")).unwrap();
        (Wallet::Alipay, amount, Timestamp::parse_china_text(&text("time_expire")).unwrap())
    } else {
        let amount = Fen::new(body["amount"]["total"].as_i64().unwrap()).unwrap();
        (Wallet::WechatPay, amount, Timestamp::parse_rfc3339(&text("time_expire")).unwrap())
    };
    Number {
        wallet,
        bytes: bytes.clone(),
        amount,
        payer,
        expire_at,
        shown_at: now.plus(Duration::from_secs(lag as u64)),
        is_closed: false,
        tickets: vec![if alipay { format!("2026{no}") } else { format!("wx{no}1") }],
        payment: None,
        is_paid_late: false,
        is_let_go: false,
        created: 1,
    }
}
