//! code2session: a login code becomes an openid, once (`wechat-pay.md` §1). The AppSecret rides in the query, so no URL of
//! this file may reach an error or a log.

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::wire::SessionAnswer;
use crate::{
    domain::{
        id::AppId,
        payer::{LoginCode, Payer, PayerKind},
        wallet::Wallet,
    },
    gateway::{
        ExchangeError,
        http::{SendError, read_body, send_error},
    },
};

const WALLET: Wallet = Wallet::WechatPay;
const BODY_MAX: usize = 16 * 1024;

/// Exchanges a code. On -1 (busy) once more with the same code, as the page says; nothing else is repeated, because the code
/// may be burnt.
pub(super) async fn exchange(
    http: &reqwest::Client,
    host: &str,
    app_id: &AppId,
    app_secret: &SecretString,
    code: &LoginCode,
) -> Result<Payer, ExchangeError> {
    let ask = || ask(http, host, app_id, app_secret, code);
    let mut answer = ask().await?;
    if answer.errcode == Some(-1) {
        answer = ask().await?;
    }
    read(answer)
}

async fn ask(
    http: &reqwest::Client,
    host: &str,
    app_id: &AppId,
    app_secret: &SecretString,
    code: &LoginCode,
) -> Result<SessionAnswer, ExchangeError> {
    let request = http.get(format!("{host}/sns/jscode2session")).query(&[
        ("appid", app_id.as_str()),
        ("secret", app_secret.expose_secret()),
        ("js_code", code.expose()),
        ("grant_type", "authorization_code"),
    ]);
    let unknown = |cause: String| ExchangeError::Unknown { wallet: WALLET, cause };
    let lost = |error: SendError| match error {
        SendError::NotSent(cause) => {
            tracing::warn!(wallet = "wechat", cause, "code2session cannot be reached");
            ExchangeError::Busy { wallet: WALLET, code: "UNREACHABLE".into() }
        }
        SendError::NoAnswer(cause) => unknown(cause),
    };
    let response = request.send().await.map_err(|error| lost(send_error(error)))?;
    let status = response.status().as_u16();
    // It holds a session_key.
    let body = Zeroizing::new(read_body(response, BODY_MAX).await.map_err(|error| match error {
        SendError::NotSent(cause) | SendError::NoAnswer(cause) => unknown(cause),
    })?);
    if status != 200 {
        // Errors of code2session are 200 too; this is a gateway in front of it, which may have passed the code on.
        return Err(unknown(format!("code2session answered HTTP {status}")));
    }
    // Content-Type is said to be text/plain at times (U): read as JSON regardless.
    serde_json::from_slice(&body).map_err(|_| unknown("code2session did not answer JSON".into()))
}

fn read(answer: SessionAnswer) -> Result<Payer, ExchangeError> {
    let number = answer.errcode.unwrap_or(0);
    if number != 0 {
        return Err(refusal(number));
    }
    let payer = answer.openid.and_then(|openid| Payer::new(PayerKind::WechatOpenid, openid).ok());
    payer.ok_or_else(|| ExchangeError::Unknown {
        wallet: WALLET,
        cause: "code2session answered without a usable openid".into(),
    })
}

/// What each `errcode` asks for; `errmsg` varies and is not looked at.
fn refusal(number: i64) -> ExchangeError {
    let (wallet, code) = (WALLET, number.to_string());
    match number {
        -1 => ExchangeError::Busy { wallet, code },
        40029 | 40163 => ExchangeError::CodeRefused { wallet, code },
        45011 => ExchangeError::TooOften { wallet, code },
        40226 => ExchangeError::Blocked { wallet, code },
        // 40013, 40125, 40243 (appid, secret), 41002, 41004, 41008, 43001 (bugs), 50002 (restricted), and whatever else: nothing
        // a payer could mend.
        _ => ExchangeError::Configuration { wallet, code },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> &'static str {
        match read(serde_json::from_str(text).unwrap()) {
            Ok(_) => "payer",
            Err(ExchangeError::CodeRefused { .. }) => "code",
            Err(ExchangeError::TooOften { .. }) => "often",
            Err(ExchangeError::Blocked { .. }) => "blocked",
            Err(ExchangeError::Configuration { .. }) => "configuration",
            Err(ExchangeError::Busy { .. }) => "busy",
            Err(ExchangeError::Unknown { .. }) => "unknown",
        }
    }

    #[test]
    fn every_errcode_has_its_reaction() {
        for (number, reaction) in [
            (-1, "busy"),
            (40029, "code"),
            (40163, "code"),
            (45011, "often"),
            (40226, "blocked"),
            (40013, "configuration"),
            (40125, "configuration"),
            (40243, "configuration"),
            (41002, "configuration"),
            (41004, "configuration"),
            (41008, "configuration"),
            (43001, "configuration"),
            (50002, "configuration"),
            (99999, "configuration"),
        ] {
            let text = format!(r#"{{"errcode":{number},"errmsg":"words, rid: 66-1"}}"#);
            assert_eq!(name(&text), reaction, "{number}");
        }
    }

    #[test]
    fn an_openid_is_a_payer_with_or_without_errcode_0() {
        assert_eq!(name(r#"{"openid":"oUpF8uMuAJO_M2pxb1Q9zNjWeS6o","session_key":"x=="}"#), "payer");
        assert_eq!(name(r#"{"openid":"oUpF8uMuAJO_M2pxb1Q9zNjWeS6o","errcode":0,"unionid":"u"}"#), "payer");
        for odd in [r#"{}"#, r#"{"openid":""}"#, r#"{"openid":"a b"}"#, r#"{"openid":null,"errcode":null}"#] {
            assert_eq!(name(odd), "unknown", "{odd}");
        }
    }
}
