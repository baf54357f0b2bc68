//! Unexpected money of all orders, so that a person finds what nobody asks for, and ends what waits for one.

use std::collections::HashMap;

use anyhow::{Context, bail};

use super::{
    desk::Desk,
    names,
    order::{NumberArgs, find},
    print,
};
use crate::{
    domain::{
        id::{OrderId, OutTradeNo},
        order::{AnomalyKind, Handled, OrderEvent, Step},
    },
    store::{Commit, Committed, StoreError},
};

#[derive(Debug, clap::Args)]
pub struct AnomaliesArgs {
    /// Also what waits for nobody: decided, given back, or its merchant's policy's
    #[arg(long)]
    all: bool,
    /// How many at most
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    limit: u64,
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("end").required(true).args(["stays", "went_back"]))]
pub struct SettleArgs {
    #[command(flatten)]
    number: NumberArgs,
    /// What is ended, as `order anomalies` names it: `second_payment`, say
    #[arg(long, value_name = "ANOMALY", value_parser = kind)]
    anomaly: AnomalyKind,
    /// The money stays with the merchant, or there is none
    #[arg(long)]
    stays: bool,
    /// The money went back in the wallet's merchant platform
    #[arg(long)]
    went_back: bool,
    /// Who decided, and why; kept in the order's history
    #[arg(long, value_name = "TEXT", value_parser = names::note)]
    note: String,
}

fn kind(text: &str) -> Result<AnomalyKind, &'static str> {
    AnomalyKind::parse(text).ok_or("an ANOMALY of `prepay order anomalies`")
}

/// One commit: the note in the history, and the anomaly if it still waits.
pub async fn settle(desk: &Desk, args: &SettleArgs) -> anyhow::Result<()> {
    const ROUNDS: usize = 10;
    let SettleArgs { number: NumberArgs { order_no, customer, attempt }, anomaly, stays, note, .. } = args;
    for _ in 0..ROUNDS {
        let order = find(desk, order_no, customer).await?;
        let number = order.out_trade_no(*attempt);
        let rows = desk.store.anomalies(order.id).await?;
        let row = rows.into_iter().find(|row| (row.attempt, row.kind) == (*attempt, *anomaly));
        let row = row.with_context(|| format!("{number} has no anomaly {}", anomaly.as_str()))?;
        let end = if *stays { Handled::Kept } else { Handled::LetGo };
        if !matches!(row.handled, Handled::Person | Handled::Kept | Handled::LetGo) {
            bail!("{} of {number} is {}: it waits for nobody", anomaly.as_str(), row.handled.as_str());
        }
        if row.handled == end {
            return Ok(print::line(format_args!("{} of {number} is {} already", anomaly.as_str(), end.as_str()))?);
        }
        let refunds = desk.store.refunds_of(order.id).await?;
        let open = refunds.iter().find(|refund| refund.attempt == *attempt && refund.state.is_open());
        if let Some(refund) = open {
            bail!("refund {} of {number} is {}: settle it first", refund.refund_no, refund.state.name());
        }
        let now = desk.clock.now();
        let event = OrderEvent::AnomalySettled { attempt: *attempt, kind: *anomaly, stays: *stays, note: note.clone() };
        let step =
            order.apply(event, now).with_context(|| format!("`prepay order decide` ends a dispute of {number}"))?;
        let Step::Moved(moved) = step else { bail!("{number} has nothing to settle") };
        if let Committed::Done = desk.store.commit(Commit { moved: &moved, outcome: None, at: now }).await? {
            let end = if *stays { "stays" } else { "went back" };
            return Ok(print::line(format_args!("{} of {number}: it {end}", anomaly.as_str()))?);
        }
    }
    bail!("order {order_no} changes all the time; try again")
}

pub async fn list(desk: &Desk, args: &AnomaliesArgs) -> anyhow::Result<()> {
    let found = desk.store.list_anomalies((!args.all).then_some(Handled::Person), args.limit).await?;
    if found.is_empty() {
        let none = if args.all { "no unexpected money" } else { "no unexpected money waits for a person" };
        return Ok(print::line(none)?);
    }
    let customer_no = desk.customer_nos().await?;
    let mut names: HashMap<OrderId, [String; 2]> = HashMap::new();
    for row in &found {
        if names.contains_key(&row.order) {
            continue;
        }
        let name = match desk.store.load_order(row.order).await {
            Ok(Some(order)) => [order.order_no.to_string(), customer_no(order.merchant)],
            // One that cannot be read hides nobody else's.
            Ok(None) | Err(StoreError::Corrupt { .. }) => ["?".to_owned(), "?".to_owned()],
            Err(error) => return Err(error.into()),
        };
        names.insert(row.order, name);
    }
    let rows = found.into_iter().map(|row| {
        let [order_no, customer] = names.get(&row.order).cloned().unwrap_or_default();
        [
            row.at.rfc3339(),
            order_no,
            customer,
            OutTradeNo { order: row.order, attempt: row.attempt }.to_string(),
            row.kind.as_str().to_owned(),
            row.detail,
            row.handled.as_str().to_owned(),
        ]
    });
    let heading = ["AT", "ORDER", "CUSTOMER", "OUT_TRADE_NO", "ANOMALY", "DETAIL", "HANDLED"];
    print::table(heading, &rows.collect::<Vec<_>>())?;
    Ok(print::line(
        "next: `prepay order show ORDER --customer CUSTOMER`; `prepay order decide` ends a dispute, `prepay refund make` \
         gives money back that nobody gives back, `prepay order settle` ends what went back elsewhere or stays",
    )?)
}
