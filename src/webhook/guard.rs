//! What a merchant's address may make us connect to, judged where it cannot change any more: in the resolver whose answer is
//! connected to, and on literals, which are never resolved.

use std::{
    collections::HashMap,
    error::Error,
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use async_trait::async_trait;
use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};
use tokio::sync::Semaphore;

use crate::domain::{
    address::{is_private, is_public},
    id::MerchantId,
};

/// Looks up the addresses of a name, each time anew.
#[async_trait]
pub trait Lookup: Send + Sync + 'static {
    /// For this merchant; `None`: it is not known for whom.
    ///
    /// Errors: one that holds [`Crowded`] when it was not looked up for lack of room.
    async fn lookup(&self, name: &str, merchant: Option<MerchantId>) -> io::Result<Vec<IpAddr>>;
}

/// A name was not looked up: too many others are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many names are looked up")]
pub struct Crowded;

/// The machine's own resolver.
///
/// It blocks a thread for as long as the name's servers keep it waiting, even when nobody waits for the answer any more. The
/// process has a bounded number of such threads, for the wallets' names too: merchants' names have a part of them, and each
/// merchant's names a part of that, or dead name servers of one would keep the others from being found.
pub(super) struct SystemLookup {
    places: Arc<Semaphore>,
    /// Of merchants whose names are looked up now.
    shares: Mutex<HashMap<Option<MerchantId>, Weak<Semaphore>>>,
    share: usize,
    resolve: fn(&str) -> io::Result<Vec<IpAddr>>,
}

/// Names looked up at once. tokio has 512 threads for what blocks.
const LOOKUPS_AT_ONCE: usize = 64;
/// ... for one merchant.
const LOOKUPS_OF_ONE: usize = 8;
/// Longer than this no try waits for its turn: it has only so many seconds.
const TURN_WAITED_FOR: Duration = Duration::from_secs(1);

impl Default for SystemLookup {
    fn default() -> Self {
        let resolve = |name: &str| Ok((name, 0).to_socket_addrs()?.map(|addr| addr.ip()).collect());
        Self::new(LOOKUPS_AT_ONCE, LOOKUPS_OF_ONE, resolve)
    }
}

impl SystemLookup {
    fn new(places: usize, share: usize, resolve: fn(&str) -> io::Result<Vec<IpAddr>>) -> Self {
        Self { places: Arc::new(Semaphore::new(places)), shares: Mutex::default(), share, resolve }
    }

    /// A merchant's share, kept for as long as somebody uses it.
    fn share_of(&self, merchant: Option<MerchantId>) -> Arc<Semaphore> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.get(&merchant).and_then(Weak::upgrade) {
            return share;
        }
        shares.retain(|_, share| share.strong_count() > 0);
        let share = Arc::new(Semaphore::new(self.share));
        shares.insert(merchant, Arc::downgrade(&share));
        share
    }
}

#[async_trait]
impl Lookup for SystemLookup {
    async fn lookup(&self, name: &str, merchant: Option<MerchantId>) -> io::Result<Vec<IpAddr>> {
        let turn = async {
            let share = self.share_of(merchant).acquire_owned().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>((share, self.places.clone().acquire_owned().await.map_err(io::Error::other)?))
        };
        let turn = tokio::time::timeout(TURN_WAITED_FOR, turn).await.map_err(|_| io::Error::other(Crowded))??;
        let (name, resolve) = (name.to_owned(), self.resolve);
        let looked_up = tokio::task::spawn_blocking(move || {
            // Held by the thread, not by who waits for it.
            let _turn = turn;
            resolve(&name)
        });
        looked_up.await.map_err(io::Error::other)?
    }
}

tokio::task_local! {
    /// For whom the names of a delivery are looked up. A client has one resolver for all its merchants, and asks it within the
    /// task that sends.
    pub(super) static ON_BEHALF_OF: MerchantId;
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
        let merchant = ON_BEHALF_OF.try_get().ok();
        Box::pin(async move {
            let found = match lookup.lookup(name.as_str(), merchant).await {
                Ok(found) => found,
                Err(error) if error.get_ref().is_some_and(|inner| inner.is::<Crowded>()) => {
                    return Err(Box::new(Crowded) as Box<dyn Error + Send + Sync>);
                }
                Err(error) => return Err(error.into()),
            };
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
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;

    const DEAD: Option<MerchantId> = Some(MerchantId(1));

    /// Lets the threads of a test go, however it ends: its runtime waits for them.
    struct Ends(&'static AtomicBool);

    impl Drop for Ends {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    /// How a lookup ends for who waits for it a while, but not for the name's servers.
    async fn tried(lookup: &SystemLookup, name: &str, merchant: Option<MerchantId>) -> Option<io::Result<Vec<IpAddr>>> {
        tokio::time::timeout(TURN_WAITED_FOR * 2, lookup.lookup(name, merchant)).await.ok()
    }

    fn is_crowded(tried: Option<io::Result<Vec<IpAddr>>>) -> bool {
        tried.is_some_and(|found| found.is_err_and(|error| error.get_ref().is_some_and(|inner| inner.is::<Crowded>())))
    }

    #[tokio::test]
    async fn names_that_nobody_waits_for_still_have_their_places() {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        static ANSWERS: AtomicBool = AtomicBool::new(false);
        fn slow(_: &str) -> io::Result<Vec<IpAddr>> {
            STARTED.fetch_add(1, Ordering::SeqCst);
            while !ANSWERS.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(Vec::new())
        }

        let _ends = Ends(&ANSWERS);
        let lookup = SystemLookup::new(2, 2, slow);
        for _ in 0..5 {
            let given_up = tokio::time::timeout(Duration::from_millis(50), lookup.lookup("slow.example", DEAD)).await;
            assert!(given_up.is_err() || is_crowded(given_up.ok()));
        }
        let begun = std::time::Instant::now();
        while STARTED.load(Ordering::SeqCst) < 2 && begun.elapsed() < Duration::from_secs(20) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(STARTED.load(Ordering::SeqCst), 2);
        assert!(is_crowded(tried(&lookup, "slow.example", None).await), "no place in time");
        ANSWERS.store(true, Ordering::SeqCst);
        let found = tokio::time::timeout(Duration::from_secs(20), lookup.lookup("slow.example", DEAD)).await;
        assert!(found.unwrap().is_ok());
    }

    #[tokio::test]
    async fn dead_name_servers_of_one_merchant_leave_the_others_their_places() {
        static GONE: AtomicBool = AtomicBool::new(false);
        fn slow_or_not(name: &str) -> io::Result<Vec<IpAddr>> {
            while name == "dead.example" && !GONE.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(vec![IpAddr::from([93, 184, 216, 34])])
        }

        let _ends = Ends(&GONE);
        let lookup = SystemLookup::new(4, 2, slow_or_not);
        let waiting = || tokio::time::timeout(Duration::from_millis(50), lookup.lookup("dead.example", DEAD));
        for _ in 0..2 {
            assert!(waiting().await.is_err());
        }
        assert!(is_crowded(tried(&lookup, "dead.example", DEAD).await), "its share is taken");
        for other in 2..100 {
            let found = lookup.lookup("alive.example", Some(MerchantId(other))).await;
            assert_eq!(found.unwrap().len(), 1);
        }
        assert!(lookup.shares.lock().unwrap().len() <= 3, "a merchant is forgotten with its last lookup");
    }
}
