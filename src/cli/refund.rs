//! Refunds, for a person who looks into them or has settled one at the wallet.

use anyhow::{Context, bail};
use clap::Subcommand;

use super::{desk::Desk, names, print};
use crate::{
    domain::{
        id::{CustomerNo, RefundNo},
        refund::{Refund, RefundEvent, RefundState, RefundStep},
    },
    store::{RefundCommit, RefundCommitted},
};

#[derive(Debug, Subcommand)]
pub enum RefundCommand {
    /// List the newest refunds
    List {
        /// Only these: waiting, sent, processing, succeeded, failed, abnormal; several, or none for all
        #[arg(long, value_name = "STATE", value_parser = ["waiting", "sent", "processing", "succeeded", "failed", "abnormal"])]
        state: Vec<String>,
        /// How many at most
        #[arg(long, default_value_t = 50)]
        limit: u64,
    },
    /// How a refund stands, and what the wallet last said
    Show {
        #[command(flatten)]
        of: Named,
    },
    /// Have the wallet asked now: after the balance was filled, or an abnormal refund was settled there
    Retry {
        #[command(flatten)]
        of: Named,
    },
}

#[derive(Debug, clap::Args)]
pub struct Named {
    /// The merchant's number for it (refundNo); the policy's are SYS-<outTradeNo>
    #[arg(value_parser = names::refund_no)]
    refund_no: RefundNo,
    /// The merchant
    #[arg(long, value_name = "CUSTOMER_NO", value_parser = names::customer_no)]
    customer: CustomerNo,
}

pub async fn run(desk: &Desk, command: RefundCommand) -> anyhow::Result<()> {
    match command {
        RefundCommand::List { state, limit } => list(desk, &state, limit).await,
        RefundCommand::Show { of } => show(&find(desk, &of).await?),
        RefundCommand::Retry { of } => retry(desk, &of).await,
    }
}

async fn find(desk: &Desk, of: &Named) -> anyhow::Result<Refund> {
    let merchant = desk.merchant(&of.customer).await?.id;
    let refund = desk.store.load_refund_by_no(merchant, &of.refund_no).await?;
    refund.with_context(|| format!("merchant {} has no refund {}", of.customer, of.refund_no))
}

async fn list(desk: &Desk, states: &[String], limit: u64) -> anyhow::Result<()> {
    let states: Vec<&str> = states.iter().map(String::as_str).collect();
    let customer_no = desk.customer_nos().await?;
    let rows = desk.store.list_refunds(&states, limit).await?.into_iter().map(|refund| {
        [
            refund.created_at.rfc3339(),
            customer_no(refund.merchant),
            refund.refund_no.to_string(),
            refund.out_trade_no().to_string(),
            refund.amount.get().to_string(),
            refund.state.name().to_owned(),
            refund.initiator.as_str().to_owned(),
            refund.hint.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    });
    let heading = ["MADE", "CUSTOMER_NO", "REFUND_NO", "OUT_TRADE_NO", "FEN", "STATE", "BY", "WALLET SAYS"];
    Ok(print::table(heading, &rows.collect::<Vec<_>>())?)
}

fn show(refund: &Refund) -> anyhow::Result<()> {
    let status = refund.state.refund_status();
    print::line(format_args!("refund {}: {} ({status})", refund.refund_no, refund.state.name()))?;
    match &refund.state {
        RefundState::Succeeded { at } => print::line(format_args!("paid back: {}", at.rfc3339()))?,
        RefundState::Failed { why } => print::line(format_args!("failed: {why}"))?,
        RefundState::Abnormal => print::line(
            "the wallet could not deliver the money: settle it in the merchant platform, then `prepay refund retry`",
        )?,
        RefundState::Waiting | RefundState::Sent | RefundState::Processing => {}
    }
    print::line(format_args!("amount: {} of {} fen", refund.amount.get(), refund.total.get()))?;
    print::line(format_args!("payment: {} at {}", refund.out_trade_no(), refund.wallet))?;
    print::line(format_args!("out_refund_no: {}", refund.out_refund_no()))?;
    if let Some(number) = &refund.wallet_refund_no {
        print::line(format_args!("the wallet's number: {number}"))?;
    }
    print::line(format_args!("wanted by: {}", refund.initiator.as_str()))?;
    print::line(format_args!("made: {}", refund.created_at.rfc3339()))?;
    print::line(format_args!("{} sent, {} surely made nothing", refund.sends, refund.refusals))?;
    if let Some(at) = refund.known_at {
        print::line(format_args!("the wallet has shown that it has it: {}", at.rfc3339()))?;
    }
    if let Some(hint) = &refund.hint {
        print::line(format_args!("the wallet last said: {hint}"))?;
    }
    let next = refund.next_at.map_or_else(|| "never".to_owned(), |at| at.rfc3339());
    Ok(print::line(format_args!("looked at next: {next}"))?)
}

/// An intent: the scheduler asks the wallet, and sends again only what it does not have.
async fn retry(desk: &Desk, of: &Named) -> anyhow::Result<()> {
    const ROUNDS: usize = 10;
    for _ in 0..ROUNDS {
        let refund = find(desk, of).await?;
        let now = desk.clock.now();
        let RefundStep::Moved(moved) = refund.apply(RefundEvent::LookWanted, now) else {
            return Ok(print::line(format_args!("refund {} is {} already", of.refund_no, refund.state.name()))?);
        };
        let commit = RefundCommit { moved: &moved, spacing: std::time::Duration::ZERO, told: None, at: now };
        if desk.store.commit_refund(commit).await? == RefundCommitted::Done {
            return Ok(print::line(format_args!("the wallet is asked about refund {} now", of.refund_no))?);
        }
    }
    bail!("refund {} changes all the time; try again", of.refund_no)
}
