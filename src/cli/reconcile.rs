//! The wallets' bills against our rows: matched now, looked into, repaired.

use std::{io::IsTerminal, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{desk::Desk, names, print};
use crate::{
    domain::{
        bill::{BillDate, DiscrepancyState, RunState},
        id::AccountId,
    },
    gateway::http,
    steps::{
        Registry, StepSettings, Steps,
        reconcile::{BillProgress, Reconciled, Repaired},
    },
    store::BillRun,
};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct ReconcileArgs {
    /// The day in China: 2026-02-28
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = BillDate::parse, required = true)]
    date: Option<BillDate>,
    /// Only this channel account
    #[arg(long, value_name = "ID", value_parser = names::account_id)]
    channel: Option<AccountId>,
    #[command(subcommand)]
    command: Option<ReconcileCommand>,
}

#[derive(Debug, Subcommand)]
enum ReconcileCommand {
    /// The newest days, account by account
    Days {
        /// How many at most
        #[arg(long, default_value_t = 50)]
        limit: u64,
    },
    /// What bills and our rows do not agree on
    List {
        /// Repaired and dismissed ones, too
        #[arg(long)]
        all: bool,
        /// How many at most
        #[arg(long, default_value_t = 50)]
        limit: u64,
    },
    /// Ask the wallet about a discrepancy and take its word in
    Repair {
        /// The number that `prepay reconcile list` shows
        id: i64,
    },
    /// It is nothing: leave it out of the list from now on
    Dismiss {
        /// The number that `prepay reconcile list` shows
        id: i64,
        /// Why, for the next person
        #[arg(long, value_name = "TEXT")]
        because: String,
    },
}

pub async fn run(desk: &Desk, args: ReconcileArgs) -> anyhow::Result<()> {
    match args.command {
        None => match_day(desk, args.date.context("--date is missing")?, args.channel).await,
        Some(ReconcileCommand::Days { limit }) => days(desk, limit).await,
        Some(ReconcileCommand::List { all, limit }) => list(desk, all, limit).await,
        Some(ReconcileCommand::Repair { id }) => repair(desk, id).await,
        Some(ReconcileCommand::Dismiss { id, because }) => dismiss(desk, id, &because).await,
    }
}

/// What the scheduler has, in this process: repairs and matching need the wallets' keys.
async fn steps(desk: &Desk) -> anyhow::Result<Steps> {
    desk.needs_back_key()?;
    let http = http::client(&desk.settings.http_settings()).context("TLS cannot be set up")?;
    let (store, vault, clock) = (desk.store.clone(), desk.vault.clone(), desk.clock.clone());
    let registry = Registry::new(store.clone(), vault, http, clock.clone(), desk.settings.budget_settings());
    registry.reload().await.context("channel accounts cannot be read")?;
    // No step of this command makes a link, so the fronts' address need not be set here.
    let settings = desk.settings.step_settings().unwrap_or_else(|_| StepSettings {
        bills_dir: desk.settings.scheduler.bills_dir.clone().unwrap_or_else(std::env::temp_dir),
        bill_limits: desk.settings.bill_limits(),
        ..StepSettings::default()
    });
    Ok(Steps { store, registry, clock, settings })
}

async fn match_day(desk: &Desk, date: BillDate, channel: Option<AccountId>) -> anyhow::Result<()> {
    if desk.clock.now() < date.end() {
        bail!("{date} is not over: its bills come on the next day, after 10:00");
    }
    let steps = steps(desk).await?;
    let accounts = match channel {
        Some(id) => vec![desk.account(id).await?],
        None => desk.store.accounts().await?.into_iter().filter(|row| row.secrets.is_some()).collect(),
    };
    if accounts.is_empty() {
        bail!("there is no channel account (`prepay channel list`)");
    }
    let (mut open, mut wrong) = (0, 0);
    for row in accounts {
        let id = row.account.id;
        let bar = Bar::new(format!("{id} {}", row.account.wallet));
        let came = steps.reconcile(id, date, &*bar).await;
        bar.gone();
        match came.with_context(|| format!("channel account {id}"))? {
            Reconciled::Held => {
                wrong += 1;
                print::line(format_args!("channel {id}: somebody else is at it (`prepay reconcile days`)"))?;
            }
            Reconciled::Done(run) => {
                wrong += usize::from(!run.state.is_done() || run.last_error.is_some());
                open += run.totals.discrepancies;
                print::line(format_args!("channel {id}: {}", told(&run)))?;
            }
        }
    }
    if open > 0 {
        print::line(format_args!("{open} do not agree: `prepay reconcile list`"))?;
    }
    if wrong > 0 {
        bail!("{wrong} of the bills of {date} could not be matched");
    }
    Ok(())
}

fn told(run: &BillRun) -> String {
    let totals = run.totals;
    match (run.state, &run.last_error) {
        (state, Some(error)) if state.is_done() => {
            format!("not looked at again, {} as before: {error}", state.as_str())
        }
        (_, Some(error)) => format!("not matched: {error}"),
        (RunState::None, None) => "the wallet has no bill, and nothing happened".to_owned(),
        (RunState::Matched, None) => format!(
            "{} payments of {} fen, {} refunds of {} fen, {} rows of others, {} do not agree",
            totals.payments, totals.pay_fen, totals.refunds, totals.refund_fen, totals.of_others, totals.discrepancies
        ),
        (state, None) => state.as_str().to_owned(),
    }
}

async fn days(desk: &Desk, limit: u64) -> anyhow::Result<()> {
    let rows = desk.store.bill_runs(limit).await?.into_iter().map(|run| {
        [
            run.date.to_string(),
            run.account.to_string(),
            run.state.as_str().to_owned(),
            run.totals.payments.to_string(),
            run.totals.pay_fen.to_string(),
            run.totals.refunds.to_string(),
            run.totals.refund_fen.to_string(),
            run.totals.discrepancies.to_string(),
            run.next_at.map_or_else(|| "-".to_owned(), |at| at.rfc3339()),
            run.last_error.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    });
    let heading = ["DAY", "CHANNEL", "STATE", "PAID", "FEN", "REFUNDED", "FEN", "DISAGREE", "NEXT", "LAST ERROR"];
    Ok(print::table(heading, &rows.collect::<Vec<_>>())?)
}

async fn list(desk: &Desk, all: bool, limit: u64) -> anyhow::Result<()> {
    let rows = desk.store.list_discrepancies(all, limit).await?.into_iter().map(|row| {
        [
            row.id.to_string(),
            row.date.to_string(),
            row.account.to_string(),
            row.found.kind.as_str().to_owned(),
            row.found.number().to_owned(),
            row.found.ours.clone(),
            row.found.theirs.clone(),
            row.found.repair.as_str().to_owned(),
            row.state.as_str().to_owned(),
            row.note.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    });
    let heading = ["ID", "DAY", "CHANNEL", "KIND", "NUMBER", "OURS", "THEIRS", "REPAIR", "STATE", "NOTE"];
    Ok(print::table(heading, &rows.collect::<Vec<_>>())?)
}

async fn repair(desk: &Desk, id: i64) -> anyhow::Result<()> {
    match steps(desk).await?.repair(id).await? {
        Repaired::Yes(note) => Ok(print::line(format_args!("repaired: {note}"))?),
        Repaired::NotOpen(state) => Ok(print::line(format_args!("nothing to do: it is {} already", state.as_str()))?),
        Repaired::No(note) => bail!("it stays open: {note}"),
        Repaired::NotThere => bail!("there is no discrepancy {id} (`prepay reconcile list`)"),
        Repaired::ForAPerson => {
            bail!(
                "no question to the wallet helps: look at both sides, then `prepay reconcile dismiss {id} --because …`"
            )
        }
    }
}

async fn dismiss(desk: &Desk, id: i64, because: &str) -> anyhow::Result<()> {
    let now = desk.clock.now();
    if desk.store.note_discrepancy(id, DiscrepancyState::Dismissed, because, now).await? {
        return Ok(print::line("dismissed")?);
    }
    match desk.store.discrepancy(id).await? {
        Some(row) => Ok(print::line(format_args!("nothing to do: it is {} already", row.state.as_str()))?),
        None => bail!("there is no discrepancy {id} (`prepay reconcile list`)"),
    }
}

/// A bar on stderr, when a person looks at it.
struct Bar(ProgressBar);

impl Bar {
    fn new(account: String) -> Arc<Self> {
        let bar = ProgressBar::new_spinner().with_prefix(account);
        if !std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        Self::dress(&bar, "{spinner} {prefix}: {msg}");
        bar.enable_steady_tick(Duration::from_millis(200));
        Arc::new(Self(bar))
    }

    fn dress(bar: &ProgressBar, template: &str) {
        // Without a template that can be read it goes on with the one it has.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
    }

    fn gone(&self) {
        self.0.finish_and_clear();
    }
}

impl BillProgress for Bar {
    fn fetching(&self) {
        self.0.set_message("fetching the bill");
    }

    fn reading(&self, lines: u64) {
        self.0.set_length(lines);
        self.0.set_message("comparing");
        Self::dress(&self.0, "{spinner} {prefix}: {msg} {bar:30} {human_pos}/{human_len} {per_sec} {eta}");
    }

    fn compared(&self, rows: u64) {
        self.0.inc(rows);
    }

    fn looking(&self) {
        self.0.set_message("looking for what it lacks");
    }
}
