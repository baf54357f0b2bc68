//! Messages that were set aside: a person looks at them, removes the reason, and lets notifications be applied again.
//!
//! What is printed is masked by whoever parked it. An order command is never sent again: its phone has long been answered,
//! and the same payInfo posted anew does what it asked for.

use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use secrecy::ExposeSecret;

use super::{desk::Desk, print, queue};
use crate::{
    keys::Place,
    queue::{Broker, Envelope, Message, NoticeMessage, Published, rabbitmq::RabbitBroker},
    store::Parked,
};

/// How long a notification may take to be confirmed by the broker.
const PATIENCE: Duration = Duration::from_secs(10);
/// Notifications that one run sends at most, so that their names fit in memory.
const AT_ONCE_MAX: u64 = 10_000;

#[derive(Debug, Subcommand)]
pub enum ParkedCommand {
    /// List them, newest first
    List {
        /// Rows at most
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1_000))]
        limit: u64,
    },
    /// Show one: what it was, why it is here, whether it can be applied again
    Show {
        /// Its name in `prepay parked list`
        #[arg(value_name = "MESSAGE")]
        id: String,
    },
    /// Let notifications be applied again once their reason is gone; one that still cannot be comes back under a new name
    Apply(ApplyArgs),
}

#[derive(Debug, Args)]
#[group(id = "which", required = true, multiple = false, args = ["id", "reason"])]
pub struct ApplyArgs {
    /// Their names in `prepay parked list`
    #[arg(value_name = "MESSAGE")]
    id: Vec<String>,
    /// All notifications whose reason has this text in it
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    reason: Option<String>,
}

pub async fn run(desk: &Desk, command: ParkedCommand) -> anyhow::Result<()> {
    match command {
        ParkedCommand::List { limit } => list(desk, limit).await,
        ParkedCommand::Show { id } => show(desk, &id).await,
        ParkedCommand::Apply(args) => apply(desk, &args).await,
    }
}

async fn list(desk: &Desk, limit: u64) -> anyhow::Result<()> {
    let rows = desk.store.list_parked(limit).await?.into_iter().map(|row| {
        [
            row.received_at.rfc3339(),
            row.queue,
            row.kind.unwrap_or_else(|| "?".to_owned()),
            row.order.map_or_else(|| "-".to_owned(), |order| order.to_string()),
            row.reason,
            row.id,
        ]
    });
    let heading = ["RECEIVED", "QUEUE", "KIND", "ORDER", "REASON", "MESSAGE"];
    Ok(print::table(heading, &rows.collect::<Vec<_>>())?)
}

/// Errors: no such message.
async fn named(desk: &Desk, id: &str) -> anyhow::Result<Parked> {
    let row = desk.store.parked(id).await?;
    row.with_context(|| format!("there is no parked message {id} (`prepay parked list`)"))
}

async fn show(desk: &Desk, id: &str) -> anyhow::Result<()> {
    let row = named(desk, id).await?;
    print::line(format_args!("message: {}", row.id))?;
    print::line(format_args!("kind: {}", row.kind.as_deref().unwrap_or("not one of ours")))?;
    print::line(format_args!("queue: {}", row.queue))?;
    print::line(format_args!("set aside: {}", row.received_at.rfc3339()))?;
    print::line(format_args!("reason: {}", row.reason))?;
    if let Some(order) = row.order {
        print::line(format_args!("order: {order}"))?;
    }
    print::line(format_args!("body, masked: {}", row.body_masked))?;
    match why_not(&row) {
        Some(why) => print::line(format_args!("cannot be applied again: {why}"))?,
        None => print::line(format_args!("once the reason is gone: `prepay parked apply {}`", row.id))?,
    }
    Ok(())
}

/// Why a message is not for sending again. `None`: it is.
fn why_not(row: &Parked) -> Option<&'static str> {
    match (row.kind.as_deref(), &row.body_sealed) {
        (Some("notice"), Some(_)) => None,
        (Some("notice"), None) => Some("its body was not kept"),
        (Some("prepay"), _) => Some("it is an order command; the phone's next call does what it asked for"),
        _ => Some("it is no message of ours"),
    }
}

async fn apply(desk: &Desk, args: &ApplyArgs) -> anyhow::Result<()> {
    desk.needs_back_key()?;
    if desk.settings.broker_is_embedded() {
        bail!(
            "broker.url is `embedded`: its queues live inside `serve`, where nobody else can put anything; \
             the scheduler asks the wallets about unpaid orders all the same"
        );
    }
    // Looked at before anything is sent: one that cannot be sent again is said first.
    let mut named_rows = Vec::new();
    for id in &args.id {
        let row = named(desk, id).await?;
        if let Some(why) = why_not(&row) {
            bail!("message {id} cannot be applied again: {why}");
        }
        named_rows.push(row);
    }
    let broker = queue::connect(&desk.settings).await?;
    let done = async {
        let mut applied = Applied::default();
        for row in &named_rows {
            put_back(desk, &broker, row, &mut applied).await?;
        }
        if let Some(reason) = &args.reason {
            all_of(desk, &broker, reason, &mut applied).await?;
        }
        Ok::<_, anyhow::Error>(applied)
    };
    let done = done.await;
    broker.close().await;
    let Applied { sent, unreadable } = done?;
    print::line(format_args!("{sent} notifications are with the workers again"))?;
    if unreadable > 0 {
        bail!("{unreadable} messages stay parked: their bodies cannot be opened");
    }
    Ok(())
}

/// What one run did.
#[derive(Debug, Default)]
struct Applied {
    sent: u32,
    unreadable: u32,
}

/// Named first, then sent: one that is parked again meanwhile has another name and is not met again.
async fn all_of(desk: &Desk, broker: &RabbitBroker, reason: &str, applied: &mut Applied) -> anyhow::Result<()> {
    let ids = desk.store.parked_notices_because(reason, AT_ONCE_MAX).await?;
    let full = u64::try_from(ids.len()).is_ok_and(|count| count == AT_ONCE_MAX);
    for id in ids {
        // Gone: somebody else was faster.
        let Some(row) = desk.store.parked(&id).await? else { continue };
        put_back(desk, broker, &row, applied).await?;
    }
    if full {
        print::line(format_args!("there may be more of them: run it again"))?;
    }
    Ok(())
}

/// Confirmed by the broker, and only then forgotten here.
///
/// It goes under a fresh id: parked again before the row is deleted, it would otherwise be the same row and be lost with it.
/// Sent twice, because the confirm or this process was lost between the two, it is applied once: a notice changes what it
/// changes whenever it comes.
///
/// One that does not open (its key is gone) is told and left: the others can be news of payments too.
/// Errors: the broker's and the database's, which the others would meet as well.
async fn put_back(desk: &Desk, broker: &RabbitBroker, row: &Parked, applied: &mut Applied) -> anyhow::Result<()> {
    let notice = match opened(desk, row) {
        Ok(notice) => notice,
        Err(error) => {
            applied.unreadable += 1;
            return Ok(print::line(format_args!("{} stays parked: {error:#}", row.id))?);
        }
    };
    let envelope = Envelope::notice(notice);
    match broker.publish(&envelope, PATIENCE).await {
        Published::Kept => {}
        Published::Refused(because) => {
            bail!("message {}: the broker refused it ({}); it stays parked", row.id, because.as_str())
        }
        Published::Unknown => {
            bail!("message {}: the broker did not confirm it; it stays parked and may be applied all the same", row.id)
        }
    }
    desk.store.unpark(&row.id).await?;
    applied.sent += 1;
    Ok(print::line(format_args!("{} goes again as {}", row.id, envelope.id))?)
}

fn opened(desk: &Desk, row: &Parked) -> anyhow::Result<NoticeMessage> {
    let sealed = row.body_sealed.as_ref().with_context(|| format!("message {}: its body was not kept", row.id))?;
    let place = Place { table: "parked", column: "body_sealed", row: &row.id };
    let body = desk.vault.open(place, sealed)?;
    match Envelope::decode(body.expose_secret()) {
        Ok(Envelope { message: Message::Notice(notice), .. }) => Ok(notice),
        Ok(_) => bail!("message {}: its body is an order command", row.id),
        Err(error) => bail!("message {}: {error}", row.id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::time::Timestamp, keys::Sealed};

    #[test]
    fn only_a_notification_goes_again() {
        let row = |kind: Option<&str>, sealed: bool| Parked {
            id: "1".into(),
            queue: "prepay.notifications".into(),
            kind: kind.map(str::to_owned),
            order: None,
            reason: "x".into(),
            body_masked: "{}".into(),
            body_sealed: sealed.then(|| Sealed::from_text("s1.k.x")),
            received_at: Timestamp::from_ms(0),
        };
        assert_eq!(why_not(&row(Some("notice"), true)), None);
        for (kind, sealed, says) in [
            (Some("notice"), false, "not kept"),
            (Some("prepay"), true, "order command"),
            (None, true, "no message of ours"),
        ] {
            assert!(why_not(&row(kind, sealed)).unwrap().contains(says), "{kind:?}");
        }
    }
}
