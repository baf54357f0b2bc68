//! The one door through which an order changes.

use super::{
    Anomaly, AnomalyKind, Asked, Decision, Handled, Lease, Moved, NotAllowed, Order, OrderEvent, OrderState, Step,
    Write,
};
use crate::domain::{
    attempt::{Attempt, AttemptState, NotTakeable, Payment, Retirement, ask_again_in},
    id::AttemptNo,
    time::Timestamp,
};

impl Order {
    /// The one door for change. A repeat is [`Step::AlreadyThere`]; the caller commits what moved.
    ///
    /// Errors: [`NotAllowed`]: the caller decided on a state that is no longer so; it loads the order again.
    pub fn apply(&self, event: OrderEvent, now: Timestamp) -> Result<Step, NotAllowed> {
        let name = event.name();
        let refuse = |why| Err(NotAllowed { order: self.id, state: self.state.name(), event: name, why });
        let mut next = self.clone();
        let mut changed = Vec::new();
        let mut anomalies = Vec::new();
        let mut decision = None;

        match event {
            OrderEvent::LeaseTaken { command, until } => {
                if self.leased_to_another(command, now) {
                    return refuse("another command holds the lease");
                }
                next.lease = Some(Lease { command, until });
            }
            OrderEvent::LeaseReleased { command } => {
                // A command that was paused past its lease must not free the one that took over.
                if self.lease.is_none_or(|lease| lease.command != command) {
                    return Ok(Step::AlreadyThere);
                }
                next.lease = None;
            }
            OrderEvent::WalletAsked => next.asked_at = Some(now),
            OrderEvent::AttemptStarted { attempt, command, lease_until } => {
                match self.state {
                    OrderState::Waiting => {}
                    OrderState::Open => return refuse("another number may be payable"),
                    OrderState::Paid { .. } | OrderState::Closed { .. } => return refuse("the order is settled"),
                }
                if self.is_disputed() {
                    return refuse("a disputed payment waits for a person");
                }
                if self.is_closing() {
                    return refuse("its merchant is closing it");
                }
                if self.leased_to_another(command, now) {
                    return refuse("another command holds the lease");
                }
                if self.next_attempt_no() != Some(attempt.no) || attempt.state != AttemptState::Sent {
                    return refuse("the attempt is not the next one");
                }
                changed.push((attempt.no, Write::Insert));
                next.attempts.push(*attempt);
                next.state = OrderState::Open;
                next.lease = Some(Lease { command, until: lease_until });
            }
            OrderEvent::SentAgain { attempt } => {
                let Some(row) = next.attempt_mut(attempt) else { return refuse("no such attempt") };
                if !row.may_be_payable() {
                    return refuse("the number is settled");
                }
                row.sends += 1;
                changed.push((attempt, Write::Update));
            }
            OrderEvent::SendRefused { attempt } => {
                let Some(row) = next.attempt_mut(attempt) else { return refuse("no such attempt") };
                row.refusals = row.sends.min(row.refusals + 1);
                changed.push((attempt, Write::Update));
            }
            OrderEvent::TicketIssued { attempt, ticket } => {
                let Some(row) = next.attempt_mut(attempt) else { return refuse("no such attempt") };
                if !row.may_be_payable() {
                    return refuse("the number is settled");
                }
                let kept = row.ticket_to_keep(&ticket).cloned();
                if let Some(kept) = &kept {
                    let detail = format!("trade_no {} beside {}", ticket.0, kept.0);
                    anomalies.push(Anomaly { attempt, kind: AnomalyKind::SecondTicket, detail });
                }
                row.state = AttemptState::Open { ticket: kept.unwrap_or(ticket), ticket_at: now };
                // Every prepay starts the timetable of questions anew; under a close the number is to be closed now.
                row.queries = 0;
                row.next_query_at = Some(if self.is_closing() { now } else { now.plus(ask_again_in(0)) });
                changed.push((attempt, Write::Reschedule));
            }
            OrderEvent::HandedOut { attempt } => {
                // A payment or a dispute may have come while the wallet was asked for the ticket.
                if self.state != OrderState::Open || self.is_disputed() || self.is_closing() {
                    return refuse("the order is not to be paid with it any more");
                }
                let Some(row) = next.attempt_mut(attempt) else { return refuse("no such attempt") };
                if !matches!(row.state, AttemptState::Open { .. }) {
                    return refuse("there is nothing to hand out");
                }
                row.handed_out_at = Some(now);
                changed.push((attempt, Write::Update));
            }
            OrderEvent::Asked { attempt } => {
                let Some(row) = next.attempt_mut(attempt) else { return refuse("no such attempt") };
                if !row.may_be_payable() {
                    return Ok(Step::AlreadyThere);
                }
                row.queries = row.queries.saturating_add(1);
                row.next_query_at = Some(now.plus(self.ask_again_in(row, Asked::Answered, now)));
                changed.push((attempt, Write::Reschedule));
            }
            OrderEvent::AttemptRetired { attempt, how } => {
                let Some(row) = next.attempt_mut(attempt) else { return refuse("no such attempt") };
                match row.state {
                    AttemptState::Retired { .. } | AttemptState::LetGo { .. } => return Ok(Step::AlreadyThere),
                    // Paid is absorbing, and a dispute waits for a person: neither is undone by a late "closed".
                    AttemptState::Paid { .. } | AttemptState::Disputed { .. } => return refuse("the number was paid"),
                    AttemptState::Sent | AttemptState::Open { .. } => {}
                }
                if how == Retirement::Refused && !row.refused_outright() {
                    return refuse("a send of it was not refused outright");
                }
                row.settle(AttemptState::Retired { how });
                changed.push((attempt, Write::Reschedule));
                if next.state == OrderState::Open && next.payable_attempt().is_none() {
                    next.state = OrderState::Waiting;
                    next.close_if_wanted(now);
                }
            }
            OrderEvent::PaymentConfirmed { attempt, payment } => {
                let Some(row) = next.attempt_mut(attempt) else { return refuse("no such attempt") };
                let mut detail = AnomalyKind::of_payment(&payment.trade_no);
                match &row.state {
                    AttemptState::Paid { payment: known } if known.trade_no == payment.trade_no => {
                        return Ok(Step::AlreadyThere);
                    }
                    // One number, two payments: the first stays, the second needs an eye.
                    AttemptState::Paid { .. } => {
                        anomalies.push(Anomaly { attempt, kind: AnomalyKind::SecondPayment, detail });
                        return Ok(Step::Moved(moved(self, next, name, changed, anomalies)));
                    }
                    AttemptState::Disputed { trade_no, .. } if *trade_no == payment.trade_no => {
                        return refuse("a disputed payment waits for a person");
                    }
                    AttemptState::Disputed { .. } => {
                        anomalies.push(Anomaly { attempt, kind: AnomalyKind::SecondPayment, detail });
                        return Ok(Step::Moved(moved(self, next, name, changed, anomalies)));
                    }
                    AttemptState::Retired { .. } | AttemptState::LetGo { .. } => {
                        if matches!(&row.state, AttemptState::LetGo { trade_no, .. } if *trade_no == payment.trade_no) {
                            detail = AnomalyKind::of_payment_let_go(&payment.trade_no);
                        }
                        anomalies.push(Anomaly { attempt, kind: AnomalyKind::ClosedNumberPaid, detail: detail.clone() })
                    }
                    AttemptState::Sent | AttemptState::Open { .. } => {}
                }
                next.pay(attempt, payment, detail, now, &mut changed, &mut anomalies);
            }
            OrderEvent::PaymentDisputed { attempt, trade_no, dispute } => {
                let Some(row) = next.attempt_mut(attempt) else { return refuse("no such attempt") };
                anomalies.push(Anomaly { attempt, kind: AnomalyKind::Disputed, detail: dispute.what.to_string() });
                match &row.state {
                    // What a person decided is not undone by the wallet saying it again; another trade is another matter.
                    AttemptState::Disputed { trade_no: known, .. } | AttemptState::LetGo { trade_no: known, .. }
                        if *known == trade_no =>
                    {
                        return Ok(Step::AlreadyThere);
                    }
                    AttemptState::Paid { payment } if payment.trade_no == trade_no => {
                        return refuse("the number was paid");
                    }
                    // Further money under the same number: the first decides the number, this one needs an eye.
                    AttemptState::Disputed { .. } | AttemptState::Paid { .. } => {
                        return Ok(Step::Moved(moved(self, next, name, changed, anomalies)));
                    }
                    AttemptState::Sent
                    | AttemptState::Open { .. }
                    | AttemptState::Retired { .. }
                    | AttemptState::LetGo { .. } => {}
                }
                row.settle(AttemptState::Disputed { trade_no, dispute });
                changed.push((attempt, Write::Reschedule));
                next.ask_open_numbers_at_once(now, &mut changed);
                if next.state == OrderState::Open && next.payable_attempt().is_none() {
                    next.state = OrderState::Waiting;
                }
            }
            OrderEvent::DisputeTaken { attempt, note } => {
                let Some(row) = next.attempt_mut(attempt) else { return refuse("no such attempt") };
                let (trade_no, dispute) = match &row.state {
                    AttemptState::Paid { .. } => return Ok(Step::AlreadyThere),
                    AttemptState::Disputed { trade_no, dispute } => (trade_no, dispute),
                    _ => return refuse("nothing of it is disputed"),
                };
                let payment = match dispute.taken(trade_no) {
                    Ok(payment) => payment,
                    Err(NotTakeable::Amount) => return refuse("another amount was paid"),
                    Err(NotTakeable::Unknown) => return refuse("the amount that was paid is not known"),
                    Err(NotTakeable::Currency) => return refuse("it was paid in another currency"),
                };
                let detail = AnomalyKind::of_payment(&payment.trade_no);
                next.pay(attempt, payment, detail, now, &mut changed, &mut anomalies);
                decision = Some(Decision {
                    attempt,
                    kind: AnomalyKind::Disputed,
                    handled: Handled::Kept,
                    is_settlement: false,
                    note,
                });
            }
            OrderEvent::DisputeLetGo { attempt, note } => {
                let Some(row) = next.attempt_mut(attempt) else { return refuse("no such attempt") };
                let let_go = match &row.state {
                    AttemptState::LetGo { .. } => return Ok(Step::AlreadyThere),
                    AttemptState::Disputed { trade_no, dispute } => {
                        AttemptState::LetGo { trade_no: trade_no.clone(), dispute: dispute.clone() }
                    }
                    _ => return refuse("nothing of it is disputed"),
                };
                row.settle(let_go);
                changed.push((attempt, Write::Reschedule));
                next.close_if_wanted(now);
                decision = Some(Decision {
                    attempt,
                    kind: AnomalyKind::Disputed,
                    handled: Handled::LetGo,
                    is_settlement: false,
                    note,
                });
            }
            OrderEvent::AnomalySettled { attempt, kind, stays, note } => {
                let Some(row) = self.attempt(attempt) else { return refuse("no such attempt") };
                if kind == AnomalyKind::Disputed && matches!(row.state, AttemptState::Disputed { .. }) {
                    return refuse("its dispute is to be decided");
                }
                let handled = if stays { Handled::Kept } else { Handled::LetGo };
                decision = Some(Decision { attempt, kind, handled, is_settlement: true, note });
            }
            OrderEvent::LinksRevoked { key } => {
                let Some(generation) = self.link_generation.checked_add(1) else {
                    return refuse("its links were revoked 65535 times");
                };
                next.link_generation = generation;
                next.link_key = key;
            }
            OrderEvent::CloseRequested => {
                let settled = matches!(self.state, OrderState::Paid { .. } | OrderState::Closed { .. });
                if settled || self.close_wanted_at.is_some() {
                    return Ok(Step::AlreadyThere);
                }
                next.close_wanted_at = Some(now);
                next.ask_open_numbers_at_once(now, &mut changed);
                next.close_if_wanted(now);
            }
            OrderEvent::Closed => match self.state {
                OrderState::Closed { .. } => return Ok(Step::AlreadyThere),
                OrderState::Paid { .. } => return refuse("the order is paid"),
                OrderState::Open => return refuse("a number may be payable"),
                OrderState::Waiting if self.is_disputed() => return refuse("a disputed payment waits for a person"),
                OrderState::Waiting => next.state = OrderState::Closed { at: now },
            },
        }

        let mut moved = moved(self, next, name, changed, anomalies);
        moved.decision = decision;
        Ok(Step::Moved(moved))
    }

    /// A payment settles its number, and the order unless it was paid before. Beside one that was, or after a close, it is an
    /// anomaly of this detail.
    fn pay(
        &mut self,
        attempt: AttemptNo,
        payment: Payment,
        detail: String,
        now: Timestamp,
        changed: &mut Vec<(AttemptNo, Write)>,
        anomalies: &mut Vec<Anomaly>,
    ) {
        if let Some(row) = self.attempt_mut(attempt) {
            row.settle(AttemptState::Paid { payment });
        }
        changed.push((attempt, Write::Reschedule));
        match self.state {
            OrderState::Paid { .. } => {
                anomalies.push(Anomaly { attempt, kind: AnomalyKind::SecondPayment, detail });
            }
            OrderState::Closed { .. } => {
                anomalies.push(Anomaly { attempt, kind: AnomalyKind::LatePayment, detail });
                self.state = OrderState::Paid { by: attempt };
            }
            OrderState::Waiting | OrderState::Open => self.state = OrderState::Paid { by: attempt },
        }
        self.ask_open_numbers_at_once(now, changed);
    }

    /// The commit that retires the last number of an order that its merchant closes is also the one that closes it.
    fn close_if_wanted(&mut self, now: Timestamp) {
        if self.is_closing() && self.state == OrderState::Waiting && !self.is_disputed() {
            self.state = OrderState::Closed { at: now };
        }
    }

    /// Beside money that came, another number that may be payable is asked about, and closed, at once.
    fn ask_open_numbers_at_once(&mut self, now: Timestamp, changed: &mut Vec<(AttemptNo, Write)>) {
        for other in self.attempts.iter_mut().filter(|other| other.may_be_payable()) {
            // From the start of the timetable: it is to be ended.
            other.queries = 0;
            other.next_query_at = Some(now);
            changed.push((other.no, Write::Reschedule));
        }
    }

    fn attempt_mut(&mut self, no: AttemptNo) -> Option<&mut Attempt> {
        self.attempts.iter_mut().find(|attempt| attempt.no == no)
    }
}

impl Attempt {
    fn settle(&mut self, state: AttemptState) {
        self.state = state;
        self.next_query_at = None;
    }
}

fn moved(
    from: &Order,
    mut order: Order,
    event: &'static str,
    attempts: Vec<(AttemptNo, Write)>,
    anomalies: Vec<Anomaly>,
) -> Box<Moved> {
    order.version = from.version + 1;
    Box::new(Moved {
        order,
        from_state: from.state.name(),
        from_version: from.version,
        events: vec![event],
        attempts,
        anomalies,
        decision: None,
    })
}
