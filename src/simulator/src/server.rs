//! Listeners: HTTP/1.1 on loopback, idle connections really closed after 8 s as the wallets do.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Simulator;
use crate::wire::{Answer, Payload, Reply, WireRequest, to_http, with_body};

/// WeChat Pay announces `Keep-Alive: timeout=8` and closes what has been idle for longer.
const IDLE: Duration = Duration::from_secs(8);
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
const BODY_BYTES_MAX: usize = 1024 * 1024;
const CONNECTIONS_MAX: usize = 10_000;

/// How a listener can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// As usual.
    Up,
    /// Connections are refused; open ones are cut.
    Refused,
    /// Connections are taken and never answered; open ones are cut.
    Silent,
}

/// Which address a connection came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entrance {
    Main,
    Backup,
    /// The control API alone; it can always be reached.
    Control,
}

/// One address with its switch.
pub(crate) struct Door {
    pub address: SocketAddr,
    pub reach: watch::Sender<Reach>,
}

impl Door {
    /// Binds; the listener is handed to [`keep`].
    pub(crate) async fn bind(address: SocketAddr) -> std::io::Result<(Self, TcpListener)> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok((Self { address, reach: watch::Sender::new(Reach::Up) }, listener))
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Serves a door until `stop`.
pub(crate) async fn keep(
    simulator: Simulator,
    listener: TcpListener,
    address: SocketAddr,
    mut reach: watch::Receiver<Reach>,
    entrance: Entrance,
    stop: CancellationToken,
) {
    let mut listener = Some(listener);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while !stop.is_cancelled() {
        let now = *reach.borrow_and_update();
        let cut = stop.child_token();
        let connections = TaskTracker::new();
        tokio::select! {
            () = stop.cancelled() => {}
            changed = reach.changed() => if changed.is_err() { return },
            () = take_connections(now, &mut listener, address, &simulator, entrance, &places, &connections, &cut) => {}
        }
        cut.cancel();
        connections.close();
        connections.wait().await;
    }
}

fn bound(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

#[expect(clippy::too_many_arguments, reason = "one caller, and each is one thing")]
async fn take_connections(
    reach: Reach,
    listener: &mut Option<TcpListener>,
    address: SocketAddr,
    simulator: &Simulator,
    entrance: Entrance,
    places: &Arc<Semaphore>,
    connections: &TaskTracker,
    cut: &CancellationToken,
) {
    if reach == Reach::Refused {
        *listener = None;
        // Bound and not listened on: refused as before, and given to nobody else meanwhile.
        let _kept = loop {
            match bound(address) {
                Ok(kept) => break kept,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        return std::future::pending().await;
    }
    let listening = loop {
        if let Some(listening) = listener.as_ref() {
            break listening;
        }
        match TcpListener::bind(address).await {
            Ok(bound) => *listener = Some(bound),
            Err(error) => {
                tracing::warn!(%address, %error, "cannot listen again yet");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    };
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let stream = match listening.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection was lost while it was taken");
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        let (simulator, cut) = (simulator.clone(), cut.clone());
        connections.spawn(async move {
            tokio::select! {
                () = cut.cancelled() => {}
                () = hold(stream, reach, simulator, entrance) => {}
            }
            drop(place);
        });
    }
}

async fn hold(stream: TcpStream, reach: Reach, simulator: Simulator, entrance: Entrance) {
    if reach == Reach::Silent {
        let _stream = stream;
        return std::future::pending().await;
    }
    // Small answers on kept connections: waiting for more would only add 40 ms.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let service = service_fn(move |request| {
        let simulator = simulator.clone();
        async move { answer(&simulator, request, entrance).await }
    });
    let outcome = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = outcome {
        tracing::trace!(%error, "a connection ended");
    }
}

/// Ends a connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("closed without an answer")]
struct NoAnswer;

async fn answer(
    simulator: &Simulator,
    request: http::Request<Incoming>,
    entrance: Entrance,
) -> Result<http::Response<Payload>, NoAnswer> {
    let (head, body) = request.into_parts();
    let reply = match tokio::time::timeout(BODY_TIMEOUT, whole(body)).await {
        Ok(Ok(body)) => {
            let request = WireRequest {
                method: head.method,
                path: head.uri.path().to_owned(),
                query: head.uri.query().map(str::to_owned),
                headers: head.headers,
                body,
                backup: entrance == Entrance::Backup,
            };
            // Its own task: a client that hangs up must not take back what it asked for, as with the real wallets.
            let (worker, stop) = (simulator.clone(), simulator.stop_token());
            let work = simulator.tasks().spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => Reply::Close,
                    reply = worker.answer(request, entrance) => reply,
                }
            });
            work.await.unwrap_or(Reply::Close)
        }
        Ok(Err(status)) => Answer::new(status, "text/plain", "").into(),
        Err(_) => Reply::Close,
    };
    match reply {
        Reply::Answer(answer) => Ok(to_http(answer.header("Keep-Alive", "timeout=8"), false)),
        Reply::CutBody(answer) => Ok(to_http(answer, true)),
        Reply::Pieces(head, pieces) => Ok(with_body(head, Payload::Coming(pieces))),
        Reply::Close => Err(NoAnswer),
        Reply::Hang(time) => {
            tokio::time::sleep(time).await;
            Err(NoAnswer)
        }
    }
}

/// Reads a body; `Err` is the status to answer.
pub(crate) async fn whole(mut body: Incoming) -> Result<Bytes, u16> {
    let mut bytes = BytesMut::new();
    while let Some(frame) =
        std::future::poll_fn(|context: &mut Context<'_>| -> Poll<_> { Pin::new(&mut body).poll_frame(context) }).await
    {
        let frame = frame.map_err(|_| 400u16)?;
        if let Ok(data) = frame.into_data() {
            if bytes.len() + data.len() > BODY_BYTES_MAX {
                return Err(413);
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.freeze())
}
