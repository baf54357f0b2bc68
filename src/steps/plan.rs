//! What a prepay command should do next, decided from the row alone: no IO, so that every case is a line of a table.

use std::time::Duration;

use crate::domain::{
    attempt::{AttemptState, Ticket},
    command::PrepayCommand,
    id::{AttemptNo, CommandId},
    order::{Order, OrderState},
    outcome::Refusal,
    payer::Payer,
    time::Timestamp,
    wallet::Wallet,
};

/// Parameters handed out longer ago than this are not handed out again before the wallet was asked ...
pub const ASK_AFTER: Duration = Duration::from_secs(10);
/// ... and an order's wallet is asked for a phone at most this often.
pub const ASK_AT_MOST_EVERY: Duration = Duration::from_secs(10);

/// What the row alone already answers, before anybody knows who pays. `None`: go on.
pub fn settled(order: &Order, command: &PrepayCommand, now: Timestamp) -> Option<Refusal> {
    // A tag names order and merchant together; a pair that does not exist was never minted by this deployment's data.
    if order.merchant != command.merchant {
        return Some(Refusal::InvalidLink);
    }
    match order.state {
        // First of all: paid is told whatever the link's age or generation.
        OrderState::Paid { .. } if order.is_refunded_in_full() => return Some(Refusal::Refunded),
        OrderState::Paid { .. } => return Some(Refusal::AlreadyPaid),
        OrderState::Closed { .. } => return Some(Refusal::ClosedOrExpired),
        OrderState::Waiting | OrderState::Open if order.is_closing() => return Some(Refusal::ClosedOrExpired),
        OrderState::Waiting | OrderState::Open => {}
    }
    if command.generation != order.link_generation || order.mini_program(command.wallet).is_none() {
        return Some(Refusal::InvalidLink);
    }
    if order.expire_at.since(now) < Order::LAST_PREPAY {
        return Some(Refusal::ClosedOrExpired);
    }
    if order.is_disputed() {
        return Some(Refusal::OrderRefused);
    }
    None
}

/// What to do about this payer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Another command holds the order.
    Wait,
    /// Open a number.
    Start(AttemptNo),
    /// Hand the ticket out again, signed anew; no wallet is called.
    HandOut(AttemptNo, Ticket),
    /// Ask the wallet, then hand the ticket out again if it is still unpaid.
    AskThenHandOut(AttemptNo, Ticket),
    /// Ask the wallet, then send the frozen bytes again: nothing that could be handed out is at hand.
    AskThenSend(AttemptNo),
    /// Somebody else's number, or another wallet's: make it unpayable first.
    Retire(AttemptNo),
    Refuse(Refusal),
}

/// Who asks, and where they want to pay.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    pub command: CommandId,
    pub wallet: Wallet,
    pub payer: &'a Payer,
}

/// The next step for `asker`, whose order [`settled`] did not answer.
pub fn plan(order: &Order, asker: Asker<'_>, now: Timestamp) -> Plan {
    let Some(attempt) = order.payable_attempt() else {
        if order.leased_to_another(asker.command, now) {
            return Plan::Wait;
        }
        return match order.next_attempt_no().filter(|_| order.may_start_another(now)) {
            Some(next) => Plan::Start(next),
            None => Plan::Refuse(Refusal::TooOften),
        };
    };
    let same_payer = attempt.wallet == asker.wallet && attempt.payer == *asker.payer;
    let ticket = match &attempt.state {
        AttemptState::Open { ticket, ticket_at } if now.since(*ticket_at) < Ticket::REUSED_FOR => Some(ticket.clone()),
        _ => None,
    };
    match ticket {
        Some(ticket) if same_payer => {
            let fresh = attempt.handed_out_at.is_some_and(|at| now.since(at) <= ASK_AFTER);
            let asked = order.asked_at.is_some_and(|at| now.since(at) <= ASK_AT_MOST_EVERY);
            if fresh || asked || order.leased_to_another(asker.command, now) {
                // The same number and the same payer: however often it is handed out, it is paid once.
                Plan::HandOut(attempt.no, ticket)
            } else {
                Plan::AskThenHandOut(attempt.no, ticket)
            }
        }
        _ if order.leased_to_another(asker.command, now) => Plan::Wait,
        _ if same_payer => Plan::AskThenSend(attempt.no),
        // Nobody's number is closed for one that could not be opened.
        _ if order.recent_payer_changes(now) >= Order::PAYER_CHANGES_MAX || !order.may_start_another(now) => {
            Plan::Refuse(Refusal::TooOften)
        }
        _ => Plan::Retire(attempt.no),
    }
}
