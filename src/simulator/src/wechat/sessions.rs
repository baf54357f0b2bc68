//! `GET /sns/jscode2session`: a login code becomes an openid, once.

use serde_json::{Value, json};

use super::Wechat;
use super::state::CODE_LIFE_MS;
use crate::chance;
use crate::faults::Keys;
use crate::ground::{Call, Wallet};
use crate::ledger::{Entry, Event};
use crate::wire::{Answer, Reply, WireRequest};

/// `errcode` and the start of `errmsg`.
type Failure = (i64, &'static str);

impl Wechat {
    pub(super) async fn session(&self, request: &WireRequest) -> Reply {
        let query = request.query_pairs();
        let parameter = |name: &str| query.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str());
        let (appid, code) = (parameter("appid"), parameter("js_code"));
        let plan = self.ground.faults.take(
            Wallet::Wechat,
            Call::Exchange,
            Keys { merchant: Some(appid), code: Some(code), ..Keys::default() },
        );
        let line = |event| Entry::new(Wallet::Wechat, Call::Exchange, event).merchant(appid).code(code);
        self.ground.ledger.record(line(Event::Request));
        if !plan.is_empty() {
            self.ground.ledger.record(line(Event::Fault).note(plan.names()));
        }
        if let Some(reply) = plan.before(refusal).await {
            return reply;
        }
        let outcome = if request.method != http::Method::GET {
            Err((43001, "require GET method"))
        } else {
            self.exchange(appid, parameter("secret"), code, parameter("grant_type"))
        };
        let body = match outcome {
            Ok(body) => body,
            Err((errcode, errmsg)) => {
                self.ground.ledger.record(line(Event::Refused).status(200).error(errcode.to_string()));
                failure(errcode, errmsg)
            }
        };
        let mut body = body.to_string();
        if plan.0.contains(&crate::faults::FaultKind::TruncatedJson) {
            body.truncate(body.len() / 2);
        }
        plan.after(Answer::new(200, "text/plain", body).into(), refusal).await
    }

    fn exchange(&self, appid: &str, secret: &str, js_code: &str, grant_type: &str) -> Result<Value, Failure> {
        for (value, errcode, errmsg) in
            [(appid, 41002, "appid missing"), (secret, 41004, "appsecret missing"), (js_code, 41008, "missing code")]
        {
            if value.is_empty() {
                return Err((errcode, errmsg));
            }
        }
        if grant_type != "authorization_code" {
            return Err((40002, "invalid grant_type"));
        }
        let now_ms = self.ground.clock.now_ms();
        let unionid = self.switches().unionid;
        let mut state = self.state();
        let app = state.apps.get(appid).ok_or((40013, "invalid appid"))?;
        if app.app_secret != secret {
            return Err((40125, "invalid appsecret"));
        }
        let code = state.codes.get_mut(js_code).filter(|code| code.appid == appid).ok_or((40029, "invalid code"))?;
        if code.used {
            return Err((40163, "code been used"));
        }
        if now_ms - code.issued_ms > CODE_LIFE_MS {
            return Err((40029, "invalid code"));
        }
        code.used = true;
        let line = Entry::new(Wallet::Wechat, Call::Exchange, Event::Exchanged).merchant(appid).code(js_code);
        self.ground.ledger.record(line.payer(&code.openid).status(200));
        let mut session = json!({ "session_key": session_key(), "openid": code.openid });
        if unionid {
            session["unionid"] = json!(format!("oU{}", &chance::sha256(code.openid.as_bytes())[..26]));
        }
        Ok(session)
    }
}

fn session_key() -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(chance::bytes::<16>())
}

/// `errmsg` ends in a part that is never the same.
fn failure(errcode: i64, errmsg: &str) -> Value {
    let rid = chance::hex(&chance::bytes::<10>());
    json!({ "errcode": errcode, "errmsg": format!("{errmsg}, rid: {}-{}-{}", &rid[..8], &rid[8..16], &rid[..8]) })
}

/// A fault's error: its code as `errcode` (429 is 45011, what is no number is -1).
fn refusal(status: u16, code: &str) -> Reply {
    let errcode = match (status, code.parse::<i64>()) {
        (_, Ok(errcode)) => errcode,
        (429, Err(_)) => 45011,
        _ => -1,
    };
    // Business errors of this call are HTTP 200; only a failing gateway shows its status.
    let status = if status >= 500 { status } else { 200 };
    Answer::new(status, "text/plain", failure(errcode, "system error").to_string()).into()
}
