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
    /// Address of the simulated wallets: WeChat Pay at the root, Alipay at /gateway.do. Roles speak plain http to this machine
    /// alone: beyond it, put TLS before the simulator
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
    for (name, url) in
        [("base", simulator.base_url()), ("backup", simulator.backup_url()), ("control", simulator.control_url())]
    {
        print::line(format_args!("{name} {}", callable(&url)))?;
    }
    signals.next().await;
    simulator.shutdown().await;
    Ok(())
}

/// An address that listens everywhere is none that anybody can call: from this machine it is this one.
fn callable(url: &str) -> String {
    url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
}

#[cfg(test)]
mod tests {
    use super::callable;

    #[test]
    fn what_is_printed_can_be_called() {
        assert_eq!(callable("http://0.0.0.0:8090"), "http://127.0.0.1:8090");
        assert_eq!(callable("http://[::]:8090"), "http://[::1]:8090");
        assert_eq!(callable("http://192.0.2.7:8090"), "http://192.0.2.7:8090");
    }
}
