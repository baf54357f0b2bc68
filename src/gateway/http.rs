//! The one HTTP client towards the wallets.

use std::time::Duration;

/// Why a request did not bring an answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No connection came about: the request surely had no effect.
    #[error("not sent: {0}")]
    NotSent(String),
    /// It may have arrived.
    #[error("no answer: {0}")]
    NoAnswer(String),
}

/// Bounds of every call to a wallet.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    pub connect_timeout: Duration,
    pub timeout: Duration,
    /// Idle connections per host.
    pub pool_max_idle: usize,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self { connect_timeout: Duration::from_secs(3), timeout: Duration::from_secs(8), pool_max_idle: 64 }
    }
}

/// No retries, no redirects, no proxy; idle connections are given up before the wallets' 8 s (`wechat-pay.md` §0).
///
/// Errors: only when TLS cannot be set up at all.
pub fn client(settings: &HttpSettings) -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .connect_timeout(settings.connect_timeout)
        .timeout(settings.timeout)
        .pool_idle_timeout(Duration::from_secs(6))
        .pool_max_idle_per_host(settings.pool_max_idle)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .user_agent(concat!("prepay/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// The error of a sent request, without its URL: WeChat's code2session carries the AppSecret there.
pub fn send_error(error: reqwest::Error) -> SendError {
    let connect = error.is_connect();
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    if connect { SendError::NotSent(text) } else { SendError::NoAnswer(text) }
}

/// Reads a body of at most `max_bytes`; more is an error, because it is not an answer of any wallet.
pub async fn read_body(mut response: reqwest::Response, max_bytes: usize) -> Result<Vec<u8>, SendError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(send_error)? {
        if body.len() + chunk.len() > max_bytes {
            return Err(SendError::NoAnswer(format!("answer larger than {max_bytes} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// A base address of a wallet's host: https, or http to a loopback literal (simulated wallets).
///
/// Errors: words for the operator who set it.
pub fn check_base_url(url: &str) -> Result<String, String> {
    let parsed = reqwest::Url::parse(url).map_err(|error| format!("{url} is not an address: {error}"))?;
    if parsed.host_str().is_none() {
        return Err(format!("{url} names no host"));
    }
    match parsed.scheme() {
        "https" => {}
        "http" if is_loopback(&parsed) => {}
        _ => return Err(format!("{url} must be https (plain http only to a loopback literal such as 127.0.0.1)")),
    }
    if parsed.query().is_some() || parsed.fragment().is_some() || !parsed.username().is_empty() {
        return Err(format!("{url} must not carry a query, a fragment or a user"));
    }
    Ok(url.trim_end_matches('/').to_owned())
}

/// Whether an address is a loopback literal: a simulated wallet's.
pub fn is_loopback(url: &reqwest::Url) -> bool {
    url.host_str().is_some_and(|host| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    })
}
