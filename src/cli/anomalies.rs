//! Unexpected money of all orders, so that a person finds what nobody asks for.

use std::collections::HashMap;

use super::{desk::Desk, print};
use crate::{
    domain::{
        id::{OrderId, OutTradeNo},
        order::Handled,
    },
    store::StoreError,
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
         gives money back that nobody gives back",
    )?)
}
