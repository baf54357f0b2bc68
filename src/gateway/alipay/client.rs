//! One call to the gateway: signed, sent, its answer believed or not.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::de::DeserializeOwned;

use super::{
    envelope,
    errors::{CallError, Failure},
    keyring::{KeyRing, Unverified},
    sign::{CHARSET, Request},
    signers::Signers,
    wire::{self, CertificateAnswer, Codes},
};
use crate::{
    domain::time::Timestamp,
    gateway::{
        Verified,
        http::{SendError, read_body, send_error},
    },
    keys::rsa::RsaSigner,
};

/// No answer that is read here comes near it; a bill is a link.
const ANSWER_MAX_BYTES: usize = 512 * 1024;

/// The one method whose success carries neither `code` nor `msg` (`alipay.md` §4.1).
pub const OAUTH_TOKEN: &str = "alipay.system.oauth.token";
const CERTIFICATE_DOWNLOAD: &str = "alipay.open.app.alipaycert.download";

/// An application at Alipay: its number, its private keys, and Alipay's keys for it.
pub struct Caller {
    pub app_id: String,
    pub signers: Signers,
    pub keys: Arc<KeyRing>,
}

/// What is asked.
pub struct Call<'a> {
    pub method: &'a str,
    /// `biz_content`, `notify_url`, or the top-level parameters of the token exchange.
    pub params: &'a [(&'a str, &'a str)],
    pub app_auth_token: Option<&'a str>,
}

/// The way to one gateway address.
pub struct Client {
    http: reqwest::Client,
    url: String,
}

impl Client {
    pub fn new(http: reqwest::Client, url: String) -> Self {
        Self { http, url }
    }

    /// Sends once, and once more with the application's other key when the wallet did not take the signature: nothing was
    /// executed then ([`Failure::is_wrong_signature`]). The key that was taken goes first from then on.
    pub async fn call<T: DeserializeOwned>(&self, caller: &Caller, call: Call<'_>) -> Result<Verified<T>, CallError> {
        let (first, other) = caller.signers.in_order();
        let answered = self.call_with(caller, first.key, &call).await;
        let refused = matches!(&answered, Err(CallError::Failed(failure)) if failure.is_wrong_signature());
        let (true, Some(other)) = (refused, other) else { return answered };
        let answered = self.call_with(caller, other.key, &call).await;
        let is_taken = match &answered {
            Ok(_) => true,
            Err(CallError::Failed(failure)) => !failure.is_wrong_signature(),
            // Says nothing about the key.
            Err(CallError::NotExecuted(_) | CallError::Unknown(_)) => false,
        };
        if is_taken && caller.signers.was_taken(other) {
            if other.is_older {
                tracing::info!(app_id = %caller.app_id, "Alipay takes the older private key still");
            } else {
                tracing::info!(app_id = %caller.app_id, "Alipay takes the new private key now");
            }
        }
        answered
    }

    /// Sends once and believes the answer only with Alipay's signature; a failure may come without one (`alipay.md` §2.2).
    ///
    /// A certificate that is not known yet is fetched, checked and kept first.
    async fn call_with<T: DeserializeOwned>(
        &self,
        caller: &Caller,
        signer: &RsaSigner,
        call: &Call<'_>,
    ) -> Result<Verified<T>, CallError> {
        let body = self.send(caller, signer, call).await?;
        let mut judged = judge(&body, call.method, &caller.keys);
        if let Err(Doubt::UnknownCertificate(sn)) = &judged {
            let download = async || self.download_certificate(caller, sn).await;
            caller.keys.learn(sn, now(), download).await.map_err(CallError::Unknown)?;
            judged = judge(&body, call.method, &caller.keys);
        }
        match judged {
            Ok(Judged::Success(node)) => {
                let value = serde_json::from_slice(&node)
                    .map_err(|_| CallError::Unknown("a field of the answer is of another kind".to_owned()))?;
                Ok(Verified::by_signature(value))
            }
            Ok(Judged::Failure(failure)) => Err(CallError::Failed(failure)),
            Err(Doubt::UnknownCertificate(sn)) => {
                Err(CallError::Unknown(format!("answer signed with unknown certificate {sn}")))
            }
            Err(Doubt::Because(why)) => Err(CallError::Unknown(why.to_owned())),
        }
    }

    /// Asks for a file, once, within `wait` for all of it; nothing of a success is read yet. No signature goes with it, and none
    /// comes.
    pub async fn open_file(&self, url: reqwest::Url, wait: Duration) -> Result<reqwest::Response, CallError> {
        let sent = self.http.get(url).timeout(wait).send().await.map_err(send_error);
        let response = sent.map_err(|error| match error {
            SendError::NotSent(why) => CallError::NotExecuted(why),
            SendError::NoAnswer(why) => CallError::Unknown(why),
        })?;
        match response.status().as_u16() {
            200 => Ok(response),
            429 => Err(CallError::NotExecuted("HTTP 429".to_owned())),
            status => Err(CallError::Unknown(format!("HTTP {status}"))),
        }
    }

    async fn send(&self, caller: &Caller, signer: &RsaSigner, call: &Call<'_>) -> Result<Vec<u8>, CallError> {
        let mut request = Request::new(&caller.app_id, call.method, now());
        if let Some((app_cert_sn, root_cert_sn)) = caller.keys.request_numbers() {
            request.set("app_cert_sn", app_cert_sn);
            request.set("alipay_root_cert_sn", root_cert_sn);
        }
        if let Some(token) = call.app_auth_token {
            request.set("app_auth_token", token);
        }
        for (name, value) in call.params {
            request.set(name, *value);
        }
        let form = request.into_form(signer);
        let sent = self
            .http
            .post(&self.url)
            .header("content-type", format!("application/x-www-form-urlencoded;charset={CHARSET}"))
            .body(form)
            .send()
            .await;
        let response = match sent.map_err(send_error) {
            Ok(response) => response,
            Err(SendError::NotSent(why)) => return Err(CallError::NotExecuted(why)),
            Err(error @ SendError::NoAnswer(_)) => return Err(CallError::Unknown(error.to_string())),
        };
        let status = response.status();
        let trace_id = response.headers().get("trace_id").and_then(|value| value.to_str().ok()).unwrap_or_default();
        tracing::debug!(method = call.method, status = status.as_u16(), trace_id, "alipay answered");
        // Errors of the gateway come with 200; other statuses come from what stands before it.
        match status.as_u16() {
            429 => return Err(CallError::NotExecuted("HTTP 429".to_owned())),
            500.. => return Err(CallError::Unknown(format!("HTTP {}", status.as_u16()))),
            _ => {}
        }
        read_body(response, ANSWER_MAX_BYTES).await.map_err(|error| CallError::Unknown(error.to_string()))
    }

    /// The PEM text of one of Alipay's certificates. Not verified here: the caller checks its chain.
    async fn download_certificate(&self, caller: &Caller, sn: &str) -> Result<String, String> {
        let body = wire::certificate_body(sn);
        let call = Call { method: CERTIFICATE_DOWNLOAD, params: &[("biz_content", &body)], app_auth_token: None };
        let failed = |why: &str| format!("certificate {sn} is unknown and cannot be downloaded: {why}");
        // In certificate mode there is one key.
        let (signer, _) = caller.signers.in_order();
        let answer = self.send(caller, signer.key, &call).await.map_err(|error| match error {
            CallError::NotExecuted(why) | CallError::Unknown(why) => failed(&why),
            CallError::Failed(failure) => failed(&failure.name()),
        })?;
        let envelope = envelope::cut(&answer, CERTIFICATE_DOWNLOAD).map_err(failed)?;
        let codes: Codes = serde_json::from_slice(envelope.node).map_err(|_| failed("the answer cannot be read"))?;
        if envelope.is_error || codes.code.as_deref() != Some("10000") {
            return Err(failed(&failure_of(codes).name()));
        }
        let answer: CertificateAnswer =
            serde_json::from_slice(envelope.node).map_err(|_| failed("the answer holds no certificate"))?;
        let pem = STANDARD.decode(answer.alipay_cert_content.trim()).map_err(|_| failed("not base64"))?;
        String::from_utf8(pem).map_err(|_| failed("not a text"))
    }
}

/// An answer that can be relied on.
#[derive(Debug)]
enum Judged {
    /// The verified bytes of the node.
    Success(Vec<u8>),
    Failure(Failure),
}

/// An answer that cannot: what was asked for may have happened.
#[derive(Debug)]
enum Doubt {
    UnknownCertificate(String),
    Because(&'static str),
}

fn failure_of(codes: Codes) -> Failure {
    Failure { code: codes.code.unwrap_or_default(), sub_code: codes.sub_code.unwrap_or_default() }
}

/// Verified when it is a success or carries a signature; a success without a valid one is no answer (`alipay.md` §2.2).
fn judge(body: &[u8], method: &str, keys: &KeyRing) -> Result<Judged, Doubt> {
    let envelope = envelope::cut(body, method).map_err(Doubt::Because)?;
    let node = match &envelope.sign {
        Some(sign) => Some(verified_node(envelope.node, sign, envelope.alipay_cert_sn.as_deref(), keys)?),
        None => None,
    };
    if envelope.node.first() == Some(&b'"') {
        return Err(Doubt::Because("answer is encrypted, which was not asked for"));
    }
    let bytes = node.as_deref().unwrap_or(envelope.node);
    let codes: Codes = serde_json::from_slice(bytes).map_err(|_| Doubt::Because("the answer's node cannot be read"))?;
    let is_success = !envelope.is_error
        && match codes.code.as_deref() {
            Some(code) => code == "10000",
            None if method == OAUTH_TOKEN => codes.sub_code.is_none(),
            None => return Err(Doubt::Because("the answer carries no code")),
        };
    match (is_success, node) {
        (true, Some(node)) => Ok(Judged::Success(node)),
        (true, None) => Err(Doubt::Because("a success without signature")),
        (false, _) => Ok(Judged::Failure(failure_of(codes))),
    }
}

/// The bytes that verify: the raw ones, or those with bare slashes.
fn verified_node(node: &[u8], sign: &str, alipay_cert_sn: Option<&str>, keys: &KeyRing) -> Result<Vec<u8>, Doubt> {
    let doubt = |unverified| match unverified {
        Unverified::UnknownCertificate(sn) => Doubt::UnknownCertificate(sn),
        Unverified::Wrong => Doubt::Because(WRONG_SIGNATURE),
    };
    match keys.verify(node, sign, alipay_cert_sn) {
        Ok(()) => Ok(node.to_vec()),
        Err(Unverified::Wrong) => match envelope::with_bare_slashes(node) {
            Some(bare) => keys.verify(&bare, sign, alipay_cert_sn).map_err(doubt).map(|()| bare.into_owned()),
            None => Err(doubt(Unverified::Wrong)),
        },
        Err(unknown) => Err(doubt(unknown)),
    }
}

/// Told to an operator with advice by [`super::examine`].
pub const WRONG_SIGNATURE: &str = "the answer's signature does not verify with Alipay's key";

/// Our own clock: Alipay judges it with an unpublished tolerance (`alipay.md` §1.1).
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_ms(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::alipay::{
        settings::{AlipayPublicKeys, Signing},
        testing,
    };

    fn ring(key: &str) -> KeyRing {
        let given = AlipayPublicKeys { alipay_public_key: Some(testing::read(key)), ..AlipayPublicKeys::default() };
        KeyRing::new(Signing::PublicKey, given).unwrap()
    }

    #[test]
    fn every_answer_vector_is_judged() {
        let vectors = testing::json("response_verify.json");
        let (mut successes, mut failures, mut doubts) = (0, 0, 0);
        for case in vectors["cases"].as_array().unwrap() {
            let name = case["name"].as_str().unwrap();
            let (Some(raw), Some(method)) = (case["raw"].as_str(), case["method"].as_str()) else { continue };
            let keys = ring(case["public_key"].as_str().unwrap());
            match (judge(raw.as_bytes(), method, &keys), case["expect"].as_str().unwrap()) {
                (Ok(Judged::Success(node)), expect) => {
                    assert!(expect.starts_with("verified"), "{name}");
                    // Fields are read from the bytes that verified, not from those that came.
                    let slashes = if expect.ends_with("fallback") { "/" } else { "\\/" };
                    let signed = case["signed_part"].as_str().unwrap().replace("\\/", slashes);
                    assert_eq!(String::from_utf8(node).unwrap(), signed, "{name}");
                    successes += 1;
                }
                (Ok(Judged::Failure(failure)), expect) => {
                    assert!(expect.starts_with("verified") || expect.starts_with("unsigned error"), "{name}");
                    assert!(raw.contains(&failure.sub_code) && failure.code != "10000", "{name}");
                    failures += 1;
                }
                (Err(Doubt::Because(why)), expect) => {
                    let encrypted = why.contains("encrypted") && case.get("aes_key").is_some();
                    assert!(expect == "must fail" || encrypted, "{name}: {why}");
                    doubts += 1;
                }
                (Err(Doubt::UnknownCertificate(_)), _) => panic!("{name}"),
            }
        }
        assert_eq!((successes, failures, doubts), (17, 10, 5));
    }

    #[test]
    fn certificate_mode_verifies_by_the_named_certificate() {
        let given = AlipayPublicKeys {
            alipay_public_key: None,
            older_alipay_public_key: None,
            alipay_certs: vec![testing::read("certs/derived/alipay.crt")],
            app_cert: Some(testing::read("certs/derived/app.crt")),
            root_cert: Some(testing::read("certs/derived/root.crt")),
        };
        let keys = KeyRing::new(Signing::Certificate, given).unwrap();
        let vectors = testing::json("response_verify.json");
        let case = &vectors["cases"][3];
        let raw = case["raw"].as_str().unwrap();
        assert!(matches!(judge(raw.as_bytes(), "alipay.trade.create", &keys), Ok(Judged::Success(_))));
        let other = raw.replace("40e6e5ff701ea737a8509cf9a3bb7550", "40e6e5ff701ea737a8509cf9a3bb7551");
        let judged = judge(other.as_bytes(), "alipay.trade.create", &keys);
        assert!(matches!(judged, Err(Doubt::UnknownCertificate(_))), "{judged:?}");
        assert_eq!(
            keys.request_numbers(),
            Some(("9cdee1552eda1ffddbffbad6ec70ee3f", "37015d4621c944ccff69a5a66178fa6a"))
        );
    }

    #[test]
    fn a_success_is_never_believed_unsigned() {
        let keys = ring("keys/derived/alipay_public.pem");
        for body in [
            r#"{"alipay_system_oauth_token_response":{"user_id":"2088102146225135"}}"#,
            r#"{"alipay_system_oauth_token_response":{"user_id":"2088102146225135"},"sign":""}"#,
            r#"{"alipay_system_oauth_token_response":{"user_id":"2088102146225135"},"sign":"AAAA"}"#,
        ] {
            assert!(judge(body.as_bytes(), OAUTH_TOKEN, &keys).is_err(), "{body}");
        }
        let bare = r#"{"alipay_trade_query_response":{"trade_status":"TRADE_SUCCESS"}}"#;
        assert!(judge(bare.as_bytes(), "alipay.trade.query", &keys).is_err());
        let wrongly_signed =
            r#"{"alipay_trade_query_response":{"code":"40004","sub_code":"ACQ.TRADE_NOT_EXIST"},"sign":"AAAA"}"#;
        assert!(judge(wrongly_signed.as_bytes(), "alipay.trade.query", &keys).is_err());
    }
}
