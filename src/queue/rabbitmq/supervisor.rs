//! One connection for as long as we live: dialled, watched, and dialled again.
//!
//! lapin's own recovery stays off: it retries 16 times and then the connection is dead for good, it asks for a
//! server-named queue by a name that the broker refuses, and a reply queue must have a fresh name anyway. Here whatever
//! ends a connection ends everything on it, and a [`Role`] builds it anew.

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpStream},
    os::fd::AsFd,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::StreamExt;
use lapin::{
    Connection, ConnectionProperties, Event,
    tcp::{AsyncTcpStream, OwnedTLSConfig},
    uri::AMQPScheme,
};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::settings::RabbitSettings;
use crate::queue::dice::Dice;

/// Events tell of a lost connection; this look finds the few endings that lapin has no event for.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A connection that lasted so long was a good one, and the next pause is short again.
const LASTED: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const CLOSE_MAX: Duration = Duration::from_secs(2);
/// Declaring quorum queues takes a cluster its time.
const BUILD_MAX: Duration = Duration::from_secs(30);

/// What is built on a connection and goes down with it.
#[async_trait]
pub(super) trait Role: Send + Sync + 'static {
    /// Part of the connection's name.
    fn name(&self) -> &'static str;
    /// Builds everything on a fresh connection.
    async fn up(&self, wire: Wire) -> Result<(), lapin::Error>;
    fn blocked(&self, blocked: bool);
    /// The connection is gone. Also called when `up` failed half-way.
    fn down(&self);
}

/// A connection, and the means to cut it.
#[derive(Clone)]
pub(super) struct Wire {
    pub(super) connection: Arc<Connection>,
    line: Arc<Line>,
}

impl Wire {
    /// Ends it without asking the peer: lapin's thread reads the end of the stream and fails everything on it.
    pub(super) fn cut(&self) {
        self.line.cut();
    }
}

/// A second handle of the socket under a connection, or of one that is still being connected on lapin's thread.
#[derive(Default)]
struct Line(Mutex<LineState>);

#[derive(Default)]
enum LineState {
    #[default]
    Connecting,
    Up(TcpStream),
    Cut,
}

impl Line {
    /// False: cut already, nobody waits for this connection.
    fn attach(&self, socket: TcpStream) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, LineState::Cut) {
            return false;
        }
        *state = LineState::Up(socket);
        true
    }

    fn cut(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let LineState::Up(socket) = std::mem::replace(&mut *state, LineState::Cut) {
            // An error says that it is closed already.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

/// Cuts the line of a try that failed, took too long, or was dropped half-way.
struct Attempt(Option<Arc<Line>>);

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(line) = self.0.take() {
            line.cut();
        }
    }
}

/// Keeps one connection up until `stop`. Ends with the connection closed.
pub(super) async fn supervise(settings: Arc<RabbitSettings>, role: Arc<dyn Role>, stop: CancellationToken) {
    let mut pauses = Pauses::new(Duration::from_millis(settings.reconnect_max_ms));
    let mut complained = String::new();
    loop {
        let begun = Instant::now();
        let dialled = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            dialled = dial(&settings, role.name()) => dialled,
        };
        match dialled {
            Ok(wire) => {
                complained.clear();
                keep(&settings, role.as_ref(), &wire, &stop).await;
                role.down();
                if stop.is_cancelled() {
                    let closed = wire.connection.close(200, "OK".into());
                    let _ = timeout(CLOSE_MAX, closed).await;
                    wire.cut();
                    return;
                }
                wire.cut();
                if begun.elapsed() > LASTED {
                    pauses.begin_again();
                }
            }
            Err(error) => {
                // Said once, not at every try.
                let complaint = error.to_string();
                if complaint != complained {
                    warn!(role = role.name(), url = %settings.url, %error, "the broker cannot be reached; trying on");
                    complained = complaint;
                }
            }
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = sleep(pauses.next_pause()) => {}
        }
    }
}

/// Builds the role on the connection and returns when it is lost or is to stop.
async fn keep(settings: &RabbitSettings, role: &dyn Role, wire: &Wire, stop: &CancellationToken) {
    let mut events = Box::pin(wire.connection.events_listener());
    let built = tokio::select! {
        biased;
        () = stop.cancelled() => return,
        built = timeout(BUILD_MAX, role.up(wire.clone())) => built,
    };
    match built {
        Ok(Ok(())) => info!(role = role.name(), url = %settings.url, "connected to the broker"),
        Ok(Err(error)) => return warn!(role = role.name(), %error, "the broker refuses what we need"),
        Err(_) => return warn!(role = role.name(), "the broker does not answer"),
    }
    while wire.connection.status().connected() {
        let event = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            event = events.next() => event,
            () = sleep(LOOK_EVERY) => continue,
        };
        match event {
            Some(Event::ConnectionBlocked(reason)) => {
                warn!(role = role.name(), reason, "the broker blocks publishers");
                role.blocked(true);
            }
            Some(Event::ConnectionUnblocked) => {
                info!(role = role.name(), "the broker takes messages again");
                role.blocked(false);
            }
            // A channel's error is an event too, and the loop's condition tells the two apart.
            Some(_) => {}
            None => break,
        }
    }
    warn!(role = role.name(), "the connection to the broker is lost");
}

/// One try to connect, no longer than the setting.
///
/// lapin waits for the broker's greeting without limit, on a thread of its own. So we keep a second handle of the socket
/// and cut it when the time is over: the thread ends and nothing is left behind.
pub(super) async fn dial(settings: &RabbitSettings, role: &str) -> Result<Wire, DialError> {
    let limit = Duration::from_millis(settings.connect_timeout_ms);
    let mut tls = OwnedTLSConfig::default();
    if let Some(file) = &settings.ca_file {
        let pem = tokio::fs::read_to_string(file).await.map_err(DialError::CaFile)?;
        tls.cert_chain = Some(pem);
    }
    let options =
        ConnectionProperties::default().with_connection_name(format!("{} {role}", settings.connection_name).into());
    let runtime = lapin::runtime::default_runtime().map_err(DialError::Refused)?;
    let own_runtime = runtime.clone();
    let line = Arc::new(Line::default());
    let mut attempt = Attempt(Some(Arc::clone(&line)));
    let own_line = Arc::clone(&line);
    let connect = async move |uri: lapin::uri::AMQPUri, _| {
        let reach = async {
            let host = (uri.authority.host.as_str(), uri.authority.port);
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host(host).await?.collect();
            let stream = AsyncTcpStream::connect(&own_runtime, addresses.as_slice()).await?;
            let AsyncTcpStream::Plain(plain) = &stream else {
                return Err(io::Error::other("a fresh stream is plain"));
            };
            let handle = plain.get_ref().as_fd().try_clone_to_owned()?;
            if !own_line.attach(TcpStream::from(handle)) {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            match uri.scheme {
                AMQPScheme::AMQP => Ok(stream),
                AMQPScheme::AMQPS => stream.into_tls(&uri.authority.host, tls.as_ref()).await,
            }
        };
        let reached = timeout(limit, reach).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        reached.map_err(lapin::Error::from)
    };
    let uri = settings.url.with_heartbeat(settings.heartbeat_s.clamp(1, 10));
    match timeout(limit, Connection::connector(uri, runtime, connect, options)).await {
        Ok(Ok(connection)) => {
            attempt.0 = None;
            Ok(Wire { connection: Arc::new(connection), line })
        }
        Ok(Err(error)) => Err(DialError::Refused(error)),
        Err(_) => Err(DialError::Silent),
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error("the file of certificates cannot be read: {0}")]
    CaFile(io::Error),
    #[error(transparent)]
    Refused(lapin::Error),
    #[error("no answer in time")]
    Silent,
}

/// Pauses that double up to a limit, each between half and all of itself, so that fronts do not return in step.
pub(super) struct Pauses {
    next: Duration,
    max: Duration,
    dice: Dice,
}

impl Pauses {
    pub(super) fn new(max: Duration) -> Self {
        let max = max.max(FIRST_PAUSE);
        Self { next: FIRST_PAUSE, max, dice: Dice::shaken() }
    }

    pub(super) fn begin_again(&mut self) {
        self.next = FIRST_PAUSE;
    }

    pub(super) fn next_pause(&mut self) -> Duration {
        let half = self.next / 2;
        let spread = u64::try_from(half.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        self.next = (self.next * 2).min(self.max);
        half + Duration::from_millis(self.dice.below(spread))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_limit_and_start_small_again() {
        let mut pauses = Pauses::new(Duration::from_secs(2));
        for _ in 0..100 {
            assert!((25..=2000).contains(&pauses.next_pause().as_millis()));
        }
        assert!(pauses.next_pause() >= Duration::from_secs(1));
        pauses.begin_again();
        assert!(pauses.next_pause() <= FIRST_PAUSE);
    }
}
