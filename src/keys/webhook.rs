//! Signatures on what merchants are told (Standard Webhooks, `v1`): HMAC-SHA256 with secrets that they share with us.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::SecretString;
use zeroize::Zeroizing;

use super::mac::MacKey;

/// What a secret's text begins with.
const PREFIX: &str = "whsec_";
/// Bytes of a secret that the standard allows.
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// The text in which a merchant is given a secret: `whsec_` and standard base64 of its bytes.
pub fn secret_text(secret: &[u8]) -> SecretString {
    let base64 = Zeroizing::new(STANDARD.encode(secret));
    format!("{PREFIX}{}", base64.as_str()).into()
}

/// All live secrets of one merchant: each of them signs, so that one can take over from the other.
pub struct WebhookSigner(Vec<MacKey>);

impl WebhookSigner {
    /// From the secrets' bytes. `None`: there is none, or one is shorter or longer than the standard allows.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        let keys = secrets.into_iter().map(|secret| BYTES.contains(&secret.len()).then(|| MacKey::new(secret)));
        let keys = keys.collect::<Option<Vec<_>>>()?;
        (!keys.is_empty()).then_some(Self(keys))
    }

    /// The value of `webhook-signature`: `v1,<base64>` of each secret, a blank between.
    ///
    /// Signed are the bytes `{id}.{timestamp}.{body}`; `timestamp` is in whole seconds.
    pub fn sign(&self, id: &str, timestamp: i64, body: &str) -> String {
        let text = format!("{id}.{timestamp}.{body}");
        let signatures: Vec<_> = self.0.iter().map(|key| format!("v1,{}", key.sign(text.as_bytes()))).collect();
        signatures.join(" ")
    }
}

impl fmt::Debug for WebhookSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebhookSigner({} secrets, ***)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    /// The example of the standard's own reference libraries.
    #[test]
    fn a_signature_is_that_of_the_standard() {
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert_eq!(secret_text(&secret).expose_secret(), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let signer = WebhookSigner::new([secret.as_slice()]).unwrap();
        let signature = signer.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn two_live_secrets_both_sign() {
        let (one, two) = ([1; 32], [2; 32]);
        let both = WebhookSigner::new([one.as_slice(), two.as_slice()]).unwrap();
        let signed = both.sign("id", 1, "{}");
        let parts: Vec<_> = signed.split(' ').collect();
        let alone = |secret: &[u8]| WebhookSigner::new([secret]).unwrap().sign("id", 1, "{}");
        assert_eq!(parts, [alone(&one), alone(&two)]);
        assert_eq!(format!("{both:?}"), "WebhookSigner(2 secrets, ***)");
        assert!(WebhookSigner::new([]).is_none());
        assert!(WebhookSigner::new([[0; 23].as_slice()]).is_none(), "too short to be a secret");
    }
}
