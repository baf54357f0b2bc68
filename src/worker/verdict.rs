//! The one place that turns what became of a message into *ack*, *retry in* or *park*.

use std::time::Duration;

use crate::{
    domain::outcome::Outcome,
    steps::{StepError, notice::Noted},
};

/// What is done with a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// What it asked for is committed.
    Ack,
    /// The store failed: the message stays in our hands, nothing further is taken meanwhile.
    RetryIn(Duration),
    /// What is known of the notice's account does not read it, for this reason: it may wait if there is room for that.
    Wait(String),
    /// Set aside for a person, with the reason.
    Park(String),
}

/// A steady gap: the worker holds at most its prefetch, so retries cannot grow into a storm.
pub const STORE_RETRY: Duration = Duration::from_millis(500);

impl Verdict {
    pub fn of_prepay(result: &Result<Outcome, StepError>) -> Self {
        match result {
            Ok(_) => Self::Ack,
            Err(error) => Self::of_error(error),
        }
    }

    pub fn of_notice(result: Result<Noted, StepError>) -> Self {
        match result {
            Ok(Noted::Done) => Self::Ack,
            Ok(Noted::Park(reason)) => Self::Park(reason),
            Ok(Noted::NotYet(reason)) => Self::Wait(reason),
            Err(error) => Self::of_error(&error),
        }
    }

    fn of_error(error: &StepError) -> Self {
        match error {
            StepError::StoreUnavailable(_) | StepError::Contended(_) | StepError::NotYet(_) => {
                Self::RetryIn(STORE_RETRY)
            }
            StepError::Hopeless(reason) => Self::Park(reason.clone()),
        }
    }
}
