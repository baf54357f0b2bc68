//! How a command ends: its outcome kept under its id, and the order free again.

use std::{sync::atomic::Ordering, time::Duration};

use super::{
    Change, StepError,
    prepay::{Round, Run},
};
use crate::domain::{
    command::Identity,
    order::Order,
    outcome::{Outcome, Refusal},
};

impl Run<'_> {
    /// Nothing more can be done now: the number stays as it is, the scheduler goes on asking.
    pub(super) async fn leave_open(&self, order: &Order, outcome: Outcome) -> Result<Round, StepError> {
        if !self.holds_lease(order) {
            return self.settle_done(outcome).await;
        }
        match self.steps.change(order, [self.lease_released()], Some((self.command.id, &outcome))).await? {
            Change::Done(_) => Ok(Round::Done(outcome)),
            // Somebody moved the order, a payment perhaps: its row may know better.
            Change::Stale => Ok(Round::Again),
        }
    }

    pub(super) async fn refuse(&self, refusal: Refusal) -> Result<Round, StepError> {
        self.settle_done(Outcome::refused(refusal)).await
    }

    pub(super) async fn busy(&self, retry_in: Duration) -> Result<Round, StepError> {
        self.nothing_done(Outcome::busy(retry_in)).await
    }

    /// *Busy* and *expired* tell the phone that nothing was done; after a wallet call the truth is *processing*.
    pub(super) async fn nothing_done(&self, outcome: Outcome) -> Result<Round, StepError> {
        let called = self.wallet_called.load(Ordering::Relaxed) || self.exchanged_before().await?;
        self.settle_done(if called { Outcome::Processing } else { outcome }).await
    }

    /// Whether an earlier life of this command took its code to the wallet: an exchange leaves its row, not a lease.
    async fn exchanged_before(&self) -> Result<bool, StepError> {
        let (steps, command) = (self.steps, self.command);
        let Identity::Code(code) = &command.identity else { return Ok(false) };
        let Some(order) = steps.order(command.order).await? else { return Ok(false) };
        let program = order.mini_program(command.wallet).and_then(|id| steps.registry.mini_program(id));
        let Some((program, _)) = program else { return Ok(false) };
        let Some(hash) = steps.registry.code_hash(&program.app_id, code) else { return Ok(false) };
        Ok(steps.store.began_exchange(&program.app_id, hash, command.id).await?)
    }

    pub(super) async fn settle_done(&self, outcome: Outcome) -> Result<Round, StepError> {
        Ok(Round::Done(self.settle(outcome).await?))
    }

    /// Frees the order if this command, or its earlier life, holds it.
    pub(super) async fn free(&self) -> Result<(), StepError> {
        let (steps, id) = (self.steps, self.command.order);
        if steps.order(id).await?.is_some_and(|order| self.holds_lease(&order)) {
            steps.record(id, || vec![self.lease_released()], None).await?;
        }
        Ok(())
    }

    /// Keeps an outcome; frees the order if this command, or its earlier life, holds it. Answers the outcome that stands.
    pub(super) async fn settle(&self, outcome: Outcome) -> Result<Outcome, StepError> {
        let (steps, command) = (self.steps, self.command);
        // Somebody else's commit makes ours stale and leaves the lease ours: again, until it is free.
        const ROUNDS: usize = 20;
        for _ in 0..ROUNDS {
            let held = steps.order(command.order).await?.filter(|order| self.holds_lease(order));
            let Some(order) = held else {
                return Ok(steps.store.put_outcome(command.id, command.order, &outcome, steps.now()).await?);
            };
            if let Some(stored) = steps.store.outcome(command.id).await? {
                steps.record(order.id, || vec![self.lease_released()], None).await?;
                return Ok(stored);
            }
            let settled = steps.change(&order, [self.lease_released()], Some((command.id, &outcome))).await?;
            if matches!(settled, Change::Done(_)) {
                return Ok(outcome);
            }
        }
        Err(StepError::Contended(command.order))
    }
}
