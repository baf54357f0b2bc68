//! One order, for a person who looks into it, closes it, or decides about money of it. Identities are masked.

use anyhow::{Context, bail};
use clap::Subcommand;

use super::{
    anomalies::{self, AnomaliesArgs, SettleArgs},
    desk::Desk,
    names, print,
};
use crate::{
    domain::{
        attempt::{Attempt, AttemptState, NotTakeable},
        id::{AttemptNo, CustomerNo, OrderNo},
        order::{Order, OrderEvent, OrderState, Step},
        refund::Refund,
    },
    store::{Commit, Committed},
};

#[derive(Debug, Subcommand)]
pub enum OrderCommand {
    /// State, attempts, history and anomalies of an order
    Show {
        /// The merchant's number for it (orderNo)
        #[arg(value_parser = names::order_no)]
        order_no: OrderNo,
        /// The merchant
        #[arg(long, value_name = "CUSTOMER_NO", value_parser = names::customer_no)]
        customer: CustomerNo,
    },
    /// Close an order: at once when nothing of it may be payable, else when its wallets have closed its numbers; paid wins
    Close {
        /// The merchant's number for it (orderNo)
        #[arg(value_parser = names::order_no)]
        order_no: OrderNo,
        /// The merchant
        #[arg(long, value_name = "CUSTOMER_NO", value_parser = names::customer_no)]
        customer: CustomerNo,
    },
    /// End a dispute: the wallet calls a number paid, and not as the order is
    Decide(DecideArgs),
    /// Unexpected money of all orders that waits for a person, newest first
    Anomalies(AnomaliesArgs),
    /// End what waits for a person beside a payment: the money stays, or it went back at the wallet
    Settle(SettleArgs),
}

/// One number of an order, for what a person decides about it.
#[derive(Debug, clap::Args)]
pub struct NumberArgs {
    /// The merchant's number for the order (orderNo)
    #[arg(value_parser = names::order_no)]
    pub order_no: OrderNo,
    /// The merchant
    #[arg(long, value_name = "CUSTOMER_NO", value_parser = names::customer_no)]
    pub customer: CustomerNo,
    /// The attempt: the last two digits of its OUT_TRADE_NO
    #[arg(long, value_name = "N", value_parser = names::attempt_no)]
    pub attempt: AttemptNo,
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("decision").required(true).args(["take", "let_go"]))]
pub struct DecideArgs {
    #[command(flatten)]
    number: NumberArgs,
    /// The money is this order's, whomever it names: the order becomes paid by it. Only with the order's amount
    #[arg(long)]
    take: bool,
    /// The money went back at the wallet, or was never this order's: the order goes on without it
    #[arg(long)]
    let_go: bool,
    /// Who decided, and why; kept in the order's history
    #[arg(long, value_name = "TEXT", value_parser = names::note)]
    note: String,
}

impl DecideArgs {
    fn event(&self) -> OrderEvent {
        let (attempt, note) = (self.number.attempt, self.note.clone());
        if self.take { OrderEvent::DisputeTaken { attempt, note } } else { OrderEvent::DisputeLetGo { attempt, note } }
    }
}

pub async fn run(desk: &Desk, command: OrderCommand) -> anyhow::Result<()> {
    match command {
        OrderCommand::Show { order_no, customer } => show(desk, order_no, customer).await,
        OrderCommand::Close { order_no, customer } => close(desk, order_no, customer).await,
        OrderCommand::Decide(args) => decide(desk, &args).await,
        OrderCommand::Anomalies(args) => anomalies::list(desk, &args).await,
        OrderCommand::Settle(args) => anomalies::settle(desk, &args).await,
    }
}

pub async fn find(desk: &Desk, order_no: &OrderNo, customer: &CustomerNo) -> anyhow::Result<Order> {
    let merchant = desk.merchant(customer).await?.id;
    let order = desk.store.load_order_by_no(merchant, order_no).await?;
    order.with_context(|| format!("merchant {customer} has no order {order_no}"))
}

/// An intent: the scheduler asks the wallets.
async fn close(desk: &Desk, order_no: OrderNo, customer: CustomerNo) -> anyhow::Result<()> {
    const ROUNDS: usize = 10;
    for _ in 0..ROUNDS {
        let order = find(desk, &order_no, &customer).await?;
        let now = desk.clock.now();
        let order = match order.apply(OrderEvent::CloseRequested, now)? {
            Step::AlreadyThere => order,
            Step::Moved(moved) => match desk.store.commit(Commit { moved: &moved, outcome: None, at: now }).await? {
                Committed::Done => moved.order,
                Committed::Stale => continue,
            },
        };
        let stands =
            if order.is_closing() { "its numbers are closed at their wallets first" } else { order.state.name() };
        return Ok(print::line(format_args!("order {order_no} of {customer}: {stands}"))?);
    }
    bail!("order {order_no} changes all the time; try again")
}

/// One commit: the attempt, its order, the note in the history, the anomaly, what the merchant is told.
async fn decide(desk: &Desk, args: &DecideArgs) -> anyhow::Result<()> {
    const ROUNDS: usize = 10;
    let NumberArgs { order_no, customer, attempt: no } = &args.number;
    for _ in 0..ROUNDS {
        let order = find(desk, order_no, customer).await?;
        let number = order.out_trade_no(*no);
        let attempt = order.attempt(*no).with_context(|| format!("order {order_no} has no {number}"))?;
        let now = desk.clock.now();
        match &attempt.state {
            AttemptState::Disputed { trade_no, dispute } if args.take => {
                if let Err(why) = dispute.taken(trade_no) {
                    let advice = match why {
                        NotTakeable::Amount | NotTakeable::Currency => "give it back",
                        NotTakeable::Unknown => "look it up",
                    };
                    bail!(
                        "{number} cannot be taken: {why} ({}); {advice} in the wallet's merchant platform, then --let-go",
                        dispute.what
                    );
                }
            }
            AttemptState::Disputed { .. } => {}
            // Said once more.
            AttemptState::Paid { .. } if args.take => {}
            AttemptState::LetGo { .. } if args.let_go => {}
            state => bail!("{number} is {} and not disputed: there is nothing to decide", state.name()),
        }
        let order = match order.apply(args.event(), now)? {
            Step::AlreadyThere => order,
            Step::Moved(moved) => match desk.store.commit(Commit { moved: &moved, outcome: None, at: now }).await? {
                Committed::Done => moved.order,
                Committed::Stale => continue,
            },
        };
        let stands = order.attempt(*no).map(told).unwrap_or_default();
        print::line(format_args!("{number}: {stands}"))?;
        let (state, status) = (order.state.name(), order.pay_status());
        return Ok(print::line(format_args!("order {order_no} of {customer}: {state} ({status})"))?);
    }
    bail!("order {order_no} changes all the time; try again")
}

async fn show(desk: &Desk, order_no: OrderNo, customer: CustomerNo) -> anyhow::Result<()> {
    let order = find(desk, &order_no, &customer).await?;

    print::line(format_args!("order {order_no} of {customer}: {} ({})", order.state.name(), order.pay_status()))?;
    match order.state {
        OrderState::Paid { by } => print::line(format_args!("paid by attempt {}", by.get()))?,
        OrderState::Closed { at } => print::line(format_args!("closed {}", at.rfc3339()))?,
        OrderState::Waiting | OrderState::Open => {}
    }
    if let Some(at) = order.close_wanted_at.filter(|_| order.is_closing()) {
        print::line(format_args!("its merchant closes it since {}", at.rfc3339()))?;
    }
    print::line(format_args!("amount: {} fen", order.amount.get()))?;
    print::line(format_args!("good: {}", order.good_name))?;
    print::line(format_args!("id: {}", order.id))?;
    print::line(format_args!("made: {}, expires: {}", order.created_at.rfc3339(), order.expire_at.rfc3339()))?;
    print::line(format_args!("link generation: {}, version: {}", order.link_generation, order.version))?;
    if let Some(lease) = order.lease {
        print::line(format_args!("leased to command {} until {}", lease.command, lease.until.rfc3339()))?;
    }

    print::line("")?;
    let attempts: Vec<_> = order
        .attempts
        .iter()
        .map(|attempt| {
            [
                order.out_trade_no(attempt.no).to_string(),
                attempt.wallet.to_string(),
                attempt.account.to_string(),
                told(attempt),
                format!("{} {}", attempt.payer.kind.as_str(), masked(attempt.payer.expose_id())),
                attempt.started_at.rfc3339(),
                format!("{} sent, {} refused", attempt.sends, attempt.refusals),
                attempt.next_query_at.map_or_else(|| "-".to_owned(), |at| at.rfc3339()),
            ]
        })
        .collect();
    let heading = ["OUT_TRADE_NO", "WALLET", "CHANNEL", "STATE", "PAYER", "STARTED", "SENDS", "ASKED NEXT"];
    print::table(heading, &attempts)?;

    print::line("")?;
    let history = desk.store.history(order.id).await?.into_iter().map(|row| {
        let note = row.note.unwrap_or_default();
        [row.at.rfc3339(), row.version.to_string(), row.state, row.events.join(", "), note]
    });
    print::table(["AT", "VERSION", "STATE", "EVENTS", "NOTE"], &history.collect::<Vec<_>>())?;

    let anomalies = desk.store.anomalies(order.id).await?;
    if !anomalies.is_empty() {
        print::line("")?;
        let rows = anomalies.into_iter().map(|row| {
            [
                row.at.rfc3339(),
                order.out_trade_no(row.attempt).to_string(),
                row.kind.as_str().to_owned(),
                row.detail,
                row.handled.as_str().to_owned(),
            ]
        });
        print::table(["AT", "OUT_TRADE_NO", "ANOMALY", "DETAIL", "HANDLED"], &rows.collect::<Vec<_>>())?;
    }
    let refunds = desk.store.refunds_of(order.id).await?;
    if !refunds.is_empty() {
        print::line("")?;
        let left: Vec<_> = paid(&order).map(|no| (no, Refund::left_of(order.amount, no, &refunds))).collect();
        let rows = refunds.into_iter().map(|refund| {
            [
                refund.created_at.rfc3339(),
                refund.refund_no.to_string(),
                refund.out_trade_no().to_string(),
                refund.amount.get().to_string(),
                refund.state.name().to_owned(),
                refund.initiator.as_str().to_owned(),
            ]
        });
        print::table(["MADE", "REFUND_NO", "OUT_TRADE_NO", "FEN", "STATE", "BY"], &rows.collect::<Vec<_>>())?;
        for (no, left) in left {
            print::line(format_args!("left of {}: {left} fen", order.out_trade_no(no)))?;
        }
    }
    Ok(())
}

fn paid(order: &Order) -> impl Iterator<Item = AttemptNo> {
    let paid = |attempt: &&Attempt| matches!(attempt.state, AttemptState::Paid { .. });
    order.attempts.iter().filter(paid).map(|attempt| attempt.no)
}

fn told(attempt: &Attempt) -> String {
    let state = attempt.state.name();
    match &attempt.state {
        AttemptState::Paid { payment } => format!("{state} {}", payment.trade_no),
        AttemptState::Disputed { trade_no, dispute } | AttemptState::LetGo { trade_no, dispute } => {
            format!("{state} {trade_no}: {}", dispute.what)
        }
        AttemptState::Sent | AttemptState::Open { .. } | AttemptState::Retired { .. } => state.to_owned(),
    }
}

/// Enough to tell two payers apart, not enough to be one.
fn masked(id: &str) -> String {
    let end = id.len().saturating_sub(4).max(4);
    match (id.get(..4), id.get(end..)) {
        (Some(start), Some(end)) if id.len() >= 16 => format!("{start}…{end}"),
        _ => "…".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::masked;

    #[test]
    fn an_identity_is_masked() {
        assert_eq!(masked("oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"), "oUpF…eS6o");
        assert_eq!(masked("2088012345678901"), "2088…8901");
        assert_eq!(masked("short"), "…");
        assert_eq!(masked(""), "…");
    }
}
