//! `prepay doctor`: what a deployment still lacks, and what to do next.

use std::process::ExitCode;

use clap::Args;

use super::{desk::Desk, input::Source, print};
use crate::{config::Settings, store::Store};

mod broker;
mod deployment;
mod outside;
mod wallets;

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Call no wallet
    #[arg(long)]
    offline: bool,
    /// What RabbitMQ's /api/queues answered, to compare the lengths in force with the settings; - is stdin
    #[arg(long, value_name = "FILE")]
    policies_file: Option<Source>,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ok,
    /// Something was never set up.
    Lacks,
    /// Something is set up and does not work.
    Failed,
    /// Nothing that can be proven from here.
    Hint,
}

/// Prints each check as it comes, and remembers whether all went well.
#[derive(Default)]
struct Report {
    wrong: u32,
}

impl Report {
    fn say(
        &mut self,
        verdict: Verdict,
        check: impl std::fmt::Display,
        told: impl std::fmt::Display,
    ) -> anyhow::Result<()> {
        let word = match verdict {
            Verdict::Ok => "ok",
            Verdict::Lacks => "lacks",
            Verdict::Failed => "failed",
            Verdict::Hint => "hint",
        };
        if matches!(verdict, Verdict::Lacks | Verdict::Failed) {
            self.wrong += 1;
        }
        // Words of a database or a wallet may have several lines; a check is one.
        let text = format!("{check}: {told}").split_whitespace().collect::<Vec<_>>().join(" ");
        Ok(print::line(format_args!("{word:<6} {text}"))?)
    }

    fn ok(&mut self, check: impl std::fmt::Display, told: impl std::fmt::Display) -> anyhow::Result<()> {
        self.say(Verdict::Ok, check, told)
    }

    fn lacks(&mut self, check: impl std::fmt::Display, what_to_do: impl std::fmt::Display) -> anyhow::Result<()> {
        self.say(Verdict::Lacks, check, what_to_do)
    }

    fn failed(&mut self, check: impl std::fmt::Display, what_to_do: impl std::fmt::Display) -> anyhow::Result<()> {
        self.say(Verdict::Failed, check, what_to_do)
    }

    fn hint(&mut self, check: impl std::fmt::Display, told: impl std::fmt::Display) -> anyhow::Result<()> {
        self.say(Verdict::Hint, check, told)
    }
}

/// Runs every check that the ones before allow. Exit code 1 when one lacks or failed.
pub async fn run(settings: anyhow::Result<Settings>, args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let mut report = Report::default();
    match settings {
        Err(error) => report.failed("settings", format_args!("{error:#}"))?,
        Ok(settings) => {
            report.ok("settings", "read and checked")?;
            examine(&mut report, settings, args).await?;
        }
    }
    outside::hints(&mut report)?;
    if report.wrong == 0 {
        print::line("nothing is lacking")?;
        return Ok(ExitCode::SUCCESS);
    }
    print::line(format_args!("{} checks lack something or failed", report.wrong))?;
    Ok(ExitCode::FAILURE)
}

async fn examine(report: &mut Report, settings: Settings, args: &DoctorArgs) -> anyhow::Result<()> {
    deployment::master_keys(report, &settings)?;
    deployment::public_url(report, &settings)?;
    broker::check(report, &settings, args.policies_file.as_ref()).await?;
    let store = match Store::connect(&settings.store_settings()).await {
        Ok(store) => store,
        Err(error) => {
            let error = anyhow::Error::from(error);
            return report.failed("database", format_args!("database.url: {error:#}"));
        }
    };
    let usable = deployment::database(report, &store).await?;
    store.close().await;
    if !usable {
        return Ok(());
    }
    let desk = match Desk::open(settings).await {
        Ok(desk) => desk,
        Err(error) => return report.failed("what is enrolled", format_args!("not looked at: {error:#}")),
    };
    let checked = async {
        deployment::keys(report, &desk).await?;
        wallets::merchants(report, &desk).await?;
        wallets::accounts(report, &desk, args.offline).await
    };
    let checked = checked.await;
    desk.close().await;
    checked
}
