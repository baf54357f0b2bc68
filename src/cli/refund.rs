//! Refunds, for a person who looks into them, has settled one at the wallet, stops one, or gives a payment back.

use anyhow::{Context, bail};
use clap::Subcommand;

use super::{desk::Desk, names, order::NumberArgs, print};
use crate::{
    domain::{
        attempt::AttemptState,
        id::{CustomerNo, RefundNo},
        money::Fen,
        order::Handled,
        refund::{Initiator, Refund, RefundEvent, RefundState, RefundStep, RefundWish},
    },
    keys::mac::sha256,
    store::{RefundCommit, RefundCommitted, RefundInserted},
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
    /// Stop a refund of which surely nothing has arrived at its wallet: it fails, and its part of the payment is free again
    Cancel {
        #[command(flatten)]
        of: Named,
    },
    /// Give a payment back by hand: a second one that was kept, or one whose refund failed
    Make(MakeArgs),
}

#[derive(Debug, clap::Args)]
pub struct Named {
    /// The merchant's number for it (refundNo); the policy's are SYS-<outTradeNo>, people's SYS-<outTradeNo>-2 and up
    #[arg(value_parser = names::refund_no)]
    refund_no: RefundNo,
    /// The merchant
    #[arg(long, value_name = "CUSTOMER_NO", value_parser = names::customer_no)]
    customer: CustomerNo,
}

#[derive(Debug, clap::Args)]
pub struct MakeArgs {
    #[command(flatten)]
    number: NumberArgs,
    /// So much of it, in fen; without it all that is left
    #[arg(long, value_name = "FEN", value_parser = names::fen, requires = "left")]
    amount: Option<Fen>,
    /// How much of it is left before, in fen, as `prepay order show` says: said twice, the command gives no part back twice
    #[arg(long, value_name = "FEN")]
    left: Option<i64>,
    /// What the payer reads in the wallet
    #[arg(long, value_name = "TEXT", value_parser = names::reason)]
    reason: String,
}

pub async fn run(desk: &Desk, command: RefundCommand) -> anyhow::Result<()> {
    match command {
        RefundCommand::List { state, limit } => list(desk, &state, limit).await,
        RefundCommand::Show { of } => show(&find(desk, &of).await?),
        RefundCommand::Retry { of } => retry(desk, &of).await,
        RefundCommand::Cancel { of } => cancel(desk, &of).await,
        RefundCommand::Make(args) => make(desk, &args).await,
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

/// Race-safe beside the scheduler: a send is recorded under the row's version before it leaves, so whoever commits first makes
/// the other stale.
async fn cancel(desk: &Desk, of: &Named) -> anyhow::Result<()> {
    const ROUNDS: usize = 10;
    for _ in 0..ROUNDS {
        let refund = find(desk, of).await?;
        let now = desk.clock.now();
        let RefundStep::Moved(moved) = refund.apply(RefundEvent::Cancelled, now) else {
            bail!("refund {} cannot be cancelled: {}", of.refund_no, why_not_cancelled(&refund));
        };
        let order = desk.store.load_order(refund.order).await?;
        let order = order.with_context(|| format!("refund {} has no order", of.refund_no))?;
        let news = moved.news();
        let told = news.as_ref().map(|news| (&order, news));
        let commit = RefundCommit { moved: &moved, spacing: std::time::Duration::ZERO, told, at: now };
        if desk.store.commit_refund(commit).await? == RefundCommitted::Done {
            let fen = refund.amount.get();
            return Ok(print::line(format_args!(
                "refund {} is cancelled; {fen} fen of {} are free again, and the merchant is told FAIL",
                of.refund_no,
                refund.out_trade_no()
            ))?);
        }
    }
    bail!("refund {} changes all the time; try again", of.refund_no)
}

fn why_not_cancelled(refund: &Refund) -> &'static str {
    match refund.state {
        RefundState::Failed { .. } => "it failed already",
        RefundState::Succeeded { .. } => "the payer has the money",
        RefundState::Abnormal => "the wallet has it: settle it in the merchant platform, then `prepay refund retry`",
        _ if refund.known_at.is_some() => "the wallet has it: wait for its word (`prepay refund retry` asks at once)",
        _ => {
            "a send of it may have arrived: `prepay refund retry` asks the wallet; it fails by itself if the wallet \
             refuses it and never had it"
        }
    }
}

/// The same insert as any refund's: the payment's reserve decides what races, and whether it was settled as gone back.
async fn make(desk: &Desk, args: &MakeArgs) -> anyhow::Result<()> {
    let NumberArgs { order_no, customer, attempt: no } = &args.number;
    let merchant = desk.merchant(customer).await?.id;
    let order = desk.store.load_order_by_no(merchant, order_no).await?;
    let order = order.with_context(|| format!("merchant {customer} has no order {order_no}"))?;
    let number = order.out_trade_no(*no);
    let attempt = order.attempt(*no).with_context(|| format!("order {order_no} has no {number}"))?;
    let AttemptState::Paid { payment } = &attempt.state else {
        bail!("{number} is {}: only what is paid is given back", attempt.state.name());
    };
    let anomalies = desk.store.anomalies(order.id).await?;
    if anomalies.iter().any(|row| row.attempt == *no && row.handled == Handled::Due) {
        bail!("the merchant's policy decides about {number} in a moment: look at `prepay order show` then");
    }
    let refunds = desk.store.refunds_of(order.id).await?;
    let left = Refund::left_of(order.amount, *no, &refunds);
    if args.left.is_some_and(|thought| thought != left) {
        let last = refunds.iter().rev().find(|row| row.attempt == *no);
        let last = last.map(|row| format!("; the last refund is {}, {} fen", row.refund_no, row.amount.get()));
        bail!("{left} fen of {number} are left{}", last.unwrap_or_default());
    }
    let amount = match args.amount {
        Some(amount) if amount.get() <= left => amount,
        None if left > 0 => Fen::new(left)?,
        _ => {
            let abnormal = refunds.iter().find(|row| row.attempt == *no && row.state == RefundState::Abnormal);
            match abnormal {
                Some(row) => bail!(
                    "{} fen of {number} are left: {} did not reach the payer, and a second one would pay twice; settle it \
                     in the merchant platform, then `prepay refund retry`",
                    left.max(0),
                    row.refund_no
                ),
                None => bail!("{} fen of {number} are left: the rest went back, or is on its way", left.max(0)),
            }
        }
    };
    let refund_no = Refund::next_by_hand(number, &refunds).context("the payment has too many refunds")?;
    let wish = RefundWish {
        fingerprint: sha256(refund_no.as_str().as_bytes()),
        refund_no: refund_no.clone(),
        amount,
        reason: Some(args.reason.clone()),
        notify_url: None,
        initiator: Initiator::System,
    };
    let refund = Refund::new(&order, attempt, wish, desk.clock.now());
    let inserted = desk.store.insert_refund_by_hand(&refund, &payment.trade_no).await;
    // The answer of the commit may be what was lost; repeated, a part would go back twice.
    let inserted = inserted.with_context(|| {
        format!("{refund_no} may have been made: look at `prepay order show {order_no}` before it is made again")
    });
    match inserted? {
        RefundInserted::New => {}
        // Not made under the next number: it may be the same wish, made twice.
        RefundInserted::Exists(_) => {
            bail!("somebody made {refund_no} at this moment: look at `prepay order show {order_no}` first")
        }
        RefundInserted::Exceeds { left } => bail!("{left} fen of {number} are left now"),
        RefundInserted::WentBack => {
            bail!("{number} was settled as gone back at the wallet: `prepay order settle --stays` first, if it did not")
        }
        RefundInserted::TooMany => {
            bail!("{number} has {} refunds already, as many as a payment may have", Refund::PER_PAYMENT_MAX)
        }
    }
    print::line(format_args!("refund: {refund_no}"))?;
    let (fen, trade_no, wallet) = (amount.get(), &payment.trade_no, attempt.wallet);
    Ok(print::line(format_args!("{fen} fen of trade_no {trade_no} go back at {wallet}"))?)
}
