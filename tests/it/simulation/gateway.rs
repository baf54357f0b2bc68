//! Our side's way to the model of the wallets: every call pauses before it arrives and before its answer is back, and may be
//! lost at either place. What needs no wallet (bytes, signatures, notices) is done by the real gateway.

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use prepay::{
    domain::{
        attempt::{Frozen, Ticket},
        id::{AppId, CommandId, OrderId, OutRefundNo, OutTradeNo},
        outcome::PayParams,
        payer::{LoginCode, Payer, PayerKind},
        time::Timestamp,
        wallet::Wallet,
    },
    gateway::{
        BillDate, BillError, BillFile, BillLimits, BillRows, CloseAnswer, Examined, ExchangeError, Gateway,
        GatewayError, Notice, NoticeError, PrepayAsk, RawNotice, RefundAsk, RefundFound, RefundSeen, RefundStatus,
        Refused, TradeState, Verified,
    },
};

use super::{
    facts::Fact,
    fates::{Fate, Risk},
    late::Copied,
    wallet::{Books, NotMade, Wallets},
};

/// As `HttpSettings` has it: past it nobody waits for an answer any more.
const TIMEOUT: Duration = Duration::from_secs(8);

pub struct SimulatedGateway {
    pub real: Arc<dyn Gateway>,
    pub wallets: Wallets,
}

/// A request on its way. Dropped there, it may arrive all the same.
struct UnderWay<'a> {
    wallets: &'a Wallets,
    request: Option<Copied>,
    about: Option<(OrderId, CommandId)>,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if let Some(about) = self.about.take() {
            self.wallets.books().ends(about);
        }
        if let Some(request) = self.request.take() {
            self.wallets.books().abandon(request, self.wallets.clock.now());
        }
    }
}

/// How a call ended on our side.
enum Ended<T> {
    Answer(T),
    Nothing,
    Busy,
    Refused(Refused),
    Denied,
}

impl SimulatedGateway {
    async fn call<T>(
        &self,
        name: &str,
        request: Copied,
        risk: Risk,
        arrives: impl FnOnce(&mut Books, Timestamp) -> T,
    ) -> Ended<T> {
        let begun = self.wallets.clock.now();
        let (fate, about) = {
            let mut books = self.wallets.books();
            books.called();
            let about = request.number().and_then(|number| books.begins(number.order, begun));
            let fate = books.fate(risk);
            books.say(|| format!("  {name} leaves, {fate:?}"));
            (fate, about)
        };
        let timed_out = || self.wallets.clock.now().since(begun) > TIMEOUT;
        let mut under_way = UnderWay { wallets: &self.wallets, request: Some(request), about };
        self.wallets.pause().await;
        if fate == Fate::Lost || timed_out() {
            return Ended::Nothing;
        }
        let request = under_way.request.take();
        let ended = {
            let mut books = self.wallets.books();
            let ended = match fate {
                Fate::NotExecuted => Ended::Busy,
                Fate::Refused(why) => Ended::Refused(why),
                Fate::Denied => Ended::Denied,
                _ => Ended::Answer(arrives(&mut books, self.wallets.clock.now())),
            };
            // What was refused is not sent by the network a second time: our side counts on it.
            let made = |request: &Copied| match request {
                Copied::Refund(_, no, _) => books.backs.contains_key(no),
                _ => true,
            };
            if let (Fate::Doubled, Some(request)) = (fate, request.filter(made)) {
                books.copy_follows(request, self.wallets.clock.now());
            }
            books.say(|| format!("  {name} arrives"));
            ended
        };
        self.wallets.pause().await;
        match ended {
            Ended::Answer(_) if fate == Fate::AnswerLost || timed_out() => Ended::Nothing,
            ended => ended,
        }
    }

    fn heard_of_refund(&self, trade: &OutTradeNo, refund: &OutRefundNo, seen: &RefundSeen) {
        if seen.status == RefundStatus::Success {
            self.wallets.books().tells(Fact::PaidBack(trade.order, *refund));
        }
    }

    fn unknown(&self) -> GatewayError {
        GatewayError::Unknown { wallet: self.wallet(), cause: "no answer".into() }
    }

    fn ended<T>(&self, ended: Ended<T>) -> Result<T, GatewayError> {
        let wallet = self.wallet();
        match ended {
            Ended::Answer(answer) => Ok(answer),
            Ended::Nothing => Err(self.unknown()),
            Ended::Busy => Err(GatewayError::Busy { wallet, code: "BUSY".into(), retry_in: Duration::from_secs(1) }),
            Ended::Refused(why) => Err(GatewayError::Refused { wallet, code: "NO".into(), why }),
            Ended::Denied => Err(GatewayError::AskFirst { wallet, code: "NO".into(), taken: false }),
        }
    }
}

#[async_trait]
impl Gateway for SimulatedGateway {
    fn wallet(&self) -> Wallet {
        self.real.wallet()
    }

    fn freeze(&self, ask: &PrepayAsk) -> Result<Frozen, String> {
        self.real.freeze(ask)
    }

    async fn prepay(&self, number: &OutTradeNo, frozen: &Frozen) -> Result<Ticket, GatewayError> {
        let request = Copied::Prepay(*number, frozen.clone());
        let arrives = |books: &mut Books, now| books.prepay_arrives(*number, frozen, now);
        let ended = self.call(&format!("prepay {number}"), request, Risk::Prepay, arrives).await;
        let ask_first = |code: &str| GatewayError::AskFirst { wallet: self.wallet(), code: code.into(), taken: false };
        self.ended(ended)?.map_err(|why| match why {
            NotMade::Paid => ask_first("ORDERPAID"),
            NotMade::Closed => ask_first("ORDER_CLOSED"),
            NotMade::OtherBytes => ask_first("OUT_TRADE_NO_USED"),
            NotMade::Expired => {
                GatewayError::Refused { wallet: self.wallet(), code: "PARAM_ERROR".into(), why: Refused::Order }
            }
        })
    }

    fn pay_params(&self, app_id: &AppId, ticket: &Ticket, now: Timestamp) -> PayParams {
        self.real.pay_params(app_id, ticket, now)
    }

    async fn exchange(&self, _app_id: &AppId, code: &LoginCode) -> Result<Payer, ExchangeError> {
        let (wallet, text) = (self.wallet(), code.expose());
        self.wallets.books().exchange_begins(text);
        let arrives = |books: &mut Books, _| books.exchange_arrives(text);
        match self.call(&format!("exchange {text}"), Copied::Question, Risk::Plain, arrives).await {
            Ended::Answer(Some(payer)) => {
                let kind = match wallet {
                    Wallet::WechatPay => PayerKind::WechatOpenid,
                    Wallet::Alipay => PayerKind::AlipayUserId,
                };
                Ok(Payer::new(kind, payer).unwrap())
            }
            Ended::Answer(None) => Err(ExchangeError::CodeRefused { wallet, code: "40029".into() }),
            Ended::Busy => {
                self.wallets.books().exchange_refused(text);
                Err(ExchangeError::Busy { wallet, code: "-1".into() })
            }
            Ended::Nothing | Ended::Refused(_) | Ended::Denied => {
                Err(ExchangeError::Unknown { wallet, cause: "no answer".into() })
            }
        }
    }

    async fn query(&self, number: &OutTradeNo) -> Result<TradeState, GatewayError> {
        let arrives = |books: &mut Books, now| books.query_arrives(*number, now);
        let ended = self.call(&format!("query {number}"), Copied::Question, Risk::Plain, arrives).await;
        let state = self.ended(ended)?;
        match state {
            TradeState::Paid(_) => self.wallets.books().tells(Fact::Paid(*number)),
            TradeState::Closed => self.wallets.books().tells(Fact::Shut(*number)),
            TradeState::Unpaid | TradeState::NotExist => {}
        }
        Ok(state)
    }

    async fn close(&self, number: &OutTradeNo) -> Result<CloseAnswer, GatewayError> {
        let arrives = |books: &mut Books, now| books.close_arrives(*number, now);
        let ended = self.call(&format!("close {number}"), Copied::Close(*number), Risk::Plain, arrives).await;
        let answer = self.ended(ended)?;
        if answer == CloseAnswer::Closed {
            self.wallets.books().tells(Fact::Shut(*number));
        }
        Ok(answer)
    }

    fn freeze_refund(&self, ask: &RefundAsk) -> Result<Frozen, String> {
        self.real.freeze_refund(ask)
    }

    async fn refund(
        &self,
        trade: &OutTradeNo,
        refund: &OutRefundNo,
        frozen: &Frozen,
    ) -> Result<RefundSeen, GatewayError> {
        let request = Copied::Refund(*trade, *refund, frozen.clone());
        let arrives = |books: &mut Books, now| books.refund_arrives(*trade, refund, frozen, now);
        let ended = self.call(&format!("refund {refund}"), request, Risk::Refund, arrives).await;
        let refused = |why| GatewayError::Refused { wallet: self.wallet(), code: "NO".into(), why };
        let seen = self.ended(ended)?.map_err(refused)?;
        self.heard_of_refund(trade, refund, &seen);
        Ok(seen)
    }

    async fn refund_query(&self, trade: &OutTradeNo, refund: &OutRefundNo) -> Result<RefundFound, GatewayError> {
        let arrives = |books: &mut Books, now| books.refund_query_arrives(*trade, refund, now);
        let ended = self.call(&format!("refund query {refund}"), Copied::Question, Risk::Plain, arrives).await;
        let found = self.ended(ended)?;
        if let RefundFound::Seen(seen) = &found {
            self.heard_of_refund(trade, refund, seen);
        }
        Ok(found)
    }

    async fn bill(&self, date: BillDate, into: &Path, limits: BillLimits) -> Result<BillFile, BillError> {
        self.real.bill(date, into, limits).await
    }

    fn read_bill(&self, file: &BillFile) -> Result<BillRows, BillError> {
        self.real.read_bill(file)
    }

    fn open_notice(&self, raw: &RawNotice) -> Result<Verified<Notice>, NoticeError> {
        self.real.open_notice(raw)
    }

    async fn fetch_public_keys(&self) -> Result<Option<String>, GatewayError> {
        Ok(None)
    }

    async fn examine(&self, _probe: OrderId) -> Vec<Examined> {
        Vec::new()
    }
}
