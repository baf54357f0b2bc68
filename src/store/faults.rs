//! A store that fails when a test wants it to: work that is not done, or is done and nobody hears of it.

use std::sync::Arc;

use super::{
    error::{Cause, StoreError},
    pool::Store,
};

/// What goes wrong with one piece of database work, a statement or a whole transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreFault {
    /// It is not begun.
    NotDone,
    /// It is done, and committed; its caller hears [`StoreError::Unavailable`].
    NotTold,
}

/// Asked once for each piece of work.
pub type StoreFaults = Arc<dyn Fn() -> Option<StoreFault> + Send + Sync>;

impl Store {
    /// The same database as a caller sees it whose connection breaks as `faults` says. Set by tests alone; other handles of this
    /// store are as they were.
    #[must_use]
    pub fn failing(&self, faults: StoreFaults) -> Self {
        Self { faults: Some(faults), ..self.clone() }
    }

    pub(in crate::store) fn fault(&self) -> Option<StoreFault> {
        self.faults.as_ref().and_then(|faults| faults())
    }
}

impl StoreFault {
    /// What is heard instead of an answer.
    pub(in crate::store) fn unavailable(self) -> StoreError {
        StoreError::Unavailable { cause: Cause::new("the connection broke, as a test wants it") }
    }
}
