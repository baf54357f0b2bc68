//! Seeded simulation: the real steps of worker and scheduler on SQLite in memory, the embedded broker and a model of both
//! wallets, many small histories each from one seed.
//!
//! A seed tells the same history each time, line for line, because whatever decides is rolled from it, because steps are polled
//! one at a time, and because time is our own: see [`gate`] for what is left of "one thread, no paused time".
//!
//! `PREPAY_SIM_HISTORIES=n` tells many more (or fewer); `PREPAY_SIM_SEED=n` tells one again and prints what happened in it,
//! with `PREPAY_SIM_CRASH=actor:wait` when it was one of those in which a single step is dropped.

mod acts;
mod arrivals;
mod deployment;
mod dice;
mod ending;
mod engine;
mod facts;
mod fates;
mod gate;
mod gateway;
mod held_up;
mod history;
mod judge;
mod late;
mod late_money;
mod log;
mod merchant;
mod notices;
mod process;
mod refunds;
mod shops;
mod ticks;
mod unexpected;
mod wallet;

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    ops::Range,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Instant,
};

use self::{
    deployment::Deployment,
    engine::Kind,
    gate::Brake,
    history::{Crashes, History},
    judge::{Pairs, judge},
    notices::Signers,
};

const THREADS: u64 = 2;

/// What was reached.
#[derive(Default)]
struct Reached {
    histories: u64,
    pairs: Pairs,
    crash_points: BTreeSet<(Kind, u32)>,
    /// How often which things happened.
    tally: BTreeMap<&'static str, u64>,
    failed: Vec<String>,
}

impl Reached {
    fn merge(&mut self, other: Self) {
        self.histories += other.histories;
        self.pairs.extend(other.pairs);
        self.crash_points.extend(other.crash_points);
        self.count(other.tally);
        self.failed.extend(other.failed);
    }

    fn count(&mut self, tally: BTreeMap<&'static str, u64>) {
        for (what, count) in tally {
            *self.tally.entry(what).or_default() += count;
        }
    }

    fn print(&self, what: &str, began: Instant) {
        let (elapsed, histories) = (began.elapsed(), self.histories);
        let each_s = histories as f64 / elapsed.as_secs_f64();
        eprintln!(
            "{histories} {what} in {elapsed:.1?} ({each_s:.0} a second): {} pairs of state and event, {} crash points",
            self.pairs.len(),
            self.crash_points.len()
        );
        for kind in Kind::MORTAL {
            let waits = self.crash_points.iter().filter(|(of, _)| *of == kind).count();
            eprintln!("  {kind:?} dropped at {waits} different waits");
        }
        let pairs: Vec<String> = self.pairs.iter().map(|(state, event)| format!("{state}×{event}")).collect();
        eprintln!("  {}", pairs.join(" "));
        for (what, count) in &self.tally {
            eprintln!("  {count} {what}");
        }
    }
}

/// Prints how to tell the history again when a step panics in the middle of it.
struct Telling(u64, Crashes);

impl Drop for Telling {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("panicked: {}", again(self.0, self.1));
        }
    }
}

fn again(seed: u64, crashes: Crashes) -> String {
    let crash = match crashes {
        Crashes::Rolled => String::new(),
        Crashes::None => "PREPAY_SIM_CRASH=none ".to_owned(),
        Crashes::One { actor, at } => format!("PREPAY_SIM_CRASH={actor}:{at} "),
    };
    format!("PREPAY_SIM_SEED={seed} {crash}tests/run told_again_it_is_the_same_history")
}

/// Tells one history.
async fn tell(place: &Place, seed: u64, crashes: Crashes, logged: bool, reached: &mut Reached) -> Told {
    let telling = Telling(seed, crashes);
    let mut history = History::new(&place.deployment, &place.signers, seed, crashes, logged).await;
    history.run().await;
    let (broken, pairs) = judge(&history).await;
    reached.count(std::mem::take(&mut history.wallets.books().tally));
    let log = history.wallets.books().log.take().unwrap_or_default();
    reached.histories += 1;
    reached.pairs.extend(pairs);
    reached.crash_points.append(&mut history.crash_points);
    if !broken.is_empty() {
        reached.failed.push(format!("{}\n  {}", again(seed, crashes), broken.join("\n  ")));
    }
    drop(telling);
    Told { waits: std::mem::take(&mut history.waits), log }
}

/// What the histories of one thread are told on.
struct Place {
    deployment: Deployment,
    signers: Signers,
    _brake: Brake,
}

impl Place {
    /// A database of its own for each thread, its timers ours from then on.
    async fn new(thread: u64) -> Self {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let name = format!("simulation-{thread}-{}", COUNTER.fetch_add(1, Ordering::Relaxed));
        Self { deployment: Deployment::new(&name).await, signers: Signers::new(), _brake: Brake::pull().await }
    }
}

/// How often each of a history's actors waited, and what happened in it, when it was to be noted.
struct Told {
    waits: Vec<u32>,
    log: Vec<String>,
}

fn histories(default: u64) -> u64 {
    env::var("PREPAY_SIM_HISTORIES").map_or(default, |text| text.parse().expect("a number of histories"))
}

/// `work(thread)` on two threads.
fn on_threads(work: impl Fn(u64) -> Reached + Sync) -> Reached {
    let mut all = Reached::default();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let work = &work;
                scope.spawn(move || work(thread))
            })
            .collect();
        for thread in threads {
            all.merge(thread.join().expect("a history panicked; its seed is printed above"));
        }
    });
    all
}

/// What a whole run comes to at least, and somewhat less than it does: dice that roll something no more must not look like a
/// success. A run of another length may come to anything.
struct Far {
    pairs: usize,
    crash_points: usize,
    /// Waits at which each kind of step was dropped.
    waits: usize,
    happened: &'static [&'static str],
}

impl Far {
    fn assert(&self, reached: &Reached) {
        if env::var_os("PREPAY_SIM_HISTORIES").is_some() {
            return;
        }
        let (pairs, points) = (reached.pairs.len(), reached.crash_points.len());
        assert!(pairs >= self.pairs && points >= self.crash_points, "{pairs} pairs, {points} crash points");
        for kind in Kind::MORTAL {
            let waits = reached.crash_points.iter().filter(|(of, _)| *of == kind).count();
            assert!(waits >= self.waits, "{kind:?} was dropped at {waits} waits");
        }
        for what in self.happened {
            assert!(reached.tally.contains_key(what), "there were no {what}");
        }
    }
}

fn assert_kept(reached: &Reached) {
    let failed: Vec<&str> = reached.failed.iter().take(5).map(String::as_str).collect();
    assert!(failed.is_empty(), "{} histories broke a promise:\n{}", reached.failed.len(), failed.join("\n"));
}

#[test]
fn no_history_loses_money_or_lets_it_be_paid_twice() {
    let (began, all, stop) = (Instant::now(), histories(9_000), AtomicBool::new(false));
    let reached = on_threads(|thread| {
        gate::runtime().block_on(async {
            let place = Place::new(thread).await;
            let mut reached = Reached::default();
            for seed in (0..all).filter(|seed| seed % THREADS == thread) {
                tell(&place, seed, Crashes::Rolled, false, &mut reached).await;
                if reached.failed.len() >= 3 {
                    stop.store(true, Ordering::Relaxed);
                }
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
            reached
        })
    });
    reached.print("histories", began);
    assert_kept(&reached);
    let happened = &[
        "deliveries heard and not taken",
        "disputed payments that a person let go",
        "late copies of refunds that were made before",
        "late payments given back",
        "late payments kept",
        "late payments left to a person",
        "refunds made by a late copy",
        "refunds without balance",
        "restarts beside the queue",
        "restarts without the queue",
        "second payments given back",
        "second payments kept",
        "second payments left to a person",
        "sends of refunds doubled",
        "sends of refunds whose answers are lost",
        "store failures after the work",
        "store failures before the work",
        "times that a bill named a payment first",
    ];
    Far { pairs: 30, crash_points: 120, waits: 4, happened }.assert(&reached);
}

#[test]
fn every_step_may_be_dropped_at_every_wait() {
    let (began, all) = (Instant::now(), histories(9_000) / 9);
    let reached = on_threads(|thread| {
        gate::runtime().block_on(async {
            let place = Place::new(thread).await;
            let mut reached = Reached::default();
            // Seeds of their own, each told once whole, then once for every wait of every step.
            let mut seed = 1_000_000 + thread;
            while reached.histories < all / THREADS && reached.failed.len() < 3 {
                let waits = tell(&place, seed, Crashes::None, false, &mut reached).await.waits;
                for (actor, at) in
                    waits.iter().enumerate().flat_map(|(actor, waits)| (1..=*waits).map(move |at| (actor, at)))
                {
                    tell(&place, seed, Crashes::One { actor, at }, false, &mut reached).await;
                    if reached.failed.len() >= 3 {
                        break;
                    }
                }
                seed += THREADS;
            }
            reached
        })
    });
    reached.print("histories with one step dropped", began);
    assert_kept(&reached);
    let happened =
        &["late payments", "late payments given back", "second payments given back", "refunds made by a late copy"];
    Far { pairs: 20, crash_points: 85, waits: 1, happened }.assert(&reached);
}

/// One history, as `PREPAY_SIM_SEED` and `PREPAY_SIM_CRASH` name it, printed; without them, that the same seed twice is the same
/// history, every line of it.
#[test]
fn told_again_it_is_the_same_history() {
    let crashes = match env::var("PREPAY_SIM_CRASH").as_deref() {
        Err(_) => Crashes::Rolled,
        Ok("none") => Crashes::None,
        Ok(text) => {
            let (actor, at) = text.split_once(':').expect("actor:wait");
            Crashes::One { actor: actor.parse().unwrap(), at: at.parse().unwrap() }
        }
    };
    let once = |seeds: Range<u64>| {
        gate::runtime().block_on(async {
            let place = Place::new(9).await;
            let (mut reached, mut told) = (Reached::default(), Vec::new());
            for seed in seeds {
                told.push(tell(&place, seed, crashes, true, &mut reached).await);
            }
            (told, reached)
        })
    };
    if let Ok(named) = env::var("PREPAY_SIM_SEED") {
        let seed: u64 = named.parse().expect("a seed");
        let (told, reached) = once(seed..seed + 1);
        for line in told.into_iter().flat_map(|told| told.log) {
            eprintln!("{line}");
        }
        return assert_kept(&reached);
    }
    let (first, second) = (once(0..40), once(0..40));
    assert_kept(&first.1);
    for (seed, (told, again)) in first.0.iter().zip(&second.0).enumerate() {
        let (told_log, again_log) = (log::comparable(&told.log), log::comparable(&again.log));
        let differs = told_log.iter().zip(&again_log).find(|(line, again)| line != again);
        assert_eq!(differs, None, "history {seed} is not the same when it is told again");
        assert_eq!((told_log.len(), &told.waits), (again_log.len(), &again.waits), "history {seed}");
        assert!(told_log.len() > 20, "history {seed} says next to nothing");
    }
    assert_eq!(first.1.pairs, second.1.pairs);
}
