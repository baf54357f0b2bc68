//! Who runs, decided by dice: steps are polled by hand, one at a time, and dropped wherever a history says.
//!
//! Store work is done by one thread, in order. It is held by a [`Gate`] while a step is polled, so that a step always waits for
//! the store and never finds its work done already. Then the gate opens until everything asked for is done. A step that still
//! is not ready waits for time, and time is ours.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake, Waker},
};

use prepay::domain::id::CommandId;

use super::{gate::Gate, wallet::Wallets};

/// What runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Command,
    Notice,
    Question,
    Sweep,
    Refund,
    /// A question about what a bill brought to light.
    Bill,
    /// What a policy makes of unexpected money.
    Policy,
    /// An event to its merchant.
    Delivery,
    /// Endpoints are paused, resumed, given up.
    Tending,
    /// The front's part of a notice: never dropped by us.
    Tell,
    Merchant,
}

impl Kind {
    /// Steps of worker and scheduler, dropped wherever a history says.
    pub const MORTAL: [Self; 9] = [
        Self::Command,
        Self::Notice,
        Self::Question,
        Self::Sweep,
        Self::Refund,
        Self::Bill,
        Self::Policy,
        Self::Delivery,
        Self::Tending,
    ];
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
            (books.actor, books.keeps_news) = (Some(self.number), self.kind == Kind::Notice);
        }
        self.bell.0.store(false, Ordering::SeqCst);
        let waker = Waker::from(self.bell.clone());
        let is_over = self.step.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        let awaits_wallet = {
            let mut books = wallets.books();
            (books.caller, books.actor) = (None, None);
            books.is_awaited
        };
        if !is_over {
            self.pendings += 1;
            if awaits_wallet {
                self.bell.0.store(true, Ordering::SeqCst);
            }
        }
        if is_over || !awaits_wallet {
            gate.settle(wallets).await;
        }
        is_over
    }
}
