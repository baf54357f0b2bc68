//! The simulated wallets alone, for load tests and for trying a deployment.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::Args;
use simulator::{Options, Simulator};

use super::{print, roles::Signals};

#[derive(Debug, Args)]
pub struct SimulatorArgs {
    /// Address of the simulated wallets: WeChat Pay at the root, Alipay at /gateway.do
    #[arg(long, value_name = "ADDR", default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 8090)))]
    listen: SocketAddr,
    /// Address of the control routes alone (/_sim/…)
    #[arg(long, value_name = "ADDR", default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 8091)))]
    control_listen: SocketAddr,
    /// What every call of a wallet takes, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 0)]
    latency_ms: u64,
    /// Seed of the faults that happen by chance
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// File to which everything that happened is appended, one JSON object a line
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(args: SimulatorArgs) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    let simulator = Simulator::start(Options {
        listen: args.listen,
        control_listen: args.control_listen,
        latency: Duration::from_millis(args.latency_ms),
        seed: args.seed,
        ledger: args.ledger,
        ..Options::default()
    })
    .await?;
    print::line(format_args!("base {}", simulator.base_url()))?;
    print::line(format_args!("backup {}", simulator.backup_url()))?;
    print::line(format_args!("control {}", simulator.control_url()))?;
    signals.next().await;
    simulator.shutdown().await;
    Ok(())
}
