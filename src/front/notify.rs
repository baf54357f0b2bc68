//! `POST /notify/{wallet}/{account}`: a wallet tells. Verified here with public keys alone, queued raw, then acknowledged.

use std::{sync::Arc, time::Duration};

use poem::{Request, Response, http::StatusCode};

use super::{Front, answer, request};
use crate::{
    domain::{id::AccountId, wallet::Wallet},
    gateway::{NoticeError, RawNotice},
    queue::{Envelope, NoticeMessage, Published},
};

const BODY_MAX: usize = 64 * 1024;
/// An unknown key asks for a refresh of the account's keys at most this often.
const KEY_CHECK_AT_MOST: Duration = Duration::from_secs(60);

/// Answers a wallet in the form it wants.
pub async fn notify(front: &Arc<Front>, wallet: Wallet, account: AccountId, mut request: Request) -> Response {
    let keyring = front.keyring.load_full();
    // The key is chosen by the account in the path, never by anything the caller says.
    let Some(verifier) =
        keyring.verifier(account).filter(|(of, _)| *of == wallet).map(|(_, verifier)| verifier.clone())
    else {
        return answer::framework(StatusCode::NOT_FOUND);
    };
    let body = match request::body(&mut request, BODY_MAX, front.settings.body_timeout).await {
        Ok(body) => body,
        Err(why) => {
            tracing::info!(%wallet, %account, ?why, "a notice could not be read");
            count(wallet, "unreadable");
            return written(verifier.rejected());
        }
    };
    let raw = RawNotice { headers: kept_headers(&request), body, received_at: front.clock.now() };
    let verdict = match verifier.verify(&raw) {
        Ok(()) => queue(front, wallet, account, &raw).await,
        Err(NoticeError::UnknownKey(serial)) => {
            // Anybody can name a key: the text is cut, and the store hears of it once a minute.
            let serial: String = serial.chars().filter(char::is_ascii_graphic).take(64).collect();
            tracing::warn!(%wallet, %account, serial, "a notice is signed with a key that is not pinned");
            if front.key_check_is_due(account)
                && let Err(error) = front.store.want_key_check(account, front.clock.now(), KEY_CHECK_AT_MOST).await
            {
                tracing::warn!(%error, "a key refresh could not be asked for");
            }
            Err("unknown_key")
        }
        Err(error) => {
            tracing::warn!(%wallet, %account, %error, "a notice was refused");
            Err("forged")
        }
    };
    count(wallet, verdict.err().unwrap_or("kept"));
    written(if verdict.is_ok() { verifier.accepted() } else { verifier.rejected() })
}

fn count(wallet: Wallet, verdict: &'static str) {
    metrics::counter!("prepay_notices_total", "wallet" => wallet.as_str(), "verdict" => verdict).increment(1);
}

/// Kept by the broker, or told to the wallet as failed: it sends again.
async fn queue(front: &Front, wallet: Wallet, account: AccountId, raw: &RawNotice) -> Result<(), &'static str> {
    let raw = serde_json::to_string(raw).map_err(|_| "unwritable")?;
    let envelope = Envelope::notice(NoticeMessage { account, wallet, raw });
    match front.broker.publish(&envelope, front.settings.publish_patience).await {
        Published::Kept => Ok(()),
        Published::Refused(because) => Err(because.as_str()),
        Published::Unknown => Err("unknown"),
    }
}

/// Only what verification reads; nothing else that a caller can set travels on.
fn kept_headers(request: &Request) -> Vec<(String, String)> {
    let kept = |name: &str| name.starts_with("wechatpay-") || name == "content-type";
    request
        .headers()
        .iter()
        .filter(|(name, _)| kept(name.as_str()))
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect()
}

fn written((status, body): (u16, &'static str)) -> Response {
    let content_type =
        if body.starts_with('{') { "application/json; charset=utf-8" } else { "text/plain; charset=utf-8" };
    Response::builder()
        .status(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
        .header("content-type", content_type)
        .header("cache-control", "no-store")
        .body(body)
}
