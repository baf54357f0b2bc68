//! One command shows it: `serve` on embedded parts, with simulated wallets over real HTTP and real signatures, one demo
//! merchant, and a page that shows a phone and, beside it, the merchant's desk.
//!
//! The demo stands above `app` and beside the command line: it starts an [`App`] and puts `/demo…` beside its front. Its
//! merchant makes orders, refunds and closes as any merchant does, by signed calls of the merchant API, and checks what it
//! is told; its phones are the simulator's.

use std::{
    io::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use poem::EndpointExt;
use simulator::{Options, Simulator};
use tokio::net::TcpListener;

use crate::{
    app::{App, Beside, Roles},
    config::Settings,
    domain::wallet::Wallet,
    telemetry::{self, LogFormat},
};

mod bills;
mod cashier;
mod data;
mod enrolment;
mod events;
mod notices;
mod page;
mod printed;
mod routes;
mod shop;

use bills::Bills;
use cashier::Phones;
use data::Data;
use events::EventLog;
use notices::Notices;
use routes::Scene;
use shop::Shop;

/// How a demo is started.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// Where page, phones and wallets reach it: an IPv4 loopback address, or `0.0.0.0`. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// The folder for database and master keys; `None`: a temporary one, gone at the end.
    pub data: Option<PathBuf>,
    /// How long each call of a wallet takes.
    pub latency: Duration,
}

/// Starts a demo, prints how to use it, and runs until Ctrl-C or SIGTERM.
///
/// Errors: what keeps it from starting, in words that say what to do.
pub async fn run(options: DemoOptions) -> anyhow::Result<()> {
    // What is printed is for people: only trouble may come between. A caller that set up logging before keeps its own.
    let _ = telemetry::log_to_stderr("warn", LogFormat::Text);
    let told = asked_to_leave()?;
    let demo = Demo::start(options).await?;
    say(&demo.text().await?)?;
    told.await;
    say("\nLeaving.\n")?;
    demo.stop().await;
    Ok(())
}

/// A demo at work; [`Demo::stop`] ends it in order.
pub struct Demo {
    /// `http://127.0.0.1:port`.
    pub base_url: String,
    listen: SocketAddr,
    latency: Duration,
    app: App,
    simulator: Simulator,
    shop: Arc<Shop>,
    phones: Arc<Phones>,
    // Last: dropping it may remove the folder that the others still write to.
    data: Data,
}

impl Demo {
    /// Everything from nothing: folder, keys, wallets, tables, merchant, roles. Returns when it can be called.
    ///
    /// Errors: as [`run`].
    pub async fn start(options: DemoOptions) -> anyhow::Result<Self> {
        telemetry::install_metrics().map_err(anyhow::Error::msg)?;
        let listener = bind(options.listen).await?;
        let listen = listener.local_addr().context("the listener does not tell its address")?;
        let base_url = format!("http://{}", own_address(listen));
        let data = Data::open(options.data.as_deref())?;
        let simulator = Simulator::start(Options { latency: options.latency, ..Options::default() }).await;
        let simulator = simulator.context("the simulated wallets do not start")?;

        let enrolled = enrolment::enrol(&data, &simulator).await.context("the demo merchant cannot be enrolled")?;
        let shop = Arc::new(Shop::new(&base_url, &enrolled)?);
        let phones = Arc::new(Phones::new(&simulator, &enrolled));
        let settings = Arc::new(settings(&data, &base_url));
        let bills = Arc::new(Bills::new(&simulator, &enrolled, settings.clone()));
        let beside = Beside {
            listener,
            prefix: "/demo",
            endpoint: routes::endpoint(Scene {
                shop: shop.clone(),
                phones: phones.clone(),
                events: EventLog::new(&enrolled.webhook_secret)?,
                notices: Notices::new(&simulator),
                bills: bills.clone(),
            })
            .map_to_response()
            .boxed(),
        };
        let app = App::start_beside(&settings, Roles::ALL, Some(beside)).await?;
        bills.stand_on(app.store().clone());
        Ok(Self { base_url, listen, latency: options.latency, app, simulator, shop, phones, data })
    }

    /// What is printed: the addresses, and a `curl` for each wallet with an order and a login code made now.
    ///
    /// Errors: an order that cannot be made.
    pub async fn text(&self) -> anyhow::Result<String> {
        let mut calls = Vec::new();
        for wallet in Wallet::ALL {
            let order = self.shop.new_order(wallet).await?;
            calls.push((wallet, order, self.phones.login(wallet, 1)?));
        }
        Ok(printed::Printed {
            base_url: &self.base_url,
            operations: self.app.operations_addr,
            open_to_others: (!self.listen.ip().is_loopback()).then_some(self.listen),
            latency: self.latency,
            data: &self.data,
            calls,
        }
        .to_string())
    }

    /// Answers calls under way, stops the roles and the wallets, removes a temporary folder.
    pub async fn stop(self) {
        let Self { app, simulator, data, .. } = self;
        app.stop().await;
        simulator.shutdown().await;
        drop(data);
    }
}

/// Binds before anything else is made, so that a taken port costs nobody a folder.
async fn bind(addr: SocketAddr) -> anyhow::Result<TcpListener> {
    // Links carry this address, and plain http is allowed to a loopback literal alone; a link may hold no brackets either.
    let reachable = matches!(addr.ip(), IpAddr::V4(ip) if ip.is_loopback() || ip.is_unspecified());
    if !reachable {
        bail!("--listen {addr}: the demo listens on 127.0.0.1:PORT, or on 0.0.0.0:PORT for everybody");
    }
    TcpListener::bind(addr).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            anyhow::anyhow!(
                "{addr} is taken by another program: choose another address, say --listen 127.0.0.1:{}",
                another(addr.port())
            )
        }
        _ => anyhow::anyhow!("{addr} cannot be listened on ({error}): choose another address with --listen"),
    })
}

fn another(port: u16) -> u16 {
    port.checked_add(1).unwrap_or(8081)
}

/// Where the simulated wallets and the merchant, in this process, reach the listener.
fn own_address(listen: SocketAddr) -> SocketAddr {
    if listen.ip().is_unspecified() { SocketAddr::from((Ipv4Addr::LOCALHOST, listen.port())) } else { listen }
}

fn settings(data: &Data, base_url: &str) -> Settings {
    let mut settings = Settings::default();
    settings.database.url = data.database_url().into();
    // A laptop's disk may be busy with a build.
    settings.database.acquire_timeout_ms = 10_000;
    settings.broker.url = "embedded".to_owned().into();
    base_url.clone_into(&mut settings.front.public_url);
    // The merchant's notify URL is our own address.
    settings.front.allow_private_notify_urls = true;
    settings.operations.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    settings.keys.front = Some(data.front_key.clone());
    settings.keys.back = Some(data.back_key.clone());
    settings.shutdown_s = 10;
    settings
}

/// Ctrl-C, and SIGTERM where there is one. From now on they no longer end the process by themselves.
fn asked_to_leave() -> anyhow::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .context("SIGTERM cannot be listened for")?;
    Ok(async move {
        #[cfg(unix)]
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
    })
}

fn say(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("nobody reads what is printed")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Links, notify URLs and the merchant's own calls go to the loopback literal, whoever else may come.
    #[test]
    fn everybodys_address_is_called_by_this_machines() {
        for (listen, own) in
            [("0.0.0.0:8080", "127.0.0.1:8080"), ("127.0.0.1:8080", "127.0.0.1:8080"), ("127.9.9.9:1", "127.9.9.9:1")]
        {
            assert_eq!(own_address(listen.parse().unwrap()), own.parse::<SocketAddr>().unwrap());
        }
    }

    #[tokio::test]
    async fn an_address_that_no_link_can_name_is_refused() {
        for listen in ["192.0.2.1:8080", "[::]:8080", "[::1]:8080"] {
            let error = bind(listen.parse().unwrap()).await.unwrap_err().to_string();
            assert!(error.contains(listen) && error.contains("0.0.0.0:PORT"), "{error}");
        }
    }
}
