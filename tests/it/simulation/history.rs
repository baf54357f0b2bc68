//! One history: what a seed lets happen to a few orders, and its end, when everything that was begun has come to rest.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use prepay::{
    clock::Clock,
    domain::{
        command::PrepayCommand,
        id::{CommandId, OrderId},
        order::{Order, OrderState},
        wallet::Wallet,
    },
    queue::{
        Broker, Deliveries, Envelope, Heard, Message, Published, QueueName, Reply,
        embedded::{EmbeddedBroker, EmbeddedFaults, EmbeddedSettings},
    },
    steps::Steps,
    worker::{Worker, WorkerSettings},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    deployment::{BEGINS, Deployment},
    dice::Dice,
    engine::{Actor, Gate, Kind},
    merchant,
    notices::Signers,
    wallet::Wallets,
};

/// Which steps are dropped half-way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crashes {
    /// As the seed says.
    Rolled,
    None,
    /// This one alone, after so many waits.
    One {
        actor: usize,
        at: u32,
    },
}

/// A command as the front knows it.
pub struct Issued {
    pub command: PrepayCommand,
    pub payer: usize,
    pub published: Published,
}

pub struct History<'d> {
    pub deployment: &'d Deployment,
    pub signers: &'d Signers,
    pub gate: Gate,
    pub dice: Dice,
    pub wallets: Wallets,
    pub steps: Steps,
    worker: Arc<Worker>,
    pub broker: Arc<EmbeddedBroker>,
    orders_in: Deliveries,
    notices_in: Deliveries,
    heard: mpsc::Receiver<Heard>,
    actors: Vec<Actor>,
    crashes: Crashes,
    is_ending: bool,
    pub orders: Vec<OrderId>,
    pub codes: Vec<(Wallet, String, usize)>,
    pub issued: BTreeMap<CommandId, Issued>,
    pub told: Vec<Reply>,
    /// Commands that may be told "nothing was done" although something was: of two copies at once, one may find nothing done before
    /// the other does it; and one that comes again when its earlier life's lease is over finds no trace of it.
    pub excused: BTreeSet<CommandId>,
    /// How often each actor waited, in order of appearance.
    pub waits: Vec<u32>,
    pub crash_points: BTreeSet<(Kind, u32)>,
}

impl<'d> History<'d> {
    pub async fn new(
        deployment: &'d Deployment,
        signers: &'d Signers,
        seed: u64,
        crashes: Crashes,
        logged: bool,
    ) -> Self {
        deployment.wipe().await;
        let mut dice = Dice::seeded(seed);
        let wallets = Wallets::new(Dice::seeded(dice.roll()), Clock::manual(BEGINS), logged);
        let steps = deployment.steps(&wallets).await;
        let faults = EmbeddedFaults {
            seed: dice.roll(),
            refuse: 30,
            drop: 60,
            double: 120,
            reorder: 200,
            ..EmbeddedFaults::default()
        };
        let broker = Arc::new(EmbeddedBroker::new(EmbeddedSettings { faults, ..EmbeddedSettings::default() }));
        let heard = broker.listen().await;
        let orders_in = broker.consume(QueueName::Orders, 4).await;
        let notices_in = broker.consume(QueueName::Notifications, 4).await;
        let worker = Worker::new(steps.clone(), broker.clone(), WorkerSettings::default(), CancellationToken::new());
        Self {
            deployment,
            signers,
            gate: Gate::default(),
            dice,
            wallets,
            steps,
            worker: Arc::new(worker),
            broker,
            orders_in,
            notices_in,
            heard,
            actors: Vec::new(),
            crashes,
            is_ending: false,
            orders: Vec::new(),
            codes: Vec::new(),
            issued: BTreeMap::new(),
            told: Vec::new(),
            excused: BTreeSet::new(),
            waits: Vec::new(),
            crash_points: BTreeSet::new(),
        }
    }

    /// From the first order to the last question.
    pub async fn run(&mut self) {
        for _ in 0..1 + self.dice.below(2) {
            self.new_order().await;
        }
        self.gate.settle().await;
        self.tap().await;
        for _ in 0..40 + self.dice.below(120) {
            self.tick().await;
        }
        // Where money came, some of it goes back, while things still go wrong.
        let is_paid = self.wallets.books().numbers.values().any(|number| number.payment.is_some());
        if is_paid && self.dice.percent(40) {
            for _ in 0..20 + self.dice.below(50) {
                self.refund_tick().await;
            }
        }
        self.end().await;
    }

    async fn refund_tick(&mut self) {
        match self.dice.below(12) {
            0..=5 => self.turn_any().await,
            6 => {
                let (steps, id) = (self.steps.clone(), *self.dice.pick(&self.orders));
                let dice = Dice::seeded(self.dice.roll());
                self.start(Kind::Merchant, None, merchant::refund(steps, id, dice));
            }
            7 | 8 => self.give_back(),
            9 => {
                let seconds = *self.dice.pick(&[1, 3, 12, 31, 61, 300]);
                self.time_passes(Duration::from_secs(seconds)).await;
            }
            10 => self.ask(),
            _ => self.late(),
        }
    }

    /// Whoever is ready, by dice; else a worker takes a command, or a little time passes.
    async fn turn_any(&mut self) {
        let ready: Vec<usize> = (0..self.actors.len()).filter(|at| self.actors[*at].is_ready()).collect();
        if !ready.is_empty() {
            let at = *self.dice.pick(&ready);
            self.turn(at).await;
        } else if !self.take(QueueName::Orders) && !self.actors.is_empty() {
            self.time_passes(Duration::from_millis(100)).await;
        }
    }

    async fn tick(&mut self) {
        match self.dice.below(100) {
            0..=54 => self.turn_any().await,
            55..=64 => drop(self.take(QueueName::Orders)),
            65..=69 => drop(self.take(QueueName::Notifications)),
            70..=74 => self.tap().await,
            75..=78 => self.pay(),
            79..=82 => self.tell_news(),
            83..=86 => self.late(),
            87..=91 => {
                const SPANS_MS: [u64; 14] =
                    [1, 50, 100, 100, 500, 500, 1_000, 1_000, 3_000, 6_000, 11_000, 11_000, 40_000, 300_000];
                let hours = if self.dice.percent(4) { 3_600_000 * self.dice.below(30) as u64 } else { 0 };
                let span = Duration::from_millis(*self.dice.pick(&SPANS_MS) + hours);
                self.time_passes(span).await;
            }
            92..=95 => self.ask(),
            96 => self.give_back(),
            97 => match self.dice.below(3) {
                0 => self.sweep(),
                1 => self.pull_forward(),
                _ => self.decide(),
            },
            _ => self.merchant_acts(),
        }
    }

    pub fn say(&self, line: impl FnOnce() -> String) {
        self.wallets.books().say(line);
    }

    pub async fn time_passes(&mut self, span: Duration) {
        self.say(|| format!("{span:?} pass"));
        self.gate.pass(&self.wallets, span).await;
    }

    pub fn start(&mut self, kind: Kind, command: Option<CommandId>, step: impl Future<Output = ()> + 'static) {
        let number = self.waits.len();
        self.waits.push(0);
        let twin = self.actors.iter().find_map(|other| other.command.filter(|id| Some(*id) == command));
        let leased_until = self.wallets.clock.now().minus(self.steps.settings.lease_margin);
        let mut books = self.wallets.books();
        // The lease is their command's: one copy frees it while the other is still at the wallet.
        if let Some(id) = twin {
            books.deadlines.remove(&id);
        }
        let late = command.filter(|id| books.deadlines.get(id).is_some_and(|until| *until < leased_until));
        drop(books);
        self.excused.extend(twin.into_iter().chain(late));
        let mut actor = Actor::new(kind, number, command, step);
        let mortal = !matches!(kind, Kind::Tell | Kind::Merchant);
        actor.dies_at = match self.crashes {
            Crashes::Rolled if mortal && !self.is_ending && self.dice.percent(35) => {
                Some(u32::try_from(1 + self.dice.below(22)).unwrap())
            }
            Crashes::One { actor, at } if mortal && actor == number => Some(at),
            _ => None,
        };
        self.actors.push(actor);
    }

    /// A worker takes what the queue hands out. False: nothing.
    fn take(&mut self, from: QueueName) -> bool {
        let deliveries = if from == QueueName::Orders { &mut self.orders_in } else { &mut self.notices_in };
        let Ok(delivery) = deliveries.try_recv() else { return false };
        let command = match Envelope::decode(&delivery.body).unwrap().message {
            Message::Prepay(command) => Some(command.id),
            Message::Notice(_) => None,
        };
        let kind = if command.is_some() { Kind::Command } else { Kind::Notice };
        let again = if delivery.redelivered { " again" } else { "" };
        self.say(|| format!("#{} a worker takes {kind:?} {command:?}{again}", self.waits.len()));
        let worker = self.worker.clone();
        self.start(kind, command, async move { worker.handle(from, delivery).await });
        true
    }

    async fn turn(&mut self, at: usize) {
        let is_over = self.actors[at].turn(&self.wallets, &mut self.gate).await;
        let (kind, number, pendings, dies_at) = {
            let actor = &self.actors[at];
            (actor.kind, actor.number, actor.pendings, actor.dies_at)
        };
        self.waits[number] = pendings;
        if !is_over {
            self.say(|| format!("  #{number} waits ({pendings})"));
        }
        if is_over {
            self.say(|| format!("  #{number} {kind:?} ends"));
            self.actors.swap_remove(at);
        } else if dies_at == Some(pendings) {
            self.say(|| format!("  #{number} {kind:?} DIES at its wait {pendings}"));
            self.crash_points.insert((kind, pendings));
            self.actors.swap_remove(at);
            self.gate.settle().await;
        }
        while let Ok(heard) = self.heard.try_recv() {
            if let Heard::Reply(reply) = heard {
                self.told.push(reply);
            }
        }
    }

    /// Everything that runs or waits in a queue comes to its end.
    async fn finish(&mut self) {
        for _ in 0..5_000 {
            while self.take(QueueName::Orders) || self.take(QueueName::Notifications) {}
            if self.actors.is_empty() {
                self.gate.settle().await;
                if !self.take(QueueName::Orders) && !self.take(QueueName::Notifications) {
                    return;
                }
            }
            match self.actors.iter().position(Actor::is_ready) {
                Some(at) => self.turn(at).await,
                None => self.time_passes(Duration::from_millis(100)).await,
            }
        }
        self.wallets.books().broken.push("something runs for ever".into());
    }

    /// Nothing new goes wrong: what was begun comes to rest, and the scheduler asks until there is nothing left to ask.
    async fn end(&mut self) {
        self.say(|| "-- the end begins".into());
        self.is_ending = true;
        self.finish().await;
        while !self.wallets.books().late.is_empty() {
            self.late();
        }
        self.wallets.books().is_calm = true;
        for round in 0..40u64 {
            let now = self.wallets.clock.now();
            let (mut rest, mut waiting, mut refunds) = (Vec::new(), false, false);
            self.gate.open();
            for id in self.orders.clone() {
                let order = self.steps.store.load_order(id).await.unwrap().unwrap();
                let waits = order.state == OrderState::Waiting && !order.is_disputed();
                let settled_at = order.expire_at.plus(Order::SETTLED_AFTER_EXPIRY + Duration::from_secs(1));
                rest.extend(order.attempts.iter().filter_map(|attempt| attempt.next_query_at).map(|due| {
                    // After two rounds of the timetable, on to the expiry, then to the end of a day after it.
                    match round {
                        0..=1 => due,
                        2..=3 => due.max(settled_at),
                        _ => due.max(order.expire_at.plus(Order::LAPSED_AFTER_EXPIRY + Duration::from_secs(1))),
                    }
                }));
                waiting |= waits;
                for refund in self.steps.store.refunds_of(id).await.unwrap() {
                    refunds |= refund.next_at.is_some();
                    rest.extend(refund.next_at);
                }
                rest.extend(waits.then_some(settled_at));
            }
            self.gate.settle().await;
            let Some(next) = rest.into_iter().min() else { break };
            if self.dice.percent(15) {
                self.pay();
            }
            if self.dice.percent(30) {
                self.tell_news();
            }
            // A question that somebody holds who died is free again after its lease.
            let at_least = Duration::from_secs(if round == 0 { 1 } else { 31 });
            self.time_passes(next.since(now).max(at_least)).await;
            self.ask();
            self.finish().await;
            if waiting {
                self.sweep();
                self.finish().await;
            }
            if refunds {
                self.give_back();
                self.finish().await;
            }
            if round == 1 {
                self.decide();
                self.finish().await;
            }
        }
        self.gate.open();
    }
}
