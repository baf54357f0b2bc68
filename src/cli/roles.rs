//! The roles at work, and the migrations they need.

use std::process;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::print;
use crate::{
    app::{App, Roles},
    config::Settings,
    store::Store,
    telemetry,
};

/// Works until SIGTERM or SIGINT, then leaves in order; a second signal leaves at once.
pub async fn run(settings: &Settings, roles: Roles) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    telemetry::install_metrics().map_err(anyhow::Error::msg)?;
    let app = tokio::select! {
        app = App::start(settings, roles) => app?,
        // Nothing was taken yet, so there is nothing to finish.
        () = signals.next() => return Ok(()),
    };
    match app.public_addr {
        Some(public) => tracing::info!(%public, operations = %app.operations_addr, "at work"),
        None => tracing::info!(operations = %app.operations_addr, "at work"),
    }
    signals.next().await;
    tracing::info!("leaving: what is held is finished first; a second signal leaves at once");
    tokio::select! {
        () = app.stop() => {}
        () = signals.next() => {
            tracing::warn!("left at once: unacknowledged messages come back by themselves");
            process::exit(1);
        }
    }
    tracing::info!("left");
    Ok(())
}

/// Runs the migrations that are missing and says which.
pub async fn migrate(settings: &Settings) -> anyhow::Result<()> {
    let store = Store::connect(&settings.store_settings()).await.context("database.url: cannot connect")?;
    let later = store.later_migrations().await.context("database: the state of its tables cannot be read")?;
    let applied = store.migrate().await.context("migrations")?;
    if applied.is_empty() {
        print::line("no migration was missing")?;
    }
    for name in applied {
        print::line(format_args!("applied {name}"))?;
    }
    for name in later {
        print::line(format_args!("there already, from a later release: {name}"))?;
    }
    store.close().await;
    Ok(())
}

/// What asks a process to leave.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on they do not kill the process. Errors: the system gives no handler.
    pub fn listen() -> anyhow::Result<Self> {
        let terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be listened for")?;
        let interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be listened for")?;
        Ok(Self { terminate, interrupt })
    }

    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
