//! What a merchant's address may make us connect to, judged where it cannot change any more: in the resolver whose answer is
//! connected to, and on literals, which are never resolved.

use std::{
    error::Error,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use async_trait::async_trait;
use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};

use super::address::{is_private, is_public};

/// Looks up the addresses of a name, each time anew.
#[async_trait]
pub trait Lookup: Send + Sync + 'static {
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// The machine's own resolver.
pub(super) struct SystemLookup;

#[async_trait]
impl Lookup for SystemLookup {
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.map(|addr| addr.ip()).collect())
    }
}

/// What may be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    Public,
    /// Loopback and private networks, without TLS: demo and tests.
    Private,
}

impl Reach {
    pub(super) fn admits(self, ip: IpAddr) -> bool {
        match self {
            Self::Public => is_public(ip),
            Self::Private => is_private(ip),
        }
    }
}

/// The address is none that a merchant may have us connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an address that may be reached")]
pub struct NotReachable;

/// The resolver of a client: only what may be reached comes out of it, and what comes out is what is connected to.
pub(super) struct GuardedResolver {
    pub lookup: Arc<dyn Lookup>,
    pub reach: &'static [Reach],
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (lookup, reach) = (self.lookup.clone(), self.reach);
        Box::pin(async move {
            let found = lookup.lookup(name.as_str()).await?;
            let admitted = |ip: &IpAddr| reach.iter().any(|reach| reach.admits(*ip));
            let addrs: Vec<_> = found.into_iter().filter(admitted).map(|ip| SocketAddr::new(ip, 0)).collect();
            if addrs.is_empty() {
                return Err(Box::new(NotReachable) as Box<dyn Error + Send + Sync>);
            }
            Ok(Box::new(addrs.into_iter()) as Addrs)
        })
    }
}

/// Judges what the text of an address says by itself, and answers by which way it may be reached.
///
/// https to a public place; where the deployment allows it, http or https to a private one. No user, no port of another
/// service: below 1024 only 443 (and 80 for plain http).
/// Errors: [`NotReachable`].
pub(super) fn judge(url: &str, allow_private: bool) -> Result<(Url, Reach), NotReachable> {
    let url = Url::parse(url).map_err(|_| NotReachable)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(NotReachable);
    }
    let plain = match url.scheme() {
        "https" => false,
        "http" if allow_private => true,
        _ => return Err(NotReachable),
    };
    let port = url.port_or_known_default().ok_or(NotReachable)?;
    // On a machine of one's own the port is one's own choice.
    if !(allow_private || port == 443 || port >= 1024) {
        return Err(NotReachable);
    }
    let host = url.host_str().ok_or(NotReachable)?;
    // The parser has turned odd forms (0x7f.1, 2130706433, 127.1) into plain addresses. A literal is not resolved, so here
    // is the only place that sees it.
    let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
    let reach = match literal {
        _ if plain => Reach::Private,
        Some(ip) if allow_private && is_private(ip) => Reach::Private,
        _ => Reach::Public,
    };
    if literal.is_some_and(|ip| !reach.admits(ip)) {
        return Err(NotReachable);
    }
    Ok((url, reach))
}
