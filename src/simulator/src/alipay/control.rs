//! `/_sim/alipay/…`: the Rust API of [`Alipay`] for tests in other processes, as JSON.

use serde::Deserialize;
use serde_json::{Value, json};

use super::cashier::Press;
use super::{Alipay, AppOptions, Switches};
use crate::control::{ControlError, read, write};
use crate::faults::FaultKind;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Binding {
    app_id: String,
    op_app_id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Authorisation {
    provider: String,
    merchant_app: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Phone {
    app_id: String,
    user_id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct App {
    app_id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Number {
    app_id: String,
    out_trade_no: String,
    /// Lies of a notice made by hand.
    #[serde(default)]
    faults: Vec<FaultKind>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Numbers {
    app_id: String,
    #[serde(default)]
    prefix: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TradeNo {
    trade_no: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payment {
    trade_no: String,
    user_id: String,
    #[serde(default = "pay")]
    press: Press,
}

fn pay() -> Press {
    Press::Pay
}

impl Alipay {
    /// Answers `/_sim/alipay/{path}`; `body` is `null` without one. Method is not looked at: bodies say what is meant.
    pub(crate) async fn control(&self, path: &str, body: Value) -> Result<Value, ControlError> {
        let refused = |error: super::AlipayError| ControlError::Refused(error.to_string());
        match path {
            "apps" => write(self.new_app(if body.is_null() { AppOptions::default() } else { read(body)? })),
            "users" => write(self.new_user()),
            "bindings" => {
                let Binding { app_id, op_app_id } = read(body)?;
                self.bind_op_app(&app_id, &op_app_id).map_err(refused)?;
                Ok(Value::Null)
            }
            "unbind" => {
                let Binding { app_id, op_app_id } = read(body)?;
                Ok(json!(self.unbind_op_app(&app_id, &op_app_id)))
            }
            "app_auth_tokens" => {
                let Authorisation { provider, merchant_app } = read(body)?;
                let token = self.new_app_auth_token(&provider, &merchant_app).map_err(refused)?;
                Ok(json!({ "app_auth_token": token }))
            }
            "auth_codes" => {
                let Phone { app_id, user_id } = read(body)?;
                Ok(json!({ "code": self.new_auth_code(&app_id, &user_id).map_err(refused)? }))
            }
            "open_ids" => {
                let Phone { app_id, user_id } = read(body)?;
                Ok(json!({ "open_id": self.open_id(&app_id, &user_id).map_err(refused)? }))
            }
            "renew_cert" => {
                let App { app_id } = read(body)?;
                Ok(json!({ "alipay_cert_sn": self.renew_alipay_cert(&app_id).map_err(refused)? }))
            }
            "trade_pay" => {
                let Payment { trade_no, user_id, press } = read(body)?;
                let result = self.trade_pay(&trade_no, &user_id, press).await;
                Ok(json!({ "result_code": result.as_str() }))
            }
            "pay_from_bills" => {
                let Payment { trade_no, user_id, .. } = read(body)?;
                Ok(json!({ "paid": self.pay_from_bills(&trade_no, &user_id) }))
            }
            "pay" => {
                let of: Number = read(body)?;
                Ok(json!({ "trade_no": self.pay_number(&of.app_id, &of.out_trade_no) }))
            }
            "notify_now" => {
                let of: Number = read(body)?;
                let answer = self.notify_now(&of.app_id, &of.out_trade_no, &of.faults).await;
                let (status, body) = answer.map_err(ControlError::Refused)?;
                Ok(json!({ "status": status, "body": String::from_utf8_lossy(&body) }))
            }
            "trade" => {
                let of: Number = read(body)?;
                write(self.trade(&of.app_id, &of.out_trade_no))
            }
            "trades" => {
                let of: Numbers = read(body)?;
                write(self.trades(&of.app_id, &of.prefix))
            }
            "finish" => {
                let TradeNo { trade_no } = read(body)?;
                self.finish(&trade_no).map_err(refused)?;
                Ok(Value::Null)
            }
            "switches" if body.is_null() => write(self.switches()),
            "switches" => {
                let changed = merged(write(self.switches())?, body);
                let changed: Switches = read(changed)?;
                self.set_switches(|switches| *switches = changed);
                write(self.switches())
            }
            _ => Err(ControlError::Unknown(path.to_owned())),
        }
    }
}

/// Switches that are not named keep their position.
fn merged(mut all: Value, change: Value) -> Value {
    match (all.as_object_mut(), change) {
        (Some(known), Value::Object(change)) => {
            known.extend(change);
            all
        }
        (_, other) => other,
    }
}
