//! Who runs, decided by dice: steps are polled by hand, one at a time, and dropped wherever a history says.
//!
//! The runtime has one thread for tasks and one for store work, in order. That one is held by a [`Gate`] while a step is polled,
//! so that a step always waits for the store and never finds its work done already. Then the gate opens until everything
//! asked for is done. A step that still is not ready waits for time, and time is ours: tokio's timers are paused, and moved
//! with the clock of the history and not otherwise.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    task::{Context, Wake, Waker},
    time::Duration,
};

use prepay::domain::id::CommandId;

use super::wallet::Wallets;

/// What runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Command,
    Notice,
    Question,
    Sweep,
    Refund,
    /// What a policy makes of unexpected money.
    Policy,
    /// The front's part of a notice: never dropped by us.
    Tell,
    Merchant,
}

struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

pub struct Actor {
    pub kind: Kind,
    /// The how many-th of its history.
    pub number: usize,
    pub pendings: u32,
    /// Dropped after so many waits.
    pub dies_at: Option<u32>,
    pub command: Option<CommandId>,
    bell: Arc<Bell>,
    step: Pin<Box<dyn Future<Output = ()>>>,
}

impl Actor {
    pub fn new(
        kind: Kind,
        number: usize,
        command: Option<CommandId>,
        step: impl Future<Output = ()> + 'static,
    ) -> Self {
        let bell = Arc::new(Bell(AtomicBool::new(true)));
        Self { kind, number, pendings: 0, dies_at: None, command, bell, step: Box::pin(step) }
    }

    pub fn is_ready(&self) -> bool {
        self.bell.0.load(Ordering::SeqCst)
    }

    /// One poll. True: it is over.
    pub async fn turn(&mut self, wallets: &Wallets, gate: &mut Gate) -> bool {
        {
            let mut books = wallets.books();
            (books.caller, books.is_awaited) = (self.command, false);
        }
        self.bell.0.store(false, Ordering::SeqCst);
        let waker = Waker::from(self.bell.clone());
        let is_over = self.step.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        let awaits_wallet = {
            let mut books = wallets.books();
            books.caller = None;
            books.is_awaited
        };
        if !is_over {
            self.pendings += 1;
            if awaits_wallet {
                self.bell.0.store(true, Ordering::SeqCst);
            }
        }
        if is_over || !awaits_wallet {
            gate.settle().await;
        }
        is_over
    }
}

/// Holds the thread of store work.
#[derive(Default)]
pub struct Gate {
    shut: Option<mpsc::Sender<()>>,
}

impl Gate {
    /// Lets store work run as it comes, for whoever looks at the store between two histories.
    pub fn open(&mut self) {
        self.shut = None;
    }

    /// Until the store has done all that it was asked for, by the living and the dead; then nothing more.
    pub async fn settle(&mut self) {
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
    }

    /// Moves every clock there is.
    pub async fn pass(&mut self, wallets: &Wallets, span: Duration) {
        wallets.clock.advance(span);
        tokio::time::advance(span).await;
        self.settle().await;
    }
}

/// One thread for tasks, one for store work. Timers are to be paused once the database is open.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap()
}
