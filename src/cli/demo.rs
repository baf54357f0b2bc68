//! The demo's arguments.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::Args;

use crate::demo::{self, DemoOptions};

#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Where the page is: an address of this machine's loopback, or 0.0.0.0:PORT for everybody who can reach it (the demo asks
    /// nobody who they are)
    #[arg(long, value_name = "ADDR", default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)))]
    listen: SocketAddr,
    /// Folder that keeps the demo's database; without it nothing is left afterwards
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// What every call of a simulated wallet takes, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 120)]
    latency_ms: u64,
}

/// Runs the demo.
pub async fn run(args: DemoArgs) -> anyhow::Result<()> {
    let latency = Duration::from_millis(args.latency_ms);
    demo::run(DemoOptions { listen: args.listen, data: args.data, latency }).await
}
