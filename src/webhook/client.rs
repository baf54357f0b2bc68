//! One POST to a merchant: signed by the caller, bounded in time and size, and believed only when it says so.

use std::{error::Error, sync::Arc, time::Duration};

use async_trait::async_trait;
use reqwest::{
    Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};

use super::guard::{Crowded, GuardedResolver, Lookup, NotReachable, ON_BEHALF_OF, Reach, SystemLookup, judge};
use crate::domain::id::MerchantId;

/// More of an answer is not read.
const ANSWER_MAX: usize = 1024;

/// An idle connection is not used any more after so long.
const IDLE_MAX: Duration = Duration::from_secs(7);

/// Bounds of a delivery.
#[derive(Debug, Clone)]
pub struct WebhookSettings {
    /// From the look-up of the name to the end of the answer.
    pub timeout: Duration,
    /// Idle connections kept per host.
    pub pool_max_idle: usize,
    /// Whether merchants may be on this machine or network, without TLS: demo and tests.
    pub allow_private: bool,
}

impl Default for WebhookSettings {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(5), pool_max_idle: 8, allow_private: false }
    }
}

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a> {
    /// Who is told.
    pub merchant: MerchantId,
    pub url: &'a str,
    /// `webhook-id`: the same at every try.
    pub id: &'a str,
    /// `webhook-timestamp`: when this try is made, in seconds.
    pub timestamp: i64,
    /// `webhook-signature`.
    pub signature: &'a str,
    /// JSON.
    pub body: &'a str,
}

/// Why a try was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The address is none that may be reached; nothing was sent.
    Address,
    /// The merchant has no live webhook secret; nothing was sent.
    NoSecret,
    /// Too many names were looked up already: nothing was tried, and it is not the merchant's fault.
    Crowded,
    /// No connection came about: no such name, nobody listens, TLS that does not verify.
    Connect,
    /// No whole answer in time.
    Timeout,
    /// The connection ended before the answer did.
    Cut,
    /// It was answered with another status than 2xx; redirects are not followed.
    Status,
    /// It was answered with 2xx and something else than `OK` or `SUCCESS`.
    Answer,
}

impl Trouble {
    /// The name in columns, answers and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::NoSecret => "no_secret",
            Self::Crowded => "crowded",
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Cut => "cut",
            Self::Status => "status",
            Self::Answer => "answer",
        }
    }
}

/// What became of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    Accepted {
        status: u16,
    },
    Not {
        trouble: Trouble,
        status: Option<u16>,
        /// The merchant asked not to be called again before (`Retry-After`, in seconds).
        retry_after: Option<Duration>,
    },
}

impl Told {
    fn not(trouble: Trouble) -> Self {
        Self::Not { trouble, status: None, retry_after: None }
    }
}

/// Whoever brings merchants their events: a [`WebhookClient`], or a test's model of merchants.
#[async_trait]
pub trait Tells: Send + Sync {
    /// One try. Never an error: whatever happens is a try that was accepted or not. Cancel safe, though the merchant may have
    /// heard it.
    async fn tell(&self, delivery: Delivery<'_>) -> Told;

    /// How long a try takes at most.
    fn timeout(&self) -> Duration;
}

/// Tells merchants. Cheap to clone.
#[derive(Debug, Clone)]
pub struct WebhookClient {
    public: reqwest::Client,
    /// To loopback and private places only; `None` where these are not allowed.
    private: Option<reqwest::Client>,
    timeout: Duration,
}

impl WebhookClient {
    /// Errors: only when TLS cannot be set up at all.
    pub fn new(settings: &WebhookSettings) -> Result<Self, reqwest::Error> {
        Self::with_lookup(settings, Arc::new(SystemLookup::default()))
    }

    /// As [`WebhookClient::new`], with another way to look names up.
    pub fn with_lookup(settings: &WebhookSettings, lookup: Arc<dyn Lookup>) -> Result<Self, reqwest::Error> {
        const HERE_TOO: &[Reach] = &[Reach::Public, Reach::Private];
        let public = if settings.allow_private { HERE_TOO } else { &[Reach::Public] };
        let private = settings.allow_private.then(|| client(settings, lookup.clone(), &[Reach::Private]));
        let timeout = settings.timeout;
        Ok(Self { public: client(settings, lookup, public)?, private: private.transpose()?, timeout })
    }
}

#[async_trait]
impl Tells for WebhookClient {
    async fn tell(&self, delivery: Delivery<'_>) -> Told {
        let Ok((url, reach)) = judge(delivery.url, self.private.is_some()) else {
            return Told::not(Trouble::Address);
        };
        let client = match (reach, &self.private) {
            (Reach::Private, Some(private)) => private,
            _ => &self.public,
        };
        let sent = client
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", delivery.id)
            .header("webhook-timestamp", delivery.timestamp)
            .header("webhook-signature", delivery.signature)
            .body(delivery.body.to_owned())
            .send();
        match ON_BEHALF_OF.scope(delivery.merchant, sent).await {
            Ok(answer) => heard(answer).await,
            Err(error) => Told::not(trouble(&error)),
        }
    }

    fn timeout(&self) -> Duration {
        self.timeout
    }
}

fn client(
    settings: &WebhookSettings,
    lookup: Arc<dyn Lookup>,
    reach: &'static [Reach],
) -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .dns_resolver(Arc::new(GuardedResolver { lookup, reach }))
        .timeout(settings.timeout)
        .connect_timeout(settings.timeout)
        .pool_max_idle_per_host(settings.pool_max_idle)
        // Shorter than servers commonly keep a connection: one that they are closing would cost a try.
        .pool_idle_timeout(IDLE_MAX)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        // A proxy would connect for us, wherever it likes.
        .no_proxy()
        .referer(false)
        .user_agent(concat!("prepay/", env!("CARGO_PKG_VERSION")))
        .build()
}

async fn heard(mut answer: Response) -> Told {
    let status = answer.status();
    if !status.is_success() {
        let asked = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        let retry_after =
            asked.then(|| answer.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()).flatten();
        return Told::Not {
            trouble: Trouble::Status,
            status: Some(status.as_u16()),
            retry_after: retry_after.map(Duration::from_secs),
        };
    }
    let not = |trouble| Told::Not { trouble, status: Some(status.as_u16()), retry_after: None };
    let mut body = Vec::new();
    loop {
        match answer.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= ANSWER_MAX => body.extend_from_slice(&chunk),
            Ok(Some(_)) => return not(Trouble::Answer),
            Ok(None) => break,
            Err(error) => return not(trouble(&error)),
        }
    }
    if is_yes(&body) { Told::Accepted { status: status.as_u16() } } else { not(Trouble::Answer) }
}

/// `OK` or `SUCCESS` in any case, blanks around it left out (`merchant-api.md`, notification to the merchant).
fn is_yes(body: &[u8]) -> bool {
    let said = body.trim_ascii();
    said.eq_ignore_ascii_case(b"OK") || said.eq_ignore_ascii_case(b"SUCCESS")
}

fn trouble(error: &reqwest::Error) -> Trouble {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if inner.is::<NotReachable>() {
            return Trouble::Address;
        }
        if inner.is::<Crowded>() {
            return Trouble::Crowded;
        }
        cause = inner.source();
    }
    if error.is_timeout() {
        Trouble::Timeout
    } else if error.is_connect() {
        Trouble::Connect
    } else {
        Trouble::Cut
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
