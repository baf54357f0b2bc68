//! The command line, a file per noun.
//!
//! Secrets are read from files or stdin, never from an argument: arguments stand in `ps` and in shells' histories.

use std::{env, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::{app::Roles, config::Settings, telemetry};

use self::{desk::Desk, key::KeyCommand, queue::QueueCommand};

mod anomalies;
mod channel;
mod demo;
mod desk;
mod doctor;
mod event;
mod input;
mod key;
mod merchant;
mod mini_program;
mod names;
mod order;
mod parked;
mod print;
mod queue;
mod reconcile;
mod refund;
mod reseal;
mod roles;
mod simulator;

/// Payment orders of mini-programs through a queue to WeChat Pay and Alipay, without losing or doubling one
#[derive(Debug, Parser)]
#[command(name = "prepay", version, disable_help_subcommand = true)]
struct Cli {
    /// Settings file (TOML); PREPAY_ variables go over it [env: PREPAY_SETTINGS]
    #[arg(long, global = true, value_name = "FILE")]
    settings: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take calls of phones, merchants and wallets
    Front,
    /// Call the wallets for what waits in the queues
    Worker,
    /// Ask the wallets about silent payments, refresh their keys, sweep
    Scheduler,
    /// All roles in one process
    Serve,
    /// Bring the database's tables up to date
    Migrate,
    /// Say what a deployment still lacks, down to signed calls to the wallets that cost nothing
    Doctor(doctor::DoctorArgs),
    /// Keys of the deployment itself
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Merchants and the keys that sign their requests
    #[command(subcommand)]
    Merchant(merchant::MerchantCommand),
    /// Merchants' accounts at the wallets
    #[command(subcommand)]
    Channel(channel::ChannelCommand),
    /// Mini-programs in which orders are paid
    #[command(subcommand)]
    MiniProgram(mini_program::MiniProgramCommand),
    /// Queues at the broker
    #[command(subcommand)]
    Queue(queue::QueueCommand),
    /// Messages that were set aside for a person
    #[command(subcommand)]
    Parked(parked::ParkedCommand),
    /// Orders, to look into and to close
    #[command(subcommand)]
    Order(order::OrderCommand),
    /// Money that goes back
    #[command(subcommand)]
    Refund(refund::RefundCommand),
    /// What merchants are told, and where it does not arrive
    #[command(subcommand)]
    Event(event::EventCommand),
    /// Match the wallets' bills of a day with our rows, and repair what differs
    Reconcile(reconcile::ReconcileArgs),
    /// Simulated wallets alone
    Simulator(simulator::SimulatorArgs),
    /// Everything on this machine, with simulated wallets and a page to pay on
    Demo(demo::DemoArgs),
}

/// Runs what the arguments say. Exit codes: 0 done, 1 not done (one line on stderr says why), 2 wrong usage.
///
/// The runtime is made here and not in `main.rs`: what a binary awaits is compiled into the binary once more.
#[tokio::main]
pub async fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli).await {
        Ok(code) => code,
        Err(error) => {
            // Whatever a library says, ours is one line.
            let text = format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ");
            eprintln!("prepay: {text}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let read = Reading { file: cli.settings };
    match cli.command {
        Command::Front => roles::run(&read.for_a_role()?, Roles::FRONT).await?,
        Command::Worker => roles::run(&read.for_a_role()?, Roles::WORKER).await?,
        Command::Scheduler => roles::run(&read.for_a_role()?, Roles::SCHEDULER).await?,
        Command::Serve => roles::run(&read.for_a_role()?, Roles::ALL).await?,
        Command::Migrate => roles::migrate(&read.for_a_command()?).await?,
        Command::Doctor(args) => return doctor::run(read.settings(), &args).await,
        Command::Key(KeyCommand::Master(args)) => key::master(&args)?,
        Command::Queue(QueueCommand::Definitions) => queue::definitions(&read.for_a_command()?)?,
        Command::Queue(QueueCommand::Depth) => queue::depth(&read.for_a_command()?).await?,
        Command::Simulator(args) => simulator::run(args).await?,
        Command::Demo(args) => demo::run(args).await?,
        Command::Key(_)
        | Command::Merchant(_)
        | Command::Channel(_)
        | Command::MiniProgram(_)
        | Command::Parked(_)
        | Command::Order(_)
        | Command::Refund(_)
        | Command::Event(_)
        | Command::Reconcile(_) => {
            let desk = Desk::open(read.for_a_command()?).await?;
            let done = at_the_desk(&desk, cli.command).await;
            desk.close().await;
            done?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The commands that look into the database or write to it.
async fn at_the_desk(desk: &Desk, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Key(command) => key::run(desk, command).await,
        Command::Merchant(command) => merchant::run(desk, command).await,
        Command::Channel(command) => channel::run(desk, command).await,
        Command::MiniProgram(command) => mini_program::run(desk, command).await,
        Command::Parked(command) => parked::run(desk, command).await,
        Command::Order(command) => order::run(desk, command).await,
        Command::Refund(command) => refund::run(desk, command).await,
        Command::Event(command) => event::run(desk, command).await,
        Command::Reconcile(args) => reconcile::run(desk, args).await,
        _ => Ok(()),
    }
}

/// Where settings come from.
struct Reading {
    file: Option<PathBuf>,
}

impl Reading {
    /// Settings, and no logging.
    fn settings(&self) -> anyhow::Result<Settings> {
        let named = env::var_os("PREPAY_SETTINGS").filter(|name| !name.is_empty()).map(PathBuf::from);
        let file = self.file.clone().or(named);
        // A variable that is no Unicode is none of ours.
        let variables =
            env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Settings::read(file.as_deref(), variables)
    }

    /// Settings, and logging as they say.
    fn for_a_role(&self) -> anyhow::Result<Settings> {
        let settings = self.settings()?;
        telemetry::log_to_stderr(&settings.log.filter, settings.log.format).map_err(anyhow::Error::msg)?;
        Ok(settings)
    }

    /// Settings, and only errors beside the command's own words: they say themselves what did not work.
    fn for_a_command(&self) -> anyhow::Result<Settings> {
        let settings = self.settings()?;
        telemetry::log_errors_to_stderr(settings.log.format).map_err(anyhow::Error::msg)?;
        Ok(settings)
    }
}
