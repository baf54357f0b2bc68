//! What phones, payers, wallets, schedulers and the merchant do in a history.

use std::{num::NonZeroU32, time::Duration};

use prepay::{
    domain::{
        command::{IdentifyId, Identity, PrepayCommand},
        id::{CommandId, OrderId},
        payer::LoginCode,
        wallet::Wallet,
    },
    queue::{Broker, Envelope, NoticeMessage, Published},
    scheduler::{close_expired, decide_anomalies},
    steps::{
        StepError,
        turns::{LeaseTerms, Turns},
    },
    store::Pace,
};

use super::{
    dice::Dice,
    engine::Kind,
    history::{History, Issued},
    merchant,
    notices::About,
    wallet::Wallets,
};

const PAYERS: usize = 3;
const TERMS: LeaseTerms =
    LeaseTerms { limit: 2, wallet_rooms: [2, 2], per_account: 2, lease_for: Duration::from_secs(30) };

impl History<'_> {
    pub async fn new_order(&mut self) {
        let id = OrderId::from_bytes(self.dice.bytes());
        let expires_in = *self.dice.pick(&[240, 1800, 1800, 7200]);
        let order = merchant::order(self.deployment, id, self.wallets.clock.now(), expires_in);
        self.deployment.store.insert_order(&order).await.unwrap();
        self.say(|| format!("order {id} is made, expires in {expires_in} s"));
        self.orders.push(id);
    }

    /// A phone posts, with a fresh code, one that it used before, or an id that its merchant fetched.
    pub async fn tap(&mut self) {
        let order = *self.dice.pick(&self.orders);
        let (mut wallet, mut payer) =
            (if self.dice.percent(60) { Wallet::WechatPay } else { Wallet::Alipay }, self.dice.below(PAYERS));
        let id = CommandId::parse(&uuid::Uuid::from_bytes(self.dice.bytes()).to_string()).unwrap();
        let identity = match self.dice.below(10) {
            0..=4 => {
                let code = format!("code{}", self.codes.len());
                self.wallets.books().issue_code(code.clone(), payer_id(wallet, payer));
                self.codes.push((wallet, code.clone(), payer));
                Identity::Code(LoginCode::parse(code).unwrap())
            }
            5..=7 if !self.codes.is_empty() => {
                let (of, code, whose) = self.dice.pick(&self.codes).clone();
                (wallet, payer) = (of, whose);
                Identity::Code(LoginCode::parse(code).unwrap())
            }
            _ => Identity::IdentifyId(IdentifyId(payer_id(wallet, payer))),
        };
        let not_after = self.wallets.clock.now().plus(Duration::from_secs(8));
        // An old link at times.
        let generation = u16::from(self.dice.percent(3));
        let merchant = self.deployment.merchant;
        let command = PrepayCommand { id, order, merchant, wallet, generation, identity, not_after, payer_ip: None };
        let published = self.broker.publish(&Envelope::prepay(command.clone()), Duration::from_secs(1)).await;
        self.say(|| {
            format!("payer {payer} taps for {order} at {wallet} with {:?}: {id} {published:?}", command.identity)
        });
        self.wallets.books().deadlines.insert(id, not_after);
        self.issued.insert(id, Issued { command, payer, published });
        self.gate.settle(&self.wallets).await;
    }

    pub fn pay(&mut self) {
        let now = self.wallets.clock.now();
        let mut books = self.wallets.books();
        let payable: Vec<_> = self.orders.iter().flat_map(|order| books.payable_numbers(*order, now)).collect();
        if !payable.is_empty() {
            books.pay(*self.dice.pick(&payable), now);
        }
    }

    /// A request arrives that nobody waits for. False: there is none whose time is any.
    pub fn late(&mut self) -> bool {
        let now = self.wallets.clock.now();
        let mut books = self.wallets.books();
        let Some(at) = books.any_copy() else { return false };
        books.copy_arrives(at, now);
        true
    }

    /// The wallet tells what it has to tell, once, twice, in any order, or never.
    pub fn tell_news(&mut self) {
        let (now, dice) = (self.wallets.clock.now(), &mut self.dice);
        let (about, raw, wallet, fact) = {
            let mut books = self.wallets.books();
            if books.news.is_empty() {
                return;
            }
            let at = dice.below(books.news.len());
            let about = if dice.percent(30) { books.news[at] } else { books.news.remove(at) };
            let Some(raw) = self.signers.notice(about, &books, now) else { return };
            (about, raw, books.numbers[&books.number_of(about)].wallet, books.fact(about))
        };
        if self.dice.percent(25) {
            return self.say(|| format!("a notice about {about:?} is lost"));
        }
        self.say(|| format!("a notice about {about:?} comes"));
        let account = if wallet == Wallet::WechatPay { self.deployment.wechat.0 } else { self.deployment.alipay.0 };
        let notice = NoticeMessage { account, wallet, raw: serde_json::to_string(&raw).unwrap() };
        if let Some(fact) = fact {
            self.notices.insert(notice.raw.clone(), fact);
        }
        let broker = self.broker.clone();
        let news = News { about, wallets: self.wallets.clone(), is_kept: false };
        self.start(Kind::Tell, None, async move {
            // All of it goes into the step, to be dropped with it.
            let mut news = news;
            let published = broker.publish(&Envelope::notice(notice), Duration::from_secs(3)).await;
            news.is_kept = published == Published::Kept;
        });
    }

    pub fn ask(&mut self) {
        self.say(|| format!("#{} the scheduler asks", self.waits.len()));
        let (steps, wallets) = (self.process.steps.clone(), self.wallets.clone());
        self.start(Kind::Question, None, async move {
            let pace = Pace { per_second: NonZeroU32::new(100).unwrap() };
            let Ok(due) = steps.lease_questions(&mut Turns::default(), TERMS, pace).await else { return };
            for (_, (order, no)) in due.taken {
                passing(&wallets, steps.question(order, no).await);
            }
        });
    }

    pub fn sweep(&mut self) {
        self.say(|| format!("#{} the scheduler sweeps", self.waits.len()));
        let steps = self.process.steps.clone();
        self.start(Kind::Sweep, None, async move { close_expired(&steps).await });
    }

    /// A page waits: the front pulls the next question forward.
    pub fn pull_forward(&mut self) {
        let (steps, order) = (self.steps.clone(), *self.dice.pick(&self.orders));
        self.start(Kind::Merchant, None, async move {
            let now = steps.clock.now();
            steps.store.pull_query_forward(order, now, Duration::from_secs(3)).await.unwrap();
        });
    }

    /// Links are revoked, an order is closed, money is given back.
    pub fn merchant_acts(&mut self) {
        let (steps, id) = (self.steps.clone(), *self.dice.pick(&self.orders));
        match self.dice.below(10) {
            0 => {
                self.say(|| format!("links of {id} are revoked"));
                self.start(Kind::Merchant, None, merchant::revoke(steps, id));
            }
            1 | 2 => {
                self.say(|| format!("{id} is to be closed"));
                self.start(Kind::Merchant, None, merchant::close(steps, id));
            }
            3..=7 => {
                self.say(|| format!("money of {id} is to go back"));
                let dice = Dice::seeded(self.dice.roll());
                self.start(Kind::Merchant, None, merchant::refund(steps, id, dice));
            }
            _ => {}
        }
    }

    pub fn give_back(&mut self) {
        self.say(|| format!("#{} the scheduler looks at refunds", self.waits.len()));
        let (steps, wallets) = (self.process.steps.clone(), self.wallets.clone());
        self.start(Kind::Refund, None, async move {
            let Ok(due) = steps.lease_refunds(&mut Turns::default(), TERMS).await else { return };
            for (_, refund) in due.taken {
                passing(&wallets, steps.refund(refund).await);
            }
        });
    }

    pub fn decide(&mut self) {
        let steps = self.process.steps.clone();
        self.start(Kind::Policy, None, async move { decide_anomalies(&steps).await });
    }

    /// One event goes to its merchant, a probe of a paused endpoint first.
    pub fn deliver(&mut self) {
        self.say(|| format!("#{} the scheduler looks for an event", self.waits.len()));
        let deliverer = self.process.deliverer.clone();
        self.start(Kind::Delivery, None, async move {
            let mut due = deliverer.lease_probes(1).await.unwrap_or_default();
            if due.is_empty() {
                due = deliverer.lease(1).await.unwrap_or_default();
            }
            for event in due {
                deliverer.deliver(event).await;
            }
        });
    }

    pub fn tend(&mut self) {
        self.say(|| format!("#{} the scheduler tends endpoints", self.waits.len()));
        let (deliverer, gives_up) = (self.process.deliverer.clone(), self.dice.percent(30));
        self.start(Kind::Tending, None, async move {
            deliverer.tend_endpoints().await;
            if gives_up {
                deliverer.give_up_overdue().await;
            }
        });
    }
}

/// Whatever ends before a wallet's news is kept, the wallet tells it again.
struct News {
    about: About,
    wallets: Wallets,
    is_kept: bool,
}

impl Drop for News {
    fn drop(&mut self) {
        if !self.is_kept {
            self.wallets.books().news.push(self.about);
        }
    }
}

/// A scheduler's step may fail as its store does: its lease runs out, and it hears again what it was told.
fn passing(wallets: &Wallets, result: Result<(), StepError>) {
    match result {
        Ok(()) => {}
        Err(StepError::StoreUnavailable(_)) => wallets.books().failed(),
        Err(error) => panic!("a step failed for a reason of its own: {error}"),
    }
}

pub fn payer_id(wallet: Wallet, payer: usize) -> String {
    match wallet {
        Wallet::WechatPay => format!("oUpF8uMuAJO_M2pxb1Q9zNjWeS6{payer}"),
        Wallet::Alipay => format!("208810214622513{payer}"),
    }
}
