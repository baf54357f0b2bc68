//! Waiting for outcomes: equal calls share one waiter, a reply ends it, and a lost reply is found by one batched look.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use crate::{
    domain::{
        command::Identity,
        id::{CommandId, OrderId},
        outcome::Outcome,
        wallet::Wallet,
    },
    queue::Heard,
    store::Store,
};

use super::admission::Shed;

/// Calls that may share a waiter: one order in one wallet, one identity, one generation of link. Never by payInfo alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JoinKey {
    pub order: OrderId,
    pub wallet: Wallet,
    pub generation: u16,
    pub identity: Identity,
}

/// What a waiting call is told.
#[derive(Debug, Clone)]
pub enum Answer {
    Outcome(Outcome),
    /// The wait is over and nothing is known yet.
    Processing,
    Shed(Shed),
}

/// Where a call listens; the answer comes once.
pub type Listener = watch::Receiver<Option<Answer>>;

/// Waiting calls by what they share, and commands by their id.
#[derive(Debug, Default)]
pub struct Waiters {
    joined: Mutex<HashMap<JoinKey, Listener>>,
    commands: Mutex<HashMap<CommandId, watch::Sender<Option<Outcome>>>>,
}

/// Whether a call is the first of its kind.
pub enum Joined {
    /// Somebody waits for the same: listen too.
    Waiting(Listener),
    /// Publish a command, and tell it here.
    First(Lead),
}

/// The right and duty to answer all calls of one key.
pub struct Lead {
    waiters: Arc<Waiters>,
    key: JoinKey,
    answer: watch::Sender<Option<Answer>>,
}

impl Lead {
    pub fn listener(&self) -> Listener {
        self.answer.subscribe()
    }

    /// Tells everyone who joined. Later calls start anew.
    pub fn tell(self, answer: Answer) {
        self.answer.send_replace(Some(answer));
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        lock(&self.waiters.joined).remove(&self.key);
    }
}

impl Waiters {
    /// Joins the call that waits for the same, or leads.
    pub fn join(self: &Arc<Self>, key: JoinKey) -> Joined {
        let mut joined = lock(&self.joined);
        if let Some(listener) = joined.get(&key) {
            return Joined::Waiting(listener.clone());
        }
        let (answer, listener) = watch::channel(None);
        joined.insert(key.clone(), listener);
        Joined::First(Lead { waiters: self.clone(), key, answer })
    }

    /// Starts to listen for a command's outcome: before it is published, or the reply slips in between.
    pub fn listen(self: &Arc<Self>, command: CommandId) -> CommandListener {
        let (sender, receiver) = watch::channel(None);
        lock(&self.commands).insert(command, sender);
        CommandListener { waiters: self.clone(), command, receiver }
    }

    /// An outcome was heard or found. False: nobody waits for it any more.
    pub fn outcome(&self, command: CommandId, outcome: Outcome) -> bool {
        let commands = lock(&self.commands);
        let Some(sender) = commands.get(&command) else { return false };
        sender.send_replace(Some(outcome));
        true
    }

    fn waiting(&self) -> Vec<CommandId> {
        lock(&self.commands).keys().copied().collect()
    }
}

/// One command's outcome, as it comes.
pub struct CommandListener {
    waiters: Arc<Waiters>,
    command: CommandId,
    receiver: watch::Receiver<Option<Outcome>>,
}

impl CommandListener {
    /// The outcome, or `None` at `deadline`. On the way the store is looked into after 1, 2, 4 s and just before giving up.
    pub async fn until(&mut self, deadline: Instant, looks: &mpsc::Sender<CommandId>) -> Option<Outcome> {
        let started = Instant::now();
        let last = deadline - Duration::from_millis(400).min(deadline.saturating_duration_since(started) / 2);
        let mut looks_at: Vec<Instant> =
            [1, 2, 4].map(|s| started + Duration::from_secs(s)).into_iter().filter(|at| *at < last).collect();
        looks_at.push(last);
        for look_at in looks_at.into_iter().map(Some).chain([None]) {
            if let Some(outcome) = self.outcome_before(look_at.unwrap_or(deadline)).await {
                return Some(outcome);
            }
            if look_at.is_some() {
                // Full means that a look is under way for very many; ours then comes with the next one.
                let _ = looks.try_send(self.command);
            }
        }
        None
    }

    async fn outcome_before(&mut self, until: Instant) -> Option<Outcome> {
        let heard = tokio::time::timeout_at(until, self.receiver.wait_for(Option::is_some)).await;
        heard.ok()?.ok()?.clone()
    }
}

impl Drop for CommandListener {
    fn drop(&mut self) {
        lock(&self.waiters.commands).remove(&self.command);
    }
}

/// Hears replies until the queue ends. After an interruption everything that waits is looked for at once.
pub async fn hear(waiters: Arc<Waiters>, mut heard: mpsc::Receiver<Heard>, looks: mpsc::Sender<CommandId>) {
    while let Some(heard) = heard.recv().await {
        match heard {
            Heard::Reply(reply) => {
                let waited = waiters.outcome(reply.command, reply.outcome);
                metrics::counter!("prepay_replies_total", "waited" => if waited { "yes" } else { "no" }).increment(1);
            }
            Heard::Interrupted => {
                for command in waiters.waiting() {
                    if looks.send(command).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

/// Looks into the store for commands that asked for it: however many ask, one query at a time serves them.
pub async fn look(waiters: Arc<Waiters>, store: Store, mut looks: mpsc::Receiver<CommandId>) {
    const AT_ONCE: usize = 500;
    let mut asked = Vec::with_capacity(AT_ONCE);
    while looks.recv_many(&mut asked, AT_ONCE).await > 0 {
        match store.outcomes(&asked).await {
            Ok(found) => {
                for (command, outcome) in found {
                    if waiters.outcome(command, outcome) {
                        metrics::counter!("prepay_looked_up_total").increment(1);
                    }
                }
            }
            // The front lives without its database: replies still come.
            Err(error) => tracing::warn!(%error, "outcomes cannot be looked up"),
        }
        asked.clear();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{outcome::Refusal, payer::LoginCode};

    fn key(code: &str) -> JoinKey {
        JoinKey {
            order: OrderId::from_bytes([1; 16]),
            wallet: Wallet::WechatPay,
            generation: 0,
            identity: Identity::Code(LoginCode::parse(code).unwrap()),
        }
    }

    #[tokio::test]
    async fn equal_calls_share_one_waiter_and_others_do_not() {
        let waiters = Arc::new(Waiters::default());
        let Joined::First(lead) = waiters.join(key("a")) else { panic!("nobody was there") };
        let Joined::Waiting(mut second) = waiters.join(key("a")) else { panic!("the first one waits") };
        assert!(matches!(waiters.join(key("b")), Joined::First(_)));
        lead.tell(Answer::Processing);
        second.wait_for(Option::is_some).await.unwrap();
        assert!(matches!(waiters.join(key("a")), Joined::First(_)), "a later call starts anew");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_reply_is_looked_for_at_1_2_4_s_and_before_giving_up() {
        let waiters = Arc::new(Waiters::default());
        let (looks, mut asked) = mpsc::channel(10);
        let command = CommandId::fresh();
        let mut listener = waiters.listen(command);
        let started = Instant::now();
        let waits = tokio::spawn(async move { listener.until(started + Duration::from_secs(8), &looks).await });
        let mut at = Vec::new();
        while asked.recv().await.is_some() {
            at.push(started.elapsed().as_millis());
        }
        assert_eq!(at, [1000, 2000, 4000, 7600]);
        assert_eq!(waits.await.unwrap(), None);
        assert!(waiters.waiting().is_empty());
    }

    #[tokio::test]
    async fn an_outcome_that_comes_before_the_wait_is_not_missed() {
        let waiters = Arc::new(Waiters::default());
        let (looks, _asked) = mpsc::channel(1);
        let command = CommandId::fresh();
        let mut listener = waiters.listen(command);
        assert!(waiters.outcome(command, Outcome::refused(Refusal::AlreadyPaid)));
        let outcome = listener.until(Instant::now() + Duration::from_secs(5), &looks).await;
        assert_eq!(outcome, Some(Outcome::refused(Refusal::AlreadyPaid)));
    }
}
