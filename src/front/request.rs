//! Reading what came in, with a bound on size and time.

use std::{net::IpAddr, time::Duration};

use poem::{Request, error::ReadBodyError};

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
pub fn client_ip(request: &Request, trusted_proxies: &[IpAddr]) -> Option<IpAddr> {
    let peer = request.remote_addr().as_socket_addr().map(|addr| addr.ip().to_canonical())?;
    if !trusted_proxies.contains(&peer) {
        return Some(peer);
    }
    let forwarded = request.headers().get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
    let hops: Vec<&str> = forwarded.flat_map(|value| value.split(',')).map(str::trim).collect();
    let mut last = peer;
    // From the right, the first that is no proxy of ours: everything left of it, and of what cannot be read, is a claim.
    for hop in hops.into_iter().rev() {
        let Ok(hop) = hop.parse::<IpAddr>() else { return Some(last) };
        last = hop.to_canonical();
        if !trusted_proxies.contains(&last) {
            break;
        }
    }
    Some(last)
}
