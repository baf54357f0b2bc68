//! The demo merchant's event log: what came to its `notifyUrl`, checked as `merchant-api.md` asks of every merchant.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use base64::{Engine, engine::general_purpose::STANDARD};
use poem::http::HeaderMap;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::Value;

use crate::keys::MacKey;

/// Lines that are kept; older ones make room.
pub const KEPT: usize = 200;
/// How far a `webhook-timestamp` may be off.
const OFF_MAX_S: u64 = 300;

/// One call of the notify URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// Counts from 1, in the order of arrival.
    pub nth: u64,
    /// Unix milliseconds.
    pub at_ms: u64,
    pub webhook_id: String,
    pub event_type: Option<String>,
    pub sequence: Option<i64>,
    pub order_no: Option<String>,
    /// Signed with the merchant's secret, lately, and under the number that it has in its body.
    pub verified: bool,
    /// Why it is not; `None` when it is.
    pub trouble: Option<Trouble>,
    /// Verified, and its number came before: a merchant does nothing the second time.
    pub repeated: bool,
    /// As it came.
    pub body: String,
}

/// Why an event is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// A `webhook-…` header is missing or unreadable.
    Headers,
    /// Sent more than five minutes ago, or in the future: perhaps an old one once more.
    Timestamp,
    /// None of its signatures was made with our secret.
    Signature,
    /// Body and header name different events.
    Number,
}

/// The last [`KEPT`] calls, and the secret that tells true ones from others.
pub struct EventLog {
    key: MacKey,
    kept: Mutex<(u64, VecDeque<Line>)>,
}

impl EventLog {
    /// `secret`: `whsec_…`, as the merchant was given it. Errors: another shape.
    pub fn new(secret: &SecretString) -> anyhow::Result<Self> {
        let base64 = secret.expose_secret().strip_prefix("whsec_").context("the webhook secret begins with whsec_")?;
        let secret = STANDARD.decode(base64).context("the webhook secret is no base64")?;
        Ok(Self { key: MacKey::new(&secret), kept: Mutex::default() })
    }

    /// Writes one call down; answers whether it may be believed.
    pub fn arrived(&self, headers: &HeaderMap, body: &[u8]) -> bool {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        self.arrived_at(u64::try_from(now_ms).unwrap_or(u64::MAX), headers, body)
    }

    fn arrived_at(&self, at_ms: u64, headers: &HeaderMap, body: &[u8]) -> bool {
        let facts: Value = serde_json::from_slice(body).unwrap_or_default();
        let trouble = self.check(at_ms / 1_000, headers, body, &facts).err();
        let verified = trouble.is_none();
        let text = |name: &str| facts[name].as_str().map(str::to_owned);
        let webhook_id = header(headers, "webhook-id").unwrap_or_default().to_owned();
        let mut kept = self.kept();
        let repeated = verified && kept.1.iter().any(|line| line.verified && line.webhook_id == webhook_id);
        kept.0 += 1;
        let line = Line {
            nth: kept.0,
            at_ms,
            webhook_id,
            event_type: text("eventType"),
            sequence: facts["sequence"].as_i64(),
            order_no: text("orderNo"),
            verified,
            trouble,
            repeated,
            body: String::from_utf8_lossy(body).into_owned(),
        };
        kept.1.push_front(line);
        kept.1.truncate(KEPT);
        verified
    }

    /// Lines that came after the `nth`, newest first.
    pub fn since(&self, nth: u64) -> Vec<Line> {
        self.kept().1.iter().take_while(|line| line.nth > nth).cloned().collect()
    }

    /// Source: `merchant-api.md`, notification to the merchant (Standard Webhooks, `v1`): signed is `{id}.{timestamp}.{body}`,
    /// and one good signature of several is enough.
    fn check(&self, now_s: u64, headers: &HeaderMap, body: &[u8], facts: &Value) -> Result<(), Trouble> {
        let read = |name| header(headers, name).ok_or(Trouble::Headers);
        let (id, timestamp, signatures) = (read("webhook-id")?, read("webhook-timestamp")?, read("webhook-signature")?);
        let sent_s: u64 = timestamp.parse().map_err(|_| Trouble::Headers)?;
        if now_s.abs_diff(sent_s) > OFF_MAX_S {
            return Err(Trouble::Timestamp);
        }
        let signed = [format!("{id}.{timestamp}.").as_bytes(), body].concat();
        let mut signatures = signatures.split(' ').filter_map(|one| one.strip_prefix("v1,"));
        if !signatures.any(|signature| self.key.verify(&signed, signature).is_ok()) {
            return Err(Trouble::Signature);
        }
        if facts["notifyId"] == id { Ok(()) } else { Err(Trouble::Number) }
    }

    fn kept(&self) -> MutexGuard<'_, (u64, VecDeque<Line>)> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{WebhookSigner, webhook::secret_text};

    const NOW_S: u64 = 1_800_000_000;
    const BODY: &str = r#"{"notifyId":"e1","eventType":"PAY","sequence":1,"orderNo":"A1"}"#;

    fn log() -> EventLog {
        EventLog::new(&secret_text(&[7; 32])).unwrap()
    }

    fn headers(secret: u8, id: &str, sent_s: u64) -> HeaderMap {
        let signer = WebhookSigner::new([[9; 32].as_slice(), &[secret; 32]]).unwrap();
        let signature = signer.sign(id, i64::try_from(sent_s).unwrap(), BODY);
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", id.parse().unwrap());
        headers.insert("webhook-timestamp", sent_s.to_string().parse().unwrap());
        headers.insert("webhook-signature", signature.parse().unwrap());
        headers
    }

    #[test]
    fn only_what_our_secret_signed_lately_is_believed() {
        for (headers, body, trouble) in [
            (headers(7, "e1", NOW_S), BODY, None),
            (headers(7, "e1", NOW_S - OFF_MAX_S), BODY, None),
            (HeaderMap::new(), BODY, Some(Trouble::Headers)),
            (headers(7, "e1", NOW_S - OFF_MAX_S - 1), BODY, Some(Trouble::Timestamp)),
            (headers(7, "e1", NOW_S + OFF_MAX_S + 1), BODY, Some(Trouble::Timestamp)),
            (headers(8, "e1", NOW_S), BODY, Some(Trouble::Signature)),
            (headers(7, "e1", NOW_S), "{}", Some(Trouble::Signature)),
            (headers(7, "e2", NOW_S), BODY, Some(Trouble::Number)),
        ] {
            let log = log();
            assert_eq!(log.arrived_at(NOW_S * 1_000, &headers, body.as_bytes()), trouble.is_none());
            let line = log.since(0).remove(0);
            assert_eq!((line.trouble, line.verified), (trouble, trouble.is_none()), "{headers:?}");
            assert_eq!((line.nth, line.body.as_str()), (1, body));
        }
    }

    #[test]
    fn a_repeat_is_known_by_its_number() {
        let log = log();
        // A forged one before says nothing about the true one.
        log.arrived_at(NOW_S * 1_000, &headers(8, "e1", NOW_S), BODY.as_bytes());
        for _ in 0..2 {
            log.arrived_at(NOW_S * 1_000, &headers(7, "e1", NOW_S), BODY.as_bytes());
        }
        let lines = log.since(0);
        assert_eq!(lines.iter().map(|line| line.repeated).collect::<Vec<_>>(), [true, false, false]);
        assert_eq!((lines[0].event_type.as_deref(), lines[0].sequence), (Some("PAY"), Some(1)));
        assert_eq!(lines[0].order_no.as_deref(), Some("A1"));
    }

    #[test]
    fn the_log_is_bounded_and_newest_first() {
        let log = log();
        for _ in 0..KEPT + 5 {
            log.arrived_at(NOW_S * 1_000, &HeaderMap::new(), b"\xff");
        }
        let lines = log.since(0);
        assert_eq!((lines.len(), lines[0].nth), (KEPT, KEPT as u64 + 5));
        assert_eq!(log.since(lines[1].nth), lines[..1]);
    }
}
