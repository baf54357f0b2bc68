//! An examination of an account: calls that cost nothing and prove keys and registration.

use reqwest::Method;

use super::{WechatGateway, certificates, client::CallError, refusal::Refusal};
use crate::{
    domain::{
        id::{AttemptNo, OrderId, OutTradeNo},
        payer::LoginCode,
    },
    gateway::{Examined, ExchangeError, Gateway, GatewayError},
};

/// A code WeChat never gave out.
const FALSE_CODE: &str = "0-examination-no-such-code";

pub(super) async fn examine(gateway: &WechatGateway, probe: OrderId) -> Vec<Examined> {
    let mut lines = vec![signature(gateway, probe).await, apiv3_key(gateway).await];
    for app in &gateway.apps {
        let check = format!("AppSecret of {}", app.app_id);
        let result = match &app.app_secret {
            None => Ok("none given: phones send identifyId".to_owned()),
            Some(_) => app_secret(gateway, &app.app_id).await,
        };
        lines.push(Examined { check, result });
    }
    lines
}

/// A number that cannot exist: "not exist" proves mchid, serial_no and private key together.
async fn signature(gateway: &WechatGateway, probe: OrderId) -> Examined {
    let number = OutTradeNo { order: probe, attempt: AttemptNo::FIRST };
    let check = format!("mchid {}, serial_no and private key", gateway.client.mchid);
    let result = match gateway.client.call(Method::GET, &gateway.query_path(&number), "").await {
        Ok(answer) => {
            let refusal = Refusal::read(answer.status, &answer.body);
            match (refusal.is_no_such_order(), answer.signed) {
                (true, true) => Ok("accepted, and the answer verified with the pinned key".to_owned()),
                (true, false) => {
                    Ok("accepted; the answer was not signed, so the pinned key is not proven by it".to_owned())
                }
                (false, _) => Err(match refusal.code() {
                    "SIGN_ERROR" => {
                        "SIGN_ERROR: the private key does not belong to serial_no, serial_no is not of this mchid, \
                                     or this machine's clock is wrong"
                            .to_owned()
                    }
                    code => format!("answered {} {code}", answer.status),
                }),
            }
        }
        Err(CallError::NotSent(cause)) => Err(format!("{} cannot be reached: {cause}", gateway.client.hosts.main)),
        Err(CallError::Unknown(cause)) => Err(cause),
    };
    Examined { check, result }
}

async fn apiv3_key(gateway: &WechatGateway) -> Examined {
    let result = match certificates::fetch(&gateway.client, &gateway.apiv3_keys, &gateway.public_keys).await {
        Ok(Some(_)) => Ok("opens the platform certificates".to_owned()),
        Ok(None) if gateway.client.keys.has_public_key() => {
            Ok("public key mode: only the first notice can prove it".to_owned())
        }
        Ok(None) => {
            Err("the account has no platform certificate: pin WeChat Pay's public key and its PUB_KEY_ID_".to_owned())
        }
        Err(GatewayError::Refused { code, .. }) => Err(code),
        Err(error) => Err(error.to_string()),
    };
    Examined { check: "APIv3 key".to_owned(), result }
}

async fn app_secret(gateway: &WechatGateway, app_id: &crate::domain::id::AppId) -> Result<String, String> {
    let code = LoginCode::parse(FALSE_CODE).map_err(|error| error.to_string())?;
    match gateway.exchange(app_id, &code).await {
        Err(ExchangeError::CodeRefused { code, .. }) => Ok(format!("accepted ({code} to a false code)")),
        Ok(_) => Err("a false code was exchanged: this is not WeChat".to_owned()),
        Err(ExchangeError::Configuration { code, .. }) => Err(match code.as_str() {
            "40013" => "40013: this appid is unknown to WeChat".to_owned(),
            "40125" => "40125: the AppSecret is not that of this appid".to_owned(),
            "40243" => "40243: the AppSecret is frozen in the mini-program's backend".to_owned(),
            other => format!("errcode {other}"),
        }),
        Err(error) => Err(error.to_string()),
    }
}
