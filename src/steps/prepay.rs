//! One prepay command, from the queue to its outcome.
//!
//! Any await may be the last. What was committed before it is picked up by the command's own redelivery, by the next command
//! of the order, or by the scheduler's questions; what was sent and not committed is asked for under the same number.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{
    Change, StepError, Steps,
    budget::Permit,
    hold::{Held, Rooms},
    plan::{self, Asker, Plan},
    query::Answer,
    registry::Channel,
};
use crate::{
    domain::{
        account::MiniProgram,
        attempt::{Attempt, AttemptState, Retirement, Ticket, ask_again_in},
        command::PrepayCommand,
        id::{AttemptNo, MiniProgramId},
        money::Sum,
        order::{Order, OrderEvent, OrderState},
        outcome::{Outcome, Refusal},
        payer::Payer,
        time::Timestamp,
    },
    gateway::{GatewayError, PrepayAsk, Refused},
};

/// Decisions in a row that found the order changed under them; past it the phone asks again.
const ROUNDS_MAX: usize = 12;
/// How often a waiting command looks whether the order is free.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What one look at the order came to.
pub(super) enum Round {
    Done(Outcome),
    /// The order moved: decide again.
    Again,
}

impl Steps {
    /// Brings a command to its outcome, stored under its id. A redelivery of a settled command answers the stored outcome.
    ///
    /// Errors: [`StepError`]; the message is kept and comes again, or is parked.
    pub async fn prepay(&self, command: &PrepayCommand) -> Result<Outcome, StepError> {
        self.prepay_again(command, &AtomicBool::new(false)).await
    }

    /// As [`Steps::prepay`], for whoever tries again after an error: `wallet_called` goes from try to try. Without it a try that
    /// comes when the lease of the one before is over would tell the phone that nothing was done.
    ///
    /// Errors: as [`Steps::prepay`].
    pub async fn prepay_again(
        &self,
        command: &PrepayCommand,
        wallet_called: &AtomicBool,
    ) -> Result<Outcome, StepError> {
        let run = Run {
            steps: self,
            command,
            waiting_since: self.now(),
            wallet_called,
            freed: AtomicBool::new(false),
            rooms: Rooms::default(),
        };
        run.to_outcome().await
    }
}

impl Steps {
    /// A mini-program and its channel; one that was enrolled a moment ago is read from the store at once.
    async fn enrolled(&self, program: Option<MiniProgramId>) -> Option<(MiniProgram, Arc<Channel>)> {
        let known = self.registry.mini_program(program?);
        if known.is_some() {
            return known;
        }
        if let Err(error) = self.registry.reload().await {
            tracing::warn!(%error, "channel accounts cannot be read");
        }
        self.registry.mini_program(program?)
    }
}

/// A command on its way.
pub(super) struct Run<'a> {
    pub steps: &'a Steps,
    pub command: &'a PrepayCommand,
    waiting_since: Timestamp,
    /// Whether a wallet may have been called for this command, in this life or an earlier one: then nothing may be told that
    /// means "nothing was done".
    pub(super) wallet_called: &'a AtomicBool,
    /// The commit that ended it freed the order too.
    freed: AtomicBool,
    /// The places taken at channel accounts, kept to the command's end: whoever was let in is not turned away half-way.
    pub(super) rooms: Rooms,
}

impl Run<'_> {
    async fn to_outcome(&self) -> Result<Outcome, StepError> {
        for _ in 0..ROUNDS_MAX {
            // In every round: a double of this command may run beside us, and its outcome may be what moved the order.
            if let Some(stored) = self.steps.store.outcome(self.command.id).await? {
                // An earlier life of it, or ours beside a double's, may have left the order taken: nobody else would free it.
                if !self.freed.load(Ordering::Relaxed) {
                    self.free().await?;
                }
                return Ok(stored);
            }
            if let Round::Done(outcome) = self.round().await? {
                return Ok(outcome);
            }
        }
        self.settle(Outcome::Processing).await
    }

    async fn round(&self) -> Result<Round, StepError> {
        let now = self.steps.now();
        let Some(order) = self.steps.order(self.command.order).await? else {
            return self.refuse(Refusal::InvalidLink).await;
        };
        if self.holds_lease(&order) {
            self.calls_wallet();
        }
        // Before the deadline: what an earlier life or a notice settled is told however late.
        if let Some(refusal) = plan::settled(&order, self.command, now) {
            return self.refuse(refusal).await;
        }
        if self.overdue() {
            return self.nothing_done(Outcome::Expired).await;
        }
        let program = order.mini_program(self.command.wallet);
        let Some((mini_program, channel)) = self.steps.enrolled(program).await else {
            tracing::error!(order.id = %order.id, wallet = %self.command.wallet, "the order's mini-program or channel account is not enrolled any more");
            return self.refuse(Refusal::InternalError).await;
        };
        let payer = match self.payer(&order, &mini_program, &channel).await? {
            Ok(payer) => payer,
            Err(outcome) => return Ok(Round::Done(outcome)),
        };
        // The exchange may have taken seconds; what somebody else committed meanwhile is seen at the latest by our commit.
        let now = self.steps.now();
        if let Some(refusal) = plan::settled(&order, self.command, now) {
            return self.refuse(refusal).await;
        }
        let asker = Asker { command: self.command.id, wallet: self.command.wallet, payer: &payer };
        match plan::plan(&order, asker, now) {
            Plan::Wait => self.wait_for_other().await,
            Plan::Refuse(refusal) => self.refuse(refusal).await,
            Plan::HandOut(attempt, ticket) => self.hand_out(&order, attempt, &ticket).await,
            Plan::Start(attempt) => self.start(&order, attempt, payer, &mini_program, &channel).await,
            Plan::AskThenHandOut(attempt, ticket) => self.ask_then_hand_out(&order, attempt, &ticket).await,
            Plan::AskThenSend(attempt) => self.ask_then_send(&order, attempt).await,
            Plan::Retire(attempt) => self.retire(&order, attempt).await,
        }
    }

    /// Another command holds the order: look again for two seconds in all, then let the phone ask again.
    async fn wait_for_other(&self) -> Result<Round, StepError> {
        self.rooms.leave();
        while self.steps.now().since(self.waiting_since) < self.steps.settings.wait_for_other {
            tokio::time::sleep(LOOK_AGAIN).await;
            let order = self.steps.order(self.command.order).await?;
            if order.is_none_or(|order| !order.leased_to_another(self.command.id, self.steps.now())) {
                return Ok(Round::Again);
            }
        }
        self.settle_done(Outcome::Processing).await
    }

    /// A new number: bytes frozen and send recorded in one commit, then sent.
    async fn start(
        &self,
        order: &Order,
        no: AttemptNo,
        payer: Payer,
        mini_program: &MiniProgram,
        channel: &Arc<Channel>,
    ) -> Result<Round, StepError> {
        if !channel.account.enabled {
            tracing::warn!(account = %channel.account.id, "the channel account is disabled: no number is opened");
            return self.refuse(Refusal::OrderRefused).await;
        }
        let now = self.steps.now();
        let gateway = match channel.gateway() {
            Ok(gateway) => gateway,
            Err(reason) => {
                tracing::error!(account = %channel.account.id, reason, "the channel account cannot be used");
                return self.refuse(Refusal::InternalError).await;
            }
        };
        let ask = PrepayAsk {
            out_trade_no: order.out_trade_no(no),
            amount: order.amount,
            good_name: order.good_name.clone(),
            good_no: order.good_no.clone(),
            app_id: mini_program.app_id.clone(),
            payer: payer.clone(),
            payer_ip: self.command.payer_ip,
            expire_at: order.expire_at,
            notify_url: self.steps.notify_url(channel),
        };
        let frozen = match gateway.freeze(&ask) {
            Ok(frozen) => frozen,
            Err(reason) => {
                tracing::warn!(order.id = %order.id, reason, "the order cannot be put to the wallet");
                return self.refuse(Refusal::OrderRefused).await;
            }
        };
        let permit = match self.room(channel) {
            Ok(permit) => permit,
            Err(no_room) => return self.busy(no_room.retry_in).await,
        };
        let attempt = Attempt {
            no,
            wallet: self.command.wallet,
            account: channel.account.id,
            mini_program: mini_program.id,
            app_id: mini_program.app_id.clone(),
            payer,
            frozen,
            state: AttemptState::Sent,
            started_at: now,
            sends: 1,
            refusals: 0,
            handed_out_at: None,
            next_query_at: Some(now.plus(ask_again_in(0))),
            queries: 0,
            refunded: Sum::NOTHING,
        };
        let started = OrderEvent::AttemptStarted {
            attempt: Box::new(attempt),
            command: self.command.id,
            lease_until: self.lease_until(now),
        };
        match self.steps.change(order, [started], None).await? {
            Change::Stale => Ok(Round::Again),
            Change::Done(order) => {
                self.calls_wallet();
                self.send(&order, no, channel, &permit).await
            }
        }
    }

    /// Sends the frozen bytes, whose send is recorded, and settles what the wallet answers.
    pub(super) async fn send(
        &self,
        order: &Order,
        no: AttemptNo,
        channel: &Arc<Channel>,
        permit: &Permit,
    ) -> Result<Round, StepError> {
        let Some(attempt) = order.attempt(no) else { return Ok(Round::Again) };
        match self.steps.send_frozen(order, attempt, channel, permit).await {
            Ok(ticket) => self.issue(order, no, ticket, channel).await,
            Err(GatewayError::Refused { why, code, .. }) => {
                tracing::warn!(out_trade_no = %order.out_trade_no(no), code, ?why, "the wallet refused the prepay");
                self.refused_by_wallet(order, no, why, channel, permit).await
            }
            Err(GatewayError::AskFirst { code, .. }) => {
                tracing::info!(out_trade_no = %order.out_trade_no(no), code, "the wallet points at the number's state");
                self.ask_after_send(order, no, channel, permit, true).await
            }
            Err(GatewayError::Unknown { cause, .. }) => {
                tracing::warn!(out_trade_no = %order.out_trade_no(no), cause, "the prepay's outcome is unknown");
                self.ask_after_send(order, no, channel, permit, false).await
            }
            Err(GatewayError::Busy { code, .. }) => {
                tracing::warn!(out_trade_no = %order.out_trade_no(no), code, "the wallet is busy");
                // Not executed: this send made nothing.
                let recorded =
                    self.steps.record(order.id, || vec![OrderEvent::SendRefused { attempt: no }], None).await?;
                let Some(order) = recorded else { return Ok(Round::Again) };
                self.leave_open(&order, Outcome::Processing).await
            }
        }
    }

    /// The ticket is a fact: it is kept however often somebody else is first, and handed out in the same commit.
    async fn issue(
        &self,
        order: &Order,
        no: AttemptNo,
        ticket: Ticket,
        channel: &Arc<Channel>,
    ) -> Result<Round, StepError> {
        let Some((attempt, gateway)) = order.attempt(no).zip(channel.gateway().ok()) else { return Ok(Round::Again) };
        let handed = attempt.ticket_to_keep(&ticket).unwrap_or(&ticket);
        let params = gateway.pay_params(&attempt.app_id, handed, self.steps.now());
        let outcome = Outcome::Ready { params };
        let issued = || OrderEvent::TicketIssued { attempt: no, ticket: ticket.clone() };
        let events = || vec![issued(), OrderEvent::HandedOut { attempt: no }, self.lease_released()];
        match self.steps.record(order.id, events, Some((self.command.id, &outcome))).await? {
            Some(order) => self.freed.store(!self.holds_lease(&order), Ordering::Relaxed),
            // Paid or disputed meanwhile: the ticket is kept as a fact, and nobody is handed it.
            None => drop(self.steps.record(order.id, || vec![issued()], None).await?),
        }
        // The row gives the answer: ours, or the one that somebody else settled this command with.
        Ok(Round::Again)
    }

    /// The wallet refused outright. The number is dead only if the wallet does not know it either.
    async fn refused_by_wallet(
        &self,
        order: &Order,
        no: AttemptNo,
        why: Refused,
        channel: &Arc<Channel>,
        permit: &Permit,
    ) -> Result<Round, StepError> {
        let outcome = Outcome::refused(match why {
            Refused::Order => Refusal::OrderRefused,
            Refused::Identity => Refusal::LoginExpired,
            // No prepay is refused for want of a balance.
            Refused::Configuration | Refused::NotEnough => Refusal::InternalError,
        });
        let recorded = self.steps.record(order.id, || vec![OrderEvent::SendRefused { attempt: no }], None).await?;
        // Paid by another number meanwhile: the row gives the answer.
        let Some(order) = recorded.filter(|order| order.state == OrderState::Open) else { return Ok(Round::Again) };
        match self.steps.ask(&order, no, channel, permit).await? {
            Answer::NotExist(order) => {
                let retired = OrderEvent::AttemptRetired { attempt: no, how: Retirement::Refused };
                let events = [retired, self.lease_released()];
                match self.steps.change(&order, events, Some((self.command.id, &outcome))).await? {
                    Change::Done(_) => Ok(Round::Done(outcome)),
                    // An earlier send of these bytes was not refused: the number stays, the phone hears the refusal.
                    Change::Stale => self.leave_open(&order, outcome).await,
                }
            }
            Answer::Settled => Ok(Round::Again),
            Answer::Unpaid(order) | Answer::Unknown { order, .. } => self.leave_open(&order, outcome).await,
        }
    }

    /// The send did not tell: ask the wallet before anything else, and send again only what it does not have.
    async fn ask_after_send(
        &self,
        order: &Order,
        no: AttemptNo,
        channel: &Arc<Channel>,
        permit: &Permit,
        told_to: bool,
    ) -> Result<Round, StepError> {
        match self.steps.ask(order, no, channel, permit).await? {
            Answer::Settled => Ok(Round::Again),
            Answer::Unknown { order, .. } => self.leave_open(&order, Outcome::Processing).await,
            // The number is taken, by a send that this row does not know (a restore from backup): it is closed, and the next
            // number is opened.
            Answer::Unpaid(order) if told_to => {
                if !self.overdue()
                    && order.may_start_another(self.steps.now())
                    && self.steps.close_number(&order, no, channel, permit).await?
                {
                    return Ok(Round::Again);
                }
                self.leave_open(&order, Outcome::Processing).await
            }
            // The wallet pointed at a state and then knows nothing. The next try may tell; one after the other that does not is
            // a refusal in words that we cannot read.
            Answer::NotExist(order) if told_to && (self.overdue() || self.has_time_to_send(&order, no)) => {
                self.leave_open(&order, Outcome::Processing).await
            }
            Answer::NotExist(order) if told_to => {
                tracing::error!(out_trade_no = %order.out_trade_no(no), "the wallet refuses the prepay and does not know the number");
                self.leave_open(&order, Outcome::refused(Refusal::OrderRefused)).await
            }
            Answer::NotExist(order) | Answer::Unpaid(order) if !self.has_time_to_send(&order, no) => {
                self.leave_open(&order, Outcome::Processing).await
            }
            Answer::NotExist(order) | Answer::Unpaid(order) => self.send_again(&order, no, channel, permit).await,
        }
    }

    /// The same bytes under the same number once more, its send recorded first.
    pub(super) async fn send_again(
        &self,
        order: &Order,
        no: AttemptNo,
        channel: &Arc<Channel>,
        permit: &Permit,
    ) -> Result<Round, StepError> {
        if self.overdue() {
            return self.leave_open(order, Outcome::Processing).await;
        }
        match self.steps.change(order, [OrderEvent::SentAgain { attempt: no }], None).await? {
            Change::Stale => Ok(Round::Again),
            Change::Done(order) => Box::pin(self.send(&order, no, channel, permit)).await,
        }
    }

    /// At most three sends before the phone has to ask again, and none past the deadline.
    fn has_time_to_send(&self, order: &Order, no: AttemptNo) -> bool {
        const SENDS_MAX: u32 = 3;
        !self.overdue() && order.attempt(no).is_some_and(|attempt| attempt.sends < SENDS_MAX)
    }

    pub(super) fn overdue(&self) -> bool {
        self.steps.now() > self.command.not_after
    }

    pub(super) fn calls_wallet(&self) {
        self.wallet_called.store(true, Ordering::Relaxed);
    }

    async fn ask_then_hand_out(&self, order: &Order, no: AttemptNo, ticket: &Ticket) -> Result<Round, StepError> {
        let Some(channel) = self.channel_of(order, no) else { return self.refuse(Refusal::InternalError).await };
        let now = self.steps.now();
        let Ok(permit) = self.room(&channel) else {
            // The wallet cannot be asked right now; the same payer's same number is paid once all the same.
            return self.hand_out(order, no, ticket).await;
        };
        let leased = [self.lease(now), OrderEvent::WalletAsked];
        let Change::Done(order) = self.steps.change(order, leased, None).await? else { return Ok(Round::Again) };
        self.calls_wallet();
        match self.steps.ask(&order, no, &channel, &permit).await? {
            Answer::Settled => Ok(Round::Again),
            Answer::NotExist(order) => self.send_again(&order, no, &channel, &permit).await,
            Answer::Unpaid(order) | Answer::Unknown { order, .. } => self.hand_out(&order, no, ticket).await,
        }
    }

    async fn ask_then_send(&self, order: &Order, no: AttemptNo) -> Result<Round, StepError> {
        let Held { order, channel, permit } = match self.hold(order, no).await? {
            Ok(held) => held,
            Err(round) => return Ok(round),
        };
        match self.steps.ask(&order, no, &channel, &permit).await? {
            Answer::Settled => Ok(Round::Again),
            Answer::Unknown { order, .. } => self.leave_open(&order, Outcome::Processing).await,
            Answer::NotExist(order) | Answer::Unpaid(order) => self.send_again(&order, no, &channel, &permit).await,
        }
    }

    /// The ticket again, signed anew.
    async fn hand_out(&self, order: &Order, no: AttemptNo, ticket: &Ticket) -> Result<Round, StepError> {
        let Some(channel) = self.channel_of(order, no) else { return self.refuse(Refusal::InternalError).await };
        let Some((attempt, gateway)) = order.attempt(no).zip(channel.gateway().ok()) else {
            return self.refuse(Refusal::InternalError).await;
        };
        let params = gateway.pay_params(&attempt.app_id, ticket, self.steps.now());
        let outcome = Outcome::Ready { params };
        let events = [OrderEvent::HandedOut { attempt: no }, self.lease_released()];
        match self.steps.change(order, events, Some((self.command.id, &outcome))).await? {
            Change::Done(_) => Ok(Round::Done(outcome)),
            Change::Stale => Ok(Round::Again),
        }
    }
}
