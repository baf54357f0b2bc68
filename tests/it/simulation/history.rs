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
        policy::{MoneyPolicies, MoneyPolicy},
        wallet::Wallet,
    },
    queue::{Envelope, Heard, Message, Published, QueueName, Reply, embedded::EmbeddedBroker},
    steps::Steps,
};

use super::{
    deployment::{BEGINS, Deployment},
    dice::Dice,
    engine::{Actor, Kind},
    facts::Fact,
    gate::Gate,
    notices::Signers,
    process::{self, Process},
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
    /// Of a process that nothing happens to: the merchants', and ours who look.
    pub steps: Steps,
    pub process: Process,
    pub broker: Arc<EmbeddedBroker>,
    pub actors: Vec<Actor>,
    pub crashes: Crashes,
    pub restarts: bool,
    pub policies: MoneyPolicies,
    pub is_ending: bool,
    /// What notices tell of money.
    pub notices: BTreeMap<String, Fact>,
    pub orders: Vec<OrderId>,
    pub codes: Vec<(Wallet, String, usize)>,
    pub issued: BTreeMap<CommandId, Issued>,
    pub told: Vec<Reply>,
    /// Commands that may be told "nothing was done" although something was: of two copies at once, one may find nothing done before
    /// the other does it; and one that comes again when its earlier life's lease is over finds no trace of it.
    pub excused: BTreeSet<CommandId>,
    /// How many lives each command has had.
    lives: BTreeMap<CommandId, u32>,
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
        let mut dice = Dice::seeded(seed);
        let mut policy = || if dice.percent(50) { MoneyPolicy::Keep } else { MoneyPolicy::Refund };
        let policies = MoneyPolicies { late: policy(), second: policy() };
        deployment.begin(policies).await;
        let wallets = Wallets::new(Dice::seeded(dice.roll()), Clock::manual(BEGINS), logged);
        let rolled = crashes == Crashes::Rolled;
        {
            let mut books = wallets.books();
            (books.is_rough, books.is_tight) = (dice.percent(50), dice.percent(30));
            books.is_late = dice.percent(40);
            if books.is_rough && dice.percent(30) {
                let short = *dice.pick(&[100, 2_000, 20_000]);
                books.short_until = Some(BEGINS.plus(Duration::from_secs(short)));
            }
            let fails = *dice.pick(&[0, 0, 0, 15, 15, 80]);
            books.store_fails = if rolled { fails } else { 0 };
        }
        let broker = process::broker(dice.roll());
        let process = Process::begins(deployment, &wallets, &broker).await;
        let steps = Steps { store: deployment.store.clone(), ..process.steps.clone() };
        let restarts = dice.percent(30) && rolled;
        Self {
            deployment,
            signers,
            gate: Gate::new(),
            dice,
            wallets,
            steps,
            process,
            broker,
            actors: Vec::new(),
            crashes,
            restarts,
            policies,
            notices: BTreeMap::new(),
            is_ending: false,
            orders: Vec::new(),
            codes: Vec::new(),
            issued: BTreeMap::new(),
            told: Vec::new(),
            excused: BTreeSet::new(),
            lives: BTreeMap::new(),
            waits: Vec::new(),
            crash_points: BTreeSet::new(),
        }
    }

    pub fn say(&self, line: impl FnOnce() -> String) {
        self.wallets.books().say(line);
    }

    pub async fn time_passes(&mut self, span: Duration) {
        self.say(|| format!("{span:?} pass"));
        let until = self.wallets.clock.now().plus(span);
        loop {
            let now = self.wallets.clock.now();
            let copy = self.wallets.books().next_copy().filter(|(_, when)| *when <= until);
            let step = copy.map_or(until, |(_, when)| when).since(now);
            if !step.is_zero() {
                self.gate.pass(&self.wallets, step).await;
            }
            let Some((at, _)) = copy else { return };
            self.wallets.books().copy_arrives(at, now.plus(step));
        }
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
        if let Some(id) = command {
            *self.lives.entry(id).or_default() += 1;
        }
        let mut actor = Actor::new(kind, number, command, step);
        let mortal = Kind::MORTAL.contains(&kind);
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
    pub fn take(&mut self, from: QueueName) -> bool {
        let deliveries =
            if from == QueueName::Orders { &mut self.process.orders_in } else { &mut self.process.notices_in };
        let Ok(delivery) = deliveries.try_recv() else { return false };
        let (command, fact) = match Envelope::decode(&delivery.body).unwrap().message {
            Message::Prepay(command) => (Some(command.id), None),
            Message::Notice(notice) => (None, self.notices.get(&notice.raw).copied()),
        };
        if let Some(fact) = fact {
            let mut books = self.wallets.books();
            books.count(match fact {
                Fact::PaidBack(..) => "notices of money that went back",
                _ => "notices of payments",
            });
            books.heard.push((self.waits.len(), fact));
        }
        let kind = if command.is_some() { Kind::Command } else { Kind::Notice };
        let again = if delivery.redelivered { " again" } else { "" };
        self.say(|| format!("#{} a worker takes {kind:?} {command:?}{again}", self.waits.len()));
        let worker = self.process.worker.clone();
        self.start(kind, command, async move { worker.handle(from, delivery).await });
        true
    }

    pub async fn turn(&mut self, at: usize) {
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
            self.excuse_if_held_up(at);
            self.actors.swap_remove(at);
            self.facts_are_kept(number).await;
        } else if dies_at == Some(pendings) {
            self.say(|| format!("  #{number} {kind:?} DIES at its wait {pendings}"));
            self.crash_points.insert((kind, pendings));
            self.wallets.books().forget(number);
            self.actors.swap_remove(at);
            self.gate.settle(&self.wallets).await;
        }
        self.hear();
    }

    /// Its lease was not over when it came again, and was when it looked: as if it had come then.
    fn excuse_if_held_up(&mut self, at: usize) {
        let Some(id) = self.actors[at].command.filter(|id| self.lives[id] > 1) else { return };
        let leased_until = self.issued[&id].command.not_after.plus(self.steps.settings.lease_margin);
        if leased_until < self.wallets.clock.now() {
            self.excused.insert(id);
        }
    }

    /// Replies that the front has got by now.
    pub fn hear(&mut self) {
        while let Ok(heard) = self.process.heard.try_recv() {
            if let Heard::Reply(reply) = heard {
                self.told.push(reply);
            }
        }
    }
}
