//! What a merchant's address may make us connect to, judged where it cannot change any more: in the resolver whose answer is
//! connected to, and on literals, which are never resolved.

use std::{
    error::Error,
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::Arc,
};

use async_trait::async_trait;
use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};
use tokio::sync::Semaphore;

use super::address::{is_private, is_public};

/// Looks up the addresses of a name, each time anew.
#[async_trait]
pub trait Lookup: Send + Sync + 'static {
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// The machine's own resolver.
///
/// It blocks a thread for as long as the name's servers keep it waiting, even when nobody waits for the answer any more. The
/// process has a bounded number of such threads, for the wallets' names too: merchants' names have a part of them.
pub(super) struct SystemLookup {
    places: Arc<Semaphore>,
    resolve: fn(&str) -> io::Result<Vec<IpAddr>>,
}

/// Names looked up at once. tokio has 512 threads for what blocks.
const LOOKUPS_AT_ONCE: usize = 64;

impl Default for SystemLookup {
    fn default() -> Self {
        let resolve = |name: &str| Ok((name, 0).to_socket_addrs()?.map(|addr| addr.ip()).collect());
        Self { places: Arc::new(Semaphore::new(LOOKUPS_AT_ONCE)), resolve }
    }
}

#[async_trait]
impl Lookup for SystemLookup {
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let place = self.places.clone().acquire_owned().await.map_err(io::Error::other)?;
        let (name, resolve) = (name.to_owned(), self.resolve);
        let looked_up = tokio::task::spawn_blocking(move || {
            // Held by the thread, not by who waits for it.
            let _place = place;
            resolve(&name)
        });
        looked_up.await.map_err(io::Error::other)?
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

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, AtomicUsize, Ordering},
        time::Duration,
    };

    use super::*;

    static STARTED: AtomicUsize = AtomicUsize::new(0);
    static ANSWERS: AtomicBool = AtomicBool::new(false);

    fn slow(_: &str) -> io::Result<Vec<IpAddr>> {
        STARTED.fetch_add(1, Ordering::SeqCst);
        while !ANSWERS.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(Vec::new())
    }

    #[tokio::test]
    async fn names_that_nobody_waits_for_still_have_their_places() {
        let lookup = SystemLookup { places: Arc::new(Semaphore::new(2)), resolve: slow };
        for _ in 0..5 {
            let given_up = tokio::time::timeout(Duration::from_millis(50), lookup.lookup("slow.example")).await;
            assert!(given_up.is_err());
        }
        assert_eq!(STARTED.load(Ordering::SeqCst), 2);
        ANSWERS.store(true, Ordering::SeqCst);
        let found = tokio::time::timeout(Duration::from_secs(20), lookup.lookup("slow.example")).await;
        assert!(found.unwrap().is_ok());
    }
}
