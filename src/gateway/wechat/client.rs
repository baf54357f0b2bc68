//! Signed requests, verified answers, and the backup host.

use std::{sync::Arc, time::Duration};

use reqwest::{Method, header::HeaderMap};

use super::{
    keys::Pinned,
    refusal::Refusal,
    settings::Hosts,
    sign::{Signed, Unverified, authorization, request_text},
};
use crate::{
    domain::time::Timestamp,
    gateway::http::{SendError, read_body, send_error},
    keys::{RsaSigner, mac::nonce_text},
};

/// Now, against which WeChat judges our timestamps and we judge its.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The clock of this machine.
pub fn system_clock() -> Clock {
    Arc::new(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_ms(0).plus(since)
    })
}

/// No answer of the calls we make is near this.
const BODY_MAX: usize = 256 * 1024;

/// With a backup host, how long each host is given, so that both together take no longer than one call may (8 s): the caller
/// has a phone waiting. Usual answers take a few hundred milliseconds.
const MAIN_WAIT: Duration = Duration::from_secs(5);
const BACKUP_WAIT: Duration = Duration::from_secs(3);

pub(super) struct Client {
    pub http: reqwest::Client,
    pub hosts: Hosts,
    /// Holder of the merchant API certificate.
    pub mchid: String,
    pub serial_no: String,
    pub signer: RsaSigner,
    pub keys: Pinned,
    pub clock: Clock,
}

/// An answer that may be believed.
pub(super) struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
    /// Always so for 2xx; an error may come without signature.
    pub signed: bool,
    /// It is the backup's answer to a repeat whose first copy may have arrived: a refusal of it says nothing about the first.
    pub repeated: bool,
}

/// An answer whose signature nobody has looked at.
pub(super) struct RawAnswer {
    pub status: u16,
    headers: HeaderMap,
    pub body: Vec<u8>,
    repeated: bool,
}

#[derive(Debug)]
pub(super) enum CallError {
    /// Surely without effect.
    NotSent(String),
    Unknown(String),
}

impl Client {
    /// Signs, sends (to the backup too, once, the very same request, when the main host did not answer) and verifies.
    ///
    /// Only for calls that may be repeated: prepay, query, close, certificates (`wechat-pay.md` §11). A 2xx that does not
    /// verify is unknown. An error is taken without signature headers as well, as the official SDKs do (TLS names the host, and
    /// WeChat does not promise to sign errors); one whose signature is *wrong* is unknown.
    pub async fn call(&self, method: Method, path: &str, body: &str) -> Result<Answer, CallError> {
        let raw = self.send(method, path, body).await?;
        self.believe(raw, &self.keys)
    }

    /// Asks the main host for a file, once, within `wait` for all of it. Nothing of the answer is read yet, and none of it will be
    /// signed (§3.1, §9.1).
    pub async fn open_file(&self, path: &str, wait: Duration) -> Result<reqwest::Response, CallError> {
        let timestamp = (self.clock)().secs().to_string();
        let nonce = nonce_text();
        let text = request_text("GET", path, &timestamp, &nonce, "");
        let authorization = authorization(&self.signer, &self.mchid, &self.serial_no, &timestamp, &nonce, &text);
        let request = self
            .http
            .get(format!("{}{path}", self.hosts.main))
            .header("authorization", authorization)
            .header("accept", "application/json")
            .timeout(wait);
        request.send().await.map_err(send_error).map_err(|error| match error {
            SendError::NotSent(cause) => CallError::NotSent(cause),
            SendError::NoAnswer(cause) => CallError::Unknown(cause),
        })
    }

    /// As [`Client::call`], before any verification.
    pub async fn send(&self, method: Method, path: &str, body: &str) -> Result<RawAnswer, CallError> {
        // One text for both hosts: the host is not signed (§2).
        let timestamp = (self.clock)().secs().to_string();
        let nonce = nonce_text();
        let text = request_text(method.as_str(), path, &timestamp, &nonce, body);
        // Inline: about 0.3 ms of processor time (see `keys::rsa`).
        let authorization = authorization(&self.signer, &self.mchid, &self.serial_no, &timestamp, &nonce, &text);
        let try_host = |host: &str, wait: Option<Duration>| {
            let mut request = self
                .http
                .request(method.clone(), format!("{host}{path}"))
                .header("authorization", &authorization)
                .header("accept", "application/json");
            if let Some(serial) = self.keys.preferred() {
                request = request.header("wechatpay-serial", serial);
            }
            if !body.is_empty() {
                request = request.header("content-type", "application/json").body(body.to_owned());
            }
            if let Some(wait) = wait {
                request = request.timeout(wait);
            }
            one_try(request)
        };
        let Some(backup) = &self.hosts.backup else {
            return try_host(&self.hosts.main, None).await.map_err(|error| match error {
                SendError::NotSent(cause) => CallError::NotSent(cause),
                SendError::NoAnswer(cause) => CallError::Unknown(cause),
            });
        };
        let (first, may_have_arrived) = match try_host(&self.hosts.main, Some(MAIN_WAIT)).await {
            Ok(answer) => return Ok(answer),
            Err(SendError::NotSent(cause)) => (cause, false),
            Err(SendError::NoAnswer(cause)) => (cause, true),
        };
        tracing::warn!(wallet = "wechat", cause = %first, "main host did not answer, trying the backup once");
        match try_host(backup, Some(BACKUP_WAIT)).await {
            Ok(answer) => Ok(RawAnswer { repeated: may_have_arrived, ..answer }),
            Err(SendError::NotSent(second)) if !may_have_arrived => {
                Err(CallError::NotSent(format!("{first}; backup: {second}")))
            }
            Err(SendError::NotSent(second) | SendError::NoAnswer(second)) => {
                Err(CallError::Unknown(format!("{first}; backup: {second}")))
            }
        }
    }

    /// Verifies with `keys`; what comes out may be decided upon.
    pub fn believe(&self, raw: RawAnswer, keys: &Pinned) -> Result<Answer, CallError> {
        let ok = (200..300).contains(&raw.status);
        let names = [Signed::TIMESTAMP, Signed::NONCE, Signed::SERIAL, Signed::SIGNATURE];
        let signed = ok || names.iter().any(|name| raw.headers.contains_key(*name));
        if signed {
            verify(&raw, keys, (self.clock)())
                .map_err(|why| CallError::Unknown(format!("answer {} did not verify: {why}", raw.status)))?;
        }
        if !ok {
            let request_id = raw.headers.get("request-id").and_then(|value| value.to_str().ok()).unwrap_or_default();
            Refusal::log(raw.status, &raw.body, request_id);
        }
        Ok(Answer { status: raw.status, body: raw.body, signed, repeated: raw.repeated })
    }
}

fn verify(raw: &RawAnswer, keys: &Pinned, now: Timestamp) -> Result<(), Unverified> {
    Signed::read(|name| once(&raw.headers, name))?.verify(keys, &raw.body, now)
}

/// The value of a header that stands exactly once.
fn once<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

async fn one_try(request: reqwest::RequestBuilder) -> Result<RawAnswer, SendError> {
    let response = request.send().await.map_err(send_error)?;
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let body = read_body(response, BODY_MAX).await?;
    Ok(RawAnswer { status, headers, body, repeated: false })
}
