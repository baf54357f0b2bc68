//! What the wallets hold: numbers, payers' codes, money. The truth that our rows are judged against.
//!
//! Effect first, answer later: a call changes the books when it arrives, and what it answers may be lost on the way back. A
//! request that was given up on the way may still arrive, as a late copy.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard},
    task::Poll,
};

use prepay::{
    clock::Clock,
    domain::{
        attempt::Frozen,
        id::{CommandId, OrderId, OutRefundNo, OutTradeNo, TradeNo},
        money::{Fen, Sum},
        time::Timestamp,
        wallet::Wallet,
    },
    gateway::PaidTrade,
    store::{Store, StoreFault},
};

use super::{dice::Dice, facts::Fact, late::Late, notices::About, refunds::Back, shops::Heard};

/// Both wallets, shared by gateways, payers and the judge.
#[derive(Clone)]
pub struct Wallets {
    books: Arc<Mutex<Books>>,
    pub clock: Clock,
}

/// One number at its wallet.
pub struct Number {
    pub wallet: Wallet,
    /// The bytes that made it.
    pub bytes: Frozen,
    pub amount: Fen,
    pub payer: String,
    pub expire_at: Timestamp,
    /// Alipay shows a trade some seconds after it was made.
    pub shown_at: Timestamp,
    pub is_closed: bool,
    pub tickets: Vec<String>,
    pub payment: Option<PaidTrade>,
    /// It was paid when it could not be paid any more.
    pub is_paid_late: bool,
    /// A person decided that its money is not the order's.
    pub is_let_go: bool,
    pub created: u32,
}

/// Why a send of known bytes makes nothing new.
pub enum NotMade {
    Paid,
    Closed,
    /// Other bytes under a used number.
    OtherBytes,
    Expired,
}

#[derive(Default)]
struct Code {
    payer: String,
    is_asked: bool,
    is_used: bool,
}

/// Everything the wallets know.
pub struct Books {
    pub dice: Dice,
    pub numbers: BTreeMap<OutTradeNo, Number>,
    codes: BTreeMap<String, Code>,
    /// On the way, with nobody waiting.
    pub late: Vec<Late>,
    /// Payments, closings and refunds that the wallets want to tell.
    pub news: Vec<About>,
    /// Numbers are paid that were closed, or whose time is over.
    pub is_late: bool,
    /// Refunds fare badly: their requests and answers are lost, refused, and copies of them arrive hours later.
    pub is_rough: bool,
    /// A process may make one call at a time to a wallet's account.
    pub is_tight: bool,
    /// Until when the merchants' balances are too low for a refund.
    pub short_until: Option<Timestamp>,
    /// Which actor is polled right now.
    pub actor: Option<usize>,
    /// Whether nobody tells it again what it was told.
    pub keeps_news: bool,
    /// What actors were told.
    pub heard: Vec<(usize, Fact)>,
    /// What merchants' servers heard, in that order.
    pub shops: Vec<Heard>,
    pub shops_away_until: Option<Timestamp>,
    /// So many of 1000 pieces of store work fail.
    pub store_fails: usize,
    /// How often which things happened.
    pub tally: BTreeMap<&'static str, u64>,
    /// Whose step is polled right now.
    pub caller: Option<CommandId>,
    /// Calls that opened or close numbers, under way: of which order, for which command.
    pub calling: Vec<(OrderId, CommandId)>,
    /// Until when each command may call.
    pub deadlines: BTreeMap<CommandId, Timestamp>,
    /// Refunds.
    pub backs: BTreeMap<OutRefundNo, Back>,
    /// Commands for which a wallet was called.
    pub called_for: BTreeSet<CommandId>,
    /// Whether the step that was polled last waits for a wallet.
    pub is_awaited: bool,
    /// Nothing goes wrong any more.
    pub is_calm: bool,
    pub broken: Vec<String>,
    pub log: Option<Vec<String>>,
}

impl Wallets {
    pub fn new(dice: Dice, clock: Clock, logged: bool) -> Self {
        let books = Books {
            dice,
            numbers: BTreeMap::new(),
            codes: BTreeMap::new(),
            late: Vec::new(),
            news: Vec::new(),
            is_late: false,
            is_rough: false,
            is_tight: false,
            short_until: None,
            actor: None,
            keeps_news: false,
            heard: Vec::new(),
            shops: Vec::new(),
            shops_away_until: None,
            store_fails: 0,
            tally: BTreeMap::new(),
            caller: None,
            calling: Vec::new(),
            deadlines: BTreeMap::new(),
            backs: BTreeMap::new(),
            called_for: BTreeSet::new(),
            is_awaited: false,
            is_calm: false,
            broken: Vec::new(),
            log: logged.then(Vec::new),
        };
        Self { books: Arc::new(Mutex::new(books)), clock }
    }

    pub fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap()
    }

    /// One turn of everybody else, on the way to whoever is called and back.
    pub async fn pause(&self) {
        let mut turned = false;
        poll_fn(|_| {
            if std::mem::replace(&mut turned, true) {
                return Poll::Ready(());
            }
            self.books().is_awaited = true;
            Poll::Pending
        })
        .await;
    }

    /// The store as a process sees it whose connection to it breaks at times.
    pub fn failing(&self, store: &Store) -> Store {
        let wallets = self.clone();
        store.failing(Arc::new(move || wallets.books().store_fault()))
    }
}

impl Number {
    pub fn is_payable(&self, now: Timestamp) -> bool {
        !self.is_closed && self.payment.is_none() && now < self.expire_at
    }

    /// Whether its money takes the place of another number's.
    pub fn counts(&self, now: Timestamp) -> bool {
        self.is_payable(now) || (self.payment.is_some() && !self.is_paid_late && !self.is_let_go)
    }

    /// Alipay closes by itself at `time_expire`; WeChat goes on saying NOTPAY.
    pub fn closes_by_itself(&mut self, now: Timestamp) {
        if self.wallet == Wallet::Alipay && self.payment.is_none() && now >= self.expire_at {
            self.is_closed = true;
        }
    }
}

impl Books {
    pub fn say(&mut self, line: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            log.push(line());
        }
    }

    pub fn count(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    fn store_fault(&mut self) -> Option<StoreFault> {
        let fails = self.actor.is_some() && !self.is_calm && self.dice.below(1000) < self.store_fails;
        let fault = fails.then(|| if self.dice.percent(50) { StoreFault::NotDone } else { StoreFault::NotTold })?;
        self.say(|| format!("  the store fails: {fault:?}"));
        // Whoever asked asks again what it was told. A notice keeps its news in hand.
        if !self.keeps_news {
            self.failed();
        }
        self.count(match fault {
            StoreFault::NotDone => "store failures before the work",
            StoreFault::NotTold => "store failures after the work",
        });
        Some(fault)
    }

    pub fn broke(&mut self, what: String) {
        self.say(|| format!("BROKEN: {what}"));
        self.broken.push(what);
    }

    /// Remembers that a wallet is called for whoever is polled.
    pub fn called(&mut self) {
        self.called_for.extend(self.caller);
    }

    /// A call about a number begins: no other command may be at its order's wallets, both in time.
    pub fn begins(&mut self, order: OrderId, now: Timestamp) -> Option<(OrderId, CommandId)> {
        let caller = self.caller?;
        let in_time = |id: &CommandId| self.deadlines.get(id).is_some_and(|until| now <= *until);
        let beside =
            self.calling.iter().find(|(of, by)| *of == order && *by != caller && in_time(by) && in_time(&caller));
        if let Some((_, by)) = beside {
            let what = format!("{by} and {caller} are at the wallets of {order} at once");
            self.broke(what);
        }
        self.calling.push((order, caller));
        Some((order, caller))
    }

    pub fn ends(&mut self, call: (OrderId, CommandId)) {
        if let Some(at) = self.calling.iter().position(|known| *known == call) {
            self.calling.swap_remove(at);
        }
    }

    pub fn issue_code(&mut self, code: String, payer: String) {
        self.codes.insert(code, Code { payer, ..Code::default() });
    }

    /// An exchange leaves us: a second one of a code whose first may have happened breaks the promise.
    pub fn exchange_begins(&mut self, code: &str) {
        let asked = self.codes.get_mut(code).is_some_and(|code| std::mem::replace(&mut code.is_asked, true));
        if asked {
            self.broke(format!("code {code} is exchanged twice"));
        }
    }

    /// Not executed: the code is as good as before, and nothing was done.
    pub fn exchange_refused(&mut self, code: &str) {
        if let Some(code) = self.codes.get_mut(code) {
            code.is_asked = false;
        }
        if let Some(caller) = &self.caller {
            self.called_for.remove(caller);
        }
    }

    pub fn exchange_arrives(&mut self, code: &str) -> Option<String> {
        let code = self.codes.get_mut(code)?;
        (!std::mem::replace(&mut code.is_used, true)).then(|| code.payer.clone())
    }

    /// Somebody pays, whoever was told what: with a coupon at times, and very seldom another amount.
    pub fn pay(&mut self, no: OutTradeNo, now: Timestamp) {
        if self.numbers.get(&no).is_some_and(|number| number.is_payable(now)) {
            self.take_payment(no, now);
        }
    }

    /// A payment reaches its number, payable or not.
    pub fn take_payment(&mut self, no: OutTradeNo, now: Timestamp) {
        let (odd, coupon) = (self.dice.percent(4), self.dice.percent(20));
        let tail = self.dice.roll();
        let Some(number) = self.numbers.get_mut(&no) else { return };
        number.is_paid_late = !number.is_payable(now);
        let fen = number.amount.get();
        let amount = if odd { Fen::new(fen + 1).unwrap() } else { number.amount };
        number.payment = Some(PaidTrade {
            trade_no: match number.wallet {
                Wallet::WechatPay => TradeNo::parse(format!("42{tail:020}")).unwrap(),
                Wallet::Alipay => TradeNo::parse(number.tickets[0].clone()).unwrap(),
            },
            amount: Some(amount),
            payer_amount: Some(Sum::new(if coupon { fen / 2 } else { fen }).unwrap()),
            paid_at: Timestamp::from_secs(now.secs()),
            foreign: None,
        });
        let late = if number.is_paid_late { ", late" } else { "" };
        self.count(if late.is_empty() { "payments" } else { "late payments" });
        self.news.push(About::Trade(no));
        self.say(|| format!("{no} is paid{late}{}", if odd { ", with another amount" } else { "" }));
    }
}
