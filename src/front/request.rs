//! Reading what came in, with a bound on size and time.

use std::{net::IpAddr, time::Duration};

use poem::{Request, error::ReadBodyError};

use super::proxies::Proxies;

/// A body that could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    TooLarge,
    TooSlow,
    Broken,
}

/// At most `max_bytes` within `timeout`; chunked bodies are bounded alike.
///
/// Errors: [`Unreadable`].
pub async fn body(request: &mut Request, max_bytes: usize, timeout: Duration) -> Result<Vec<u8>, Unreadable> {
    match tokio::time::timeout(timeout, request.take_body().into_bytes_limit(max_bytes)).await {
        Err(_) => Err(Unreadable::TooSlow),
        Ok(Err(ReadBodyError::PayloadTooLarge)) => Err(Unreadable::TooLarge),
        Ok(Err(_)) => Err(Unreadable::Broken),
        Ok(Ok(bytes)) => Ok(bytes.into()),
    }
}

/// The caller's address: the connection's, or what the last trusted proxy says it was.
pub fn client_ip(request: &Request, trusted: &Proxies) -> Option<IpAddr> {
    let peer = request.remote_addr().as_socket_addr()?.ip();
    let forwarded = request.headers().get_all("x-forwarded-for").iter();
    // A header that is no text is a hop that cannot be read.
    Some(trusted.caller(peer, forwarded.map(|value| value.to_str().unwrap_or("?"))))
}
