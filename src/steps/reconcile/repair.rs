//! What is done about a discrepancy: the wallet is asked again, and its word goes through the door that every word goes through.

use crate::{
    domain::{
        attempt::AttemptState,
        bill::{DiscrepancyKind, DiscrepancyState, Repair},
        id::{AccountId, OutRefundNo, OutTradeNo},
        refund::RefundState,
    },
    gateway::{PaidTrade, RefundFound, RefundStatus, TradeState},
    steps::{Channel, StepError, Steps, budget::Permit},
    store::Discrepancy,
};
use std::sync::Arc;

/// What came of a repair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repaired {
    /// The wallet's word was taken in, or agrees with ours.
    Yes(String),
    /// It stays open: what the wallet said.
    No(String),
    /// There is no such discrepancy.
    NotThere,
    /// Repaired or dismissed before: nothing was done.
    NotOpen(DiscrepancyState),
    /// No question to a wallet helps: a person decides, and dismisses it.
    ForAPerson,
}

impl Steps {
    /// Asks the wallet about a discrepancy's payment or refund and takes its word in. Done twice, nothing changes.
    ///
    /// Errors: [`StepError`].
    pub async fn repair(&self, id: i64) -> Result<Repaired, StepError> {
        let Some(discrepancy) = self.store.discrepancy(id).await? else { return Ok(Repaired::NotThere) };
        if discrepancy.state != DiscrepancyState::Open {
            return Ok(Repaired::NotOpen(discrepancy.state));
        }
        let came = match discrepancy.found.repair {
            Repair::AskPayment => self.ask_payment(&discrepancy).await?,
            Repair::AskRefund => self.ask_refund(&discrepancy).await?,
            Repair::Person => return Ok(Repaired::ForAPerson),
        };
        let (to, note) = match &came {
            Repaired::Yes(note) => (DiscrepancyState::Repaired, note),
            Repaired::No(note) => (DiscrepancyState::Open, note),
            _ => return Ok(came),
        };
        self.store.note_discrepancy(id, to, note, self.now()).await?;
        tracing::info!(id, kind = discrepancy.found.kind.as_str(), note, "the wallet was asked about a discrepancy");
        Ok(came)
    }

    async fn ask_payment(&self, discrepancy: &Discrepancy) -> Result<Repaired, StepError> {
        let Ok(number) = OutTradeNo::parse(&discrepancy.found.out_trade_no) else { return Ok(Repaired::ForAPerson) };
        let Some(order) = self.order(number.order).await? else { return Ok(Repaired::ForAPerson) };
        let Some(attempt) = order.attempt(number.attempt) else { return Ok(Repaired::ForAPerson) };
        let (channel, permit) = self.to_ask(attempt.account)?;
        let gateway = channel.gateway().map_err(|reason| StepError::NotYet(reason.to_owned()))?;
        let answer = gateway.query(&number).await;
        self.report(&permit, answer.as_ref().err());
        let paid = match answer {
            Ok(TradeState::Paid(paid)) => paid,
            Ok(TradeState::NotExist) => return Ok(Repaired::No("the wallet does not know the number".to_owned())),
            Ok(TradeState::Unpaid) => return Ok(Repaired::No("the wallet says that it is not paid".to_owned())),
            Ok(TradeState::Closed) => {
                return Ok(Repaired::No("the wallet says that it is closed, unpaid".to_owned()));
            }
            Err(error) => return Ok(Repaired::No(error.to_string())),
        };
        let taken = self.take_in(&order, number.attempt, TradeState::Paid(paid.clone()), &channel).await?;
        let after = self.order(number.order).await?;
        let state = after.as_ref().and_then(|order| order.attempt(number.attempt)).map(|attempt| &attempt.state);
        Ok(match state {
            Some(AttemptState::Paid { payment })
                if taken
                    && paid.foreign.is_none()
                    && paid.amount == Some(order.amount)
                    && paid.trade_no == payment.trade_no =>
            {
                match discrepancy.found.kind {
                    DiscrepancyKind::MissingThere => {
                        Repaired::Yes("the wallet confirms the payment, whatever its bill says".to_owned())
                    }
                    _ => Repaired::Yes("the wallet says paid, and now it is".to_owned()),
                }
            }
            Some(AttemptState::Disputed { trade_no, dispute }) if *trade_no == paid.trade_no => {
                Repaired::Yes(format!("the payment is disputed and waits for a person: {}", dispute.what))
            }
            Some(AttemptState::LetGo { trade_no, dispute }) if *trade_no == paid.trade_no => {
                Repaired::Yes(format!("a person has let the payment go: {}", dispute.what))
            }
            // What it says and what we have are two things: a person reads both.
            Some(state) => Repaired::No(format!("{}; the number is {} here", in_words(&paid), state.name())),
            None => Repaired::No(format!("{}; the number is gone here", in_words(&paid))),
        })
    }

    async fn ask_refund(&self, discrepancy: &Discrepancy) -> Result<Repaired, StepError> {
        let number = discrepancy.found.out_refund_no.as_deref().map(OutRefundNo::parse);
        let Some(Ok(OutRefundNo(id))) = number else { return Ok(Repaired::ForAPerson) };
        let Some(refund) = self.store.load_refund(id).await? else { return Ok(Repaired::ForAPerson) };
        let (channel, permit) = self.to_ask(refund.account)?;
        let gateway = channel.gateway().map_err(|reason| StepError::NotYet(reason.to_owned()))?;
        let answer = gateway.refund_query(&refund.out_trade_no(), &refund.out_refund_no()).await;
        self.report(&permit, answer.as_ref().err());
        let seen = match answer {
            Ok(RefundFound::Seen(seen)) => seen,
            Ok(RefundFound::NotExist) => return Ok(Repaired::No("the wallet does not know the refund".to_owned())),
            Err(error) => return Ok(Repaired::No(error.to_string())),
        };
        if !crate::steps::refund::is_definite(&refund, &seen) {
            return Ok(Repaired::No("the wallet has not decided".to_owned()));
        }
        let event = match crate::steps::refund::read(&refund, &seen, self.now()) {
            Ok(event) => event,
            Err(why) => {
                return Ok(Repaired::No(format!("the wallet tells of another refund under this number: {why}")));
            }
        };
        let after = self.record_refund(id, event).await?;
        let state = after.map_or(refund.state, |refund| refund.state);
        let agreed = match seen.status {
            RefundStatus::Success => matches!(state, RefundState::Succeeded { .. }),
            RefundStatus::Processing => matches!(state, RefundState::Processing),
            RefundStatus::Abnormal => matches!(state, RefundState::Abnormal),
            RefundStatus::Closed => matches!(state, RefundState::Failed { .. }),
        };
        Ok(match agreed {
            true => Repaired::Yes(format!("the wallet was asked, and the refund is {}", state.name())),
            false => Repaired::No(format!("the wallet says {:?}, the refund is {}", seen.status, state.name())),
        })
    }

    /// The account's way to its wallet, with room for one question.
    fn to_ask(&self, account: AccountId) -> Result<(Arc<Channel>, Permit), StepError> {
        let channel = self.registry.channel(account);
        let channel =
            channel.ok_or_else(|| StepError::NotYet(format!("channel account {account} is not known here")))?;
        let permit = channel.questions.admit(self.now());
        let permit = permit.map_err(|_| StepError::NotYet("the account has no room for a question now".to_owned()))?;
        Ok((channel, permit))
    }
}

/// What the wallet said of a payment, for a person.
fn in_words(paid: &PaidTrade) -> String {
    let amount = match paid.amount {
        Some(amount) => format!("{} fen", amount.get()),
        None => "an amount that it does not tell".to_owned(),
    };
    let foreign = match &paid.foreign {
        Some(field) => format!(", {field} not of this channel account"),
        None => String::new(),
    };
    format!("the wallet says paid {amount}, {}{foreign}", paid.trade_no)
}
