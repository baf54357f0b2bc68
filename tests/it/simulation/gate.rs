//! When store work runs, and when time passes: both when a history says so, and at no other moment.
//!
//! SQLite's thread. sqlx gives each connection a thread of its own, so a history is told by three threads: the runtime's one for
//! tasks, its one for store work, and the connection's. They never work beside each other: a step is polled while the
//! [`Gate`] holds the thread of store work, and everybody waits while the gate is open.
//!
//! Time. tokio's clock is paused so that our own clock moves its timers, too. What makes a paused clock dangerous, that tokio moves
//! it by itself whenever its tasks wait for another thread, is switched off by a [`Brake`]. That both clocks tell the same is
//! compared at every step.

use std::{sync::mpsc, time::Duration};

use tokio::time::Instant;

use super::{deployment::BEGINS, wallet::Wallets};

/// tokio moves a paused clock only while no blocking task is under way ([`tokio::time::pause`], "Preventing auto-advance"). One
/// is, until this is dropped.
pub struct Brake {
    _held: mpsc::Sender<()>,
}

impl Brake {
    /// From here on time passes by [`Gate::pass`] alone.
    pub async fn pull() -> Self {
        let (held, until_dropped) = mpsc::channel::<()>();
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        tokio::task::spawn_blocking(move || {
            let _ = begun.send(());
            // An error: the brake is let go.
            let _ = until_dropped.recv();
        });
        has_begun.await.unwrap();
        tokio::time::pause();
        Self { _held: held }
    }
}

/// Holds the thread of store work.
pub struct Gate {
    shut: Option<mpsc::Sender<()>>,
    /// When its history began, by tokio's clock.
    began: Instant,
}

impl Gate {
    pub fn new() -> Self {
        Self { shut: None, began: Instant::now() }
    }

    /// Lets store work run as it comes, for whoever looks at the store between two steps.
    pub fn open(&mut self) {
        self.shut = None;
    }

    /// Until the store has done all that it was asked for, by the living and the dead; then nothing more.
    pub async fn settle(&mut self, wallets: &Wallets) {
        let (done, is_done) = tokio::sync::oneshot::channel();
        let (shut, opened) = mpsc::channel::<()>();
        self.shut = Some(shut);
        tokio::task::spawn_blocking(move || {
            let _ = done.send(());
            // An error says that the gate is open.
            let _ = opened.recv();
        });
        is_done.await.unwrap();
        // The runtime's own tasks (the broker's, the pool's) run while we give way.
        for _ in 0..2 {
            tokio::task::yield_now().await;
        }
        let ours = wallets.clock.now().since(BEGINS);
        assert_eq!(self.began.elapsed(), ours, "tokio's clock moved by itself: nothing told by it can be told again");
    }

    /// Moves every clock there is.
    pub async fn pass(&mut self, wallets: &Wallets, span: Duration) {
        wallets.clock.advance(span);
        tokio::time::advance(span).await;
        self.settle(wallets).await;
    }
}

/// One thread for tasks, one for store work, one for the [`Brake`].
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(2).build().unwrap()
}
