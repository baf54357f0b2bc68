//! What merchants are told: how it stands, sending it again, and endpoints that are paused.

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};

use super::{
    desk::{Desk, yes_no},
    names, print,
};
use crate::{
    domain::{
        event::{EventState, NotifyId, origin},
        id::{CustomerNo, IdError},
        time::Timestamp,
    },
    store::{EventFilter, ResendMany, Resent},
};

/// Events that are sent again by one statement's round; the command goes on until none is left.
const ROUND: u64 = 1_000;

#[derive(Debug, Subcommand)]
pub enum EventCommand {
    /// List the newest events
    List {
        /// Of this merchant alone
        #[arg(long, value_name = "CUSTOMER_NO", value_parser = names::customer_no)]
        customer: Option<CustomerNo>,
        /// In this state alone
        #[arg(long)]
        state: Option<State>,
        #[arg(long, default_value_t = 20)]
        limit: u64,
    },
    /// Send events again: one by its number, or a merchant's parked ones of a span of time
    Resend(ResendArgs),
    /// List the endpoints that fail or are paused
    Endpoints {
        #[arg(long, default_value_t = 50)]
        limit: u64,
    },
    /// Send nothing to an endpoint until it is resumed; its events wait and are not given up
    Pause(EndpointArgs),
    /// Send to an endpoint again, whoever paused it
    Resume(EndpointArgs),
}

#[derive(Debug, Args)]
pub struct ResendArgs {
    /// Its number (notifyId)
    #[arg(value_parser = notify_id, conflicts_with_all = ["customer", "from", "to", "state"], required_unless_present = "customer")]
    id: Option<NotifyId>,
    /// The merchant whose events are sent again
    #[arg(long, value_name = "CUSTOMER_NO", value_parser = names::customer_no, requires_all = ["from", "to"])]
    customer: Option<CustomerNo>,
    /// Written from then on: 2026-03-01T12:00:00+08:00
    #[arg(long, value_name = "TIME", value_parser = moment)]
    from: Option<Timestamp>,
    /// ... and before then
    #[arg(long, value_name = "TIME", value_parser = moment)]
    to: Option<Timestamp>,
    /// Those in this state
    #[arg(long, default_value = "parked")]
    state: State,
}

#[derive(Debug, Args)]
pub struct EndpointArgs {
    /// The merchant
    #[arg(value_parser = names::customer_no)]
    customer_no: CustomerNo,
    /// Any notifyUrl there: scheme, host and port are looked at
    url: String,
}

/// Where an event stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum State {
    Pending,
    Held,
    Delivered,
    Withdrawn,
    Parked,
}

impl State {
    const fn stored(self) -> EventState {
        match self {
            Self::Pending => EventState::Pending,
            Self::Held => EventState::Held,
            Self::Delivered => EventState::Delivered,
            Self::Withdrawn => EventState::Withdrawn,
            Self::Parked => EventState::Parked,
        }
    }
}

fn notify_id(text: &str) -> Result<NotifyId, IdError> {
    NotifyId::parse(text)
}

fn moment(text: &str) -> Result<Timestamp, &'static str> {
    Timestamp::parse_rfc3339(text).ok_or("a time such as 2026-03-01T12:00:00+08:00")
}

pub async fn run(desk: &Desk, command: EventCommand) -> anyhow::Result<()> {
    match command {
        EventCommand::List { customer, state, limit } => list(desk, customer, state, limit).await,
        EventCommand::Resend(args) => resend(desk, args).await,
        EventCommand::Endpoints { limit } => endpoints(desk, limit).await,
        EventCommand::Pause(args) => pause(desk, &args).await,
        EventCommand::Resume(args) => resume(desk, &args).await,
    }
}

async fn list(desk: &Desk, customer: Option<CustomerNo>, state: Option<State>, limit: u64) -> anyhow::Result<()> {
    let merchant = match customer {
        Some(customer) => Some(desk.merchant(&customer).await?.id),
        None => None,
    };
    let filter = EventFilter { merchant, state: state.map(State::stored) };
    let customer_no = desk.customer_nos().await?;
    let rows = desk.store.list_events(filter, limit).await?.into_iter().map(|event| {
        let last = match (event.last_status, event.last_trouble) {
            (Some(status), Some(trouble)) => format!("{status} {trouble}"),
            (Some(status), None) => status.to_string(),
            (None, trouble) => trouble.unwrap_or_default(),
        };
        [
            event.id.to_string(),
            customer_no(event.merchant),
            event.order.to_string(),
            event.kind.as_str().to_owned(),
            event.state.as_str().to_owned(),
            event.tries.to_string(),
            last,
            event.next_at.map(Timestamp::rfc3339).unwrap_or_default(),
        ]
    });
    let heading = ["ID", "MERCHANT", "ORDER", "KIND", "STATE", "TRIES", "LAST", "NEXT"];
    Ok(print::table(heading, &rows.collect::<Vec<_>>())?)
}

async fn resend(desk: &Desk, args: ResendArgs) -> anyhow::Result<()> {
    let now = desk.clock.now();
    if let Some(id) = args.id {
        let event = desk.store.event(id).await?.with_context(|| format!("there is no event {id}"))?;
        return match desk.store.resend_event(event.merchant, id, now).await? {
            Resent::Done => Ok(print::line(format_args!("event {id} is sent again"))?),
            Resent::Withdrawn => bail!("event {id} was withdrawn: the order was paid after all"),
            Resent::NoSuch => bail!("there is no event {id}"),
        };
    }
    let customer = args.customer.context("name an event or --customer")?;
    let (from, to) = args.from.zip(args.to).context("--from and --to are needed")?;
    let merchant = desk.merchant(&customer).await?.id;
    // Events that are sent again while we count must not be found again.
    let to = to.ms().min(now.ms());
    let state = args.state.stored();
    let which = ResendMany { merchant, state, from, to: Timestamp::from_ms(to), limit: ROUND };
    let mut all = 0;
    loop {
        let (resent, more) = desk.store.resend_events(which, now).await?;
        all += resent;
        // Parked ones are not parked any more; others would come back as fast as they are sent.
        if !more || state != EventState::Parked {
            let rest = if more { "; there are more: narrow --from and --to" } else { "" };
            return Ok(print::line(format_args!("{all} events of {customer} are sent again{rest}"))?);
        }
    }
}

async fn endpoints(desk: &Desk, limit: u64) -> anyhow::Result<()> {
    let customer_no = desk.customer_nos().await?;
    let rows = desk.store.list_endpoints(limit).await?.into_iter().map(|row| {
        [
            customer_no(row.merchant),
            row.origin,
            row.failures.to_string(),
            yes_no(row.paused),
            yes_no(row.by_hand),
            row.probe_at.map(Timestamp::rfc3339).unwrap_or_default(),
        ]
    });
    let heading = ["MERCHANT", "ENDPOINT", "FAILURES", "PAUSED", "BY HAND", "TRIED NEXT"];
    Ok(print::table(heading, &rows.collect::<Vec<_>>())?)
}

async fn pause(desk: &Desk, args: &EndpointArgs) -> anyhow::Result<()> {
    let merchant = desk.merchant(&args.customer_no).await?.id;
    desk.store.pause_endpoint(merchant, &args.url, desk.clock.now()).await?;
    Ok(print::line(format_args!("{} of {} is paused until it is resumed", origin(&args.url), args.customer_no))?)
}

async fn resume(desk: &Desk, args: &EndpointArgs) -> anyhow::Result<()> {
    let merchant = desk.merchant(&args.customer_no).await?.id;
    if !desk.store.resume_endpoint(merchant, &args.url, desk.clock.now()).await? {
        bail!("{} of {} neither failed nor was paused (`prepay event endpoints`)", origin(&args.url), args.customer_no);
    }
    Ok(print::line(format_args!("{} of {} is resumed", origin(&args.url), args.customer_no))?)
}
