//! One accept loop for every listener: connections counted, headers timed, leaving in order.
//!
//! poem's own `Server` sets no HTTP/1 timer, and hyper then drops its header timeout without a word; so we accept ourselves
//! and hand requests to poem's `Endpoint`.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use poem::{
    Endpoint, EndpointExt,
    endpoint::BoxEndpoint,
    http::uri::Scheme,
    web::{LocalAddr, RemoteAddr},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

mod impatient;

use impatient::Impatient;

/// Bounds of one listener.
#[derive(Debug, Clone)]
pub struct ListenSettings {
    pub addr: SocketAddr,
    /// Connections open at once; further ones wait in the kernel's backlog.
    pub connections_max: usize,
    /// From a connection's first byte (or its last answer) to the end of the next request's header.
    pub header_timeout: Duration,
    /// A peer that does not read its answer is left after this.
    pub write_timeout: Duration,
}

impl ListenSettings {
    pub fn on(addr: SocketAddr) -> Self {
        Self {
            addr,
            connections_max: 10_000,
            header_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(60),
        }
    }
}

/// A listener that is bound and serves.
#[derive(Debug)]
pub struct Listening {
    pub addr: SocketAddr,
    connections: TaskTracker,
    accepting: tokio::task::JoinHandle<()>,
}

impl Listening {
    /// Binds and serves until `soft` is cancelled: then no connection is accepted, answers under way are finished.
    ///
    /// Errors: the address cannot be bound.
    pub async fn start(
        settings: ListenSettings,
        endpoint: impl Endpoint + 'static,
        soft: CancellationToken,
    ) -> std::io::Result<Self> {
        Self::on(TcpListener::bind(settings.addr).await?, settings, endpoint, soft)
    }

    /// As [`Listening::start`], on a listener that is bound already; `settings.addr` is not looked at.
    ///
    /// Errors: the listener does not tell its address.
    pub fn on(
        listener: TcpListener,
        settings: ListenSettings,
        endpoint: impl Endpoint + 'static,
        soft: CancellationToken,
    ) -> std::io::Result<Self> {
        let addr = listener.local_addr()?;
        let connections = TaskTracker::new();
        let server = Server {
            endpoint: Arc::new(endpoint.map_to_response().boxed()),
            places: Arc::new(Semaphore::new(settings.connections_max)),
            header_timeout: settings.header_timeout,
            write_timeout: settings.write_timeout,
            connections: connections.clone(),
            soft,
        };
        let accepting = tokio::spawn(server.accept(listener));
        Ok(Self { addr, connections, accepting })
    }

    /// Waits until every answer under way has left; call after the soft token is cancelled, under a bound of your own.
    pub async fn finished(self) {
        // An accept loop that panicked has no connections to wait for.
        let _ = self.accepting.await;
        self.connections.close();
        self.connections.wait().await;
    }
}

struct Server {
    endpoint: Arc<BoxEndpoint<'static, poem::Response>>,
    places: Arc<Semaphore>,
    header_timeout: Duration,
    write_timeout: Duration,
    connections: TaskTracker,
    soft: CancellationToken,
}

impl Server {
    async fn accept(self, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.soft.cancelled() => return,
                accepted = self.accept_one(&listener) => accepted,
            };
            let Some((socket, remote, place)) = accepted else { continue };
            let timeouts = (self.header_timeout, self.write_timeout);
            let connection = serve(socket, remote, self.endpoint.clone(), timeouts, self.soft.clone());
            self.connections.spawn(async move {
                connection.await;
                drop(place);
            });
        }
    }

    /// A place first, then a connection: what is over the limit waits in the backlog and costs nothing here.
    async fn accept_one(
        &self,
        listener: &TcpListener,
    ) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
        let place = self.places.clone().acquire_owned().await.ok()?;
        match listener.accept().await {
            Ok((socket, remote)) => Some((socket, remote, place)),
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                // Out of file descriptors, most likely: the next try needs a moment.
                tokio::time::sleep(Duration::from_millis(20)).await;
                None
            }
        }
    }
}

async fn serve(
    socket: TcpStream,
    remote: SocketAddr,
    endpoint: Arc<BoxEndpoint<'static, poem::Response>>,
    (header_timeout, write_timeout): (Duration, Duration),
    soft: CancellationToken,
) {
    // An answer is one small write: do not wait to fill a packet.
    let _ = socket.set_nodelay(true);
    let local = socket.local_addr().ok();
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let endpoint = endpoint.clone();
        async move {
            let local = LocalAddr(local.map(Into::into).unwrap_or_default());
            let request = (request, local, RemoteAddr(remote.into()), Scheme::HTTP).into();
            Ok::<_, Infallible>(hyper::Response::from(endpoint.get_response(request).await))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(32 * 1024)
        .serve_connection(TokioIo::new(Impatient::new(socket, write_timeout)), service);
    tokio::pin!(connection);
    tokio::select! {
        ended = &mut connection => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended early");
            }
            return;
        }
        () = soft.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection ended early");
    }
}
