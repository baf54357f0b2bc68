//! One order, for a person who looks into it. Identities are masked.

use anyhow::Context;
use clap::Subcommand;

use super::{desk::Desk, names, print};
use crate::domain::{
    attempt::{Attempt, AttemptState},
    id::{CustomerNo, OrderNo},
    order::OrderState,
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
}

pub async fn run(desk: &Desk, command: OrderCommand) -> anyhow::Result<()> {
    let OrderCommand::Show { order_no, customer } = command;
    let merchant = desk.merchant(&customer).await?.id;
    let order = desk.store.load_order_by_no(merchant, &order_no).await?;
    let order = order.with_context(|| format!("merchant {customer} has no order {order_no}"))?;

    print::line(format_args!("order {order_no} of {customer}: {} ({})", order.state.name(), order.pay_status()))?;
    match order.state {
        OrderState::Paid { by } => print::line(format_args!("paid by attempt {}", by.get()))?,
        OrderState::Closed { at } => print::line(format_args!("closed {}", at.rfc3339()))?,
        OrderState::Waiting | OrderState::Open => {}
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
    let history = desk
        .store
        .history(order.id)
        .await?
        .into_iter()
        .map(|row| [row.at.rfc3339(), row.version.to_string(), row.state, row.events.join(", ")]);
    print::table(["AT", "VERSION", "STATE", "EVENTS"], &history.collect::<Vec<_>>())?;

    let anomalies = desk.store.anomalies(order.id).await?;
    if !anomalies.is_empty() {
        print::line("")?;
        let rows = anomalies.into_iter().map(|row| {
            [row.at.rfc3339(), order.out_trade_no(row.attempt).to_string(), row.kind.as_str().to_owned(), row.detail]
        });
        print::table(["AT", "OUT_TRADE_NO", "ANOMALY", "DETAIL"], &rows.collect::<Vec<_>>())?;
    }
    Ok(())
}

fn told(attempt: &Attempt) -> String {
    let state = attempt.state.name();
    match &attempt.state {
        AttemptState::Paid { payment } => format!("{state} {}", payment.trade_no),
        AttemptState::Disputed { trade_no, what } => format!("{state} {trade_no}: {what}"),
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
